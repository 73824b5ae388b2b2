"""Tokens per second and MFU on a GPU: nanoGPT's bench.py work, and a model of a billion weights.

124 M: 12 layers, 12 heads, 768 wide, context 1,024, batch 12, bf16, compiled, AdamW, no clipping; both sides
on random tokens. MFU counts six FLOPs per weight in a product and causal attention's half, and divides by the
dense bf16 peak of the device; where nobody knows that, it is n/a. Without a GPU nothing is run.

    python benchmarks/gpu_throughput.py --peer DIR
"""

from __future__ import annotations

import sys
from typing import Any

import measure
import torch
from claims import Claim, result

from ingot.train.peaks import dense_peak, utilisation

SIDE = measure.HERE / "throughput_side.py"
OURS, THEIRS, LARGE = "ingot 124M", "nanogpt 124M", "ingot 1B"


def main() -> None:
    """Measures in turn where there is a GPU, and judges."""
    parser = measure.arguments(__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of measured steps, per side and round")
    given = measure.given(parser)
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    figures: dict[str, list[dict[str, Any]]] = {}
    if name is None:
        measure.say("no GPU here: every figure is n/a")
    else:
        shared = ["--device", "cuda", "--bf16", "--seconds", str(0.0 if given.quick else given.seconds)]
        shared += ["--quick"] if given.quick else ["--compile"]
        sides: dict[str, measure.Command] = {
            OURS: [SIDE, "ours", "--size", "124M"],
            LARGE: [SIDE, "ours", "--size", "1B"],
        }
        if given.peer is not None:
            sides[THEIRS] = [SIDE, "nanogpt", "--size", "124M", "--peer", given.peer]
        commands: dict[str, measure.Command] = {
            side: [sys.executable, *words, *shared] for side, words in sides.items()
        }
        figures = measure.alternate(commands, 1 if given.quick else given.rounds)
    peak = None if name is None else dense_peak(name)
    speeds = {side: measure.median(rounds, "tokens_per_second") for side, rounds in figures.items()}
    shares = {side: _percent(rounds, peak) for side, rounds in figures.items()}
    claims = [
        Claim(
            "nanoGPT's bench.py, compiled", speeds.get(OURS), speeds.get(THEIRS), "tokens/s", "higher", 1.15
        ),
        Claim("MFU at 124 M", shares.get(OURS), shares.get(THEIRS), "%", "higher", limit=50),
        Claim("MFU at 1 B", shares.get(LARGE), None, "%", "higher", limit=55),
    ]
    spreads = {side: measure.spread(rounds, "tokens_per_second") for side, rounds in figures.items()}
    details = {
        "device": name or "n/a",
        "dense_bf16_peak": peak or "n/a",
        "sides": figures,
        "spreads": spreads,
        "nanogpt": None if given.peer is None else measure.commit(given.peer),
    }
    spread = {"ours": spreads.get(OURS), "peer": spreads.get(THEIRS)}
    # What a GPU once gave is worth more than the n/a of a machine without one.
    save = given.save if name or (given.save and not given.save.exists()) else None
    measure.report(result("gpu_throughput", claims, spread, details, quick=given.quick), save)


def _percent(rounds: list[dict[str, Any]], peak: float | None) -> float | None:
    """Model FLOPs utilisation in per cent, or None where the peak is unknown."""
    speed = measure.median(rounds, "tokens_per_second")
    share = utilisation(speed, rounds[0]["flops_per_token"], peak)
    return None if share is None else 100 * share


if __name__ == "__main__":
    main()
