"""Tokens per second in training: ingot's Trainer, nanoGPT, and the Trainer of transformers.

The work is nanoGPT's 10.65 M character model: 6 layers, 6 heads, 384 wide, context 256, batch 16, dropout 0,
AdamW, clipping at 1. Every side may use its best setting on a CPU: nanoGPT has float32 only, eager or
compiled; transformers bf16, eager or compiled. With the same weights all sides give the same loss; that is
checked first.

    python benchmarks/train_throughput.py --peer DIR --data FILE
"""

from __future__ import annotations

import statistics
import sys
from typing import Any

import measure
from claims import Claim, result

from ingot import device

AGREEMENT = 1e-4  # of the losses in float32, in nats
SIDE = measure.HERE / "throughput_side.py"


def main() -> None:
    """Checks, measures in turn, judges."""
    parser = measure.arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=15.0, help="of measured steps, per side and round")
    given = measure.given(parser)
    shared: list[str] = ["--seconds", str(0.0 if given.quick else given.seconds)]
    shared += ["--quick"] if given.quick else []
    shared += [] if given.peer is None else ["--peer", str(given.peer)]
    shared += [] if given.data is None else ["--data", str(given.data)]

    same = measure.work([sys.executable, SIDE, "check", *shared])
    _demand_equality(same)
    sides = _sides(given.quick, given.peer is not None)
    commands: dict[str, measure.Command] = {
        name: [sys.executable, SIDE, *words, *shared] for name, words in sides.items()
    }
    figures = measure.alternate(commands, 1 if given.quick else given.rounds)
    peaks = {kind: max(one[kind] for one in figures["peaks"]) for kind in ("fp32", "bf16")}
    del figures["peaks"]
    table = {
        name: _summary(rounds, same["flops_per_token"], peaks["bf16" if "bf16" in name else "fp32"])
        for name, rounds in figures.items()
    }
    us = _best(table, "ingot")
    them = _best({name: one for name, one in table.items() if "bf16" not in name}, "nanogpt")
    others = _best(table, "transformers")
    speed = "tokens_per_second"
    claims = [
        Claim("nanoGPT, its best setting", _of(us, speed), _of(them, speed), "tokens/s", "higher", times=4),
        Claim("transformers' Trainer", _of(us, speed), _of(others, speed), "tokens/s", "higher", times=2),
    ]
    spread = {
        "ours": us and us["spread"],
        "peer": them and them["spread"],
        "transformers": others and others["spread"],
    }
    details = {
        "check": same,
        "gemm_flops": peaks,
        "sides": table,
        "data": "random" if given.data is None else "text",
        "nanogpt": None if given.peer is None else measure.commit(given.peer),
    }
    packages = ("transformers", "accelerate", "numpy")
    found = result("train_throughput", claims, spread, details, quick=given.quick, packages=packages)
    measure.report(found, given.save)


def _sides(quick: bool, peer: bool) -> dict[str, list[str]]:
    """Every side with its words; compiled ones where there is a compiler, and not in a smoke run."""
    compiled = device.compiler() is not None and not quick
    fast = ["--bf16"] if device.has_fast_bf16() else []
    kind = "bf16" if fast else "fp32"
    sides = {"peaks": ["peaks"], f"ingot {kind}": ["ours", *fast]}
    if compiled:
        del sides[f"ingot {kind}"]
        sides[f"ingot {kind} compiled"] = ["ours", *fast, "--compile"]
    if peer:
        sides["nanogpt fp32"] = ["nanogpt"]
        if compiled:
            sides["nanogpt fp32 compiled"] = ["nanogpt", "--compile"]
            sides["nanogpt bf16 compiled (not as shipped)"] = ["nanogpt", "--bf16", "--compile"]
    if device.version_of("transformers") and device.version_of("accelerate"):
        sides[f"transformers {kind}"] = ["transformers", *fast]
        if compiled:
            sides[f"transformers {kind} compiled"] = ["transformers", *fast, "--compile"]
    else:
        measure.say("transformers and accelerate are not both installed: that side is null")
    return sides


def _summary(rounds: list[dict[str, Any]], flops_per_token: float, peak: float) -> dict[str, Any]:
    """A side's medians over rounds."""
    speed = measure.median(rounds, "tokens_per_second")
    return {
        "tokens_per_second": speed,
        "spread": measure.spread(rounds, "tokens_per_second"),
        "model_flops": speed * flops_per_token,
        "share_of_gemm_peak": speed * flops_per_token / peak,
        "peak_memory": statistics.median(one["peak_memory"] for one in rounds),
        "rounds": rounds,
    }


def _best(table: dict[str, dict[str, Any]], system: str) -> dict[str, Any] | None:
    """The fastest setting of a system, or None where it was not run."""
    settings = [one | {"setting": name} for name, one in table.items() if name.startswith(system)]
    return max(settings, key=lambda one: float(one["tokens_per_second"]), default=None)


def _of(side: dict[str, Any] | None, key: str) -> float | None:
    return None if side is None else float(side[key])


def _demand_equality(same: dict[str, Any]) -> None:
    """Ends the run unless all sides compute the same."""
    losses, counts = same["losses"], same["parameters"]
    if max(losses.values()) - min(losses.values()) > AGREEMENT:
        sys.exit(f"the sides do not compute the same: losses {losses}")
    if counts.get("nanogpt", counts["ingot"]) != counts["ingot"]:
        sys.exit(f"the sides do not train the same model: parameters {counts}")


if __name__ == "__main__":
    main()
