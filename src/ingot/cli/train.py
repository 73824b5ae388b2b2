"""`ingot train`: a recipe up to its pretrained model."""

from __future__ import annotations

from typing import Annotated

import typer

from ingot.cli.options import Changes, Device, Json, Out, RecipeName
from ingot.cli.run import carry_out


def train(
    recipe: RecipeName,
    changes: Changes = None,
    until: Annotated[str, typer.Option(help="The last stage to run.")] = "pretrain",
    out: Out = None,
    quick: Annotated[bool, typer.Option("--quick", help="The recipe's smallest setting.")] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train a recipe's base model and stop there; `ingot run` on the same folder does the rest.

    Example: ingot train demo minutes=12 --out runs/demo
    """
    from ingot import recipes

    carry_out(recipes.load(recipe, changes or (), quick).up_to(until), out, device, as_json)
