"""A model folder as a folder for another runtime: the graph, the tokenizer, and a record of where from.

```
model.onnx | model.ts | model.pt2      the graph
config.json, generation_config.json    as in the model's folder
tokenizer.json, tokenizer_config.json
artifact.json                          what it was made of, and how far its logits are off
```
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ingot.artifact import write_record
from ingot.atomic import publish
from ingot.errors import ArtifactError, ConfigError, did_you_mean
from ingot.export.aot import write_aot
from ingot.export.encoder_onnx import write_encoder_onnx
from ingot.export.graph import Graph
from ingot.export.onnx import write_onnx
from ingot.export.source import EncoderSource, Source, is_encoder, read_encoder, read_source
from ingot.export.torchscript import write_torchscript

FORMS: dict[str, Callable[[Graph, Path], dict[str, Any]]] = {
    "onnx": write_onnx,
    "torchscript": write_torchscript,
    "aot": write_aot,
}
"""Graph formats by name, each with what writes it."""

_BESIDE = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json")


def _written(source: Source | EncoderSource, form: str, aside: Path) -> dict[str, Any]:
    if isinstance(source, Source):
        return FORMS[form](Graph(source.model()).eval(), aside)
    if form != "onnx":
        what = f"encoders are not written as {form}"
        raise ArtifactError(what, where=source.folder, fix="use --to onnx")
    return write_encoder_onnx(source.model(), aside)


def export_folder(folder: Path, out: Path, form: str) -> dict[str, Any]:
    """Makes a folder for another runtime of a model folder; it appears whole or not at all.

    Args:
        folder: a dense model folder; of encoders, with `onnx` only.
        out: a folder that does not exist yet.
        form: one of `FORMS`.

    Returns:
        `difference` (of logits, the largest, against the model) and `bytes` of all files.

    Raises:
        ConfigError: an unknown form.
        ArtifactError: `out` exists, `folder` is no dense model folder, or the graph computes something else.
        ResourceError: a package or a compiler is missing.
    """
    if form not in FORMS:
        raise ConfigError(f"unknown format '{form}'", where="--to", fix=did_you_mean(form, FORMS))
    if out.exists():
        raise ArtifactError("exists already", where=out, fix="choose another name or remove it")
    started = time.monotonic()
    source = read_encoder(folder) if is_encoder(folder) else read_source(folder)
    with publish(out) as aside:
        told = _written(source, form, aside)
        for name in _BESIDE:
            if (folder / name).is_file():
                shutil.copyfile(folder / name, aside / name)
        told["bytes"] = sum(path.stat().st_size for path in aside.iterdir())
        write_record(
            aside,
            kind="export",
            name=out.name.partition("@")[0],
            stage="export",
            parents={"model": source.record} if source.record else None,
            config={"to": form, "origin": source.origin()},
            metrics=told,
            seconds=time.monotonic() - started,
        )
    return told
