"""Surgery on vocabularies: more tokens, fewer tokens, two tokenizers made one.

Each operation gives a new tokenizer and a map of ids, so that a model's embeddings can follow: what was
added comes behind all that was, and what is dropped leaves no gap. A byte-level tokenizer still encodes
and gives back every byte.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ingot.errors import ConfigError
from ingot.progress import Task
from ingot.tokenizer.bpe import learn
from ingot.tokenizer.bpe_model import BPE, BYTE_NAMES
from ingot.tokenizer.parts import Model, Parts
from ingot.tokenizer.ranks import Merge
from ingot.tokenizer.specials import Added
from ingot.tokenizer.template import renumbered
from ingot.tokenizer.tokenizer import Tokenizer
from ingot.tokenizer.unigram_model import UnigramModel
from ingot.tokenizer.wordpiece_model import WordPieceModel
from ingot.tokenizer.words import SEPARATOR, Words

Ids = NDArray[np.int64]

_NUDGE = 0.1  # log probability by which a word that is added beats its best other cut


@dataclass(frozen=True)
class Changed:
    """A tokenizer after surgery.

    Args:
        tokenizer: the new one.
        ids: new id of every old one, -1 for those that were dropped. [old vocabulary]
    """

    tokenizer: Tokenizer
    ids: Ids


@dataclass(frozen=True)
class Merged:
    """Two tokenizers made one.

    Args:
        tokenizer: the union; the ids of the first stay.
        first_ids: new id of every id of the first. [first's vocabulary]
        second_ids: new id of every id of the second. [second's vocabulary]
        conflicts: what both know differently, and whose way was kept.
        unreachable: tokens that no text becomes any more, as earlier merges part their bytes.
    """

    tokenizer: Tokenizer
    first_ids: Ids
    second_ids: Ids
    conflicts: tuple[str, ...]
    unreachable: tuple[str, ...]


def extend(tokenizer: Tokenizer, words: Sequence[str] = (), controls: Sequence[str] = ()) -> Changed:
    """Adds words that shall be one token each, and control tokens; old ids stay.

    A word of a tokenizer that merges takes as many merges as it has tokens, less one; what they make on
    the way become tokens too.

    Args:
        tokenizer: to be extended.
        words: as they stand in a text, with the space before them where they shall have one.
        controls: names of control tokens.

    Raises:
        ConfigError: a word that the split cuts, that is unknown to the model, or a name that is taken.

    Example:
        >>> longer = extend(Tokenizer.train(["abc " * 9], 300), words=[" zebra"]).tokenizer
        >>> len(longer.encode(" zebra"))
        1
    """
    parts = tokenizer.parts
    ids = {name: token for token, name in enumerate(parts.names())}
    model = parts.model
    for word in words:
        pieces = tokenizer.pieces(word)
        if len(pieces) != 1:
            what = f"{word!r} is cut into {pieces!r} before the model sees it"
            raise ConfigError(what, where="words", fix="add its parts, or make it a control token")
        model = _with_word(model, pieces[0], ids)
    added = list(parts.added)
    for name in controls:
        if not name or name in ids:
            raise ConfigError(f"{name!r} is empty or taken", where="controls", fix="choose another name")
        ids[name] = len(ids)
        added.append(Added(name, ids[name]))
    changed = dataclasses.replace(parts, model=model, added=tuple(added))
    return Changed(Tokenizer(changed), np.arange(tokenizer.vocab_size))


def grow(tokenizer: Tokenizer, texts: Iterable[str], entries: int, task: Task | None = None) -> Changed:
    """Learns more merges from texts of another kind, behind those that there are; old ids stay.

    Args:
        tokenizer: byte-level BPE, or BPE on characters.
        texts: what the new merges are learned from.
        entries: how many to learn at most.
        task: is told of every merge.

    Raises:
        ConfigError: the tokenizer does not merge.
    """
    parts = tokenizer.parts
    model = parts.model
    if not isinstance(model, BPE):
        fix = "use extend, or train a new one"
        raise ConfigError("only BPE can go on learning", where=parts.where, fix=fix)
    counts = Counter(piece for text in texts for piece in tokenizer.pieces(text))
    rows = [model.encode(piece) for piece in counts]
    symbols = [SEPARATOR, *(symbol for row in rows for symbol in (*row, SEPARATOR))]
    words = Words(np.array(symbols), np.array(list(counts.values()), np.int64), 2)
    names = parts.names()
    learned = learn(words, [1] * len(names), entries, task, None)
    vocabulary, merges = dict(model.vocabulary), list(model.merges)
    for left, right in learned:
        name = names[left] + names[right].removeprefix(model.prefix)
        merges.append((left, right, vocabulary.setdefault(name, len(names))))
        names.append(name)
    changed = dataclasses.replace(model, vocabulary=vocabulary, merges=merges)
    return Changed(Tokenizer(dataclasses.replace(parts, model=changed)), np.arange(tokenizer.vocab_size))


def prune(tokenizer: Tokenizer, texts: Iterable[str], least: int = 1) -> Changed:
    """Drops the tokens that texts use less than `least` times; what is left is renumbered in the old order.

    Bytes, single characters, added tokens, the unknown token and the parts of every token that stays are
    kept.

    Args:
        tokenizer: to be pruned.
        texts: what is representative of its use.
        least: uses that a token needs to stay.
    """
    parts = tokenizer.parts
    used = Counter(token for text in texts for token in tokenizer.encode(text))
    names = parts.names()
    keep = {token for token, count in used.items() if count >= least}
    keep |= {token.id for token in parts.added}
    keep |= {token for token, name in enumerate(names) if _is_basic(name, parts.model)}
    if isinstance(parts.model, BPE):
        made: dict[int, Merge] = {}
        for merge in parts.model.merges:
            made.setdefault(merge[2], merge)
        waiting = list(keep)
        while waiting:
            for part in made.get(waiting.pop(), ())[:2]:
                if part not in keep:
                    keep.add(part)
                    waiting.append(part)
    ids = np.full(len(names), -1)
    ids[sorted(keep)] = np.arange(len(keep))
    return Changed(Tokenizer(_renumbered(parts, ids)), ids)


def unite(first: Tokenizer, second: Tokenizer) -> Merged:
    """Makes one tokenizer of two: the first, and behind it what only the second has.

    Args:
        first: keeps its ids, and its way wherever both know something differently.
        second: of the same kind, with the same steps around the model.

    Raises:
        ConfigError: the two are of different kinds, or cut or normalise differently.
    """
    ours, theirs = first.parts, second.parts
    for step in ("normaliser", "pretokeniser", "decoder"):
        if getattr(ours, step) != getattr(theirs, step):
            what = f"the two tokenizers differ in their {step}"
            raise ConfigError(what, where="unite", fix="unite tokenizers that treat text alike")
    if type(ours.model) is not type(theirs.model):
        raise ConfigError("one merges, the other does not", where="unite", fix="unite two of a kind")
    names = ours.names()
    ids = {name: token for token, name in enumerate(names)}
    second_ids = np.array([ids.setdefault(name, len(ids)) for name in theirs.names()])
    conflicts = _conflicts(ours, theirs)
    taken = {token.text for token in ours.added} | set(ours.model.vocabulary)
    added = [*ours.added, *(_moved(t, second_ids) for t in theirs.added if t.text not in taken)]
    known = {token.text for token in added}
    vocabulary = ours.model.vocabulary | {
        name: ids[name] for name in theirs.model.vocabulary if name not in known
    }
    if isinstance(ours.model, BPE) and isinstance(theirs.model, BPE):
        model: Model = dataclasses.replace(
            ours.model, vocabulary=vocabulary, merges=_all_merges(ours.model, theirs.model, second_ids)
        )
    elif isinstance(ours.model, UnigramModel) and isinstance(theirs.model, UnigramModel):
        model = _all_pieces(ours.model, theirs.model, ids)
    else:
        model = dataclasses.replace(ours.model, vocabulary=vocabulary)  # type: ignore[type-var]
    roles = theirs.roles | ours.roles
    united = Tokenizer(dataclasses.replace(ours, model=model, added=tuple(added), roles=roles))
    return Merged(united, np.arange(len(names)), second_ids, tuple(conflicts), _unreachable(united))


def _with_word(model: Model, piece: str, ids: dict[str, int]) -> Model:
    """The model with one more word; its new tokens are put into `ids`."""
    if isinstance(model, UnigramModel):
        if piece in ids:
            return model
        best = sum(model.pieces[token][1] for token in model.encode(piece))
        pieces = [*model.pieces]
        if len(pieces) != len(ids):
            what = "a Unigram model with added tokens behind its pieces takes no more words"
            raise ConfigError(what, where="words", fix="train it again")
        ids[piece] = len(ids)
        return dataclasses.replace(model, pieces=[*pieces, (piece, best + _NUDGE)])
    if isinstance(model, WordPieceModel):
        vocabulary = model.vocabulary | {piece: ids.setdefault(piece, len(ids))}
        return dataclasses.replace(model, vocabulary=vocabulary)
    if not isinstance(model, BPE):
        raise ConfigError("this model takes no words", where="words", fix="train it again")
    tokens = model.encode(piece, lambda: False)
    unknown = None if model.unknown is None else model.vocabulary[model.unknown]
    if not tokens or unknown in tokens:
        raise ConfigError(f"{piece!r} has unknown characters", where="words", fix="train it again")
    vocabulary, merges = dict(model.vocabulary), list(model.merges)
    whole = tokens[0]
    text = _name_of(model, whole)
    names = {token: name for name, token in vocabulary.items()}
    for token in tokens[1:]:
        text += names[token].removeprefix(model.prefix)
        joined = vocabulary.setdefault(text, ids.setdefault(text, len(ids)))
        merges.append((whole, token, joined))
        whole = joined
    return dataclasses.replace(model, vocabulary=vocabulary, merges=merges)


def _name_of(model: BPE, token: int) -> str:
    return next(name for name, known in model.vocabulary.items() if known == token)


def _is_basic(name: str, model: Model) -> bool:
    """Whether a token is needed to encode whatever comes: a character, a byte, the unknown token."""
    bare = name
    if isinstance(model, WordPieceModel | BPE) and model.prefix:
        bare = bare.removeprefix(model.prefix)
    if isinstance(model, BPE) and model.suffix:
        bare = bare.removesuffix(model.suffix)
    fallback = not isinstance(model, WordPieceModel) and getattr(model, "byte_fallback", False)
    return len(bare) <= 1 or name == model.unknown or (fallback and name in BYTE_NAMES)


def _renumbered(parts: Parts, ids: Ids) -> Parts:
    """The parts with the tokens that have a new id."""
    model = parts.model
    if isinstance(model, UnigramModel):
        kept = [piece for token, piece in enumerate(model.pieces) if ids[token] >= 0]
        unknown = None if model.unknown_id is None else int(ids[model.unknown_id])
        hidden = frozenset(int(ids[token]) for token in model.hidden if ids[token] >= 0)
        model = dataclasses.replace(model, pieces=kept, unknown_id=unknown, hidden=hidden)
    else:
        vocabulary = {name: int(ids[token]) for name, token in model.vocabulary.items() if ids[token] >= 0}
        changes: dict[str, object] = {"vocabulary": vocabulary}
        if isinstance(model, BPE):
            new = ((int(ids[left]), int(ids[right]), int(ids[whole])) for left, right, whole in model.merges)
            changes["merges"] = [merge for merge in new if min(merge) >= 0]
        model = dataclasses.replace(model, **changes)  # type: ignore[type-var]
    changed = dataclasses.replace(
        parts, model=model, added=tuple(_moved(token, ids) for token in parts.added)
    )
    names = {name: token for token, name in enumerate(changed.names())}
    return dataclasses.replace(changed, template=renumbered(parts.template, names))


def _moved(token: Added, ids: Ids) -> Added:
    return dataclasses.replace(token, id=int(ids[token.id]))


def _all_merges(ours: BPE, theirs: BPE, ids: Ids) -> list[Merge]:
    """The merges of the first, then those of the second that make something new."""
    made = {whole for _, _, whole in ours.merges}
    moved = ((int(ids[left]), int(ids[right]), int(ids[whole])) for left, right, whole in theirs.merges)
    return [*ours.merges, *(merge for merge in moved if merge[2] not in made)]


def _all_pieces(ours: UnigramModel, theirs: UnigramModel, ids: Mapping[str, int]) -> UnigramModel:
    """The pieces of both; those of the second keep their scores."""
    pieces = dict(theirs.pieces) | dict(ours.pieces)
    if len(pieces) != len(ids):
        what = "Unigram models with added tokens behind their pieces cannot be united"
        raise ConfigError(what, where="unite", fix="train one on the texts of both")
    hidden = ours.hidden | {ids[theirs.pieces[token][0]] for token in theirs.hidden}
    return dataclasses.replace(ours, pieces=[(name, pieces[name]) for name in ids], hidden=frozenset(hidden))


def _conflicts(ours: Parts, theirs: Parts) -> list[str]:
    """What the two know differently, in words."""
    found = []
    if isinstance(ours.model, BPE) and isinstance(theirs.model, BPE):
        first, second = _makers(ours.model), _makers(theirs.model)
        for name in first.keys() & second.keys():
            if first[name] != second[name]:
                ways = " and ".join("+".join(map(repr, way)) for way in (first[name], second[name]))
                found.append(f"token {name!r} is made of {ways}")
    control = {token.text for token in ours.added}, {token.text for token in theirs.added}
    vocabularies = set(ours.model.vocabulary), set(theirs.model.vocabulary)
    for name in (control[0] & (vocabularies[1] - control[1])) | (control[1] & (vocabularies[0] - control[0])):
        found.append(f"token {name!r} is an added token in one, an ordinary one in the other")
    for role in ours.roles.keys() & theirs.roles.keys():
        if ours.roles[role] != theirs.roles[role]:
            found.append(f"role '{role}' is played by {ours.roles[role]!r} and {theirs.roles[role]!r}")
    return sorted(found)


def _makers(model: BPE) -> dict[str, tuple[str, str]]:
    """The two names that make each token, by its name."""
    names = {token: name for name, token in model.vocabulary.items()}
    made: dict[str, tuple[str, str]] = {}
    for left, right, whole in model.merges:
        made.setdefault(names[whole], (names[left], names[right]))
    return made


def _unreachable(tokenizer: Tokenizer) -> tuple[str, ...]:
    """Tokens that the model does not even make of their own text."""
    model = tokenizer.parts.model
    if not isinstance(model, BPE):
        return ()
    made = {whole for _, _, whole in model.merges}
    return tuple(
        name for name, token in model.vocabulary.items() if token in made and model.encode(name) != [token]
    )
