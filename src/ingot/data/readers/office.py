"""Word documents (docx): paragraphs and tables, in their order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ingot.data.document import Document, Dropped
from ingot.data.readers.guard import guarded, missing
from ingot.data.readers.reading import Reading
from ingot.data.readers.source import Refused, Source
from ingot.data.readers.unpacked import check_zip


def read_docx(source: Source, reading: Reading) -> Iterator[Document | Dropped]:
    """Reads a Word document: a line per paragraph, headings apart, table rows with tabs between cells.

    Raises:
        Refused: damaged, a zip bomb, or without text.
        ResourceError: python-docx is not installed.
    """
    try:
        import docx
    except ImportError:
        raise missing("python-docx", source.path) from None
    check_zip(source.path, reading)
    path = str(source.path)
    text = guarded("python-docx", lambda: "\n".join(_blocks(docx.Document(path))).strip())
    if not text:
        raise Refused("no text", "no paragraph or table with text")
    yield Document(source.name, source.name, text, "docx", source.licence)


def _blocks(container: Any) -> Iterator[str]:
    """Lines of a document: what a table's cells hold is put on one line each row."""
    from docx.table import Table

    for block in container.iter_inner_content():
        if isinstance(block, Table):
            yield ""
            for row in block.rows:
                yield "\t".join(_cell(cell) for cell in _distinct(row.cells))
            yield ""
        elif (block.style is not None) and (block.style.name or "").startswith(("Heading", "Title")):
            yield from ("", block.text, "")
        elif block.text.strip():
            yield block.text


def _distinct(cells: Any) -> Iterator[Any]:
    """Cells of a row; merged ones come once per column that they span."""
    last = None
    for cell in cells:
        if cell._tc is not last:
            yield cell
        last = cell._tc


def _cell(cell: Any) -> str:
    return " ".join(cell.text.split())
