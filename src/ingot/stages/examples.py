"""Stage examples: a file of examples in, a checked and split one out."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from ingot.config import Config
from ingot.data.labelled.library import MOST, mine
from ingot.data.labelled.split import split
from ingot.data.labelled.tasks import TaskName, Values, read_examples
from ingot.data.library import library_name
from ingot.data.records.rows import read_rows, write_rows
from ingot.errors import DataError
from ingot.pipeline import Context
from ingot.record import file_hash
from ingot.stages.learning import spread

FEWEST = 4
"""Examples; with fewer nothing can be held out and learnt."""


class ExamplesConfig(Config):
    """Which examples, and of what.

    Args:
        task: classes, tags, answers, pairs or rewrites (docs/objectives.md says what a line holds).
        path: .jsonl, .json, .csv, .tsv or .conll; None finds examples in Python's standard library.
        heldout_path: a file of its own to measure on; None holds a share of the examples out.
        heldout: that share.
        columns: key of the task -> name in the file, where it goes by another.
        wrong: whether lines that are no examples are refused, or skipped and counted.
        most: examples at most, spread over the file; None is all.
    """

    task: TaskName
    path: str | None = None
    heldout_path: str | None = None
    heldout: float = Field(default=0.1, gt=0, lt=1)
    columns: dict[str, str] = Field(default_factory=dict)
    wrong: Literal["refuse", "skip"] = "refuse"
    most: int | None = Field(default=None, ge=FEWEST)


class Examples:
    """Writes `train.jsonl` and `heldout.jsonl`."""

    name = "examples"
    artifact = "examples"
    kind = "examples"
    needs: tuple[str, ...] = ()

    def __init__(self, config: ExamplesConfig) -> None:
        self.config = config

    def identity(self) -> dict[str, Any]:
        """The content of the files, or which library it is."""
        if self.config.path is None:
            return {"library": library_name()}
        paths = [Path(one) for one in (self.config.path, self.config.heldout_path) if one is not None]
        for path in paths:
            if not path.is_file():
                raise DataError("no such file", where=path, fix="give a file of examples")
        return {"files": [file_hash(path) for path in paths]}

    def run(self, context: Context) -> None:
        """Reads, checks and splits the examples.

        Raises:
            DataError: lines that are no examples, named by number; or too few of them.
        """
        config = self.config
        with context.progress.task("reading examples", total=1, unit="files") as task:
            found = self._read(config.path, context)
            task.advance(1, f"{len(found):,} examples")
        if config.most is not None and len(found) > config.most:
            context.notes.append(f"Of {len(found):,} examples {config.most:,} are used.")
            found = spread(found, config.most)
        if len(found) < FEWEST:
            raise DataError(
                f"{len(found)} examples are too few", where=config.path, fix=f"give {FEWEST} or more"
            )
        if config.heldout_path is None:
            train, heldout = split(found, config.heldout)
        else:
            train, heldout = found, self._read(config.heldout_path, context)
        if not train or not heldout:
            what = "all examples ask the same: none can be held out"
            raise DataError(what, where=config.path, fix="give different ones, or examples.heldout_path")
        write_rows(context.folder / "train.jsonl", train)
        write_rows(context.folder / "heldout.jsonl", heldout)
        context.metrics |= {"train": len(train), "heldout": len(heldout)}

    def _read(self, place: str | None, context: Context) -> list[Values]:
        config = self.config
        if place is None:
            context.notes.append(f"Examples were found in {library_name()}.")
            return mine(config.task, config.most or MOST)
        found, bad = read_examples(Path(place), config.task, config.columns, config.wrong)
        if bad:
            context.notes.append(f"Left out {len(bad):,} lines that are no examples, the first: {bad[0]}.")
            context.metrics["left_out_lines"] = len(bad)
        return found


def read_side(context: Context, side: Literal["train", "heldout"], task: TaskName) -> list[Values]:
    """Reads one side of what the stage made.

    Raises:
        DataError: the examples are of another task.
    """
    parent = context.parents["examples"]
    made_of = parent.record.config.get("task")
    if made_of != task:
        what = f"the examples are '{made_of}', this stage learns from '{task}'"
        raise DataError(what, where="examples.task", fix=f"set examples.task={task}")
    return [row.value for row in read_rows(parent.path / f"{side}.jsonl") if isinstance(row.value, dict)]
