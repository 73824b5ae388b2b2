"""Speculative decoding beside plain decoding: the same tokens in less time, or hardly more.

```
curve       tokens/s with drafts of which a given share is right, on a 27 M-parameter model of random weights:
            what guessing is worth, and what it costs where it is wrong
texts       prompt lookup on a trained model, on source text that is asked for again and on plain continuation
drafts      a draft model: tokens/s, and the share of right guesses by three rules
```

    python benchmarks/speculation.py
    python benchmarks/speculation.py --model runs/demo/base@1 --draft runs/small/base@1

Both sides take turns in one process, on one request at a time, greedy unless it says otherwise.
"""

from __future__ import annotations

import argparse
import inspect
import random
import statistics
import textwrap
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import measure
import torch
from claims import Claim, result
from torch import Tensor

from ingot.inference.choosing.sampling import Rows, Sampling, sample
from ingot.inference.engine import Engine
from ingot.inference.guessing.draft import guessed, load_draft
from ingot.inference.guessing.prompt_lookup import PromptLookup
from ingot.inference.load import load_model
from ingot.inference.request import Request
from ingot.models.decoder_config import DecoderConfig

SHARES = (0.0, 0.3, 0.6, 0.8, 0.9, 1.0)
TEMPERATURES = (0.4, 0.7, 1.0)


class NoText:
    """A tokenizer whose tokens stand for nothing."""

    def token_bytes(self, token: int) -> bytes:
        """No bytes."""
        return b""


@dataclass
class Told:
    """Guesses that are right with a given probability, of an answer that is known."""

    answer: list[int]
    share: float
    most: int = 8
    free_rows: float = 8.0
    random: random.Random = field(default_factory=lambda: random.Random(0))

    def cost(self, engine: Engine) -> float:
        """Nothing."""
        return 0.0

    def build(self, engine: Engine) -> Told:
        """Itself."""
        return self

    def propose(self, requests: Sequence[Request], lengths: Sequence[int]) -> list[list[int]]:
        """What comes next, spoilt here and there."""
        made = len(requests[0].tokens)
        return [
            [
                token if self.random.random() < self.share else token ^ 1
                for token in self.answer[made:][: lengths[0]]
            ]
        ]

    def forget(self, request: Request) -> None:
        """Nothing to let go of."""


def timed(engine: Engine, prompt: list[int], sampling: Sampling) -> tuple[float, Request]:
    """Returns tokens per second after the first token, and the request."""
    request = engine.submit(prompt, sampling)
    while not request.tokens:
        engine.step()
    first, start = len(request.tokens), time.perf_counter()
    while request.finish_reason is None:
        engine.step()
    return (len(request.tokens) - first) / (time.perf_counter() - start), request


def compared(
    plain: Engine, ahead: Engine, prompts: Sequence[list[int]], sampling: Sampling, rounds: int
) -> dict[str, Any]:
    """Lets both sides answer in turn.

    Raises:
        SystemExit: the answers differ.
    """
    rates: dict[str, list[float]] = {"plain": [], "ahead": []}
    before = ahead.usage()
    tokens = differing = 0
    for prompt in list(prompts) * rounds:
        for name, engine in (("plain", plain), ("ahead", ahead)):
            rate, request = timed(engine, prompt, sampling)
            rates[name].append(rate)
            if name == "plain":
                expected = request.tokens
        tokens += len(request.tokens)
        differing += request.tokens != expected
    if differing:
        measure.say(f"{differing} answers differ: a tie that rounding decides, or a mistake")
    after = ahead.usage()
    drafted = after.drafted - before.drafted
    ratios = [mine / other for mine, other in zip(rates["ahead"], rates["plain"], strict=True)]
    return {
        "plain": statistics.median(rates["plain"]),
        "ahead": statistics.median(rates["ahead"]),
        "ratio": statistics.median(ratios),
        "spread": [min(ratios), max(ratios)],
        "drafted_per_token": drafted / tokens,
        "right": (after.accepted - before.accepted) / drafted if drafted else None,
        "differing": differing,
    }


def curve(quick: bool, rounds: int) -> dict[str, Any]:
    """Measures what guesses of a given quality are worth."""
    config = DecoderConfig(
        vocabulary=4096,
        width=64 if quick else 512,
        layers=2 if quick else 8,
        heads=8,
        kv_heads=4,
        head_width=64,
        feed_forward=128 if quick else 1536,
        context=1024,
    )
    model = config.build(seed=0).to(torch.bfloat16).eval().requires_grad_(False)
    with torch.no_grad():  # a fresh head says nothing
        model.head.weight.normal_(0, 0.02, generator=torch.Generator().manual_seed(1))
    prompt = [7 * i % 4093 for i in range(64)]
    sampling = Sampling(temperature=0, max_new_tokens=24 if quick else 200)
    plain = Engine(model, NoText(), slots=1)
    _, whole = timed(plain, prompt, sampling)
    return {
        str(share): compared(
            plain,
            Engine(model, NoText(), slots=1, speculate=Told(whole.tokens, share)),
            [prompt],
            sampling,
            rounds,
        )
        for share in SHARES
    }


def prompts_of(tokenizer: Any, context: int) -> dict[str, list[list[int]]]:
    """Source text that begins anew after it was read, and source text that goes on."""
    asked = {"again": [], "onwards": []}
    for module in (argparse, textwrap, statistics, random):
        tokens = tokenizer.encode(inspect.getsource(module))
        length = min(context // 3, 160)
        piece = tokens[200 : 200 + length]
        asked["again"].append([*piece, *piece[:20]])
        asked["onwards"].append(tokens[600 : 600 + length])
    return asked


def rules(model: Any, draft: Any, tokens: Tensor) -> dict[str, dict[str, float]]:
    """Returns the share of first guesses that are right: by rejection, by ours, by the likeliest token."""
    shares = {}
    with torch.inference_mode():
        target, guess = model(tokens[None]).logits[0].float(), draft(tokens[None]).logits[0].float()
    count = len(tokens)
    for temperature in TEMPERATURES:
        p, q = (target / temperature).softmax(-1), (guess / temperature).softmax(-1)
        right = []
        for seed in range(8):
            rows = Rows.of(
                [(Sampling(temperature=temperature), seed)] * count, p.shape[-1], torch.device("cpu")
            )
            places = torch.arange(count)
            said, _ = sample(target, rows, places)
            right.append((guessed(guess, rows, places) == said).float().mean().item())
        shares[str(temperature)] = {
            "rejection": torch.minimum(p, q).sum(-1).mean().item(),
            "keyed": statistics.mean(right),
            "likeliest": p.gather(-1, q.argmax(-1, keepdim=True)).mean().item(),
        }
    return shares


def main() -> None:
    """Measures, and prints the result."""
    parser = measure.arguments(__doc__ or "")
    parser.add_argument("--model", type=Path, help="a trained model's folder")
    parser.add_argument("--draft", type=Path, help="the folder of a smaller one with the same tokenizer")
    found = parser.parse_args()
    rounds = 1 if found.quick else found.rounds
    details: dict[str, Any] = {"curve": curve(found.quick, rounds)}
    if found.model is not None:
        model, tokenizer = load_model(found.model)
        asked = prompts_of(tokenizer, model.config.context)
        sampling = Sampling(temperature=0, max_new_tokens=24 if found.quick else 128)
        plain = Engine(model, tokenizer, slots=1)
        ahead = Engine(model, tokenizer, slots=1, speculate=PromptLookup())
        details["lookup"] = {
            kind: compared(plain, ahead, prompts, sampling, rounds) for kind, prompts in asked.items()
        }
        if found.draft is not None:
            speculate = load_draft(found.draft, tokenizer, like=model)
            ahead = Engine(model, tokenizer, slots=1, speculate=speculate)
            details["draft"] = {
                kind: compared(plain, ahead, prompts, sampling, rounds) for kind, prompts in asked.items()
            }
            text = torch.tensor(tokenizer.encode(inspect.getsource(argparse))[200:600])
            exact, _ = load_model(found.model, dtype=torch.float32)
            small, _ = load_model(found.draft, dtype=torch.float32)
            details["rules"] = rules(exact, small, text)
    best, worst = details["curve"]["1.0"], details["curve"]["0.0"]
    claims = [
        Claim("guesses all right", best["ahead"], best["plain"], "tokens/s", "higher", times=1.5),
        Claim("guesses all wrong", worst["ahead"], worst["plain"], "tokens/s", "higher", times=0.9),
    ]
    spread = {share: one["spread"] for share, one in details["curve"].items()}
    measure.report(result("speculation", claims, spread, details, quick=found.quick), found.save)


if __name__ == "__main__":
    main()
