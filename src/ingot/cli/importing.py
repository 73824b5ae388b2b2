"""`ingot import`: a model that somebody else made, as an artifact of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ingot.cli.options import Json, show_json

Source = Annotated[
    str, typer.Argument(metavar="DIR|OWNER/NAME", help="A Hugging Face folder, or a repository.")
]


def bring_in(
    source: Source,
    out: Annotated[
        Path | None,
        typer.Option(help="The folder to make, or a run folder to add it to.  [default: models/NAME]"),
    ] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Store weights as fp32, bf16 or fp16.  [default: as they are]")
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Compare logits with transformers.")] = False,
    online: Annotated[
        bool, typer.Option("--online", help="Fetch OWNER/NAME from the hub; nothing is fetched without it.")
    ] = False,
    revision: Annotated[
        str | None, typer.Option("--revision", help="A branch, tag or commit.  [default: the newest]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Take in somebody else's model: checked, in our format, ready to talk to, tune, shrink and serve.

    \b
    Example: ingot import ~/models/low
             ingot import ada/low --online --out models/low --check
    """
    from ingot.errors import ConfigError, did_you_mean
    from ingot.export.arrival import DTYPES
    from ingot.export.fetching import from_place

    if dtype is not None and dtype not in DTYPES:
        raise ConfigError(f"unknown number type '{dtype}'", where="--dtype", fix=did_you_mean(dtype, DTYPES))
    target = out or Path("models", source.rstrip("/").rpartition("/")[2])
    arrived = from_place(source, target, dtype=dtype, check=check, online=online, revision=revision)
    if as_json:
        show_json(arrived.plain())
        return
    sizes = ", ".join(f"{name} {value:,}" for name, value in arrived.sizes.items())
    print(f"{arrived.folder}: {arrived.family}, {arrived.parameters:,} parameters in {arrived.dtype}")
    print(f"  sizes      {sizes}")
    print(f"  tokenizer  {arrived.tokenizer}; chat template: {arrived.chat}")
    if arrived.difference is not None:
        print(f"  checked    logits differ by {arrived.difference:.1e} at most from transformers'")
    for note in arrived.notes:
        print(f"  note       {note}")
    talks = arrived.chat == "ChatML" and arrived.kind != "encoder_decoder"
    talk = f"chat {arrived.folder}" if talks else f'generate {arrived.folder} "Once"'
    if arrived.kind == "encoder":
        talk = f'embed {arrived.folder} --text "Once"'
    print(f"  try it     ingot {talk}")
