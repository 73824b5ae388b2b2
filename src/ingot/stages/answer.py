"""Stage answer: which stretch of a text answers a question?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch

from ingot.data.labelled.batches import RowStream, batches
from ingot.errors import DataError
from ingot.evaluate.answers import BehindQuestion, exact, overlap
from ingot.evaluate.scores import Score
from ingot.objectives.objective import Batch
from ingot.objectives.span import Span, best_spans, candidates
from ingot.pipeline import Context, Outlook
from ingot.stages.encoding import EncoderLearningConfig, begin, finish
from ingot.stages.examples import read_side
from ingot.stages.learning import AT_ONCE, each, fit, write_scores
from ingot.stages.training import INDIFFERENT
from ingot.tokenizer.tokenizer import Tokenizer
from ingot.tokenizer.training import TokenizerConfig

_WORD = re.compile(r"\w+|[^\w\s]")


class AnswerConfig(EncoderLearningConfig):
    """How to learn to find answers; see `EncoderLearningConfig`."""

    tokenizer: TokenizerConfig = TokenizerConfig(kind="wordpiece", normaliser="bert_cased")


class Reading(NamedTuple):
    """A window of a text behind its question, as a row, and where its tokens stand in the text."""

    row: dict[str, Any]
    places: list[tuple[int, int]]  # of every token of the row: first character, the one behind the last


class Answer:
    """Makes a model that points at answers, measured beside the words behind those of the question."""

    name = "answer"
    artifact = "answerer"
    kind = "encoder"
    indifferent = INDIFFERENT

    def __init__(self, config: AnswerConfig) -> None:
        self.config, self.needs, self.identity = config, config.needs, config.identity

    def check(self, outlook: Outlook) -> None:
        """Refuses settings that do not go together."""
        self.config.refuse(self.name, outlook)

    def run(self, context: Context) -> None:
        """Writes the model's folder and `evaluation.json`.

        Raises:
            DataError: all questions are longer than a row.
        """
        train, heldout = (read_side(context, side, "answers") for side in ("train", "heldout"))
        config = self.config
        texts = (f"{row['question']} {row['context']}" for row in train)
        model, tokenizer = begin(context, config, texts, "span")
        pads = {"inputs": tokenizer.pad_id, "segments": 0}
        segments = model.segments is not None
        learnt = [one.row for row in train for one in readings(tokenizer, row, config.context, segments)]
        if not learnt:
            raise DataError("no question fits into a row", where="answer.context", fix="use a longer context")
        stream = RowStream(learnt, pads, min(config.batch_size, len(learnt)), context.seed)
        fitted = fit(context, config, "learning to answer", model, Span(), stream)
        finish(context, model, tokenizer, fitted)

        asked = [list(readings(tokenizer, row, config.context, segments)) for row in heldout]
        flat = [one.row for parts in asked for one in parts]

        def look(batch: Batch) -> list[tuple[float, int, int]]:
            extra = {"segments": batch["segments"]} if segments else {}
            logits = model(batch["inputs"], **extra).logits
            places = torch.arange(logits.shape[1], device=logits.device)
            inside = (places >= batch["first"][:, None]) & (places <= batch["last"][:, None])
            best = best_spans(candidates(logits, inside))
            nothing = logits[:, 0].float().sum(-1)  # CLS, both ends: no answer here
            return list(
                zip((best.scores - nothing).tolist(), best.starts.tolist(), best.ends.tolist(), strict=True)
            )

        found = iter(
            [
                one
                for part in each(model, batches(flat, pads, AT_ONCE), look, context, "answering")
                for one in part
            ]
        )
        may_be_none = any(row["start"] < 0 for row in train)
        said = []
        for row, parts in zip(heldout, asked, strict=True):
            best = max(((*next(found), one) for one in parts), key=lambda one: one[0], default=None)
            if best is None or (may_be_none and best[0] < 0):
                said.append("")
            else:
                _, start, end, one = best
                said.append(row["context"][one.places[start][0] : one.places[end][1]])
        simple = BehindQuestion([row["answer"] for row in train])
        plain = [simple.answer(row["question"], row["context"]) for row in heldout]
        right = [row["answer"] for row in heldout]
        scores = [
            Score(
                measure,
                [how(a, b) for a, b in zip(said, right, strict=True)],
                baselines={
                    "words behind the question's": [how(a, b) for a, b in zip(plain, right, strict=True)]
                },
                unit="questions",
            )
            for measure, how in (("exact match", exact), ("answer F1", overlap))
        ]
        write_scores(context, "answers", scores)


def readings(
    tokenizer: Tokenizer, example: dict[str, Any], context: int, segments: bool
) -> Iterator[Reading]:
    """Makes rows of a question and its text; a long text is several windows, each half over the next.

    ```
    CLS question SEP window of the text SEP
    ```

    `starts` and `ends` of a row are the answer's tokens, or 0 (CLS) where the window has it not. Words that
    the answer begins or ends inside of are taken whole.

    Args:
        tokenizer: with CLS and SEP.
        example: question, context, answer and start.
        context: tokens of a row; a question that leaves no room gives no row.
        segments: whether the model is told which sentence is which.
    """
    question = tokenizer.encode(example["question"])
    room = context - len(question) - 3
    if room < 1:
        return
    text, begin = example["context"], example["start"]
    end = begin + len(example["answer"])
    ids: list[int] = []
    places: list[tuple[int, int]] = []
    for word in _WORD.finditer(text):
        blank = " " if word.start() and text[word.start() - 1].isspace() else ""
        pieces = tokenizer.encode(blank + word.group())
        ids += pieces
        places += [word.span()] * len(pieces)
    head = [tokenizer.role_id("cls"), *question, tokenizer.role_id("sep")]
    step = max(1, room // 2)
    for start in range(0, max(1, len(ids) - room + step), step):
        window, where = ids[start : start + room], places[start : start + room]
        inside = [place for place, (a, b) in enumerate(where) if begin >= 0 and a < end and b > begin]
        # The whole answer has to be in the window.
        whole = bool(inside) and where[inside[0]][0] <= begin and where[inside[-1]][1] >= end
        row: dict[str, Any] = {
            "inputs": [*head, *window, tokenizer.role_id("sep")],
            "starts": len(head) + inside[0] if whole else 0,
            "ends": len(head) + inside[-1] if whole else 0,
            "first": len(head),
            "last": len(head) + max(0, len(window) - 1),
        }
        if segments:
            row["segments"] = [0] * len(head) + [1] * (len(window) + 1)
        yield Reading(row, [(0, 0)] * len(head) + where + [(0, 0)])
