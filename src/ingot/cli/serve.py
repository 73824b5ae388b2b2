"""`ingot serve`: answer over HTTP, in the shapes that OpenAI's clients expect."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ingot.cli.options import Device, Model


def serve(
    folders: Annotated[
        list[str],
        typer.Argument(
            metavar="DIR...", help="Run folders (runs/demo) or models' folders; NAME=DIR names one."
        ),
    ],
    host: Annotated[str, typer.Option(help="The address to listen on; the default is this machine only.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="The port to listen on.", min=0, max=65535)] = 8000,
    model: Model = None,
    device: Device = "auto",
    alias: Annotated[list[str] | None, typer.Option(help="NAME=MODEL: another name of a model.")] = None,
    route: Annotated[
        list[str] | None, typer.Option(help="NAME=A:0.9,B:0.1: a name that is A for nine callers of ten.")
    ] = None,
    shadow: Annotated[
        list[str] | None, typer.Option(help="A=B:0.05: B answers some of A's requests too, unheard.")
    ] = None,
    adapter: Annotated[
        list[str] | None, typer.Option(help="NAME=DIR or MODEL:NAME=DIR: a LoRA adapter as a model.")
    ] = None,
    pooling: Annotated[
        str | None, typer.Option(help="mean, first or last: vectors of models that were not made for them.")
    ] = None,
    key_file: Annotated[
        Path | None, typer.Option(help="Keys that clients must send, one a line. Or set INGOT_API_KEY.")
    ] = None,
    key: Annotated[
        list[str] | None,
        typer.Option(help="A key; others on this machine can see it in the list of processes."),
    ] = None,
    requests_per_minute: Annotated[
        int | None, typer.Option(help="That a key may send (an address, where there are no keys).", min=1)
    ] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option(help="That a key may have read and written.", min=1)
    ] = None,
    slots: Annotated[int, typer.Option(help="Answers that are made at once.", min=1)] = 32,
    memory_gib: Annotated[
        float | None,
        typer.Option(help="GiB that keys and values may take; answers wait beyond it.", min=0.001),
    ] = None,
    invariant: Annotated[
        bool, typer.Option("--invariant", help="The same answers, bit for bit, whatever else runs (slower).")
    ] = False,
    guess: Annotated[
        bool, typer.Option("--guess", help="Guess tokens ahead from the prompt; answers stay the same.")
    ] = False,
    queue: Annotated[int, typer.Option(help="Answers that may wait; more are refused with 429.", min=0)] = 64,
    drain: Annotated[
        float, typer.Option(help="Seconds that answers under way may take after SIGTERM.", min=0)
    ] = 60,
    access_log: Annotated[
        str, typer.Option(help="Where a line about each request goes: a file, '-' (stderr) or 'none'.")
    ] = "-",
    log_prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Write all prompts and answers to this file, which only you can read; without it none are.",
        ),
    ] = None,
) -> None:
    """Serve models: OpenAI's API under /v1, a chat page at /, /health, /ready and /metrics.

    \b
    Example: ingot serve runs/demo --port 8000
             ingot serve runs/a new=runs/b --route chat=aligned@1:0.9,new:0.1
    """
    import sys

    from ingot.device import prepare_threads, resolve
    from ingot.serve.keys import Allowance, read_keys
    from ingot.serve.limits import Limits
    from ingot.serve.routing import read_routing
    from ingot.serve.serving import read_adapter, read_source
    from ingot.serve.serving import serve as run
    from ingot.serve.visits import log_to

    engine: dict[str, Any] = {"slots": slots}
    if memory_gib is not None:
        engine["memory"] = int(memory_gib * 2**30)
    if invariant:
        from ingot.inference.computing.invariant import Invariance

        engine["invariant"] = Invariance()
    if guess:
        from ingot.inference.guessing.prompt_lookup import PromptLookup

        engine["speculate"] = PromptLookup()
    allowance = Allowance(requests=requests_per_minute, tokens=tokens_per_minute)
    keys, warnings = read_keys(key_file, allowance, given=key or ())
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    sources = [read_source(text, model if len(folders) == 1 else None) for text in folders]
    if access_log != "none":
        log_to(None if access_log == "-" else Path(access_log))
    prepare_threads()
    run(
        sources,
        routing=read_routing(alias or (), route or (), shadow or ()),
        adapters=[read_adapter(text) for text in adapter or ()],
        keys=keys,
        limits=Limits(waiting=queue, drain_seconds=drain),
        host=host,
        port=port,
        device=resolve(device),
        pooling=pooling,
        engine=engine,
        prompts=log_prompts,
    )
