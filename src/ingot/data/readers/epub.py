"""Electronic books (epub): the chapters in reading order, as the book's own list says."""

from __future__ import annotations

import posixpath
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from ingot.data.document import Document, Dropped
from ingot.data.readers.guard import guarded, missing
from ingot.data.readers.markup import all_text, page_of
from ingot.data.readers.reading import Reading
from ingot.data.readers.source import Refused, Source
from ingot.data.readers.unpacked import check_zip

_CONTAINER, _ENCRYPTION = "META-INF/container.xml", "META-INF/encryption.xml"
_PAGES = ("application/xhtml+xml", "text/html", "application/x-dtbook+xml")


def read_epub(source: Source, reading: Reading) -> Iterator[Document | Dropped]:
    """Reads a book as one document, chapters parted by a blank line.

    Raises:
        Refused: damaged, encrypted, a zip bomb, or without text.
        ResourceError: lxml is not installed.
    """
    try:
        import lxml  # noqa: F401
    except ImportError:
        raise missing("lxml", source.path) from None
    check_zip(source.path, reading)
    text = guarded("epub", lambda: _book(source.path, reading))
    if not text:
        raise Refused("no text", "no chapter with text")
    yield Document(source.name, source.name, text, "epub", source.licence)


def _book(path: Path, reading: Reading) -> str:
    with zipfile.ZipFile(path) as book:
        locked = _locked(book)
        chapters = []
        for name in _spine(book):
            if name in locked:
                raise Refused("encrypted", f"{name} is locked")
            chapters.append(all_text(page_of(book.read(name), reading)))
    return "\n\n".join(chapter for chapter in chapters if chapter)


def _spine(book: zipfile.ZipFile) -> Iterator[str]:
    """Members of the book in reading order (EPUB 3.3, section 5.7)."""
    roots = _parse(book, _CONTAINER).iterfind(".//{*}rootfile")
    package = next((root.get("full-path") for root in roots if root.get("full-path")), None)
    if package is None:
        raise Refused("damaged", "epub: its container names no package")
    tree = _parse(book, package)
    folder = posixpath.dirname(package)
    pages = {
        item.get("id"): posixpath.normpath(posixpath.join(folder, unquote(item.get("href", ""))))
        for item in tree.iterfind("{*}manifest/{*}item")
        if item.get("media-type") in _PAGES
    }
    for reference in tree.iterfind("{*}spine/{*}itemref"):
        if reference.get("idref") in pages:
            yield pages[reference.get("idref")]


def _locked(book: zipfile.ZipFile) -> set[str]:
    """Members that are encrypted; fonts often are, and do not matter."""
    if _ENCRYPTION not in book.namelist():
        return set()
    references = _parse(book, _ENCRYPTION).iterfind(".//{*}CipherReference")
    return {unquote(reference.get("URI", "")) for reference in references}


def _parse(book: zipfile.ZipFile, name: str) -> Any:
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    return etree.fromstring(book.read(name), parser)
