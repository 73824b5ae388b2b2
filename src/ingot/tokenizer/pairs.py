"""Two texts as one row of tokens: a question and a passage, a query and a document.

```
BERT        [CLS] first [SEP] second [SEP]       segments 0 0 0 1 1
RoBERTa     <s> first </s> </s> second </s>      no segments
```
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ingot.errors import ArtifactError
from ingot.tokenizer.tokenizer import Tokenizer

Step = tuple[str | int, int]  # "A", "B" or a control token's id, and its segment
Joined = tuple[list[int], list[int]]


class Pairs:
    """Joins two texts as a tokenizer's template says, or as BERT does where it says nothing.

    Args:
        tokenizer: with a template, or with tokens for `cls` and `sep`.

    Raises:
        ArtifactError: it has neither.

    Example: `ids, segments = Pairs(tokenizer).join([7, 8], [9])`.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        described = _steps(tokenizer.parts.template or {})
        self._steps = described or _usual(tokenizer)
        self.added = sum(1 for token, _ in self._steps if token not in ("A", "B"))
        """Control tokens that joining adds."""

    def join(self, first: Sequence[int], second: Sequence[int]) -> Joined:
        """Returns the ids of both with control tokens around them, and the segment of each."""
        ids: list[int] = []
        segments: list[int] = []
        for token, segment in self._steps:
            part = first if token == "A" else second if token == "B" else [int(token)]
            ids += part
            segments += [segment] * len(part)
        return ids, segments


def _usual(tokenizer: Tokenizer) -> list[Step]:
    roles = tokenizer.parts.roles
    if "cls" not in roles or "sep" not in roles:
        what = "this tokenizer does not say how two texts are joined"
        raise ArtifactError(what, where=tokenizer.parts.where, fix="name its cls and sep tokens")
    cls, sep = tokenizer.role_id("cls"), tokenizer.role_id("sep")
    return [(cls, 0), ("A", 0), (sep, 0), ("B", 1), (sep, 1)]


def _steps(description: Mapping[str, Any]) -> list[Step]:
    """What a template does with two texts; nothing where it does not say."""
    build = _KINDS.get(description.get("type", ""))
    return [] if build is None else build(description)


def _processing(description: Mapping[str, Any]) -> list[Step]:
    known, steps = description["special_tokens"], []
    for part in description.get("pair") or []:
        for sort, one in part.items():
            named: list[str | int] = [one["id"]] if sort == "Sequence" else known[one["id"]]["ids"]
            steps += [(token, int(one["type_id"])) for token in named]
    return steps if {"A", "B"} <= {token for token, _ in steps} else []


def _bert(description: Mapping[str, Any]) -> list[Step]:
    cls, sep = description["cls"][1], description["sep"][1]
    return [(cls, 0), ("A", 0), (sep, 0), ("B", 1), (sep, 1)]


def _roberta(description: Mapping[str, Any]) -> list[Step]:
    cls, sep = description["cls"][1], description["sep"][1]
    return [(cls, 0), ("A", 0), (sep, 0), (sep, 0), ("B", 0), (sep, 0)]


def _sequence(description: Mapping[str, Any]) -> list[Step]:
    each = [_steps(inner) for inner in description["processors"]]
    return next((steps for steps in each if steps), [])


_KINDS: Mapping[str, Callable[[Mapping[str, Any]], list[Step]]] = {
    "TemplateProcessing": _processing,
    "BertProcessing": _bert,
    "RobertaProcessing": _roberta,
    "Sequence": _sequence,
}
