"""The corpus that is always there: the source code of the running interpreter's standard library.

About 10 MB of real text under a known licence (PSF-2.0). Left out: `site-packages`, which is somebody
else's; tests; the character tables of `encodings`; and files that a program wrote, by their first lines.
"""

from __future__ import annotations

import platform
import re
import sysconfig
from collections import Counter
from pathlib import Path

from ingot.data.sources import Found, Source
from ingot.errors import DataError

_FOREIGN = {"site-packages", "dist-packages", "test", "tests", "idle_test", "encodings", "__pycache__"}
_GENERATED = re.compile(
    r"auto-?generated|file is (automatically )?generated|configuration generated", re.IGNORECASE
)


def standard_library() -> Found:
    """Finds the standard library's own source files.

    Raises:
        DataError: this interpreter came without them.
    """
    root = Path(sysconfig.get_paths()["stdlib"])
    sources: list[Source] = []
    others: Counter[str] = Counter()
    for path in root.rglob("*.py"):
        inside = path.relative_to(root)
        if _FOREIGN.isdisjoint(inside.parts) and not inside.parts[0].startswith("config-"):
            if _is_generated(path):
                others["generated .py"] += 1
            else:
                sources.append(Source(path, inside.as_posix(), "PSF-2.0"))
    if not sources:
        what = "this Python came without the source of its standard library"
        raise DataError(what, where=root, fix="give a folder or file of your own with --data")
    return Found(sorted(sources, key=lambda source: source.name), others)


def library_name() -> str:
    """Returns what to call this corpus: results that are quoted say which Python it was."""
    return f"the standard library of {platform.python_implementation()} {platform.python_version()}"


def _is_generated(path: Path) -> bool:
    with open(path, encoding="utf-8", errors="replace") as file:
        return any(_GENERATED.search(file.readline(1000)) for _ in range(5))
