"""The engine of models whose memory of a request is a row of fixed tensors, not pages of keys and values.

```
submit -> waiting -> [ free row? ] -> joining: its prompt is read, a bounded piece per step
                                   -> active rows 0 ... n-1: one token for all of them per step -> finished
```

It has the face of `Engine`, so chat, evaluation and the server take either. What differs between models is a
`Held`: how prompts are read, and what one step computes (`linear`, `seq2seq`). A row that finishes is filled
by the last one, and a waiting request takes the place that became free (Yu et al. 2022, Orca, OSDI, section
3.1). Like `Engine`, it belongs to one thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

import torch
from torch import Tensor

from ingot.errors import ArtifactError, RequestError
from ingot.inference.asking import Asking
from ingot.inference.choosing.constrain import Vocabulary
from ingot.inference.choosing.sampling import Rows, Sampling, alternatives, sample, told
from ingot.inference.engine import Usage
from ingot.inference.request import Request, rows_of

READ_AT_ONCE = 2048
"""Prompt tokens that a step reads at most, padding counted (one row goes on by a token at least)."""


SCORED_AT_ONCE = 256
"""Places of a prompt whose logits are there at once, where a request asks how likely its prompt is."""

Note = Callable[[int, Tensor], None]
"""Told the place of a prompt's token and hidden states' logits [t, v] for it and those behind it."""


class Reading(Protocol):
    """Prompts that are being read together."""

    def advance(self, tokens: int) -> bool:
        """Reads about so many tokens more; returns whether all is read."""
        ...


class Held(Protocol):
    """A model, and what it remembers of every active request: one row each."""

    vocabulary: int
    context: int
    device: torch.device
    scores_prompts: bool
    """Whether a prompt's own tokens have probabilities: an encoder-decoder's source has none."""

    def room(self, prompt_tokens: int) -> int:
        """Returns how many tokens may follow a prompt; raises `RequestError` where none may."""
        ...

    def begin(self, prompts: Sequence[Sequence[int]], notes: Mapping[int, Note]) -> Reading:
        """Starts to read different prompts; those with a note are told what was expected at each place."""
        ...

    def join(self, reading: Reading, origin: Sequence[int]) -> list[int]:
        """Puts what was read behind the active rows: row i takes prompt `origin[i]`.

        Returns:
            The token that each new row goes on from in the next step.
        """
        ...

    def step(self, tokens: Tensor) -> Tensor:
        """Goes one token [n] on in every row; returns logits [n, v]."""
        ...

    def leave(self, row: int) -> None:
        """Fills a row with the last one, which is no row any more."""
        ...

    def clear(self) -> None:
        """Forgets all rows and gives their memory back."""
        ...


class RowEngine(Asking):
    """Continuous batching over one model with a memory of rows.

    Args:
        held: the model and its memory.
        tokenizer: gives the bytes of tokens.
        slots: requests that are worked on at once; more wait.

    Attributes:
        waiting: requests that nobody works on yet, in the order in which they will be taken.

    Example:
        >>> engine = RowEngine(LinearHeld(model), tokenizer)
        >>> engine.generate([tokenizer.encode("Once")], Sampling(temperature=0))[0].text
    """

    def __init__(self, held: Held, tokenizer: Vocabulary, slots: int = 32) -> None:
        if slots < 1:
            raise RequestError(f"slots is {slots}", where="engine", fix="use 1 or more")
        self.held = held
        self.tokenizer = tokenizer
        self.slots = slots
        self.context = held.context
        self.waiting: list[Request] = []
        self._rows: list[Request] = []  # request i is row i of the memory
        self._joining: list[Request] = []
        self._reading: tuple[Reading, list[int]] | None = None  # and the prompt of each that is joining
        self._next: list[int] = []  # the token that each row goes on from
        self._choices: Rows | None = None  # None after the active rows changed

    @property
    def active(self) -> list[Request]:
        """The requests that are worked on."""
        return [*self._rows, *(one for one in self._joining if one.finish_reason is None)]

    def usage(self) -> Usage:
        """Returns counts, as for a dashboard; of these models a row is what a page is to others."""
        return Usage(
            running=len(self.active),
            waiting=len(self.waiting),
            pages_used=len(self.active),
            pages_idle=0,
            pages_total=self.slots,
            prefix_queries=0,
            prefix_hits=0,
            preemptions=0,
            drafted=0,
            accepted=0,
        )

    def room(self, prompt_tokens: int) -> int:
        """See `Asking`."""
        if prompt_tokens == 0:
            fix = "start it with the first token"
            raise RequestError("the prompt has no tokens", where="prompt", fix=fix)
        return self.held.room(prompt_tokens)

    def submit(
        self,
        prompt: Sequence[int],
        sampling: Sampling | None = None,
        stop_ids: Iterable[int] = (),
        priority: int = 0,
        adapter: str | None = None,
    ) -> Request:
        """Queues a request.

        Args:
            prompt: token ids; of an encoder-decoder, the source.
            sampling: how to choose tokens.
            stop_ids: tokens that end the answer.
            priority: lower goes first.
            adapter: None; these models take none.

        Raises:
            RequestError: a prompt that is empty or too long, or something that these models cannot do.
        """
        if adapter is not None:
            what = f"the model has no adapter '{adapter}'"
            raise RequestError(what, where="adapter", fix="ask the model itself")
        if sampling is not None and sampling.prompt_logprobs and not self.held.scores_prompts:
            what = "a source is not predicted, so that its tokens have no probabilities"
            raise RequestError(what, where="prompt_logprobs", fix="leave it out")
        room, vocabulary = self.room(len(prompt)), self.held.vocabulary
        request = Request.asked(prompt, sampling, stop_ids, room, self.tokenizer, vocabulary, priority)
        self.waiting.append(request)
        self.waiting.sort(key=lambda one: one.priority)  # stable: the oldest of a priority is first
        return request

    @torch.inference_mode()
    def cancel(self, request: Request) -> None:
        """Ends a request now and frees its row; one that is already finished stays as it is."""
        if request.finish_reason is not None:
            return
        request.finish("cancelled")
        if request in self.waiting:
            self.waiting.remove(request)
        elif request in self._rows:
            self._leave(self._rows.index(request))
        elif all(one.finish_reason for one in self._joining):
            self._joining, self._reading = [], None
        # One of several that are joining leaves when all are read: others may share its prompt.

    def reset(self) -> None:
        """Cancels everything and gives the memory back, as after running out of it."""
        for request in (*self.active, *self.waiting):
            if request.finish_reason is None:
                request.finish("cancelled")
        self.waiting.clear()
        self._rows.clear()
        self._joining.clear()
        self._next.clear()
        self._reading = self._choices = None
        self.held.clear()

    @torch.inference_mode()
    def step(self) -> list[Request]:
        """Reads a piece of the prompts that are joining, and makes one token for every active row.

        Returns:
            The requests that got a token; those with a `finish_reason` have left.

        Raises:
            ArtifactError: the model gives no usable probabilities; all requests are cancelled then.
        """
        if self._reading is None and self.waiting and len(self._rows) < self.slots:
            self._begin()
        if self._reading is not None and self._reading[0].advance(READ_AT_ONCE):
            self._join()
        return self._decode() if self._rows else []

    def _begin(self) -> None:
        """Takes the next request from the queue, and those whose length suits it, to be read together."""
        candidates = self.waiting[: self.slots - len(self._rows)]
        wanted = len(candidates[0].prompt)
        candidates.sort(key=lambda request: abs(len(request.prompt) - wanted))  # stable: the next is first
        chosen: list[Request] = []
        number: dict[tuple[int, ...], int] = {}  # of different prompts: equal ones are read once
        shortest = longest = wanted
        for request in candidates:
            prompt = tuple(request.prompt)
            least, most = min(shortest, len(prompt)), max(longest, len(prompt))
            fits = (len(number) + 1) * most <= READ_AT_ONCE and most <= 2 * max(least, 32)
            if prompt in number or fits or not chosen:
                shortest, longest = least, most
                number.setdefault(prompt, len(number))
                chosen.append(request)
        taken = set(chosen)
        self.waiting = [request for request in self.waiting if request not in taken]
        now = time.perf_counter()
        for request in chosen:
            request.started = now
        self._joining = chosen
        origin = [number[tuple(request.prompt)] for request in chosen]
        notes: dict[int, Note] = {}
        for place in set(origin):
            asked = [one for one, at in zip(chosen, origin, strict=True) if at == place]
            if asked := [one for one in asked if one.sampling.prompt_logprobs]:
                notes[place] = _note(asked)
        self._reading = self.held.begin(list(number), notes), origin

    def _join(self) -> None:
        """Makes rows of the requests whose prompts are read."""
        assert self._reading is not None
        reading, origin = self._reading
        left = [place for place, request in enumerate(self._joining) if request.finish_reason is None]
        self._next += self.held.join(reading, [origin[place] for place in left])
        self._rows += [self._joining[place] for place in left]
        self._joining, self._reading, self._choices = [], None, None

    def _decode(self) -> list[Request]:
        """Makes the next token of every row."""
        requests, device = list(self._rows), self.held.device
        logits = self.held.step(torch.tensor(self._next, device=device))
        rows = self._choices = self._choices or rows_of(requests, self.held.vocabulary, device)
        places = torch.tensor([request.length for request in requests], device=device)
        tokens, logprobs = sample(logits, rows, places)
        best = alternatives(logits, rows.alternatives) if rows.alternatives else [None] * len(requests)
        pairs = torch.stack([tokens.double(), logprobs.double()]).tolist()  # one wait for the device
        finished = []
        for row, (request, token, logprob) in enumerate(zip(requests, *pairs, strict=True)):
            if not math.isfinite(logprob):
                self.reset()
                what, fix = "the model gives no finite probabilities", "use an earlier checkpoint"
                raise ArtifactError(what, where=type(self.held).__name__, fix=fix)
            self._next[row] = int(token)
            if request.push(int(token), logprob, best[row]):
                finished.append(row)
        for row in reversed(finished):
            self._leave(row)
        return requests

    def _leave(self, row: int) -> None:
        """Frees a row; the last one moves into the gap."""
        self.held.leave(row)
        request, token = self._rows.pop(), self._next.pop()
        if row < len(self._rows):
            self._rows[row], self._next[row] = request, token
        self._choices = None


def _note(requests: Sequence[Request]) -> Note:
    """What notes how likely the tokens of a prompt are, for all requests that ask."""
    most = max(request.sampling.top_logprobs for request in requests)

    def note(place: int, logits: Tensor) -> None:
        tokens = torch.tensor(requests[0].prompt[place : place + len(logits)], device=logits.device)
        logprobs = told(logits, tokens).tolist()
        best = alternatives(logits, most) if most else None
        for request in requests:
            request.score(place, logprobs, best)

    return note
