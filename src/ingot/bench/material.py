"""What optimizers race on: the bytes of a text, some files of it held out, and a small model of bytes.

Bytes need no tokenizer, so a race starts at once, and its loss is in bits per byte.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ingot.data.document import Document
from ingot.data.holdout import hold_out
from ingot.data.library import library_name, standard_library
from ingot.data.sources import find, read
from ingot.errors import DataError
from ingot.models.decoder import DecoderConfig

CONTEXT, ROWS = 64, 8
MODEL = DecoderConfig(
    vocabulary=256,
    width=64,
    layers=2,
    heads=2,
    kv_heads=2,
    head_width=32,
    feed_forward=192,
    context=CONTEXT,
)
LARGEST = 2_000_000
"""Bytes that are read: a race sees fewer."""

_HELD_OUT = 0.1
_SCORED = 64  # windows


class Material(NamedTuple):
    """The text of a race.

    Args:
        name: of the text, for those who quote the result.
        train: [n] uint8, its bytes.
        inputs, targets: [windows, t] int64, of the held-out bytes.
    """

    name: str
    train: NDArray[np.uint8]
    inputs: Tensor
    targets: Tensor


def material(data: Path | None = None, context: int = CONTEXT) -> Material:
    """Reads a text and holds a part of it out.

    Args:
        data: a folder or file; None is the standard library of the running Python.
        context: tokens of a held-out window.

    Raises:
        DataError: too little text there.
    """
    found = standard_library() if data is None else find(data)
    documents: list[Document] = []
    size = 0
    for source in found.sources:
        for one in read(source):
            if isinstance(one, Document) and one.text:
                documents.append(one)
                size += len(one.text)
        if size > LARGEST:
            break
    if not documents:
        raise DataError("no text to race on", where=data, fix="give a folder or file of UTF-8 text")
    split = hold_out(documents, _HELD_OUT)
    train, heldout = _bytes(split.train), _bytes(split.heldout)
    windows = min(_SCORED, (len(heldout) - 1) // context)
    if windows < 1 or len(train) < 2 * ROWS * CONTEXT:
        what = f"{len(train):,} bytes to train on and {len(heldout):,} held out are too few"
        raise DataError(what, where=data, fix=f"give {4 * ROWS * CONTEXT:,} bytes of text or more")
    starts = np.linspace(0, len(heldout) - 1 - context, windows).astype(np.int64)
    rows = np.stack([heldout[start : start + context + 1] for start in starts.tolist()]).astype(np.int64)
    whole = torch.from_numpy(rows)  # [windows, t + 1]
    name = library_name() if data is None else data.name
    return Material(name, train, whole[:, :-1].contiguous(), whole[:, 1:].contiguous())


def _bytes(documents: list[Document]) -> NDArray[np.uint8]:
    text = "\n\n".join(document.text for document in documents)
    return np.frombuffer(text.encode("utf-8", errors="replace"), dtype=np.uint8)
