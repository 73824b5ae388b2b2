"""What it takes to do a run again: the machine, the versions, the commands; and the commands to go on."""

from __future__ import annotations

import shlex
from pathlib import Path

from ingot.report.facts import Facts
from ingot.report.words import number, size


def place(path: Path) -> str:
    """Returns a folder as the user would type it: relative where it lies below the working directory."""
    path = path.absolute()
    inside = path.is_relative_to(Path.cwd()) and path != Path.cwd()
    return str(path.relative_to(Path.cwd()) if inside else path)


def versions(facts: Facts) -> list[tuple[str, str]]:
    """Returns machine and versions as name and value, in the order a reader asks."""
    known = dict(facts.machine)
    rows = []
    for key in ("cpu", "cores", "threads", "gpu", "memory", "instruction_sets", "os", "python", "torch"):
        value = known.pop(key, None)
        if key == "memory" and number(value) is not None:
            value = size(float(value))
        if isinstance(value, list):
            value = ", ".join(map(str, value))
        if value:
            rows.append((key.replace("_", " "), str(value)))
    known.pop("ingot", None)
    rows += [(key.replace("_", " "), str(value)) for key, value in known.items() if value]
    revision = str(facts.code.get("revision") or "")[:12]
    changed = ", with changes that are not committed" if facts.code.get("changed") else ""
    rows.append(("ingot", f"{facts.code.get('ingot', '')} {revision}{changed}".strip()))
    if facts.seed is not None:
        rows.append(("seed", str(facts.seed)))
    return rows


def commands(facts: Facts) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Returns the commands to go on with, and those to repeat the run, each with what it does."""
    run = shlex.quote(place(facts.run))
    on = [
        (f"ingot chat {run}", "talk to the newest model in the terminal"),
        (f"ingot serve {run}", "serve it on this machine, with a chat page and an API in OpenAI’s shapes"),
    ]
    recipe = shlex.quote(place(facts.run / "recipe.yaml"))
    again = shlex.quote(place(facts.run) + "-again")
    repeat = [
        (f"ingot run {recipe} --out {again}", "make everything anew, with the same settings and seed"),
        (f"ingot artifacts verify {run}", "recompute every hash: nothing is printed where all is as it was"),
    ]
    return on, repeat
