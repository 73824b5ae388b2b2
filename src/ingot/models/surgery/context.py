"""More positions: a model's rotary angles stretched, so that it can be trained on longer texts.

```
theta    a larger base: quick frequencies stay, the slowest is stretched (static NTK)
linear   all positions divided by the factor (Chen et al. 2023, arXiv 2306.15595)
yarn     quick frequencies stay, slow ones are divided, those between mixed (Peng et al. 2023,
         arXiv 2309.00071)
```

No weight changes, but the model computes something else from now on (with `theta` and `yarn` least within
its old context): it has to be trained further. `theta` loads everywhere, since it is one number.
"""

from __future__ import annotations

from typing import Literal, get_args

from ingot.errors import ConfigError
from ingot.models.decoder import DecoderConfig
from ingot.nn.rope_scaling import RopeScaling, longer_theta

Method = Literal["theta", "linear", "yarn"]

METHODS: tuple[str, ...] = get_args(Method)


def stretched(config: DecoderConfig, context: int, method: Method) -> DecoderConfig:
    """Returns a model's configuration with room for longer texts; its weights fit as they are.

    Args:
        config: of the model.
        context: tokens that it shall see at once, more than now.
        method: see above.

    Raises:
        ConfigError: no rotary positions, positions that are stretched already, or a context that is not
            longer.

    Example:
        >>> config = DecoderConfig(vocabulary=9, width=8, layers=1, heads=2, kv_heads=1, head_width=4,
        ...                        feed_forward=8, context=32)
        >>> stretched(config, 128, "theta").rope_theta
        160000.0
    """
    if context <= config.context:
        what = f"a context of {context} is not longer than the {config.context} that the model has"
        raise ConfigError(what, where="context", fix=f"use more than {config.context}")
    if config.positions != "rotary":
        what = f"positions are {config.positions or 'none'}: only rotary ones can be stretched"
        raise ConfigError(what, where="context", fix=f"keep a context of {config.context}")
    if config.rope_scaling is not None:
        what = f"positions are stretched already ({config.rope_scaling.kind})"
        raise ConfigError(what, where="context", fix=f"keep a context of {config.context}")
    factor = context / config.context
    changes: dict[str, object] = {"context": context}
    if method == "theta":
        changes["rope_theta"] = longer_theta(config.rope_theta, factor, config.rotary_width)
    elif method == "linear":
        changes["rope_scaling"] = RopeScaling(kind="linear", factor=factor)
    else:
        changes["rope_scaling"] = RopeScaling(kind="yarn", factor=factor, original_context=config.context)
    return config.model_copy(update=changes)
