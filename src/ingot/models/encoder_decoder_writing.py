"""Writing about a source, token by token: the source is read once, and no token of the target twice."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ingot.errors import RequestError
from ingot.models.encoder_decoder import EncoderDecoder
from ingot.nn.relative import Added
from ingot.nn.scoring import Scored

PLACES = 64
"""Memory of the targets grows by the double, from so many tokens on."""


class Written:
    """Keys and values of the targets so far; an `Attend` of one new token per target.

    Args:
        model: whose decoder writes.
    """

    def __init__(self, model: EncoderDecoder) -> None:
        self.place = 0  # of the new tokens
        self._keys: list[Tensor] = []  # per layer [b, h, T, e]
        self._values: list[Tensor] = []
        self._scale = model.config.score_scale
        self._relative = model.decoder.relative
        self._along: Tensor | None = None  # [1, h, 1, T]: what the last of T places adds to all scores

    def __call__(
        self, layer: int, query: Tensor, key: Tensor, value: Tensor, scored: Scored | None = None
    ) -> Tensor:
        """Args: layer, query, key, value [b, h, 1, e]; no layer here asks for more. Returns: [b, h, 1, e]."""
        if layer == len(self._keys):
            self._keys.append(key.new_empty(*key.shape[:2], PLACES, key.shape[3]))
            self._values.append(torch.empty_like(self._keys[layer]))
        if self.place == self._keys[layer].shape[2]:
            for kept in (self._keys, self._values):
                kept[layer] = torch.cat((kept[layer], torch.empty_like(kept[layer])), 2)
        keys, values = self._keys[layer], self._values[layer]
        keys[:, :, self.place], values[:, :, self.place] = key[:, :, 0], value[:, :, 0]
        seen = slice(None, self.place + 1)
        attend = Added(self._bias(keys.shape[2]), self._scale)
        return attend(layer, query, keys[:, :, seen], values[:, :, seen])

    def _bias(self, places: int) -> Tensor | None:
        """What the token at `place` adds by distance, [1, h, 1, place + 1]."""
        if self._relative is None:
            return None
        if self._along is None or self._along.shape[3] < places:
            self._along = self._relative(1, places, first=places - 1)[None]
        return self._along[..., self._along.shape[3] - 1 - self.place :]


def likeliest(logits: Tensor) -> Tensor:
    """Returns the tokens with the largest logits [n, v]."""
    return logits.argmax(-1)


@torch.inference_mode()
def write(
    model: EncoderDecoder,
    source: Tensor,
    new: int,
    mask: Tensor | None = None,
    choose: Callable[[Tensor], Tensor] = likeliest,
) -> Tensor:
    """Writes a target about each source, until it ends.

    Args:
        model: in evaluation mode.
        source: [b, s] int64.
        new: most tokens to write.
        mask: [b, s] bool, true where the source is; None is everywhere but at the padding token.
        choose: from logits [b, v] the next tokens [b].

    Returns:
        [b, n] int64, n up to `new`: without the token that begins a target, with the one that ends it;
        behind that one padding.

    Raises:
        RequestError: places are sinusoidal and there are fewer than `new` or s.
    """
    config = model.config
    if config.positions != "relative":
        for what, number in (("the source has", source.shape[1]), ("asked for are", new)):
            if number > config.context:
                words = f"{what} {number} tokens, the model's context is {config.context}"
                raise RequestError(words, where="write", fix="make it shorter")
    memory, attend = model.encode(source, mask), Written(model)
    column = torch.full_like(source[:, 0], config.begin)
    done = torch.zeros_like(column, dtype=torch.bool)
    made: list[Tensor] = []
    for place in range(new):
        attend.place = place
        hidden = model.decode(column[:, None], memory, attend, first=place)
        column = choose(model.head(hidden[:, 0]))
        if config.end is not None:
            column = column.masked_fill(done, config.padding or 0)
            done |= column == config.end
        made.append(column)
        if config.end is not None and bool(done.all()):
            break
    return torch.stack(made, 1) if made else source[:, :0]
