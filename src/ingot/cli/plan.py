"""`ingot plan`: what a recipe would do, without doing it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ingot.cli.options import Changes, Device, Json, Out, RecipeName, show_json, show_table


def plan(
    recipe: RecipeName,
    changes: Changes = None,
    out: Out = None,
    quick: Annotated[bool, typer.Option("--quick", help="The recipe's smallest setting.")] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Show what a run would make and skip, the minutes of each stage, and the model's size.

    Example: ingot plan demo minutes=30 --out runs/demo
    """
    from ingot import recipes
    from ingot.device import prepare_threads, resolve
    from ingot.pipeline import Pipeline
    from ingot.recipes import preview

    loaded = recipes.load(recipe, changes or (), quick)
    stages = recipes.build(loaded)
    folder = Path("runs", loaded.name) if out is None else out
    prepare_threads()
    decisions = Pipeline(stages, folder).plan(loaded.seed)
    rows = preview.rows(stages, decisions)
    model = preview.size(stages, decisions, resolve(device))
    if as_json:
        show_json({"recipe": loaded.name, "folder": str(folder), "stages": rows, "model": model})
        return
    print(f"{loaded.about.strip()}\n")
    header = ["stage", "does", "artifact", "minutes", "why"]
    show_table([["" if row[key] is None else str(row[key]) for key in header] for row in rows], header)
    if model:
        print("\nmodel (about): " + ", ".join(f"{key} {value:,}" for key, value in model.items()))
