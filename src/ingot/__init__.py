"""ingot casts your own foundation model: text in; a measured, served model out.

>>> import ingot
>>> model = ingot.load("runs/demo")                      # doctest: +SKIP
>>> model.generate("def add(a, b):", max_new_tokens=64)  # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ingot.api import CausalLM, load

__version__ = "0.1.0"

__all__ = ["CausalLM", "__version__", "load"]


def __getattr__(name: str) -> Any:
    """Imports what brings torch only when it is asked for: `ingot --help` must not."""
    if name in ("CausalLM", "load"):
        from ingot import api

        return getattr(api, name)
    raise AttributeError(f"module 'ingot' has no attribute '{name}'")
