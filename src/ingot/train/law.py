"""Scaling laws: the loss that a model of some size reaches on some number of tokens.

    L(N, D) = E + A / N^alpha + B / D^beta       N parameters, D tokens

The first part is the entropy of the text, the second what a finite model misses, the third what finite
data leave unlearnt (Hoffmann et al. 2022, arXiv 2203.15556, section 3.3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ingot.errors import DataError

FLOPS_PER_WEIGHT = 6
"""Per token, forward and backward (Kaplan et al. 2020, arXiv 2001.08361, section 2.1)."""

REPEATS = 15.39
"""After how many repetitions a token's worth has fallen to 1/e: Muennighoff et al. 2023, arXiv 2305.16264."""

EXCESS = 5.31
"""The same for weights beyond what the different tokens are enough for."""

FEWEST_RUNS = 6
_HUBER = 1e-3
_POWERS = (0.2, 0.35, 0.5, 0.8)


class Law(NamedTuple):
    """The five numbers of a law, and what follows from them."""

    floor: float  # E, in the unit of the loss
    size_scale: float  # A
    data_scale: float  # B
    size_power: float  # alpha
    data_power: float  # beta

    def loss(self, parameters: float, tokens: float) -> float:
        """Returns the loss of a model with so many parameters after so many different tokens."""
        return (
            self.size_scale / parameters**self.size_power
            + self.data_scale / tokens**self.data_power
            + self.floor
        )

    def optimum(self, flops: float) -> tuple[float, float]:
        """Returns the parameters and tokens that spend a compute budget best (Hoffmann, equation 4).

        Args:
            flops: C = 6 N D, of the whole training.

        Example:
            >>> parameters, tokens = BESIROGLU.optimum(5.76e23)
            >>> round(tokens / parameters)
            18
        """
        both = self.size_power + self.data_power
        ratio = (self.size_power * self.size_scale / (self.data_power * self.data_scale)) ** (1 / both)
        products = flops / FLOPS_PER_WEIGHT
        return ratio * products ** (self.data_power / both), products ** (self.size_power / both) / ratio

    def suited(self, tokens: float) -> float:
        """Returns the size whose optimal number of tokens this is: there N and D are worth the same."""
        slopes = self.size_power * self.size_scale / (self.data_power * self.data_scale)
        return (slopes * tokens**self.data_power) ** (1 / self.size_power)


HOFFMANN = Law(1.69, 406.4, 410.7, 0.34, 0.28)
"""As printed in Hoffmann et al. 2022, equation 10: nats per token of English web text. The rounding makes
it ask for too many tokens at large budgets; the refit below agrees with the paper's other two methods."""

BESIROGLU = Law(1.8172, 482.01, 2085.43, 0.3478, 0.3658)
"""The same experiments fitted again: Besiroglu et al. 2024, arXiv 2404.10102, table 1."""


def counted_tokens(tokens: float, unique: float) -> float:
    """Returns how many new tokens a repeated text is worth (Muennighoff et al. 2023, equation 5).

    Four epochs are worth almost four times the text; no number of them more than 16.4 times.

    Args:
        tokens: seen in all.
        unique: different ones among them.
    """
    repeats = max(0.0, tokens / unique - 1)
    return min(tokens, unique) + unique * REPEATS * (1 - math.exp(-repeats / REPEATS))


def counted_parameters(parameters: float, unique: float, law: Law) -> float:
    """Returns what a model is worth that has more weights than its text suits (Muennighoff, equation 6).

    Args:
        parameters: of the model.
        unique: different tokens of the text.
        law: which says how many weights suit them.
    """
    suited = min(parameters, law.suited(unique))
    excess = parameters / suited - 1
    return suited + suited * EXCESS * (1 - math.exp(-excess / EXCESS))


class Measured(NamedTuple):
    """A finished training run: its size, the different tokens that it saw, its loss on held-out text."""

    parameters: float
    tokens: float
    loss: float


class Fit(NamedTuple):
    """A fitted law, those of the resampled runs, and how far the runs lie from the law."""

    law: Law
    resampled: list[Law]
    residuals: list[float]  # of the logarithm of the loss

    def interval(self, parameters: float, tokens: float, share: float = 0.95) -> tuple[float, float]:
        """Returns the bounds that hold a new run's loss with probability `share`.

        Each resampled law's prediction meets each residual: the law's own doubt, and a run's chance.

        Raises:
            DataError: the law was fitted without resampling.
        """
        if not self.resampled:
            raise DataError("a fit without resampling has no interval", fix="fit with resamples=200")
        freedom = math.sqrt(len(self.residuals) / max(1, len(self.residuals) - len(self.law)))
        centres = np.log([law.loss(parameters, tokens) for law in self.resampled])
        spread = centres[:, None] + freedom * np.array(self.residuals)[None, :]
        low, high = np.exp(np.quantile(spread, [(1 - share) / 2, (1 + share) / 2]))
        return float(low), float(high)


def fit(runs: Sequence[Measured], resamples: int = 0, seed: int = 0) -> Fit:
    """Fits a law to runs: Huber loss between logarithms, L-BFGS from several starts (Hoffmann, 3.3).

    The sum over the runs is minimised, not the mean: with the mean the optimizer stops too early
    (Besiroglu et al. 2024, section 3). For given powers the other three numbers are a linear problem,
    which gives the starts.

    Args:
        runs: at least six, of several sizes and several numbers of tokens.
        resamples: bootstrap fits for intervals (runs drawn with replacement).
        seed: of the resampling.

    Raises:
        DataError: too few runs, or all of one size or one number of tokens.
    """
    _check(runs)
    table = np.array(runs, dtype=np.float64)
    best = min((_descend(start, table) for start in _starts(table)), key=lambda found: found[0])[1]
    law = _law(best)
    residuals = [math.log(run.loss / law.loss(run.parameters, run.tokens)) for run in runs]
    chance = np.random.default_rng(seed)
    resampled: list[Law] = []
    while len(resampled) < resamples:
        drawn = table[chance.integers(0, len(table), len(table))]
        if min(len(np.unique(drawn[:, 0])), len(np.unique(drawn[:, 1]))) > 1:
            resampled.append(_law(_descend(best, drawn)[1]))
    return Fit(law, resampled, residuals)


def _check(runs: Sequence[Measured]) -> None:
    if len(runs) < FEWEST_RUNS:
        what = f"{len(runs)} runs are too few for a law of five numbers"
        raise DataError(what, where="scaling law", fix=f"measure {FEWEST_RUNS} or more")
    for name in ("parameters", "tokens"):
        values = {getattr(run, name) for run in runs}
        if len(values) < 2:
            what = f"all runs have the same number of {name} ({values.pop():,.0f})"
            raise DataError(what, where="scaling law", fix=f"measure runs of several numbers of {name}")
    if not all(value > 0 and math.isfinite(value) for run in runs for value in run):
        raise DataError("a run has a number that is not above zero", where="scaling law", fix="leave it out")


def _law(x: NDArray[Any]) -> Law:
    floor, size, data = (math.exp(min(float(value), 300.0)) for value in x[:3])
    return Law(floor, size, data, float(x[3]), float(x[4]))


def _starts(table: NDArray[Any]) -> list[NDArray[Any]]:
    """Logarithms of E, A, B and the powers, for each pair of powers of a small grid."""
    from scipy.optimize import nnls

    parameters, tokens, loss = table.T
    starts = []
    for alpha in _POWERS:
        for beta in _POWERS:
            terms = np.stack([np.ones_like(loss), parameters**-alpha, tokens**-beta], axis=1)
            scales, _ = nnls(terms / loss[:, None], np.ones_like(loss))
            least = 1e-3 * loss.mean() / terms.max(axis=0)  # a zero has no logarithm
            starts.append(np.array([*np.log(np.maximum(scales, least)), alpha, beta]))
    return starts


def _descend(start: NDArray[Any], table: NDArray[Any]) -> tuple[float, NDArray[Any]]:
    """Minimises the sum of Huber losses from a start; returns the least sum and where it is."""
    from scipy.optimize import minimize

    log_size, log_data, log_loss = np.log(table).T

    def objective(x: NDArray[Any]) -> tuple[float, NDArray[Any]]:
        parts = np.stack([np.full_like(log_size, x[0]), x[1] - x[3] * log_size, x[2] - x[4] * log_data])
        predicted = np.logaddexp.reduce(parts)
        error = predicted - log_loss
        inside = np.abs(error) <= _HUBER
        value = np.where(inside, error**2 / 2, _HUBER * (np.abs(error) - _HUBER / 2)).sum()
        shares = np.exp(parts - predicted)
        pull = np.where(inside, error, _HUBER * np.sign(error))
        by_size, by_data = pull * shares[1], pull * shares[2]
        slopes = [(pull * shares[0]).sum(), by_size.sum(), by_data.sum()]
        slopes += [-(by_size * log_size).sum(), -(by_data * log_data).sum()]
        return float(value) / _HUBER**2, np.array(slopes) / _HUBER**2

    bounds = [(None, None)] * 3 + [(0.0, 3.0)] * 2
    found = minimize(
        objective, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 2000, "ftol": 1e-12}
    )
    return float(found.fun), np.asarray(found.x)
