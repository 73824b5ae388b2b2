"""What is remembered of requests to a linear-time decoder: a state of fixed size in every row.

```
delta layer      memory [n, h, e, w], last inputs of its convolutions     the same size at any length
attention layer  keys and values of all tokens                            a `RowCache`, where there are any
```

Prompts are read together without padding, which would be written into the states: all go on by as many tokens
as the shortest has left, and that one then leaves the group.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from ingot.errors import RequestError
from ingot.inference.choosing.constrain import Vocabulary
from ingot.inference.rows.row_cache import NextTokens, RowCache
from ingot.inference.rows.row_engine import SCORED_AT_ONCE, Note, Reading, RowEngine
from ingot.models.linear_decoder import LinearDecoder
from ingot.models.linear_state import KeysValues, LinearState
from ingot.nn.delta import DeltaState
from ingot.nn.mixed import shortened


class LinearReading:
    """Prompts that are being read, all but the last token of each.

    Args:
        model: in evaluation mode.
        prompts: different ones, of at least one token each.
        notes: by a prompt's number, who is told what was expected at each of its places.
    """

    def __init__(
        self, model: LinearDecoder, prompts: Sequence[Sequence[int]], notes: Mapping[int, Note]
    ) -> None:
        self.model = model
        self.prompts = prompts
        self.notes = notes
        self.states: list[LinearState | None] = [None] * len(prompts)  # of those that are read
        self._group = [place for place, prompt in enumerate(prompts) if len(prompt) > 1]
        self._state: LinearState | None = None  # of the group, one row each

    def advance(self, tokens: int) -> bool:
        """See `Reading`."""
        if not self._group:
            return True
        past = 0 if self._state is None else self._state.length
        shortest = min(len(self.prompts[place]) for place in self._group) - 1
        end = min(shortest, past + max(1, tokens // len(self._group)))
        rows = [self.prompts[place][past:end] for place in self._group]
        given = torch.tensor(rows, device=self.model.embedding.weight.device)
        hidden, _, state = self.model(given, self._state, logits=False)
        assert state is not None
        ends = [len(self.prompts[place]) - 1 == end for place in self._group]
        for row, place in enumerate(self._group):
            if place in self.notes:
                for first in range(0, end - past, SCORED_AT_ONCE):
                    part = hidden[row, first : first + SCORED_AT_ONCE]
                    self.notes[place](past + first + 1, self.model.head(part))
            if ends[row]:
                self.states[place] = _rows(state, [row])
        left = [row for row, over in enumerate(ends) if not over]
        self._group = [self._group[row] for row in left]
        self._state = state if len(left) == len(ends) else _rows(state, left)
        return not self._group


def _rows(state: LinearState, rows: list[int]) -> LinearState:
    """Some rows of a state, copied."""
    layers: list[DeltaState | KeysValues] = []
    for layer in state.layers:
        if isinstance(layer, DeltaState):
            first, second, third = layer.tails
            layers.append(DeltaState(layer.memory[rows], (first[rows], second[rows], third[rows])))
        else:
            layers.append(KeysValues(layer.keys[rows], layer.values[rows]))
    return LinearState(state.length, tuple(layers))


class LinearHeld:
    """A linear-time decoder and the states of its active rows; see `Held`.

    Args:
        model: in evaluation mode; its number type is what is computed in.
    """

    def __init__(self, model: LinearDecoder) -> None:
        self.model = model
        self.vocabulary = model.config.vocabulary
        self.context = model.config.context
        self.device = model.embedding.weight.device
        self.scores_prompts = True
        self._lengths: list[int] = []  # tokens that each row remembers
        self._states: dict[int, DeltaState] = {}  # per delta layer, n rows
        self._cache = RowCache()  # of the layers of attention

    def room(self, prompt_tokens: int) -> int:
        """See `Held`."""
        if prompt_tokens >= self.context:
            what = f"the prompt has {prompt_tokens} tokens, the model's context is {self.context}"
            raise RequestError(what, where="prompt", fix="shorten it so that there is room for an answer")
        return self.context - prompt_tokens

    def begin(self, prompts: Sequence[Sequence[int]], notes: Mapping[int, Note]) -> LinearReading:
        """See `Held`."""
        return LinearReading(self.model, prompts, notes)

    def join(self, reading: Reading, origin: Sequence[int]) -> list[int]:
        """See `Held`."""
        assert isinstance(reading, LinearReading)
        fresh: dict[int, list[DeltaState]] = {}
        for row, place in enumerate(origin, start=len(self._lengths)):
            state = reading.states[place]
            for layer in range(self.model.config.layers):
                kept = None if state is None else state.layers[layer]
                if isinstance(kept, KeysValues):
                    self._cache.fill(layer, row, kept.keys, kept.values)
                elif not self.model.config.attends(layer):
                    fresh.setdefault(layer, []).append(kept or self._empty())
        for layer, states in fresh.items():
            before = [self._states[layer]] if layer in self._states else []
            self._states[layer] = _stacked([*before, *states])
        self._lengths += [len(reading.prompts[place]) - 1 for place in origin]
        return [reading.prompts[place][-1] for place in origin]

    def step(self, tokens: Tensor) -> Tensor:
        """See `Held`."""
        model = self.model
        lengths = torch.tensor(self._lengths, device=self.device)
        attend = NextTokens(self._cache, lengths, max(self._lengths))
        angles = None if model.rotary is None else model.rotary.angles(lengths[:, None], 1)
        x = shortened(model.embedding(tokens[:, None]))
        for layer, block in enumerate(model.blocks):
            x, after = block(x, angles, layer, attend, self._states.get(layer))
            if after is not None:
                self._states[layer] = after
        self._lengths = [length + 1 for length in self._lengths]
        logits: Tensor = model.head(model.norm(x[:, 0]))
        return logits

    def leave(self, row: int) -> None:
        """See `Held`."""
        last = len(self._lengths) - 1
        for layer, state in self._states.items():
            parts = (state.memory, *state.tails)
            for part in parts:
                part[row] = part[last]
            memory, *tails = (part[:last] for part in parts)
            self._states[layer] = DeltaState(memory, (tails[0], tails[1], tails[2]))
        self._cache.move(last, row)
        self._lengths[row] = self._lengths[last]
        self._lengths.pop()

    def clear(self) -> None:
        """See `Held`."""
        self._lengths.clear()
        self._states.clear()
        self._cache.clear()

    def bytes(self) -> int:
        """Returns the memory held."""
        parts = (part for state in self._states.values() for part in (state.memory, *state.tails))
        return sum(part.nbytes for part in parts) + self._cache.bytes()

    def _empty(self) -> DeltaState:
        """One row's state before the first token."""
        sizes, weight = self.model.config.delta, self.model.embedding.weight
        keys, values = sizes.key_heads * sizes.key_width, sizes.value_heads * sizes.value_width
        shape = 1, sizes.value_heads, sizes.key_width, sizes.value_width
        memory = torch.zeros(
            shape, dtype=torch.promote_types(weight.dtype, torch.float32), device=self.device
        )
        first, second, third = (weight.new_zeros(1, sizes.taps - 1, c) for c in (keys, keys, values))
        return DeltaState(memory, (first, second, third))


def _stacked(states: Sequence[DeltaState]) -> DeltaState:
    """The rows of several states, one behind the other."""
    first, second, third = (torch.cat([state.tails[part] for state in states]) for part in range(3))
    return DeltaState(torch.cat([state.memory for state in states]), (first, second, third))


def linear_engine(model: LinearDecoder, tokenizer: Vocabulary, slots: int = 32) -> RowEngine:
    """Returns the engine of a linear-time decoder.

    Args:
        model: in evaluation mode.
        tokenizer: of the same folder.
        slots: requests that are worked on at once.

    Example:
        >>> linear_engine(model, tokenizer).generate([[1, 2, 3]])[0].text
    """
    return RowEngine(LinearHeld(model), tokenizer, slots)
