"""Many requests at once for other programs' servers: those that batch by themselves hand theirs over here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ingot.errors import IngotError, RequestError

if TYPE_CHECKING:
    from ingot.inference.ingot import Ingot
    from ingot.inference.request import Request


def answers(model: Ingot, asked: Sequence[Mapping[str, Any]]) -> list[str | IngotError]:
    """Answers requests in one batch; each gets what it would have got alone.

    Args:
        model: loaded; one thread at a time may use it.
        asked: of each request `prompt` (a raw text, `{"role", "content"}` messages, or token ids) and any
            field of `inference.choosing.sampling.Sampling`.

    Returns:
        A text for each request, in order; where one cannot be served, the reason. It spoils no other.

    Example:
        >>> answers(ingot.load("runs/demo"), [{"prompt": "import ", "temperature": 0}])  # doctest: +SKIP
        ['os']
    """
    from ingot.inference.choosing.sampling import Sampling

    results: list[str | IngotError] = [""] * len(asked)
    under_way: dict[int, Request] = {}
    try:
        for index, one in enumerate(asked):
            fields = dict(one)
            prompt = fields.pop("prompt", "")
            try:
                settings = Sampling.parse(fields, where="request")
                tokens = _tokens(model, prompt)
                under_way[index] = model.engine.submit(tokens, settings, model.stop_ids)
            except IngotError as error:
                results[index] = error
        while any(request.finish_reason is None for request in under_way.values()):
            model.engine.step()
    finally:
        for request in under_way.values():
            model.engine.cancel(request)
    for index, request in under_way.items():
        results[index] = request.completion().text
    return results


def _tokens(model: Ingot, prompt: Any) -> list[int]:
    """What the model reads: token ids as they are, after a look at them, anything else encoded."""
    if not prompt or isinstance(prompt, str) or not isinstance(prompt[0], int):
        return model.encode(prompt)
    size = model.tokenizer.vocab_size
    if not all(isinstance(token, int) and 0 <= token < size for token in prompt):
        raise RequestError(f"token ids go from 0 to {size - 1}", where="prompt")
    return list(prompt)
