"""Stage translate: one text becomes another: a translation, a summary, a name."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from ingot.data.labelled.batches import RowStream, batches
from ingot.evaluate.answers import overlap
from ingot.evaluate.scores import Score
from ingot.evaluate.tf_idf import TfIdf
from ingot.models.encoder_decoder_writing import write
from ingot.objectives.objective import IGNORED
from ingot.objectives.seq2seq import Seq2Seq
from ingot.pipeline import Context, Outlook
from ingot.stages.examples import read_side
from ingot.stages.learning import (
    AT_ONCE,
    LearningConfig,
    each,
    fit,
    learnt_tokenizer,
    spread,
    write_scores,
)
from ingot.stages.training import INDIFFERENT
from ingot.stages.writing import TOKENIZER, finish, fresh
from ingot.tokenizer.training import TokenizerConfig

_SHOWN = 20


class TranslateConfig(LearningConfig):
    """How to learn to rewrite texts; see `LearningConfig` for the others.

    Args:
        smoothing: of labels (Vaswani et al. 2017, section 5.4).
    """

    tokenizer: TokenizerConfig = TOKENIZER
    smoothing: float = Field(default=0.1, ge=0, lt=1)
    tried: int = Field(default=1000, gt=0)  # each is written token by token


class Translate:
    """Makes an encoder-decoder, measured beside the most similar example's target and the source itself."""

    name = "translate"
    artifact = "translator"
    kind = "encoder_decoder"
    needs = ("examples",)
    indifferent = INDIFFERENT

    def __init__(self, config: TranslateConfig) -> None:
        self.config = config

    def check(self, outlook: Outlook) -> None:
        """Refuses settings that do not go together."""
        self.config.refuse(self.name, outlook)

    def run(self, context: Context) -> None:
        """Writes the model's folder and `evaluation.json`."""
        train, heldout = (read_side(context, side, "rewrites") for side in ("train", "heldout"))
        config = self.config
        heldout = spread(heldout, config.tried)
        texts = (text for row in train for text in (row["source"], row["target"]))
        tokenizer = learnt_tokenizer(context, config, texts)
        model = fresh(config, tokenizer, context.seed)

        def ids(text: str) -> list[int]:
            return [*tokenizer.encode(text)[: config.context - 1], tokenizer.eos_id]

        def rows(side: list[dict[str, Any]]) -> list[dict[str, Any]]:
            return [{"inputs": ids(row["source"]), "targets": ids(row["target"])} for row in side]

        pads = {"inputs": tokenizer.pad_id, "targets": IGNORED}
        stream = RowStream(rows(train), pads, min(config.batch_size, len(train)), context.seed)
        objective = Seq2Seq(tokenizer.pad_id, filler=tokenizer.pad_id, smoothing=config.smoothing)
        fitted = fit(context, config, "learning to rewrite", model, objective, stream)
        finish(context, model, tokenizer, fitted)
        parts = each(
            model,
            batches(rows(heldout), pads, AT_ONCE),
            lambda batch: write(model, batch["inputs"], config.context).tolist(),
            context,
            "rewriting held-out texts",
        )
        said = [tokenizer.decode(line, skip_special=True).strip() for part in parts for line in part]
        right = [row["target"] for row in heldout]
        others = {
            "target of the most similar source": nearest(train, heldout),
            "the source itself": [row["source"] for row in heldout],
        }
        scores = [
            Score(
                measure,
                [how(a, b) for a, b in zip(said, right, strict=True)],
                baselines={
                    name: [how(a, b) for a, b in zip(one, right, strict=True)] for name, one in others.items()
                },
                unit="texts",
            )
            for measure, how in (("word F1", overlap), ("exact match", _same))
        ]
        shown = [
            {"source": row["source"], "target": row["target"], "said": one}
            for row, one in zip(heldout[:_SHOWN], said, strict=False)
        ]
        write_scores(context, "rewrites", scores, {"samples": shown})


def _same(said: str, right: str) -> float:
    return float(said.split() == right.split())


def nearest(train: list[dict[str, Any]], heldout: list[dict[str, Any]]) -> list[str]:
    """Returns for each held-out source the target of the training source that is nearest by TF-IDF."""
    words = TfIdf([row["source"] for row in train])
    known, found = words.rows([row["source"] for row in train]).T.tocsc(), []
    for start in range(0, len(heldout), AT_ONCE):
        scores = words.rows([row["source"] for row in heldout[start : start + AT_ONCE]]) @ known
        found += [train[int(place)]["target"] for place in np.asarray(scores.argmax(1)).ravel()]
    return found
