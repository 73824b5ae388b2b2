"""Early stopping: the best weights are kept, and a run that has stopped getting better ends.

```
validation   2.0   1.7   1.6*   1.65   1.64   1.66        patience 3: stop; the weights of * are the result
```

Source: Prechelt 1998, "Early stopping - but when?", criterion UP with strips of one checkpoint.
"""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from ingot.checkpoint.store import Checkpoint


class Store(Protocol):
    """Where checkpoints are kept, by one process or by several."""

    def save(self, checkpoint: Checkpoint) -> None: ...

    def newest(self) -> Checkpoint | None: ...


class Patience:
    """Follows a number that should fall, and keeps the weights that it was lowest at.

    The weights are saved before the run's own checkpoint of that step: a kill in between has the run
    find, and save, the same improvement again. A rollback leaves all this alone: the best stays the best.

    Args:
        checkpoints: without improvement after which the run ends.
        store: for the best weights; keeps two, so that a kill while saving loses none.
    """

    def __init__(self, checkpoints: int, store: Store) -> None:
        self.checkpoints = checkpoints
        self.store = store
        self.best: float | None = None
        self.best_step = 0
        self.improvements = 0
        self.waited = 0

    def look(self, step: int, value: float, weights: dict[str, Tensor]) -> None:
        """Takes in what a validation gave.

        Args:
            step: after which it was made.
            value: lower is better; what is not a number is no improvement.
            weights: that were validated.
        """
        if self.best is not None and not value < self.best:
            self.waited += 1
            return
        self.best, self.best_step, self.waited = value, step, 0
        self.improvements += 1
        # Counted by improvements, not by steps: after a rollback a later best may have a smaller step.
        self.store.save(Checkpoint(self.improvements, weights, {"trained": step, "value": value}))

    def lost(self) -> str | None:
        """Returns why the run should end, or None."""
        if self.waited < self.checkpoints:
            return None
        return f"no better than {self.best:.4f} of step {self.best_step} for {self.waited} checkpoints"

    def weights(self) -> dict[str, Tensor] | None:
        """Returns the best weights, or None where nothing was validated."""
        found = self.store.newest()
        return None if found is None else found.tensors

    def state(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps, as plain data."""
        names = ("best", "best_step", "improvements", "waited")
        return {name: getattr(self, name) for name in names}

    def restore(self, state: dict[str, Any]) -> None:
        """Takes back what `state` gave."""
        for name, value in state.items():
            setattr(self, name, value)
