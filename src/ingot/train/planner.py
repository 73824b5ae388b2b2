"""The planner: which size of model, on how many tokens, makes the most of this machine's minutes.

```
minutes, measured rate -> FLOPs to spend -> for every size of the ladder: tokens it could see
                                         -> expected loss -> the size with the least
```

The one dial is the depth, as in nanochat: width, heads and feed-forward width follow from it.
"""

from __future__ import annotations

from typing import NamedTuple

from ingot.errors import ResourceError
from ingot.models.decoder import DecoderConfig

DEPTHS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24)
WIDTH_PER_LAYER = 64
FEWEST_STEPS = 20

# L(N, D) = A / N^a + B / D^b + E, the shape and exponents of Hoffmann et al. 2022 (arXiv 2203.15556,
# section 3.3). Only the choice of size depends on it; repeated tokens count less and less, as in
# Muennighoff et al. 2023 (arXiv 2305.16264, section 3.1), whose half-life of repetitions is 15.39.
_A, _B, _E = 406.4, 410.7, 1.69
_ALPHA, _BETA = 0.34, 0.28
_REPEATS = 15.39


class Proposal(NamedTuple):
    """A size and what it can see in the time given."""

    model: DecoderConfig
    tokens: int
    epochs: float
    expected: float  # of the law: good for comparing sizes, not as a prediction for this corpus


def shape(depth: int, vocabulary: int, context: int) -> DecoderConfig:
    """Returns the decoder of a depth: its width is 64 per layer, its key-value heads half its heads.

    Heads are 128 wide where the width allows: fewer and wider heads cost a third less time in a CPU's
    attention at the same number of weights (docs/experiments.md).

    Args:
        depth: layers.
        vocabulary: v.
        context: t.
    """
    width = WIDTH_PER_LAYER * max(2, depth)
    head_width = 128 if width % 128 == 0 else 64
    heads = width // head_width
    kv_heads = max(k for k in range(1, max(1, heads // 2) + 1) if heads % k == 0)
    feed_forward = -(-width * 8 // 3 // 64) * 64
    return DecoderConfig(
        vocabulary=vocabulary,
        width=width,
        layers=depth,
        heads=heads,
        kv_heads=kv_heads,
        head_width=head_width,
        feed_forward=feed_forward,
        context=context,
    )


def matrix_parameters(config: DecoderConfig) -> int:
    """Returns the number of weights that take part in matrix products (the embedding does not)."""
    attention = config.width * config.head_width * (2 * config.heads + 2 * config.kv_heads)
    per_layer = attention + 3 * config.width * config.feed_forward
    return config.layers * per_layer + config.vocabulary * config.width


def training_flops_per_token(config: DecoderConfig) -> float:
    """Returns the FLOPs that one training token costs, forward and backward.

    Six per weight in a product, and causal attention's two products over half the context on average
    (Kaplan et al. 2020, arXiv 2001.08361, section 2.1).
    """
    attention = 6 * config.layers * config.heads * config.head_width * config.context
    return 6 * matrix_parameters(config) + attention


def expected_loss(parameters: float, tokens: float, unique: float) -> float:
    """Returns the law's loss, in nats per token.

    Args:
        parameters: N, without the embedding.
        tokens: seen in all.
        unique: different ones among them.
    """
    repeats = max(0.0, tokens / unique - 1)
    counted = min(tokens, unique) + unique * _REPEATS * (1 - 2.718281828 ** (-repeats / _REPEATS))
    return _A / parameters**_ALPHA + _B / counted**_BETA + _E


def propose(
    *,
    seconds: float,
    flops: float,
    unique: int,
    vocabulary: int,
    context: int,
    tokens_per_step: int,
    depth: int | None = None,
) -> Proposal:
    """Chooses the size of the model.

    Args:
        seconds: to train in.
        flops: training FLOPs per second that this machine gives.
        unique: tokens of the training split.
        vocabulary: v.
        context: t.
        tokens_per_step: of a global batch.
        depth: layers, where the user has chosen them.

    Returns:
        The best size of the ladder.

    Raises:
        ResourceError: not even the smallest would get a useful number of steps.
    """
    best: Proposal | None = None
    for layers in DEPTHS if depth is None else (depth,):
        config = shape(layers, vocabulary, context)
        tokens = int(flops * seconds / training_flops_per_token(config))
        if tokens < FEWEST_STEPS * tokens_per_step:
            continue
        expected = expected_loss(matrix_parameters(config), tokens, unique)
        if best is None or expected < best.expected:
            best = Proposal(config, tokens, tokens / unique, expected)
    if best is None:
        raise ResourceError(
            f"{seconds / 60:.2g} minutes are too few for any model here "
            f"({FEWEST_STEPS} steps of {tokens_per_step:,} tokens)",
            where="pretrain.minutes",
            fix="give more minutes, a smaller batch or a shorter context",
        )
    return best
