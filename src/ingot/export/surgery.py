"""A model folder made of another one by surgery: written, compared with where it came from, recorded.

```
DIR -> model, tokenizer --operation--> other model, other tokenizer -> folder, with DIR as its parent
                                   \\-> by how much the logits of the old tokens differ
```
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ingot.artifact import write_record
from ingot.atomic import publish
from ingot.errors import ArtifactError
from ingot.export.arrival import DTYPES, stored_dtype
from ingot.models import huggingface
from ingot.models.decoder import Decoder
from ingot.models.surgery.depth import same_answers
from ingot.record import RECORD, read
from ingot.tokenizer.tokenizer import Tokenizer

_IDS = ("bos_token_id", "eos_token_id", "pad_token_id")
_READ = 32  # tokens that both models read to be compared


class Made(NamedTuple):
    """What an operation made: the model, its tokenizer, and what to say of it."""

    model: Decoder
    tokenizer: Tokenizer
    notes: list[str]


Operation = Callable[[Decoder, Tokenizer], Made]


class Remade(NamedTuple):
    """A folder that was made of another.

    `difference` is the largest, over the old tokens, of the logits from those of the model before.
    """

    folder: str
    parameters: int
    vocabulary: int
    layers: int
    context: int
    difference: float
    notes: list[str]


def remake(source: Path, out: Path, verb: str, settings: Mapping[str, Any], operation: Operation) -> Remade:
    """Makes a model folder of another; it appears whole or not at all. The number type stays.

    Args:
        source: a dense model folder with its tokenizer.
        out: a folder that does not exist yet.
        verb: what is done, for the record.
        settings: of the operation, for the record.
        operation: what is done.

    Raises:
        ArtifactError: `out` exists, or `source` is no dense model folder.
        ConfigError: as the operation says.
    """
    started = time.monotonic()
    if out.exists():
        raise ArtifactError("exists already", where=out, fix="choose another name or remove it")
    _, raw = huggingface.read_config(source)
    if raw.get("quantization_config"):
        fix = "name the dense model that it was made from"
        raise ArtifactError("its weights are quantized", where=source, fix=fix)
    kind = stored_dtype(source)
    model, tokenizer = huggingface.load(source, dtype=kind), Tokenizer.load(source)
    made = operation(model, tokenizer)
    count = min(_READ, model.config.context)
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, model.config.vocabulary, (2, count), generator=generator)
    difference = same_answers(model, made.model, tokens)
    parent = read(source) if (source / RECORD).is_file() else None
    with publish(out) as aside:
        special = {name: raw[name] for name in _IDS if raw.get(name) is not None}
        huggingface.save(aside, made.model, dtype=kind, special=special)
        made.tokenizer.save(aside)
        config = made.model.config
        remade = Remade(
            str(out),
            made.model.parameter_count(),
            config.vocabulary,
            config.layers,
            config.context,
            difference,
            made.notes,
        )
        write_record(
            aside,
            kind="model",
            name=out.name.partition("@")[0],
            stage=verb,
            parents={"model": parent} if parent else None,
            config={"from": str(source.resolve()), "dtype": _name(kind), **settings},
            metrics={"parameters": remade.parameters, "difference": difference},
            seconds=time.monotonic() - started,
            notes=made.notes,
        )
    return remade


def _name(kind: torch.dtype) -> str:
    return next(name for name, one in DTYPES.items() if one == kind)
