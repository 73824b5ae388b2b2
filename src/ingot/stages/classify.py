"""Stage classify: which class does a text belong to?"""

from __future__ import annotations

from collections import Counter
from typing import Any

from ingot.data.labelled.batches import RowStream, batches
from ingot.data.records.rows import write_rows
from ingot.errors import DataError
from ingot.evaluate.classification import by_class
from ingot.evaluate.scores import Score
from ingot.evaluate.tf_idf import TextClassifier
from ingot.objectives.classification import Classification
from ingot.pipeline import Context, Outlook
from ingot.stages.encoding import EncoderLearningConfig, begin, finish, framed
from ingot.stages.examples import read_side
from ingot.stages.learning import AT_ONCE, each, fit, write_scores
from ingot.stages.training import INDIFFERENT


class ClassifyConfig(EncoderLearningConfig):
    """How to learn to classify texts; see `EncoderLearningConfig`."""


class Classify:
    """Makes a text classifier, measured beside TF-IDF with logistic regression and the commonest class."""

    name = "classify"
    artifact = "classifier"
    kind = "encoder"
    indifferent = INDIFFERENT

    def __init__(self, config: ClassifyConfig) -> None:
        self.config, self.needs, self.identity = config, config.needs, config.identity

    def check(self, outlook: Outlook) -> None:
        """Refuses settings that do not go together."""
        self.config.refuse(self.name, outlook)

    def run(self, context: Context) -> None:
        """Writes the model's folder, `evaluation.json`, and each held-out answer in `outcomes.jsonl`.

        Raises:
            DataError: fewer than two classes to learn.
        """
        train, heldout = (read_side(context, side, "classes") for side in ("train", "heldout"))
        names = sorted({row["label"] for row in train})
        if len(names) < 2:
            raise DataError(f"all texts are of one class: {names}", where="classify", fix="give two or more")
        unknown = sorted({row["label"] for row in heldout} - set(names))
        if unknown:
            context.notes.append(f"Held-out classes that are never learnt, counted as wrong: {unknown[:8]}.")
        config = self.config
        model, tokenizer = begin(context, config, (row["text"] for row in train), "sequence", names)

        def rows(side: list[dict[str, Any]]) -> list[dict[str, Any]]:
            numbers = {name: number for number, name in enumerate(names)}
            return [
                {
                    "inputs": framed(tokenizer, tokenizer.encode(row["text"]), config.context),
                    "labels": numbers.get(row["label"], -100),
                }
                for row in side
            ]

        pads = {"inputs": tokenizer.pad_id}
        stream = RowStream(rows(train), pads, min(config.batch_size, len(train)), context.seed)
        fitted = fit(context, config, "learning to classify", model, Classification(), stream)
        finish(context, model, tokenizer, fitted)
        said = each(
            model,
            batches(rows(heldout), pads, AT_ONCE),
            lambda batch: model(batch["inputs"]).logits.argmax(-1).tolist(),
            context,
            "classifying held-out texts",
        )
        answers = [names[number] for part in said for number in part]
        right = [row["label"] for row in heldout]
        usual = Counter(row["label"] for row in train).most_common(1)[0][0]
        simple = TextClassifier.train([row["text"] for row in train], [row["label"] for row in train])
        others = {
            "TF-IDF with logistic regression": simple.classify([row["text"] for row in heldout]),
            "most frequent class": [usual] * len(right),
        }
        marks = {name: [a == b for a, b in zip(one, right, strict=True)] for name, one in others.items()}
        accuracy = Score(
            "accuracy", [a == b for a, b in zip(answers, right, strict=True)], baselines=marks, unit="texts"
        )
        write_rows(
            context.folder / "outcomes.jsonl",
            (
                {"line": row.get("line"), "right": row["label"], "said": one, "tf_idf": other}
                for row, one, other in zip(
                    heldout, answers, others["TF-IDF with logistic regression"], strict=True
                )
            ),
        )
        write_scores(context, "classes", [accuracy], {"classes": by_class(right, answers)})
