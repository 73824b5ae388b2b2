"""Stage encode: an encoder that has learnt to fill gaps, for other stages to put heads on."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field

from ingot.data.corpus import read_documents
from ingot.data.labelled.batches import RowStream, batches
from ingot.data.labelled.split import ASKED
from ingot.data.records.rows import read_rows
from ingot.errors import DataError
from ingot.evaluate.scores import Score
from ingot.models.heads import HeadConfig
from ingot.objectives.masked import MaskedLM
from ingot.objectives.objective import Batch
from ingot.optim.joint import OptimizerConfig
from ingot.pipeline import Context, Outlook
from ingot.stages.encoding import OPTIMIZER, finish, framed, fresh
from ingot.stages.learning import (
    AT_ONCE,
    LearningConfig,
    capped,
    each,
    fit,
    learnt_tokenizer,
    spread,
    write_scores,
)
from ingot.stages.training import INDIFFERENT
from ingot.tokenizer.tokenizer import Tokenizer


class EncodeConfig(LearningConfig):
    """How to pretrain an encoder; see `LearningConfig` for the others.

    Args:
        texts: the stage whose texts are learnt from: `prepare` (any folder) or `examples` (what is asked in
            them, never the answers).
        hidden: share of tokens that are hidden.
        megabytes: of text at most, for the tokenizer and the training alike.
    """

    texts: Literal["prepare", "examples"] = "prepare"
    epochs: float = Field(default=40.0, gt=0)
    hidden: float = Field(default=0.15, gt=0, lt=1)
    megabytes: float = Field(default=16.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    optimizer: OptimizerConfig = OPTIMIZER


class Encode:
    """Makes the encoder: masked language modelling on the training texts."""

    name = "encode"
    artifact = "encoder"
    kind = "encoder"
    indifferent = INDIFFERENT

    def __init__(self, config: EncodeConfig) -> None:
        self.config, self.needs = config, (config.texts,)

    def check(self, outlook: Outlook) -> None:
        """Refuses settings that do not go together."""
        self.config.refuse(self.name, outlook)

    def run(self, context: Context) -> None:
        """Writes the model's folder and `evaluation.json`.

        Raises:
            DataError: too little text.
        """
        config = self.config
        train, heldout = (self._texts(context, side) for side in ("train", "heldout"))
        tokenizer = learnt_tokenizer(context, config, train)
        head = HeadConfig(task="masked", transform="gelu_norm", transform_bias=False, pooling="mean")
        model = fresh(config, tokenizer, head, context.seed)
        objective = MaskedLM(
            tokenizer.role_id("mask"),
            tokenizer.vocab_size,
            special_ids=tuple(tokenizer.special.values()),
            share=config.hidden,
            seed=context.seed,
        )
        pads = {"inputs": tokenizer.pad_id}
        learnt, asked = (rows(tokenizer, side, config.context) for side in (train, heldout))
        if not learnt or not asked:
            raise DataError("too little text", where="encode", fix="give more of it")
        stream = RowStream(learnt, pads, min(config.batch_size, len(learnt)), context.seed)
        fitted = fit(context, config, "masked pretraining", model, objective, stream)
        finish(context, model, tokenizer, fitted)

        def look(batch: Batch) -> list[Gaps]:
            chosen = objective.chosen(batch)
            hidden = model(objective.hidden(batch, chosen), logits=False).hidden[chosen]
            said = model.get_submodule("head")(hidden, None).argmax(-1)
            before = torch.roll(batch["inputs"], 1, 1)[chosen]
            counts = chosen.sum(1).tolist()
            columns = (said, batch["inputs"][chosen], before)
            return [
                Gaps(*(part.tolist() for part in row))
                for row in zip(*(one.split(counts) for one in columns), strict=True)
            ]

        chosen_rows = batches(spread(asked, config.tried), pads, AT_ONCE)
        parts = each(model, chosen_rows, look, context, "filling held-out gaps")
        write_scores(context, "masked", [_score([row for part in parts for row in part], learnt)])

    def _texts(self, context: Context, side: Literal["train", "heldout"]) -> list[str]:
        found: Iterable[str]
        if self.config.texts == "prepare":
            found = (one.text for one in read_documents(context.parents["prepare"].path, side))
        else:
            lines = read_rows(context.parents["examples"].path / f"{side}.jsonl")
            found = (text for line in lines if isinstance(line.value, dict) for text in _asked(line.value))
        return capped(context, found, self.config.megabytes, side)


def _asked(example: dict[str, Any]) -> list[str]:
    values = [example[key] for key in ASKED if key in example]
    return [" ".join(value) if isinstance(value, list) else value for value in values]


def rows(tokenizer: Tokenizer, texts: Sequence[str], context: int) -> list[dict[str, Any]]:
    """Cuts texts into rows: short ones are rows by themselves, long ones several.

    Args:
        tokenizer: with CLS and SEP, which stand around every row.
        texts: any.
        context: tokens of a row at most.
    """
    room = context - 2
    found = []
    for text in texts:
        ids = tokenizer.encode(text)
        parts = [ids[start : start + room] for start in range(0, len(ids), room)]
        found += [{"inputs": framed(tokenizer, part, context)} for part in parts]
    return found


class Gaps(NamedTuple):
    """The hidden tokens of a row."""

    said: list[int]
    right: list[int]
    before: list[int]  # the tokens before them


def _score(heldout: Sequence[Gaps], learnt: Sequence[dict[str, Any]]) -> Score:
    """Accuracy at the hidden tokens, beside the commonest token of all and behind its neighbour."""
    common: Counter[int] = Counter()
    behind: defaultdict[int, Counter[int]] = defaultdict(Counter)
    for row in learnt:
        common.update(row["inputs"][1:-1])
        for a, b in pairwise(row["inputs"][:-1]):
            behind[a][b] += 1
    top = common.most_common(1)[0][0]
    best = {token: counts.most_common(1)[0][0] for token, counts in behind.items()}
    simple = {
        "commonest token": lambda before: top,
        "commonest token behind the one before": lambda before: best.get(before, top),
    }

    def earned(guess: Any) -> NDArray[np.float64]:
        return np.array(
            [sum(guess(b) == a for a, b in zip(row.right, row.before, strict=True)) for row in heldout], float
        )

    ours = [sum(a == b for a, b in zip(row.said, row.right, strict=True)) for row in heldout]
    return Score(
        "masked accuracy",
        ours,
        counts=[len(row.right) for row in heldout],
        baselines={name: earned(guess) for name, guess in simple.items()},
        unit="rows",
    )
