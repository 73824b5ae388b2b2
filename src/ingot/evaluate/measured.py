"""One model, measured: bits per byte, answers, speed, size."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ingot.atomic import write_atomic
from ingot.data.conversations import Example
from ingot.evaluate.bits_per_byte import Bits, measure_bits, places
from ingot.evaluate.instruction import Outcome, Prompt, answer, chat_prompt, outcomes
from ingot.evaluate.speed import decode_tokens_per_second
from ingot.evaluate.statistics import Interval, ratio_interval, wilson
from ingot.inference.choosing.sampling import Sampling
from ingot.inference.engine import Engine
from ingot.inference.load import load_model
from ingot.models import huggingface
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.progress import Progress

FEWEST = 5
"""Documents: with fewer, resampling them says nothing, and bits per byte get no interval."""

SLOTS = 64
"""Prompts answered at once."""


@dataclass(frozen=True)
class Measured:
    """What was found out about one model.

    Args:
        folder: the name of its folder (`base@1`).
        parameters: weights and norms, whatever they are stored in.
        bytes: of the weight file.
        precision: the number type that it computed in.
        bits: of each held-out document.
        outcomes: of each prompt; empty where there are no prompts.
        shown: answers to the samples.
        decode_tokens_per_second: of one conversation.
    """

    folder: str
    parameters: int
    bytes: int
    precision: str
    bits: Bits
    outcomes: list[Outcome]
    shown: list[str]
    decode_tokens_per_second: float

    @property
    def successes(self) -> list[bool]:
        """Whether each answer was as asked."""
        return [outcome.success for outcome in self.outcomes]

    @property
    def parses(self) -> list[bool]:
        """Whether each answer is code."""
        return [outcome.parses for outcome in self.outcomes]

    def summary(self, seed: int = 0) -> dict[str, Any]:
        """Returns the figures with their 95 % intervals, as `evaluation.json` holds them."""
        return {
            "folder": self.folder,
            "bits_per_byte": self.bits.bits_per_byte,
            "bits_per_byte_interval": bits_interval(self.bits, seed),
            **_rate("success", self.successes),
            **_rate("parse", self.parses),
            "decode_tokens_per_second": self.decode_tokens_per_second,
            "bytes": self.bytes,
            "parameters": self.parameters,
            "precision": self.precision,
        }

    def save(self, path: Path) -> None:
        """Keeps it in a JSON file, for an evaluation that is interrupted."""
        plain = {
            **vars(self),
            "bits": [self.bits.nats.tolist(), self.bits.bytes.tolist(), self.bits.tokens],
            "outcomes": [outcome.plain() for outcome in self.outcomes],
        }
        write_atomic(path, json.dumps(plain))

    @classmethod
    def load(cls, path: Path) -> Measured:
        """Reads what `save` kept."""
        plain = json.loads(path.read_text(encoding="utf-8"))
        nats, sizes, tokens = plain.pop("bits")
        bits = Bits(np.array(nats), np.array(sizes, dtype=np.int64), tokens)
        return cls(**plain | {"bits": bits, "outcomes": [Outcome(**one) for one in plain["outcomes"]]})


def measure(
    folder: Path,
    texts: Sequence[str],
    examples: Sequence[Example] = (),
    samples: Sequence[Prompt] = (),
    *,
    sampling: Sampling | None = None,
    device: str = "cpu",
    progress: Progress | None = None,
    name: str = "the model",
) -> Measured:
    """Measures the model of a folder.

    Args:
        folder: a model folder; an int8 one is run as int8.
        texts: held-out documents.
        examples: prompts with checks.
        samples: prompts whose answers are only shown.
        sampling: how to answer; None is greedy.
        device: where to compute.
        progress: is told how far it is.
        name: what to call the model there.
    """
    progress = progress or Progress()
    sampling = sampling or Sampling(temperature=0)
    model, tokenizer = load_model(folder, device)
    context = model.config.context
    with progress.task(f"{name}: reading held-out text", places(tokenizer, texts, context), "tokens") as task:
        bits = measure_bits(model, tokenizer, texts, task)
    prompts = [*(chat_prompt(tokenizer, example.prompt) for example in examples), *samples]
    answers: list[str] = []
    if prompts:
        engine = Engine(model, tokenizer, slots=min(SLOTS, len(prompts)))
        with progress.task(f"{name}: answering prompts", len(prompts), "prompts") as task:
            answers = answer(engine, tokenizer, prompts, sampling, task)
    return Measured(
        folder=folder.name,
        parameters=parameter_count(model.config),
        bytes=(folder / huggingface.WEIGHTS).stat().st_size,
        precision=str(model.norm.weight.dtype).removeprefix("torch."),
        bits=bits,
        outcomes=outcomes(examples, answers[: len(examples)]),
        shown=answers[len(examples) :],
        decode_tokens_per_second=round(decode_tokens_per_second(model, tokenizer), 1),
    )


def bits_interval(bits: Bits, seed: int = 0) -> Interval | None:
    """Returns the interval of bits per byte over documents, or None where there are too few."""
    if len(bits.bytes) < FEWEST:
        return None
    return ratio_interval(bits.nats / np.log(2), bits.bytes, seed)


def parameter_count(config: DecoderConfig) -> int:
    """Returns the number of parameters of a model of these sizes, without making it."""
    with torch.device("meta"):
        return Decoder(config).parameter_count()


def _rate(name: str, outcomes: Sequence[bool]) -> dict[str, Any]:
    if not outcomes:
        return {name: None, f"{name}_interval": None}
    interval = wilson(sum(outcomes), len(outcomes))
    return {name: sum(outcomes) / len(outcomes), f"{name}_interval": interval}
