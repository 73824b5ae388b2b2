"""Curating: what a set of instructions holds twice, and what is too short or too long to learn from."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import Field

from ingot.config import Config
from ingot.data.conversations import Example
from ingot.data.dedup import near_duplicates
from ingot.data.document import Dropped
from ingot.data.records.record import Answered, Message, Record, RowError, as_messages
from ingot.data.records.reshape import reshape

if TYPE_CHECKING:
    from collections import Counter

    from ingot.tokenizer.tokenizer import Tokenizer


class Curation(Config):
    """Which examples are fit to learn from.

    Args:
        shortest_answer: signs that an answer has at least.
        longest_prompt: signs that everything before the last answer has at most.
        longest_answer: signs that the last answer has at most.
        context: tokens that a conversation has at most, where a tokenizer is at hand; None does not look.
        near: similarity (Jaccard of word 5-grams) from which two conversations count as one; None keeps
            all that are not the same but for case and blanks.
        seed: of the hash functions that near duplicates are found with.
    """

    shortest_answer: int = Field(default=1, ge=1)
    longest_prompt: int = Field(default=20_000, ge=1)
    longest_answer: int = Field(default=20_000, ge=1)
    context: int | None = Field(default=None, ge=2)
    near: float | None = Field(default=None, gt=0, le=1)
    seed: int = 0


@dataclass(frozen=True)
class Curated:
    """What is kept, in its order, and what is not, each with the rule that it broke."""

    kept: list[Example]
    dropped: list[Dropped]


def to_examples(records: Iterable[tuple[int, Record]], source: str, left_out: Counter[str]) -> list[Example]:
    """Makes examples to fine-tune on of the records of a file.

    Args:
        records: with their lines.
        source: what to call the file.
        left_out: is told what of the records is no example (rejected answers and the like).

    Raises:
        RowError: records that hold no answer, or tool calls, which the chat template cannot say yet.
    """
    found = []
    for line, record in records:
        for one in reshape(record, Answered, left_out):
            assert isinstance(one, Answered)
            messages = [*as_messages(one.prompt, "user"), *as_messages(one.completion, "assistant")]
            if any("tool_calls" in message for message in messages):
                raise RowError(f"line {line}: calls tools", "the chat template has no place for that yet")
            found.append(Example(_identity(messages), f"{source}:{line}", messages))
    return found


def curate(
    examples: Iterable[Example], curation: Curation | None = None, tokenizer: Tokenizer | None = None
) -> Curated:
    """Keeps what is fit to learn from; of two that say the same, the earlier.

    Args:
        examples: conversations that end with an answer.
        curation: the rules; None takes the defaults.
        tokenizer: counts tokens, where `curation.context` is set.

    Returns:
        The kept ones, and for each of the others the rule, what it measured and the threshold.
    """
    curation = curation or Curation()
    kept: list[Example] = []
    dropped: list[Dropped] = []
    seen: dict[str, str] = {}
    for example in examples:
        broken = _too_short_or_long(example, curation, tokenizer)
        said = _folded(example.messages)
        if broken is None and said in seen:
            what = f"says the same as {seen[said]}"
            broken = Dropped(example.source, "duplicate", what, text=example.prompt)
        if broken is not None:
            dropped.append(broken)
            continue
        seen[said] = example.source
        kept.append(example)
    if curation.near is not None:
        kept, copies = _without_near(kept, curation.near, curation.seed)
        dropped += copies
    return Curated(kept, dropped)


def _too_short_or_long(example: Example, rules: Curation, tokenizer: Tokenizer | None) -> Dropped | None:
    asked = sum(len(message["content"]) for message in example.messages[:-1])
    measures: list[tuple[str, int, int, bool]] = [
        ("answer too short", len(example.answer.strip()), rules.shortest_answer, True),
        ("prompt too long", asked, rules.longest_prompt, False),
        ("answer too long", len(example.answer), rules.longest_answer, False),
    ]
    if rules.context is not None and tokenizer is not None:
        from ingot.tokenizer.chat import encode_chat

        measures.append(
            ("conversation too long", len(encode_chat(tokenizer, example.messages)[0]), rules.context, False)
        )
    for reason, value, threshold, least in measures:
        if value < threshold if least else value > threshold:
            unit = "tokens" if reason.startswith("conversation") else "signs"
            detail = f"{value:,} {unit}, {'at least' if least else 'at most'} {threshold:,}"
            return Dropped(example.source, reason, detail, value, threshold, example.prompt)
    return None


def _without_near(
    examples: list[Example], threshold: float, seed: int
) -> tuple[list[Example], list[Dropped]]:
    found = near_duplicates([_said(example.messages) for example in examples], threshold, seed)
    copies = {
        one.index: Dropped(
            examples[one.index].source,
            "near duplicate",
            f"similarity {one.similarity:.3f} with {examples[one.of].source}",
            one.similarity,
            threshold,
            examples[one.index].prompt,
        )
        for one in found
    }
    return [one for place, one in enumerate(examples) if place not in copies], list(copies.values())


def _said(messages: list[Message]) -> str:
    return "\n".join(message["content"] for message in messages)


def _folded(messages: list[Message]) -> str:
    """A conversation without case and blanks, as a hash: what two that say the same have in common."""
    said = "\0".join(f"{one['role']}\1{' '.join(one['content'].split())}" for one in messages)
    folded = unicodedata.normalize("NFKC", said).casefold()
    return hashlib.sha256(folded.encode("utf-8", errors="surrogatepass")).hexdigest()


def _identity(messages: list[Message]) -> str:
    said = "\0".join(f"{one['role']}\1{one['content']}" for one in messages)
    return hashlib.sha256(said.encode("utf-8", errors="surrogatepass")).hexdigest()[:16]
