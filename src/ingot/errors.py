"""Errors for people: what went wrong (with the value), where, and what to do about it.

Every mistake that a user can make and mend is an `IngotError`; the command line prints it as one
line and exits with 2. Anything else that escapes is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


class IngotError(Exception):
    """A mistake that its reader can mend.

    Args:
        what: what is wrong, with the offending value in it.
        where: the file, key or stage it was found in.
        fix: what to do about it, as an instruction.

    Example:
        >>> str(IngotError("context is 0", where="recipe demo.yaml: pretrain.context", fix="use 64 or more"))
        'recipe demo.yaml: pretrain.context: context is 0; use 64 or more'
    """

    exit_code = 2

    def __init__(self, what: str, *, where: object = None, fix: str | None = None) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.fix = fix
        super().__init__(what)

    def __str__(self) -> str:
        text = self.what if self.where is None else f"{self.where}: {self.what}"
        return text if self.fix is None else f"{text}; {self.fix}"


class ConfigError(IngotError):
    """A configuration key or value that cannot be used."""


class DataError(IngotError):
    """Text, tokens or examples that cannot be read or used."""


class ArtifactError(IngotError):
    """An artifact that is missing, damaged or not what its record says."""


class BusyError(IngotError):
    """Something that only one process may use is in use: a run folder, a port."""


class ResourceError(IngotError):
    """The machine lacks what the work needs: disk, memory, time, a compiler, a package."""


class RequestError(IngotError):
    """A generation request that cannot be served as it was asked."""


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Returns a fix that names the known word nearest to `wrong`, or lists them all.

    Example:
        >>> did_you_mean("contxt", ["context", "width"])
        "did you mean 'context'?"
    """
    names = sorted(known)
    near = difflib.get_close_matches(wrong, names, n=1, cutoff=0.6)
    return f"did you mean '{near[0]}'?" if near else "known: " + ", ".join(names)


def from_system(error: BaseException, where: object = None) -> IngotError | None:
    """Returns what a refusal of the operating system means to its reader; None for any other error.

    Args:
        error: what was raised; libraries that write files themselves often wrap the system's words.
        where: the place to name, where the error names none.

    Example:
        >>> str(from_system(PermissionError(13, "Permission denied", "/etc/ingot")))
        '/etc/ingot: no permission; choose a place that you may write to, or change its permissions'
    """
    place = getattr(error, "filename", None) or where
    number = getattr(error, "errno", None)
    full = "No space left on device" in str(error) or "Disk quota exceeded" in str(error)
    if full or number in (errno.ENOSPC, errno.EDQUOT):
        return ResourceError("the disk is full", where=where or place, fix="free some space and run it again")
    if not isinstance(error, OSError):
        return None
    if number in (errno.EACCES, errno.EPERM, errno.EROFS):
        fix = "choose a place that you may write to, or change its permissions"
        return ResourceError("no permission", where=place, fix=fix)
    if number == errno.ENOENT:
        return DataError("no such file or folder", where=place, fix="check the path")
    if number in (errno.ENOTDIR, errno.EEXIST):
        return DataError("is a file where a folder is needed", where=place, fix="choose another path")
    if number == errno.EISDIR:
        return DataError("is a folder where a file is needed", where=place, fix="choose another path")
    return None
