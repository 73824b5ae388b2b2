"""MinHash signatures of documents on disk, on one core: ours and datatrove's.

```
documents.jsonl -> normalise -> words -> 5-grams -> 112 numbers for each document -> a file
```

Both sides are fresh processes of one thread that read the same file and write their signatures, in turn.
Grams, permutations and normalisation are FineWeb's on both; ours takes the words where the blanks are,
datatrove's asks a tokenizer of natural language, and sorts what it writes. Before, it is checked that both
estimate the Jaccard similarity of two texts that share a part. Importing is not timed.

    python benchmarks/minhash_speed.py

The text is that of --data, or else the sources of the running Python's standard library, cut into
documents of two thousand characters.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import measure
from claims import Claim, result

CHARACTERS = 2000  # of a document
MEGABYTES = 8.0
QUICK_MEGABYTES = 0.2
SHARED = 0.6  # of the texts of the check
TOLERANCE = 0.19  # four standard deviations of an estimate from 112 numbers
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def texts(data: Path | None) -> Iterator[str]:
    """Yields documents, again and again from the start."""
    files = [data] if data else sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py"))
    while True:
        for file in files:
            text = file.read_text(encoding="utf-8", errors="replace")
            yield from (text[at : at + CHARACTERS] for at in range(0, len(text), CHARACTERS))


def write(place: Path, data: Path | None, megabytes: float) -> int:
    """Writes the documents as JSON lines; returns the bytes of their text."""
    size = 0
    with place.open("w", encoding="utf-8") as file:
        for number, text in enumerate(texts(data)):
            if size >= megabytes * 1e6:
                return size
            size += len(text.encode("utf-8"))
            file.write(json.dumps({"id": str(number), "text": text}) + "\n")
    return size


def pair() -> tuple[str, str]:
    """Two texts, of whose words `SHARED` are shared: so, about, are their 5-grams."""
    names = ["".join(chr(97 + n // 26**k % 26) for k in range(3)) for n in range(2000)]
    length = 1000
    moved = round(length * (1 - SHARED) / (1 + SHARED))
    return " ".join(names[:length]), " ".join(names[moved : moved + length])


def ours(place: Path, folder: Path) -> dict[str, Any]:
    """Our side: one batch of lines at a time, so that memory does not grow."""
    from ingot.data.dedup import MinHash

    minhash = MinHash()
    first, second = minhash.signatures(pair())
    start, cpu = time.perf_counter(), time.process_time()
    with place.open(encoding="utf-8") as file, (folder / "signatures").open("wb") as out:
        lines = file.readlines(2**20)
        while lines:
            minhash.signatures(json.loads(line)["text"] for line in lines).tofile(out)
            lines = file.readlines(2**20)
    took = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
    return took | {"estimate": float((first == second).mean())}


def peer(place: Path, folder: Path) -> dict[str, Any]:
    """datatrove's side: its signature step, as its pipeline would run it, on documents read as ours are."""
    from datatrove.data import Document
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
    from datatrove.utils.hashing import HashConfig
    from datatrove.utils.logging import logger

    logger.remove()
    config = MinhashConfig(hash_config=HashConfig(hash_fc="sha1"))  # as FineWeb's
    step = MinhashDedupSignature(str(folder / "signatures"), config)
    first, second = (chain(*step.get_signature(step.get_shingles(text))) for text in pair())
    start, cpu = time.perf_counter(), time.process_time()
    with place.open(encoding="utf-8") as file:
        step.run(Document(**json.loads(line)) for line in file)
    took = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
    equal = [one == other for one, other in zip(first, second, strict=True)]
    return took | {"estimate": sum(equal) / len(equal)}


def side(name: str, place: Path) -> None:
    """Runs one side once, and prints its figures."""
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps((ours if name == "ours" else peer)(place, Path(folder))))


def main() -> None:
    """Compares both."""
    parser = measure.arguments(__doc__)
    parser.add_argument("--side", choices=("ours", "datatrove"), help="run this side only (used by itself)")
    parser.add_argument("--documents", type=Path, help="the file that a side reads")
    given = measure.given(parser, peer=False)
    if given.side:
        side(given.side, given.documents)
        return
    os.environ.update(THREADS)
    names = ["ours"] + (["datatrove"] if importlib.util.find_spec("datatrove") else [])
    if len(names) == 1:
        measure.say("datatrove is not installed: its side is null")
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder, "documents.jsonl")
        size = write(place, given.data, QUICK_MEGABYTES if given.quick else MEGABYTES) / 1e6
        own = (sys.executable, __file__, "--documents", place, "--side")
        rounds = measure.alternate({n: (*own, n) for n in names}, 1 if given.quick else given.rounds)
    for name, figures in rounds.items():
        if abs(figures[0]["estimate"] - SHARED) > TOLERANCE:
            sys.exit(f"{name} does not estimate Jaccard: {figures[0]['estimate']} where {SHARED} is true")
    speeds = {
        name: {
            "MB/s": size / measure.median(figures, "seconds"),
            "MB/s of CPU time": size / measure.median(figures, "cpu_seconds"),
            "spread": [size / seconds for seconds in measure.spread(figures, "seconds")[::-1]],
            "estimate": figures[0]["estimate"],
        }
        for name, figures in rounds.items()
    }
    mine, other = speeds["ours"], speeds.get("datatrove", {})
    claims = [
        Claim("signatures from disk, one core", mine["MB/s"], other.get("MB/s"), "MB/s", "higher", limit=5),
        Claim(
            "the same by CPU time", mine["MB/s of CPU time"], other.get("MB/s of CPU time"), "MB/s", "higher"
        ),
    ]
    spread = {"ours": mine["spread"], "peer": other.get("spread")}
    details = {"megabytes": size, "characters_per_document": CHARACTERS, **speeds}
    found = result(
        "minhash_speed", claims, spread, details, quick=given.quick, packages=("numpy", "datatrove")
    )
    measure.report(found, given.save)


if __name__ == "__main__":
    main()
