"""The log of a run: one JSON line per step, cut back to the checkpoint when the run goes on."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, TextIO

from ingot.atomic import write_atomic


class MetricsLog:
    """Appends to and reads `metrics.jsonl`.

    Args:
        path: of the file; made when the first line is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: TextIO | None = None

    def append(self, line: dict[str, Any]) -> None:
        """Writes one line; numbers are kept exactly (repr), so that runs can be compared bit for bit.

        Whoever reads the file sees the line at once; the disk may get it later (`flush`).
        """
        if self._file is None:
            self._file = open(self.path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115
        self._file.write(as_text(line))

    def flush(self) -> None:
        """Has the lines so far written to disk: a checkpoint must not outlive them."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Lets go of the file; the next line opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self) -> list[dict[str, Any]]:
        """Returns all whole lines; one that a kill cut short is passed over."""
        lines = []
        if self.path.exists():
            for text in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    lines.append(_known(json.loads(text)))
                except ValueError:
                    break
        return lines

    def cut(self, step: int) -> list[dict[str, Any]]:
        """Drops the lines after `step`, which the run will write again, and returns them."""
        self.close()
        lines = self.read()
        kept = [as_text(line) for line in lines if line["step"] <= step]
        write_atomic(self.path, "".join(kept))
        return [line for line in lines if line["step"] > step]


def as_text(line: dict[str, Any]) -> str:
    """Returns a line as the file has it.

    A number that is not finite is `null` there, since JSON knows no NaN, and what nobody knows is left out.

    Example:
        >>> as_text({"step": 1, "loss": float("nan"), "mfu": None})
        '{"step": 1, "loss": null}\\n'
    """
    known = {name: value for name, value in line.items() if value is not None}
    return json.dumps({name: None if _no_number(value) else value for name, value in known.items()}) + "\n"


def _known(line: dict[str, Any]) -> dict[str, Any]:
    """A line of the file as it was written."""
    return {name: math.nan if value is None else value for name, value in line.items()}


def _no_number(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def in_words(line: dict[str, Any]) -> str:
    """Returns the numbers of a line that matter while watching."""
    words = [f"loss {line['loss']:.3f}"]
    words += [f"{name} {line[name]:.2f}" for name in ("reward", "success") if name in line]
    if line["seconds"] > 0:
        words.append(f"{line['tokens'] / line['seconds']:,.0f} tokens/s")
    return "  ".join(words)
