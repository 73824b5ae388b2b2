"""The engine: many requests at once through one model, each joining and leaving when it likes.

```
submit -> waiting -> [ slot and pages? ] -> running: a chunk of its prompt, or one token, in every pass
                                               |
       plan -> one flat pass -> logits where they are wanted -> sample -> accept -> finished ones leave
```

A request that finishes makes room for a waiting one at once: continuous batching (Yu et al. 2022, Orca, OSDI,
section 3.1). What runs when is `Schedule`'s business, where keys and values are is `Pages`', and a `Runner`
computes the pass. Chat, evaluation, rollouts and the server are all clients of this loop. It belongs to one
thread.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ingot.errors import ArtifactError, RequestError
from ingot.inference.asking import Asking
from ingot.inference.choosing.sampling import Rows, Sampling, alternatives, sample, told
from ingot.inference.computing.adapters import Adapters
from ingot.inference.computing.invariant import Invariance
from ingot.inference.computing.pages import PAGE, Layout, Pages, pages_for, widest_window
from ingot.inference.computing.passes import Runner, Segment
from ingot.inference.computing.runners import Runners
from ingot.inference.guessing.speculate import Speculate, Speculation
from ingot.inference.prefixes import Prefixes, Weights
from ingot.inference.request import Alternatives, Request, rows_of
from ingot.inference.schedule import Entry, Piece, Schedule
from ingot.inference.text import Bytes
from ingot.inference.usage import Usage
from ingot.models.decoder import Decoder

CHUNK = {"cpu": 512}
"""Tokens of a pass at most, per kind of device, where prompts are read."""

CHUNK_ELSEWHERE = 2048

REMEMBERED_BYTES = 2**28
"""Where no memory is given: what the cache may grow to before it gives up pages nobody reads."""

LOGITS_AT_ONCE = 2**25
"""Numbers: a request for the prompt's own probabilities is read in chunks with no more logits than this."""


class Engine(Asking):
    """Continuous batching over one model.

    Args:
        model: in evaluation mode; its number type is what the engine computes in.
        tokenizer: gives the bytes of tokens.
        slots: requests that are worked on at once; more wait.
        memory: bytes that keys and values may take; requests are preempted when they are spent. None
            lets every slot fill its context.
        chunk: tokens that a pass has at most, where prompts are read; None is for the device to say.
        runner: computes the passes; None is the fastest there is for the model: compiled, or PyTorch.
        wait: seconds that compiling (once for each machine) may take; after that PyTorch serves until it
            is done. None waits for the end of it, so that all answers come from the same arithmetic.
        speculate: how tokens are guessed ahead (`PromptLookup`, `DraftModel`); None is not at all.
        invariant: asks that answers be the same, bit for bit, whatever else runs; None does not.

    Example:
        >>> engine = Engine(model, tokenizer)
        >>> engine.generate([tokenizer.encode("Once")], Sampling(temperature=0))[0].text

    Raises:
        RequestError: no slots, or memory for less than a page.
    """

    def __init__(
        self,
        model: Decoder,
        tokenizer: Bytes,
        slots: int = 32,
        *,
        memory: int | None = None,
        chunk: int | None = None,
        runner: Runner | None = None,
        wait: float | None = None,
        speculate: Speculate | None = None,
        invariant: Invariance | None = None,
    ) -> None:
        if slots < 1:
            raise RequestError(f"slots is {slots}", where="engine", fix="use 1 or more")
        self.model = model
        self.tokenizer = tokenizer
        self.slots = slots
        self._device = model.embedding.weight.device
        self._weights = Weights(model)
        self.adapters = Adapters(model)
        self._invariant = invariant
        if invariant is not None:
            runner = invariant.build(model)
        self._runners = Runners(model, self.adapters, runner, wait)
        self._speculate = speculate
        self._chunk = chunk or CHUNK.get(self._device.type, CHUNK_ELSEWHERE)
        page_bytes = Layout.of(model.config).page_bytes(model.embedding.weight.dtype)
        if memory is None:
            self._limit = slots * pages_for(model.config.context)
            self._roomy = min(self._limit, REMEMBERED_BYTES // page_bytes)
        else:
            self._limit = self._roomy = memory // page_bytes
        if not self._limit:
            raise RequestError(
                f"memory is {memory} bytes, a page of the cache takes {page_bytes}",
                where="engine",
                fix="give it more",
            )
        self.context = min(model.config.context, self._limit * PAGE)
        self._entries: dict[Request, Entry] = {}
        self.reset()

    @property
    def active(self) -> list[Request]:
        """The requests that are being worked on."""
        return [entry.request for entry in self._schedule.running]

    @property
    def waiting(self) -> list[Request]:
        """The requests that wait, the next one first."""
        return [entry.request for entry in self._schedule.waiting]

    def usage(self) -> Usage:
        """Returns counts, as for a dashboard."""
        schedule, pages = self._schedule, self._pages
        return Usage(
            running=len(schedule.running),
            waiting=len(schedule.waiting),
            pages_used=pages.used,
            pages_idle=pages.idle,
            pages_total=pages.limit,
            prefix_queries=schedule.prefixes.queries,
            prefix_hits=schedule.prefixes.hits,
            preemptions=schedule.preemptions,
            drafted=self._speculation.proposed if self._speculation else 0,
            accepted=self._speculation.accepted if self._speculation else 0,
        )

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
            prompt: token ids; at least one, and fewer than the context has places.
            sampling: how to choose tokens.
            stop_ids: tokens that end the answer.
            priority: lower goes first.
            adapter: name of the adapter that answers; None is the model itself.

        Raises:
            RequestError: a prompt that is empty or leaves no room for an answer, a bias for a token that
                there is not, a grammar that cannot be used, or an adapter that is not loaded.
        """
        self.adapters.number(adapter)  # there is one
        if adapter is not None and self._invariant is not None:
            fix = "leave the adapter away, or the engine's invariance"
            raise RequestError("adapters are not batch-invariant", where="adapter", fix=fix)
        request = Request.asked(
            prompt,
            sampling,
            stop_ids,
            self.room(len(prompt)),
            self.tokenizer,
            self.model.config.vocabulary,
            priority,
            adapter,
        )
        entry = self._schedule.add(request)
        if request.sampling.prompt_logprobs:
            entry.most = max(1, LOGITS_AT_ONCE // self.model.config.vocabulary)
        self._entries[request] = entry
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

    def load_adapter(self, name: str, folder: Path | str) -> None:
        """Loads a LoRA adapter for requests to come; those that run go on.

        Args:
            name: that requests ask for it by.
            folder: as PEFT writes it.

        Raises:
            RequestError: the name is taken.
            ArtifactError: the folder holds no adapter for this model.
        """
        self.adapters.load(name, folder)

    def drop_adapter(self, name: str) -> None:
        """Forgets an adapter that no request uses.

        Raises:
            RequestError: there is none of this name, or requests use it.
        """
        self.adapters.number(name)
        users = sum(request.adapter == name for request in self._entries)
        if users:
            what = f"'{name}' is used by {users} of the requests"
            raise RequestError(what, where="adapter", fix="let them finish, or cancel them")
        self.adapters.drop(name)
        self._schedule.forget()  # the next one of this name must not find its pages

    def cancel(self, request: Request) -> None:
        """Ends a request now and frees its pages; one that is already finished stays as it is."""
        if request.finish_reason is None:
            request.finish("cancelled")
            self._leave(self._entries[request])

    def reset(self) -> None:
        """Cancels everything and gives the cache's memory back, as after running out of it."""
        for request in self._entries:
            request.finish("cancelled")
        self._entries.clear()
        self._pages = Pages(self._limit, self._roomy)
        self._schedule = Schedule(
            self._pages, Prefixes(self._pages), self.slots, self._chunk, widest_window(self.model.config)
        )
        self._rows: tuple[list[Entry], Rows] | None = None  # kept while the same requests make tokens
        self._speculation = None if self._speculate is None else Speculation.of(self._speculate, self)

    @torch.inference_mode()
    def step(self) -> list[Request]:
        """Runs one pass: the next token of every running request, and pieces of prompts.

        Returns:
            The requests that got a token; those with a `finish_reason` have left.

        Raises:
            ArtifactError: the model gives no usable probabilities; all requests are cancelled then.
        """
        schedule = self._schedule
        if schedule.waiting and self._weights.changed():
            schedule.forget()
        if self._speculation is not None:
            self._speculation.guess(schedule.running)
        pieces = schedule.plan()
        if not pieces:
            return []
        if self.adapters:  # each adapter's together, behind those without
            pieces.sort(key=lambda piece: self.adapters.number(piece.entry.adapter))
        segments = self._segments(pieces)
        names = [entry.adapter for entry, _ in pieces] if self.adapters else ()
        logits, places = self._runners(segments, names, self._pages)  # [w, v], [w]
        entries, origin = self._computed(pieces, segments, logits)
        if not entries:
            return []
        if origin != list(range(len(logits))):
            index = torch.tensor(origin, device=self._device)
            logits, places = logits[index], places[index]
        if self._rows is None or self._rows[0] != entries:
            requests = [entry.request for entry in entries]
            self._rows = entries, rows_of(requests, self.model.config.vocabulary, self._device)
        rows = self._rows[1]
        best = alternatives(logits, rows.alternatives) if rows.alternatives else None
        moved = self._accept(entries, *sample(logits, rows, places), best)
        if self._speculation is not None:
            self._speculation.settle()
        return moved

    def _segments(self, pieces: Sequence[Piece]) -> list[Segment]:
        """What each piece adds to the pass."""
        segments = []
        for entry, length in pieces:
            stored, tokens = entry.stored, entry.tokens
            if not entry.request.started:
                entry.request.started = time.perf_counter()
            if length == 1 and not entry.guesses and stored + 1 == len(tokens):
                segments.append(Segment(tokens[-1:], stored, entry.table, 1))
                continue
            new = tokens[stored : stored + length]
            wanted = 0
            if stored + length == len(tokens):
                new += entry.guesses
                wanted = 1 + len(entry.guesses)
            if self._unscored(entry):
                wanted = len(new)
            segments.append(Segment(new, stored, entry.table, wanted))
        return segments

    def _computed(
        self, pieces: Sequence[Piece], segments: Sequence[Segment], logits: Tensor
    ) -> tuple[list[Entry], list[int]]:
        """Notes what the pass has done. Returns whose token each row to sample is, and its logits' row."""
        entries: list[Entry] = []
        origin: list[int] = []
        end = 0
        for (entry, length), segment in zip(pieces, segments, strict=True):
            first, end = end, end + segment.wanted
            if self._unscored(entry):
                self._note_prompt(entry.request, segment.stored, logits[first:end])
            self._schedule.computed(entry, length)
            if entry.stored < len(entry.tokens):
                continue
            for row in range(end - 1 - len(entry.guesses), end):
                origin.append(row)
                entries.append(entry)
            if entry.twins:
                twins = self._schedule.fork(entry)
                for twin in twins:
                    twin.request.started = twin.request.started or entry.request.started
                origin += [end - 1] * len(twins)
                entries += twins
        return entries, origin

    def _accept(
        self, entries: list[Entry], tokens: Tensor, logprobs: Tensor, best: Sequence[Alternatives] | None
    ) -> list[Request]:
        """Gives each request its tokens, and lets go those that are finished by them.

        A guess that was right is in the cache already, and the row after it is the next token's.
        """
        chosen, chances = tokens.tolist(), logprobs.tolist()
        if not all(map(math.isfinite, chances)):
            self.reset()
            raise ArtifactError(
                "the model gives no finite probabilities",
                where=self.model.__class__.__name__,
                fix="use an earlier checkpoint",
            )
        moved: list[Request] = []
        passed: Entry | None = None  # its other guesses are of no use
        for row, (entry, token, logprob) in enumerate(zip(entries, chosen, chances, strict=True)):
            if entry is passed:
                continue
            request = entry.request
            if not moved or moved[-1] is not request:
                moved.append(request)
            entry.tokens.append(token)
            if request.push(token, logprob, best[row] if best else None):
                passed = entry
                self._leave(entry)
            elif entry.guesses:
                if entry.guesses.pop(0) == token:
                    self._schedule.computed(entry, 1)
                else:
                    passed = entry
                    entry.guesses = []
        return moved

    def _leave(self, entry: Entry) -> None:
        self._schedule.leave(entry)
        if self._speculation is not None:
            self._speculation.forget(entry.request)
        del self._entries[entry.request]

    def _unscored(self, entry: Entry) -> bool:
        """Whether a request asks for probabilities of its prompt that are not there yet."""
        request = entry.request
        return request.sampling.prompt_logprobs and len(request.prompt_logprobs) < len(request.prompt)

    def _note_prompt(self, request: Request, first: int, logits: Tensor) -> None:
        """Notes the probabilities of a prompt's tokens, given the logits [m, v] at places from `first` on."""
        begin = len(request.prompt_logprobs)  # those before it are noted: by a pass before a preemption, too
        targets = request.prompt[begin : first + len(logits) + 1]
        if targets:
            rows = logits[begin - 1 - first :][: len(targets)]
            asked = request.sampling.top_logprobs
            best = alternatives(rows, asked) if asked else None
            request.score(begin, told(rows, torch.tensor(targets, device=rows.device)).tolist(), best)
