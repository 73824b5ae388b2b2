"""Texts as bare words against datatrove's normalisation, and span hashes against the definition."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingot.data.dedup import rolling
from ingot.data.dedup.rolling import Sums, windows
from ingot.data.dedup.words import PIECE, batches, joined, normal, words

ASSIGNED = st.characters(exclude_categories=("Cs", "Cn", "Co"), max_codepoint=0x1FFFF)
NASTY = st.text("aB1.,٫٣߀ é\u0301ΣςσİK≠\u1fef\u2000\u3000\u00a0日本かが’—…\n\t\x85_-'\x00\x1c%")


def plain(text: str, **options: str) -> list[str]:
    return normal(text, **options).decode("utf-8", "surrogatepass").split(" ")  # type: ignore[arg-type]


@given(NASTY | st.text(ASSIGNED))
def test_words_are_those_of_datatrove(text: str) -> None:
    oracle = pytest.importorskip("datatrove.utils.text")
    expected = re.sub("([\u3040-\u30ff\u3400-\u9fff])", r" \1 ", oracle.simplify_text(text)).split()
    assert [word for word in plain(text) if word] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Café No. 12.50 -- it's OPEN", "cafe no 0 it s open"),
        ("1,234,567 and v1.2.3.4", "0 0 and v0 0"),
        ("ÀÉÎÕÜ — naïve", "aeiou naive"),
        ("日本語 text", "日 本 語 text"),
        ("foo(bar_baz)[1]", "foo bar baz 0"),
    ],
)
def test_words_of_examples(text: str, expected: str) -> None:
    assert [word for word in plain(text) if word] == expected.split()


@given(st.text())
def test_digits_may_be_kept(text: str) -> None:
    kept = "".join(plain(text, numbers="kept"))
    assert [c for c in kept if c in "0123456789"] == [c for c in text if c in "0123456789"]


@given(st.text() | st.text("a\ud800\udfff é"))
def test_any_text_has_words(text: str) -> None:
    data = normal(text)
    found = words(data)
    cut = [data[start:end] for start, end in zip(found.starts, found.ends, strict=True)]
    assert cut == [word for word in data.split(b" ") if word]


@given(st.lists(st.text("ab é日", max_size=12), max_size=8))
def test_equal_words_have_equal_hashes_wherever_they_stand(texts: list[str]) -> None:
    seen: dict[bytes, int] = {}
    for batch in batches(texts):
        data, found, first, last = joined(batch)
        assert [end - start for start, end in zip(first, last, strict=True)] == [
            len(t.split()) for t in batch
        ]
        for start, end, hashed in zip(found.starts, found.ends, found.hashes.tolist(), strict=True):
            assert seen.setdefault(data[start:end], hashed) == hashed
    assert len(set(seen.values())) == len(seen)


def test_long_texts_are_hashed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    data = " ".join(f"w{n}" for n in rng.integers(0, 1000, size=2000)).encode()
    whole = words(data)
    monkeypatch.setattr("ingot.data.dedup.words.PIECE", 1000)
    pieces = words(data)
    for one, other in zip(whole, pieces, strict=True):
        assert (one == other).all()


def test_a_word_without_end_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingot.data.dedup.words.PIECE", 100)
    found = words(b"x" * 450 + b" end")
    assert (found.ends - found.starts).tolist() == [100, 100, 100, 100, 50, 3]
    assert PIECE > 100


@given(st.lists(st.integers(0, 3), max_size=40), st.integers(1, 6))
def test_windows_are_equal_where_their_values_are(numbers: list[int], width: int) -> None:
    values = np.array(numbers, dtype=np.uint8)
    hashes = windows(values, width).tolist()
    spans = [tuple(numbers[i : i + width]) for i in range(len(numbers) - width + 1)]
    assert len(hashes) == len(spans)
    assert len(set(zip(spans, hashes, strict=True))) == len(set(spans)) == len(set(hashes))


@given(st.lists(st.integers(0, 255), min_size=1, max_size=60), st.integers(1, 8))
def test_windows_equal_the_polynomial(numbers: list[int], width: int) -> None:
    """Against Python's whole numbers, in pieces and not."""
    values = np.array(numbers, dtype=np.uint32)
    expected = [
        sum((value + 1) * rolling._BASE**place for place, value in enumerate(numbers[i : i + width])) % 2**64
        for i in range(len(numbers) - width + 1)
    ]
    assert windows(values, width).tolist() == expected
    sums = Sums(values)
    assert sums.windows(width).tolist() == expected
    starts = np.arange(len(expected))
    assert sums.spans(starts, starts + width).tolist() == expected


def test_windows_of_long_sequences_do_not_show_the_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 256, size=1000).astype(np.uint8)
    expected = windows(values, 7)
    monkeypatch.setattr(rolling, "PIECE", 64)
    assert (windows(values, 7) == expected).all()
