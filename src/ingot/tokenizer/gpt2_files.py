"""`vocab.json` and `merges.txt`, GPT-2's two files (there also called `encoder.json` and `vocab.bpe`).

They hold the vocabulary and the merges of byte-level BPE and nothing else: the split is GPT-2's unless
the caller names another, and a token that no merge makes and that is no byte is taken for a control token.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from ingot.atomic import write_atomic
from ingot.tokenizer import bpe_model
from ingot.tokenizer.bytes import BYTE_ORDER, printable
from ingot.tokenizer.parts import BYTE_DECODER, Parts
from ingot.tokenizer.pretokenise import byte_level, is_byte_level
from ingot.tokenizer.reading import read_json, read_text, refuse
from ingot.tokenizer.specials import Added, usual_roles
from ingot.tokenizer.split import PATTERNS

VOCABULARY, MERGES = "vocab.json", "merges.txt"


def read(vocabulary: Path, merges: Path, pattern: str = PATTERNS["gpt2"]) -> Parts:
    """Reads both files.

    Args:
        vocabulary: name -> id, as JSON.
        merges: a pair of names on each line, below an optional line with the version.
        pattern: cuts texts into pieces.

    Raises:
        ArtifactError: a file is missing or damaged, or they do not fit together.
    """
    fields = read_json(vocabulary)
    known: dict[str, int] = fields.values
    for name, token in known.items():
        if not isinstance(token, int) or isinstance(token, bool) or token < 0:
            raise refuse(f"the token {name[:60]!r} has the id {token!r}", vocabulary)
    lines = read_text(merges).split("\n")
    first = 1 if lines[0].startswith("#version") else 0
    pairs = [
        bpe_model.pair_of(line.rstrip("\r"), f"{merges}, line {number}")
        for number, line in enumerate(lines[first:], first + 1)
        if line.strip()
    ]
    list_of = bpe_model.joined(pairs, known, "", str(merges))
    made = {token for _, _, token in list_of}
    single = {printable(bytes([byte])) for byte in BYTE_ORDER}
    control = [name for name, token in known.items() if token not in made and name not in single]
    ordinary = {name: token for name, token in known.items() if name not in set(control)}
    added = tuple(Added(name, known[name]) for name in control)
    return Parts(
        bpe_model.BPE(ordinary, list_of),
        added,
        pretokeniser=byte_level(pattern),
        decoder=BYTE_DECODER,
        roles=usual_roles(control),
        where=str(vocabulary),
    )


def write(folder: Path, parts: Parts) -> None:
    """Writes `vocab.json` and `merges.txt`; what they cannot hold (the split, roles) is not in them.

    Raises:
        ArtifactError: the tokenizer is no byte-level BPE.
    """
    model = parts.model
    if not isinstance(model, bpe_model.BPE) or not is_byte_level(parts.pretokeniser):
        raise refuse("only byte-level BPE can be written so", parts.where, "write tokenizer.json instead")
    folder.mkdir(parents=True, exist_ok=True)
    names = parts.names()
    text = json.dumps({name: token for token, name in enumerate(names)}, ensure_ascii=False)
    write_atomic(folder / VOCABULARY, text)
    write_atomic(folder / MERGES, _lines((names[left], names[right]) for left, right, _ in model.merges))


def _lines(pairs: Iterable[Sequence[str]]) -> str:
    return "".join(f"{line}\n" for line in ("#version: 0.2", *(" ".join(pair) for pair in pairs)))
