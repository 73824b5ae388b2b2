"""Arguments and options that several verbs share, and how results are printed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

RecipeName = Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name (demo) or its YAML file.")]
Changes = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...", help="Settings, such as minutes=3 data=DIR pretrain.context=256."
    ),
]
Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A run folder (runs/demo) or a model's folder.")]
RunFolder = Annotated[Path, typer.Argument(metavar="DIR", help="A run folder, such as runs/demo.")]
Out = Annotated[Path | None, typer.Option("--out", help="The run folder.  [default: runs/RECIPE]")]
Model = Annotated[
    str | None,
    typer.Option("--model", help="Which model of a run folder: int8, base, finetuned@2 ..."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def show_json(value: Any) -> None:
    """Prints plain data as JSON on standard output."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def show_table(rows: Sequence[Sequence[str]], header: Sequence[str]) -> None:
    """Prints rows in columns as wide as their widest cell."""
    lines = [list(header), *[list(row) for row in rows]]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
