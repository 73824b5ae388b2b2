r"""A decoder that looks ahead while it trains: further heads for the tokens after the next one.

```
parallel     trunk -> last block  -> norm, head -> next token
                  \-> future.0    -> norm, head -> the one after it
                  \-> future.1    -> norm, head -> ...
sequential   model -> h, embedding of the next token -> future.0 -> h' -> norm, head -> the one after it
                                                    h', the one after it -> future.1 -> ...
```

The decoder's parts keep their names and its weights are not touched; the further heads stand beside them as
`future.*`. What is saved at the end is the decoder: the heads are left behind.

Source: parallel, Gloeckle et al. 2024, arXiv 2404.19737, section 2; sequential, DeepSeek-V3, arXiv
2412.19437, section 2.2 (there the projection is drawn at random; here each head begins as the model's last
block, so that it starts from what the model knows).
"""

from __future__ import annotations

import copy
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from ingot.models.decoder import Decoder
from ingot.nn.norms import RMSNorm


class Foreseen(NamedTuple):
    """What a forward pass gives that looks ahead."""

    hidden: Tensor  # [b, t, d]
    logits: Tensor  # [b, t, v] of the next token
    ahead: tuple[Tensor, ...]  # [b, t, v] of each further one


class Sequel(nn.Module):
    """One further head of the sequential kind: the last state and the token in between, through a block.

    Args:
        block: of its own.
        width: d.
        epsilon: of the norms.
    """

    def __init__(self, block: nn.Module, width: int, epsilon: float) -> None:
        super().__init__()
        self.state_norm = RMSNorm(width, epsilon)
        self.token_norm = RMSNorm(width, epsilon)
        self.merge = nn.Linear(2 * width, width, bias=False)
        self.block = block
        with torch.no_grad():  # the state alone at first
            self.merge.weight.copy_(torch.eye(width, 2 * width))

    def forward(self, state: Tensor, token: Tensor, *rest: Any, **named: Any) -> Tensor:
        """Returns the next state [b, t, d]; `rest` is what blocks are told besides."""
        merged = self.merge(torch.cat([self.state_norm(state), self.token_norm(token)], -1))
        following: Tensor = self.block(merged, *rest, **named)
        return following


class Foresight(nn.Module):
    """A decoder with further heads, to train it by `FutureTokens`.

    Args:
        decoder: whose parts are taken over, not copied: it is trained.
        tokens: that every place predicts, the next one counted; 2 or more.
        heads: the kind, see above.

    Attributes:
        config: the decoder's.

    Example:
        >>> model = Foresight(config.build(), tokens=2)                     # doctest: +SKIP
        >>> Trainer(model, FutureTokens(CausalLM()), ...).fit(progress, "") # doctest: +SKIP
        >>> huggingface.save(folder, model.decoder)                         # doctest: +SKIP
    """

    def __init__(
        self, decoder: Decoder, tokens: int, heads: Literal["parallel", "sequential"] = "parallel"
    ) -> None:
        super().__init__()
        if tokens < 2:
            raise ValueError(f"looking ahead needs 2 tokens or more, got {tokens}")
        self.config = decoder.config
        for name, part in decoder.named_children():
            self.add_module(name, part)
        self._inside = [decoder]  # in a list: its parts are known by their own names
        last = decoder.blocks[-1]
        copies = [copy.deepcopy(last) for _ in range(tokens - 1)]
        if heads == "sequential":
            width, epsilon = decoder.config.width, decoder.config.norm_epsilon
            device = next(last.parameters()).device
            copies = [Sequel(one, width, epsilon).to(device) for one in copies]
        self.future = nn.ModuleList(copies)
        self._looking = False
        self._told: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        last.register_forward_pre_hook(self._listen, with_kwargs=True)

    @property
    def decoder(self) -> Decoder:
        """The model that is trained, without the further heads."""
        return self._inside[0]

    def parameter_count(self) -> int:
        """Returns the number of the decoder's parameters."""
        return self.decoder.parameter_count()

    def forward(self, tokens: Tensor, *rest: Any, ahead: bool = False, **named: Any) -> Any:
        """Runs the decoder, and the further heads where they are asked for.

        Args:
            tokens: [b, t] int64.
            ahead: whether to look ahead; without it this is the decoder.
            rest, named: as the decoder takes them.

        Returns:
            `Foreseen`, or the decoder's outputs. Of a further head the last places see tokens that are not
            there (the row's first ones): `objectives.future.shifted` leaves them out.
        """
        if not ahead:
            return self.decoder(tokens, *rest, **named)
        self._told.clear()
        self._looking = True
        outputs = self.decoder(tokens, *rest, **named)
        self._looking = False
        (trunk, *told), further = self._told.pop()
        self._told.clear()  # a layer that is recomputed is told again
        states = []
        state = outputs.hidden
        for distance, head in enumerate(self.future, 1):
            if isinstance(head, Sequel):
                between = self._embedded(tokens.roll(-distance, 1)).to(state.dtype)
                state = head(state, between, *told, **further)
            else:
                state = head(trunk, *told, **further)
            states.append(state)
        return Foreseen(outputs.hidden, outputs.logits, tuple(map(self._predicted, states)))

    def _listen(self, block: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Keeps what the last block is told: the trunk's output, positions, who sees whom."""
        if self._looking:
            self._told.append((inputs, named))

    def _embedded(self, tokens: Tensor) -> Tensor:
        embedded: Tensor = self.decoder.embedding(tokens)
        return embedded

    def _predicted(self, state: Tensor) -> Tensor:
        logits: Tensor = self.decoder.head(self.decoder.norm(state))
        return logits
