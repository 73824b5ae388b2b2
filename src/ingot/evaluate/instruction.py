"""Instruction success: of prompts mined from held-out files, how many does a model answer as asked?

Every model gets the same prompts in the same chat form, the base model too, though it has never seen
that form. Answers are judged by `code_answers`, never run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ingot.data.conversations import Example, mine_code
from ingot.data.document import Document
from ingot.evaluate.code_answers import judge
from ingot.inference.choosing.sampling import Sampling
from ingot.inference.engine import Engine
from ingot.progress import Task
from ingot.tokenizer.chat import encode_chat
from ingot.tokenizer.tokenizer import Tokenizer


class Prompt(NamedTuple):
    """Something to write an answer to: its text for people, its ids for models."""

    text: str
    tokens: list[int]


class Outcome(NamedTuple):
    """What came of one prompt under one model."""

    prompt: str  # id of the example
    success: bool
    parses: bool
    answer: str

    def plain(self) -> dict[str, Any]:
        """Returns it as a line of JSON holds it."""
        return self._asdict()


def choose(
    documents: Iterable[Document], tokenizer: Tokenizer, most: int, room: int, seed: int = 0
) -> list[Example]:
    """Chooses prompts whose answers can be judged.

    Args:
        documents: held out.
        tokenizer: of the models.
        most: how many to return at most.
        room: tokens that a prompt may have, so that an answer fits behind it.
        seed: of the choice; the same documents and seed give the same prompts in the same order.
    """
    examples = mine_code(documents)
    fitting = [one for one in examples if len(chat_prompt(tokenizer, one.prompt).tokens) <= room]
    return sorted(fitting, key=lambda one: _number(f"{seed} {one.id}"))[:most]


def chat_prompt(tokenizer: Tokenizer, text: str) -> Prompt:
    """Returns what a model reads when a person says `text` and nothing was said before."""
    tokens, _ = encode_chat(tokenizer, [{"role": "user", "content": text}], add_generation_prompt=True)
    return Prompt(text, tokens)


def answer(
    engine: Engine,
    tokenizer: Tokenizer,
    prompts: Sequence[Prompt],
    sampling: Sampling,
    task: Task | None = None,
) -> list[str]:
    """Lets a model write on from every prompt until it ends its turn.

    Args:
        engine: of the model.
        tokenizer: of the model.
        prompts: ids that leave room for an answer.
        sampling: for all; with a temperature, each prompt has its own fixed seed, the same for all models.
        task: advanced by one for each prompt.
    """
    stop_ids = (tokenizer.role_id("end"), tokenizer.bos_id)
    each = [sampling.model_copy(update={"seed": _number(prompt.text)}) for prompt in prompts]
    completions = engine.generate([prompt.tokens for prompt in prompts], each, stop_ids, task)
    return [completion.text for completion in completions]


def outcomes(examples: Sequence[Example], answers: Sequence[str]) -> list[Outcome]:
    """Judges the answers to examples, in their order."""
    found = []
    for example, text in zip(examples, answers, strict=True):
        verdict = judge(text, example.check or {})
        found.append(Outcome(example.id, verdict.success, verdict.parses, text))
    return found


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8")).digest()[:7], "big")
