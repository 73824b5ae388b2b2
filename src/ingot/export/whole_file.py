"""One file that has its name only when it is whole and on disk: what `atomic.publish` is for folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ingot.errors import ArtifactError


@contextmanager
def whole_file(final: Path) -> Iterator[Path]:
    """Yields a hidden path to write; it takes the name `final` only when it is whole and on disk.

    Args:
        final: a file that does not exist yet; its folder is made.

    Raises:
        ArtifactError: something already has that name.

    Example:
        >>> with whole_file(Path("model.gguf")) as aside:                   # doctest: +SKIP
        ...     aside.write_bytes(b"GGUF")
    """
    if final.exists():
        raise ArtifactError("exists already", where=final, fix="choose another name or remove it")
    final.parent.mkdir(parents=True, exist_ok=True)
    aside = final.with_name(f".{final.name}.tmp-{os.getpid()}")
    try:
        yield aside
        with open(aside, "rb") as file:
            os.fsync(file.fileno())
        os.replace(aside, final)
    finally:
        aside.unlink(missing_ok=True)
