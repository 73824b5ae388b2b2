"""The files of the chat page, by the path under which a browser asks for them."""

from __future__ import annotations

from importlib import resources
from typing import Final, NamedTuple

KINDS: Final = {"html": "text/html", "css": "text/css", "js": "text/javascript"}


class PageFile(NamedTuple):
    """One file of the page."""

    content: bytes
    kind: str  # media type


def page_files() -> dict[str, PageFile]:
    """Reads the page: `/` is its document, every other file stands beside it under its own name.

    Example:
        >>> page_files()["/"].kind
        'text/html'
    """
    folder = resources.files("ingot.serve").joinpath("page")
    found = {}
    for file in folder.iterdir():
        kind = KINDS.get(file.name.rpartition(".")[2])
        if kind is not None:
            path = "/" if file.name == "index.html" else f"/{file.name}"
            found[path] = PageFile(file.read_bytes(), kind)
    return found
