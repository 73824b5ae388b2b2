"""Stage embed: one vector per text, near to that of the text that belongs to it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ingot.data.labelled.batches import RowStream, batches
from ingot.errors import ConfigError
from ingot.evaluate.scores import Score
from ingot.evaluate.tf_idf import TfIdf
from ingot.models.pooling import PoolingConfig, write_pooling
from ingot.objectives.contrastive import Contrastive
from ingot.objectives.objective import Batch
from ingot.pipeline import Context, Outlook
from ingot.stages.encoding import EncoderLearningConfig, begin, finish, framed
from ingot.stages.examples import read_side
from ingot.stages.learning import AT_ONCE, each, fit, spread, write_scores
from ingot.stages.training import INDIFFERENT


class EmbedConfig(EncoderLearningConfig):
    """How to learn to embed texts; see `EncoderLearningConfig` for the others.

    Args:
        temperature: that similarities are divided by.
        batch_size: pairs per step; each text's negatives are the others of its batch.
    """

    temperature: float = Field(default=0.05, gt=0)
    batch_size: int = Field(default=64, gt=1)


class Embed:
    """Makes a text embedder, measured by whom each held-out text finds, beside TF-IDF."""

    name = "embed"
    artifact = "embedder"
    kind = "encoder"
    indifferent = INDIFFERENT

    def __init__(self, config: EmbedConfig) -> None:
        self.config, self.needs, self.identity = config, config.needs, config.identity

    def check(self, outlook: Outlook) -> None:
        """Refuses settings that do not go together.

        Raises:
            ConfigError: a micro-batch, in which texts would have fewer negatives.
        """
        if self.config.micro_batch is not None:
            what = f"a micro-batch of {self.config.micro_batch} rows would change the loss"
            raise ConfigError(what, where="embed.micro_batch", fix="use a smaller embed.batch_size")
        self.config.refuse(self.name, outlook)

    def run(self, context: Context) -> None:
        """Writes the model's folder and `evaluation.json`."""
        train, heldout = (read_side(context, side, "pairs") for side in ("train", "heldout"))
        config = self.config
        heldout = spread(heldout, config.tried)
        texts = (text for row in train for text in (row["first"], row["second"]))
        model, tokenizer = begin(context, config, texts, "embedding")

        def rows(side: list[dict[str, Any]]) -> list[dict[str, Any]]:
            keys = {"inputs": "first", "partners": "second"}
            return [
                {
                    ours: framed(tokenizer, tokenizer.encode(row[key]), config.context)
                    for ours, key in keys.items()
                }
                for row in side
            ]

        pads = dict.fromkeys(("inputs", "partners"), tokenizer.pad_id)
        stream = RowStream(rows(train), pads, min(config.batch_size, len(train)), context.seed)
        fitted = fit(context, config, "learning to embed", model, Contrastive(config.temperature), stream)
        finish(context, model, tokenizer, fitted)
        write_pooling(context.folder, PoolingConfig(pooling="mean"), model.config.width)

        def look(batch: Batch) -> list[NDArray[np.float32]]:
            return [model(batch[key]).logits.float().cpu().numpy() for key in pads]

        parts = each(model, batches(rows(heldout), pads, AT_ONCE), look, context, "embedding held-out texts")
        first, second = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
        texts_of = [[row[key] for row in heldout] for key in ("first", "second")]
        words = TfIdf([row[key] for row in train for key in ("first", "second")], pairs=False)
        simple = words.rows(texts_of[0]) @ words.rows(texts_of[1]).T
        ours, theirs = ranks(first @ second.T, texts_of[1]), ranks(simple.toarray(), texts_of[1])
        scores = [
            Score(measure, how(ours), baselines={"TF-IDF": how(theirs)}, unit="pairs")
            for measure, how in (("recall at 1", lambda r: r == 1), ("mean reciprocal rank", lambda r: 1 / r))
        ]
        write_scores(context, "pairs", scores, {"pooling": "mean", "candidates": len(heldout)})


def ranks(scores: NDArray[Any], partners: list[str]) -> NDArray[np.float64]:
    """Returns at which place each text finds its partner; of equal scores, in the middle of them.

    Args:
        scores: [n, n] of every text with every partner.
        partners: the n texts to be found; one that is there twice counts as found in either place.

    Example:
        >>> ranks(np.array([[3.0, 1.0], [2.0, 1.0]]), ["a", "b"]).tolist()
        [1.0, 2.0]
    """
    found = []
    for row, (line, text) in enumerate(zip(scores, partners, strict=True)):
        same = np.array([other == text for other in partners])
        best = max(float(line[same].max()), float(line[row]))
        others = line[~same]
        found.append(1 + (others > best).sum() + (others == best).sum() / 2)
    return np.array(found)
