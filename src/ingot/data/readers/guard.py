"""The one place where any error of a library is taken as what it means: the file is damaged.

Parsers of other people's formats raise whatever hostile bytes lead them into (KeyError, AttributeError,
RecursionError, errors of their own), and one bad file must not end the reading of a million good ones.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

from ingot.data.readers.source import Refused, first_line
from ingot.errors import IngotError, ResourceError

T = TypeVar("T")


def guarded(library: str, call: Callable[[], T]) -> T:
    """Calls into a library; its warnings stay off the screen.

    Args:
        library: its name, for the ledger.
        call: what to do, without arguments.

    Raises:
        Refused: "damaged", with the library's name and words, whatever it raised.
    """
    try:
        with _quiet(library):
            return call()
    except (Refused, IngotError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise  # the system's
        raise Refused("damaged", f"{library}: {type(error).__name__}: {first_line(error)}") from None


def missing(package: str, where: object) -> ResourceError:
    """Returns the error for a package that reading this needs and that is not installed."""
    return ResourceError(f"the package '{package}' is missing", where=where, fix="pip install 'ingot[data]'")


@contextlib.contextmanager
def _quiet(library: str) -> Iterator[None]:
    logger = logging.getLogger(library)
    level = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        with contextlib.redirect_stderr(io.StringIO()):  # some print what they have to say
            yield
    finally:
        logger.setLevel(level)
