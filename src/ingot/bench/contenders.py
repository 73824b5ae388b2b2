"""Who takes part in a race of optimizers: each with the settings that docs/optimizers.md starts from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch

from ingot.errors import ConfigError, did_you_mean
from ingot.models.decoder import Decoder
from ingot.objectives.causal import CausalLM
from ingot.optim.joint import OptimizerConfig
from ingot.train.sharpness import SharpnessAware
from ingot.train.step import Accumulate, Gradients, StepProgram, loss_function

CLIP = 1.0


class Contender(NamedTuple):
    """One optimizer.

    Args:
        name: for people.
        config: its settings; rates are those that a factor of 1 gives.
        rho: of SAM's look uphill, or None for the ordinary step.
    """

    name: str
    config: OptimizerConfig
    rho: float | None = None

    def program(self, model: Decoder, device: str) -> StepProgram:
        """Returns what makes the updates of a model."""
        forward = loss_function(model, CausalLM(), torch.float32, False, device)
        optimizer = self.config.build(model)
        if self.rho is None:
            return Accumulate(CausalLM(), forward, optimizer, clip=CLIP, device=device, model=model)
        parameters = optimizer.parameters()
        gradients = Gradients(CausalLM(), forward, parameters, device=device, model=model)
        return SharpnessAware(gradients, optimizer, self.rho, CLIP)

    def rate(self, factor: float) -> float:
        """Returns the highest learning rate of most weights at a factor."""
        if self.config.name == "muon":
            return self.config.matrix_rate * factor
        usual = self.config.rate
        return (1.0 if usual is None else usual) * factor


_EVERYBODY = (
    Contender("muon", OptimizerConfig()),
    Contender("adamw", OptimizerConfig(name="adamw", rate=1e-3, weight_decay=0.1)),
    Contender("adam", OptimizerConfig(name="adam", rate=1e-3, beta2=0.999)),
    Contender("lion", OptimizerConfig(name="lion", rate=3e-4, beta2=0.99, weight_decay=1.0)),
    Contender("adafactor", OptimizerConfig(name="adafactor", rate=1e-2)),
    Contender("rmsprop", OptimizerConfig(name="rmsprop", rate=1e-3, beta2=0.99)),
    Contender("sgd", OptimizerConfig(name="sgd", rate=0.1, momentum=0.9)),
    Contender("sam", OptimizerConfig(name="adamw", rate=1e-3, weight_decay=0.1), rho=0.05),
)
CONTENDERS: Mapping[str, Contender] = {one.name: one for one in _EVERYBODY}
"""`sam` steps with AdamW, and makes two passes for each step."""


def chosen(names: list[str]) -> list[Contender]:
    """Returns the contenders of these names.

    Raises:
        ConfigError: an unknown name, or fewer than two.
    """
    for name in names:
        if name not in CONTENDERS:
            fix = did_you_mean(name, CONTENDERS)
            raise ConfigError(f"no optimizer is called '{name}'", where="bench optimizers", fix=fix)
    if len(set(names)) < 2:
        what = f"{len(set(names))} optimizer is no race"
        raise ConfigError(what, where="bench optimizers", fix="name two or more")
    return [CONTENDERS[name] for name in dict.fromkeys(names)]
