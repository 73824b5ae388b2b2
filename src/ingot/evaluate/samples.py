"""Samples: the same few prompts for every model, to be read side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ingot.data.conversations import Example, mine_headings
from ingot.data.document import Document
from ingot.evaluate.instruction import Prompt, chat_prompt
from ingot.tokenizer.tokenizer import Tokenizer

ASKED, CONTINUED = 4, 1
"""How many samples are questions, and how many are beginnings of held-out files to be continued."""

_LENGTH = 64


def choose_samples(
    documents: Sequence[Document], examples: Sequence[Example], tokenizer: Tokenizer, room: int
) -> list[Prompt]:
    """Chooses prompts to show.

    Args:
        documents: held out.
        examples: the prompts that success is measured on; without any, sections of prose are asked for.
        tokenizer: of the models.
        room: tokens that a prompt may have.

    Returns:
        Up to four questions in chat form, then beginnings of documents as they stand: more of these
        where there are no questions.
    """
    asked = [chat_prompt(tokenizer, one.prompt) for one in examples or mine_headings(documents)]
    fitting = [prompt for prompt in asked if len(prompt.tokens) <= room][:ASKED]
    return fitting + _passages(documents, tokenizer, room, CONTINUED + ASKED - len(fitting))


def table(prompts: Sequence[Prompt], answers: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """Returns the content of `samples.json`.

    Args:
        prompts: as chosen.
        answers: of each model, in the order of the prompts.
    """
    return [
        {"prompt": prompt.text, "answers": {name: given[i] for name, given in answers.items()}}
        for i, prompt in enumerate(prompts)
    ]


def _passages(documents: Sequence[Document], tokenizer: Tokenizer, room: int, count: int) -> list[Prompt]:
    """Beginnings of documents from all over the list; with few documents, also lines further down."""
    step = max(1, len(documents) // count)
    chosen = [*documents[len(documents) // 2 :: step], *documents[: len(documents) // 2 : step]]
    depth = -(-count // max(1, len(chosen)))
    starts = [(one.text, len(one.text) * part // depth) for part in range(depth) for one in chosen]
    prompts = [_passage(text, start, tokenizer, room) for text, start in starts[:count]]
    return [prompt for prompt in prompts if prompt.text.strip()]


def _passage(text: str, start: int, tokenizer: Tokenizer, room: int) -> Prompt:
    """The first tokens from the line that begins at `start` or after; no character is cut in two."""
    start = 0 if start == 0 else text.find("\n", start) + 1
    tokens = tokenizer.encode(text[start : start + 8 * _LENGTH])[: min(_LENGTH, room - 1)]
    passage = tokenizer.decode_bytes(tokens).decode("utf-8", errors="ignore")
    return Prompt(passage, [tokenizer.bos_id, *tokenizer.encode(passage)][:room])
