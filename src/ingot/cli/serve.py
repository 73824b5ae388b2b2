"""`ingot serve`: answer over HTTP, in the shapes that OpenAI's clients expect."""

from __future__ import annotations

from typing import Annotated

import typer

from ingot.cli.options import Device, Folder, Model


def serve(
    folder: Folder,
    host: Annotated[str, typer.Option(help="The address to listen on; the default is this machine only.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="The port to listen on.", min=0, max=65535)] = 8000,
    model: Model = None,
    device: Device = "auto",
) -> None:
    """Serve a model: /v1/chat/completions, /v1/completions, /v1/models, and a chat page at /.

    Example: ingot serve runs/demo --port 8000
    """
    from ingot.device import prepare_threads, resolve
    from ingot.serve import app

    prepare_threads()
    app.serve(folder, model=model, host=host, port=port, device=resolve(device))
