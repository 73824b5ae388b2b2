"""The atlas as one page: a file that holds everything, loads nothing, and treats texts as data.

Texts, names and places travel as compressed JSON in base64, which no text can break out of; the page's
script puts them on the screen as text nodes and drawings only. A content policy in the page allows its own
script and style and nothing else.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import json
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from ingot.data.atlas.atlas import Atlas
from ingot.errors import DataError

LARGEST = 10_000_000
"""Bytes of a page; excerpts are made shorter until it fits."""

EXCERPTS = (1600, 1200, 900, 600, 400, 250, 120, 60, 0)
"""Signs of each document that the page shows, tried one after the other."""

GROUPS = 24
"""Values by which documents are coloured, at most; rarer ones are "other"."""

_SLOT = re.compile(r"{{ (policy|title|style|script|data) }}")
_PAGE = Path(__file__).parent / "page"
_METHODS = {
    "neighbours": "Documents that share rare words lie together. Near means alike; far apart says little.",
    "pca": "The two directions in which the documents differ most (principal components).",
    "umap": "Documents that share rare words lie together (UMAP). Near means alike; far apart says little.",
}


def render(atlas: Atlas, name: str, largest: int = LARGEST) -> str:
    """Returns the page.

    Args:
        atlas: the map.
        name: what to call the corpus.
        largest: bytes that the page has at most, in UTF-8.

    Raises:
        DataError: it cannot be that small, even without a word of any document.
    """
    style, script = ((_PAGE / file).read_text(encoding="utf-8") for file in ("atlas.css", "atlas.js"))
    frame = (_PAGE / "atlas.html").read_text(encoding="utf-8")
    policy = f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; img-src data:"
    for excerpt in EXCERPTS:
        data = json.dumps(_payload(atlas, name, excerpt), ensure_ascii=False, separators=(",", ":"))
        packed = gzip.compress(data.encode("utf-8", errors="replace"), compresslevel=6, mtime=0)
        parts = {
            "policy": policy,
            "title": html.escape(f"Atlas of {name}"),
            "style": style,
            "script": script,
            "data": base64.b64encode(packed).decode(),
        }
        page = _fill(frame, parts)
        if len(page.encode()) <= largest:
            return page
    what = f"{len(atlas.points):,} documents do not fit into {largest:,} bytes"
    raise DataError(what, where="atlas", fix="show fewer: --documents")


def _fill(frame: str, parts: Mapping[str, str]) -> str:
    """Puts the parts into the frame in one go, so that none is looked into for more slots."""
    return _SLOT.sub(lambda slot: parts[slot[1]], frame)


def _payload(atlas: Atlas, name: str, excerpt: int) -> dict[str, Any]:
    points = atlas.points
    places = np.rint(atlas.places * 65535).astype(int)
    folders = [_folder(point.source) for point in points]
    colours = {
        "kind": _coded([point.kind for point in points]),
        "language": _coded([point.language or "not known" for point in points]),
        "source": _coded(folders),
    }
    return {
        "name": name,
        "documents": atlas.documents,
        "leftOut": dict(atlas.left_out),
        "method": _METHODS[atlas.layout],
        "x": places[:, 0].tolist(),
        "y": (65535 - places[:, 1]).tolist(),
        "cluster": atlas.labels.tolist(),
        "clusters": [
            {"name": one.name or "without words of their own", "terms": list(one.terms)}
            for one in atlas.clusters
        ],
        "colours": {key: value for key, value in colours.items() if len(value["names"]) > 1},
        "copies": atlas.copies.tolist(),
        "sources": [point.id for point in points],
        "kinds": [point.kind for point in points],
        "languages": [point.language for point in points],
        "lengths": [point.length for point in points],
        "texts": [point.text[:excerpt] for point in points],
    }


def _coded(values: list[str]) -> dict[str, Any]:
    """Values as numbers, the most frequent first; those beyond the first few are "other"."""
    names, counts = np.unique(np.array(values, dtype=object).astype(str), return_counts=True)
    order = [str(names[place]) for place in np.lexsort((names, -counts))]
    if len(order) > GROUPS:
        order = [*order[: GROUPS - 1], "other"]
    numbers = {name: number for number, name in enumerate(order)}
    last = len(order) - 1
    return {"names": order, "codes": [numbers.get(value, last) for value in values]}


def _folder(source: str) -> str:
    """The first folder of a path: what a corpus is made of at its coarsest."""
    parts = PurePosixPath(source).parts
    return parts[0] if len(parts) > 1 else "at the top"


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
