"""The engine: many requests at once through one model, each joining and leaving when it likes.

```
submit -> waiting -> [ free row? ] -> prefill -> active rows 0 ... n-1 -> finished
                                                   one decode step makes one token for all of them
```

A row that finishes is filled by the last active row, so the rows stay dense, and a waiting request
takes the row that became free: continuous batching (Yu et al. 2022, Orca, OSDI, section 3.1). Chat,
evaluation, rollouts and the server are all clients of this loop. It belongs to one thread.
"""

from __future__ import annotations

import math
import secrets
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from ingot.errors import ArtifactError, RequestError
from ingot.inference.cache import Cache, Prefill, Step
from ingot.inference.request import Completion, Request
from ingot.inference.sampling import Rows, Sampling, sample
from ingot.inference.text import Bytes, Transcript
from ingot.models.decoder import Decoder
from ingot.progress import Task

PREFILL_TOKENS = 4096
"""Prompt tokens, padding counted, that one pass takes at most (one longer prompt goes alone)."""


@dataclass
class Batch:
    """The active rows as tensors, from one decode step to the next."""

    tokens: Tensor  # [n] int64: the newest token of each row, which the next step reads
    stored: Tensor  # [n] int64: tokens whose keys and values are in the cache
    rows: Rows


class Engine:
    """Continuous batching over one model.

    Args:
        model: in evaluation mode; its number type is what the engine computes in.
        tokenizer: gives the bytes of tokens.
        slots: requests that are worked on at once; more wait.

    Example:
        >>> engine = Engine(model, tokenizer)
        >>> engine.generate([tokenizer.encode("Once")], Sampling(temperature=0))[0].text
    """

    def __init__(self, model: Decoder, tokenizer: Bytes, slots: int = 32) -> None:
        if slots < 1:
            raise RequestError(f"slots is {slots}", where="engine", fix="use 1 or more")
        self.model = model
        self.tokenizer = tokenizer
        self.slots = slots
        self.context = model.config.context
        self.waiting: deque[Request] = deque()
        self.active: list[Request] = []  # request i is row i of the cache
        self._device = model.embedding.weight.device
        self._cache = Cache(slots, self.context)
        self._batch: Batch | None = None  # None after the active rows changed

    def submit(
        self, prompt: Sequence[int], sampling: Sampling | None = None, stop_ids: Iterable[int] = ()
    ) -> Request:
        """Queues a request.

        Args:
            prompt: token ids; at least one, and fewer than the context has places.
            sampling: how to choose tokens.
            stop_ids: tokens that end the answer.

        Raises:
            RequestError: a prompt that is empty or leaves no room for an answer.
        """
        sampling = sampling or Sampling()
        request = Request(
            prompt=list(prompt),
            sampling=sampling,
            stop_ids=frozenset(stop_ids),
            seed=secrets.randbits(63) if sampling.seed is None else sampling.seed,
            limit=min(sampling.max_new_tokens, self.room(len(prompt))),
            transcript=Transcript(self.tokenizer, sampling.stop),
        )
        self.waiting.append(request)
        return request

    def room(self, prompt_tokens: int) -> int:
        """Returns how many tokens may follow a prompt of this length.

        Raises:
            RequestError: none, or the prompt is empty.
        """
        if prompt_tokens == 0:
            raise RequestError(
                "the prompt has no tokens", where="prompt", fix="start it with the first token"
            )
        if prompt_tokens >= self.context:
            raise RequestError(
                f"the prompt has {prompt_tokens} tokens, the model's context is {self.context}",
                where="prompt",
                fix="shorten it so that there is room for an answer",
            )
        return self.context - prompt_tokens

    @torch.inference_mode()
    def cancel(self, request: Request) -> None:
        """Ends a request now and frees its row; one that is already finished stays as it is."""
        if request.finish_reason is not None:
            return
        request.finish("cancelled")
        if request in self.waiting:
            self.waiting.remove(request)
        elif request in self.active:
            self._leave([self.active.index(request)])

    def reset(self) -> None:
        """Cancels everything and gives the cache's memory back, as after running out of it."""
        for request in (*self.active, *self.waiting):
            request.finish("cancelled")
        self.active.clear()
        self.waiting.clear()
        self._cache = Cache(self.slots, self.context)
        self._batch = None

    @torch.inference_mode()
    def step(self) -> list[Request]:
        """Runs one pass: over waiting prompts where a row is free, else one token for every active row.

        Returns:
            The requests that got a token; those with a `finish_reason` have left.

        Raises:
            ArtifactError: the model gives no usable probabilities; all requests are cancelled then.
        """
        if self.waiting and len(self.active) < self.slots:
            return self._prefill(self._next())
        return self._decode() if self.active else []

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: Sampling | Sequence[Sampling] | None = None,
        stop_ids: Iterable[int] = (),
        task: Task | None = None,
    ) -> list[Completion]:
        """Completes many prompts.

        Args:
            prompts: token ids of each.
            sampling: one for all, or one for each.
            stop_ids: tokens that end an answer.
            task: advanced by one for each finished prompt.

        Returns:
            The completions in the order of the prompts.

        Raises:
            RequestError: a prompt that does not fit; nothing is generated then.
        """
        each = sampling if isinstance(sampling, Sequence) else [sampling] * len(prompts)
        stop_ids = frozenset(stop_ids)
        for prompt in prompts:
            self.room(len(prompt))
        requests = [self.submit(p, s, stop_ids) for p, s in zip(prompts, each, strict=True)]
        unfinished = set(requests)
        made, start = 0, time.perf_counter()
        try:
            while unfinished:
                moved = self.step()
                done = {request for request in moved if request.finish_reason} & unfinished
                unfinished -= done
                if task is not None:
                    made += len(moved)
                    task.advance(len(done), f"{made / (time.perf_counter() - start):,.0f} tokens/s")
        finally:
            for request in requests:
                self.cancel(request)
        return [request.completion() for request in requests]

    def stream(
        self, prompt: Sequence[int], sampling: Sampling | None = None, stop_ids: Iterable[int] = ()
    ) -> Iterator[str]:
        """Yields the text of one answer as it is made, in whole characters.

        Closing the iterator early cancels the request.

        Raises:
            RequestError: the prompt does not fit (before the first text).
        """
        return self.follow(self.submit(prompt, sampling, stop_ids))

    def follow(self, request: Request) -> Iterator[str]:
        """Yields a submitted request's text as it is made; closing the iterator cancels the request."""
        try:
            while request.finish_reason is None:
                self.step()
                if piece := request.transcript.take():
                    yield piece
        finally:
            self.cancel(request)

    def _next(self) -> list[Request]:
        """Takes from the queue the oldest request and those whose length suits it, for one pass.

        Prompts of one pass are padded to the longest, so very different lengths would waste it.
        """
        candidates = list(islice(self.waiting, self.slots - len(self.active)))
        wanted = len(candidates[0].prompt)
        candidates.sort(key=lambda request: abs(len(request.prompt) - wanted))  # stable: the oldest is first
        chosen: list[Request] = []
        prompts: set[tuple[int, ...]] = set()
        longest = shortest = wanted
        for request in candidates:
            length = len(request.prompt)
            longest, shortest = max(longest, length), min(shortest, length)
            prompts.add(tuple(request.prompt))
            if chosen and (len(prompts) * longest > PREFILL_TOKENS or longest > 2 * max(shortest, 32)):
                break
            chosen.append(request)
        taken = set(chosen)
        self.waiting = deque(request for request in self.waiting if request not in taken)
        return chosen

    def _prefill(self, requests: list[Request]) -> list[Request]:
        """Reads new requests' prompts and gives each its first token; equal prompts are read once."""
        now = time.perf_counter()
        different = list(dict.fromkeys(tuple(request.prompt) for request in requests))
        number = {prompt: i for i, prompt in enumerate(different)}
        origin = self._tensor([number[tuple(request.prompt)] for request in requests])  # [m]
        longest = max(map(len, different))
        tokens = self._tensor([[*prompt, *[0] * (longest - len(prompt))] for prompt in different])  # [b, t]
        last = self._tensor([len(prompt) - 1 for prompt in different])  # [b]

        first = len(self.active)
        hidden = self.model(tokens, attend=Prefill(self._cache, first, origin), logits=False).hidden
        logits = self.model.head(hidden[torch.arange(len(different), device=self._device), last])  # [b, v]
        rows = self._rows(requests)
        sampled = sample(logits[origin], rows, last[origin] + 1)

        for request in requests:
            request.started = now
        self.active += requests
        self._batch = None
        self._accept(requests, first, *sampled)
        return requests

    def _decode(self) -> list[Request]:
        """Makes the next token of every active row."""
        requests = list(self.active)
        batch = self._batch = self._batch or Batch(
            tokens=self._tensor([request.tokens[-1] for request in requests]),
            stored=self._tensor([request.length - 1 for request in requests]),
            rows=self._rows(requests),
        )
        longest = max(request.length for request in requests) - 1
        attend = Step(self._cache, batch.stored, longest)
        logits = self.model(batch.tokens[:, None], batch.stored[:, None], attend).logits  # [n, 1, v]
        batch.stored = batch.stored + 1
        batch.tokens, logprobs = sample(logits[:, 0], batch.rows, batch.stored)
        self._accept(requests, 0, batch.tokens, logprobs)
        return requests

    def _accept(self, requests: list[Request], first: int, tokens: Tensor, logprobs: Tensor) -> None:
        """Gives each request its token, and lets go those that are finished by it."""
        pairs = torch.stack([tokens.double(), logprobs.double()]).tolist()  # one wait for the device
        finished = []
        for row, (request, token, logprob) in enumerate(zip(requests, *pairs, strict=True), start=first):
            if not math.isfinite(logprob):
                self.reset()
                raise ArtifactError(
                    "the model gives no finite probabilities",
                    where=self.model.__class__.__name__,
                    fix="use an earlier checkpoint",
                )
            if request.push(int(token), logprob):
                finished.append(row)
        if finished:
            self._leave(finished)

    def _leave(self, rows: list[int]) -> None:
        """Frees rows (ascending), moving the last active row into each gap."""
        for row in reversed(rows):
            last = len(self.active) - 1
            if row != last:
                self._cache.move(last, row)
                self.active[row] = self.active[last]
            self.active.pop()
        self._batch = None

    def _rows(self, requests: list[Request]) -> Rows:
        choices = [(request.sampling, request.seed) for request in requests]
        return Rows.of(choices, self.model.config.vocabulary, self._device)

    def _tensor(self, values: list[int] | list[list[int]]) -> Tensor:
        return torch.tensor(values, dtype=torch.int64, device=self._device)
