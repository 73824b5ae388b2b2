"""`ingot push` and `ingot pull`: a model folder to a hub, and back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ingot.cli.options import Folder, Json, Model, show_json

if TYPE_CHECKING:
    from ingot.record import Artifact

Repository = Annotated[str, typer.Argument(metavar="OWNER/NAME", help="A repository on the hub.")]


def push(
    folder: Folder,
    repository: Repository,
    public: Annotated[
        bool, typer.Option("--public", help="Let everybody see a repository that is made now.")
    ] = False,
    message: Annotated[str | None, typer.Option("--message", help="Of the commit.")] = None,
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Send a model to the Hugging Face hub, with a card made from its record.

    Example: ingot push runs/demo ada/low --model finetuned
    """
    from ingot.api import locate
    from ingot.export.hub import push as send

    source = locate(folder, model)
    pushed = send(source, repository, card_of(source), public, message)
    if as_json:
        show_json({"from": str(source)} | pushed._asdict())
        return
    print(f"{pushed.address}: {len(pushed.files)} files, commit {pushed.commit[:7]}")


def pull(
    repository: Repository,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make.")],
    revision: Annotated[
        str | None, typer.Option("--revision", help="A branch, tag or commit.  [default: the newest]")
    ] = None,
    as_json: Json = False,
) -> None:
    """Fetch a model from the Hugging Face hub: weights and texts, never code.

    Example: ingot pull ada/low models/low
    """
    from ingot.export.hub import pull as fetch

    pulled = fetch(repository, folder, revision)
    if as_json:
        show_json(pulled._asdict())
        return
    print(f"{pulled.folder}: {len(pulled.files)} files, commit {pulled.commit[:7]}")
    if pulled.left:
        print(f"  left there: {', '.join(pulled.left)}")


def card_of(folder: Path) -> str | None:
    """Returns the card to push with a model: made of its record, or None where its makers' own stays."""
    from ingot.export.hub import CARD
    from ingot.record import RECORD, read

    if not (folder / RECORD).is_file():
        return None
    artifact = read(folder)
    elsewhere = artifact.record.stage in ("import", "pull") and (folder / CARD).is_file()
    return None if elsewhere else _card(artifact)


def _card(artifact: Artifact) -> str:
    """The card of a model, with what its run measured where that can be found."""
    from ingot.record import artifacts
    from ingot.report.card import model_card

    run, evaluation = artifact.path.resolve().parent, None
    for one in artifacts(run) if artifact.path.resolve().name == artifact.address else []:
        measured = one.path / "evaluation.json"
        about = {parent["fingerprint"] for parent in one.record.parents.values()}
        if measured.is_file() and artifact.record.fingerprint in about:
            found: dict[str, Any] = json.loads(measured.read_text(encoding="utf-8"))
            evaluation = found
    return model_card(artifact, evaluation)
