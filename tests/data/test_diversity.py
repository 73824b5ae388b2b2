"""Diversity: shares and their doubt against a slow count, a planted skew found, chance not called one."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ingot.data import tables
from ingot.data.corpus import write_corpus
from ingot.data.diversity import DIMENSIONS, Spread, skews, spread
from ingot.data.document import Document, Dropped
from ingot.data.holdout import Split
from ingot.data.ledger import EXCERPT, excerpt, rules


def corpus(folder: Path, languages: dict[str, float], count: int, seed: int, per_source: int = 1) -> Path:
    """A corpus whose documents' languages are drawn by these shares, source by source."""
    chance = np.random.default_rng(seed)
    names = list(languages)
    documents = []
    for index in range(count):
        source = index // per_source
        if index % per_source == 0:
            language = names[chance.choice(len(names), p=list(languages.values()))]
        text = "x" * int(chance.lognormal(7, 1.5))
        documents.append(
            Document(f"{source}:{index}", f"dir{source % 3}/{source}", text, "text", None, language)
        )
    folder.mkdir()
    write_corpus(folder, Split(documents[: count // 2], documents[count // 2 :]), [], [], {})
    return folder


@pytest.fixture(autouse=True)
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows come in small groups, so that sources run over their ends."""
    monkeypatch.setattr(tables, "ROWS", 17)


@pytest.mark.parametrize("per_source", [1, 7, 40, 10_000])
def test_shares_equal_a_slow_count(tmp_path: Path, per_source: int) -> None:
    from ingot.data.corpus import read_documents

    made = corpus(tmp_path / "c", {"en": 0.6, "de": 0.3, "fr": 0.1}, 500, 1, per_source)
    found = spread(made)
    documents = [d for side in ("train", "heldout") for d in read_documents(made, side)]
    assert found.documents == 500
    assert found.bytes == sum(len(d.text) for d in documents)
    languages = Counter(d.language for d in documents)
    assert {one.name: one.documents for one in found.shares("language")} == languages
    for one in found.shares("language"):
        assert one.bytes == sum(len(d.text) for d in documents if d.language == one.name)
        assert one.share == pytest.approx(languages[one.name] / 500)
    # The two sides are read apart, so a source on both of them counts twice here as there.
    groups: dict[tuple[bool, str], list[bool]] = {}
    for number, d in enumerate(documents):
        groups.setdefault((number < 250, d.source), []).append(d.language == "de")
    assert found.sources == len(groups)
    p = languages["de"] / 500
    x = np.array([sum(one) for one in groups.values()])
    n = np.array([len(one) for one in groups.values()])
    if len(groups) > 1:
        variance = len(n) / (len(n) - 1) * ((x - p * n) ** 2).sum() / 500**2
        simple = (x.sum() + 1) * (500 - x.sum() + 1) / 502**3
        assert found.share("language", "de").deviation ** 2 == pytest.approx(max(variance, simple))
    assert sum(one.documents for one in found.shares("length")) == 500
    assert found.percentiles()["p50"] == round(float(np.median([len(d.text) for d in documents])))
    assert {one.name for one in found.shares("source")} <= {"dir0", "dir1", "dir2"}
    assert found.shares("licence")[0].name == "unknown"
    assert found.effective("licence") == pytest.approx(1)


def test_a_planted_skew_of_a_tenth_is_found(tmp_path: Path) -> None:
    even = spread(corpus(tmp_path / "even", {"en": 0.5, "de": 0.5}, 1500, 1))
    skewed = spread(corpus(tmp_path / "skewed", {"en": 0.6, "de": 0.4}, 1500, 2))
    found = skews(even, skewed)
    assert {(one.dimension, one.name) for one in found} == {("language", "de"), ("language", "en")}
    assert all(abs(abs(one.share - one.other) - 0.1) < 0.04 for one in found)
    assert "language" in found[0].words()


def test_chance_is_no_skew(tmp_path: Path) -> None:
    shares = {"en": 0.5, "de": 0.3, "fr": 0.2}
    found = []
    for seed in range(12):
        one = spread(corpus(tmp_path / f"a{seed}", shares, 600, 100 + seed))
        other = spread(corpus(tmp_path / f"b{seed}", shares, 600, 200 + seed))
        found += skews(one, other)
    assert found == []


def test_many_documents_of_few_sources_are_little_evidence(tmp_path: Path) -> None:
    """Forty documents a file, all of one language: 15 files, not 600 documents, speak for a share."""
    alarms = 0
    for seed in range(12):
        shares = {"en": 0.5, "de": 0.5}
        one = spread(corpus(tmp_path / f"a{seed}", shares, 600, seed, per_source=40))
        other = spread(corpus(tmp_path / f"b{seed}", shares, 600, 50 + seed, per_source=40))
        assert abs(one.share("language", "en").deviation) > 0.05
        alarms += bool(skews(one, other, ["language"]))
    assert alarms == 0


def test_an_empty_side_has_no_skew() -> None:
    assert skews(Spread(), Spread()) == []
    assert set(DIMENSIONS) == {"language", "kind", "licence", "source", "length"}


def test_rules_show_samples_from_all_over(tmp_path: Path) -> None:
    ledger = [Dropped(f"{i}.txt", "gopher.words", "few", i, 50.0, f"text {i}\n" * 100) for i in range(300)]
    ledger += [Dropped("b.bin", "binary", "NUL byte at 3")]
    write_corpus(tmp_path, Split([Document("a", "a", "x", "text")], []), [], ledger, {})
    told = rules(tmp_path, shown=5)
    assert [(one.name, one.documents, one.threshold) for one in told] == [
        ("gopher.words", 300, 50.0),
        ("binary", 1, None),
    ]
    samples = told[0].samples
    assert samples == rules(tmp_path, shown=5)[0].samples
    assert len({one.path for one in samples}) == 5
    assert max(one.value or 0 for one in samples) > 100  # not just the first ones
    assert {one.path for one in rules(tmp_path, shown=3)[0].samples} <= {one.path for one in samples}
    assert [one.name for one in rules(tmp_path, 1, "gopher")] == ["gopher.words"]
    assert rules(tmp_path, 0)[1].samples == []
    plain = told[0].plain()
    assert len(plain["samples"][0]["excerpt"]) <= EXCERPT
    assert plain["samples"][0]["threshold"] == 50.0


def test_an_excerpt_is_one_line() -> None:
    assert excerpt("a\n\n b\t c") == "a b c"
    assert len(excerpt("word " * 1000)) == EXCERPT
