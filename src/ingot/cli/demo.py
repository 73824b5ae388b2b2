"""`ingot demo`: the whole job, from text to a model to talk to; the recipe `demo` by another name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ingot.cli.options import Device, Json
from ingot.cli.run import carry_out


def demo(
    data: Annotated[
        Path | None, typer.Option(help="Your text: a folder or a file.  [default: Python's own library]")
    ] = None,
    minutes: Annotated[float | None, typer.Option(help="Minutes for the training.  [default: 12]")] = None,
    out: Annotated[Path, typer.Option(help="The run folder.")] = Path("runs/demo"),
    quick: Annotated[bool, typer.Option("--quick", help="A tiny model in about one minute.")] = False,
    seed: Annotated[int, typer.Option(help="Where all random numbers begin.")] = 0,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Make a model of your own text: tokenizer, training, chat, alignment, int8, report.

    Example: ingot demo --data ~/notes --minutes 12 --out runs/notes
    """
    from ingot import recipes

    changes = [f"seed={seed}"]
    if data is not None:
        changes.append(f"data={data}")
    if minutes is not None:
        changes.append(f"minutes={minutes}")
    carry_out(recipes.load("demo", changes, quick), out, device, as_json)
