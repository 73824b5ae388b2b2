"""`ingot compare`: what is not the same in two trainings, and where their losses part."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ingot.cli.options import Json, show_json

RunOrModel = Annotated[
    Path,
    typer.Argument(help="A run folder (runs/demo), a model's folder (runs/demo/base@1) or a work folder."),
]


def compare(
    a: RunOrModel,
    b: RunOrModel,
    model: Annotated[str, typer.Option(help="Which model of a run folder: base, finetuned@2 ...")] = "base",
    as_json: Json = False,
) -> None:
    """Compare two trainings: settings, origins, code, machine, results, and where their losses part.

    Example: ingot compare runs/demo/base@1 runs/demo/base@2
    """
    from ingot.train.compare import difference

    found = difference(_log_of(a, model), _log_of(b, model))
    if as_json:
        show_json(found.plain())
    else:
        print(found.table(), end="")


def _log_of(folder: Path, model: str) -> Path:
    """The folder with the log of a training that is meant; of a run folder, a model made or under way."""
    from ingot.inference.locate import locate
    from ingot.train.compare import LOG

    if (folder / LOG).exists() or (folder / "config.json").exists():
        return folder
    under_way = sorted(folder.glob(f"work/*/{LOG}"), key=lambda path: path.stat().st_mtime)
    if under_way and not any(folder.glob(f"{model.partition('@')[0]}@*")):
        return under_way[-1].parent
    return locate(folder, model)
