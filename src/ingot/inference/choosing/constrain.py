"""Constrained decoding: an answer that always has the asked form.

```
Grammar -> on trial in a helper process -> compiled for the tokenizer, kept -> a Guide for each request:
           (time, memory, stack bounded)                                      allowed tokens, token by token
```

`llguidance` (the extra `serve`) compiles and follows grammars; it sees tokens as the bytes that they add to
the text. Stop tokens are allowed exactly where the grammar may end, other control tokens never.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary, ref

import numpy as np
from numpy.typing import NDArray

from ingot.errors import RequestError, ResourceError
from ingot.inference.choosing.grammar import Grammar
from ingot.inference.choosing.trial import LIMITS, Trial
from ingot.inference.text import Bytes

__all__ = ["Grammar", "Guide", "Vocabulary", "guide"]

KEPT = 64
"""Compiled grammars that are kept for each tokenizer."""

JSON_STYLE: dict[str, Any] = {
    # A model that likes spaces would otherwise write nothing else until its answer is full.
    "whitespace_pattern": r"\n?[ \t]{0,20}",
    "lenient": False,  # a keyword that cannot be obeyed is refused, not passed over
    "coerce_one_of": False,
}
"""How JSON is written, whatever a schema itself says about that."""


@runtime_checkable
class Vocabulary(Bytes, Protocol):
    """What is needed of a tokenizer here."""

    @property
    def vocab_size(self) -> int:
        """Tokens in all."""
        ...

    @property
    def special(self) -> Mapping[str, int]:
        """The control tokens."""
        ...

    @property
    def byte_level(self) -> bool:
        """Whether any text is written as its bytes are."""
        ...

    def encode(self, text: str) -> list[int]:
        """The tokens of a text."""
        ...


class Guide:
    """Follows one answer through its grammar.

    Args:
        matcher: of `llguidance`, at the beginning.
        ordinary: [n] whether a token may be part of an answer at all.
        stop_ids: tokens that end the answer, allowed wherever the grammar may end.

    Attributes:
        failed: what went wrong, if the grammar could not be followed any further.
    """

    def __init__(self, matcher: Any, ordinary: NDArray[np.bool_], stop_ids: Iterable[int]) -> None:
        self._matcher = matcher
        self._ordinary = ordinary
        self._stop_ids = [token for token in stop_ids if token < len(ordinary)]
        self.failed: str | None = None

    def allowed(self, vocabulary: int) -> NDArray[np.bool_]:
        """Returns which tokens may come next, [vocabulary].

        All, once the grammar cannot be followed: `failed` then says why.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        known = len(self._ordinary)
        allowed = np.zeros(vocabulary, np.bool_)
        allowed[:known] = np.unpackbits(bits, count=known, bitorder="little").view(np.bool_) & self._ordinary
        allowed[self._stop_ids] = self._matcher.is_accepting()  # even those that are ordinary tokens
        if not allowed.any():
            self.failed = _short(self._matcher.get_error())
            allowed[:] = True
        return allowed

    def push(self, token: int) -> bool:
        """Goes on by a token that was allowed. Returns whether the answer is complete, and closed."""
        self._matcher.consume_token(token)
        if self._matcher.is_error():
            self.failed = _short(self._matcher.get_error())
            return False
        return bool(self._matcher.is_stopped())

    @property
    def complete(self) -> bool:
        """Whether the answer so far has the asked form."""
        return bool(self._matcher.is_accepting())

    def fork(self) -> Guide:
        """Returns a guide at the same place that goes on by itself."""
        return Guide(self._matcher.deep_copy(), self._ordinary, self._stop_ids)


def guide(grammar: Grammar | None, tokenizer: Bytes, stop_ids: Iterable[int] = ()) -> Guide | None:
    """Returns what leads one answer through a grammar; None for none.

    The first call for a grammar compiles it, which takes milliseconds, or up to twice `trial.SECONDS`: a
    server does it in a thread of its own, before the engine asks for the same. Later calls are quick.

    Args:
        grammar: what the answer must look like.
        tokenizer: of the model that answers.
        stop_ids: tokens that end the answer; without any, it ends where nothing can follow.

    Raises:
        RequestError: the grammar is wrong, too complex, or cannot be written with this tokenizer.
        ResourceError: the package 'llguidance' is missing.
    """
    if grammar is None:
        return None
    if not isinstance(tokenizer, Vocabulary):
        what = f"{type(tokenizer).__name__} does not say which tokens it has"
        raise RequestError(what, where="grammar", fix="use the model's whole tokenizer")
    return _compiler(tokenizer).guide(grammar, stop_ids)


class _Compiler:
    """Compiled grammars of one tokenizer; any thread may ask."""

    def __init__(self, tokenizer: Vocabulary) -> None:
        self._ordinary = np.array([bool(tokenizer.token_bytes(i)) for i in range(tokenizer.vocab_size)])
        self._ordinary[list(tokenizer.special.values())] = False
        self._tokenizer = _translated(tokenizer, self._ordinary)
        letters = {tokenizer.token_bytes(int(i)) for i in np.flatnonzero(self._ordinary)}
        self._forced = tokenizer.byte_level and all(bytes([value]) in letters for value in range(256))
        self._lock = threading.Lock()
        self._kept: OrderedDict[Grammar, Any] = OrderedDict()

    def guide(self, grammar: Grammar, stop_ids: Iterable[int]) -> Guide:
        with self._lock:
            made = self._kept.get(grammar)
            if made is not None:
                self._kept.move_to_end(grammar)
        if made is None:
            made = self._compile(grammar)
            with self._lock:
                self._kept[grammar] = made
                while len(self._kept) > KEPT:
                    self._kept.popitem(last=False)
        if isinstance(made, str):
            raise RequestError(f"the grammar cannot be used: {made}", where=grammar.kind, fix="change it")
        return Guide(made.deep_copy(), self._ordinary, stop_ids)

    def _compile(self, grammar: Grammar) -> Any:
        """A matcher at the beginning, or what is wrong."""
        from llguidance import LLMatcher, LLParserLimits

        source = _source(grammar, self._forced)
        if wrong := _trial.verdict(source):
            return _short(wrong)
        matcher = LLMatcher(self._tokenizer, source, log_level=0, limits=LLParserLimits(**LIMITS))
        if matcher.is_error():
            return _short(matcher.get_error())
        first = Guide(matcher, self._ordinary, ())
        first.allowed(len(self._ordinary))
        return matcher if first.failed is None or matcher.is_accepting() else first.failed


_trial = Trial()
_compilers: WeakKeyDictionary[Any, _Compiler] = WeakKeyDictionary()
_compilers_lock = threading.Lock()


def _compiler(tokenizer: Vocabulary) -> _Compiler:
    with _compilers_lock:
        if tokenizer not in _compilers:
            _compilers[tokenizer] = _Compiler(tokenizer)
        return _compilers[tokenizer]


def _translated(tokenizer: Vocabulary, ordinary: NDArray[np.bool_]) -> Any:
    """The tokenizer as `llguidance` sees it."""
    try:
        from llguidance import LLTokenizer, TokenizerWrapper
    except ModuleNotFoundError:
        what, fix = "the package 'llguidance' is missing", "pip install 'ingot[serve]'"
        raise ResourceError(what, where="constrained decoding", fix=fix) from None

    alive = ref(tokenizer)  # what is compiled goes when its tokenizer does

    class Translated:
        special_token_ids = tuple(np.flatnonzero(~ordinary).tolist())
        eos_token_id = special_token_ids[0] if special_token_ids else 0
        bos_token_id = None
        tokens = tuple(
            tokenizer.token_bytes(i) if ordinary[i] else b"<%d>" % i for i in range(tokenizer.vocab_size)
        )

        def __call__(self, text: bytes) -> list[int]:
            known = alive()
            return known.encode(text.decode("utf-8", "replace")) if known is not None else []

    return LLTokenizer(TokenizerWrapper(Translated()), n_vocab=tokenizer.vocab_size)


def _source(grammar: Grammar, forced: bool) -> str:
    """The grammar in `llguidance`'s own form.

    Args:
        grammar: what was asked for.
        forced: whether a text that alone can follow is taken as the tokenizer writes it; else the model
            chooses among all ways to write it.
    """
    from llguidance import LLMatcher

    if grammar.kind == "lark":
        lark = grammar.text
    elif grammar.kind in ("regex", "choice"):
        expression = grammar.text if grammar.kind == "regex" else _any_of(json.loads(grammar.text))
        lark = json.loads(LLMatcher.grammar_from_regex(expression))["grammars"][0]["lark_grammar"]
    else:
        schema = json.loads(grammar.text) if grammar.kind == "json_schema" else {"type": "object"}
        lark = "start: %json " + json.dumps({**schema, "x-guidance": JSON_STYLE})
    if not forced:
        lark += '\n%llguidance {"no_forcing": true}'
    return str(LLMatcher.grammar_from_lark(lark))


def _any_of(texts: Iterable[str]) -> str:
    """A regular expression that matches some texts and nothing else."""
    return "|".join("".join(f"\\x{{{ord(letter):X}}}" for letter in text) for text in texts)


def _short(error: str) -> str:
    """The first line of an error, without its ballast."""
    line = error.strip().split("\n")[0]
    # What the library says where its tokens are at an end; it says nothing where only ours are.
    if not line or line.startswith("NoExtension"):
        return "the tokenizer has no token that may come next"
    return line[:300]
