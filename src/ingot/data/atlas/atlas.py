"""From documents to the map: who lies where, in which cluster, and which are copies."""

from __future__ import annotations

import hashlib
import importlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from ingot.config import Config
from ingot.data.atlas.clusters import Cluster, cluster, describe
from ingot.data.atlas.copies import copies
from ingot.data.atlas.layout import EPOCHS, arrange, principal
from ingot.data.atlas.neighbours import Neighbours, neighbours
from ingot.data.atlas.vectors import Words, embed
from ingot.data.document import Document
from ingot.errors import DataError, ResourceError
from ingot.progress import Progress, Task

LOOKED_AT = 20_000
"""Signs of a document, from its start, that the map is made of."""

NEIGHBOURS = 15


class AtlasConfig(Config):
    """How the map is drawn.

    Args:
        documents: that the map shows at most; of more, so many are drawn at random, all alike likely.
        clusters: how many; None finds the number at which they are clearest.
        layout: "neighbours" places what is alike together, "pca" is the linear map of principal
            components, "umap" asks the package umap-learn, where it is installed.
        seed: another seed, another picture of the same neighbours.
    """

    documents: int = Field(default=10_000, ge=2)
    clusters: int | None = Field(default=None, ge=1, le=60)
    layout: Literal["neighbours", "pca", "umap"] = "neighbours"
    seed: int = 0


@dataclass(frozen=True)
class Point:
    """A document on the map.

    Args:
        id: of the document.
        source: where it came from.
        kind: text, markdown, python, ...
        language: of prose; "" is not known.
        text: its beginning.
        length: signs of the whole text.
    """

    id: str
    source: str
    kind: str
    language: str
    text: str
    length: int


@dataclass(frozen=True)
class Atlas:
    """The map.

    Args:
        points: n documents.
        places: [n, 2], from 0 to 1.
        labels: [n], each document's cluster.
        clusters: largest first.
        copies: [n], the number of each document's group of copies; -1 is none.
        documents: that the corpus has.
        left_out: documents that are not on the map, by reason.
        layout: how places were found.
    """

    points: list[Point]
    places: NDArray[np.float32]
    labels: NDArray[np.int64]
    clusters: list[Cluster]
    copies: NDArray[np.int64]
    documents: int
    left_out: Counter[str]
    layout: str


def draw(
    documents: Iterable[Document], config: AtlasConfig | None = None, progress: Progress | None = None
) -> Atlas:
    """Draws the map of a corpus.

    Args:
        documents: read once; no more than the map shows are kept in memory.
        config: how it is drawn.
        progress: is told of the work.

    Returns:
        The map; the same documents and configuration give the same one.

    Raises:
        DataError: fewer than two documents with words.
        ResourceError: "umap" is asked for and not installed.
    """
    config, progress = config or AtlasConfig(), progress or Progress()
    with progress.task("reading documents", unit="documents") as task:
        sample, seen = _sample(documents, config.documents, config.seed, task)
    counted, points, hashes = Words(), [], []
    left_out = Counter({"not drawn": seen - len(sample)} if seen > len(sample) else {})
    with progress.task("counting words", len(sample), "documents") as task:
        for point, digest in sample:
            task.advance()
            if counted.add(point.text):
                points.append(point)
                hashes.append(digest)
            else:
                left_out["without words"] += 1
    if len(points) < 2:
        what = f"has {len(points)} documents with words"
        raise DataError(what, where="atlas", fix="give a corpus with two or more")
    counts = counted.matrix()
    counts = counts[np.flatnonzero(np.diff(counts.indptr))]
    vectors = embed(counts, config.seed)
    near = neighbours(vectors, NEIGHBOURS)
    with progress.task("placing documents", EPOCHS, "rounds") as task:
        places = _places(vectors, near, config, task)
    labels = cluster(vectors, config.seed, config.clusters)
    return Atlas(
        points,
        _to_unit(places),
        labels,
        describe(counts, labels, counted.name),
        copies([point.text for point in points], hashes, near),
        seen,
        left_out,
        config.layout,
    )


def _sample(
    documents: Iterable[Document], most: int, seed: int, task: Task
) -> tuple[list[tuple[Point, bytes]], int]:
    """Keeps so many of a stream, all alike likely, in their order (reservoir sampling, Vitter 1985)."""
    generator = np.random.default_rng(seed)
    kept: list[tuple[int, Point, bytes]] = []
    seen = 0
    for document in documents:
        task.advance()
        seen += 1
        place = len(kept) if seen <= most else int(generator.integers(seen))
        if place >= most:
            continue
        start = document.text[:LOOKED_AT]
        language = getattr(document, "language", None) or ""
        point = Point(document.id, document.source, document.kind, language, start, len(document.text))
        digest = hashlib.sha256(document.text.encode("utf-8", errors="surrogatepass")).digest()[:16]
        kept[place : place + 1] = [(seen, point, digest)]
    return [(point, digest) for _, point, digest in sorted(kept, key=lambda one: one[0])], seen


def _places(
    vectors: NDArray[np.float32], near: Neighbours, config: AtlasConfig, task: Task
) -> NDArray[np.float32]:
    if config.layout == "pca":
        return principal(vectors)
    if config.layout == "neighbours":
        return arrange(vectors, near, config.seed, task=task)
    try:
        umap = importlib.import_module("umap")
    except ImportError:
        what = "the package 'umap-learn' is missing"
        raise ResourceError(
            what, where="atlas", fix="pip install umap-learn, or leave the layout out"
        ) from None
    made = umap.UMAP(n_neighbors=NEIGHBOURS, metric="cosine", random_state=config.seed).fit_transform(vectors)
    return np.asarray(made, dtype=np.float32)


def _to_unit(places: NDArray[np.float32]) -> NDArray[np.float32]:
    """Moves places into the unit square, the picture's proportions kept, a few outliers at its edge."""
    low, high = np.percentile(places, [0.2, 99.8], axis=0)
    span = max(1e-9, float((high - low).max()))
    centred = (places - (low + high) / 2) / span * 0.94 + 0.5
    return np.asarray(np.clip(centred, 0, 1), dtype=np.float32)
