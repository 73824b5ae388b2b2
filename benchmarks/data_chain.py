"""The whole way from files to tokens on one core: read, normalise, judge, deduplicate, tokenise, write.

```
jsonl -> repair, language, Gopher, C4, FineWeb, scrub -> exact and near duplicates -> corpus -> token shards
```

A fresh process of one thread carries the `prepare` stage out with the preset of web text and writes the
shards; learning the tokenizer is not timed. Speed is bytes of text by seconds of this process's CPU time, so
that others on the machine do not count; the seconds on the clock stand beside it.

    python benchmarks/data_chain.py --data FILE

The text is that of --data, cut into documents of two thousand characters, or else stories made by a grammar,
which hold many near-duplicates.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import measure
from claims import Claim, result

CHARACTERS = 2000  # of a document
MEGABYTES = 16.0
QUICK_MEGABYTES = 0.2
VOCABULARY = 8192
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
PRESETS = ("web", "own")


def texts(data: Path | None) -> Iterator[str]:
    """Yields documents."""
    if data is None:
        from ingot.data.stories import stories

        yield from (story.text for story in stories(count=10**6))
        return
    text = data.read_text(encoding="utf-8", errors="replace")
    yield from (text[at : at + CHARACTERS] for at in range(0, len(text), CHARACTERS))


def write(folder: Path, data: Path | None, megabytes: float) -> int:
    """Writes the documents as JSON lines, some files of them; returns the bytes of their text."""
    size, lines = 0, [[] for _ in range(10)]  # type: tuple[int, list[list[str]]]
    for number, text in enumerate(texts(data)):
        if size >= megabytes * 1e6:
            break
        size += len(text.encode("utf-8"))
        lines[number % 10].append(json.dumps({"text": text}) + "\n")
    for number, part in enumerate(lines):
        (folder / f"{number}.jsonl").write_text("".join(part), encoding="utf-8")
    return size


def side(preset: str, place: Path) -> dict[str, Any]:
    """Carries the chain out once."""
    from ingot.data.corpus import iterate_documents
    from ingot.data.shards import write_shards
    from ingot.progress import Progress
    from ingot.stage import Context
    from ingot.stages.prepare import Prepare, PrepareConfig
    from ingot.tokenizer import Tokenizer

    learnt = (json.loads(line)["text"] for line in (place / "0.jsonl").read_text().splitlines()[:500])
    tokenizer = Tokenizer.train(learnt, VOCABULARY)
    with tempfile.TemporaryDirectory() as made:
        folders = {name: Path(made, name) for name in ("corpus", "work", "shards")}
        for folder in folders.values():
            folder.mkdir()
        context = Context(folders["corpus"], folders["work"], {}, Progress(), seed=0, device="cpu")
        stage = Prepare(PrepareConfig.parse({"data": str(place), "cleaning": preset, "workers": 1}))
        start, cpu = time.perf_counter(), time.process_time()
        stage.run(context)
        prepared = time.process_time()
        shards = write_shards(folders["shards"], iterate_documents(folders["corpus"], "train"), tokenizer)
        took = {"seconds": time.perf_counter() - start, "cpu_seconds": time.process_time() - cpu}
        took |= {"prepare_cpu_seconds": prepared - cpu, "tokens": len(shards)}
        return took | {name: context.metrics[name] for name in ("documents", "dropped")}


def main() -> None:
    """Measures both presets in turn."""
    parser = measure.arguments(__doc__)
    parser.add_argument("--side", choices=PRESETS, help="run this preset only (used by itself)")
    parser.add_argument("--documents", type=Path, help="the folder that a preset reads")
    given = measure.given(parser, peer=False)
    if given.side:
        print(json.dumps(side(given.side, given.documents)))
        return
    os.environ.update(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        size = write(Path(folder), given.data, QUICK_MEGABYTES if given.quick else MEGABYTES) / 1e6
        own = (sys.executable, __file__, "--documents", folder, "--side")
        rounds = measure.alternate({n: (*own, n) for n in PRESETS}, 1 if given.quick else given.rounds)
    speed = {name: size / measure.median(figures, "cpu_seconds") for name, figures in rounds.items()}
    claims = [
        Claim("files to tokens, one core, web text's rules", speed["web"], None, "MB/s", "higher", limit=2),
        Claim("the same, rules for one's own folder", speed["own"], None, "MB/s", "higher", limit=2),
    ]
    ends = measure.spread(rounds["web"], "cpu_seconds")
    spread = {"ours": [size / seconds for seconds in ends[::-1]], "peer": None}
    details = {"megabytes": size, **{name: figures[0] for name, figures in rounds.items()}}
    found = result("data_chain", claims, spread, details, quick=given.quick, packages=("numpy", "tiktoken"))
    measure.report(found, given.save)


if __name__ == "__main__":
    main()
