"""tiktoken's rank files: one token a line, its bytes in base64 and its rank, which is its id.

Such a file holds neither the split nor the control tokens; both come from the caller, or are those that
are published for a file of this name.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from pathlib import Path

from ingot.atomic import write_atomic
from ingot.tokenizer.bpe_model import BPE
from ingot.tokenizer.bytes import printable, unprintable
from ingot.tokenizer.parts import BYTE_DECODER, Parts
from ingot.tokenizer.pretokenise import byte_level, is_byte_level
from ingot.tokenizer.ranks import by_rank, merges_of
from ingot.tokenizer.reading import read_bytes, refuse
from ingot.tokenizer.specials import Added, usual_roles
from ingot.tokenizer.split import PATTERNS


def read(path: Path, pattern: str, specials: Mapping[str, int] | Sequence[str] = ()) -> Parts:
    """Reads a rank file.

    Args:
        path: the file.
        pattern: cuts texts into pieces.
        specials: control tokens, with their ids, or in the order in which they follow the ranks.

    Raises:
        ArtifactError: missing, damaged, or without a token for each byte.
    """
    return of_ranks(_parse(path), pattern, specials, str(path))


def of_ranks(
    ranks: Mapping[bytes, int],
    pattern: str = PATTERNS["cl100k"],
    specials: Mapping[str, int] | Sequence[str] = (),
    where: str = "ranks",
) -> Parts:
    """Makes the parts of a tokenizer that merges by rank.

    Args:
        ranks: bytes of a token -> its rank, which is its id.
        pattern: cuts texts into pieces.
        specials: as in `read`.
        where: for errors.
    """
    if sum(len(token) == 1 for token in ranks) != 256:
        raise refuse("lacks a token for some byte", where, "give all ranks")
    vocabulary = {printable(token): rank for token, rank in ranks.items()}
    model = BPE(vocabulary, merges_of(ranks), whole_pieces=True)  # tiktoken looks up before it merges
    if not isinstance(specials, Mapping):
        free = max(ranks.values()) + 1
        specials = {name: free + index for index, name in enumerate(specials)}
    added = tuple(Added(name, token) for name, token in specials.items())
    return Parts(
        model,
        added,
        pretokeniser=byte_level(pattern),
        decoder=BYTE_DECODER,
        roles=usual_roles(specials),
        where=where,
    )


def write(path: Path, parts: Parts) -> None:
    """Writes a rank file.

    Raises:
        ArtifactError: the tokenizer is no byte-level BPE, or ranks would encode otherwise than its merges.
    """
    model = parts.model
    elsewhere = "write tokenizer.json instead"
    if not isinstance(model, BPE) or not is_byte_level(parts.pretokeniser) or parts.normaliser:
        raise refuse(
            "only byte-level BPE without a normalizer can be written as ranks", parts.where, elsewhere
        )
    names = {token: name for name, token in model.vocabulary.items()}
    atoms = [token for token, name in names.items() if len(name) == 1]
    order = by_rank(model.merges, atoms)
    if order is None or order != sorted(order):
        raise refuse("its merges say what ranks cannot", parts.where, elsewhere)
    kept = sorted(names) if model.whole_pieces else sorted([*atoms, *order])
    lines = [base64.b64encode(unprintable(names[token])) + b" %d\n" % token for token in kept]
    write_atomic(path, b"".join(lines))


def _parse(path: Path) -> dict[bytes, int]:
    """The rank of every token."""
    found: dict[bytes, int] = {}
    for number, line in enumerate(read_bytes(path).splitlines(), 1):
        if not line.strip():
            continue
        try:
            encoded, rank = line.split()
            token, place = base64.b64decode(encoded, validate=True), int(rank)
        except (ValueError, binascii.Error):
            raise refuse("is no base64 token with its rank", f"{path}, line {number}") from None
        if place < 0 or not token or token in found:
            raise refuse(
                "is an empty token, one that comes twice, or a rank below 0", f"{path}, line {number}"
            )
        found[token] = place
    return found
