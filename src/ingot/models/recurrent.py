"""The recurrent language model: embedding, recurrent layers, head.

```
tokens -> embedding -> [ Elman, LSTM or GRU ] * layers -> head
```

What it knows of a text is a state of fixed size, whatever the length: each further token costs the same.

Source: Mikolov et al. 2010, "Recurrent neural network based language model"; the regularisation between
layers: Zaremba et al. 2014, arXiv 1409.2329.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from ingot.config import Config
from ingot.nn.initialisation import initialise
from ingot.nn.recurrent import Kind, RecurrentStack, State, remember


class RecurrentConfig(Config):
    """The sizes of a recurrent language model.

    Args:
        vocabulary: v, number of tokens.
        width: d, of embedding and layers.
        layers: on top of one another.
        cell: `rnn` (Elman), `lstm` or `gru`.
        context: tokens of a training window; the model itself has no limit.
        dropout: of the numbers after the embedding, between layers and before the head, in training.
        tied: whether the head uses the embedding's weights.
    """

    vocabulary: int = Field(gt=0)
    width: int = Field(gt=0)
    layers: int = Field(default=1, gt=0)
    cell: Kind = "lstm"
    context: int = Field(default=256, gt=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)
    tied: bool = False

    def build(self, seed: int = 0) -> RecurrentLM:
        """Returns a freshly initialised model of these sizes."""
        model = RecurrentLM(self)
        initialise(model, seed, zero=() if self.tied else ("head",))
        remember(model)
        return model


class RecurrentOutputs(NamedTuple):
    """What a pass over some tokens gives, and the state from which the next pass can go on."""

    hidden: Tensor  # [b, t, d]
    logits: Tensor | None  # [b, t, v]
    state: tuple[State, ...]  # of every layer, each tensor [b, d]


class RecurrentLM(nn.Module):
    """A causal language model without attention.

    Args:
        config: its sizes.

    Example:
        >>> model = RecurrentConfig(vocabulary=256, width=32).build()
        >>> first = model(torch.zeros(1, 8, dtype=torch.long))
        >>> model(torch.zeros(1, 1, dtype=torch.long), state=first.state).logits.shape
        torch.Size([1, 1, 256])
    """

    def __init__(self, config: RecurrentConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.layers = RecurrentStack(config.cell, config.width, config.width, config.layers, config.dropout)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)
        if config.tied:
            self.head.weight = self.embedding.weight

    def forward(
        self, tokens: Tensor, state: Sequence[State] | None = None, logits: bool = True
    ) -> RecurrentOutputs:
        """Predicts the next token at every place.

        Args:
            tokens: [b, t] int64.
            state: that a pass over the tokens before gave; None is the beginning of a text.
            logits: whether to apply the head.

        Returns:
            Hidden states [b, t, d], logits [b, t, v] or None, and the state after the last token.
        """
        x, after = self.layers(self.dropout(self.embedding(tokens)), state)
        hidden = self.dropout(x)
        return RecurrentOutputs(hidden, self.head(hidden) if logits else None, after)

    def parameter_count(self) -> int:
        """Returns the number of parameters; tied ones count once."""
        return sum(p.numel() for p in self.parameters())


def likeliest(logits: Tensor) -> Tensor:
    """Returns the token with the largest logit of every row, [b], of logits [b, v]."""
    return logits.argmax(-1)


@torch.inference_mode()
def generate(
    model: RecurrentLM, tokens: Tensor, new: int, choose: Callable[[Tensor], Tensor] = likeliest
) -> Tensor:
    """Continues texts; the state is carried along, so every token costs the same.

    Args:
        model: in evaluation mode.
        tokens: [b, t] int64, with at least one token.
        new: how many tokens to add, n.
        choose: makes tokens [b] of logits [b, v].

    Returns:
        The new tokens, [b, n] int64.

    Example:
        >>> generate(RecurrentConfig(vocabulary=9, width=4).build(), torch.tensor([[1, 2]]), 3).shape
        torch.Size([1, 3])
    """
    made: list[Tensor] = []
    out = model(tokens, logits=False)
    for _ in range(new):
        made.append(choose(model.head(out.hidden[:, -1])))
        out = model(made[-1][:, None], out.state, logits=False)
    return torch.stack(made, 1) if made else tokens[:, :0]
