"""`ingot chat`: talk to a model in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ingot.cli.options import Device, Folder, Model
from ingot.errors import RequestError

if TYPE_CHECKING:
    from ingot.api import Ingot

Message = dict[str, str]


def chat(
    folder: Folder,
    model: Model = None,
    max_new_tokens: Annotated[int, typer.Option(help="The longest answer, in tokens.")] = 256,
    temperature: Annotated[float, typer.Option(help="0 takes the likeliest token every time.")] = 0.8,
    seed: Annotated[int | None, typer.Option(help="Repeats the same answers.")] = None,
    device: Device = "auto",
) -> None:
    """Talk to a model; Ctrl-C stops an answer, Ctrl-D leaves. Piped input: one message per line.

    Example: ingot chat runs/demo --model int8
    """
    from ingot import api
    from ingot.device import prepare_threads, resolve

    prepare_threads()
    loaded = api.Ingot.load(folder, model=model, device=resolve(device))
    settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    _remark(f"{loaded.name}: write a message; Ctrl-C stops an answer, Ctrl-D leaves")
    conversation: list[Message] = []
    for text in _inputs():
        try:
            fitted = loaded.fit([*conversation, {"role": "user", "content": text}])
        except RequestError as error:
            _remark(f"[{error}]")
            continue
        if fitted.cut:
            outgrew = f"the conversation outgrew the context of {loaded.context} tokens"
            _remark(f"[{outgrew}; cut: {_listed(fitted.cut)}]")
        answer = _answer(loaded, fitted.messages, settings)
        conversation = [*fitted.messages, {"role": "assistant", "content": answer}]


def _listed(cut: list[Message]) -> str:
    """The messages that were cut, each by its beginning."""
    starts = [" ".join(message["content"].split())[:30] for message in cut]
    return ", ".join(f"{message['role']} '{start}'" for message, start in zip(cut, starts, strict=True))


def _inputs() -> Iterator[str]:
    """What the user says, line by line, until the input ends."""
    asks = sys.stdin.isatty()
    if asks:
        import readline  # noqa: F401  (gives the prompt its arrow keys and history)
    while True:
        try:
            line = input("> " if asks else "").strip()
        except EOFError:
            if asks:
                print()
            return
        except KeyboardInterrupt:
            if not asks:
                raise
            _remark("\n[Ctrl-D leaves]")
            continue
        if line:
            yield line


def _answer(loaded: Ingot, messages: list[Message], settings: dict[str, Any]) -> str:
    """Prints the answer as it comes; Ctrl-C keeps what is there."""
    pieces: list[str] = []
    try:
        for piece in loaded.stream(messages, **settings):
            pieces.append(piece)
            print(piece, end="", flush=True)
    except KeyboardInterrupt:
        if not sys.stdin.isatty():
            raise
        _remark(" [stopped]")
    print()
    return "".join(pieces)


def _remark(text: str) -> None:
    """Tells the reader something that is not the model's."""
    print(text, file=sys.stderr, flush=True)
