"""Dense to experts: every feed-forward layer copied, and a router drawn anew to choose among the copies.

The weights of a token's experts sum to one, and at first all experts are alike: the mixture answers as the
dense model did, and goes on from there. What it gains is room: its parts are as wide as before and only some
of them run.

Source: Komatsuzaki et al. 2022, Sparse Upcycling, arXiv 2212.05055, section 3.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ingot.errors import ConfigError
from ingot.models.decoder import Decoder
from ingot.models.decoder_config import GATED
from ingot.nn.experts import Experts, ExpertsConfig

_ROUTER = 0.02  # standard deviation of the router's weights, as in the paper
_MATRICES = ("gate", "up", "down")


@torch.no_grad()
def upcycled(
    model: Decoder,
    experts: int,
    chosen: int = 2,
    every: int = 1,
    seed: int = 0,
    balance_loss: float | None = 0.01,
) -> Decoder:
    """Returns a mixture of experts made of a dense model.

    Args:
        model: any dtype; it is not changed.
        experts: per layer.
        chosen: that each token goes through.
        every: which layers get them: 1 all, 2 every other, the last one always.
        seed: of the routers.
        balance_loss: weight of the term that keeps experts equally busy in training, or None.

    Raises:
        ConfigError: experts already, or a feed-forward layer that experts are not made of.

    Example:
        >>> upcycled(model, experts=8).config.experts.chosen                # doctest: +SKIP
        2
    """
    config = model.config
    if config.experts is not None:
        what = f"the model has {config.experts.count} experts per layer already"
        raise ConfigError(what, where="experts", fix="begin with a dense model")
    biased = sorted({*config.bias} & {*_MATRICES})
    if config.activation not in GATED or biased:
        part = f"biases on {', '.join(biased)}" if biased else f"the activation {config.activation}"
        what = f"its feed-forward layers have {part}: experts are gated layers without biases"
        raise ConfigError(what, where="experts", fix="begin with a model of SwiGLU or GeGLU without biases")
    mixture = ExpertsConfig(
        count=experts, chosen=chosen, width=config.feed_forward, normalised=True, balance_loss=balance_loss
    )
    dense = tuple(layer for layer in range(config.layers) if (config.layers - 1 - layer) % every)
    changed = Decoder(config.model_copy(update={"experts": mixture, "dense_layers": dense}))
    state = model.state_dict()
    generator = torch.Generator().manual_seed(seed)
    made: dict[str, Tensor] = {}
    for name, tensor in changed.state_dict().items():
        if name in state:
            made[name] = state[name]
        elif name.endswith("router.weight"):
            drawn = torch.empty(tensor.shape).normal_(0, _ROUTER, generator=generator)
            made[name] = drawn.to(state["embedding.weight"])
        else:
            single = state[name.replace(".experts.", ".")]
            made[name] = single.expand(experts, *single.shape).clone()
    changed.to(state["embedding.weight"]).load_state_dict(made)
    assert any(isinstance(part, Experts) for part in changed.modules())
    return changed.train(model.training)
