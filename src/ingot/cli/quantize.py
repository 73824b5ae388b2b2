"""`ingot quantize`: the compress stage on one model folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ingot.cli.options import Folder, Json, Model, show_json


def quantize(
    folder: Folder,
    out: Annotated[Path | None, typer.Option(help="The folder to make.  [default: DIR-int8]")] = None,
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Make an int8 model of a model: a quarter of the bytes, loaded by ingot and transformers.

    Example: ingot quantize runs/demo --model base --out models/base-int8
    """
    from ingot.api import locate
    from ingot.compress import quantize_folder

    source = locate(folder, model)
    target = Path(f"{source}-int8") if out is None else out
    counted = quantize_folder(source, target)
    if as_json:
        show_json({"from": str(source), "folder": str(target)} | counted)
        return
    print(f"{target}: {counted['bytes'] / 1e6:.1f} MB, {counted['ratio']:.1%} of the bytes in float32")
    print(f"  talk:   ingot chat {target}")
