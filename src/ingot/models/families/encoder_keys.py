"""What the `config.json` of all encoder families share, and the names of weights laid out as BERT's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ingot.errors import ArtifactError
from ingot.models.encoder import EncoderConfig
from ingot.models.heads import HeadConfig


def refuse(raw: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Refuses parts that are not built here.

    Args:
        raw: content of `config.json`.
        known: the only value of a key that is; a key that is not there has it.

    Raises:
        ArtifactError: another value, named.
    """
    for key, only in known.items():
        if raw.get(key, only) != only:
            raise ArtifactError(
                f"{key} {raw[key]!r} is not supported",
                where="config.json",
                fix=f"only {only!r} is; convert the model or load it with transformers",
            )


def head_keys(
    raw: Mapping[str, Any], task: str | None, dropout: float, transforms: Mapping[str, str]
) -> dict[str, Any] | None:
    """Returns the head's configuration as plain data, None where there is no head.

    Args:
        raw: content of `config.json`.
        task: of the head.
        dropout: of the head, where `classifier_dropout` does not say.
        transforms: what stands before the last layer, by task.
    """
    if task is None:
        return None
    own = raw.get("classifier_dropout")
    names = raw.get("id2label") or {}
    texts = [str(names[key]) for key in sorted(names, key=int)]
    return {
        "task": task,
        "labels": len(texts) or raw.get("num_labels") or 2,
        "names": () if texts == usual(len(texts)) else texts,
        "transform": transforms.get(task),
        "tied": raw.get("tie_word_embeddings", True),
        "dropout": dropout if own is None else own,
    }


def usual(labels: int) -> list[str]:
    """Returns the names that classes have which nobody named."""
    return [f"LABEL_{number}" for number in range(labels)]


def label_keys(head: HeadConfig | None) -> dict[str, Any]:
    """Returns the names of the classes, both ways; nothing where there are no classes."""
    if head is None:
        return {}
    names = head.names or usual(head.labels)
    return {
        "id2label": {str(number): name for number, name in enumerate(names)},
        "label2id": {name: number for number, name in enumerate(names)},
    }


def architecture(config: EncoderConfig, architectures: Mapping[str, str | None]) -> str:
    """Returns the class that a model is in `transformers`: that of its task.

    An embedding head has no weights: such a model is the bare one.
    """
    task = None if config.head is None or config.head.task == "embedding" else config.head.task
    return next(name for name, of in architectures.items() if of == task)


BLOCK = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "feed_forward.up": "intermediate.dense",
    "feed_forward.down": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}


def stacked(
    config: EncoderConfig, prefix: str, heads: dict[str, dict[str, str]], second_bias: str
) -> dict[str, tuple[str, ...]]:
    """Returns the map of a model laid out as BERT is: tables, blocks, and the head of the task.

    Args:
        config: whose weights.
        prefix: of the names of a model with a head, but not of the head's.
        heads: by task: our module -> theirs.
        second_bias: another name of the masked head's bias.
    """
    task = None if config.head is None or config.head.task == "embedding" else config.head.task
    body = f"{prefix}." if task else ""  # a bare model's names have none
    tables = {
        "embedding": f"{body}embeddings.word_embeddings",
        "positions": f"{body}embeddings.position_embeddings",
        "segments": f"{body}embeddings.token_type_embeddings",
    }
    names: dict[str, tuple[str, ...]] = {
        f"{theirs}.weight": (f"{mine}.weight",) for mine, theirs in tables.items()
    }
    modules = {"embedding_norm": f"{body}embeddings.LayerNorm"}
    for layer in range(config.layers):
        for mine, theirs in BLOCK.items():
            modules[f"blocks.{layer}.{mine}"] = f"{body}encoder.layer.{layer}.{theirs}"
    modules |= heads.get(task or "", {})
    for mine, theirs in modules.items():
        names |= {f"{theirs}.{kind}": (f"{mine}.{kind}",) for kind in ("weight", "bias")}
    if task == "masked":
        names = {second_bias: ("head.output.bias",), **names}
    return names
