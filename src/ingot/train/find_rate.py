"""The learning-rate range test: raise the rate a little at every step, and see where the loss breaks.

```
loss |______                     rates grow geometrically, so the axis is logarithmic
     |      \\__          /
     |         \\___   __/        suggestion: a tenth of the rate with the least loss
     |      x      \\_/
     +------------------- rate
```

Smith 2017, arXiv 1506.01186, section 3.3; the smoothing and the tenth follow Gugger 2018
(sgugger.github.io/how-do-you-find-a-good-learning-rate.html). All rates of an optimizer are raised
together: what is found is a multiplier for them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ingot.errors import IngotError
from ingot.objectives.objective import Objective
from ingot.optim.joint import Joint
from ingot.train.step import Accumulate, loss_function

MEMORY = 0.9  # of the smoothed loss: about the last ten steps
BROKEN = 4.0  # times the least smoothed loss
SAFETY = 10.0  # how far below the rate of the least loss the suggestion lies
_FEWEST_STEPS = 10


class Finding(NamedTuple):
    """What the test saw.

    Args:
        rates: multipliers of the optimizer's own rates, rising.
        losses: smoothed loss after each of them.
        suggestion: the multiplier to train with.
        broke: whether the loss exploded before the highest rate; if not, the best rate may lie higher.
    """

    rates: list[float]
    losses: list[float]
    suggestion: float
    broke: bool

    def text(self) -> str:
        """Returns the finding in one line."""
        least = min(self.losses)
        at = self.rates[self.losses.index(least)]
        words = f"multiply the rates by {self.suggestion:.2g}: the loss is least ({least:.3g}) at {at:.2g}"
        if self.broke:
            return f"{words} and breaks at {self.rates[-1]:.2g}"
        return f"{words} and did not break up to {self.rates[-1]:.2g}; look higher too"


class Batches(Protocol):
    """What the test needs of a stream."""

    def batch(self, step: int) -> dict[str, Tensor]:
        """Returns the batch of a step."""
        ...


def find_rate(
    update: Callable[[int, float], float], low: float = 1e-3, high: float = 1e3, steps: int = 100
) -> Finding:
    """Raises the rate from `low` to `high` and watches the loss.

    Args:
        update: makes update number `step` at a multiplier of the rates and returns the loss before it.
        low, high: first and last multiplier.
        steps: at most; the test stops where the smoothed loss is four times its least, or not finite.

    Raises:
        IngotError: bounds or steps that cannot be used, or a loss that never fell.

    Example:
        >>> find_rate(lambda step, rate: (rate - 1) ** 2 + 1, 0.01, 100, 200).rates[0]
        0.01
    """
    if not 0 < low < high or steps < _FEWEST_STEPS:
        what = f"from {low:g} to {high:g} in {steps} steps is no range"
        raise IngotError(what, where="find-lr", fix=f"give 0 < low < high and {_FEWEST_STEPS} steps or more")
    rates: list[float] = []
    losses: list[float] = []
    total, broke = 0.0, False
    for step in range(steps):
        rate = low * (high / low) ** (step / (steps - 1))
        loss = update(step, rate)
        total = MEMORY * total + (1 - MEMORY) * loss
        smooth = total / (1 - MEMORY ** (step + 1))  # the beginning counts as much as the rest
        broke = not math.isfinite(smooth)
        if not broke:
            rates.append(rate)
            losses.append(smooth)
            broke = step >= _FEWEST_STEPS and smooth > BROKEN * min(losses)
        if broke:
            break
    least = losses.index(min(losses)) if losses else 0
    if least == 0:
        what = f"the loss never fell between {low:g} and {rates[-1] if rates else low:g} times the rates"
        raise IngotError(what, where="find-lr", fix="begin with lower rates, or look at the data")
    return Finding(rates, losses, rates[least] / SAFETY, broke)


def find_rate_for(
    model: nn.Module,
    objective: Objective,
    stream: Batches,
    optimizer: Joint,
    *,
    low: float = 1e-3,
    high: float = 1e3,
    steps: int = 100,
    dtype: torch.dtype = torch.float32,
    micro_batch: int | None = None,
    clip: float | None = 1.0,
    device: str = "cpu",
) -> Finding:
    """Tests the rates on a model, an objective and a stream; all are as before when it returns.

    Args:
        model: on `device`; the same numbers bit for bit afterwards.
        objective: what to minimise.
        stream: gives the batches of steps 0, 1, ...
        optimizer: over the model's parameters; its state is put back too.
        low, high, steps: see `find_rate`.
        dtype: of the products.
        micro_batch, clip: as the training will have them.
        device: where the model is.
    """
    forward = loss_function(model, objective, dtype, False, device)
    program = Accumulate(objective, forward, optimizer, micro_batch, clip)

    def update(step: int, multiplier: float) -> float:
        batch = {name: value.to(device) for name, value in stream.batch(step).items()}
        done = program.update(batch, multiplier)
        return done.loss if done.accepted else math.inf

    with as_before(model, optimizer):
        model.train()
        return find_rate(update, low, high, steps)


@contextmanager
def as_before(model: nn.Module, optimizer: Joint) -> Iterator[None]:
    """Gives model, optimizer and the generators of random numbers back as they were, whatever happens."""
    state = {name: value.detach().clone() for name, value in model.state_dict().items()}
    moments = {name: value.clone() for name, value in optimizer.tensors().items()}
    gradients = {p: p.grad for p in model.parameters()}
    training = model.training
    with torch.random.fork_rng():
        try:
            yield
        finally:
            model.load_state_dict(state)
            optimizer.restore(moments)
            for parameter, gradient in gradients.items():
                parameter.grad = gradient
            model.train(training)


def draw(finding: Finding, path: Path) -> None:
    """Writes the curve as a picture; the file's ending says which kind (png, svg, pdf)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(finding.rates, finding.losses, color="#2b6cb0", linewidth=2)
    axes.axvline(finding.suggestion, color="#b7791f", linestyle="--")
    axes.annotate(
        f"suggested: {finding.suggestion:.2g}",
        (finding.suggestion, 0.97),
        xycoords=axes.get_xaxis_transform(),
        xytext=(6, 0),
        textcoords="offset points",
        va="top",
        color="#b7791f",
    )
    axes.set_xscale("log")
    axes.set_ylim(top=min(max(finding.losses), 1.6 * finding.losses[0]))
    axes.set_xlabel("multiplier of the learning rates")
    axes.set_ylabel("smoothed loss")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    figure.savefig(path, dpi=150)
