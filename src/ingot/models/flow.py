"""How data flows through a model's modules, noted while it runs.

```
forward hooks   which module was called inside which, with what, and the shape of what it gave
dispatch        what joins two of these (x + attention(x), gate * up), and activations
```

Every module that has modules in it gets a graph of its own: nodes are the modules called in it, joints
("+", "×"), activations and attention itself; an edge says that something made by one node went into another.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from ingot.models.describe import numberless, texts

INPUT = -1
"""The node that stands for what a module is given."""

_ACTIVATIONS = {
    "aten.silu.default": "silu",
    "aten.gelu.default": "gelu",
    "ingot._gelu.default": "gelu",
    "aten.relu.default": "relu",
}
_JOINTS = {"aten.add.Tensor": "+", "aten.add_.Tensor": "+", "aten.mul.Tensor": "×", "aten.mul_.Tensor": "×"}


@dataclass
class Node:
    """A step inside a module.

    Args:
        name: dotted name of the module called, below the one it is in; empty for a joint.
        joint: "+", "×", "attend" or the name of an activation, where it is no module.
        sources: numbers of the nodes that it is made from; INPUT is the module's own input.
        shape: of what it gives, without the batch; None where that is no tensor.
    """

    name: str
    joint: str | None
    sources: tuple[int, ...]
    shape: tuple[int, ...] | None


@dataclass
class Flow:
    """The graph of one module.

    Args:
        nodes: in the order of execution.
        output: number of the node whose result it gives.
    """

    nodes: list[Node] = field(default_factory=list)
    output: int = INPUT


def trace(model: nn.Module, tokens: int = 23) -> dict[str, Flow]:
    """Runs a model once and returns the graph of every module with modules in it that was called, by name.

    Args:
        model: takes [b, t] token ids; best a `blank` one. Its first call of a module counts.
        tokens: t, and not the size of anything else in the model, so that shapes can be read.

    Raises:
        RuntimeError: the model cannot run without numbers (it decides by values, as routing to experts does).
    """
    names = {id(module): name for name, module in reversed(list(model.named_modules()))}
    tracer = _Tracer(model, names)
    hooks = []
    for module in model.modules():
        hooks.append(module.register_forward_pre_hook(tracer.enter, with_kwargs=True))
        hooks.append(module.register_forward_hook(tracer.leave))
    given = {"attend": tracer.attend} if "attend" in inspect.signature(model.forward).parameters else {}
    try:
        with torch.no_grad(), numberless(model), tracer:
            ids = torch.zeros(1, tokens, dtype=torch.long, device=next(model.parameters()).device)
            model(*texts(model, ids), **given)
    finally:
        for hook in hooks:
            hook.remove()
    return tracer.flows


class _Tracer(TorchDispatchMode):
    """Follows tensors from module to module."""

    def __init__(self, model: nn.Module, names: dict[int, str]) -> None:
        super().__init__()
        self.names = names
        self.flows: dict[str, Flow] = {}
        self.calls: list[_Call] = []
        self.owners = {
            id(parameter): name.rpartition(".")[0]
            for name, parameter in reversed(list(model.named_parameters()))
        }
        self.parameters = list(model.parameters())  # held, so that no other tensor takes their ids

    def enter(self, module: nn.Module, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        call = _Call(self.names[id(module)])
        for one in [*given, *named.values()]:  # what comes in a tuple (angles) is no part of the stream
            if isinstance(one, Tensor) and (one.is_floating_point() or not self.calls):
                call.put(one, INPUT)
        if self.calls:
            call.sources = self.calls[-1].sources_of([*given, *named.values()])
        self.calls.append(call)

    def leave(self, module: nn.Module, given: tuple[Any, ...], made: Any) -> None:
        call = self.calls.pop()
        outputs = [one for one in (made if isinstance(made, tuple) else (made,)) if isinstance(one, Tensor)]
        if outputs:
            call.flow.output = call.where.get(id(outputs[-1]), INPUT)
        if any(True for _ in module.children()):
            self.flows.setdefault(call.name, call.flow)
        if self.calls:
            above = self.calls[-1]
            name = call.name[len(above.name) + 1 :] if above.name else call.name
            shape = tuple(outputs[-1].shape[1:]) if outputs else None
            above.add(Node(name, None, call.sources, shape), outputs)

    def attend(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, *more: Any, **named: Any
    ) -> Tensor:
        """Stands for attention itself: gives what has its shape, and notes what went in."""
        call = self.calls[-1]
        mixed = value.new_zeros(*query.shape[:3], value.shape[3])
        sources = call.sources_of([query, key, value])
        call.add(Node("", "attend", sources, tuple(mixed.shape[1:])), [mixed])
        return mixed

    def __torch_dispatch__(
        self, function: Any, types: Any, given: tuple[Any, ...] = (), named: dict[str, Any] | None = None
    ) -> Any:
        made = function(*given, **(named or {}))
        if not self.calls or not isinstance(made, Tensor):
            return made
        call = self.calls[-1]
        tensors = [one for one in given if isinstance(one, Tensor)]
        for one in tensors:
            owner = self.owners.get(id(one))
            if owner is not None and owner != call.name and id(one) not in call.where:
                name = owner[len(call.name) + 1 :] if call.name else owner
                call.add(Node(name, None, (), tuple(one.shape)), [one])
        sources = call.sources_of(tensors)
        kind = _JOINTS.get(str(function))
        floats = [one for one in tensors if one.is_floating_point()]
        if kind and len(floats) == 2 and len(sources) == 2:
            call.add(Node("", kind, sources, tuple(made.shape[1:])), [made])
        elif str(function) in _ACTIVATIONS and sources:
            call.add(Node("", _ACTIVATIONS[str(function)], sources, tuple(made.shape[1:])), [made])
        elif sources:
            call.put(made, max(sources))
        return made


class _Call:
    """A module that is running: which node each tensor comes from."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.flow = Flow()
        self.sources: tuple[int, ...] = ()
        self.where: dict[int, int] = {}
        self.held: list[Tensor] = []  # so that ids stay theirs

    def put(self, tensor: Tensor, node: int) -> None:
        self.where[id(tensor)] = node
        self.held.append(tensor)

    def add(self, node: Node, outputs: list[Tensor]) -> None:
        self.flow.nodes.append(node)
        for tensor in outputs:
            self.put(tensor, len(self.flow.nodes) - 1)

    def sources_of(self, values: list[Any]) -> tuple[int, ...]:
        flat = [one for value in values for one in (value if isinstance(value, tuple | list) else (value,))]
        found = (self.where.get(id(one)) for one in flat if isinstance(one, Tensor))
        return tuple(sorted({node for node in found if node is not None}))
