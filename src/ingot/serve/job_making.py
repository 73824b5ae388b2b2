"""From a request to the engine's work: which model, which tokens, how many answers."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from ingot.errors import ArtifactError, RequestError
from ingot.inference.choosing.constrain import guide
from ingot.inference.ingot import Ingot
from ingot.serve.asks import CHOICES, Ask, CompletionAsk
from ingot.serve.chats import ChatAsk
from ingot.serve.models import Served
from ingot.serve.protocol import invalid, short
from ingot.serve.tool_calls import FORCED, Reader
from ingot.serve.worker import Job, Piece
from ingot.tokenizer.rendering import encode


def writer(served: Served) -> Ingot:
    """Returns what writes text.

    Raises:
        ApiError: 400, the model does not.
    """
    if served.ingot is None:
        message = f"the model '{served.name}' writes no text: its kind is '{served.kind}'"
        raise invalid(message, "model", "unsupported_model")
    return served.ingot


def conversation(served: Served, ask: ChatAsk) -> list[int]:
    """Returns the tokens of a chat, up to where the answer begins.

    Raises:
        ApiError: 400, the model's template does not take it.
    """
    _compile(served, ask)
    tools = [tool.model_dump(exclude_none=True) for tool in ask.offered]
    begun = FORCED if ask.forced else ""
    try:
        return encode(served.tokenizer, [message.plain() for message in ask.messages], tools, begun)
    except ArtifactError as error:
        message = f"the model '{served.name}' has no form for conversations ({error.what})"
        raise invalid(message, "model", "unsupported_model") from None


def reader(ask: ChatAsk) -> Reader | None:
    """Returns what finds calls of tools in one answer; None where none are offered."""
    return Reader(inside=bool(ask.forced)) if ask.offered else None


def texts(served: Served, ask: CompletionAsk) -> list[list[int]]:
    """Returns prompts as tokens: texts after BOS, token ids as they are.

    Raises:
        ApiError: 400, an id that the model does not have.
    """
    ingot = _compile(served, ask)
    encoded = [ingot.encode(prompt) if isinstance(prompt, str) else prompt for prompt in ask.prompts]
    size = served.tokenizer.vocab_size
    if not all(0 <= token < size for prompt in encoded for token in prompt):
        raise invalid(f"token ids go from 0 to {size - 1}", "prompt")
    return encoded


def job(served: Served, ask: Ask, prompts: Sequence[list[int]], param: str, made: int) -> Job:
    """Returns all answers that are asked for.

    Args:
        served: the model.
        ask: how to sample.
        prompts: token ids.
        param: the field that they came in.
        made: answers to make for each prompt.

    Raises:
        ApiError: 400, a prompt that does not fit (with both numbers), or too many answers.
    """
    engine = writer(served).engine
    count = len(prompts) * made
    if not 0 < count <= CHOICES:
        what = f"{count} answers asked for at once; from 1 to {CHOICES} may be"
        raise invalid(what, "n" if made > 1 else param)
    work = Job(streamed=ask.stream)
    for prompt in prompts:
        try:
            room = engine.room(len(prompt))
        except RequestError as error:
            code = "context_length_exceeded" if prompt else "invalid_value"
            raise invalid(str(error), param, code) from None
        for _ in range(made):
            sampling = ask.sampling(room, len(work.prompts), served.tokenizer.vocab_size)
            work.add(prompt, sampling, priority=ask.priority, adapter=served.adapter)
    return work


async def pieces(work: Job) -> AsyncIterator[Piece]:
    """Yields what the answers of a job get.

    Raises:
        ApiError: the engine failed, or an answer could not keep to the form that it must have.
    """
    async for piece in work.pieces():
        if piece.finish_reason == "error":
            what = "the answer cannot go on in the form that was asked for: ask for another one"
            raise invalid(what, code="grammar_failed")
        yield piece


def _compile(served: Served, ask: Ask) -> Ingot:
    """Returns what writes, after it was seen that it can keep to the form that the answer must have.

    Done before the engine gets the request, because compiling a form can take a while, and kept for it.
    """
    ingot = writer(served)
    try:
        guide(ask.grammar, served.tokenizer, ingot.stop_ids)
    except RequestError as error:
        param = ask.forms()[0][0] if ask.forms() else "tools"
        raise invalid(f"{param}: {short(error.what, 400)}", param) from None
    return ingot
