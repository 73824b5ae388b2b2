"""Cleaning a document: repair it, scrub it, learn its language, and hold it against rules.

    document -> clean -> repair -> scrub -> language -> repetition -> quality -> C4 -> FineWeb -> document
                  '-> Dropped     '----- prose only, but for keys, which are scrubbed in code too ----'

The order of the rules is FineWeb's. Scrubbing comes before them, so that nothing personal reaches the ledger
of what was dropped, and so that what is judged is what is kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from pydantic import Field, model_validator

from ingot.config import Config
from ingot.data.clean import clean, objection
from ingot.data.document import Document, Dropped, is_code
from ingot.data.language import Language
from ingot.data.preprocess import Preprocess
from ingot.data.privacy import Privacy
from ingot.data.repair import Repair, need_ftfy
from ingot.data.rules.c4 import C4
from ingot.data.rules.fineweb import FineWeb
from ingot.data.rules.gopher import GopherQuality
from ingot.data.rules.objection import Objection
from ingot.data.rules.repetition import GopherRepetition
from ingot.data.rules.statistics import Statistics
from ingot.data.rules.words import SplitterName, splitter

PresetName = Literal["web", "own"]


class Cleaning(Config):
    """What is done to each document; by default, no more than making line ends uniform.

    Args:
        preset: settings to start from, which the others here override: "web" as FineWeb was made, "own" for
            a person's own folder, where odd texts are rare and each one counts.
        min_bytes: shorter documents go.
        repair: one normal form, and wrong decoding undone, in prose.
        privacy: personal data and keys replaced.
        language: identified, and perhaps the only one to keep; prose only.
        repetition: Gopher's rules against repetition.
        quality: Gopher's rules for quality.
        c4: C4's rules, which edit lines.
        fineweb: FineWeb's own rules.
        preprocess: classic preprocessing of what is left: stop words, stems, lemmas.
        words: how rules split words: "fast", or "spacy" as datatrove does, thirty times slower.
        min_judged_words: prose of fewer words is kept without a look at the rules, which need some text.
        max_judged: Gopher's rules look at the first so many characters of a document.
    """

    preset: PresetName | None = None
    min_bytes: int = Field(default=1, ge=1)
    repair: Repair | None = None
    privacy: Privacy | None = None
    language: Language | None = None
    repetition: GopherRepetition | None = None
    quality: GopherQuality | None = None
    c4: C4 | None = None
    fineweb: FineWeb | None = None
    preprocess: Preprocess | None = None
    words: SplitterName = "fast"
    min_judged_words: int = Field(default=0, ge=0)
    max_judged: int = Field(default=4_000_000, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _start_from_preset(cls, values: Any) -> Any:
        name = values.get("preset") if isinstance(values, Mapping) else None
        return _merged(PRESETS[name], values) if name in PRESETS else values

    def build(self) -> Cleaner:
        """Returns the cleaner.

        Raises:
            ResourceError: a package that it needs is missing.
            ConfigError: a language that nothing here knows.
        """
        return Cleaner(self)


PRESETS: dict[str, dict[str, Any]] = {
    "web": {
        "repair": {},
        "privacy": {"kinds": ["email", "ip"], "code": ["key"]},
        "language": {"keep": ["en"]},
        "repetition": {},
        "quality": {},
        "c4": {"terminal_punctuation": False},
        "fineweb": {},
    },
    "own": {
        "repair": {},
        "privacy": {},
        "language": {},
        "repetition": {
            "max_paragraphs": 0.5,
            "max_paragraph_letters": 0.5,
            "max_lines": 0.5,
            "max_line_letters": 0.5,
            "top": None,
            "repeated": {10: 0.5},
        },
        "quality": {
            "min_words": None,
            "max_words": None,
            "min_mean_word_length": None,
            "min_alphabetic": 0.5,
            "stop_words_language": "en",
        },
        "min_judged_words": 50,
    },
}
"""FineWeb's settings, and those for one's own folder: no rule of web pages (C4, FineWeb), no demand for
length, English stop words in English only; signs may be half of all words, as in tables and Markdown; a text
goes for repetition only where half of it repeats (published thresholds drop most changelogs and licences)."""


@dataclass(frozen=True)
class Cleaned:
    """What became of a document.

    Args:
        result: the clean document, or why it was dropped.
        changes: how often what was changed in it, such as "privacy.email" or "c4.line".
    """

    result: Document | Dropped
    changes: Counter[str] = field(default_factory=Counter)


class Cleaner:
    """Cleans documents one by one; holds nothing but its settings, so it can travel to other processes.

    Args:
        config: what to do.

    Example:
        >>> cleaner = Cleaning(repair=Repair()).build()
        >>> cleaner.clean(Document("a", "a", "schÃ¶n\\r\\n", "text")).text
        'schön\\n'
    """

    def __init__(self, config: Cleaning) -> None:
        self.config = config
        splitter(config.words)
        if config.repair is not None and config.repair.mojibake:
            need_ftfy()
        if config.language is not None:
            config.language.check()
        if config.preprocess is not None:
            config.preprocess.check()

    def clean(self, document: Document) -> Document | Dropped:
        """Returns the document cleaned, or why it was dropped."""
        return self.treat(document).result

    def treat(self, document: Document) -> Cleaned:
        """Returns the same, and what was changed."""
        changes: Counter[str] = Counter()
        code = is_code(document.kind)
        text = self._edited(clean(document.text), code, changes)
        found = objection(text, self.config.min_bytes)
        if found is not None:
            return Cleaned(Dropped(document.id, *found, text=text), changes)
        if code:
            return Cleaned(replace(document, text=text), changes)
        language, wrong = self._language(text)
        language = language or document.language
        judged = wrong or self._judged(text, language, changes)
        if isinstance(judged, Objection):
            dropped = Dropped(document.id, judged.rule, judged.detail, judged.value, judged.threshold, text)
            return Cleaned(dropped, changes)
        if self.config.preprocess is not None:
            judged = self.config.preprocess.apply(judged)
            changes["preprocess"] += 1
        return Cleaned(replace(document, text=judged, language=language), changes)

    def _edited(self, text: str, code: bool, changes: Counter[str]) -> str:
        if self.config.repair is not None and not code:
            repaired = self.config.repair.apply(text)
            changes["repair"] += repaired != text
            text = repaired
        if self.config.privacy is not None:
            text, counts = self.config.privacy.scrub(text, code)
            changes.update({f"privacy.{kind}": count for kind, count in counts.items()})
        return text

    def _language(self, text: str) -> tuple[str | None, Objection | None]:
        return (None, None) if self.config.language is None else self.config.language.judge(text)

    def _judged(self, text: str, language: str | None, changes: Counter[str]) -> str | Objection:
        """The text as the rules leave it, or the first rule that it breaks."""
        config, cut = self.config, splitter(self.config.words)
        known = Statistics(text[: config.max_judged], cut)
        if config.min_judged_words and len(known.words) < config.min_judged_words:
            return text
        found = config.repetition.judge(known) if config.repetition else None
        found = found or (config.quality.judge(known, language) if config.quality else None)
        if found:
            return found
        if config.c4 is not None:
            edited = config.c4.edit(text, cut)
            if isinstance(edited, Objection):
                return edited
            changes["c4.line"] += edited.dropped
            if edited.text != text:
                text, known = edited.text, Statistics(edited.text, cut)
        return (config.fineweb.judge(known) if config.fineweb else None) or text


def _merged(base: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Values over those of the preset, nested ones key by key."""
    merged = dict(base)
    for key, value in values.items():
        inner = merged.get(key)
        if isinstance(value, Mapping) and isinstance(inner, Mapping):
            merged[key] = _merged(inner, value)
        else:
            merged[key] = value
    return merged
