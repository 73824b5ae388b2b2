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
from ingot.models.families import shapes
from ingot.train.law import HOFFMANN, Law, counted_parameters, counted_tokens

DEPTHS = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 28, 32, 40, 48, 64)
WIDTH_PER_LAYER = 64
FEWEST_STEPS = 20
MOST_EPOCHS = 40
"""More often a text teaches nothing: Muennighoff et al. 2023, arXiv 2305.16264, section 5."""

TUNED_AT = 2e14
"""FLOPs of the run for which the default learning rates were found: seven minutes on two cores."""


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
    return sum(_products(config).values())


def active_parameters(config: DecoderConfig) -> int:
    """Returns how many of those one token goes through: of all experts, only those that it chooses."""
    experts = config.experts
    return sum(
        size * experts.chosen // experts.count if experts is not None and ".experts." in name else size
        for name, size in _products(config).items()
    )


def parameter_count(config: DecoderConfig) -> int:
    """Returns the number of all weights, without building the model."""
    return sum(shape.numel() for shape in shapes(config).values())


def _products(config: DecoderConfig) -> dict[str, int]:
    """The sizes of the weights in matrix products, by name; a tied embedding is the head's."""
    looked_up = {"positions.weight"} | (set() if config.tied else {"embedding.weight"})
    return {
        name: shape.numel()
        for name, shape in shapes(config).items()
        if len(shape) > 1 and name not in looked_up
    }


def training_flops_per_token(config: DecoderConfig) -> float:
    """Returns the FLOPs that one training token costs, forward and backward.

    Six per weight in a product, and causal attention's two products over half the context on average
    (Kaplan et al. 2020, arXiv 2001.08361, section 2.1).
    """
    attention = 6 * config.layers * config.heads * config.head_width * config.context
    return 6 * active_parameters(config) + attention


def expected_loss(parameters: float, tokens: float, unique: float, law: Law = HOFFMANN) -> float:
    """Returns the law's loss, in nats per token; repeated tokens count less and less.

    Args:
        parameters: N, without the embedding.
        tokens: seen in all.
        unique: different ones among them.
        law: whose numbers. Only the choice of a size rests on it, and small runs choose rightly by
            Hoffmann's (docs/experiments.md).
    """
    return law.loss(parameters, counted_tokens(tokens, unique))


def batch_tokens(flops: float) -> float:
    """Returns the batch that a compute budget asks for, in tokens per step.

    Bi et al. 2024, DeepSeek LLM, arXiv 2401.02954, equation 1; fitted between 1e17 and 2e19 FLOPs. The
    optimum is flat: half or twice the batch costs nothing measurable (docs/experiments.md).

    Example:
        >>> round(batch_tokens(1e18) / 1000)
        225
    """
    return 0.2920 * flops**0.3271


def rate_factor(flops: float) -> float:
    """Returns what to multiply the default learning rates by for a compute budget: at most 1.

    The power is that of Bi et al. 2024, equation 1 (rate ~ C^-0.125, with the batch above), the anchor
    our own tuning. Fitted for AdamW; for Muon's rate no law is published, so it is a first guess.
    """
    return min(1.0, (flops / TUNED_AT) ** -0.125)


def propose(
    *,
    seconds: float,
    flops: float,
    unique: int,
    vocabulary: int,
    context: int,
    tokens_per_step: int,
    depth: int | None = None,
    law: Law = HOFFMANN,
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
        law: by which sizes are compared.

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
        expected = expected_loss(matrix_parameters(config), tokens, unique, law)
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


def propose_for_text(
    *,
    seconds: float,
    flops: float,
    unique: int,
    vocabulary: int,
    context: int,
    depth: int | None = None,
    law: Law = HOFFMANN,
) -> Proposal:
    """Chooses the size where there may be more time than text: it never buys what the text cannot repay.

    Weights and repetitions beyond what the text suits count less and less, and of the sizes within half a
    percent of the least loss the smallest is taken. Its tokens may need less than the time given.

    Args:
        seconds, flops, unique, vocabulary, context, depth, law: see `propose`.
    """
    proposals = []
    for layers in DEPTHS if depth is None else (depth,):
        config = shape(layers, vocabulary, context)
        tokens = min(int(flops * seconds / training_flops_per_token(config)), MOST_EPOCHS * unique)
        weights = counted_parameters(matrix_parameters(config), unique, law)
        expected = expected_loss(weights, max(1, tokens), unique, law)
        proposals.append(Proposal(config, tokens, tokens / unique, expected))
    least = min(proposal.expected for proposal in proposals)
    return next(proposal for proposal in proposals if proposal.expected <= 1.005 * least)
