"""Templates: the control tokens that a tokenizer puts around a text on request, such as `[CLS]` and `[SEP]`.

Described as the `post_processor` of a `tokenizer.json`; only what concerns a single text is used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ingot.tokenizer.reading import Fields, refuse

Wrap = Callable[[list[int]], list[int]]


def build(fields: Fields, ids: Mapping[str, int]) -> Wrap:
    """Makes the function that a description stands for.

    Args:
        fields: the description.
        ids: of every token, by name.

    Raises:
        ArtifactError: an unknown type, a wrong field, or a token that does not exist.
    """
    kind = fields.text("type")
    if kind not in _KINDS:
        raise refuse(f"the post_processor '{kind}' is not supported", fields.where)
    return _KINDS[kind](fields, ids)


def around(before: str | None, after: str | None, ids: Mapping[str, int]) -> dict[str, Any] | None:
    """Describes one token before and one after a text, either of which may be missing.

    Two texts have the token that stands after a text between them too, and the second is segment 1 then:
    `[CLS] first [SEP] second [SEP]` (Devlin et al. 2018, BERT, arXiv 1810.04805, figure 2).
    """
    tokens = [name for name in (before, after) if name is not None]
    if not tokens:
        return None
    end = [] if after is None else [after]
    single = [*_specials(tokens[: before is not None], 0), _text("A", 0), *_specials(end, 0)]
    second = 0 if after is None else 1
    pair = [*single, _text("B", second), *_specials(end, second)]
    known = {name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in tokens}
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": known}


def _text(name: str, segment: int) -> dict[str, Any]:
    return {"Sequence": {"id": name, "type_id": segment}}


def _specials(names: Sequence[str], segment: int) -> list[dict[str, Any]]:
    return [{"SpecialToken": {"id": name, "type_id": segment}} for name in names]


def _template(fields: Fields, ids: Mapping[str, int]) -> Wrap:
    known = fields.inner("special_tokens")
    before: list[int] = []
    after: list[int] = []
    seen = False
    for part in fields.inners("single"):
        if "Sequence" in part.values:
            seen = True
            continue
        name = part.inner("SpecialToken").text("id")
        numbers = known.inner(name).items("ids")
        if not all(isinstance(number, int) and 0 <= number < len(ids) for number in numbers):
            raise refuse(f"the template names {name!r} with ids that no token has", fields.where)
        (after if seen else before).extend(numbers)
    return lambda tokens: [*before, *tokens, *after]


def _pair(fields: Fields, ids: Mapping[str, int]) -> Wrap:
    cls, sep = _named(fields, "cls", ids), _named(fields, "sep", ids)
    return lambda tokens: [cls, *tokens, sep]


def _named(fields: Fields, key: str, ids: Mapping[str, int]) -> int:
    """The id in a field like `["[SEP]", 102]`."""
    match fields.get(key):
        case [str(name), int(number)] if ids.get(name) == number:
            return number
    raise refuse(f"{fields.get(key)!r} is no token of the vocabulary", fields.at(key))


def _sequence(fields: Fields, ids: Mapping[str, int]) -> Wrap:
    steps = [build(inner, ids) for inner in fields.inners("processors")]

    def wrap(tokens: list[int]) -> list[int]:
        for step in steps:
            tokens = step(tokens)
        return tokens

    return wrap


_KINDS: Mapping[str, Callable[[Fields, Mapping[str, int]], Wrap]] = {
    "TemplateProcessing": _template,
    "BertProcessing": _pair,
    "RobertaProcessing": _pair,
    "ByteLevel": lambda fields, ids: lambda tokens: tokens,
    "Sequence": _sequence,
}


def renumbered(description: Mapping[str, Any] | None, ids: Mapping[str, int]) -> dict[str, Any] | None:
    """The same template where tokens have other ids.

    Args:
        description: of the template.
        ids: the new id of every token, by name.
    """
    if description is None:
        return None
    changed = dict(description)
    for key in ("cls", "sep"):
        if key in changed:
            name = changed[key][0]
            changed[key] = [name, ids[name]]
    if "processors" in changed:
        changed["processors"] = [renumbered(inner, ids) for inner in changed["processors"]]
    if "special_tokens" in changed:
        changed["special_tokens"] = {
            name: {**known, "ids": [ids[token] for token in known["tokens"]]}
            for name, known in changed["special_tokens"].items()
        }
    return changed
