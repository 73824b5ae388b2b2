"""Conversion: a tokenizer written in another format, and read back to see what became of it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ingot.tokenizer import files
from ingot.tokenizer.overview import split_of
from ingot.tokenizer.pretokenise import single_pattern
from ingot.tokenizer.split import PATTERNS
from ingot.tokenizer.tokenizer import Tokenizer

PROBES = (
    "The quick brown fox jumps over the lazy dog.",
    "  def area(x2):\n\treturn x2 ** 2  # 12345 square metres\r\n\n\n",
    "I'll say it's 3.14159, won't you? HELLO WORLD's",
    "Zażółć gęślą jaźń; Ünïcödé naïve café e\u0301",
    "Съешь же ещё этих мягких французских булок",
    "视野无限广，窗外有蓝天。ひらがな カタカナ",
    "मैं काँच खा सकता हूँ مرحبا بالعالم",
    "👩‍👩‍👧‍👦 🇫🇷 ☕️ \u0085 \u00a0 \u3000 end ",
)
"""What encodings are compared on: English, code, contractions, accents, six other scripts, emoji, blanks."""


@dataclass(frozen=True)
class Converted:
    """What came of a conversion.

    Args:
        probes: texts that were encoded before and after.
        same: how many of them have the same ids, read back as the file alone is read.
        lost: what the format does not hold, for people.
    """

    probes: int
    same: int
    lost: list[str]

    def plain(self) -> dict[str, Any]:
        """Returns it as plain data."""
        return asdict(self)


def convert(tokenizer: Tokenizer, place: Path, form: str) -> Converted:
    """Writes a tokenizer in another format and reads it back.

    Args:
        tokenizer: to write.
        place: a folder for "huggingface" and "gpt2", a file for "tiktoken" and "sentencepiece".
        form: one of `files.FORMATS`.

    Raises:
        ArtifactError: the format cannot hold this tokenizer.
    """
    files.export(tokenizer.parts, place, form)
    pattern = single_pattern(tokenizer.parts.pretokeniser)
    bare = form in ("tiktoken", "gpt2")
    again = Tokenizer(files.load(_named(place, form), pattern if bare else None))
    same = sum(again.encode(probe) == tokenizer.encode(probe) for probe in PROBES)
    lost = []
    if bare and pattern is not None:
        name = split_of(tokenizer)
        lost.append(f"the split; read it with --split {name if name in PATTERNS else repr(pattern)}")
    if form == "tiktoken" and tokenizer.special:
        lost.append("control tokens: " + ", ".join(tokenizer.special))
    if form == "gpt2" and tokenizer.parts.roles:
        lost.append("what control tokens are for")
    if form == "gpt2" and tokenizer.parts.normaliser:
        lost.append("the normaliser")
    if form != "huggingface" and tokenizer.parts.chat_template:
        lost.append("the chat template")
    return Converted(len(PROBES), same, lost)


def _named(place: Path, form: str) -> Path:
    """The file of a folder that may hold others as well."""
    return place / {"huggingface": "tokenizer.json", "gpt2": "vocab.json"}.get(form, "")
