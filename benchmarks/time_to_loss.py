"""How soon a character model of tiny Shakespeare is as good as nanoGPT's, from the start of the process.

nanoGPT's own line for CPUs (4 layers, 128 wide, context 64, 2,000 steps) is timed as a process and its
checkpoint scored. Ours (shakespeare.py) is another model that is trained otherwise: what counts is the loss
over the whole validation split, in windows of each model's own context, and the seconds from the start of
the process to its end, reading the text and scoring counted.

    python benchmarks/time_to_loss.py --peer DIR --data FILE
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import measure
from claims import Claim, result

LOSS = 1.8857  # nats per character: what nanoGPT's line reaches
SECONDS = 10.0  # to get there, with a warm compile cache
LONG_LOSS, LONG_SECONDS = 1.60, 60.0
STEPS = {"short": 100, "long": 640}
"""Of shakespeare.py: enough for each loss on two AMX cores, with a little to spare."""

NANOGPT = ("config/train_shakespeare_char.py", "--device=cpu", "--compile=False")
SIZES = ("--block_size=64", "--batch_size=12", "--n_layer=4", "--n_head=4", "--n_embd=128", "--dropout=0.0")
LENGTH = ("--eval_iters=20", "--log_interval=1", "--max_iters=2000", "--lr_decay_iters=2000")
QUICK = ("--eval_iters=1", "--eval_interval=2", "--max_iters=2", "--lr_decay_iters=2", "--warmup_iters=1")


def main() -> None:
    """Times both sides in turn, ours first with an empty compile cache, and judges."""
    given = measure.given(measure.arguments(__doc__))
    if given.data is None:
        sys.exit(f"error: time_to_loss needs the text; give --data FILE or set ${measure.DATA}")
    rounds = 1 if given.quick else given.rounds
    with tempfile.TemporaryDirectory() as folder:
        cache = {"TORCHINDUCTOR_CACHE_DIR": str(Path(folder, "compiled"))}
        peer = None if given.peer is None else _copy(given.peer, Path(folder, "nanoGPT"), given.data)
        cold = _ours("short", 0, given, cache)
        short, long, theirs = [], [], []
        for number in range(rounds):
            short.append(_ours("short", number, given, cache))
            if peer is not None:
                theirs.append(_nanogpt(peer, given.quick))
            if number == 0:
                _ours("long", number, given, cache)  # fills the cache
            long.append(_ours("long", number, given, cache))
    seconds = {name: _times(runs) for name, runs in (("short", short), ("long", long), ("peer", theirs))}
    peer_seconds = statistics.median(seconds["peer"]) if theirs else None
    worst = {"short": max(one["loss"] for one in short), "long": max(one["loss"] for one in long)}
    peer_loss = max(one["loss"] for one in theirs) if theirs else None
    took = statistics.median(seconds["short"])
    claims = [
        Claim("warm start to the loss of nanoGPT", took, peer_seconds, "s", "lower", limit=SECONDS),
        Claim("the loss there, worst round", worst["short"], peer_loss, "nats", "lower", limit=LOSS),
        Claim("loss of the long run, worst round", worst["long"], None, "nats", "lower", limit=LONG_LOSS),
        Claim("its seconds, slowest round", max(seconds["long"]), None, "s", "lower", limit=LONG_SECONDS),
        Claim("cold start to the loss of nanoGPT", cold["process_seconds"], peer_seconds, "s", "lower"),
    ]
    spread = {
        "ours": measure.spread(short, "process_seconds"),
        "peer": measure.spread(theirs, "process_seconds") if theirs else None,
    }
    details = {
        "cold": cold,
        "short": short,
        "long": long,
        "nanogpt": {"commit": measure.commit(given.peer), "runs": theirs} if given.peer else None,
    }
    found = result("time_to_loss", claims, spread, details, quick=given.quick, packages=("numpy",))
    measure.report(found, given.save)


def _ours(size: str, seed: int, given: Any, cache: measure.Environment) -> dict[str, Any]:
    """One process of ours; every round has a seed of its own."""
    steps = ["--steps", "3", "--eager"] if given.quick else ["--steps", str(STEPS[size])]
    command = [
        sys.executable,
        measure.HERE / "shakespeare.py",
        given.data,
        "--size",
        size,
        "--seed",
        str(seed),
    ]
    found = measure.work([*command, *steps], cache)
    measure.say(f"ours, {size}, seed {seed}: {found['loss']:.4f} in {found['process_seconds']:.2f} s")
    return found


def _nanogpt(folder: Path, quick: bool) -> dict[str, Any]:
    """One process of nanoGPT's, timed; then another that scores what it saved."""
    line = [*NANOGPT, *SIZES, *(QUICK if quick else LENGTH)]
    timed = measure.work([sys.executable, "train.py", *line], folder=folder)
    scored = measure.work([sys.executable, measure.HERE / "nanogpt_score.py", *line], folder=folder)
    measure.say(f"nanoGPT: {scored['loss']:.4f} in {timed['process_seconds']:.2f} s")
    return {"loss": scored["loss"], "parameters": scored["parameters"], **timed}


def _copy(peer: Path, target: Path, text: Path) -> Path:
    """A copy of the checkout with the text prepared by its own script; the checkout stays as it is."""
    shutil.copytree(peer, target, ignore=shutil.ignore_patterns(".git", "out*"))
    data = target / "data" / "shakespeare_char"
    shutil.copyfile(text, data / "input.txt")
    measure.work([sys.executable, data / "prepare.py"], folder=target)
    return target


def _times(runs: list[dict[str, Any]]) -> list[float]:
    return [float(one["process_seconds"]) for one in runs]


if __name__ == "__main__":
    main()
