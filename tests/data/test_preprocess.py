"""Classic preprocessing: our stemmer against NLTK's, the rest against golden texts."""

from __future__ import annotations

import importlib.util
import random
import re
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.data import preprocess
from ingot.data.porter import stem
from ingot.data.preprocess import Preprocess
from ingot.data.stop_words import STOP_WORDS
from ingot.errors import ConfigError, ResourceError

TEXT = "The ponies were hopping, happily; weren't they?\nNo: 3.5 CARS (relational databases)!"


def vocabulary() -> list[str]:
    """Words of the interpreter's library, and every one of them with other endings."""
    folder = Path(re.__file__).parent.parent
    files = [
        path
        for path in sorted(folder.glob("*.py")) + sorted(folder.glob("*/*.py"))
        if "site-" not in str(path)
    ]
    words = set()
    for path in files[:400]:
        words.update(re.findall(r"[A-Za-z]{1,20}", path.read_text(encoding="utf-8", errors="replace")))
    return random.Random(0).sample(sorted(words), k=min(12_000, len(words)))


def test_stems_are_nltks() -> None:
    porter = pytest.importorskip("nltk.stem.porter").PorterStemmer(mode="ORIGINAL_ALGORITHM")
    words = vocabulary()
    assert len(words) >= 10_000
    assert [stem(word) for word in words] == [porter.stem(word) for word in words]


ENDINGS = (
    *("s", "es", "ies", "sses", "eed", "ed", "ing", "y", "ational", "tional", "enci", "anci", "izer", "abli"),
    *("alli", "entli", "eli", "ousli", "ization", "ation", "ator", "alism", "iveness", "fulness", "ousness"),
    *("aliti", "iviti", "biliti", "icate", "ative", "alize", "iciti", "ical", "ful", "ness", "al", "ance"),
    *("ence", "er", "ic", "able", "ible", "ant", "ement", "ment", "ent", "ion", "ou", "ism", "ate", "iti"),
    *("ous", "ive", "ize", "e", "ll", "at", "bl", "iz", "tt", "ss", "zz"),
)


@settings(deadline=None, max_examples=500)
@given(st.text("abcehiklnostwyz", max_size=6), st.lists(st.sampled_from(ENDINGS), max_size=3))
def test_stems_of_made_up_words_are_nltks(start: str, endings: list[str]) -> None:
    porter = pytest.importorskip("nltk.stem.porter").PorterStemmer(mode="ORIGINAL_ALGORITHM")
    word = start + "".join(endings)
    assert stem(word) == porter.stem(word)


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (Preprocess(), "the ponies were hopping happily weren 't they\nno 3.5 cars relational databases"),
        (Preprocess(lower=False, signs=True).model_copy(), None),
        (Preprocess(stop_words="own"), "ponies hopping happily weren 't\n3.5 cars relational databases"),
        (Preprocess(stop_words="own", stem="porter"), "poni hop happili weren 't\n3.5 car relat databas"),
        (
            Preprocess(lower=False, stop_words="own"),
            "ponies hopping happily weren 't\n3.5 CARS relational databases",
        ),
    ],
)
def test_golden_texts(config: Preprocess, expected: str | None) -> None:
    if expected is None:
        expected = (
            "The ponies were hopping , happily ; weren 't they ?\nNo : 3.5 CARS ( relational databases ) !"
        )
    assert config.apply(TEXT) == expected


def test_snowball_stems_of_other_languages() -> None:
    pytest.importorskip("nltk")
    assert Preprocess(language="de", stem="snowball").words("Die Häuser standen") == ["die", "haus", "stand"]
    assert Preprocess(language="de", stop_words="own").words("Die Häuser standen dort.") == [
        "häuser",
        "standen",
        "dort",
    ]


def test_stop_word_lists_hold_what_they_should() -> None:
    assert len(STOP_WORDS) >= 10
    for code, words in STOP_WORDS.items():
        assert 50 <= len(words) <= 130, code
        assert all(word == word.lower() for word in words)
    assert {"the", "and", "of", "is"} <= STOP_WORDS["en"]


def test_lemmas_and_long_lists_need_their_data(monkeypatch: pytest.MonkeyPatch) -> None:
    nltk = pytest.importorskip("nltk")
    pytest.importorskip("spacy")
    with pytest.raises(ResourceError, match=r"model 'no_such_model' is missing; python -m spacy download"):
        Preprocess(lemmas="spacy", model="no_such_model").check()
    if importlib.util.find_spec("en_core_web_sm") is None:
        with pytest.raises(ResourceError, match=r"model 'en_core_web_sm' is missing"):
            Preprocess(lemmas="spacy").check()
    monkeypatch.setattr(nltk.data, "path", [])
    for config, name in (
        (Preprocess(lemmas="wordnet"), "wordnet"),
        (Preprocess(stop_words="nltk"), "stopwords"),
    ):
        with pytest.raises(ResourceError, match=rf"'{name}' is missing; python -m nltk.downloader {name}"):
            config.check()


def test_lemmas_of_a_spacy_pipeline(tmp_path: Path) -> None:
    spacy = pytest.importorskip("spacy")
    pipeline = spacy.blank("en")
    ruler = pipeline.add_pipe("attribute_ruler")
    ruler.add([[{"LOWER": "mice"}]], {"LEMMA": "mouse"})
    pipeline.to_disk(tmp_path / "model")
    assert Preprocess(lemmas="spacy", model=str(tmp_path / "model")).words("Three mice.") == [
        "three",
        "mouse",
    ]


@pytest.mark.parametrize(
    ("config", "match"),
    [
        (Preprocess(language="de", stem="porter"), "'porter' is for English, not 'de'; use stem=snowball"),
        (Preprocess(language="fr", lemmas="wordnet"), "'wordnet' is for English.*use lemmas=spacy"),
        (Preprocess(language="ja", stop_words="own"), "no stop words for 'ja'"),
        (Preprocess(language="ja", stem="snowball"), "no stemmer for 'ja'"),
    ],
)
def test_languages_without_a_list_are_named(config: Preprocess, match: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.check()
    assert re.search(match, str(caught.value))


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("nltk", "nltk.corpus", "nltk.stem", "nltk.stem.snowball", "spacy"):
        monkeypatch.setitem(sys.modules, module, None)
    for cached in (preprocess._stop_words, preprocess._stemmer, preprocess._lemmatizer):
        cached.cache_clear()
    for config in (Preprocess(stem="snowball"), Preprocess(stop_words="nltk"), Preprocess(lemmas="wordnet")):
        with pytest.raises(ResourceError, match="the package 'nltk' is missing"):
            config.check()
    with pytest.raises(ResourceError, match="the package 'spacy' is missing"):
        Preprocess(lemmas="spacy").check()
