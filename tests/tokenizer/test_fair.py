"""Parity-aware training against its definition, and what it does for five scripts."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from five_scripts import SENTENCES
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.errors import DataError
from ingot.tokenizer import Tokenizer, bpe, fair
from ingot.tokenizer.bytes import BYTE_ORDER
from ingot.tokenizer.fair import Language
from ingot.tokenizer.measure import parallel_costs, premiums
from ingot.tokenizer.split import count_pieces

MERGES = 500
MOST_TEXT = {"English": 60, "Russian": 12, "Greek": 3, "Hindi": 2, "Chinese": 4}
"""How many times the sentences stand in the corpus: as on the web, most of it is English."""


def corpus() -> dict[str, Counter[str]]:
    return {
        name: Counter({piece: count * MOST_TEXT[name] for piece, count in count_pieces(texts).items()})
        for name, texts in SENTENCES.items()
    }


def languages() -> dict[str, Language]:
    return {
        name: Language(pieces, count_pieces(SENTENCES[name]), units=len(SENTENCES[name]))
        for name, pieces in corpus().items()
    }


def test_the_sentences_are_parallel() -> None:
    assert {len(texts) for texts in SENTENCES.values()} == {28}


def test_five_scripts_cost_alike_with_balancing_and_not_without() -> None:
    everything: Counter[str] = Counter()
    for pieces in corpus().values():
        everything.update(pieces)
    plain = premiums(parallel_costs(Tokenizer(bpe.train(everything, MERGES)), SENTENCES))
    trained = fair.train(languages(), MERGES)
    tokenizer = Tokenizer(trained.merges)
    costs = parallel_costs(tokenizer, SENTENCES)
    balanced = premiums(costs)
    print(f"worst by best: {plain.spread:.2f} without, {balanced.spread:.2f} with balancing; {costs}")
    assert balanced.spread <= 1.5
    assert plain.spread > 2 * balanced.spread
    assert trained.cost == pytest.approx(costs)
    for texts in SENTENCES.values():
        for text in texts:
            assert tokenizer.decode(tokenizer.encode(text)) == text  # bytes: nothing is unknown


def plain_fair(languages: dict[str, Language], merges: int) -> tuple[list[tuple[int, int]], list[str]]:
    """The definition: find the worst language, merge its most frequent pair in all."""
    ids = {byte: token for token, byte in enumerate(BYTE_ORDER)}

    def cut(pieces: dict[str, int]) -> list[tuple[list[int], int]]:
        return [([ids[byte] for byte in piece.encode()], count) for piece, count in pieces.items()]

    texts = {name: cut(dict(language.pieces)) for name, language in languages.items()}
    judged = {
        name: cut(dict(language.development or language.pieces)) for name, language in languages.items()
    }
    learned: list[tuple[int, int]] = []
    chosen: list[str] = []
    while len(learned) < merges:
        costs = {
            name: sum(len(word) * count for word, count in words) / (languages[name].units or 1)
            for name, words in judged.items()
        }
        for name in sorted(costs, key=lambda name: (-costs[name], name)):
            counts: Counter[tuple[int, int]] = Counter()
            for word, count in texts[name]:
                for pair in itertools.pairwise(word):
                    counts[pair] += count
            best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
            if best is not None and counts[best] >= 2:
                break
        else:
            break
        for word, _ in itertools.chain(*texts.values(), *judged.values()):
            position = 0
            while position < len(word) - 1:
                if (word[position], word[position + 1]) == best:
                    word[position : position + 2] = [256 + len(learned)]
                position += 1
        learned.append(best)
        chosen.append(name)
    return learned, chosen


Pieces = dict[str, int]
WORDS = st.dictionaries(st.text("abc", min_size=1, max_size=8), st.integers(1, 5), min_size=1, max_size=6)


@settings(max_examples=80, deadline=None)
@given(st.dictionaries(st.sampled_from("xyz"), st.tuples(WORDS, WORDS), min_size=1), st.integers(0, 15))
def test_merges_follow_the_definition(texts: dict[str, tuple[Pieces, Pieces]], merges: int) -> None:
    languages = {name: Language(pieces, judged, units=3) for name, (pieces, judged) in texts.items()}
    found = fair.train(languages, merges)
    assert (found.merges, found.chosen) == plain_fair(languages, merges)


@given(WORDS, st.integers(0, 15))
def test_one_language_is_trained_as_usual(pieces: dict[str, int], merges: int) -> None:
    assert fair.train({"only": Language(pieces)}, merges).merges == bpe.train(pieces, merges)


def test_the_hybrid_begins_with_the_usual_merges() -> None:
    everything: Counter[str] = Counter()
    for pieces in corpus().values():
        everything.update(pieces)
    found = fair.train(languages(), 100, from_all=60)
    assert found.merges[:60] == bpe.train(everything, 60)
    assert found.chosen[:60] == [""] * 60
    assert "" not in found.chosen[60:]


def test_a_window_keeps_a_hopeless_language_from_taking_all() -> None:
    """Its training text has nothing of its development text, so no merge brings its cost down."""
    hopeless = Language({f"{a}{b}" * 3: 9 for a in "abcdefgh" for b in "ijklmnop"}, {"xyzxyz": 9}, units=1)
    fine = Language({"mnomno qrs": 5, "mno": 4}, units=30)
    assert set(fair.train({"a": hopeless, "b": fine}, 30).chosen) == {"a"}
    chosen = fair.train({"a": hopeless, "b": fine, "c": fine}, 12, window=6).chosen
    assert chosen.count("a") < 9 and {"b", "c"} & set(chosen)


def test_a_language_without_text_is_refused() -> None:
    with pytest.raises(DataError, match="no text to judge 'b'"):
        fair.train({"a": Language({"ab": 2}), "b": Language({})}, 5)
    with pytest.raises(DataError, match="no language"):
        fair.train({}, 5)


def test_sentences_that_were_not_trained_on_cost_alike_too() -> None:
    known = {name: texts[:20] for name, texts in SENTENCES.items()}
    others = {name: texts[20:] for name, texts in SENTENCES.items()}
    everything: Counter[str] = Counter()
    languages = {}
    for name, texts in known.items():
        counted = count_pieces(texts)
        often = Counter({piece: count * MOST_TEXT[name] for piece, count in counted.items()})
        languages[name] = Language(often, counted, units=len(texts))
        everything.update(often)
    plain = premiums(parallel_costs(Tokenizer(bpe.train(everything, 300)), others))
    balanced = premiums(parallel_costs(Tokenizer(fair.train(languages, 300).merges), others))
    assert balanced.spread <= 1.5 < plain.spread
