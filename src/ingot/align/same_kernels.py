"""The trainer computes as the sampler does: before the first update, both say the same to the last bit.

```
usual          sampler: compiled step, many short products     trainer: products of whole batches
               log-probabilities differ by rounding: ratio 1 +- 1e-5 in fp32, +- some per cent in bf16
same kernels   both in tiles of the same few rows, every token attending by itself
               ratio exactly 1, divergence exactly 0           gradient: the usual one
```

What a ratio says is then what the updates did, and nothing else. That off-policy noise from kernels that
disagree harms training, and that it goes to exactly zero so, is He et al. 2025, "Defeating nondeterminism in
LLM inference" (Thinking Machines Lab), section "True on-policy RL".
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from ingot.errors import ConfigError
from ingot.inference.choosing import sampling
from ingot.inference.computing.invariant import TiledRunner
from ingot.models.decoder import Decoder
from ingot.nn.invariant import RowTiles, exactly
from ingot.nn.invariant_attention import TOGETHER, Alone
from ingot.objectives import grpo

ROWS = 32
"""Of a tile, where the machine computes so many alike."""


class SameKernels:
    """The arithmetic that a sampler and a trainer share.

    Args:
        model: the policy, on the CPU; kernels are tried with its weights.
        dtype: of matrix products.

    Raises:
        ConfigError: the model is somewhere else; has experts, whose products are of as many rows as come; or
            turns long texts otherwise than short ones, which an engine cannot do behind its cache.

    Example:
        >>> same = SameKernels(model, torch.float32)
        >>> objective = GRPO(policy=same.logprobs)                              # doctest: +SKIP
        >>> sampler = Engine(copy, tokenizer, runner=same.runner(copy))         # doctest: +SKIP
    """

    def __init__(self, model: Decoder, dtype: torch.dtype) -> None:
        device = model.embedding.weight.device
        what, fix = None, "leave it away"
        if device.type != "cpu":
            what, fix = f"a model on {device}", "leave it away, or train on the CPU"
        elif model.config.experts is not None:
            what = "a mixture of experts"
        elif model.rotary is not None and model.rotary.near is not None:
            what, fix = (
                "a model whose context was stretched by long-RoPE",
                "shorten it to the original context",
            )
        if what is not None:
            what = f"sampler and trainer cannot share kernels for {what}"
            raise ConfigError(what, where="align.invariant", fix=fix)
        self.short = None if dtype == torch.float32 else dtype
        self.rows = TiledRunner(model, ROWS, self.short).rows

    def runner(self, sampler: Decoder) -> TiledRunner:
        """Returns what computes the passes of an engine over a copy of the model, in float32 too."""
        return TiledRunner(sampler, self.rows, self.short)

    def logprobs(
        self, model: nn.Module, inputs: Tensor, targets: Tensor, temperature: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Returns what `token_logprobs` does, bit for bit as the sampler computes it."""
        with RowTiles(self.rows):
            return grpo.token_logprobs(
                model, inputs, targets, temperature, told=_told, attend=Alone(min(self.rows, TOGETHER))
            )


def _told(logits: Tensor, tokens: Tensor) -> Tensor:
    """The sampler's own formula, with the gradient of cross-entropy."""
    return exactly(partial(sampling.told, tokens=tokens), partial(grpo.told, tokens=tokens), logits)
