"""What a model is made of: its parts, their parameters, and what one token costs.

```
modules   -> Part tree     repeated blocks folded ("0-7"), shared weights counted where they stand first
execution -> Cost          products of the graph that ran, and what the attend calls were given
```

All of it is read from a live model, so that it holds for any configuration. Of a model without numbers
(`blank`) nothing is allocated, however large it is.
"""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from ingot.config import Config
from ingot.errors import ConfigError
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.models.encoder import Encoder, EncoderConfig
from ingot.models.encoder_decoder import EncoderDecoder
from ingot.models.encoder_decoder_config import EncoderDecoderConfig
from ingot.models.linear_config import LinearDecoderConfig
from ingot.models.linear_decoder import LinearDecoder
from ingot.nn.scoring import Scored

_OF_ITS_PLACE = frozenset({"training", "layer", "layer_index", "index"})
"""What modules note about themselves that differs between blocks which are otherwise alike."""


class Weight(NamedTuple):
    """One parameter of a part.

    Args:
        name: in its part.
        shape: of the tensor.
        shared_with: full name of the parameter that it is, where another one stands before it in the model.
    """

    name: str
    shape: tuple[int, ...]
    shared_with: str | None = None

    @property
    def numbers(self) -> int:
        """How many numbers it adds to the model: none where it is shared."""
        return 0 if self.shared_with else torch.Size(self.shape).numel()


@dataclass(frozen=True)
class Part:
    """A module, or several alike in one row of modules.

    Args:
        path: full dotted name of the first of them.
        names: in the module above; several where repeated blocks are folded into one.
        kind: name of its class.
        details: plain settings that the module keeps, such as its head width.
        weights: its own parameters.
        parts: the modules in it, those of the first where it stands for several.
    """

    path: str
    names: tuple[str, ...]
    kind: str
    details: tuple[tuple[str, Any], ...]
    weights: tuple[Weight, ...]
    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        """Its name, or all names in short: "0-7", "0,2,4-6"."""
        return _ranges(self.names)

    @property
    def times(self) -> int:
        """How many alike it stands for."""
        return len(self.names)

    @property
    def each(self) -> int:
        """Parameters of one of them, shared ones left out."""
        return sum(weight.numbers for weight in self.weights) + sum(part.total for part in self.parts)

    @property
    def total(self) -> int:
        """Parameters of all of them."""
        return self.each * self.times

    def walk(self, depth: int = 0) -> Iterator[tuple[int, Part]]:
        """Yields the part and all below it, each with its depth, in the order of the modules."""
        yield depth, self
        for part in self.parts:
            yield from part.walk(depth + 1)

    def plain(self) -> dict[str, Any]:
        """Returns the tree as plain data."""
        weights = [
            {"name": one.name, "shape": list(one.shape), "parameters": one.numbers}
            | ({"shared_with": one.shared_with} if one.shared_with else {})
            for one in self.weights
        ]
        return {
            "name": self.name,
            "kind": self.kind,
            "times": self.times,
            "parameters": self.total,
            **({"settings": dict(self.details)} if self.details else {}),
            **({"weights": weights} if weights else {}),
            **({"parts": [part.plain() for part in self.parts]} if self.parts else {}),
        }


def tree(model: nn.Module) -> Part:
    """Returns the parts of a model; every parameter is in it once.

    Args:
        model: any module, on any device.

    Example:
        >>> tree(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 3), nn.Linear(3, 3))).parts[1].name
        '1-2'
    """
    return _part(model, "", "", {})


def _part(module: nn.Module, path: str, name: str, seen: dict[int, str]) -> Part:
    weights = []
    for own, parameter in module.named_parameters(recurse=False, remove_duplicate=False):
        full = f"{path}.{own}" if path else own
        first = seen.setdefault(id(parameter), full)
        weights.append(Weight(own, tuple(parameter.shape), None if first == full else first))
    children = [
        _part(child, f"{path}.{below}" if path else below, below, seen)
        for below, child in module.named_children()
    ]
    details = tuple(
        (key, value)
        for key, value in vars(module).items()
        if not key.startswith("_")
        and key not in _OF_ITS_PLACE
        and isinstance(value, bool | int | float | str)
    )
    return Part(path, (name,), type(module).__name__, details, tuple(weights), tuple(_folded(children)))


def _folded(parts: list[Part]) -> list[Part]:
    """Puts numbered parts that are alike into one: all blocks, or the even and the odd ones."""
    groups: dict[Any, list[Part]] = {}
    for part in parts:
        groups.setdefault(_signature(part) if part.names[0].isdigit() else part.path, []).append(part)
    return [
        Part(one.path, tuple(same.names[0] for same in group), one.kind, one.details, one.weights, one.parts)
        for group in groups.values()
        for one in group[:1]
    ]


def _signature(part: Part) -> tuple[Any, ...]:
    """What two parts have in common that are made alike."""
    below = tuple((inner.names, _signature(inner)) for inner in part.parts)
    return part.kind, part.details, part.weights, below


def _ranges(names: tuple[str, ...]) -> str:
    """Numbers as ranges, where they are numbers: 0-3,5."""
    if len(names) == 1:
        return names[0]
    runs: list[list[int]] = []
    for number in map(int, names):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    return ",".join(texts if len(texts) <= 4 else [*texts[:2], "...", texts[-1]])


class Cost(NamedTuple):
    """What one token costs on average, in a text as long as the context.

    Args:
        context: tokens of the text.
        forward: FLOPs of predicting.
        training: FLOPs of learning: forwards and backwards.
        attention: of the forward FLOPs, those of scores and mixing; masked places are not counted.
        kv_numbers: keys and values that a cache keeps of a token, over all layers; None where the model
            has no attention that remembers.
    """

    context: int
    forward: float
    training: float
    attention: float
    kv_numbers: int | None

    def kv_bytes(self, dtype: torch.dtype = torch.bfloat16) -> int | None:
        """Returns the bytes that a cache of this number type keeps of a token."""
        return None if self.kv_numbers is None else self.kv_numbers * dtype.itemsize


class _Meter:
    """An `attend` that notes what it is given, and costs nothing itself."""

    def __init__(self) -> None:
        self.products = 0.0  # of a token: numbers that meet in scores and mixing, over all heads and places
        self.kept = 0  # numbers per token

    def __call__(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scored: Scored | None = None, *more: Any
    ) -> Tensor:
        h, k, t = query.shape[1], key.shape[1], query.shape[2]
        window = min(t, (scored and scored.window) or t)
        seen = window * (t - (window - 1) / 2) / t  # places, on average over the tokens
        self.products += seen * h * (query.shape[3] + value.shape[3])
        self.kept += k * (key.shape[3] + value.shape[3])
        score = (query + key.repeat_interleave(h // k, 1)).sum(-1, keepdim=True)
        return value.repeat_interleave(h // k, 1) + score  # elementwise: joined to all three, no products


def cost(model: nn.Module, context: int) -> Cost:
    """Counts the FLOPs of a token from the graph that runs, and the keys and values that it leaves.

    Products with weights are those that PyTorch executes, forwards and backwards. Of attention's two
    products only the places that are seen count (i + 1 keys for token i, or its window), twice that
    backwards; scores that a kernel computes again on its way back are its own affair (Kaplan et al. 2020,
    arXiv 2001.08361, section 2.1).

    Args:
        model: a decoder; it is run on one text, so best a `blank` one. Its gradients are left as they were.
            A model whose `forward` takes no `attend` is counted as it is executed.
        context: tokens of the text.
    """
    parameters = list(model.parameters())
    meter = _Meter()
    given: dict[str, Any] = (
        {"attend": meter} if "attend" in inspect.signature(model.forward).parameters else {}
    )
    wanted = [parameter.requires_grad for parameter in parameters]
    model.requires_grad_(True)
    try:
        with numberless(model), torch.enable_grad():
            tokens = torch.zeros(1, context, dtype=torch.long, device=parameters[0].device)
            with FlopCounterMode(display=False) as forwards:
                out = model(*texts(model, tokens), **given)
            logits = out if isinstance(out, Tensor) else out.logits
            with FlopCounterMode(display=False) as backwards:
                torch.autograd.grad(logits.sum(), parameters, allow_unused=True)
    finally:
        for parameter, before in zip(parameters, wanted, strict=True):
            parameter.requires_grad_(before)
    attention = 2 * meter.products
    products = forwards.get_total_flops() / context
    back = backwards.get_total_flops() / context
    return Cost(
        context=context,
        forward=products + attention,
        training=products + back + 3 * attention,
        attention=attention,
        kv_numbers=meter.kept if given else None,
    )


def blank(config: Config) -> nn.Module:
    """Returns a model without numbers: all shapes and no memory, but it can be run.

    Its tensors are PyTorch's fake ones and not merely on the meta device, because code that asks what the
    device can do (autocast, kernels) then gets the answer of the CPU.

    Args:
        config: of a decoder, an encoder, a linear-time decoder or an encoder-decoder.

    Raises:
        ConfigError: it is none of these.
    """
    for kind, made in _KINDS:
        if isinstance(config, kind):
            with FakeTensorMode():
                return made(config).eval()
    what = f"cannot be described from a {type(config).__name__}"
    raise ConfigError(what, where="model", fix="describe a decoder, an encoder or both")


_KINDS: tuple[tuple[type[Config], Callable[[Any], nn.Module]], ...] = (
    (DecoderConfig, Decoder),
    (EncoderConfig, Encoder),
    (LinearDecoderConfig, LinearDecoder),
    (EncoderDecoderConfig, EncoderDecoder),
)


def texts(model: nn.Module, tokens: Tensor) -> list[Tensor]:
    """Returns what a model reads of one text: the same as source and as target where it wants both."""
    return [tokens] * (1 + ("source" in inspect.signature(model.forward).parameters))


def numberless(model: nn.Module) -> contextlib.AbstractContextManager[Any]:
    """Returns the mode in which a `blank` model runs, or one without effect for one with numbers."""
    modes = (getattr(parameter, "fake_mode", None) for parameter in model.parameters())
    return next((mode for mode in modes if mode is not None), contextlib.nullcontext())
