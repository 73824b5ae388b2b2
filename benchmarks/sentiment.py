"""Sentiment of sentences: our classifier beside logistic regression on TF-IDF, on the same sentences.

```
ours       WordPiece -> encoder, masked pretraining on the training sentences -> classifier on top
scratch    the same without the pretraining
peer       words and word pairs by TF-IDF -> logistic regression (scikit-learn), C chosen within training
```

The sentences are cut into ten parts by a hash of their text; each fold measures on one part what was trained
on the other nine. Accuracy has Wilson's interval over all measured sentences, the difference a paired
bootstrap interval and McNemar's exact test.

    python benchmarks/sentiment.py --sentences FOLDER     with rt-polarity.pos and rt-polarity.neg
    python benchmarks/sentiment.py --quick                docstrings of Python's own library instead
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import measure
from claims import Claim, result

from ingot import recipes
from ingot.data.labelled.library import mine
from ingot.data.records.rows import write_rows
from ingot.evaluate.scores import Score
from ingot.progress import Progress

FILES = {"negative": "rt-polarity.neg", "positive": "rt-polarity.pos"}
PARTS = 10
STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
TINY = (
    *("encode.width=32", "encode.layers=1", "encode.vocabulary=512", "encode.epochs=1"),
    *("classify.width=32", "classify.layers=1", "classify.vocabulary=512", "classify.epochs=1"),
)


def sentences(folder: Path | None) -> list[dict[str, Any]]:
    """Returns texts with labels; each text once."""
    if folder is None:
        return mine("classes", 400)
    found: dict[str, dict[str, Any]] = {}
    for label, name in FILES.items():
        text = (folder / name).read_bytes().decode("utf-8", errors="replace")
        for line in text.split("\n"):
            if line.strip():
                found.setdefault(line.strip(), {"text": line.strip(), "label": label})
    return list(found.values())


def part(row: dict[str, Any]) -> int:
    """Returns which of the parts a sentence is in."""
    return hashlib.sha256(row["text"].lower().encode()).digest()[0] * PARTS // 256


def regression(train: Sequence[dict[str, Any]], heldout: Sequence[dict[str, Any]]) -> list[str]:
    """Returns what scikit-learn says of the held-out sentences, its C chosen on a tenth of the training."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    def learnt(rows: Sequence[dict[str, Any]], strength: float, asked: Sequence[dict[str, Any]]) -> list[str]:
        words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+|[^\w\s]")
        model = LogisticRegression(C=strength, max_iter=1000)
        model.fit(words.fit_transform([row["text"] for row in rows]), [row["label"] for row in rows])
        return [str(one) for one in model.predict(words.transform([row["text"] for row in asked]))]

    tried, rest = train[::PARTS], [row for place, row in enumerate(train) if place % PARTS]

    def right(strength: float) -> int:
        said = learnt(rest, strength, tried)
        return sum(a == row["label"] for a, row in zip(said, tried, strict=True))

    return learnt(train, max(STRENGTHS, key=right), heldout)


def ours(folder: Path, train: Path, heldout: Path, pretrained: bool, changes: Sequence[str]) -> list[str]:
    """Returns what our classifier says of the held-out sentences."""
    loaded = recipes.load(
        "classify", [f"data.path={train}", f"examples.heldout_path={heldout}", "minutes=600", *changes]
    )
    if not pretrained:
        stages = {name: dict(settings) for name, settings in loaded.stages.items() if name != "encode"}
        stages["classify"]["start"] = None
        loaded = loaded.model_copy(update={"stages": stages})
    made = recipes.run(loaded, folder, Progress())
    lines = (made[-1].path / "outcomes.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["said"] for line in lines]


def main() -> None:
    """Measures the three sides on some of the folds."""
    parser = measure.arguments(__doc__)
    parser.add_argument("--sentences", type=Path, help="a folder with rt-polarity.pos and rt-polarity.neg")
    parser.add_argument("--folds", type=int, default=PARTS, help="how many of the ten folds")
    parser.add_argument("changes", nargs="*", help="settings of the recipe, such as encode.epochs=20")
    given = measure.given(parser, peer=False)
    if given.sentences is None and not given.quick:
        parser.error("--sentences is missing: a folder with rt-polarity.pos and rt-polarity.neg")
    rows = sentences(given.sentences)
    right: list[str] = []
    said: dict[str, list[str]] = {"pretrained": [], "scratch": [], "regression": []}
    seconds: dict[str, float] = dict.fromkeys(said, 0.0)
    changes = [*(TINY if given.quick else ()), *given.changes]
    for fold in range(1 if given.quick else given.folds):
        train = [row for row in rows if part(row) != fold]
        heldout = [row for row in rows if part(row) == fold]
        right += [row["label"] for row in heldout]
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            paths = folder / "train.jsonl", folder / "heldout.jsonl"
            for path, side in zip(paths, (train, heldout), strict=True):
                write_rows(path, side)
            for name in said:
                start = time.perf_counter()
                if name == "regression":
                    said[name] += regression(train, heldout)
                else:
                    said[name] += ours(folder / name, *paths, name == "pretrained", changes)
                seconds[name] += time.perf_counter() - start
        measure.say(f"fold {fold + 1}: " + ", ".join(f"{n} {share(right, s):.4f}" for n, s in said.items()))
    marks = {name: [a == b for a, b in zip(one, right, strict=True)] for name, one in said.items()}
    others = {name: marks[name] for name in ("regression", "scratch")}
    score = Score("accuracy", marks["pretrained"], baselines=others, unit="sentences")
    figures = score.plain()
    claims = [
        Claim(
            "accuracy of the pretrained encoder, beside TF-IDF with logistic regression",
            score.value,
            figures["baselines"]["regression"]["value"],
            "share",
            "higher",
        )
    ]
    spread = {"ours": list(figures["interval"]), "peer": list(figures["baselines"]["regression"]["interval"])}
    details = {"score": figures, "seconds": seconds, "sentences": len(rows), "in_words": score.words()}
    measure.say(score.words())
    measure.report(
        result("sentiment", claims, spread, details, quick=given.quick, packages=("scikit-learn", "numpy")),
        given.save,
    )


def share(right: Sequence[str], said: Sequence[str]) -> float:
    """Returns how many are the same."""
    return sum(a == b for a, b in zip(right, said, strict=True)) / max(1, len(right))


if __name__ == "__main__":
    main()
