"""`ingot generate`: go on with a text, or, with an encoder-decoder, rewrite it."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from ingot.cli.options import Device, Folder, Json, Model, show_json


def generate(
    folder: Folder,
    prompt: Annotated[str, typer.Argument(help="The text to go on with; - reads standard input.")],
    max_new_tokens: Annotated[int, typer.Option(help="The longest continuation, in tokens.")] = 256,
    temperature: Annotated[
        float | None,
        typer.Option(
            help="0 takes the likeliest token every time.  [default: 0.8; 0 where a text is rewritten]"
        ),
    ] = None,
    beams: Annotated[
        int | None, typer.Option(help="Texts to try side by side (beam search), instead of sampling.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Repeats the same continuation.")] = None,
    model: Model = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Go on with a text; an encoder-decoder translates, summarises or mends it, as it was trained to.

    \b
    Example: ingot generate runs/demo "def add(a, b):" --max-new-tokens 64 --seed 1
             ingot generate runs/translate "add the numbers" --beams 4
    """
    from ingot import api
    from ingot.device import prepare_threads, resolve

    text = sys.stdin.read() if prompt == "-" else prompt
    prepare_threads()
    loaded = api.Ingot.load(folder, model=model, device=resolve(device))
    if temperature is None:
        temperature = 0.0 if loaded.rewrites else 0.8
    settings: dict[str, Any] = {"max_new_tokens": max_new_tokens, "temperature": temperature, "seed": seed}
    if beams is not None:
        settings = {"max_new_tokens": max_new_tokens, "beams": beams}
    if as_json:
        answer = loaded.generate(text, **settings)
        show_json({"model": loaded.name, "prompt": text, "text": answer} | settings)
        return
    if beams is not None:
        print(loaded.generate(text, **settings))
        return
    for piece in loaded.stream(text, **settings):
        print(piece, end="", flush=True)
    print()
