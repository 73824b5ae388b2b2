"""Training: which kind of tokenizer is learned from texts, and what stands around its model.

| kind       | as in       | sees                                   | control tokens |
|------------|-------------|----------------------------------------|----------------|
| bpe        | GPT-2, Qwen | bytes, cut by a pattern                | last           |
| characters | LLaMA       | characters, spaces marked, then bytes  | last           |
| unigram    | T5, Gemma   | characters, spaces marked, then bytes  | last           |
| wordpiece  | BERT        | words in lower case, signs apart       | first          |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import regex
from pydantic import Field, field_validator, model_validator

from ingot.config import Config
from ingot.errors import ConfigError, did_you_mean
from ingot.progress import Task
from ingot.tokenizer import bpe, normalise, wordpiece
from ingot.tokenizer.bpe_model import BPE, BYTE_NAMES
from ingot.tokenizer.bytes import BYTE_ORDER
from ingot.tokenizer.chat import TEMPLATE
from ingot.tokenizer.counting import MEMORY_MB, PieceCounts, count
from ingot.tokenizer.parts import BYTE_DECODER, Parts
from ingot.tokenizer.pretokenise import SPACE, byte_level
from ingot.tokenizer.reading import Fields
from ingot.tokenizer.sentencepiece import Spaces
from ingot.tokenizer.specials import DEFAULT_ROLES, SPECIALS, Added, usual_roles
from ingot.tokenizer.split import PATTERNS, WORDS, Digits, Splitter, with_digits
from ingot.tokenizer.template import around
from ingot.tokenizer.unigram_model import UnigramModel
from ingot.tokenizer.wordpiece_model import WordPieceModel

UNKNOWN = "<unk>"


class TokenizerConfig(Config):
    """Which tokenizer is trained.

    Args:
        kind: "bpe" on bytes, "characters" (BPE on characters), "unigram" or "wordpiece".
        split: name of a published split pattern, or a regular expression of your own.
        digits: how many digits of a number a token may hold: "1", "1-2", "1-3", "free"; null leaves it to
            the split.
        normaliser: "none" keeps every byte; "nfc", "nfkc", "bert" and "bert_cased" change the text. Null is
            "bert" for WordPiece and "none" for all others.
        specials: control tokens; null takes the usual ones of the kind.
        roles: what the control tokens are for: bos, eos, pad, start, end, unk, mask; null goes by the name.
        min_frequency: pairs of tokens that are rarer are not merged.
        max_token_length: bytes or characters that a token may have at most; null for any number.
        alphabet: characters that a tokenizer of characters knows at most, the most frequent ones.
        byte_fallback: characters outside the alphabet become bytes instead of the unknown token.
        memory_mb: what counting may take; above that, rare pieces are dropped.
        workers: processes that count; null takes one for each core.
    """

    kind: Literal["bpe", "characters", "unigram", "wordpiece"] = "bpe"
    split: str = "qwen2"
    digits: Digits | None = None
    normaliser: Literal["none", "nfc", "nfkc", "bert", "bert_cased"] | None = None
    specials: tuple[str, ...] | None = None
    roles: dict[str, str] | None = None
    min_frequency: int = Field(default=bpe.MIN_FREQUENCY, ge=1)
    max_token_length: int | None = Field(default=None, ge=2)
    alphabet: int = Field(default=1000, ge=1)
    byte_fallback: bool = True
    memory_mb: float = Field(default=MEMORY_MB, gt=0)
    workers: int | None = Field(default=None, ge=1)

    @field_validator("specials")
    @classmethod
    def _distinct(cls, value: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if value is not None and (len(set(value)) != len(value) or "" in value):
            raise ValueError("a control token is empty or comes twice")
        return value

    @field_validator("split")
    @classmethod
    def _cuts(cls, value: str) -> str:
        if value.isidentifier() and value not in PATTERNS:
            raise ValueError(f"there is no such split; {did_you_mean(value, PATTERNS)}")
        try:
            regex.compile(value)
        except regex.error as error:
            raise ValueError(f"it is no regular expression ({error})") from None
        return Splitter(value).given

    @model_validator(mode="after")
    def _roles_exist(self) -> TokenizerConfig:
        for role, name in (self.roles or {}).items():
            if name not in self.control_tokens:
                raise ValueError(f"the role '{role}' is given to {name!r}, which is no control token")
        return self

    @property
    def control_tokens(self) -> tuple[str, ...]:
        """The control tokens, in the order of their ids."""
        usual = wordpiece.SPECIALS if self.kind == "wordpiece" else SPECIALS
        return usual if self.specials is None else self.specials

    @property
    def pattern(self) -> str:
        """What cuts texts into pieces."""
        return Splitter(with_digits(self.split, self.digits) if self.digits else self.split).pattern


def learn(texts: Iterable[str], vocabulary: int, config: TokenizerConfig, task: Task | None = None) -> Parts:
    """Learns the parts of a tokenizer from texts.

    Args:
        texts: read once.
        vocabulary: ids to have in all; a small text may give fewer.
        config: which kind, and how.
        task: is told of every merge.

    Raises:
        ConfigError: the vocabulary has no room for what it must have.
    """
    room(vocabulary, config)
    return learn_counted(counted(texts, config), vocabulary, config, task)


def counted(texts: Iterable[str], config: TokenizerConfig, task: Task | None = None) -> PieceCounts:
    """Counts the pieces that a kind of tokenizer learns from.

    Args:
        texts: read once.
        config: which kind, and what counting may take.
        task: is told of every character.
    """
    if config.kind == "wordpiece":
        cut = Seen(WORDS, _normaliser(config))
    else:
        cut = Seen(config.pattern, _normaliser(config), marked=config.kind != "bpe")
    return count(texts, cut, workers=config.workers, memory_mb=config.memory_mb, task=task)


def learn_counted(
    counts: PieceCounts, vocabulary: int, config: TokenizerConfig, task: Task | None = None
) -> Parts:
    """Learns the parts of a tokenizer from pieces that `counted` counted; see `learn`."""
    learners = {"bpe": _bytes, "characters": _characters, "unigram": _unigram, "wordpiece": _wordpiece}
    return learners[config.kind](counts, vocabulary, config, task)


def room(vocabulary: int, config: TokenizerConfig) -> int:
    """Returns how many entries of a vocabulary are left to learn.

    Raises:
        ConfigError: none.
    """
    first = {"bpe": len(BYTE_ORDER), "wordpiece": 0}
    fixed = first.get(config.kind, len(_first(config))) + len(config.control_tokens)
    if vocabulary <= fixed:
        what = f"{vocabulary} entries are too few: {fixed} are bytes and control tokens"
        raise ConfigError(what, where="tokenizer.vocabulary", fix=f"use {fixed + 1} or more")
    return vocabulary - fixed


@dataclasses.dataclass(frozen=True)
class Seen:
    """Cuts texts into the pieces that a model will see; it can be pickled.

    Args:
        pattern: what cuts.
        normaliser: name of what is done to the text first.
        marked: spaces become "▁".
    """

    pattern: str
    normaliser: str = "none"
    marked: bool = False

    def split(self, text: str) -> list[str]:
        """Returns the pieces of a text."""
        steps = normalise.NAMED[self.normaliser]
        if steps is not None:
            text = normalise.build(Fields(steps, "normaliser"))(text)
        if not self.marked:
            return Splitter(self.pattern).split(text)
        text = text.replace("\0", " ")  # SentencePiece's files cannot hold it in a piece
        return [piece.replace(" ", SPACE) for piece in Splitter(self.pattern).split(text)]


def _bytes(counts: PieceCounts, vocabulary: int, config: TokenizerConfig, task: Task | None) -> Parts:
    merges = room(vocabulary, config)
    limits = {"min_frequency": config.min_frequency, "max_token_length": config.max_token_length}
    model = BPE.of_bytes(bpe.train(counts, merges, task, **limits))  # type: ignore[arg-type]
    return Parts(
        model,
        _behind(len(model.vocabulary), config.control_tokens),
        normaliser=normalise.NAMED[_normaliser(config)],
        pretokeniser=byte_level(config.pattern),
        decoder=BYTE_DECODER,
        **_rest(config),
    )


def _characters(counts: PieceCounts, vocabulary: int, config: TokenizerConfig, task: Task | None) -> Parts:
    first = _first(config)
    most = room(vocabulary, config)
    alphabet = min(config.alphabet, most)
    learned = bpe.train_characters(
        counts,
        most,
        task,
        min_frequency=config.min_frequency,
        max_token_length=config.max_token_length,
        initial_alphabet=SPACE,
        limit_alphabet=alphabet,
    )
    names = [*first, *learned.tokens()[:most]]
    kept = len(names) - len(first) - len(learned.alphabet)
    base = len(first)
    merges = [
        (left + base, right + base, len(first) + len(learned.alphabet) + index)
        for index, (left, right) in enumerate(learned.merges[:kept])
    ]
    ids = {name: token for token, name in enumerate(names)}
    model = BPE(ids, merges, UNKNOWN, fuse_unknown=True, byte_fallback=config.byte_fallback)
    return _marked(model, len(names), config)


def _unigram(counts: PieceCounts, vocabulary: int, config: TokenizerConfig, task: Task | None) -> Parts:
    from ingot.tokenizer import unigram

    first = _first(config)
    limits = {} if config.max_token_length is None else {"longest": config.max_token_length}
    learned = unigram.train(counts, room(vocabulary, config), task, **limits)
    pieces = [*((name, 0.0) for name in first), *learned]
    model = UnigramModel(pieces, 0, config.byte_fallback, frozenset(range(len(first))))
    return _marked(model, len(pieces), config)


def _wordpiece(counts: PieceCounts, vocabulary: int, config: TokenizerConfig, task: Task | None) -> Parts:
    roles = config.roles or usual_roles(config.control_tokens)
    if "unk" not in roles:
        fix = "name one, such as [UNK], among the specials"
        raise ConfigError("WordPiece needs a control token for unknown words", where="tokenizer", fix=fix)
    tokens = wordpiece.train(
        counts,
        vocabulary,
        task,
        specials=config.control_tokens,
        min_frequency=config.min_frequency,
        max_token_length=config.max_token_length,
        limit_alphabet=config.alphabet,
    )
    ids = {name: token for token, name in enumerate(tokens)}
    ordinary = {n: t for n, t in ids.items() if n not in config.control_tokens or n == roles["unk"]}
    return Parts(
        WordPieceModel(ordinary, roles["unk"]),
        tuple(Added(name, ids[name]) for name in config.control_tokens),
        normaliser=normalise.NAMED[_normaliser(config)],
        pretokeniser={"type": "BertPreTokenizer"},
        decoder={"type": "WordPiece", "prefix": "##", "cleanup": True},
        template=around(roles.get("cls"), roles.get("sep"), ids),
        roles=roles,
    )


def _normaliser(config: TokenizerConfig) -> str:
    """The name of what is done to a text first."""
    usual = "bert" if config.kind == "wordpiece" else "none"
    return usual if config.normaliser is None else config.normaliser


def _first(config: TokenizerConfig) -> list[str]:
    """What a vocabulary of characters begins with."""
    return [UNKNOWN, *(BYTE_NAMES if config.byte_fallback else ())]


def _marked(model: BPE | UnigramModel, size: int, config: TokenizerConfig) -> Parts:
    """What stands around a model that sees characters, and spaces as "▁"."""
    spaces = Spaces(prefix=False)
    normaliser: dict[str, Any] = spaces.normaliser()
    given = normalise.NAMED[_normaliser(config)]
    if given is not None:
        normaliser = {"type": "Sequence", "normalizers": [given, *normaliser["normalizers"]]}
    added = (Added(UNKNOWN, 0), *_behind(size, config.control_tokens))
    rest = _rest(config)
    rest["roles"] = {"unk": UNKNOWN} | rest["roles"]
    return Parts(model, added, normaliser=normaliser, decoder=spaces.decoder(), **rest)


def _behind(size: int, names: Sequence[str]) -> tuple[Added, ...]:
    """Control tokens as the last ids."""
    return tuple(Added(name, size + index) for index, name in enumerate(names))


def _rest(config: TokenizerConfig) -> dict[str, Any]:
    """Roles, and the chat template where there are tokens for it."""
    names = config.control_tokens
    roles = config.roles or (dict(DEFAULT_ROLES) if names == SPECIALS else usual_roles(names))
    chat = {"chat_template": TEMPLATE} if {"bos", "start", "end"} <= roles.keys() else {}
    return {"roles": roles, **chat}
