"""Drafts from a smaller model with the same vocabulary, which keeps up with every answer in pages of its own.

```
target    ... t5 t6 | t7                     the newest token, not computed yet
draft     ... t5                             what its own pages hold: it is behind
          pass 1: t6 t7 -> d1    pass 2: d1 -> d2    pass 3: d2 -> d3        all requests at once
```

Its guess for a place uses the request's own sampling and the place's own random number, as the target will:
where both models think alike they mostly choose alike, at any temperature. Guesses that turn out wrong are
written over in its pages, as in the target's.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ingot.errors import ArtifactError
from ingot.inference.choosing.sampling import Rows, distribution, likeliest, uniform
from ingot.inference.computing.native import runner as native_runner
from ingot.inference.computing.paged_attention import TorchRunner
from ingot.inference.computing.pages import Pages, pages_for
from ingot.inference.computing.passes import Runner, Segment, assemble
from ingot.inference.load import load_model
from ingot.inference.request import Request, rows_of
from ingot.models.decoder import Decoder
from ingot.tokenizer import Tokenizer

if TYPE_CHECKING:
    from ingot.inference.engine import Engine

WIDTH = 0.1
"""How far about a place's number the draft's distribution is looked at.

Share of right guesses on source text at temperature 1, widths 0, 0.1 and 1: 0.13, 0.19, 0.18 with a weak
draft of a small model, 0.35, 0.38, 0.30 with a good one.
"""

OVERHEAD = 0.15
"""What a pass of the draft model takes besides reading weights, by the time of the target's pass. It is about
right for a target of 27 M parameters; for a smaller one it is more, for a larger one less."""

CATCH_UP = 512
"""Tokens that the draft model reads in one pass at most: a long prompt is read over several steps."""


@dataclass(frozen=True)
class DraftModel:
    """Drafts from a model.

    Args:
        model: in evaluation mode, with the target's vocabulary.
        most: tokens of a draft at most.
        free_rows: rows that a pass of the target computes in the time that it takes anyway.

    Example:
        >>> Engine(model, tokenizer, speculate=DraftModel(small))
    """

    model: Decoder
    most: int = 6
    free_rows: float = 8.0

    def cost(self, engine: Engine) -> float:
        """Returns the draft's weights by the target's, as reading them takes the time, and `OVERHEAD`."""
        return _weights(self.model) / _weights(engine.model) + OVERHEAD

    def build(self, engine: Engine) -> Follower:
        """Makes the drafter of an engine.

        Raises:
            ArtifactError: the vocabularies differ.
        """
        mine, its = self.model.config.vocabulary, engine.model.config.vocabulary
        if mine != its:
            what = f"the draft model has {mine} tokens, the model {its}"
            raise ArtifactError(what, where="draft", fix="use a draft model with the same tokenizer")
        return Follower(self.model, pages=engine.slots * pages_for(self.model.config.context))


def load_draft(folder: Path | str, tokenizer: Tokenizer, like: Decoder, most: int = 6) -> DraftModel:
    """Loads a draft model from a folder.

    Args:
        folder: a Hugging Face folder.
        tokenizer: the target's.
        like: the target: its device and number type are the draft's.
        most: tokens of a draft at most.

    Raises:
        ArtifactError: the folder holds no usable model, or its tokens stand for other text.
    """
    weight = like.norm.get_parameter("weight")
    model, own = load_model(folder, str(weight.device), weight.dtype)
    same = own.vocab_size == tokenizer.vocab_size
    if not same or any(own.token_bytes(i) != tokenizer.token_bytes(i) for i in range(own.vocab_size)):
        fix = "use a draft model that was trained with the same tokenizer"
        raise ArtifactError("its tokens are not those of the model", where=folder, fix=fix)
    return DraftModel(model, most)


def _weights(model: Decoder) -> int:
    """Bytes of weights that a pass reads; of the embedding it reads a few rows only."""
    whole = sum(x.nbytes for x in {id(x): x for x in (*model.parameters(), *model.buffers())}.values())
    return whole - (0 if model.config.tied else model.embedding.weight.nbytes)


@dataclass
class _Place:
    """Where the draft model is in a request's text."""

    held: list[int] = field(default_factory=list)  # tokens in its pages, guesses among them
    certain: int = 0  # of them, known to be the text's
    table: array[int] = field(default_factory=lambda: array("i"))

    def new(self, request: Request) -> list[int]:
        """Lets go of wrong guesses; returns the text's tokens that are not held, at least the last one."""
        start = len(request.prompt)
        at, end = self.certain, min(len(self.held), request.length - 1)
        while at < end and self.held[at] == (
            request.prompt[at] if at < start else request.tokens[at - start]
        ):
            at += 1
        del self.held[at:]
        self.certain = at
        return request.prompt[at:] + request.tokens[max(0, at - start) :]


class Follower:
    """A draft model beside an engine.

    Args:
        model: in evaluation mode.
        pages: that it may take at most.
        runner: computes its passes; None is the fastest there is.
    """

    def __init__(self, model: Decoder, pages: int, runner: Runner | None = None) -> None:
        self._model = model
        self._runner = runner or native_runner(model, 0) or TorchRunner(model)
        self._pages = Pages(pages)
        self._places: dict[Request, _Place] = {}
        self._device = model.norm.get_parameter("weight").device

    def propose(self, requests: Sequence[Request], lengths: Sequence[int]) -> list[list[int]]:
        """See `Drafter`. A text that is too long to be read at once gets no draft until it is read."""
        drafts: dict[Request, list[int]] = {}
        ahead: dict[Request, int] = {}  # guesses that are still to be made
        reading: dict[Request, list[int]] = {}
        left = CATCH_UP
        for request, length in zip(requests, lengths, strict=True):
            place = self._places.setdefault(request, _Place())
            tokens = place.new(request)
            length = min(length, self._model.config.context - request.length)
            if length < 1 or not left or not self._give_pages(place, request.length + length):
                continue
            reading[request] = tokens[:left]
            if len(tokens) <= left:
                ahead[request] = length
            left -= len(reading[request])
        while reading:
            chosen = self._read(reading)
            reading = {}
            for request, token in chosen.items():
                if ahead.get(request, 0) > 0:
                    drafts.setdefault(request, []).append(token)
                    ahead[request] -= 1
                    if ahead[request]:
                        reading[request] = [token]
        return [drafts.get(request, []) for request in requests]

    def forget(self, request: Request) -> None:
        """See `Drafter`."""
        place = self._places.pop(request, None)
        if place is not None:
            self._pages.release(place.table)

    def _read(self, reading: dict[Request, list[int]]) -> dict[Request, int]:
        """Computes the tokens of each request; returns what it would say next, by the request's sampling."""
        places = [self._places[request] for request in reading]
        segments = [
            Segment(tokens, len(place.held), place.table)
            for place, tokens in zip(places, reading.values(), strict=True)
        ]
        logits = self._runner(assemble(segments, self._device), self._pages)
        for place, tokens in zip(places, reading.values(), strict=True):
            place.held += tokens
        rows = rows_of(list(reading), self._model.config.vocabulary, self._device)
        following = torch.tensor([len(place.held) for place in places], device=self._device)
        return dict(zip(reading, guessed(logits, rows, following).tolist(), strict=True))

    def _give_pages(self, place: _Place, tokens: int) -> bool:
        """Gives pages for so many tokens; returns whether there are enough."""
        missing = pages_for(tokens) - len(place.table)
        if missing > self._pages.available:
            return False
        for _ in range(missing):
            place.table.append(self._pages.take())
        return True


def guessed(logits: Tensor, rows: Rows, places: Tensor) -> Tensor:
    """Returns the tokens that the target is likeliest to sample, by what the draft model thinks, [b] int64.

    The target takes the token in whose part of the cumulative distribution the place's number falls. The
    draft's parts lie about there, not just there: the token is taken that fills most of the
    neighbourhood. Width 0 would repeat the draw, a wide one take the likeliest token whatever the number.

    Args:
        logits: [b, v] of the draft model.
        rows: each row's settings.
        places: [b] int64: where in its text each row's token will stand.
    """
    wanted = logits.float() if rows.edits is None else rows.edits.apply(logits.float())
    if not rows.random:
        return likeliest(wanted)
    parts = distribution(wanted, rows)
    ends = parts.cumsum(-1)
    number = uniform(rows.seed, places)[:, None]
    shared = torch.minimum(ends, number + WIDTH) - torch.maximum(ends - parts, number - WIDTH)
    tokens = torch.where(parts > 0, shared, -torch.inf).argmax(-1)
    return torch.where(rows.temperature == 0, likeliest(wanted), tokens) if rows.greedy else tokens
