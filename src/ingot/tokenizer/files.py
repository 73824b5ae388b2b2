"""Tokenizer files: which format lies at a place, and writing any of them.

```
tokenizer.json (+ tokenizer_config.json)   everything; what this package writes
vocab.json + merges.txt                     GPT-2's; also encoder.json + vocab.bpe
*.tiktoken                                  ranks; also tokenizer.model of Llama 3
*.model                                     SentencePiece: Unigram and BPE
```
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ingot.errors import ConfigError, did_you_mean
from ingot.tokenizer import gpt2_files, hugging_face, sentencepiece, tiktoken_ranks
from ingot.tokenizer.parts import Parts
from ingot.tokenizer.reading import read_bytes, refuse
from ingot.tokenizer.split import Splitter

FORMATS = ("huggingface", "gpt2", "tiktoken", "sentencepiece")
"""What `export` writes: a folder with tokenizer.json, a folder with vocab.json and merges.txt, or a file."""

_PAIRS = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
_PATTERN_BY_NAME = (
    ("r50k", "gpt2"),
    ("p50k", "gpt2"),
    ("gpt2", "gpt2"),
    ("o200k", "o200k"),
    ("qwen", "qwen2"),
)
"""The split that belongs to a rank file by its name; any other file gets cl100k's, as Llama 3's."""


def load(place: Path, split: str | None = None, specials: Sequence[str] = ()) -> Parts:
    """Reads a tokenizer from a folder or a file of any format.

    Args:
        place: a folder that holds one of the formats, or one file of it.
        split: name or pattern of the split, for formats that do not hold it; None goes by the file's name.
        specials: control tokens that follow the ranks of a rank file.

    Raises:
        ArtifactError: nothing there, damaged, or of a kind that is not supported.
    """
    if not place.is_dir():
        return _file(place, split, specials)
    for name in (hugging_face.TOKENIZER, *(first for first, _ in _PAIRS), "tokenizer.model", "spiece.model"):
        if (place / name).is_file():
            return _file(place / name, split, specials)
    others = sorted([*place.glob("*.tiktoken"), *place.glob("*.model")])
    return _file(others[0] if len(others) == 1 else place / hugging_face.TOKENIZER, split, specials)


def export(parts: Parts, place: Path, form: str) -> None:
    """Writes a tokenizer in a format.

    Args:
        parts: of the tokenizer.
        place: a folder for "huggingface" and "gpt2", a file for "tiktoken" and "sentencepiece".
        form: one of `FORMATS`.

    Raises:
        ConfigError: an unknown format.
        ArtifactError: the format cannot hold this tokenizer.
    """
    writers = (hugging_face.write, gpt2_files.write, tiktoken_ranks.write, sentencepiece.write)
    known = dict(zip(FORMATS, writers, strict=True))
    if form not in known:
        raise ConfigError(f"unknown format '{form}'", where="format", fix=did_you_mean(form, FORMATS))
    known[form](place, parts)


def _file(path: Path, split: str | None, specials: Sequence[str]) -> Parts:
    pattern = None if split is None else Splitter(split).pattern
    for vocabulary, merges in _PAIRS:
        if path.name in (vocabulary, merges):
            pattern = pattern or Splitter("gpt2").pattern
            return gpt2_files.read(path.with_name(vocabulary), path.with_name(merges), pattern)
    if path.suffix == ".json":
        return hugging_face.read(path)
    if path.suffix == ".tiktoken" or (path.suffix == ".model" and _is_ranks(path)):
        guess = next((name for part, name in _PATTERN_BY_NAME if part in path.name.lower()), "cl100k")
        return tiktoken_ranks.read(path, pattern or Splitter(guess).pattern, specials)
    if path.suffix == ".model":
        return sentencepiece.read(path)
    fix = "give a folder, or a file that ends with .json, .model or .tiktoken"
    raise refuse("is no tokenizer file", path, fix)


def _is_ranks(path: Path) -> bool:
    """Whether the file is text like `IQ== 0`."""
    line = read_bytes(path)[:200].partition(b"\n")[0].split()
    return len(line) == 2 and line[1].isdigit()
