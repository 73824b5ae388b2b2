"""What is remembered of requests to an encoder-decoder: its source, read once, and its target so far.

```
source -> encoder, once -> keys and values that every layer looks at     n rows, padded to the longest source
target -> one token per step -> keys and values of the target so far     n rows, each at a place of its own
```

A request's prompt is its source; the tokens it gets are the target's.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ingot.errors import RequestError
from ingot.inference.choosing.constrain import Vocabulary
from ingot.inference.rows.row_cache import PLACES, NextTokens, RowCache
from ingot.inference.rows.row_engine import READ_AT_ONCE, Note, Reading, RowEngine
from ingot.inference.searching.beams import Beams, Found
from ingot.models.encoder_decoder import EncoderDecoder, Memory
from ingot.nn.cross_attention import Looked
from ingot.nn.relative import Added, padding


class SourceReading:
    """Sources that are being read: all in one pass, because every token sees those behind it too.

    Args:
        model: in evaluation mode.
        sources: different ones, of at least one token each.
    """

    def __init__(self, model: EncoderDecoder, sources: Sequence[Sequence[int]]) -> None:
        self.model = model
        self.lengths = [len(source) for source in sources]
        self.looked: Sequence[Looked] = ()
        device = model.embedding.weight.device
        rows = [[*source, *[0] * (max(self.lengths) - len(source))] for source in sources]
        self._tokens = torch.tensor(rows, device=device)  # [m, s]
        places = torch.arange(max(self.lengths), device=device)
        self._mask = places < torch.tensor(self.lengths, device=device)[:, None]

    def advance(self, tokens: int) -> bool:
        """See `Reading`."""
        self.looked = self.model.encode(self._tokens, self._mask).looked
        return True


class Seq2SeqHeld:
    """An encoder-decoder and what it remembers of its active rows; see `Held`.

    Args:
        model: in evaluation mode; its number type is what is computed in.
        banned: tokens that are never written.
    """

    def __init__(self, model: EncoderDecoder, banned: Collection[int] = ()) -> None:
        self.model = model
        self.vocabulary = model.config.vocabulary
        self.context = model.config.context
        self.device = model.embedding.weight.device
        self.scores_prompts = False
        self._banned = torch.tensor(sorted(banned), dtype=torch.int64, device=self.device)
        self._sources: list[int] = []  # tokens of each row's source
        self._lengths: list[int] = []  # tokens of each row's target that are remembered
        self._crossing, self._written = RowCache(), RowCache()
        self._memory: Memory | None = None  # None after the rows changed
        self._along: Tensor | None = None  # [h, T] what a token so many places back adds to a score

    def room(self, prompt_tokens: int) -> int:
        """See `Held`: source and target have the context to themselves."""
        if prompt_tokens > self.context:
            what = f"the source has {prompt_tokens} tokens, the model's context is {self.context}"
            raise RequestError(what, where="prompt", fix="shorten it, or give it in parts")
        return self.context

    def begin(self, prompts: Sequence[Sequence[int]], notes: Mapping[int, Note]) -> SourceReading:
        """See `Held`."""
        return SourceReading(self.model, prompts)

    def join(self, reading: Reading, origin: Sequence[int]) -> list[int]:
        """See `Held`."""
        assert isinstance(reading, SourceReading)
        if origin:
            rows = torch.tensor(list(origin), device=self.device)
            for layer, (key, value) in enumerate(reading.looked):
                self._crossing.fill(layer, len(self._sources), key[rows], value[rows])
        self._sources += [reading.lengths[place] for place in origin]
        self._lengths += [0] * len(origin)
        self._memory = None
        return [self.model.config.begin] * len(origin)

    def step(self, tokens: Tensor) -> Tensor:
        """See `Held`."""
        lengths = torch.tensor(self._lengths, device=self.device)
        longest = max(self._lengths)
        attend = NextTokens(
            self._written, lengths, longest, self._by_distance(longest), self.model.config.score_scale
        )
        self._memory = self._memory or self._look()
        hidden = self.model.decode(tokens[:, None], self._memory, attend, first=lengths)
        logits: Tensor = self.model.head(hidden[:, 0])
        self._lengths = [length + 1 for length in self._lengths]
        return logits.index_fill(1, self._banned, -torch.inf) if len(self._banned) else logits

    def leave(self, row: int) -> None:
        """See `Held`."""
        last = len(self._lengths) - 1
        self._crossing.move(last, row)
        self._written.move(last, row)
        for kept in (self._sources, self._lengths):
            kept[row] = kept[last]
            kept.pop()
        self._memory = None

    def choose(self, rows: Sequence[int], sources_stay: bool = False) -> None:
        """Makes row i what row `rows[i]` was; there are `len(rows)` rows then.

        Args:
            rows: of the present ones; one may be named several times, or not at all.
            sources_stay: whether every new row has the source of the row that stood there.
        """
        index = torch.tensor(list(rows), dtype=torch.int64, device=self.device)
        self._written.choose(index)
        self._lengths = [self._lengths[row] for row in rows]
        if not sources_stay:
            self._crossing.choose(index)
            self._sources = [self._sources[row] for row in rows]
            self._memory = None

    def clear(self) -> None:
        """See `Held`."""
        self._sources.clear()
        self._lengths.clear()
        self._crossing.clear()
        self._written.clear()
        self._memory = None

    def _look(self) -> Memory:
        """What all rows look at, past the ends of their sources."""
        n, s = len(self._sources), max(self._sources)
        rows, seen = slice(0, n), slice(0, s)
        keys, values = self._crossing.keys, self._crossing.values
        looked = [Looked(keys[at][rows, :, seen], values[at][rows, :, seen]) for at in sorted(keys)]
        weight = self.model.embedding.weight
        places = torch.arange(s, device=self.device)
        mask = places < torch.tensor(self._sources, device=self.device)[:, None]
        hidden = None if min(self._sources) == s else padding(mask, looked[0].key)
        return Memory(weight[:0], looked, Added(hidden, self.model.config.score_scale))

    def _by_distance(self, longest: int) -> Tensor | None:
        """[h, T] of relative positions, T above `longest`; None where places are added to embeddings."""
        relative = self.model.decoder.relative
        if relative is None:
            return None
        if self._along is None or self._along.shape[1] <= longest:
            places = max(PLACES, 2 * (longest + 1))
            self._along = relative(1, places, first=places - 1)[:, 0].flip(1)
        return self._along


def seq2seq_engine(
    model: EncoderDecoder, tokenizer: Vocabulary, slots: int = 32, banned: Collection[int] = ()
) -> RowEngine:
    """Returns the engine of an encoder-decoder: the prompts of its requests are sources.

    Args:
        model: in evaluation mode.
        tokenizer: of the same folder.
        slots: requests that are worked on at once.
        banned: tokens that are never written; see `banned_tokens`.

    Example:
        >>> engine = seq2seq_engine(model, tokenizer)
        >>> engine.generate([source], Sampling(temperature=0), stop_ids=[model.config.end])[0].text
    """
    return RowEngine(Seq2SeqHeld(model, banned), tokenizer, slots)


def banned_tokens(folder: Path) -> frozenset[int]:
    """Returns the tokens that a folder forbids to write (`bad_words_ids` of one token: Marian's padding)."""
    found: set[int] = set()
    for name in ("config.json", "generation_config.json"):
        try:
            told = json.loads((folder / name).read_text(encoding="utf-8")).get("bad_words_ids")
        except (OSError, ValueError, AttributeError):
            continue
        for words in told if isinstance(told, list) else ():
            if isinstance(words, list) and len(words) == 1 and isinstance(words[0], int):
                found.add(words[0])
    return frozenset(found)


@torch.inference_mode()
def search(
    model: EncoderDecoder,
    sources: Sequence[Sequence[int]],
    width: int,
    new: int,
    *,
    length_penalty: float = 1.0,
    banned: Collection[int] = (),
) -> list[list[Found]]:
    """Writes about each source by beam search: the same texts and scores as `transformers` (`num_beams`).

    Args:
        model: in evaluation mode.
        sources: token ids of each.
        width: texts that run side by side for each source.
        new: most tokens to write.
        length_penalty: see `Beams`.
        banned: tokens that are never written.

    Returns:
        For each source what was found, best first; a text's last token is the one that ended it.

    Raises:
        RequestError: a source that is too long, more tokens than the context has, or a width out of range.
    """
    held = Seq2SeqHeld(model, banned)
    for source in sources:
        if not source:
            raise RequestError("the source has no tokens", where="prompt", fix="leave it out")
        held.room(len(source))
    if new > held.context:
        what = f"asked for are {new} tokens, the model's context is {held.context}"
        raise RequestError(what, where="search", fix="ask for fewer")
    stops = () if model.config.end is None else (model.config.end,)
    beams = [Beams(width, new, stops, length_penalty) for _ in sources]
    order = sorted(range(len(sources)), key=lambda place: len(sources[place]))
    while order:
        longest = len(sources[order[-1]])
        together = max(1, READ_AT_ONCE // (longest * width))
        _run(
            held,
            [sources[place] for place in order[-together:]],
            [beams[place] for place in order[-together:]],
        )
        del order[-together:]
    return [one.best() for one in beams]


def _run(held: Seq2SeqHeld, sources: Sequence[Sequence[int]], beams: Sequence[Beams]) -> None:
    """Searches about several sources side by side until all are over."""
    held.clear()
    reading = held.begin(sources, {})
    reading.advance(READ_AT_ONCE)
    tokens = held.join(reading, range(len(sources)))
    running = [(one, 1) for one in beams]  # and its rows, one source's behind the other's
    while running:
        logprobs = held.step(torch.tensor(tokens, device=held.device)).float().log_softmax(-1)
        rows: list[int] = []
        tokens, first, left = [], 0, []
        for one, count in running:
            kept = one.advance(logprobs[first : first + count])
            rows += [first + row for row in kept]
            if not one.over:
                tokens += one.tokens
                left.append((one, len(kept)))
            first += count
        if left:
            held.choose(rows, sources_stay=left == running)
        running = left
    held.clear()
