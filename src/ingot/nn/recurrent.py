"""Recurrent layers: a state that every token of a sequence changes in turn.

```
Elman   h = tanh(x' + r')
LSTM    i, f, o = sigmoid, g = tanh of (x' + r');   c = f * c + i * g;   h = o * tanh(c)
GRU     z, n: update and candidate;                 h = (1 - z) * n + z * h
```

x' and r' are what the input and the last h give through a linear layer each. All inputs of a sequence go
through theirs together; only the recurrence has to wait for the token before. Weights are laid out as in
`torch.nn.RNN`, `LSTM` and `GRU` (gates below one another, two biases), so that they can be exchanged.

Source: Elman 1990, doi 10.1207/s15516709cog1402_1; Hochreiter and Schmidhuber 1997 with the forget gate of
Gers et al. 2000; Cho et al. 2014, arXiv 1406.1078, with the candidate's gate after its product.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

Kind = Literal["rnn", "lstm", "gru"]
State = tuple[Tensor, ...]
"""What a layer carries from token to token, each [b, d]: h alone, or h and c of an LSTM."""


def elman(x: Tensor, r: Tensor, state: State) -> State:
    """One token of an Elman network. Args: x, r [b, d]; state (h,). Returns: the next state."""
    return ((x + r).tanh(),)


def lstm(x: Tensor, r: Tensor, state: State) -> State:
    """One token of an LSTM. Args: x, r [b, 4 d], gates i, f, g, o; state (h, c). Returns: the next state."""
    i, f, g, o = (x + r).chunk(4, -1)
    c = f.sigmoid() * state[1] + i.sigmoid() * g.tanh()
    return o.sigmoid() * c.tanh(), c


def gru(x: Tensor, r: Tensor, state: State) -> State:
    """One token of a GRU. Args: x, r [b, 3 d], gates reset, z, n; state (h,). Returns: the next state."""
    d = state[0].shape[-1]
    reset, z = (x[:, : 2 * d] + r[:, : 2 * d]).sigmoid().chunk(2, -1)
    n = (x[:, 2 * d :] + reset * r[:, 2 * d :]).tanh()
    return (n + z * (state[0] - n),)


class Cell(NamedTuple):
    """An equation of a recurrent layer."""

    gates: int  # rows of the linear layers, in widths
    parts: int  # tensors of the state
    step: Callable[[Tensor, Tensor, State], State]


CELLS: dict[Kind, Cell] = {"rnn": Cell(1, 1, elman), "lstm": Cell(4, 2, lstm), "gru": Cell(3, 1, gru)}


class Recurrent(nn.Module):
    """One recurrent layer, over a sequence or over a single token of it.

    Args:
        kind: of its cell.
        inputs: i, width of what comes in.
        width: d, of the state and of what goes out.

    Example:
        >>> y, (h, c) = Recurrent("lstm", 3, 5)(torch.zeros(2, 7, 3))
        >>> y.shape, torch.equal(y[:, -1], h)
        (torch.Size([2, 7, 5]), True)
    """

    def __init__(self, kind: Kind, inputs: int, width: int) -> None:
        super().__init__()
        self.cell = CELLS[kind]
        self.width = width
        self.input = nn.Linear(inputs, self.cell.gates * width)
        self.recurrent = nn.Linear(width, self.cell.gates * width)

    def start(self, like: Tensor) -> State:
        """Returns the state before the first token: zeros, with the rows and device of `like` [b, ...]."""
        return (like.new_zeros(len(like), self.width),) * self.cell.parts

    def forward(
        self, x: Tensor, state: State | None = None, real: Tensor | None = None, backwards: bool = False
    ) -> tuple[Tensor, State]:
        """Runs over the tokens in order.

        Args:
            x: [b, t, i].
            state: from which to go on; None starts with zeros.
            real: [b, t] bool, False at padding, which leaves the state as it is; None has no padding.
            backwards: whether the last token comes first; what goes out stays in the order of `x`.

        Returns:
            h after every token, [b, t, d], and the last state.
        """
        along = self.input(x).unbind(1)  # t times [b, gates d]
        state = self.start(along[0]) if state is None else state
        places = range(len(along))
        out: list[Tensor] = [state[0]] * len(along)
        for place in reversed(places) if backwards else places:
            after = self.cell.step(along[place], self.recurrent(state[0]), state)
            if real is not None:
                here = real[:, place, None]
                after = tuple(torch.where(here, new, old) for new, old in zip(after, state, strict=True))
            state = after
            out[place] = state[0]
        return torch.stack(out, 1), state


class RecurrentStack(nn.Module):
    """Recurrent layers on top of one another, dropout between them.

    Args:
        kind: of all cells.
        inputs: i, width of what comes in.
        width: d, of every layer.
        layers: at least one.
        dropout: share of the numbers between two layers that training drops.
    """

    def __init__(self, kind: Kind, inputs: int, width: int, layers: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Recurrent(kind, width if layer else inputs, width) for layer in range(layers)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, state: Sequence[State] | None = None) -> tuple[Tensor, tuple[State, ...]]:
        """Runs all layers over the tokens in order.

        Args:
            x: [b, t, i].
            state: of every layer; None starts with zeros.

        Returns:
            h of the last layer after every token, [b, t, d], and the last state of every layer.
        """
        last: list[State] = []
        for layer, block in enumerate(self.blocks):
            x, after = block(self.dropout(x) if layer else x, None if state is None else state[layer])
            last.append(after)
        return x, tuple(last)


@torch.no_grad()
def remember(model: nn.Module) -> None:
    """Sets the forget gates' bias of all LSTM layers to one, so that gradients reach far from the start.

    Args:
        model: changed in place.

    Source: Jozefowicz et al. 2015, "An empirical exploration of recurrent network architectures", section 2.
    """
    for module in model.modules():
        if isinstance(module, Recurrent) and module.cell.step is lstm:
            module.input.bias[module.width : 2 * module.width] = 1.0
