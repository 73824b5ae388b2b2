"""`ingot export`: a model folder for llama.cpp, ONNX Runtime, TorchScript or AOTInductor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ingot.cli.options import Folder, Json, Model, show_json


def export(
    folder: Folder,
    to: Annotated[str, typer.Option("--to", help="gguf, onnx, torchscript or aot.")],
    kind: Annotated[
        str | None,
        typer.Option("--type", help="Of a GGUF file: f32, f16, bf16, q8_0 or q4_0.  [default: f16]"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="What to make.  [default: DIR-TYPE.gguf, or the folder DIR-FORMAT]")
    ] = None,
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Write a model for other runtimes: one file for llama.cpp, or a graph with its cache in and out.

    \b
    Example: ingot export runs/demo --to gguf --type q8_0
             ingot export runs/demo --model base --to onnx --out models/base-onnx
    """
    from ingot.api import locate
    from ingot.errors import ConfigError, did_you_mean
    from ingot.export.folder import FORMS, export_folder
    from ingot.export.gguf import TYPES, export_gguf

    if to not in ("gguf", *FORMS):
        raise ConfigError(f"unknown format '{to}'", where="--to", fix=did_you_mean(to, ("gguf", *FORMS)))
    if kind is not None and to != "gguf":
        raise ConfigError(f"{to} has no types", where="--type", fix="leave it out, or use --to gguf")
    if kind is not None and kind not in TYPES:
        raise ConfigError(f"unknown type '{kind}'", where="--type", fix=did_you_mean(kind, TYPES))
    source = locate(folder, model)
    if to == "gguf":
        kind = kind or "f16"
        target = out or Path(f"{source}-{kind}.gguf")
        told = export_gguf(source, target, kind)
    else:
        target = out or Path(f"{source}-{to}")
        told = export_folder(source, target, to)
    if as_json:
        show_json({"from": str(source), "to": to, "path": str(target)} | told)
        return
    print(f"{target}: {told['bytes'] / 1e6:.1f} MB")
    if "difference" in told:
        print(f"  logits differ by {told['difference']:.1e} at most from the model's")
