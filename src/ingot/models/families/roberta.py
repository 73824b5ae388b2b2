"""RoBERTa's folder: Liu et al. 2019, arXiv 1907.11692; BERT's layout with other heads and positions."""

from __future__ import annotations

from typing import Any

from ingot.models.encoder import EncoderConfig
from ingot.models.families import bert
from ingot.models.families.encoder_keys import architecture, stacked

ARCHITECTURES: dict[str, str | None] = {
    "RobertaForMaskedLM": "masked",
    "RobertaForSequenceClassification": "sequence",
    "RobertaForTokenClassification": "tokens",
    "RobertaForQuestionAnswering": "span",
    "RobertaModel": None,
}
SPARE = ("pooler.", "roberta.pooler.")
"""What published folders also hold and no head of ours reads."""


def read(raw: dict[str, Any], task: str | None) -> EncoderConfig:
    """Returns our configuration of their `config.json`; see `bert.read`.

    Positions begin after the number of the padding token, so the table has as many rows more than the
    longest text has tokens.
    """
    padding = raw.get("pad_token_id", 1)
    rows = raw["max_position_embeddings"] - padding - 1
    config = bert.read(
        {"layer_norm_eps": 1e-5, **raw, "pad_token_id": padding, "max_position_embeddings": rows}, task
    )
    return config.model_copy(update={"count_tokens": True})


def describe(config: EncoderConfig) -> dict[str, Any]:
    """Returns the content of `config.json` (without the number type)."""
    return {
        **bert.describe(config),
        "architectures": [architecture(config, ARCHITECTURES)],
        "model_type": "roberta",
        "max_position_embeddings": config.context + config.first_position,
    }


def weights(config: EncoderConfig) -> dict[str, tuple[str, ...]]:
    """Returns their weight name -> our names, whose rows it holds one after the other."""
    heads = {
        "masked": {
            "head.transform.dense": "lm_head.dense",
            "head.transform.norm": "lm_head.layer_norm",
            "head.output": "lm_head.decoder",
        },
        "sequence": {"head.transform.dense": "classifier.dense", "head.output": "classifier.out_proj"},
        "tokens": {"head.output": "classifier"},
        "span": {"head.output": "qa_outputs"},
    }
    return stacked(config, "roberta", heads, "lm_head.bias")
