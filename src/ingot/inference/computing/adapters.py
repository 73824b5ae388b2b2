"""Several LoRA adapters on one base, in one batch, loaded and dropped while the engine runs.

```
flat pass     | request 1     | request 2 | request 3  |          W x: one product for all tokens
adapter       |   'poet'      |    none   |  'lawyer'  |          + up (down x): each adapter's tokens apart
```

The changes are added by hooks on the base's own linear layers, which stay where and as they are; a layer
that no loaded adapter changes has no hook, and a pass without adapters adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from ingot.adapt.lora import LowRank, Places, add, places_of
from ingot.errors import RequestError, did_you_mean
from ingot.inference.computing.adapter_folder import Adapter, read_adapter
from ingot.models.decoder import Decoder


class Adapters:
    """The adapters of one model, by name.

    Args:
        model: the base.

    Example:
        >>> adapters = Adapters(model)
        >>> adapters.load("poet", "runs/poet")
        >>> with adapters.applied([adapters.number("poet"), -1], [0, 5, 9]):
        ...     model(tokens)                          # tokens 0 to 4 are the poet's, 5 to 8 the base's
    """

    def __init__(self, model: Decoder) -> None:
        self._model = model
        self._loaded: dict[str, tuple[int, Adapter]] = {}
        self._hooks: dict[str, RemovableHandle] = {}
        self._changes: dict[str, dict[int, LowRank]] = {}  # by module, then by adapter's number
        self._places: dict[int, Places] = {}  # of the pass that is being computed
        self._next = 0

    def __len__(self) -> int:
        return len(self._loaded)

    def __contains__(self, name: object) -> bool:
        return name in self._loaded

    def __iter__(self) -> Iterator[str]:
        return iter(self._loaded)

    def __getitem__(self, name: str) -> Adapter:
        return self._found(name)[1]

    def number(self, name: str | None) -> int:
        """Returns what `applied` and the prefix cache call an adapter; never given twice, -1 is the base.

        Raises:
            RequestError: no such adapter is loaded.
        """
        return -1 if name is None else self._found(name)[0]

    def load(self, name: str, folder: Path | str) -> Adapter:
        """Reads an adapter from a folder as PEFT writes it, and keeps it under a name.

        Raises:
            RequestError: the name is empty or taken.
            ArtifactError: the folder holds none for this model.
        """
        if not name or name in self:
            what = f"an adapter '{name}' is loaded already" if name else "an adapter needs a name"
            raise RequestError(what, where="adapter", fix="drop it first, or choose another name")
        adapter = read_adapter(folder, self._model)
        number, self._next = self._next, self._next + 1
        self._loaded[name] = number, adapter
        for module, change in adapter.changes.items():
            self._changes.setdefault(module, {})[number] = change
            if module not in self._hooks:
                self._hooks[module] = self._hooked(module)
        return adapter

    def drop(self, name: str) -> None:
        """Forgets an adapter. Whoever asked for tokens of it must be done.

        Raises:
            RequestError: no such adapter is loaded.
        """
        number, adapter = self._found(name)
        del self._loaded[name]
        for module in adapter.changes:
            del self._changes[module][number]
            if not self._changes[module]:
                del self._changes[module]
                self._hooks.pop(module).remove()

    @contextmanager
    def applied(self, numbers: Sequence[int], starts: Sequence[int]) -> Iterator[None]:
        """Within it, the model computes each segment of a flat pass with its own adapter.

        Args:
            numbers: of each segment's adapter; -1 is the base alone.
            starts: n + 1 numbers: segment i is tokens starts[i] to starts[i + 1] - 1.
        """
        self._places = places_of(numbers, starts, self._model.norm.get_parameter("weight").device)
        try:
            yield
        finally:
            self._places = {}

    def _found(self, name: str) -> tuple[int, Adapter]:
        if name not in self._loaded:
            fix = did_you_mean(name[:100], self._loaded) if self._loaded else "load one first"
            raise RequestError(f"no adapter '{name[:100]}' is loaded", where="adapter", fix=fix)
        return self._loaded[name]

    def _hooked(self, name: str) -> RemovableHandle:
        """A hook on a linear layer that adds what the pass's adapters change in it."""

        def changed(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            held = self._changes[name]
            parts = [(held[number], places) for number, places in self._places.items() if number in held]
            if not parts:
                return None
            rows = output.reshape(-1, output.shape[-1])
            add(rows, inputs[0].reshape(-1, inputs[0].shape[-1]), parts)
            return rows.view(output.shape)

        return self._model.get_submodule(name).register_forward_hook(changed)
