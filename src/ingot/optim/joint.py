"""Several optimizers as one: which parameter gets which, and one multiplier of the rates for the schedule."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from ingot.config import Config
from ingot.errors import ConfigError
from ingot.optim.adafactor import Adafactor
from ingot.optim.adam import Adam
from ingot.optim.groups import Assignment, GroupConfig, Role, assign
from ingot.optim.lion import Lion
from ingot.optim.muon import Muon
from ingot.optim.optimizer import Optimizer
from ingot.optim.rmsprop import RMSprop
from ingot.optim.sgd import SGD
from ingot.optim.shards import spread_like

Name = Literal["muon", "adamw", "adam", "sgd", "rmsprop", "lion", "adafactor"]

_USUAL_RATES: Mapping[str, float] = {
    "adamw": 1e-3,
    "adam": 1e-3,
    "sgd": 0.1,
    "rmsprop": 1e-3,
    "lion": 1e-4,
    "adafactor": 1e-2,
}
_ORDER: Mapping[Role, int] = {"embedding": 0, "head": 1, "vector": 2, "kernel": 2, "matrix": 3}


class OptimizerConfig(Config):
    """Which optimizer, its learning rates, and exceptions for parts of the model.

    `muon` gives the matrices inside the blocks to Muon and everything else to AdamW, each role at its own
    rate; any other name gives all parameters to that optimizer at one rate.

    Args:
        name: of the optimizer (docs/optimizers.md says when to use which).
        rate: of every optimizer but `muon`; None is the usual one.
        matrix_rate: Muon's, for the matrices inside the blocks; 0 gives those to AdamW at the head's rate.
        embedding_rate: AdamW's beside Muon, for token and position embeddings.
        head_rate: AdamW's beside Muon, for the head.
        norm_rate: AdamW's beside Muon, for norms and biases.
        momentum: of Muon and SGD (Nesterov).
        beta1: share of the mean gradient kept; of Adam, AdamW and Lion.
        beta2: share of the mean square kept; of Adam, AdamW and RMSprop; Lion's share of the momentum.
        epsilon: added to the root of the mean square; of Adam, AdamW and RMSprop.
        weight_decay: of matrices, and of the head but for `muon`; never of norms, biases and embeddings.
        groups: exceptions by name pattern; the first that matches counts.
        layer_decay: factor between the rates of a block and the one above it, for fine-tuning; or None.

    Example:
        >>> still = GroupConfig(match="embedding*", frozen=True)
        >>> OptimizerConfig(name="lion", weight_decay=0.1, groups=(still,)).rate is None
        True
    """

    name: Name = "muon"
    rate: float | None = Field(default=None, gt=0)
    matrix_rate: float = Field(default=0.02, ge=0)
    embedding_rate: float = Field(default=0.2, gt=0)
    head_rate: float = Field(default=0.004, gt=0)
    norm_rate: float = Field(default=0.01, gt=0)
    momentum: float = Field(default=0.95, ge=0, lt=1)
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    epsilon: float = Field(default=1e-10, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    groups: tuple[GroupConfig, ...] = ()
    layer_decay: float | None = Field(default=None, gt=0, le=1)

    @model_validator(mode="after")
    def _rate_has_an_owner(self) -> Self:
        if self.name == "muon" and self.rate is not None:
            raise ValueError(f"rate ({self.rate}) is not for muon: give matrix_rate, embedding_rate, ...")
        return self

    def assignments(self, model: nn.Module) -> list[Assignment]:
        """Returns how every trainable parameter would be trained, in the model's order.

        Raises:
            ConfigError: a pattern matches no parameter.
        """
        return assign(model, self._rate, self._weight_decay, self.groups, self.layer_decay)

    def build(self, model: nn.Module, dtype: torch.dtype = torch.float32) -> Joint:
        """Gives every parameter of the model its optimizer, and freezes those that a group freezes.

        Args:
            model: whose parameters are optimized.
            dtype: of Muon's products.

        Raises:
            ConfigError: a pattern matches no parameter, or nothing is left to train.
        """
        assigned = self.assignments(model)
        for one in assigned:
            if one.frozen:
                one.parameter.requires_grad_(False)
        trained = [one for one in assigned if not one.frozen]
        if not trained:
            fix = "leave some group unfrozen"
            raise ConfigError("every parameter is frozen", where="optimizer.groups", fix=fix)
        to_muon = self.name == "muon" and self.matrix_rate > 0
        matrices = [one for one in trained if to_muon and one.role == "matrix"]
        others = [one for one in trained if not (to_muon and one.role == "matrix")]
        optimizers: list[Optimizer] = []
        if others:
            optimizers.append(self._optimizer("adamw" if self.name == "muon" else self.name, others))
        if matrices:
            groups = _by_settings(matrices)
            optimizers.append(Muon(groups, self.matrix_rate, self.momentum, self.weight_decay, dtype))
        return Joint(optimizers, {one.parameter: one.name for one in trained})

    def _optimizer(self, name: str, assigned: list[Assignment]) -> Optimizer:
        """All but Muon; rates and weight decays stand in the groups."""
        groups, betas = _by_settings(assigned), (self.beta1, self.beta2)
        match name:
            case "adamw":
                return Adam(groups, betas=betas, epsilon=self.epsilon)
            case "adam":
                return Adam(groups, betas=betas, epsilon=self.epsilon, decay="coupled")
            case "sgd":
                return SGD(groups, momentum=self.momentum)
            case "rmsprop":
                return RMSprop(groups, beta2=self.beta2, epsilon=self.epsilon)
            case "lion":
                return Lion(groups, betas=betas)
            case _:
                return Adafactor(groups)

    def _rate(self, role: Role) -> float:
        if self.name != "muon":
            return _USUAL_RATES[self.name] if self.rate is None else self.rate
        if role == "matrix":
            return self.matrix_rate or self.head_rate
        rates = {"embedding": self.embedding_rate, "head": self.head_rate}
        return rates.get(role, self.norm_rate)

    def _weight_decay(self, role: Role) -> float:
        decaying = ("matrix",) if self.name == "muon" else ("matrix", "kernel", "head")
        return self.weight_decay if role in decaying else 0.0


class Joint:
    """Optimizers that step together, with a state made of plain tensors.

    Args:
        optimizers: over disjoint parameters; their rates now are those that a multiplier of 1 gives.
        names: dotted names of the parameters, for `follow`.
    """

    def __init__(self, optimizers: Sequence[Optimizer], names: Mapping[Tensor, str] | None = None) -> None:
        self.optimizers = list(optimizers)
        self._names = dict(names or {})
        self._rates = [[group["lr"] for group in o.param_groups] for o in self.optimizers]

    def parameters(self) -> list[Tensor]:
        """Returns all parameters, in a fixed order."""
        return [p for o in self.optimizers for p in _parameters(o)]

    def zero_grad(self) -> None:
        """Forgets the gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none=True)

    def step(self, multiplier: float, momentum: float | None = None) -> None:
        """Updates all parameters at `multiplier` times their own rates.

        Args:
            multiplier: from the schedule.
            momentum: from a schedule that drives it too: for this step, in place of momentum or beta1.
        """
        for optimizer, rates in zip(self.optimizers, self._rates, strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * multiplier
                if momentum is not None and "betas" in group:
                    group["betas"] = (momentum, *group["betas"][1:])
                elif momentum is not None and "momentum" in group:
                    group["momentum"] = momentum
            optimizer.step()

    def follow(self, model: nn.Module) -> None:
        """Turns to the parameters that now have the old ones' names: sharding a model makes new ones.

        Args:
            model: with a parameter of every name; states that exist are forgotten.
        """
        now = dict(model.named_parameters())
        for optimizer in self.optimizers:
            optimizer.state.clear()
            for group in optimizer.param_groups:
                group["params"] = [now[self._names[p]] for p in group["params"]]
        self._names = {now[name]: name for name in self._names.values()}

    def prepare(self) -> None:
        """Makes the whole state before the first step: a sharded load fills tensors that exist."""
        for optimizer in self.optimizers:
            optimizer.prepare()

    def tensors(self) -> dict[str, Tensor]:
        """Returns the whole state as named tensors: what a checkpoint keeps."""
        return {
            f"{number}.{index}.{key}": value
            for number, optimizer in enumerate(self.optimizers)
            for index, parameter in enumerate(_parameters(optimizer))
            for key, value in optimizer.state.get(parameter, {}).items()
        }

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes back a state that `tensors` gave; copies it, to wherever the parameters are.

        Raises:
            ConfigError: the state is of another optimizer or another model.
        """
        everything = [(o, _parameters(o)) for o in self.optimizers]
        for optimizer in self.optimizers:
            optimizer.state.clear()
        for name, value in tensors.items():
            number, index, key = name.split(".", 2)
            if int(number) >= len(everything) or int(index) >= len(everything[int(number)][1]):
                raise _of_another(name, value, "nothing")
            optimizer, parameters = everything[int(number)]
            parameter = parameters[int(index)]
            if not optimizer.state[parameter]:
                optimizer.state[parameter] = optimizer.fresh(parameter)
            state = optimizer.state[parameter]
            if key not in state or state[key].shape != value.shape:
                have = {known: list(tensor.shape) for known, tensor in state.items()}
                raise _of_another(name, value, str(have))
            state[key].copy_(spread_like(value.to(state[key].device), state[key]))


def _by_settings(assigned: Iterable[Assignment]) -> list[dict[str, Any]]:
    """Parameter groups: embeddings, head, vectors, matrices; those with the same settings together."""
    groups: dict[tuple[int, float, float], list[Tensor]] = {}
    for one in sorted(assigned, key=lambda one: _ORDER[one.role]):
        groups.setdefault((_ORDER[one.role], one.rate, one.weight_decay), []).append(one.parameter)
    return [{"params": p, "lr": rate, "weight_decay": decay} for (_, rate, decay), p in groups.items()]


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def _of_another(name: str, value: Tensor, have: str) -> ConfigError:
    return ConfigError(
        f"the checkpoint's optimizer state '{name}' of shape {list(value.shape)} has no place here ({have})",
        where="optimizer",
        fix="go on with the optimizer and the model that the checkpoint was made with, or start anew",
    )
