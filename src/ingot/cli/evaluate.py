"""`ingot evaluate`: how well models predict text that they have not seen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from ingot.cli.options import Device, Folder, Json, Model, show_json, show_table
from ingot.cli.terminal import standard_progress


def evaluate(
    folder: Folder,
    text: Annotated[
        Path | None, typer.Option(help="Your text: a file or a folder.  [default: the run's held-out files]")
    ] = None,
    model: Model = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Measure bits per byte, of one model or of all in a run folder.

    Beside them stand `xz -9e` on the same text and, where the run's corpus is there, an n-gram model of it.

    Example: ingot evaluate runs/demo --text notes.md
    """
    from ingot.device import prepare_threads, resolve
    from ingot.evaluate.folder import evaluate_folder

    prepare_threads()
    texts, place = _texts(folder, text), resolve(device)
    models = _models(folder, model)
    found = {
        path.name: evaluate_folder(
            path, texts, place, standard_progress(), _learnt(folder) if path == models[0] else None
        )
        for path in models
    }
    if as_json:
        show_json(found)
        return
    facts = next(iter(found.values()))
    heldout, xz = facts["heldout"], facts["xz"]
    print(f"{heldout['documents']:,} documents, {heldout['bytes']:,} bytes; 95 % intervals over documents\n")
    rows = [_row(name, figures) for name, figures in found.items()]
    if facts["ngram"] is not None:
        rows.append([facts["ngram"]["name"], f"{facts['ngram']['bits_per_byte']:.4f}", "", ""])
    header = ["model", "bits per byte", "interval", "tokens per second"]
    show_table([*rows, [xz["command"], f"{xz['bits_per_byte']:.4f}", "", ""]], header)


def _row(name: str, figures: dict[str, Any]) -> list[str]:
    interval, speed = figures["bits_per_byte_interval"], figures["decode_tokens_per_second"]
    return [
        name,
        f"{figures['bits_per_byte']:.4f}",
        "" if interval is None else "{:.4f} to {:.4f}".format(*interval),
        "" if speed is None else f"{speed:,.0f}",
    ]


def _models(folder: Path, model: str | None) -> list[Path]:
    """The model asked for, or the newest of each that a run folder holds."""
    from ingot.api import locate
    from ingot.artifact import artifacts

    if model is not None or (folder / "config.json").exists():
        return [locate(folder, model)]
    newest = {
        one.name: one.path
        for one in artifacts(folder)
        if one.record.kind == "model" and one.record.left_out is None
    }
    return list(newest.values()) or [locate(folder)]


def _texts(folder: Path, text: Path | None) -> list[str]:
    from ingot.artifact import latest
    from ingot.data.corpus import read_documents
    from ingot.data.document import Document
    from ingot.data.sources import find, read
    from ingot.errors import DataError

    if text is not None:
        found = [
            one.text for source in find(text).sources for one in read(source) if isinstance(one, Document)
        ]
        kept = [one for one in found if one]
        if not kept:
            raise DataError("no text to evaluate on", where=text, fix="give a file of UTF-8 text")
        return kept
    corpus = latest(_run(folder), "corpus")
    if corpus is None:
        raise DataError("no held-out text beside this model", where=folder, fix="name some with --text FILE")
    return [one.text for one in read_documents(corpus.path, "heldout")]


def _learnt(folder: Path) -> Iterator[str] | None:
    """The training text of the run that the models are of, or None where it is not there."""
    from ingot.artifact import latest
    from ingot.data.corpus import iterate_documents

    corpus = latest(_run(folder), "corpus")
    return None if corpus is None else (one.text for one in iterate_documents(corpus.path, "train"))


def _run(folder: Path) -> Path:
    return folder.resolve().parent if (folder / "config.json").exists() else folder
