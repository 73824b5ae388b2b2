"""`ingot model extend|upcycle|deepen|stretch`: a model made of another one's weights."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ingot.cli.model import app
from ingot.cli.options import Folder, Json, Model, show_json

if TYPE_CHECKING:
    from ingot.export.surgery import Remade

Target = Annotated[Path | None, typer.Option("--out", help="The folder to make.  [default: DIR-VERB]")]


@app.command()
def extend(
    folder: Folder,
    word: Annotated[list[str] | None, typer.Option(help="A text to be one token, such as ' zebra'.")] = None,
    control: Annotated[list[str] | None, typer.Option(help="A control token, such as '<|tool|>'.")] = None,
    chat: Annotated[bool, typer.Option("--chat", help="The tokens and the template of a chat.")] = False,
    text: Annotated[Path | None, typer.Option(help="Learn merges from this file or folder.")] = None,
    entries: Annotated[int, typer.Option(help="How many, with --text.")] = 1000,
    multiple: Annotated[int, typer.Option(help="Fill up to a multiple of this, such as 64.")] = 1,
    start: Annotated[
        str, typer.Option(help="New rows: the mean of all rows, or of a word's pieces.")
    ] = "mean",
    out: Target = None,
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Add tokens to a model and its tokenizer; the old ones keep their ids and their logits.

    \b
    Example: ingot model extend models/low --chat --out models/low-chat
             ingot model extend models/low --word " zebra" --control "<|tool|>" --start pieces
    """
    from ingot.api import locate
    from ingot.errors import ConfigError, did_you_mean
    from ingot.export.surgery import remake
    from ingot.export.vocabulary import extended

    if start not in ("mean", "pieces"):
        fix = did_you_mean(start, ("mean", "pieces"))
        raise ConfigError(f"no way to start is called '{start}'", where="--start", fix=fix)
    if multiple < 1 or entries < 1:
        raise ConfigError("give 1 or more", where="--multiple, --entries")
    place = locate(folder, model)
    settings = {"words": word, "controls": control, "chat": chat, "start": start, "multiple": multiple}
    told = remake(
        place,
        out or Path(f"{place}-extended"),
        "extend",
        settings | ({"text": str(text), "entries": entries} if text else {}),
        lambda one, tokenizer: extended(
            one,
            tokenizer,
            words=word or (),
            controls=control or (),
            chat=chat,
            texts=None if text is None else _texts(text),
            entries=entries,
            multiple=multiple,
            start="mean" if start == "mean" else "pieces",
        ),
    )
    _show(told, as_json)


@app.command()
def upcycle(
    folder: Folder,
    experts: Annotated[int, typer.Option(help="Per layer.")] = 8,
    chosen: Annotated[int, typer.Option(help="That each token goes through.")] = 2,
    every: Annotated[int, typer.Option(help="1: all layers have experts; 2: every other.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the routers.")] = 0,
    out: Target = None,
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Make a mixture of experts of a dense model: it answers as before and has room to learn.

    Example: ingot model upcycle models/low --experts 8 --chosen 2 --out models/low-experts
    """
    from ingot.api import locate
    from ingot.errors import ConfigError
    from ingot.export.surgery import Made, remake
    from ingot.models.surgery.upcycling import upcycled

    if min(experts, chosen, every) < 1 or chosen > experts:
        what = f"{chosen} of {experts} experts in every {every}. layer"
        raise ConfigError(what, where="upcycle", fix="choose at least 1, and at most all")
    place = locate(folder, model)
    settings = {"experts": experts, "chosen": chosen, "every": every, "seed": seed}
    note = "All experts are alike at first: train it on, and they come apart."
    told = remake(
        place,
        out or Path(f"{place}-experts"),
        "upcycle",
        settings,
        lambda one, tokenizer: Made(upcycled(one, experts, chosen, every, seed), tokenizer, [note]),
    )
    _show(told, as_json)


@app.command()
def deepen(
    folder: Folder,
    layers: Annotated[int, typer.Option(help="To have in all.")],
    how: Annotated[
        str, typer.Option(help="identity: new layers add nothing yet; solar: the layers overlap twice.")
    ] = "identity",
    out: Target = None,
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Make a deeper model of copies of its layers, to train it on.

    Example: ingot model deepen models/low --layers 24 --out models/low-24
    """
    from ingot.api import locate
    from ingot.errors import ConfigError, did_you_mean
    from ingot.export.surgery import Made, remake
    from ingot.models.surgery.depth import deepened

    if how not in ("identity", "solar"):
        fix = did_you_mean(how, ("identity", "solar"))
        raise ConfigError(f"no way to deepen is called '{how}'", where="--how", fix=fix)
    place = locate(folder, model)
    silent = how == "identity"
    note = (
        "New layers add nothing yet."
        if silent
        else "It answers otherwise than before until it is trained on."
    )
    told = remake(
        place,
        out or Path(f"{place}-deeper"),
        "deepen",
        {"layers": layers, "how": how},
        lambda one, tokenizer: Made(
            deepened(one, layers, "identity" if silent else "solar"), tokenizer, [note]
        ),
    )
    _show(told, as_json)


@app.command()
def stretch(
    folder: Folder,
    context: Annotated[int, typer.Option(help="Tokens to see at once.")],
    method: Annotated[str, typer.Option(help="theta, linear or yarn.")] = "theta",
    out: Target = None,
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Give a model more positions, to train it on longer texts.

    Example: ingot model stretch models/low --context 8192 --method yarn --out models/low-8k
    """
    from ingot.api import locate
    from ingot.errors import ConfigError, did_you_mean
    from ingot.export.surgery import Made, remake
    from ingot.models.decoder import Decoder
    from ingot.models.surgery.context import METHODS, stretched

    if method not in METHODS:
        raise ConfigError(
            f"no method is called '{method}'", where="--method", fix=did_you_mean(method, METHODS)
        )
    place = locate(folder, model)

    def longer(one: Decoder) -> Decoder:
        made = Decoder(stretched(one.config, context, method))  # type: ignore[arg-type]
        made.to(one.embedding.weight).load_state_dict(one.state_dict())
        return made.eval()

    note = "Positions are stretched: it has to be trained on longer texts (pretrain.base)."
    told = remake(
        place,
        out or Path(f"{place}-{context}"),
        "stretch",
        {"context": context, "method": method},
        lambda one, tokenizer: Made(longer(one), tokenizer, [note]),
    )
    _show(told, as_json)


def _texts(place: Path) -> list[str]:
    from ingot.data.document import Document
    from ingot.data.sources import find, read
    from ingot.errors import DataError

    found = [one.text for source in find(place).sources for one in read(source) if isinstance(one, Document)]
    if not any(found):
        raise DataError("no text to learn from", where=place, fix="give a file of UTF-8 text")
    return found


def _show(told: Remade, as_json: bool) -> None:
    if as_json:
        show_json(told._asdict())
        return
    print(
        f"{told.folder}: {told.parameters:,} parameters, {told.layers} layers, vocabulary {told.vocabulary:,}"
    )
    print(f"  logits of the old tokens differ by {told.difference:.1e} at most")
    for note in told.notes:
        print(f"  {note}")
