"""A short causal convolution: every channel looks at its own last few values."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d


class ShortConvolution(nn.Module):
    """Makes each value a weighted sum of the last few values of its channel.

    Layers with a fixed state use it before queries, keys and values: it lets a token compare itself with its
    neighbours, which such a state does badly.

    Args:
        channels: c.
        taps: n, values that are summed, the present one included.

    Source: Poli et al. 2023, arXiv 2302.10866, section 3.2; Yang et al. 2024, arXiv 2412.06464, figure 1.

    Example:
        >>> y, tail = ShortConvolution(8, taps=4)(torch.zeros(2, 5, 8))
        >>> y.shape, tail.shape
        (torch.Size([2, 5, 8]), torch.Size([2, 3, 8]))
    """

    def __init__(self, channels: int, taps: int) -> None:
        super().__init__()
        self.taps = taps
        self.weight = nn.Parameter(torch.empty(channels, 1, taps))  # the last is the present value's
        nn.init.uniform_(self.weight, -(taps**-0.5), taps**-0.5)

    def forward(
        self, x: Tensor, tail: Tensor | None = None, starts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Sums along the tokens.

        Args:
            x: [b, t, c].
            tail: [b, n - 1, c], what came before x; None is zeros.
            starts: [b, t], the place at which each token's document begins: what stands before it counts as
                zero; None where rows hold one document.

        Returns:
            Sums [b, t, c], and the tail for what comes after.
        """
        b, t, c = x.shape
        if tail is None:
            tail = x.new_zeros(b, self.taps - 1, c)
        whole = torch.cat([tail.to(x.dtype), x], 1)
        weight = self.weight.to(x.dtype)
        if starts is None and t > 1:
            # With channels as the last dimension, PyTorch's convolution in two dimensions is several times
            # quicker on CPUs than the one in a single dimension.
            y = conv2d(whole.transpose(1, 2)[:, :, None], weight[:, :, None], groups=c)[:, :, 0].transpose(
                1, 2
            )
        else:
            y = self._by_taps(whole, weight[:, 0].T, t, starts)
        return y, whole[:, t:].clone()  # a view would keep the whole text

    def _by_taps(self, whole: Tensor, weight: Tensor, t: int, starts: Tensor | None) -> Tensor:
        """One product for each tap, [n, c] in all, in which other documents can be masked."""
        summed = whole[:, self.taps - 1 :] * weight[-1]
        for back in range(1, self.taps):
            first = self.taps - 1 - back
            values = whole[:, first : first + t]
            if starts is not None:
                places = torch.arange(t, dtype=starts.dtype, device=starts.device)
                values = values * (places - back >= starts)[..., None]
            summed = torch.addcmul(summed, values, weight[first])
        return summed
