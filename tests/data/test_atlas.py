"""Row U2: planted clusters are found and named, neighbours lie together, and the page is safe and small."""

from __future__ import annotations

import base64
import doctest
import gzip
import html.parser
import json
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from ingot.data.atlas import vectors as words_module
from ingot.data.atlas.atlas import Atlas, AtlasConfig, draw
from ingot.data.atlas.clusters import cluster, describe
from ingot.data.atlas.copies import copies
from ingot.data.atlas.layout import principal, ties
from ingot.data.atlas.neighbours import neighbours
from ingot.data.atlas.page import render
from ingot.data.atlas.vectors import Words, embed
from ingot.data.document import Document
from ingot.errors import DataError, ResourceError

TOPICS = ("sailing", "baking", "chess", "geology", "opera", "football")
TRICK = "{{ script }}</script></template><img src=x onerror=alert(1)><!--"


def topical(generator: np.random.Generator, topic: int, length: int = 80) -> str:
    """A third of the words are a topic's own, the others everybody's; both as frequent as words are."""
    own = [f"{TOPICS[topic]}{suffix}" for suffix in "abcdefghijklmnopqrstuvwxyz"]
    shared = [f"common{chr(97 + a)}{chr(97 + b)}" for a in range(20) for b in range(26)]
    weights = 1 / np.arange(1, len(shared) + 1)
    picked = generator.choice(shared, size=2 * length // 3, p=weights / weights.sum()).tolist()
    picked += generator.choice(own, size=length // 3).tolist()
    return " ".join(generator.permutation(picked))


def planted(each: int, seed: int = 0) -> tuple[list[Document], np.ndarray]:
    generator = np.random.default_rng(seed)
    topics = generator.permutation(np.repeat(np.arange(len(TOPICS)), each))
    found = []
    for number, topic in enumerate(topics):
        source = f"{TOPICS[topic]}/{number}.txt"
        found.append(Document(source, source, topical(generator, int(topic)), "text", None, "en"))
    return found, topics


def purity(labels: np.ndarray, truth: np.ndarray) -> float:
    return sum(np.bincount(truth[labels == one]).max() for one in np.unique(labels)) / len(truth)


@pytest.fixture(scope="module")
def drawn() -> tuple[Atlas, np.ndarray]:
    documents, topics = planted(80)
    return draw(documents), topics


def test_planted_clusters_are_found(drawn: tuple[Atlas, np.ndarray]) -> None:
    atlas, topics = drawn
    assert purity(atlas.labels, topics) >= 0.9
    assert len(atlas.clusters) == len(TOPICS)  # without being told how many
    assert [one.size for one in atlas.clusters] == np.bincount(atlas.labels).tolist()


def test_clusters_carry_the_words_of_their_topic(drawn: tuple[Atlas, np.ndarray]) -> None:
    atlas, topics = drawn
    for number, one in enumerate(atlas.clusters):
        topic = TOPICS[np.bincount(topics[atlas.labels == number]).argmax()]
        assert all(term.startswith(topic) for term in one.terms[:5]), one.terms


def test_what_is_alike_lies_together(drawn: tuple[Atlas, np.ndarray]) -> None:
    """Of the ten documents nearest on the map, nearly all are of the same topic; chance gives a sixth."""
    atlas, topics = drawn
    apart = ((atlas.places[:, None] - atlas.places[None]) ** 2).sum(axis=2)
    np.fill_diagonal(apart, np.inf)
    nearest = np.argsort(apart, axis=1)[:, :10]
    assert (topics[nearest] == topics[:, None]).mean() >= 0.9
    assert atlas.places.min() >= 0 and atlas.places.max() <= 1 and np.isfinite(atlas.places).all()


def test_the_same_documents_give_the_same_map() -> None:
    documents, _ = planted(12)
    one, two = draw(documents), draw(iter(documents))
    assert render(one, "x") == render(two, "x")
    other = draw(documents, AtlasConfig(seed=1))
    assert not np.array_equal(one.places, other.places)


@pytest.mark.parametrize("layout", ["pca", "neighbours"])
def test_every_layout_of_a_few(layout: Any) -> None:
    for count in (2, 3, 5):
        documents, _ = planted(1)
        atlas = draw(documents[:count], AtlasConfig(layout=layout))
        assert atlas.places.shape == (count, 2) and np.isfinite(atlas.places).all()


def test_umap_is_asked_for_only_where_it_is() -> None:
    documents, _ = planted(5)
    try:
        import umap  # noqa: F401
    except ImportError:
        with pytest.raises(ResourceError, match="umap-learn"):
            draw(documents, AtlasConfig(layout="umap"))
    else:
        assert draw(documents, AtlasConfig(layout="umap")).places.shape == (len(documents), 2)


def test_neighbours_are_those_of_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingot.data.atlas.neighbours._CELLS", 300)
    points = np.random.default_rng(0).standard_normal((57, 6)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    near = neighbours(points, 4)
    for index in range(57):
        others = sorted((float(-points[index] @ points[j]), j) for j in range(57) if j != index)
        assert near.indices[index].tolist() == [j for _, j in others[:4]]
    assert neighbours(points[:3], 15).indices.shape == (3, 2)


def test_ties_are_chances_and_go_both_ways() -> None:
    points = np.random.default_rng(0).standard_normal((40, 5)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    near = neighbours(points, 8)
    tied = ties(near).toarray()
    assert np.allclose(tied, tied.T) and tied.min() >= 0 and tied.max() <= 1 + 1e-9
    assert all(tied[index, near.indices[index, 0]] == pytest.approx(1) for index in range(40))


def test_principal_components_are_those_of_the_covariance() -> None:
    points = (np.random.default_rng(0).standard_normal((300, 4)) * [5, 2, 0.5, 0.1]).astype(np.float32)
    places = principal(points)
    assert places.var(axis=0) == pytest.approx(np.linalg.eigvalsh(np.cov(points.T))[::-1][:2], rel=0.01)


def test_vectors_keep_the_cosines_of_all_dimensions() -> None:
    """With as many dimensions as documents, nothing is lost: cosines are those of TF-IDF itself."""
    documents, _ = planted(4)
    counted = Words()
    for document in documents:
        counted.add(document.text)
    counts = counted.matrix()
    n = len(documents)
    shared = np.asarray((counts > 0).sum(axis=0)).ravel()
    kept = (shared >= 2) & (shared <= max(2, 0.8 * n))
    plain = counts.toarray()[:, kept]
    weighed = np.where(plain > 0, 1 + np.log(np.maximum(plain, 1)), 0) * (np.log(n / shared[kept]) + 1)
    weighed /= np.linalg.norm(weighed, axis=1, keepdims=True)
    made = embed(counts, dimensions=n)
    assert np.allclose(made @ made.T, weighed @ weighed.T, atol=1e-5)


def test_a_shared_column_is_named_by_the_more_frequent_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(words_module, "COLUMNS", 1)
    counted = Words()
    for text in ["rare", "often", "often", "rare", "often", "often"]:
        assert counted.add(text)
    assert counted.name(0) == "often"
    assert not counted.add("1234 !!")


def test_one_cluster_needs_no_distinct_words() -> None:
    counts = csr_matrix(np.array([[1.0, 0, 2], [1, 1, 0]], dtype=np.float32))
    (one,) = describe(counts, np.zeros(2, dtype=np.int64), lambda column: "abc"[column])
    assert one.terms[0] == "a" and one.size == 2


def test_as_many_clusters_as_asked_for() -> None:
    documents, _ = planted(10)
    atlas = draw(documents, AtlasConfig(clusters=3))
    assert len(atlas.clusters) == 3
    same = np.tile(np.eye(4, dtype=np.float32)[:1], (9, 1))
    assert cluster(same, count=5).max() <= 4


def test_copies_are_grouped_and_others_are_not() -> None:
    documents, _ = planted(8)
    text, other = documents[0].text, documents[5].text
    nearly = text.replace(text.split()[40], "changed", 1)
    extra = [text, text + "\n", nearly, other, "two words"]
    documents += [Document(f"copy/{n}", f"copy/{n}", one, "text") for n, one in enumerate(extra)]
    atlas = draw(documents)
    groups: dict[int, set[str]] = {}
    for point, group in zip(atlas.points, atlas.copies.tolist(), strict=True):
        groups.setdefault(group, set()).add(point.id)
    groups.pop(-1)
    assert {frozenset(one) for one in groups.values()} == {
        frozenset({documents[0].id, "copy/0", "copy/1", "copy/2"}),
        frozenset({documents[5].id, "copy/3"}),
    }


def test_many_copies_of_one_text_are_one_group() -> None:
    texts = ["the same text"] * 40 + ["another one altogether"] * 2
    points = np.zeros((42, 2), np.float32)
    points[:40, 0] = points[40:, 1] = 1
    groups = copies(texts, [text.encode() for text in texts], neighbours(points, 5))
    assert groups.tolist() == [0] * 40 + [1] * 2


def test_more_documents_than_the_map_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    documents, _ = planted(20)
    documents.insert(3, Document("empty", "empty", "123 456", "text"))
    atlas = draw(iter(documents), AtlasConfig(documents=50))
    assert atlas.documents == 121 and len(atlas.points) + atlas.left_out["without words"] == 50
    assert atlas.left_out["not drawn"] == 71
    places = [[one.id for one in documents].index(point.id) for point in atlas.points]
    assert places == sorted(places) and max(places) > 60
    with pytest.raises(DataError, match="1 documents with words"):
        draw(documents[3:5])


def payload(page: str) -> dict[str, Any]:
    packed = re.search(r'<template id="data">([A-Za-z0-9+/=]*)</template>', page)
    assert packed is not None
    value: dict[str, Any] = json.loads(gzip.decompress(base64.b64decode(packed[1])))
    return value


class Tags(html.parser.HTMLParser):
    """Which elements a page has, and where they point to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Iterable[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for key, value in attrs if key in ("src", "href")]


def test_texts_are_data_and_never_markup() -> None:
    documents, _ = planted(6)
    clean = Tags(render(draw(documents), "corpus"))
    evil = [Document(TRICK + one.id, TRICK, one.text + TRICK, TRICK, None, TRICK) for one in documents]
    page = render(draw(evil), TRICK)
    found = Tags(page)
    assert found.tags == clean.tags and "img" not in found.tags and TRICK not in page
    assert found.links == ["data:,"]  # nothing is loaded
    data = payload(page)
    assert data["name"] == TRICK and data["sources"][0].startswith(TRICK) and data["texts"][0].endswith(TRICK)
    assert "default-src 'none'" in page and "unsafe" not in page


def test_the_page_says_what_the_map_holds(drawn: tuple[Atlas, np.ndarray]) -> None:
    atlas, _ = drawn
    data = payload(render(atlas, "my corpus"))
    assert len(data["x"]) == len(data["texts"]) == len(atlas.points)
    assert max(data["x"]) <= 65535 and min(data["y"]) >= 0
    assert [one["name"] for one in data["clusters"]] == [one.name for one in atlas.clusters]
    assert set(data["colours"]) == {"source"}  # one kind and one language tell nothing apart
    assert data["colours"]["source"]["names"] == sorted(TOPICS)


def test_excerpts_shrink_until_the_page_is_small_enough(drawn: tuple[Atlas, np.ndarray]) -> None:
    atlas, _ = drawn
    large = render(atlas, "x")
    small = render(atlas, "x", largest=len(large) - 40_000)
    assert len(small.encode()) <= len(large) - 40_000
    assert 0 < len(payload(small)["texts"][0]) < len(payload(large)["texts"][0])
    with pytest.raises(DataError, match="do not fit into 100 bytes"):
        render(atlas, "x", largest=100)


def test_a_browser_draws_it_without_a_complaint(drawn: tuple[Atlas, np.ndarray], tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no browser on this machine")
    path = tmp_path / "atlas.html"
    path.write_text(render(drawn[0], f"Mine {TRICK}"), encoding="utf-8")
    flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=8000", "--dump-dom"]
    profile = f"--user-data-dir={tmp_path / 'profile'}"
    done = subprocess.run(
        [browser, *flags, profile, path.as_uri()], capture_output=True, timeout=120, check=True
    )
    page = done.stdout.decode()
    assert 'data-ready="yes"' in page
    assert "480 documents · 6 clusters" in page and "<img" not in page
    assert page.count("<li>") == 6


def test_the_examples_in_the_documentation_are_true() -> None:
    result = doctest.testmod(words_module)
    assert result.attempted > 0
    assert result.failed == 0
