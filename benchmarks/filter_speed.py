"""How fast the rules for documents are, each set by itself and all of them, and against datatrove's filters.

```
texts -> repair -> Gopher repetition -> Gopher quality -> C4 -> FineWeb      ours, words by one expression
texts ->           Gopher repetition -> Gopher quality -> C4 -> FineWeb      datatrove, words by spaCy
```

One process, one thread, texts in memory. Both sides first judge the same documents with the same words, and
must agree on each; then they take turns at the clock, each with its own words. The texts are the English
prose that Python brings along (its documentation), or the files of a folder.

    python benchmarks/filter_speed.py
    python benchmarks/filter_speed.py --folder /usr/share/doc
"""

from __future__ import annotations

import pydoc_data.topics
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import measure
from claims import Claim, result

from ingot.data.cleaning import Cleaning
from ingot.data.document import Document, Dropped

TARGET = 8.0  # MB/s, of repair, Gopher, C4 and FineWeb together
SIZE = 5_000  # letters of a document, about
RULES = ("repetition", "quality", "c4", "fineweb")
# Thresholds that nothing breaks: every rule is computed to its end, which is what prose of the web costs.
LENIENT: dict[str, Any] = {
    "repetition": {"top": dict.fromkeys((2, 3, 4), 9.0), "repeated": dict.fromkeys(range(5, 11), 9.0)},
    "quality": {"min_alphabetic": 0.0},
    "c4": {"terminal_punctuation": False, "curly_braces": False},
    "fineweb": {
        "min_ended_lines": 0.0,
        "max_short_lines": 1.0,
        "max_repeated_letters": 1.0,
        "max_newlines": 9.0,
    },
}
PARTS: dict[str, dict[str, Any]] = {
    "clean": {},
    "repair": {"repair": {}},
    "repetition": {"repetition": LENIENT["repetition"]},
    "quality": {"quality": LENIENT["quality"]},
    "c4": {"c4": LENIENT["c4"]},
    "fineweb": {"fineweb": LENIENT["fineweb"]},
    "privacy": {"privacy": {}},
    "language": {"language": {}},
    "web": {"preset": "web"},
    "own": {"preset": "own"},
}
CHAIN: dict[str, Any] = {"repair": {}, **LENIENT}


def texts(folder: Path | None, most: int) -> list[str]:
    """Returns documents of about `SIZE` letters, whole paragraphs each."""
    if folder is None:
        given = list(pydoc_data.topics.topics.values())
    else:
        given = [text for path in sorted(folder.rglob("*")) if (text := _read(path)) is not None]
        random.Random(0).shuffle(given)
    made: list[str] = []
    for text in given:
        part = ""
        for paragraph in text.split("\n\n"):
            part += paragraph.replace("\n", " ") + "\n\n"
            if len(part) >= SIZE:
                made.append(part)
                part = ""
            if len(made) >= most:
                return made
    return made


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8") if path.is_file() and path.stat().st_size < 1 << 20 else None
    except (OSError, UnicodeDecodeError):
        return None


def speed(clean: Callable[[Document], object], documents: Sequence[Document]) -> float:
    """Returns MB per second of the processor in one pass: a busy machine hurts it less than the clock's."""
    start = time.process_time()
    for document in documents:
        clean(document)
    seconds = time.process_time() - start
    return sum(len(document.text.encode("utf-8")) for document in documents) / seconds / 1e6


def filters() -> list[Any]:
    """Returns datatrove's filters in FineWeb's order, with thresholds as lenient as ours."""
    from datatrove.pipeline import filters as trove

    ours = LENIENT
    return [
        trove.GopherRepetitionFilter(
            top_n_grams=tuple(ours["repetition"]["top"].items()),
            dup_n_grams=tuple(ours["repetition"]["repeated"].items()),
        ),
        trove.GopherQualityFilter(max_non_alpha_words_ratio=0.0),
        trove.C4QualityFilter(filter_no_terminal_punct=False, filter_curly_bracket=False),
        trove.FineWebQualityFilter(
            line_punct_thr=0.0, short_line_thr=1.0, char_duplicates_ratio=1.0, new_line_ratio=9.0
        ),
    ]


def judge(steps: Sequence[Any], document: Document) -> bool:
    """Returns whether datatrove keeps a document."""
    from datatrove.data import Document as TroveDocument

    given = TroveDocument(text=document.text, id=document.id)
    for step in steps:
        kept = step.filter(given)
        if not (kept[0] if isinstance(kept, tuple) else kept):
            return False
    return True


def agree(documents: Sequence[Document], steps: Sequence[Any]) -> int:
    """Returns how many documents both sides keep, with the words of spaCy on both.

    Raises:
        SystemExit: they disagree on one.
    """
    cleaner = Cleaning.parse({**LENIENT, "words": "spacy"}).build()
    kept = 0
    for document in documents:
        ours = isinstance(cleaner.clean(document), Document)
        if ours != judge(steps, document):
            sys.exit(f"the sides decide differently on {document.id}")
        kept += ours
    return kept


def main() -> None:
    """Measures each rule set, the chain, and datatrove's chain."""
    parser = measure.arguments(__doc__)
    parser.add_argument("--folder", type=Path, help="of texts  [default: Python's documentation]")
    given = measure.given(parser, peer=False)
    rounds = 1 if given.quick else 2 * given.rounds + 1
    found = texts(given.folder, most=8 if given.quick else 600)
    documents = [Document(str(index), "", text, "web") for index, text in enumerate(found)]
    chain = Cleaning.parse(CHAIN).build()
    passing = sum(not isinstance(chain.clean(document), Dropped) for document in documents)
    try:
        steps = filters()
        agree(documents[:40], steps)
    except ImportError as error:
        measure.say(f"datatrove's side is null: {error}")
        steps = []
    ours, peer = [], []
    for _ in range(rounds):
        ours.append(speed(chain.clean, documents))
        if steps:
            peer.append(speed(lambda document: judge(steps, document), documents[:60]))
    parts = {}
    for name, config in PARTS.items():
        cleaner = Cleaning.parse(config).build()
        parts[name] = max(speed(cleaner.clean, documents) for _ in range(rounds))
        measure.say(f"{name}: {parts[name]:.1f} MB/s")
    theirs = statistics.median(peer) if peer else None
    claims = [
        Claim(
            "repair, Gopher, C4 and FineWeb rules",
            statistics.median(ours),
            theirs,
            "MB/s",
            "higher",
            limit=TARGET,
        )
    ]
    spread = {"ours": [min(ours), max(ours)], "peer": [min(peer), max(peer)] if peer else None}
    details = {
        "documents": len(documents),
        "megabytes": sum(map(len, found)) / 1e6,
        "kept": passing,
        "parts": parts,
        "unit_of_parts": "MB/s, best round, with the uniform line ends that every cleaner makes",
    }
    packages = ("datatrove", "spacy", "ftfy", "py3langid", "numpy")
    measure.report(
        result("filter_speed", claims, spread, details, quick=given.quick, packages=packages), given.save
    )


if __name__ == "__main__":
    main()
