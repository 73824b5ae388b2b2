"""`ingot artifacts`: what a run folder holds, whether it is still what it was, and clearing old versions."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import typer

from ingot.cli.options import Folder, Json, RunFolder, show_json, show_table
from ingot.cli.terminal import duration

if TYPE_CHECKING:
    from ingot.artifact import Artifact

app = typer.Typer(help="List, show, verify and prune what a run made.", rich_markup_mode=None)


@app.command("list")
def list_(folder: RunFolder, as_json: Json = False) -> None:
    """List everything published in a run folder.

    Example: ingot artifacts list runs/demo
    """
    found = _found(folder)
    if as_json:
        show_json([{"address": one.address} | dataclasses.asdict(one.record) for one in found])
        return
    rows = [[one.address, one.record.kind, duration(one.record.seconds), _origin(one)] for one in found]
    show_table(rows, ["artifact", "kind", "took", "made from"])
    for line in _under_way(folder):
        print(line)


@app.command()
def show(folder: Folder, as_json: Json = False) -> None:
    """Show the record of one artifact.

    Example: ingot artifacts show runs/demo/base@1
    """
    from ingot.artifact import read
    from ingot.config import write_yaml

    record = dataclasses.asdict(read(folder).record)
    if as_json:
        show_json(record)
    else:
        print(write_yaml(record), end="")


@app.command()
def verify(folder: Folder, as_json: Json = False) -> None:
    """Recompute every hash; silent where all is as it was, else names stage and file and exits with 1.

    Example: ingot artifacts verify runs/demo
    """
    from ingot.artifact import verify

    mismatches = verify(folder)
    if as_json:
        show_json([dataclasses.asdict(one) for one in mismatches])
    else:
        for one in mismatches:
            print(one)
    if mismatches:
        raise typer.Exit(1)


@app.command()
def prune(folder: RunFolder, as_json: Json = False) -> None:
    """Remove old versions that none of the newest was made from.

    Example: ingot artifacts prune runs/demo
    """
    from ingot.artifact import prune
    from ingot.lock import lock

    _found(folder)
    with lock(folder):
        removed = prune(folder)
    if as_json:
        show_json([path.name for path in removed])
    else:
        for path in removed:
            print(f"removed {path}")


def _found(folder: RunFolder) -> list[Artifact]:
    from ingot.artifact import artifacts
    from ingot.errors import ArtifactError

    found = artifacts(folder)
    if not found:
        raise ArtifactError("holds no artifacts", where=folder, fix="give a run folder such as runs/demo")
    return found


def _under_way(folder: RunFolder) -> list[str]:
    """What became of work that is not done, a line each."""
    from ingot.status import unfinished

    lines = []
    for name, found in unfinished(folder).items():
        step = f" after step {found['step']:,}" if "step" in found else ""
        why = f": {found['why']}" if found["status"] == "failed" and "why" in found else ""
        lines.append(f"{name.rpartition('-')[0]}: {found['status']}{step} ({found['at']}){why}")
    return lines


def _origin(one: Artifact) -> str:
    if one.record.left_out is not None:
        return f"left out: {one.record.left_out}"
    return ", ".join(parent["address"] for parent in one.record.parents.values())
