"""n-gram models as files: safetensors for the tables, JSON for the rest. Nothing in them can run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as unpacked
from safetensors.numpy import save as packed

from ingot.atomic import write_atomic
from ingot.errors import ArtifactError
from ingot.models.ngram import NGram, Table

FILES = ("ngram.json", "ngram.safetensors")
"""What a saved model is made of."""


def save(model: NGram, folder: Path) -> None:
    """Writes a model into a folder: `ngram.json` and `ngram.safetensors`."""
    facts = {
        "vocabulary": model.vocabulary,
        "bos": model.bos,
        "discounts": [list(table.discounts) for table in model.tables],
    }
    arrays = {f"keys.{n}": table.keys for n, table in enumerate(model.tables, 1)}
    arrays |= {f"counts.{n}": table.counts for n, table in enumerate(model.tables, 1)}
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / FILES[1], packed(arrays))
    write_atomic(folder / FILES[0], json.dumps(facts, indent=2) + "\n")


def load(folder: Path) -> NGram:
    """Reads a saved model.

    Raises:
        ArtifactError: files are missing, damaged or do not fit one another.
    """
    try:
        facts = json.loads((folder / FILES[0]).read_text(encoding="utf-8"))
        arrays = unpacked((folder / FILES[1]).read_bytes())
        vocabulary, bos = int(facts["vocabulary"]), int(facts["bos"])
        tables = []
        for n, discounts in enumerate(facts["discounts"], 1):
            one, two, more = map(float, discounts)
            tables.append(Table(arrays[f"keys.{n}"], arrays[f"counts.{n}"], (one, two, more)))
        _fit(tables, vocabulary, bos)
    except (OSError, SafetensorError, ValueError, TypeError, KeyError) as error:
        what = f"not a readable n-gram model ({type(error).__name__}: {error})"
        raise ArtifactError(what, where=folder, fix="make it again") from None
    return NGram(tables, vocabulary, bos)


def _fit(tables: Sequence[Table], vocabulary: int, bos: int) -> None:
    """Refuses tables that lookups would run astray in."""
    if not tables or not 0 <= bos < vocabulary:
        raise ValueError("no tables, or BOS outside the vocabulary")
    below = 1
    for n, (keys, counts, discounts) in enumerate(tables, 1):
        if keys.dtype != np.int64 or counts.dtype != np.int64 or keys.shape != counts.shape or keys.ndim != 1:
            raise ValueError(f"table {n} is not two rows of 64-bit integers of one length")
        outside = len(keys) and (keys[0] < 0 or keys[-1] >= below * vocabulary)
        if outside or (np.diff(keys) <= 0).any() or (n == 1 and not len(keys)):
            raise ValueError(f"the keys of table {n} are not sorted or lead nowhere")
        if (counts < (n > 1)).any() or not all(0 <= d <= a for a, d in enumerate(discounts, 1)):
            raise ValueError(f"counts or discounts of table {n} are impossible")
        below = len(keys)
