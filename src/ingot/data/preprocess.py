"""Classic preprocessing, for models that count words: lower case, no signs, no stop words, stems or lemmas.

Language models want text as it is; this is for those that do not, and it happens on request only.

    text -> words -> lower case -> without signs -> without stop words -> lemmas -> stems -> text
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, Literal

from pydantic import Field

from ingot.config import Config
from ingot.data.porter import stem
from ingot.data.rules.signs import SIGNS
from ingot.data.rules.words import splitter
from ingot.data.stop_words import STOP_WORDS
from ingot.errors import ConfigError, ResourceError, did_you_mean

_NAMES = {
    "da": "danish",
    "de": "german",
    "en": "english",
    "es": "spanish",
    "fi": "finnish",
    "fr": "french",
    "hu": "hungarian",
    "it": "italian",
    "nl": "dutch",
    "no": "norwegian",
    "pt": "portuguese",
    "ro": "romanian",
    "ru": "russian",
    "sv": "swedish",
}
"""What NLTK calls languages."""


class Preprocess(Config):
    """What is done to the words of a text.

    Args:
        language: of the text, as a two-letter code.
        lower: write all words in lower case.
        signs: keep words that are only signs.
        stop_words: leave out: "own" the short lists of this package, "nltk" the longer ones of NLTK.
        lemmas: the form that a dictionary has: "wordnet" by NLTK (English), "spacy" by a model of spaCy.
        model: that model's name; None is the small one of the language, for English "en_core_web_sm".
        stem: cut endings: "porter" by our own stemmer (English), "snowball" by NLTK's.
    """

    language: str = Field(default="en", pattern="^[a-z]{2}$")
    lower: bool = True
    signs: bool = False
    stop_words: Literal["own", "nltk"] | None = None
    lemmas: Literal["wordnet", "spacy"] | None = None
    model: str | None = None
    stem: Literal["porter", "snowball"] | None = None

    def check(self) -> None:
        """Makes sure that lists, models and packages are there.

        Raises:
            ResourceError: one is missing.
            ConfigError: there is none for the language.
        """
        if self.language != "en" and (self.stem == "porter" or self.lemmas == "wordnet"):
            key, value = ("stem", "porter") if self.stem == "porter" else ("lemmas", "wordnet")
            other = "snowball" if key == "stem" else "spacy"
            raise ConfigError(
                f"'{value}' is for English, not '{self.language}'",
                where=f"preprocess.{key}",
                fix=f"use {key}={other}",
            )
        self.words("word")

    def words(self, text: str) -> list[str]:
        """Returns the words of a text, processed.

        Raises:
            ResourceError: a list, model or package is missing.
            ConfigError: there is none for the language.

        Example:
            >>> Preprocess(stop_words="own", stem="porter").words("The ponies were hopping, weren't they?")
            ['poni', 'hop', 'weren', "'t"]
        """
        words: Iterable[str] = splitter("fast").words(text)
        if not self.signs:
            words = (word for word in words if not SIGNS.issuperset(word))
        if self.stop_words is not None:
            stops = _stop_words(self.stop_words, self.language)
            words = (word for word in words if word.lower() not in stops)
        if self.lemmas is not None:
            words = _lemmatizer(self.lemmas, self.language, self.model)(list(words))
        if self.lower:
            words = map(str.lower, words)
        if self.stem is not None:
            words = map(_stemmer(self.stem, self.language), words)
        return list(words)

    def apply(self, text: str) -> str:
        """Returns the text made of its processed words, line by line, one blank between words.

        Example:
            >>> Preprocess(stem="porter").apply("Relational databases.\\nHopping!")
            'relat databas\\nhop'
        """
        return "\n".join(" ".join(self.words(line)) for line in text.split("\n"))


@functools.cache
def _stop_words(source: str, language: str) -> frozenset[str]:
    if source == "own":
        if language not in STOP_WORDS:
            fix = did_you_mean(language, STOP_WORDS)
            raise ConfigError(f"no stop words for '{language}'", where="preprocess.stop_words", fix=fix)
        return STOP_WORDS[language]
    corpus = _nltk("nltk.corpus", "preprocess.stop_words").stopwords
    try:
        return frozenset(corpus.words(_NAMES.get(language, language)))
    except (LookupError, OSError):
        raise _no_data("stopwords", "preprocess.stop_words") from None


@functools.cache
def _stemmer(name: str, language: str) -> Callable[[str], str]:
    if name == "porter":
        return stem
    snowball = _nltk("nltk.stem.snowball", "preprocess.stem")
    if language not in _NAMES:
        raise ConfigError(
            f"no stemmer for '{language}'", where="preprocess.stem", fix=did_you_mean(language, _NAMES)
        )
    found: Callable[[str], str] = snowball.SnowballStemmer(_NAMES[language]).stem
    return found


@functools.cache
def _lemmatizer(name: str, language: str, model: str | None) -> Callable[[list[str]], list[str]]:
    if name == "wordnet":
        wordnet = _nltk("nltk.stem", "preprocess.lemmas").WordNetLemmatizer()
        try:
            wordnet.lemmatize("words")
        except LookupError:
            raise _no_data("wordnet", "preprocess.lemmas") from None
        return lambda words: [wordnet.lemmatize(word) for word in words]
    return _spacy_lemmatizer(model or f"{language}_core_{'web' if language in ('en', 'zh') else 'news'}_sm")


def _spacy_lemmatizer(model: str) -> Callable[[list[str]], list[str]]:
    try:
        import spacy
    except ImportError:
        raise ResourceError(
            "the package 'spacy' is missing", where="preprocess.lemmas", fix="pip install spacy"
        ) from None
    try:
        pipeline = spacy.load(model)
    except OSError:
        raise ResourceError(
            f"spaCy's model '{model}' is missing",
            where="preprocess.lemmas",
            fix=f"python -m spacy download {model}",
        ) from None

    def lemmas(words: list[str]) -> list[str]:
        document = spacy.tokens.Doc(pipeline.vocab, words=words)
        return [token.lemma_ or token.text for token in pipeline(document)]

    return lemmas


def _nltk(module: str, where: str) -> Any:
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise ResourceError("the package 'nltk' is missing", where=where, fix="pip install nltk") from None


def _no_data(name: str, where: str) -> ResourceError:
    return ResourceError(
        f"NLTK's data '{name}' is missing", where=where, fix=f"python -m nltk.downloader {name}"
    )
