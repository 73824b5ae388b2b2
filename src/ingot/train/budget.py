"""What there is to spend: minutes or hours or dollars, on this machine or on a named device.

    --dollars 50 --device h200 --gpus 8   ->   hours   ->   FLOPs of training

A device that is not here cannot be measured: its peak is looked up, and a share of it is assumed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from ingot.errors import ConfigError, did_you_mean
from ingot.train.peaks import dense_peak

SHARE_OF_PEAK = 0.35
"""What training is assumed to reach of a device's dense bf16 peak: torchtitan states 33 to 39 % for Llama
3.1 8B on H100 (benchmarks/llama3_h100_202412). Narrow models reach less, so a plan calls it assumed."""

SHARE_RANGE = (0.2, 0.5)
"""Where the true share may lie."""

SHARE_OF_EVERY_GPU = 0.95
"""What each of several devices keeps of its own rate while they exchange gradients; assumed."""

PRICES_AS_OF = "spring 2026"
"""When the default prices were looked up: round middles of what specialised clouds asked for one hour on
demand (RunPod in March, a survey of 22 clouds in May 2026); between clouds they differ by a factor of two."""


class Device(NamedTuple):
    """An accelerator that may be elsewhere."""

    name: str
    driver_name: str  # what its driver calls it; the peak is looked up by it
    memory: float  # bytes
    price: float  # dollars per hour on demand, assumed

    @property
    def peak(self) -> float:
        """FLOP/s of dense bf16 matrix products with fp32 sums."""
        found = dense_peak(self.driver_name)
        assert found is not None, self.driver_name
        return found


# Memory from the makers' data sheets; peaks and their sources are in peaks.py.
_DEVICES = (
    Device("a100", "A100-SXM4-80GB", 80e9, 1.4),
    Device("h100", "H100 80GB HBM3", 80e9, 2.8),
    Device("h200", "H200", 141e9, 3.8),
    Device("b200", "B200", 180e9, 6.0),
    Device("l4", "L4", 24e9, 0.45),
    Device("l40s", "L40S", 48e9, 0.8),
    Device("rtx3090", "GeForce RTX 3090", 24e9, 0.25),
    Device("rtx4090", "GeForce RTX 4090", 24e9, 0.35),
    Device("mi300x", "Instinct MI300X", 192e9, 2.5),
)
DEVICES = {device.name: device for device in _DEVICES}


class Budget(NamedTuple):
    """What a plan may spend.

    `device` is None for the machine that plans; `seconds` is None where only the recipe says how long;
    `price` is dollars per hour for all devices together, None where nobody asked.
    """

    seconds: float | None = None
    device: Device | None = None
    gpus: int = 1
    price: float | None = None
    price_given: bool = False

    def flops_per_second(self) -> float | None:
        """Returns the training rate that is assumed of a device that is not here, or None."""
        if self.device is None:
            return None
        kept = SHARE_OF_EVERY_GPU if self.gpus > 1 else 1.0
        return self.device.peak * SHARE_OF_PEAK * self.gpus * kept

    def cost(self, seconds: float) -> float | None:
        """Returns dollars for so many seconds, or None where no price is known."""
        return None if self.price is None else self.price * seconds / 3600

    def plain(self) -> dict[str, Any]:
        """Returns what the plan rests on as plain data."""
        found: dict[str, Any] = {"device": self.device.name if self.device else "this machine"}
        found["gpus"] = self.gpus
        if self.device is not None:
            found |= {"peak_tflops": self.device.peak / 1e12, "share_of_peak": SHARE_OF_PEAK}
        if self.price is not None:
            found["dollars_per_hour"] = round(self.price, 4)
            found["price"] = "given" if self.price_given else f"assumed ({PRICES_AS_OF})"
        return found


def budget(
    *,
    minutes: float | None = None,
    hours: float | None = None,
    dollars: float | None = None,
    device: str = "auto",
    gpus: int = 1,
    price: float | None = None,
) -> Budget:
    """Turns what a person has into what a plan may spend.

    Args:
        minutes, hours, dollars: at most one of them; none leaves the recipe's own minutes.
        device: a name of the table, or one of this machine ("auto", "cpu", "cuda" ...).
        gpus: how many of a named device.
        price: dollars per hour of one device; None takes the table's, which is an assumption.

    Raises:
        ConfigError: two limits at once, a number that is not above zero, dollars without a price, several
            devices of this machine, or an unknown device.

    Example:
        >>> round(budget(dollars=50, device="h200", gpus=8).seconds / 60)
        99
    """
    given = {name: value for name, value in _limits(minutes, hours, dollars).items() if value is not None}
    if len(given) > 1:
        both = " and ".join(f"--{name} {value:g}" for name, value in given.items())
        raise ConfigError(f"{both} both limit the run", where="plan", fix="give one of them")
    for name, value in {**given, "gpus": gpus, "price": price}.items():
        if value is not None and not 0 < value < float("inf"):
            raise ConfigError(f"{value:g} is not above zero", where=f"--{name}", fix="give a positive number")
    found = _device(device)
    if found is None and gpus != 1:
        what = f"{gpus} devices asked for, but '{device}' is this machine"
        raise ConfigError(what, where="--gpus", fix=f"name the device: {', '.join(DEVICES)}")
    each = price if price is not None else None if found is None else found.price
    if dollars is not None and each is None:
        what = f"{dollars:g} dollars buy an unknown time here"
        raise ConfigError(what, where="--dollars", fix="add --price (dollars per hour) or --device h200")
    total = None if each is None else each * gpus
    seconds = None
    if minutes is not None or hours is not None:
        seconds = 60 * (minutes or 0) + 3600 * (hours or 0)
    elif dollars is not None and total is not None:
        seconds = 3600 * dollars / total
    return Budget(seconds, found, gpus, total, price is not None)


def _limits(*values: float | None) -> dict[str, float | None]:
    return dict(zip(("minutes", "hours", "dollars"), values, strict=True))


def _device(name: str) -> Device | None:
    """The named device, or None for one of this machine."""
    if name.lower() in DEVICES:
        return DEVICES[name.lower()]
    if name.partition(":")[0] in ("auto", "cpu", "cuda", "mps"):
        return None
    known = ["auto", "cpu", "cuda", *DEVICES]
    raise ConfigError(f"unknown device '{name}'", where="--device", fix=did_you_mean(name.lower(), known))
