"""Stage denoise: an encoder-decoder that has learnt to write what was cut out of a text (span corruption)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from pydantic import Field

from ingot.data.corpus import read_documents
from ingot.data.labelled.batches import RowStream, batches
from ingot.errors import DataError
from ingot.evaluate.scores import Score
from ingot.objectives.objective import IGNORED, Batch
from ingot.objectives.spans import SpanCorruption
from ingot.pipeline import Context, Outlook
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
from ingot.stages.writing import SENTINELS, TOKENIZER, finish, fresh
from ingot.tokenizer.training import TokenizerConfig


class DenoiseConfig(LearningConfig):
    """How to pretrain an encoder-decoder; see `LearningConfig` for the others.

    Args:
        density: share of the tokens that are cut out.
        mean_length: of what is cut out at one place, in tokens.
        megabytes: of text at most, for the tokenizer and the training alike.
    """

    tokenizer: TokenizerConfig = TOKENIZER
    vocabulary: int = Field(default=4096, ge=300)
    epochs: float = Field(default=40.0, gt=0)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    density: float = Field(default=0.15, gt=0, lt=1)
    mean_length: float = Field(default=3.0, ge=1)
    megabytes: float = Field(default=16.0, gt=0)


class Denoise:
    """Makes an encoder-decoder, measured by the tokens that it puts back, beside the commonest token."""

    name = "denoise"
    artifact = "denoiser"
    kind = "encoder_decoder"
    needs = ("prepare",)
    indifferent = INDIFFERENT

    def __init__(self, config: DenoiseConfig) -> None:
        self.config = config

    def check(self, outlook: Outlook) -> None:
        """Refuses settings that do not go together."""
        self.config.refuse(self.name, outlook)

    def run(self, context: Context) -> None:
        """Writes the model's folder and `evaluation.json`.

        Raises:
            DataError: too little text.
        """
        config = self.config
        corpus = context.parents["prepare"].path
        train, heldout = (
            capped(context, (one.text for one in read_documents(corpus, side)), config.megabytes, side)
            for side in ("train", "heldout")
        )
        tokenizer = learnt_tokenizer(context, config, train)
        model = fresh(config, tokenizer, context.seed)
        sentinels = [tokenizer.special[name] for name in SENTINELS]
        pad, end = tokenizer.pad_id, tokenizer.eos_id
        objective = SpanCorruption(
            sentinels,
            begin=pad,
            end=end,
            padding=pad,
            density=config.density,
            mean_length=config.mean_length,
            seed=context.seed,
        )

        def rows(texts: list[str]) -> list[dict[str, Any]]:
            cut = (
                ids[start : start + config.context]
                for ids in map(tokenizer.encode, texts)
                for start in range(0, len(ids), config.context)
            )
            return [{"inputs": part} for part in cut if len(part) > 1]

        learnt, asked = rows(train), rows(heldout)
        if not learnt or not asked:
            raise DataError("too little text", where="denoise", fix="give more of it")
        pads = {"inputs": pad}
        stream = RowStream(learnt, pads, min(config.batch_size, len(learnt)), context.seed)
        fitted = fit(context, config, "span corruption", model, objective, stream)
        finish(context, model, tokenizer, fitted)
        control = {*sentinels, end, IGNORED}
        common = Counter(token for row in learnt for token in row["inputs"]).most_common(1)[0][0]

        def look(batch: Batch) -> list[tuple[int, int, int]]:
            pairs = objective.corrupted(batch)
            targets = pairs["targets"]
            logits = model(pairs["inputs"], objective.pairs.read(targets), mask=pairs["mask"]).logits
            found = []
            for said, right in zip(logits.argmax(-1).tolist(), targets.tolist(), strict=True):
                both = [(a, b) for a, b in zip(said, right, strict=True) if b not in control]
                found.append((sum(a == b for a, b in both), sum(b == common for _, b in both), len(both)))
            return found

        parts = each(
            model, batches(spread(asked, config.tried), pads, AT_ONCE), look, context, "filling held-out gaps"
        )
        ours, simple, counts = np.array([row for part in parts for row in part], dtype=float).T
        score = Score(
            "span accuracy", ours, counts=counts, baselines={"commonest token": simple}, unit="rows"
        )
        write_scores(context, "spans", [score])
