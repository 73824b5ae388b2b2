"""SentencePiece's `.model` files (Kudo and Richardson 2018, arXiv 1808.06226): Unigram and BPE.

The file is a protocol buffer with the pieces (name, score, type), how the model was trained, and how a
text is normalised. A text loses or keeps its extra spaces, gets one in front, and spaces become "▁"; then
the whole of it is one piece for the model.
"""

from __future__ import annotations

import base64
import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingot.atomic import write_atomic
from ingot.tokenizer import protobuf
from ingot.tokenizer.bpe_model import BPE, BYTE_NAMES
from ingot.tokenizer.decoders import SENTENCEPIECE
from ingot.tokenizer.parts import Model, Parts
from ingot.tokenizer.pretokenise import SPACE
from ingot.tokenizer.ranks import by_rank, merges_of
from ingot.tokenizer.reading import read_bytes, refuse
from ingot.tokenizer.specials import Added, usual_roles
from ingot.tokenizer.unigram_model import UnigramModel

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
_UNIGRAM, _BPE = 1, 2


@dataclass(frozen=True)
class Spaces:
    """What becomes of a text before the model sees it.

    Args:
        charsmap: compiled character map (see `charsmap`), empty for none.
        prefix: puts a space in front of the text.
        squeeze: takes spaces off both ends and makes one of several in a row.
    """

    charsmap: bytes = b""
    prefix: bool = True
    squeeze: bool = False

    def normaliser(self) -> dict[str, Any]:
        """The same, as `tokenizer.json` describes it."""
        steps: list[dict[str, Any]] = []
        if self.charsmap:
            encoded = base64.b64encode(self.charsmap).decode()
            steps.append({"type": "Precompiled", "precompiled_charsmap": encoded})
        if self.squeeze:
            steps.append({"type": "Replace", "pattern": {"Regex": "^ +| +$"}, "content": ""})
            steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
        if self.prefix:
            steps.append({"type": "Prepend", "prepend": SPACE})
        steps.append({"type": "Replace", "pattern": {"String": " "}, "content": SPACE})
        return {"type": "Sequence", "normalizers": steps}

    def decoder(self) -> dict[str, Any]:
        """What makes text of tokens again."""
        kept = SENTENCEPIECE["decoders"] if self.prefix else SENTENCEPIECE["decoders"][:-1]
        return {"type": "Sequence", "decoders": kept}


def read(path: Path) -> Parts:
    """Reads a `.model` file.

    Raises:
        ArtifactError: missing, damaged, or of a kind that is not supported, which is named.
    """
    try:
        return _parse(read_bytes(path), path)
    except (ValueError, KeyError) as error:
        raise refuse(f"is no SentencePiece model ({error})", path, "check that this is the file") from None


def write(path: Path, parts: Parts) -> None:
    """Writes a `.model` file.

    Raises:
        ArtifactError: a part of the tokenizer that such a file cannot hold, which is named.
    """
    spaces = _spaces_of(parts)
    model = parts.model
    elsewhere = "write tokenizer.json instead"
    if isinstance(model, UnigramModel):
        kind, scores = _UNIGRAM, [score for _, score in model.pieces]
    elif isinstance(model, BPE) and not (model.prefix or model.suffix or model.whole_pieces):
        kind, scores = _BPE, _scores(model, len(parts.names()))
    else:
        raise refuse("only Unigram and BPE on characters can be written so", parts.where, elsewhere)
    if parts.pretokeniser is not None:
        raise refuse("a pre_tokenizer cannot be written so", parts.where, elsewhere)
    if model.unknown is None:
        raise refuse("a tokenizer without an unknown token cannot be written so", parts.where, elsewhere)
    names = parts.names()
    if any("\0" in name for name in names):
        raise refuse("a piece with the character U+0000 cannot be written so", parts.where, elsewhere)
    scores += [0.0] * (len(names) - len(scores))  # added tokens
    types = _types(parts, names)
    pieces: list[protobuf.Field] = [
        (1, protobuf.message([(1, name), (2, float(score)), (3, kind_of)]))
        for name, score, kind_of in zip(names, scores, types, strict=True)
    ]
    roles = {key: names.index(parts.roles[role]) if role in parts.roles else -1 for role, key in _ROLE_FIELDS}
    fallback = bool(model.byte_fallback)
    trainer: list[protobuf.Field] = [(3, kind), (4, len(names)), (35, int(fallback)), *sorted(roles.items())]
    trainer += [
        (45 + index, parts.roles[role]) for index, (role, _) in enumerate(_ROLE_FIELDS) if role in parts.roles
    ]
    normal: list[protobuf.Field] = [(1, "identity" if not spaces.charsmap else "own"), (2, spaces.charsmap)]
    normal += [(3, int(spaces.prefix)), (4, int(spaces.squeeze)), (5, 1)]
    parts_of_file = [*pieces, (2, protobuf.message(trainer)), (3, protobuf.message(normal))]
    write_atomic(path, protobuf.message(parts_of_file))


_ROLE_FIELDS = (("unk", 40), ("bos", 41), ("eos", 42), ("pad", 43))


def _parse(data: bytes, path: Path) -> Parts:
    pieces: list[tuple[str, float, int]] = []
    trainer: dict[int, protobuf.Value] = {}
    normal: dict[int, protobuf.Value] = {}
    for number, value in protobuf.fields(data):
        if number == 1:
            piece = dict(protobuf.fields(protobuf.content(value)))
            score = protobuf.fraction(piece[2]) if 2 in piece else 0.0
            pieces.append((protobuf.text(piece[1]), score, int(protobuf.signed(piece.get(3, NORMAL)))))
        elif number == 2:
            trainer = dict(protobuf.fields(protobuf.content(value)))
        elif number == 3:
            normal = dict(protobuf.fields(protobuf.content(value)))
    kind = protobuf.signed(trainer.get(3, _UNIGRAM))
    if not pieces or kind not in (_UNIGRAM, _BPE):
        raise refuse(f"holds {len(pieces)} pieces of model type {kind}; 1 and 2 are supported", path)
    if trainer.get(24) or normal.get(5, 1) == 0:
        raise refuse("spaces as suffixes, or not marked, are not supported", path)
    spaces = Spaces(
        protobuf.content(normal.get(2, b"")), prefix=bool(normal.get(3, 1)), squeeze=bool(normal.get(4, 1))
    )
    types = {kind_of for _, _, kind_of in pieces}
    if UNUSED in types and kind == _BPE:
        raise refuse("unused pieces of BPE are not supported", path)
    if USER_DEFINED in types and (spaces.prefix or spaces.squeeze):
        raise refuse(
            "user-defined pieces beside add_dummy_prefix or remove_extra_whitespaces are not supported", path
        )
    added = tuple(
        Added(name, token, special=kind_of != USER_DEFINED)
        for token, (name, _, kind_of) in enumerate(pieces)
        if kind_of in (UNKNOWN, CONTROL, USER_DEFINED)
    )
    return Parts(
        _unigram(pieces) if kind == _UNIGRAM else _bpe(pieces),
        added,
        normaliser=spaces.normaliser(),
        decoder=spaces.decoder(),
        roles=_roles(trainer, pieces) or usual_roles(token.text for token in added),
        where=str(path),
    )


def _roles(trainer: dict[int, protobuf.Value], pieces: list[tuple[str, float, int]]) -> dict[str, str]:
    """Which piece plays which part; the format's own defaults are 0, 1, 2 and none."""
    roles = {}
    for (role, number), usual in zip(_ROLE_FIELDS, (0, 1, 2, -1), strict=True):
        token = protobuf.signed(trainer.get(number, usual & ((1 << 64) - 1)))
        if 0 <= token < len(pieces) and pieces[token][2] in (UNKNOWN, CONTROL):
            roles[role] = pieces[token][0]
    return roles


def _unigram(pieces: list[tuple[str, float, int]]) -> Model:
    unknown = next((token for token, piece in enumerate(pieces) if piece[2] == UNKNOWN), None)
    hidden = frozenset(token for token, piece in enumerate(pieces) if piece[2] != NORMAL)
    fallback = any(kind == BYTE for _, _, kind in pieces)
    return UnigramModel([(name, score) for name, score, _ in pieces], unknown, fallback, hidden)


def _bpe(pieces: list[tuple[str, float, int]]) -> Model:
    """Scores are ranks: of two neighbours that together are a piece, the highest score merges first."""
    normal = {name: (-score, token) for token, (name, score, kind) in enumerate(pieces) if kind == NORMAL}
    ordered = sorted(normal, key=normal.__getitem__)
    ids = [normal[name][1] for name in ordered]
    ranked = merges_of({name: rank for rank, name in enumerate(ordered)})
    merges = [(ids[left], ids[right], ids[whole]) for left, right, whole in ranked]
    unknown = next((name for name, _, kind in pieces if kind == UNKNOWN), None)
    kept = (NORMAL, BYTE, UNKNOWN)
    vocabulary = {name: token for token, (name, _, kind) in enumerate(pieces) if kind in kept}
    fallback = all(name in vocabulary for name in BYTE_NAMES)
    return BPE(vocabulary, merges, unknown, fuse_unknown=True, byte_fallback=fallback)


def _spaces_of(parts: Parts) -> Spaces:
    """How the normaliser of a tokenizer treats spaces, where it is one that such a file can describe."""
    steps = (parts.normaliser or {}).get("normalizers", [])
    maps = [step["precompiled_charsmap"] for step in steps if step.get("type") == "Precompiled"]
    charsmap = base64.b64decode(maps[0]) if maps else b""
    for prefix, squeeze in itertools.product((True, False), repeat=2):
        spaces = Spaces(charsmap, prefix, squeeze)
        if spaces.normaliser() == parts.normaliser:
            return spaces
    raise refuse("its normalizer cannot be written so", parts.where, "write tokenizer.json instead")


def _types(parts: Parts, names: list[str]) -> list[int]:
    added = {token.id: CONTROL if token.special else USER_DEFINED for token in parts.added}
    bytes_too = set(BYTE_NAMES) if getattr(parts.model, "byte_fallback", False) else set()
    unused: frozenset[int] = getattr(parts.model, "hidden", frozenset())
    types = [
        added.get(token, BYTE if name in bytes_too else UNUSED if token in unused else NORMAL)
        for token, name in enumerate(names)
    ]
    if parts.model.unknown is not None:
        types[names.index(parts.model.unknown)] = UNKNOWN
    return types


def _scores(model: BPE, size: int) -> list[float]:
    """Minus the rank of every token's merge; characters come last."""
    names = {token: name for name, token in model.vocabulary.items()}
    order = by_rank(model.merges, [token for token, name in names.items() if len(name) == 1])
    reached = set(order or ())
    lost = [
        name
        for token, name in names.items()
        if len(name) > 1 and token not in reached and name not in BYTE_NAMES and name != model.unknown
    ]
    if order is None or lost:
        what = (
            f"its merges say what scores cannot (such as for {lost[0]!r})"
            if lost
            else "scores cannot say its merges"
        )
        raise refuse(what, "merges", "write tokenizer.json instead")
    scores = [
        0.0 if name in BYTE_NAMES else -float(len(order)) for name in (names.get(t, "") for t in range(size))
    ]
    for rank, token in enumerate(order):
        scores[token] = -float(rank)
    return scores
