"""The package's face in Python: load a model, let it write, chat with it, make vectors.

```python
import ingot

model = ingot.load("runs/demo")
print(model.generate("def read_lines(path):", max_new_tokens=100, temperature=0.2))
for piece in model.stream([{"role": "user", "content": "Write a function `add(a, b)`."}]):
    print(piece, end="", flush=True)
```
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ingot.inference.locate import locate

if TYPE_CHECKING:
    from ingot.inference.causal_lm import CausalLM
    from ingot.inference.embedding import Embedder
    from ingot.inference.ingot import Ingot, load

__all__ = ["CausalLM", "Embedder", "Ingot", "load", "locate"]


def __getattr__(name: str) -> Any:
    """Imports what needs torch only when it is asked for."""
    if name == "CausalLM":
        from ingot.inference.causal_lm import CausalLM

        return CausalLM
    if name in ("Embedder", "Ingot", "load"):
        from ingot.inference import ingot

        return getattr(ingot, name)
    raise AttributeError(f"module 'ingot.api' has no attribute '{name}'")
