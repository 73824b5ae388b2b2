"""BERT's folder: Devlin et al. 2019, arXiv 1810.04805; names as in `transformers`' BertFor... models."""

from __future__ import annotations

from typing import Any

from ingot.models.encoder import EncoderConfig
from ingot.models.families.encoder_keys import architecture, head_keys, label_keys, refuse, stacked

ARCHITECTURES: dict[str, str | None] = {
    "BertForMaskedLM": "masked",
    "BertForSequenceClassification": "sequence",
    "BertForTokenClassification": "tokens",
    "BertForQuestionAnswering": "span",
    "BertModel": None,
}
SPARE = ("pooler.", "bert.pooler.", "cls.seq_relationship.")
"""What published folders also hold and no head of ours reads (the next-sentence task)."""
TRANSFORMS = {"masked": "gelu_norm", "sequence": "tanh"}


def read(raw: dict[str, Any], task: str | None) -> EncoderConfig:
    """Returns our configuration of their `config.json`.

    Args:
        raw: its content.
        task: of the head, from the architecture's name; None has no head.

    Raises:
        KeyError: a size is missing.
        ArtifactError: the model has parts that are not built here.
    """
    wrong = {"hidden_act": "gelu", "position_embedding_type": "absolute", "is_decoder": False}
    refuse(raw, wrong)
    dropout = raw.get("hidden_dropout_prob", 0.1)
    return EncoderConfig.parse(
        {
            "vocabulary": raw["vocab_size"],
            "width": raw["hidden_size"],
            "layers": raw["num_hidden_layers"],
            "heads": raw["num_attention_heads"],
            "feed_forward": raw["intermediate_size"],
            "context": raw["max_position_embeddings"],
            "norm_epsilon": raw.get("layer_norm_eps", 1e-12),
            "segments": raw.get("type_vocab_size") or 2,
            "padding": raw.get("pad_token_id", 0),
            "dropout": dropout,
            "head": head_keys(raw, task, dropout, TRANSFORMS),
        },
        where="config.json",
    )


def describe(config: EncoderConfig) -> dict[str, Any]:
    """Returns the content of `config.json` (without the number type)."""
    head = config.head
    return {
        "architectures": [architecture(config, ARCHITECTURES)],
        "model_type": "bert",
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.feed_forward,
        "max_position_embeddings": config.context,
        "layer_norm_eps": config.norm_epsilon,
        "type_vocab_size": config.segments,
        "pad_token_id": config.padding,
        "hidden_act": "gelu",
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": 0.0,
        "classifier_dropout": None if head is None else head.dropout,
        "tie_word_embeddings": head is None or head.tied,
        **label_keys(head),
    }


def weights(config: EncoderConfig) -> dict[str, tuple[str, ...]]:
    """Returns their weight name -> our names, whose rows it holds one after the other."""
    head = {
        "masked": {
            "head.transform.dense": "cls.predictions.transform.dense",
            "head.transform.norm": "cls.predictions.transform.LayerNorm",
            "head.output": "cls.predictions.decoder",
        },
        "sequence": {"head.transform.dense": "bert.pooler.dense", "head.output": "classifier"},
        "tokens": {"head.output": "classifier"},
        "span": {"head.output": "qa_outputs"},
    }
    return stacked(config, "bert", head, "cls.predictions.bias")
