"""Rows of training: how many tokens are trained on, what masks and loading cost, how much memory it takes.

```
tokens       share trained on: best fit with splitting, against best fit with cropping (rows begin at a
             document and are filled to the last place; what does not fit is thrown away)
masks        tokens/s of forward and backward pass: packed rows, whose documents see themselves only, against
             windows of the same length
loading      rows/s through the trainer's prefetch, against the slower of making rows and of the step
memory       peak of a process that goes through 10 GB of tokens (a sparse file) in random order
```

    python benchmarks/packing.py
"""

from __future__ import annotations

import json
import resource
import statistics
import sys
import tempfile
import time
from bisect import bisect_right, insort
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import numpy as np
import torch
from claims import Claim, result
from numpy.typing import NDArray

from ingot import device
from ingot.allocator import keep_freed_memory
from ingot.data.pack import PackedStream
from ingot.data.stored import Stored
from ingot.data.stream import Part, Stream, WindowStream
from ingot.data.tokens import Tokens
from ingot.train.prefetch import Prefetch

END = 0
GIGABYTES = 10


def lengths_of(documents: int, seed: int = 0) -> NDArray[np.int64]:
    """Lengths as of web text: log-normal, a median of 490 tokens, a mean of 1,000."""
    drawn = np.random.default_rng(seed).lognormal(6.2, 1.2, documents)
    return np.maximum(drawn, 2).astype(np.int64)


def cropping(lengths: NDArray[np.int64], context: int, waiting: int = 1000) -> float:
    """Returns the share of tokens that best fit with cropping trains on.

    From a buffer of documents the longest that fits is taken, until none does; then the shortest is cropped
    to fill the row, and its rest is lost. Documents longer than a row lose theirs as well.
    """
    rest = iter(np.minimum(lengths, context).tolist())
    buffer: list[int] = sorted(next(rest) for _ in range(min(waiting, len(lengths))))
    used = 0
    while buffer:
        room = context
        while room and buffer:
            place = bisect_right(buffer, room) - 1
            size = buffer.pop(max(place, 0))
            used += min(size, room)
            room -= min(size, room)
            following = next(rest, None)
            if following is not None:
                insort(buffer, following)
    return used / int(lengths.sum())


def trained_share(documents: int, context: int) -> dict[str, float]:
    """Packs documents, and counts what is trained on in the rows of an epoch."""
    lengths = lengths_of(documents)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = Tokens(np.broadcast_to(np.uint16(1), offsets[-1]), offsets)
    start = time.perf_counter()
    stream = PackedStream(tokens, context, 16, 0, END)
    stream.ids(np.arange(1))
    stream.documents_of(0)
    seconds = time.perf_counter() - start
    share = int(stream.pieces.size.sum(dtype=np.int64)) / int(lengths.sum())
    some = torch.cat([stream.batch(step)["targets"] for step in range(20)])
    return {
        "trained": share,
        "trained_in_20_batches": float((some != -100).float().mean()),
        "padding": stream.padding,
        "cropping": cropping(lengths[: min(documents, 200_000)], context),
        "seconds": seconds,
        "documents": documents,
    }


def speed(context: int, rows: int, width: int, rounds: int) -> dict[str, float]:
    """Tokens/s of forward and backward pass on windows and on packed rows, in turn."""
    from torch.nn.functional import cross_entropy

    from ingot.models.decoder import DecoderConfig

    lengths = lengths_of(2000)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    drawn = np.random.default_rng(1).integers(1, 512, offsets[-1]).astype(np.uint16)
    tokens = Tokens(drawn, offsets)
    streams: dict[str, Stream] = {
        "packed": PackedStream(tokens, context, rows, 0, END),
        "windows": WindowStream(drawn, context, rows, 0),
    }
    config = DecoderConfig(
        vocabulary=512,
        width=width,
        layers=6,
        heads=width // 64,
        kv_heads=width // 64,
        head_width=64,
        feed_forward=3 * width,
        context=context,
    )
    model = config.build()
    dtype = torch.bfloat16 if device.has_fast_bf16() else torch.float32
    seconds: dict[str, list[float]] = {name: [] for name in streams}
    for step in range(rounds + 1):
        for name, stream in streams.items():
            batch = stream.batch(step)
            packed = {key: batch[key] for key in ("positions", "documents") if key in batch}
            start = time.perf_counter()
            with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
                logits = model(batch["inputs"], **packed).logits
            cross_entropy(logits.float().flatten(0, 1), batch["targets"].flatten()).backward()
            seconds[name].append(time.perf_counter() - start)
            model.zero_grad()
    return {name: rows * context / statistics.median(times[1:]) for name, times in seconds.items()} | {
        "precision": str(dtype)  # type: ignore[dict-item]
    }


def loading(stream: Stream, step: Callable[[], None], steps: int) -> dict[str, float]:
    """Seconds of a step: making its rows, computing, and both through the prefetch."""

    def timed(work: Callable[[int], object]) -> float:
        start = time.perf_counter()
        for number in range(steps):
            work(number)
        return (time.perf_counter() - start) / steps

    decode, compute = timed(lambda number: stream.batch(number)), timed(lambda number: step())
    prefetch = Prefetch(stream, Part())

    def both(number: int) -> None:
        prefetch.get(number, 0, ahead=number + 1 < steps)
        step()

    together = timed(both)
    prefetch.close()
    return {"decode": decode, "step": compute, "both": together, "share": max(decode, compute) / together}


def write_sparse(folder: Path, gigabytes: float) -> None:
    """Writes documents of zeros that take no place on disk."""
    lengths = lengths_of(int(gigabytes * 500_000))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    with open(folder / "tokens.bin", "wb") as file:
        file.truncate(2 * int(offsets[-1]))
    offsets.astype("<i8").tofile(folder / "offsets.bin")


def memory(kind: str, folder: Path) -> None:
    """Goes through a corpus once, in a process of its own, and prints its peak."""
    offsets = np.memmap(folder / "offsets.bin", "<i8", "r").view(np.ndarray)
    tokens = Tokens(Stored([folder / "tokens.bin"], "<u2"), offsets)
    before = peak()
    stream: Any = WindowStream.over(tokens, 4096, 256, 0)
    if kind == "packed":
        stream = PackedStream(tokens, 4096, 256, 0, END)
    start = time.perf_counter()
    steps = stream.per_epoch // 256
    for step in range(steps):
        stream.batch(step)
    seconds = time.perf_counter() - start
    figures = {"peak": peak(), "before": before, "rate": 2 * len(tokens) / 1e6 / seconds, "steps": steps}
    print(json.dumps(figures))


def peak() -> float:
    """MiB that this process had in memory at most.

    Linux says it of the program itself; what `getrusage` says may be that of the process that started it.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = status.read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024 if sys.platform != "darwin" else 2**20)


def main() -> None:
    """Takes all figures."""
    parser = measure.arguments(__doc__)
    parser.add_argument("--memory", choices=("windows", "packed"), help="that part alone, of --folder")
    parser.add_argument("--folder", type=Path, help="of a corpus that this benchmark wrote")
    parser.add_argument("--gigabytes", type=float, default=GIGABYTES, help="tokens to go through")
    given = measure.given(parser, peer=False)
    if given.memory:
        memory(given.memory, given.folder)
        return
    keep_freed_memory()
    device.prepare_threads()
    quick = given.quick
    shares = {
        c: trained_share(20_000 if quick else 1_000_000, c) for c in ((512,) if quick else (512, 2048, 8192))
    }
    for context, one in shares.items():
        measure.say(f"context {context}: {json.dumps(one)}")
    sizes = [(64, 2, 64)] if quick else [(512, 8, 256), (2048, 2, 256)]
    speeds = {f"{t} x {b}": speed(t, b, width, 2 if quick else 3 * given.rounds) for t, b, width in sizes}
    for name, one in speeds.items():
        measure.say(f"masks, {name}: {json.dumps(one)}")
    loads = {}
    for name, wait, rows in (("step as long as loading", 0.02, 128), ("step longer", 0.1, 128)):
        stream = PackedStream(tokens_for_loading(), 1024, rows, 0, END)
        loads[name] = loading(stream, lambda wait=wait: time.sleep(wait), 5 if quick else 100)  # type: ignore[misc]
        measure.say(f"loading, {name}: {json.dumps(loads[name])}")
    gigabytes = 0.05 if quick else given.gigabytes
    with tempfile.TemporaryDirectory() as folder:
        write_sparse(Path(folder), gigabytes)
        call = [sys.executable, Path(__file__), "--folder", folder, "--memory"]
        peaks = {kind: measure.work([*call, kind]) for kind in ("windows", "packed")}
    for kind, one in peaks.items():
        measure.say(f"memory, {kind}: {json.dumps(one)}")
    main_ = shares[512 if quick else 2048]
    claims = [
        Claim("tokens trained on", 100 * main_["trained"], 100 * main_["cropping"], "%", "higher", limit=99),
        Claim("padding", 100 * max(one["padding"] for one in shares.values()), None, "%", "lower", limit=1),
        Claim("seconds to pack the documents", main_["seconds"], None, "s", "lower"),
        *(
            Claim(f"speed with masks, {name}", one["packed"], one["windows"], "tokens/s", "higher")
            for name, one in speeds.items()
        ),
        *(
            Claim(f"loading, {name}", 100 * one["share"], None, "%", "higher", limit=95)
            for name, one in loads.items()
        ),
        *(
            Claim(f"peak memory over {gigabytes:g} GB, {kind}", one["peak"], None, "MiB", "lower", limit=512)
            for kind, one in peaks.items()
        ),
    ]
    details = {"trained": shares, "masks": speeds, "loading": loads, "memory": peaks}
    spread = {"ours": [100 * one["trained"] for one in shares.values()], "peer": None}
    measure.report(result("packing", claims, spread, details, quick=quick), given.save)


def tokens_for_loading() -> Tokens:
    """Some documents in memory."""
    lengths = lengths_of(5000)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Tokens(np.ones(offsets[-1], np.uint16), offsets)


if __name__ == "__main__":
    main()
