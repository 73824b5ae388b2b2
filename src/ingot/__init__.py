"""ingot casts your own foundation model: text in; a measured, served model out.

>>> import ingot
>>> model = ingot.load("runs/demo")                      # doctest: +SKIP
>>> model.generate("def add(a, b):", max_new_tokens=64)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingot.api import load

__version__ = "0.1.0"

__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """Imports `load` only when it is asked for: it brings torch, and `ingot --help` must not."""
    if name == "load":
        from ingot.api import load

        return load
    raise AttributeError(f"module 'ingot' has no attribute '{name}'")
