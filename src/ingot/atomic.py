"""Writing that a kill cannot spoil: a file or a folder has its name only when it is whole and on disk."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ingot.errors import ArtifactError

_ASIDE = re.compile(r"\..+\.tmp-(?P<pid>[0-9]+)")


@contextmanager
def publish(final: Path | str) -> Iterator[Path]:
    """Yields a hidden folder to fill; it takes the name `final` only when it is whole and on disk.

    An error (or a kill) inside leaves nothing under the final name.

    Raises:
        ArtifactError: something already has that name.

    Example:
        >>> with publish(run / "corpus@1") as folder:                       # doctest: +SKIP
        ...     (folder / "counts.json").write_text("{}")
        ...     write_record(folder, kind="corpus", name="corpus")
    """
    final = Path(final)
    aside = _aside(final)
    _refuse_existing(final)
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        for path in sorted(aside.rglob("*"), reverse=True):
            _flush(path)
        _flush(aside)
        _refuse_existing(final)
        aside.rename(final)
        _flush(final.parent)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def write_atomic(path: Path, content: str | bytes) -> None:
    """Writes a file so that a kill leaves either the old content or the new one."""
    aside = path.with_name(f".{path.name}.tmp-{os.getpid()}")
    with open(aside, "wb") as file:
        file.write(content.encode("utf-8") if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)


def remove(folder: Path) -> None:
    """Removes a published folder: it loses its name at once, its files after that."""
    aside = _aside(folder)
    folder.rename(aside)
    shutil.rmtree(aside)


def sweep(run: Path) -> None:
    """Removes what killed publishes left behind; only the holder of the run's lock may call this."""
    for path in run.iterdir():
        match = _ASIDE.fullmatch(path.name)
        if match and (int(match["pid"]) == os.getpid() or not _alive(int(match["pid"]))):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _aside(final: Path) -> Path:
    return final.with_name(f".{final.name}.tmp-{os.getpid()}")


def _refuse_existing(final: Path) -> None:
    if final.exists():
        raise ArtifactError("exists already", where=final, fix="choose another name or remove it")


def _flush(path: Path) -> None:
    """Has the system write a file or a folder to disk; without it a power cut could undo the rename."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
