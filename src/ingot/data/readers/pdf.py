"""PDF: the text of its pages; encrypted and scanned files are named as such."""

from __future__ import annotations

from collections.abc import Iterator

from ingot.data.document import Document, Dropped
from ingot.data.readers.guard import guarded, missing
from ingot.data.readers.reading import Reading
from ingot.data.readers.source import Refused, Source
from ingot.data.readers.unpacked import too_large, whole


def read_pdf(source: Source, reading: Reading) -> Iterator[Document | Dropped]:
    """Reads the text of all pages as one document, pages parted by a blank line.

    Raises:
        Refused: damaged, encrypted, scanned (pages without text), or too large.
        ResourceError: pypdf is not installed.
    """
    try:
        import pypdf  # noqa: F401
    except ImportError:
        raise missing("pypdf", source.path) from None
    data = whole(source.path, reading)
    text, pages = guarded("pypdf", lambda: _text(data, reading.max_document_bytes))
    if not text:
        raise Refused("no text", f"{pages:,} pages without text: scanned, or drawn")
    yield Document(source.name, source.name, text, "pdf", source.licence)


def _text(data: bytes, limit: int) -> tuple[str, int]:
    import io

    from pypdf import PdfReader

    reader = PdfReader(io.BytesIO(data), strict=False)
    if reader.is_encrypted and not reader.decrypt(""):
        raise Refused("encrypted", "opens with a password only")
    parts: list[str] = []
    size = pages = 0
    for page in reader.pages:
        pages += 1
        text = page.extract_text().strip()
        size += len(text)
        if size > limit:
            raise too_large(size, limit)
        if text:
            parts.append(text)
    return "\n\n".join(parts), pages
