"""`ingot run`: carry out a recipe."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ingot.cli.options import Changes, Device, Json, Out, RecipeName, show_json
from ingot.cli.terminal import duration, standard_progress

if TYPE_CHECKING:
    from ingot.recipes import Recipe


def run(
    recipe: RecipeName,
    changes: Changes = None,
    out: Out = None,
    quick: Annotated[bool, typer.Option("--quick", help="The recipe's smallest setting.")] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Carry out a recipe; started again, it goes on where it was.

    Example: ingot run demo minutes=3 pretrain.context=256 --out runs/small
    """
    from ingot import recipes

    carry_out(recipes.load(recipe, changes or (), quick), out, device, as_json)


def carry_out(recipe: Recipe, out: Path | None, device: str, as_json: bool) -> None:
    """Runs a recipe with progress on the terminal and says what came of it.

    Under torchrun all ranks come here; the lead speaks.
    """
    from ingot import recipes
    from ingot.device import prepare_threads, resolve
    from ingot.parallel.ranks import join, leave
    from ingot.parallel.turns import Crew
    from ingot.progress import Progress

    folder = Path("runs", recipe.name) if out is None else out
    start = time.monotonic()
    resolved = resolve(device)
    prepare_threads()
    ranks = join(resolved)
    try:
        progress = standard_progress() if ranks.lead else Progress()
        made = recipes.run(recipe, folder, progress, ranks.place(resolved), Crew(ranks))
    finally:
        leave()
    if not ranks.lead:
        return
    took = time.monotonic() - start
    if as_json:
        found = [
            {"address": one.address, "kind": one.record.kind, "left_out": one.record.left_out} for one in made
        ]
        show_json({"folder": str(folder), "seconds": round(took, 1), "artifacts": found})
        return
    print(f"{folder} is ready, after {duration(took)}")
    if (folder / "report.html").is_file():
        print(f"  look:   {folder / 'report.html'}")
    if any(one.record.kind == "model" and one.record.left_out is None for one in made):
        print(f"  talk:   ingot chat {folder}")
        print(f"  serve:  ingot serve {folder}")
