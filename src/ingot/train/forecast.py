"""What a planned run is expected to reach: bits per byte of held-out text, with its doubt.

```
weights              up to 12 M            in between         70 M and more
different tokens     or up to 30 M         in between         and 5 G and more
what is asked        our own small runs    both, blended      the published law
```

The published law was fitted on models of 70 M to 16 B weights and 5 G tokens or more; carried down to a
laptop's minutes it is several times too high. Down there the forecast rests on runs of this package
(docs/planning.md).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ingot.models.decoder import DecoderConfig
from ingot.train.law import BESIROGLU, HOFFMANN, Law, Measured, counted_tokens
from ingot.train.planner import matrix_parameters

OWN_RUNS = (  # weights in products, tokens worth (counted_tokens), held-out bits per byte
    Measured(0.737e6, 0.164e6, 2.311),
    Measured(0.737e6, 0.328e6, 2.125),
    Measured(0.950e6, 0.614e6, 1.929),
    Measured(1.966e6, 0.328e6, 2.056),
    Measured(1.966e6, 0.532e6, 1.904),
    Measured(11.0e6, 0.983e6, 1.760),
    Measured(6.80e6, 4.75e6, 1.311),
    Measured(1.966e6, 10.8e6, 1.193),  # the mean of four runs: 1.165 to 1.216
)
"""Python's standard library, vocabulary 4096, contexts of 512, the default optimizer and schedule."""

OWN = Law(0.5, 2.865, 32.9, 0.34, 0.24)
"""Bits per byte, fitted to OWN_RUNS with Hoffmann's power for the size and a floor such as large models of
code reach: eight runs cannot tell the floor. It meets every one of them within 5 %."""

OWN_UP_TO = Measured(1.2e7, 3e7, math.nan)  # tokens, repeated ones counted for what they are worth
PUBLISHED_FROM = Measured(7e7, 5e9, math.nan)
_BYTES_PER_TOKEN = (
    4.48  # of the text behind the published law (Rae et al. 2021, arXiv 2112.11446, section 3.1)
)
_OWN_DOUBT = 1.10  # a run like OWN_RUNS on another machine, with another seed
_OTHER_TEXT = 1.5  # a corpus that was never measured: prose costs more than code, tables less
_PUBLISHED_DOUBT = 1.10  # another text and tokenizer than the law's
_BETWEEN_DOUBT = 1.10  # besides those of both sides


class Forecast(NamedTuple):
    """Bits per byte of held-out text, the bounds that should hold them, and what they rest on."""

    bits_per_byte: float
    low: float
    high: float
    basis: str

    def nats_per_token(self, bytes_per_token: float) -> tuple[float, float, float]:
        """Returns the loss and its bounds in the unit that training logs, for a known tokenizer."""
        nats = math.log(2) * bytes_per_token
        return self.bits_per_byte * nats, self.low * nats, self.high * nats

    def plain(self) -> dict[str, Any]:
        """Returns it as plain data."""
        bounds = [round(self.low, 4), round(self.high, 4)]
        return {"value": round(self.bits_per_byte, 4), "interval": bounds, "basis": self.basis}


def forecast(parameters: float, tokens: float, unique: float, own_text: bool = False) -> Forecast:
    """Returns what a run should reach.

    Args:
        parameters: that take part in products (without the embedding).
        tokens: seen in all.
        unique: different ones among them.
        own_text: whether the text is the user's, of which nothing is known.
    """
    worth = counted_tokens(tokens, unique)
    edges = zip((parameters, worth), OWN_UP_TO[:2], PUBLISHED_FROM[:2], strict=True)
    place = min(math.log(value / low) / math.log(high / low) for value, low, high in edges)
    if place <= 0:
        return _ours(parameters, worth, own_text)
    if place >= 1:
        return _published(parameters, worth)
    small, large = _ours(parameters, worth, own_text), _published(parameters, worth)
    basis = "between our own runs and the published law, where neither was measured"
    value, low, high = (a ** (1 - place) * b**place for a, b in zip(small[:3], large[:3], strict=True))
    return Forecast(value, low / _BETWEEN_DOUBT, high * _BETWEEN_DOUBT, basis)


def _ours(parameters: float, worth: float, own_text: bool) -> Forecast:
    bits = OWN.loss(parameters, worth)
    doubt = _OTHER_TEXT if own_text else _OWN_DOUBT
    basis = "our own runs on Python's standard library"
    if parameters > OWN_UP_TO.parameters or worth > OWN_UP_TO.tokens:
        doubt *= _OWN_DOUBT
        basis += ", carried further than they reach"
    if own_text:
        basis += ": another text can lie far away"
    return Forecast(bits, bits / doubt, bits * doubt, basis)


def _published(parameters: float, worth: float) -> Forecast:
    nats = [law.loss(parameters, worth) for law in (BESIROGLU, HOFFMANN)]
    bits = [value / math.log(2) / _BYTES_PER_TOKEN for value in nats]
    basis = f"the law of Besiroglu et al. 2024: {nats[0]:.2f} nats per token of English web text"
    return Forecast(bits[0], min(bits) / _PUBLISHED_DOUBT, max(bits) * _PUBLISHED_DOUBT, basis)


def prediction(
    model: DecoderConfig,
    *,
    tokens: int,
    seconds: float,
    unique: int,
    own_text: bool,
    bytes_per_token: float | None,
    memory: int,
) -> dict[str, Any]:
    """Returns what a plan says before step 1, for the report to set beside what came of it.

    Args:
        model: that will be trained.
        tokens: that it will see.
        seconds: that this should take.
        unique: different tokens among them.
        own_text: see `forecast`.
        bytes_per_token: of held-out text under the tokenizer, or None.
        memory: bytes that the process should hold at most.
    """
    expected = forecast(matrix_parameters(model), tokens, unique, own_text)
    said: dict[str, Any] = {
        "tokens": tokens,
        "seconds": round(seconds, 1),
        "tokens_per_second": round(tokens / seconds, 1),
        "memory": memory,
        "bits_per_byte": expected.plain(),
    }
    if bytes_per_token is not None:
        value, low, high = expected.nats_per_token(bytes_per_token)
        said["validation"] = {"value": round(value, 4), "interval": [round(low, 4), round(high, 4)]}
    return said
