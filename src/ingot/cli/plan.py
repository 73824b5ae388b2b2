"""`ingot plan`: what a recipe would do, without doing it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ingot.cli.options import Changes, Json, Out, RecipeName, show_json, show_table


def plan(
    recipe: RecipeName,
    changes: Changes = None,
    out: Out = None,
    quick: Annotated[bool, typer.Option("--quick", help="The recipe's smallest setting.")] = False,
    minutes: Annotated[float | None, typer.Option(help="Minutes of training in all.")] = None,
    hours: Annotated[float | None, typer.Option(help="Hours of training in all.")] = None,
    dollars: Annotated[float | None, typer.Option(help="What the training may cost.")] = None,
    device: Annotated[
        str, typer.Option(help="auto, cpu, cuda, or one that is not here: h200, a100, rtx4090 ...")
    ] = "auto",
    gpus: Annotated[int, typer.Option(help="How many of a named device.")] = 1,
    price: Annotated[float | None, typer.Option(help="Dollars per hour of one device.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the learning-rate schedules into this .png, .svg or .pdf.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what a run would make, the model's size, its expected loss, memory, minutes and cost.

    Example: ingot plan demo --hours 8 --device h200 --plot schedule.png
    """
    from ingot import recipes
    from ingot.device import prepare_threads, resolve
    from ingot.pipeline import Pipeline
    from ingot.recipes import courses, preview
    from ingot.train.budget import budget

    given = budget(minutes=minutes, hours=hours, dollars=dollars, device=device, gpus=gpus, price=price)
    limit = [] if given.seconds is None else [f"minutes={given.seconds / 60:.6g}"]
    loaded = recipes.load(recipe, [*(changes or ()), *limit], quick)
    stages = recipes.build(loaded)
    folder = Path("runs", loaded.name) if out is None else out
    prepare_threads()
    decisions = Pipeline(stages, folder).plan(loaded.seed)
    rows = preview.rows(stages, decisions)
    model = preview.size(stages, decisions, "cpu" if given.device else resolve(device), given)
    found = courses.courses(stages, (model or {}).get("steps"))
    if plot is not None:
        courses.draw(found, plot)
    if as_json:
        show_json({"recipe": loaded.name, "folder": str(folder), "stages": rows, "model": model})
        return
    print(f"{loaded.about.strip()}\n")
    header = ["stage", "does", "artifact", "minutes", "why"]
    show_table([["" if row[key] is None else str(row[key]) for key in header] for row in rows], header)
    if model:
        print()
        show_table([list(line) for line in preview.lines(model)], ["model", "about"])
        for doubt in model.get("doubts", ()):
            print(f"  note: {doubt}")
    if found:
        print("\nlearning rates" + (f" (drawn: {plot})" if plot else ""))
        print("\n".join(courses.text(found)))
    print("\n" + _command(recipe, changes, limit, model, quick))


def _command(recipe: str, changes: list[str] | None, limit: list[str], model: Any, quick: bool) -> str:
    words = ["ingot run", recipe, *(changes or ()), *limit, *(model or {}).get("changes", ())]
    return "run it:  " + " ".join([*words, "--quick"] if quick else words)
