"""Heads: what is asked of an encoder's hidden states.

```
masked     every token -> transform -> vocabulary          which token was here?
tokens     every token -> transform -> labels              what is this token?
span       every token -> transform -> 2                   does the answer begin, does it end here?
sequence   pooled      -> transform -> labels              what is this text?
embedding  pooled      -> unit length                      where does this text lie?
```
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import normalize, tanh

from ingot.config import Config
from ingot.nn.activations import gelu
from ingot.nn.linear import Linear

Pooling = Literal["first", "mean"]


class HeadConfig(Config):
    """What stands on an encoder.

    Args:
        task: what is asked; see the table of this module.
        labels: classes of `sequence` and `tokens`.
        names: of the classes; empty where nobody named them.
        transform: what is done before the last linear layer: nothing, a layer with tanh (BERT's pooler), or
            a layer with GELU and a norm (BERT's masked head, and all heads of ModernBERT).
        transform_bias: whether that layer and its norm have biases.
        pooling: of `sequence` and `embedding`: the first token's state, or the mean over the text's tokens.
        tied: whether the masked head's weight is the embedding's.
        dropout: before the last linear layer of the classifying heads.
    """

    task: Literal["masked", "sequence", "tokens", "span", "embedding"]
    labels: int = Field(default=2, gt=0)
    names: tuple[str, ...] = ()
    transform: Literal["tanh", "gelu_norm"] | None = None
    transform_bias: bool = True
    pooling: Pooling = "first"
    tied: bool = True
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _all_named(self) -> Self:
        if self.names and len(self.names) != self.labels:
            raise ValueError(f"{len(self.names)} names for {self.labels} labels")
        return self

    def build(self, width: int, vocabulary: int, epsilon: float) -> nn.Module:
        """Returns a fresh head.

        Args:
            width: d of the encoder.
            vocabulary: v of the encoder.
            epsilon: of the norm.
        """
        if self.task == "embedding":
            return EmbeddingHead(self.pooling)
        outputs = {"masked": vocabulary, "span": 2}.get(self.task, self.labels)
        transform: nn.Module | None = None
        if self.transform is not None:
            transform = Transform(
                width, epsilon if self.transform == "gelu_norm" else None, self.transform_bias
            )
        return Head(
            width,
            outputs,
            pooling=self.pooling if self.task == "sequence" else None,
            transform=transform,
            dropout=0.0 if self.task == "masked" else self.dropout,
        )


class Transform(nn.Module):
    """A layer between hidden states and a classifier: norm(gelu(dense(x))), or tanh(dense(x)) without norm.

    Args:
        width: d.
        epsilon: of the norm; None is tanh without a norm.
        bias: whether the layer and the norm have biases.

    Source: Devlin et al. 2019, arXiv 1810.04805, appendix A.2, and its published code.
    """

    def __init__(self, width: int, epsilon: float | None, bias: bool) -> None:
        super().__init__()
        self.dense = Linear(width, width, bias=bias)
        self.norm = None if epsilon is None else nn.LayerNorm(width, epsilon, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Args: x [..., d]. Returns: [..., d]."""
        x = self.dense(x)
        return tanh(x) if self.norm is None else self.norm(gelu(x))


class Head(nn.Module):
    """A classifier of tokens, or of pooled texts.

    Args:
        width: d.
        outputs: o, numbers that it gives.
        pooling: how a text becomes one vector; None classifies every token.
        transform: before the last layer, or None.
        dropout: before the last layer.
    """

    def __init__(
        self,
        width: int,
        outputs: int,
        *,
        pooling: Pooling | None,
        transform: nn.Module | None,
        dropout: float,
    ) -> None:
        super().__init__()
        self.pooling = pooling
        self.transform = transform
        self.dropout = nn.Dropout(dropout)
        self.output = Linear(width, outputs)

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """Args: hidden [b, t, d], mask [b, t] or None. Returns: [b, t, o], or [b, o] where it pools."""
        x = hidden if self.pooling is None else pool(hidden, mask, self.pooling)
        if self.transform is not None:
            x = self.transform(x)
        return self.output(self.dropout(x))


class EmbeddingHead(nn.Module):
    """One vector of unit length per text (Reimers and Gurevych 2019, arXiv 1908.10084, section 3).

    Args:
        pooling: how a text becomes one vector.
    """

    def __init__(self, pooling: Pooling) -> None:
        super().__init__()
        self.pooling: Pooling = pooling

    def forward(self, hidden: Tensor, mask: Tensor | None = None) -> Tensor:
        """Args: hidden [b, t, d], mask [b, t] or None. Returns: [b, d] float32."""
        return normalize(pool(hidden, mask, self.pooling).float(), dim=-1)


def pool(hidden: Tensor, mask: Tensor | None, pooling: Pooling) -> Tensor:
    """Makes one vector of a text.

    Args:
        hidden: [b, t, d].
        mask: [b, t] bool, true where tokens are; None where all are.
        pooling: the first place, or the mean over the tokens.

    Returns:
        [b, d]; zeros where the mean of no token is asked for.

    Example:
        >>> import torch
        >>> pool(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[True, True, False]]), "mean").tolist()
        [[2.0]]
    """
    if pooling == "first":
        return hidden[:, 0]
    if mask is None:
        return hidden.mean(1)
    kept = mask[..., None].to(hidden.dtype)
    return (hidden * kept).sum(1) / kept.sum(1).clamp(min=1)
