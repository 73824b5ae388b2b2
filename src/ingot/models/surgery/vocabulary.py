"""Another vocabulary: the rows of the embedding and of the head, chosen, averaged and put in a new order.

```
a token that stays    its row, bit for bit
a new token           the mean of all rows, or of the rows of the pieces that it was before
```

A new row at the mean of the old ones gives its token about the probability of an average one, and so leaves
those of the others nearly as they were (Hewitt 2021, Initializing New Word Embeddings for Pretrained
Language Models).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from ingot.errors import ConfigError
from ingot.models.decoder import Decoder
from ingot.tokenizer.surgery import Ids
from ingot.tokenizer.tokenizer import Tokenizer

Start = Literal["mean", "pieces"]
Source = Sequence[int] | None
"""Of a new row: the old rows whose mean it is; None is all of them."""


@torch.no_grad()
def with_rows(model: Decoder, sources: Sequence[Source]) -> Decoder:
    """Returns a model with another vocabulary; everything but embedding and head is the same.

    Args:
        model: any dtype; it is not changed.
        sources: of each new row, in order.

    Raises:
        ConfigError: a source that the model has no row for.

    Example:
        >>> more = with_rows(model, [*([i] for i in range(1000)), None])    # doctest: +SKIP
        >>> more.config.vocabulary
        1001
    """
    old = model.config.vocabulary
    beyond = [row for source in sources for row in source or () if not 0 <= row < old]
    if beyond:
        what = f"there is no row {beyond[0]} among the {old} of the embedding"
        raise ConfigError(what, where="vocabulary", fix="use the tokenizer of this model")
    state = model.state_dict()
    for name in ("embedding.weight", "head.weight"):
        state[name] = _rows(state[name], sources)
    changed = Decoder(model.config.model_copy(update={"vocabulary": len(sources)}))
    changed.to(state["embedding.weight"]).load_state_dict(state)
    return changed.train(model.training)


def sources(
    old: Tokenizer, new: Tokenizer, ids: Ids, start: Start = "mean", rows: int | None = None
) -> list[Source]:
    """Returns what each row of a changed tokenizer's embedding is made of.

    Args:
        old: the model's tokenizer.
        new: after surgery (`ingot.tokenizer.surgery`).
        ids: new id of every old one, -1 for those that were dropped.
        start: of a new token: the mean of all old rows, or of the pieces that its text was cut into. Control
            tokens, which have no text, always start at the mean.
        rows: to have in all, where that is more than tokens; further ones start at the mean.
    """
    found: list[Source] = [None] * max(new.vocab_size, rows or 0)
    for before, after in enumerate(ids.tolist()):
        if after >= 0:
            found[after] = [before]
    if start == "pieces":
        for token in range(new.vocab_size):
            text = new.token_bytes(token)
            if found[token] is None and text:
                pieces = (
                    old.encode_bytes(text) if old.byte_level else old.encode(text.decode("utf-8", "replace"))
                )
                found[token] = pieces or None
    return found


def _rows(weight: Tensor, sources: Sequence[Source]) -> Tensor:
    """The new rows: those of one source exactly, others as means in float32."""
    wide = weight.float()
    mean = wide.mean(0)
    made = torch.empty(len(sources), weight.shape[1], dtype=weight.dtype, device=weight.device)
    single = [(row, source[0]) for row, source in enumerate(sources) if source and len(source) == 1]
    if single:
        places, olds = (torch.tensor(one, device=weight.device) for one in zip(*single, strict=True))
        made[places] = weight[olds]
    for row, source in enumerate(sources):
        if not source:
            made[row] = mean.to(weight.dtype)
        elif len(source) > 1:
            made[row] = wide[list(source)].mean(0).to(weight.dtype)
    return made
