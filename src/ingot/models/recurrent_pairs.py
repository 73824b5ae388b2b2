"""From one sequence to another with recurrent layers, with and without attention.

```
source -> embedding -> GRU forwards and backwards -> memory [s, 2 d]
                                       |  last states -> first state of the decoder
decoder:  [ embedding of the last token ; look over the memory ] -> GRU -> [ h ; look ] -> head
```

Without attention all that the decoder knows of the source is the first state (Sutskever et al. 2014,
arXiv 1409.3215): a fixed number of numbers for any length. With it each step looks over the whole source
(Bahdanau et al. 2015, arXiv 1409.0473; Luong et al. 2015, arXiv 1508.04025).
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from ingot.config import Config
from ingot.nn.alignment import Additive, Multiplicative
from ingot.nn.initialisation import initialise
from ingot.nn.recurrent import Kind, Recurrent, State, remember


class RecurrentPairsConfig(Config):
    """The sizes of a recurrent encoder-decoder.

    Args:
        vocabulary: v, of both sides.
        width: d, of embeddings and states.
        cell: `rnn` (Elman), `lstm` or `gru`.
        attention: `additive` (Bahdanau), `multiplicative` (Luong) or None.
        padding: id that fills short sources and is not looked at.
    """

    vocabulary: int = Field(gt=0)
    width: int = Field(gt=0)
    cell: Kind = "gru"
    attention: Literal["additive", "multiplicative"] | None = "additive"
    padding: int | None = None

    def build(self, seed: int = 0) -> RecurrentPairs:
        """Returns a freshly initialised model of these sizes."""
        model = RecurrentPairs(self)
        initialise(model, seed, zero=("head",))
        remember(model)
        return model


class Memory(NamedTuple):
    """What the encoder leaves of a source."""

    states: Tensor  # [b, s, 2 d]
    keys: Tensor | None  # [b, s, a], where there is attention
    real: Tensor | None  # [b, s] bool, where there is padding
    first: State  # of the decoder


class PairOutputs(NamedTuple):
    """What a pass gives."""

    hidden: Tensor  # [b, t, d]
    logits: Tensor | None  # [b, t, v]
    weights: Tensor | None  # [b, t, s]: where each step looked


class RecurrentPairs(nn.Module):
    """A recurrent encoder-decoder.

    Args:
        config: its sizes.

    Example:
        >>> model = RecurrentPairsConfig(vocabulary=9, width=4).build()
        >>> source, tokens = torch.ones(2, 5, dtype=torch.long), torch.ones(2, 3, dtype=torch.long)
        >>> model(source, tokens).weights.shape
        torch.Size([2, 3, 5])
    """

    def __init__(self, config: RecurrentPairsConfig) -> None:
        super().__init__()
        d, memory = config.width, 2 * config.width
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, d)
        self.forwards = Recurrent(config.cell, d, d)
        self.backwards = Recurrent(config.cell, d, d)
        self.bridge = nn.Linear(memory, self.forwards.cell.parts * d)
        self.attention: Additive | Multiplicative | None = None
        if config.attention == "additive":
            self.attention = Additive(d, memory, d)
        elif config.attention == "multiplicative":
            self.attention = Multiplicative(d, memory)
        looked = memory if self.attention is not None else 0
        self.decoder = Recurrent(config.cell, d + looked, d)
        self.mix = nn.Linear(d + looked, d)
        self.head = nn.Linear(d, config.vocabulary, bias=False)

    def encode(self, source: Tensor) -> Memory:
        """Reads a source [b, s] int64 from both sides."""
        real = None if self.config.padding is None else source != self.config.padding
        x = self.embedding(source)
        left, after = self.forwards(x, real=real)
        right, before = self.backwards(x, real=real, backwards=True)
        first = self.bridge(torch.cat((after[0], before[0]), -1)).tanh()
        states = torch.cat((left, right), -1)
        keys = None if self.attention is None else self.attention.keys(states)
        return Memory(states, keys, real, first.chunk(self.forwards.cell.parts, -1))

    def step(self, tokens: Tensor, memory: Memory, state: State) -> tuple[Tensor, Tensor | None, State]:
        """Makes one step of the decoder.

        Args:
            tokens: [b] int64, those before the ones to be predicted.
            memory: of the sources.
            state: of the decoder.

        Returns:
            Hidden states [b, d], where it looked [b, s] or None, and the next state.
        """
        x, weights = self.embedding(tokens), None
        seen: tuple[Tensor, ...] = ()
        if self.attention is not None:
            mean, weights = self.attention(state[0], memory.keys, memory.states, memory.real)
            seen = (mean,)
        _, state = self.decoder(torch.cat((x, *seen), -1)[:, None], state)
        return self.mix(torch.cat((state[0], *seen), -1)).tanh(), weights, state

    def forward(self, source: Tensor, tokens: Tensor, logits: bool = True) -> PairOutputs:
        """Predicts the next token of the target at every place, the right ones before it being given.

        Args:
            source: [b, s] int64.
            tokens: [b, t] int64, the target behind a token that begins it.
            logits: whether to apply the head.
        """
        memory = self.encode(source)
        state, hidden, looks = memory.first, [], []
        for column in tokens.unbind(1):
            h, weights, state = self.step(column, memory, state)
            hidden.append(h)
            looks += [] if weights is None else [weights]
        every = torch.stack(hidden, 1)
        return PairOutputs(
            every, self.head(every) if logits else None, torch.stack(looks, 1) if looks else None
        )


@torch.inference_mode()
def translate(model: RecurrentPairs, source: Tensor, begin: int, new: int) -> Tensor:
    """Writes the likeliest token again and again.

    Args:
        model: in evaluation mode.
        source: [b, s] int64.
        begin: id of the token that begins a target.
        new: tokens to write, n.

    Returns:
        [b, n] int64.
    """
    memory = model.encode(source)
    state, column = memory.first, torch.full_like(source[:, 0], begin)
    made: list[Tensor] = []
    for _ in range(new):
        h, _, state = model.step(column, memory, state)
        column = model.head(h).argmax(-1)
        made.append(column)
    return torch.stack(made, 1)
