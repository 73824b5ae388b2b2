"""What ingot's training loop costs over a bare PyTorch loop that somebody wrote by hand.

```
our run:   step step ... step | hook | step step ... step | hook | ...
                                 `-- the bare loop makes as many steps on a copy of the model
```

Both train the same model on the same batches with AdamW, clipping and the same precision, in one process
and in turn, so that a busy minute of the machine hurts them alike. Ours logs every step, guards it, prepares
the next batch in a thread and could go on after a kill; the bare loop does nothing of this. Its batches lie
ready in memory, and it uses PyTorch's fused AdamW.

    python benchmarks/loop_overhead.py
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import numpy as np
import same_model
import torch
from claims import Claim, result
from same_model import CHARACTERS, SMOKE, Work
from torch import Tensor
from torch.nn.functional import cross_entropy

from ingot import device
from ingot.allocator import keep_freed_memory
from ingot.data.stream import WindowStream
from ingot.objectives.causal import CausalLM
from ingot.optim.joint import OptimizerConfig
from ingot.optim.schedules import ScheduleConfig
from ingot.progress import Progress
from ingot.train.hooks import Hook
from ingot.train.precision import Name
from ingot.train.trainer import DTYPES, TrainConfig, Trainer

RATE, WEIGHT_DECAY, BETAS, CLIP = 1e-3, 0.1, (0.9, 0.99), 1.0
SMALL = Work(layers=4, heads=4, width=128, context=64, rows=12)
"""nanoGPT's model for CPUs: its steps are so short that whatever a loop costs shows."""

AGREEMENT = 0.01  # of the first losses: in bf16, and compiled differently
WARM = 5  # steps of each side that do not count


class Block(Hook):
    """Times our steps, and has the bare loop make as many whenever ours made a block of them.

    Args:
        bare: makes a number of steps, from a given one on, and returns their seconds.
        steps: of a block.
    """

    def __init__(self, bare: Callable[[int, int], list[float]], steps: int) -> None:
        self.bare, self.steps = bare, steps
        self.ours: list[float] = []
        self.theirs: list[float] = []
        self.waits: list[float] = []
        self._left = time.perf_counter()

    def step(self, line: dict[str, Any]) -> str | None:
        """Called by our loop at the end of each step: from the end of one call to the next is a step."""
        self.ours.append(time.perf_counter() - self._left)
        self.waits.append(line["data_seconds"])
        done = line["step"]
        if done % self.steps == 0:
            self.theirs += self.bare(done - self.steps, self.steps)
        self._left = time.perf_counter()
        return None


def compare(work: Work, blocks: int, steps: int, compiled: bool) -> dict[str, Any]:
    """Trains a model by both loops in turn.

    Args:
        work: sizes of the model and the batch.
        blocks: how often the loops take turns.
        steps: of a block.
        compiled: whether torch.compile fuses the forward and backward pass, for both.

    Returns:
        Median seconds of a step of both loops, the share that ours costs more, the share of waiting for
        data, the first and the last losses of both.
    """
    total = blocks * steps
    tokens = np.random.default_rng(0).integers(work.vocabulary, size=100_000).astype(np.uint16)
    stream = WindowStream(tokens, work.context, work.rows, seed=0)
    precision: Name = "bf16" if device.has_fast_bf16() else "fp32"
    batches = [stream.batch(step) for step in range(total)]
    losses: list[float] = []
    bare = _bare(work, batches, DTYPES[precision], compiled, losses)
    hook = Block(bare, steps)
    model = same_model.ours(work)
    optimizer = OptimizerConfig(
        name="adamw", rate=RATE, weight_decay=WEIGHT_DECAY, beta1=BETAS[0], beta2=BETAS[1], epsilon=1e-8
    )
    config = TrainConfig(
        steps=total,
        checkpoint_every=total,
        clip=CLIP,
        precision=precision,
        compile=compiled,
        threads=device.threads(),
        schedule=ScheduleConfig(kind="constant", warmup=0),
    )
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model, CausalLM(), stream, optimizer.build(model), config, Path(folder), hooks=[hook]
        )
        log = trainer.fit(Progress(), "training")
    if abs(log[0]["loss"] - losses[0]) > AGREEMENT:
        sys.exit(f"the loops do not compute the same: first losses {log[0]['loss']} and {losses[0]}")
    ours, theirs = hook.ours[WARM:], hook.theirs[WARM:]
    return {
        "ours": statistics.median(ours),
        "bare": statistics.median(theirs),
        "overhead": statistics.median(ours) / statistics.median(theirs) - 1,
        "overhead_by_block": _by_block(hook, steps),
        "data_wait": sum(hook.waits[WARM:]) / sum(ours),
        "losses": {"ours": [log[0]["loss"], log[-1]["loss"]], "bare": [losses[0], losses[-1]]},
        "steps": total,
        "compiled": compiled,
        "precision": precision,
    }


def _bare(
    work: Work, batches: list[dict[str, Tensor]], dtype: torch.dtype, compiled: bool, losses: list[float]
) -> Callable[[int, int], list[float]]:
    """The loop that somebody would write by hand, fast."""
    model = same_model.ours(work)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups: list[dict[str, Any]] = [{"params": matrices}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, weight_decay=WEIGHT_DECAY, betas=BETAS, fused=True)

    def loss_of(inputs: Tensor, targets: Tensor) -> Tensor:
        logits = model(inputs).logits  # [b, t, v]
        return cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    forward = torch.compile(loss_of, dynamic=False) if compiled else loss_of

    def run(first: int, count: int) -> list[float]:
        seconds = []
        for batch in batches[first : first + count]:
            start = time.perf_counter()
            with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
                loss = forward(batch["inputs"], batch["targets"])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            losses.append(loss.item())
            seconds.append(time.perf_counter() - start)
        return seconds

    return run


def _by_block(hook: Block, steps: int) -> list[float]:
    """Our extra share in each block but the first."""
    medians = [
        [statistics.median(side[start : start + steps]) for start in range(steps, len(side), steps)]
        for side in (hook.ours, hook.theirs)
    ]
    return [ours / theirs - 1 for ours, theirs in zip(*medians, strict=True)]


def main() -> None:
    """Compares the loops on the model of the throughput benchmark, and on one with very short steps."""
    parser = measure.arguments(__doc__)
    given = measure.given(parser, peer=False)
    keep_freed_memory()
    device.prepare_threads()
    compiled = device.compiler() is not None and not given.quick
    if given.quick:
        sizes = {"characters": (SMOKE, 2, 6), "small": (SMOKE, 2, 6)}
    else:
        sizes = {"characters": (CHARACTERS, 2 * given.rounds, 15), "small": (SMALL, 2 * given.rounds, 100)}
    found = {name: compare(work, blocks, steps, compiled) for name, (work, blocks, steps) in sizes.items()}
    for name, one in found.items():
        measure.say(f"{name}: {one['overhead']:+.2%} ({one['ours']:.5f} s, bare {one['bare']:.5f} s)")
    main_, small = found["characters"], found["small"]
    percent = {name: 100 * one["overhead"] for name, one in found.items()}
    claims = [
        Claim("our loop beyond a bare loop", percent["characters"], None, "%", "lower", limit=3),
        Claim("waiting for data", 100 * main_["data_wait"], None, "%", "lower", limit=1),
        Claim("our loop, steps of a small model", percent["small"], None, "%", "lower"),
        Claim("seconds of a step", main_["ours"], main_["bare"], "s", "lower"),
        Claim("seconds of a step, small model", small["ours"], small["bare"], "s", "lower"),
    ]
    by_block = [100 * share for share in main_["overhead_by_block"]]
    spread = {"ours": [min(by_block), max(by_block)], "peer": None}
    measure.report(result("loop_overhead", claims, spread, found, quick=given.quick), given.save)


if __name__ == "__main__":
    main()
