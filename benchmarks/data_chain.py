"""The whole way from files to tokens on one core: read, normalise, judge, deduplicate, tokenise, write.

```
txt -> repair, Gopher, C4, FineWeb -> exact and near duplicates -> corpus -> token shards        chain
                                            the same, by thresholds that nothing breaks          all kept
       and language, scrubbing              the presets of a corpus                              web, own
```

A fresh process of one thread carries the `prepare` stage out and writes the shards; learning the tokenizer is
not timed. Speed is bytes of text by seconds of this process's CPU time, so that others on the machine do not
count; the seconds on the clock stand beside it. Loading the model that tells languages, once in a process, is
part of the time, and told by itself as well. Documents that rules drop cost less than those that stay, which
is why the chain is measured a second time with thresholds that keep every document.

    python benchmarks/data_chain.py --data FILE

The text is that of --data, cut into files of two thousand characters, or else stories made by a grammar,
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

import filter_speed
import measure
from claims import Claim, result

CHARACTERS = 2000  # of a document
MEGABYTES = 16.0
QUICK_MEGABYTES = 0.2
VOCABULARY = 8192
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
CHAINS: dict[str, dict[str, Any]] = {
    "chain": {
        "repair": {},
        "repetition": {},
        "quality": {},
        "c4": {"terminal_punctuation": False},
        "fineweb": {},
    },
    "all kept": {"repair": {}, **filter_speed.LENIENT},
    "web": {"preset": "web"},
    "own": {"preset": "own"},
}


def texts(data: Path | None) -> Iterator[str]:
    """Yields documents."""
    if data is None:
        from ingot.data.stories import stories

        yield from (story.text for story in stories(count=10**6))
        return
    text = data.read_text(encoding="utf-8", errors="replace")
    yield from (text[at : at + CHARACTERS] for at in range(0, len(text), CHARACTERS))


def write(folder: Path, data: Path | None, megabytes: float) -> int:
    """Writes the documents as text files, in folders of a thousand; returns the bytes of their text."""
    size = 0
    for number, text in enumerate(texts(data)):
        if size >= megabytes * 1e6:
            break
        place = folder / f"{number // 1000:03d}" / f"{number % 1000:03d}.txt"
        place.parent.mkdir(exist_ok=True)
        size += place.write_bytes(text.encode("utf-8"))
    return size


def side(name: str, place: Path) -> dict[str, Any]:
    """Carries a chain out once."""
    from ingot.data.cleaning import Cleaning
    from ingot.data.corpus import iterate_documents
    from ingot.data.shards import write_shards
    from ingot.progress import Progress
    from ingot.stage import Context
    from ingot.stages.prepare import Prepare, PrepareConfig
    from ingot.tokenizer import Tokenizer

    learnt = (path.read_text(encoding="utf-8") for path in sorted(place.rglob("*.txt"))[:500])
    tokenizer = Tokenizer.train(learnt, VOCABULARY)
    with tempfile.TemporaryDirectory() as made:
        folders = {name: Path(made, name) for name in ("corpus", "work", "shards")}
        for folder in folders.values():
            folder.mkdir()
        context = Context(folders["corpus"], folders["work"], {}, Progress(), seed=0, device="cpu")
        start, cpu = time.perf_counter(), time.process_time()
        Cleaning.parse(CHAINS[name]).build()  # loads what is loaded once for each process
        loaded = time.process_time()
        config = PrepareConfig.parse({"data": str(place), "cleaning": CHAINS[name], "workers": 1})
        Prepare(config).run(context)
        prepared = time.process_time()
        documents = iterate_documents(folders["corpus"], "train")
        shards = write_shards(folders["shards"], documents, tokenizer, workers=1)
        done = time.process_time()
        took = {"seconds": time.perf_counter() - start, "cpu_seconds": done - cpu}
        took |= {"loading": loaded - cpu, "preparing": prepared - loaded, "tokenising": done - prepared}
        took["tokens"] = len(shards)
        return took | {key: context.metrics[key] for key in ("documents", "dropped")}


def main() -> None:
    """Measures all chains in turn."""
    parser = measure.arguments(__doc__)
    parser.add_argument("--side", choices=CHAINS, help="run this chain only (used by itself)")
    parser.add_argument("--documents", type=Path, help="the folder that it reads")
    given = measure.given(parser, peer=False)
    if given.side:
        print(json.dumps(side(given.side, given.documents)))
        return
    os.environ.update(THREADS)
    with tempfile.TemporaryDirectory() as folder:
        size = write(Path(folder), given.data, QUICK_MEGABYTES if given.quick else MEGABYTES) / 1e6
        own = (sys.executable, __file__, "--documents", folder, "--side")
        rounds = measure.alternate({n: (*own, n) for n in CHAINS}, 1 if given.quick else given.rounds)
    speed = {name: size / measure.median(figures, "cpu_seconds") for name, figures in rounds.items()}
    what = {
        "chain": "normalise, Gopher, C4, FineWeb, duplicates, tokens",
        "all kept": "the same, every document kept",
        "web": "web text: language and scrubbing too",
        "own": "one's own folder: the same, other rules",
    }
    claims = [Claim(what[name], speed[name], None, "MB/s", "higher", limit=2) for name in CHAINS]
    ends = measure.spread(rounds["chain"], "cpu_seconds")
    spread = {"ours": [size / seconds for seconds in ends[::-1]], "peer": None}
    details = {"megabytes": size, **{name: figures[0] for name, figures in rounds.items()}}
    found = result("data_chain", claims, spread, details, quick=given.quick, packages=("numpy", "tiktoken"))
    measure.report(found, given.save)


if __name__ == "__main__":
    main()
