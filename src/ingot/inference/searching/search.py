"""Searching for an answer: the best of several samples, beam search, and contrastive search.

Sampling takes one token after another and never looks back. These look at several answers at once: samples
that are compared when they are done, the likeliest beginnings, or the likeliest tokens that do not repeat
what was said.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ingot.errors import RequestError
from ingot.inference.asking import Asking
from ingot.inference.choosing.sampling import Sampling, likeliest
from ingot.inference.request import Completion
from ingot.inference.searching.branches import Branches
from ingot.models.decoder import Decoder

MOST_BEAMS = 64
"""Beams that may be asked for."""


class Found(NamedTuple):
    """An answer that a search has found."""

    tokens: list[int]
    """A stop token that ended it is the last of them."""
    score: float
    finish_reason: str
    """'stop' or 'length'."""


def best_of(
    engine: Asking,
    prompt: Sequence[int],
    count: int,
    sampling: Sampling | None = None,
    stop_ids: Iterable[int] = (),
) -> list[Completion]:
    """Samples several answers and sorts them by how likely a token of theirs is, the best first.

    Args:
        engine: that answers.
        prompt: token ids.
        count: answers to sample.
        sampling: how; with a seed, each answer takes the next one.
        stop_ids: tokens that end an answer.

    Raises:
        RequestError: the prompt does not fit, or no answers are asked for.

    Example:
        >>> best_of(engine, prompt, 4, Sampling(temperature=1))[0].text
    """
    if count < 1:
        raise RequestError(f"best_of is {count}", where="best_of", fix="use 1 or more")
    sampling = sampling or Sampling()
    seeds = [None if sampling.seed is None else _next(sampling.seed, i) for i in range(count)]
    wishes = [sampling.model_copy(update={"seed": seed}) for seed in seeds]
    found = engine.generate([prompt] * count, wishes, stop_ids)
    return sorted(found, key=lambda one: -sum(one.logprobs) / max(1, len(one.logprobs)))


@torch.inference_mode()
def beam_search(
    model: Decoder,
    prompt: Sequence[int],
    beams: int = 4,
    max_new_tokens: int = 64,
    stop_ids: Iterable[int] = (),
    length_penalty: float = 1.0,
) -> list[Found]:
    """Finds likely answers by keeping the likeliest beginnings at every length.

    The score of an answer is the sum of its log-probabilities over its length to the power of
    `length_penalty`. A step looks at twice as many candidates as there are beams (more with several stop
    tokens), so that ended ones do not thin out the others; it is over when no beginning is better than the
    worst of as many ended answers as there are beams (Freitag and Al-Onaizan 2017, arXiv 1702.01806,
    section 2; the rules are those of `transformers` with `num_beams`).

    Args:
        model: in evaluation mode.
        prompt: token ids.
        beams: beginnings to keep, and answers to return at most.
        max_new_tokens: of an answer.
        stop_ids: tokens that end one.
        length_penalty: above 0 favours longer answers.

    Returns:
        Answers, the best first.

    Raises:
        RequestError: no beams or too many, or a prompt that does not fit.
    """
    if not 1 <= beams <= MOST_BEAMS:
        raise RequestError(f"beams is {beams}", where="beams", fix=f"use 1 to {MOST_BEAMS}")
    stops = frozenset(stop_ids)
    branches = Branches(model, prompt, max_new_tokens, beams)
    candidates = beams * max(2, 1 + len(stops))
    hidden = branches.read([prompt])
    running: list[tuple[list[int], float]] = [([], 0.0)]
    ended: list[Found] = []
    for length in range(1, branches.room + 1):
        logprobs = branches.logits(hidden[:, -1]).log_softmax(-1)  # [n, v]
        sums = logprobs + logprobs.new_tensor([score for _, score in running])[:, None]
        best = sums.flatten().topk(min(candidates, sums.numel()))
        going: list[tuple[int, list[int], float]] = []
        for rank, (total, place) in enumerate(zip(best.values.tolist(), best.indices.tolist(), strict=True)):
            parent, token = divmod(place, sums.shape[1])
            tokens = [*running[parent][0], token]
            if token not in stops and length < branches.room:
                going.append((parent, tokens, total))
            elif rank < beams:
                reason = "stop" if token in stops else "length"
                ended.append(Found(tokens, total / length**length_penalty, reason))
        ended = sorted(ended, key=lambda one: -one.score)[:beams]
        going = going[:beams]
        done = len(ended) == beams and going and going[0][2] / length**length_penalty <= ended[-1].score
        if done or not going:
            break
        running = [(tokens, total) for _, tokens, total in going]
        branches.fork([parent for parent, _, _ in going])
        hidden = branches.read([tokens[-1:] for tokens, _ in running])
    return ended


@torch.inference_mode()
def contrastive_search(
    model: Decoder,
    prompt: Sequence[int],
    candidates: int = 4,
    penalty: float = 0.6,
    max_new_tokens: int = 64,
    stop_ids: Iterable[int] = (),
) -> Found:
    """Finds an answer that is likely and new (Su et al. 2022, arXiv 2202.06417, section 4).

    Of the likeliest tokens, each step takes the one with the largest `(1 - penalty) * probability -
    penalty * similarity`: the largest cosine between what the model makes of the token and what it made of
    any token before it.

    Args:
        model: in evaluation mode.
        prompt: token ids.
        candidates: likeliest tokens to choose from.
        penalty: from 0, which is greedy, to 1.
        max_new_tokens: of the answer.
        stop_ids: tokens that end it.

    Returns:
        The answer; its score is the sum of its log-probabilities.

    Raises:
        RequestError: numbers out of range, or a prompt that does not fit.
    """
    if not 0 <= penalty <= 1 or not 1 <= candidates <= MOST_BEAMS:
        what = f"penalty is {penalty}, candidates is {candidates}"
        raise RequestError(what, where="contrastive search", fix=f"use 0 to 1, and 1 to {MOST_BEAMS}")
    stops = frozenset(stop_ids)
    branches = Branches(model, prompt, max_new_tokens, candidates)
    seen = branches.read([prompt])[0]  # [t, d]
    logits = branches.logits(seen[-1])
    tokens: list[int] = []
    score = 0.0
    while True:
        best = logits.softmax(-1).topk(min(candidates, len(logits)))
        choices = best.indices.tolist()
        branches.fork([0] * len(choices))
        made = branches.read([[token] for token in choices])[:, 0]  # [n, d]
        value = (1 - penalty) * best.values - penalty * _similarity(made, seen)
        chosen = int(likeliest(value[None]))
        tokens.append(choices[chosen])
        score += float(best.values[chosen].log())
        if tokens[-1] in stops or len(tokens) == branches.room:
            return Found(tokens, score, "stop" if tokens[-1] in stops else "length")
        branches.fork([chosen])
        seen = torch.cat([seen, made[chosen : chosen + 1]])
        logits = branches.logits(made[chosen])


def _similarity(made: Tensor, seen: Tensor) -> Tensor:
    """The largest cosine between each of `made` [n, d] and any of `seen` [t, d], [n]."""
    made, seen = (torch.nn.functional.normalize(side.float(), dim=-1) for side in (made, seen))
    return (made @ seen.T).amax(-1)


def _next(seed: int, count: int) -> int:
    """The seed that is `count` after another, among those that there are."""
    return (seed + count + 2**63) % 2**64 - 2**63
