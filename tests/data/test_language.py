"""Language identification: the universal declaration's first article, and what is kept of it."""

from __future__ import annotations

import functools
import pickle
import sys
import types
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.data.language import Language, _model
from ingot.data.rules.objection import Objection
from ingot.errors import ConfigError, ResourceError

pytest.importorskip("py3langid")

ARTICLE = {
    "en": "All human beings are born free and equal in dignity and rights. They are endowed with reason.",
    "de": "Alle Menschen sind frei und gleich an Würde und Rechten geboren. Sie haben Vernunft.",
    "fr": "Tous les êtres humains naissent libres et égaux en dignité et en droits. Ils ont la raison.",
    "es": "Todos los seres humanos nacen libres e iguales en dignidad y derechos y, con razón.",
    "it": "Tutti gli esseri umani nascono liberi ed eguali in dignità e diritti. Essi hanno ragione.",
    "ru": "Все люди рождаются свободными и равными в своем достоинстве и правах. Они наделены разумом.",
    "zh": "人人生而自由，在尊严和权利上一律平等。他们赋有理性和良心，并应以兄弟关系的精神相对待。",
    "ja": "すべての人間は、生まれながらにして自由であり、かつ、尊厳と権利とについて平等である。",
    "ar": "يولد جميع الناس أحرارا متساوين في الكرامة والحقوق، وقد وهبوا عقلا وضميرا",
    "hi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
}


@pytest.mark.parametrize("code", ARTICLE)
def test_languages_are_told_apart(code: str) -> None:
    assert Language().judge(ARTICLE[code]) == (code, None)


def test_only_the_languages_to_keep_stay() -> None:
    keep = Language(keep=("de", "fr"))
    assert [code for code, text in ARTICLE.items() if keep.judge(text)[1] is None] == ["de", "fr"]
    language, wrong = keep.judge(ARTICLE["en"])
    assert language == "en"
    assert isinstance(wrong, Objection)
    assert (wrong.rule, wrong.threshold) == ("language", 0.65)
    assert wrong.value is not None and wrong.value <= 0.65


def test_what_cannot_be_told_has_no_label_and_stays_unless_languages_are_named() -> None:
    assert Language().judge("12 34") == (None, None)
    assert Language().judge("") == (None, None)
    language, wrong = Language(keep=("en",)).judge("12 34")
    assert language is None and wrong is not None


def test_a_long_text_is_sampled_at_its_start_middle_and_end() -> None:
    text = (ARTICLE["de"] + "\n") * 2000
    assert Language(sample=300).judge(text) == ("de", None)
    marked = "a" * 1000 + "b" * 1000 + "c" * 1000
    assert set(Language(sample=90)._sampled(marked)) == {"a", "b", "c", "\n"}
    assert len(Language(sample=90)._sampled(marked)) <= 92


def test_confidence_is_the_models_own() -> None:
    for text in ARTICLE.values():
        _, wrong = Language(keep=("eo",)).judge(text)
        assert wrong is not None
        assert wrong.value == dict(theirs().rank(text))["eo"]


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=300) | st.text("the und de la 的 . é", max_size=300) | st.binary(max_size=200))
def test_every_confidence_is_the_models_own_to_the_last_bit(given: str | bytes) -> None:
    text = given.decode("latin-1") if isinstance(given, bytes) else given
    model = _model()
    expected = dict(theirs().rank(text))
    confidences = model.confidences(text)
    assert {code: float(confidences[place]) for code, place in model.places.items()} == expected


def test_no_more_than_the_last_bytes_decide_what_is_found() -> None:
    """States that go to equal states on every byte are equal one step on; after so many steps all are."""
    model = theirs()
    states, rows = np.array(model.tk_nextmove).reshape(-1, 256), np.array(model.tk_row)
    random = np.random.default_rng(0)
    byte = random.integers(2**63, size=256, dtype=np.uint64) | np.uint64(1)
    kinds = np.arange(len(rows))
    for _ in range(_model()._memory):
        hashes = (random.integers(2**63, size=len(rows), dtype=np.uint64)[kinds][states] * byte).sum(axis=1)
        kinds = np.unique(hashes, return_inverse=True)[1][rows]
    assert not kinds.any()


@functools.cache
def theirs() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def test_the_model_is_loaded_once_and_never_travels() -> None:
    assert _model() is _model()
    assert len(pickle.dumps(Language(keep=("en",)))) < 2000


def test_unknown_languages_and_a_missing_package_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    Language(keep=("en",)).check()
    with pytest.raises(ConfigError, match="no such language: 'english'"):
        Language(keep=("english",)).check()
    _model.cache_clear()
    monkeypatch.setitem(sys.modules, "py3langid.langid", None)
    with pytest.raises(ResourceError, match="the package 'py3langid' is missing"):
        Language().check()
    other = types.SimpleNamespace(from_model_file=lambda file: types.SimpleNamespace(nb_classes=["en"]))
    module = types.SimpleNamespace(MODEL_FILE="", LanguageIdentifier=other)
    monkeypatch.setitem(sys.modules, "py3langid.langid", module)
    with pytest.raises(ResourceError, match="this version of the package 'py3langid' has another model"):
        Language().check()
    monkeypatch.undo()
    Language().check()
