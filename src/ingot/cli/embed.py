"""`ingot embed`: vectors of texts, or texts ranked by how well they answer a query."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from ingot.cli.options import Device, Folder, Model


def embed(
    folder: Folder,
    text: Annotated[list[str] | None, typer.Option("--text", help="A text; may be given again.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="A file with one text per line; - reads standard input.")
    ] = None,
    query: Annotated[
        str | None, typer.Option("--query", help="Rank the texts by how well they go with this one.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the vectors to this .npy file instead of printing.")
    ] = None,
    pooling: Annotated[
        str | None,
        typer.Option(help="mean, first or last.  [default: what the folder says; decoders need it]"),
    ] = None,
    cut: Annotated[bool, typer.Option("--cut", help="Cut texts that are too long, at their ends.")] = False,
    model: Model = None,
    device: Device = "auto",
) -> None:
    """Make a vector of each text, printed as JSON lines; or rank texts for a query.

    \b
    Example: ingot embed runs/embed --text "a small dog" --text "a little dog"
             ingot embed runs/embed --file passages.txt --query "which dogs are small?"
    """
    from ingot.device import prepare_threads, resolve
    from ingot.errors import ConfigError
    from ingot.inference.embedding import Embedder
    from ingot.inference.locate import locate

    if query is not None and out is not None:
        raise ConfigError("a ranking has no vectors", where="--out", fix="leave out --query or --out")
    texts = [*(text or []), *(_lines(file) if file is not None else [])]
    if not texts:
        raise ConfigError("no texts", where="ingot embed", fix="give --text or --file")
    prepare_threads()
    embedder = Embedder(locate(folder, model), device=resolve(device), pooling=pooling)
    if query is not None:
        scores = embedder.score([(query, one) for one in texts], cut=cut).tolist()
        for score, one in sorted(zip(scores, texts, strict=True), key=lambda pair: -pair[0]):
            print(json.dumps({"text": one, "score": round(score, 6)}, ensure_ascii=False))
        return
    vectors = embedder.embed(texts, cut=cut)
    if out is None:
        for one, vector in zip(texts, vectors.tolist(), strict=True):
            print(json.dumps({"text": one, "vector": vector}, ensure_ascii=False))
        return
    _save(out, vectors.numpy())
    print(f"{out}: {len(texts):,} vectors of {embedder.width} numbers, float32")


def _lines(file: Path) -> list[str]:
    """The texts of a file, without empty lines."""
    from ingot.errors import DataError

    try:
        whole = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise DataError("is no text in UTF-8", where=file, fix="convert it") from None
    return [line for line in whole.splitlines() if line.strip()]


def _save(out: Path, vectors: object) -> None:
    """Writes the array; the file has its name only when it is whole."""
    import io

    import numpy as np

    from ingot.atomic import write_atomic

    content = io.BytesIO()
    np.save(content, np.asarray(vectors), allow_pickle=False)
    write_atomic(out, content.getvalue())
