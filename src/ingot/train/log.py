"""The log of a run: one JSON line per step, cut back to the checkpoint when the run goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ingot.atomic import write_atomic


class MetricsLog:
    """Appends to and reads `metrics.jsonl`.

    Args:
        path: of the file; made when the first line is written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, line: dict[str, Any]) -> None:
        """Writes one line; numbers are kept exactly (repr), so that runs can be compared bit for bit."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """Returns all whole lines; one that a kill cut short is passed over."""
        lines = []
        if self.path.exists():
            for text in self.path.read_text(encoding="utf-8").splitlines():
                try:
                    lines.append(json.loads(text))
                except ValueError:
                    break
        return lines

    def cut(self, step: int) -> None:
        """Drops the lines after `step`: the run will write them again."""
        kept = [json.dumps(line) + "\n" for line in self.read() if line["step"] <= step]
        write_atomic(self.path, "".join(kept))
