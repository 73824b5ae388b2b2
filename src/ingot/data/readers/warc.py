"""Web archives (WARC, and WET of Common Crawl): one document per page."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from ingot.data.document import Document, Dropped
from ingot.data.readers.guard import guarded, missing
from ingot.data.readers.markup import main_text, page_of
from ingot.data.readers.plain import decoded
from ingot.data.readers.reading import Reading
from ingot.data.readers.source import BrokenOff, Refused, Source
from ingot.data.readers.unpacked import opened, too_large

_STRUCTURE = ("warcinfo", "request", "metadata", "revisit", "continuation")
_PAGES = ("text/html", "application/xhtml+xml")


def read_warc(source: Source, reading: Reading) -> Iterator[Document | Dropped]:
    """Reads an archive record by record; ids are `name:number:URL`.

    Pages (`response`, `resource`) go through trafilatura, texts of `conversion` records are taken as they
    are. Requests, metadata, revisits and the archive's own head are no documents.

    Raises:
        Refused: the archive is damaged; what came before has been given.
        ResourceError: warcio or trafilatura is not installed.
    """
    try:
        from warcio.archiveiterator import ArchiveIterator
    except ImportError:
        raise missing("warcio", source.path) from None
    with opened(source.path, reading) as file:
        # warcio takes the stream unpacked: records are found by their lengths, and our limits hold.
        records = ArchiveIterator(_AsItComes(file))
        number = lost = 0
        while (record := guarded("warcio", lambda: next(records, None))) is not None:
            if records.err_count > lost:
                lost = records.err_count
                yield Dropped(
                    f"{source.name}:{number + 1}", "damaged", "warcio: bytes before it are in no record"
                )
            if record.rec_type in _STRUCTURE:
                continue
            number += 1
            url = record.rec_headers.get_header("WARC-Target-URI") or ""
            id = f"{source.name}:{number}:{url}"
            try:
                text = _text(record, reading, source)
            except BrokenOff:
                raise
            except Refused as refused:
                yield Dropped(id, refused.reason, refused.detail, refused.value, refused.threshold)
            else:
                yield Document(id, source.name, text, "web", source.licence)


class _AsItComes:
    """A stream that gives what it has: warcio takes an error for the end, and loses what came before it."""

    def __init__(self, file: io.BufferedReader) -> None:
        self.read, self.tell = file.read1, file.tell
        self._file = file


def _text(record: Any, reading: Reading, source: Source) -> str:
    if record.rec_type not in ("response", "resource", "conversion"):
        raise Refused("damaged", f"a record of type {record.rec_type}")
    declared, _, rest = _content_type(record).partition(";")
    kind = declared.strip().lower()
    status = record.http_headers.get_statuscode() if record.http_headers else "200"
    if status != "200":
        raise Refused("status", f"the server answered {status}")
    if kind not in (*_PAGES, "text/plain"):
        raise Refused("not text", f"a record of {kind or 'no content type'}")
    limit = reading.max_document_bytes
    data: bytes = guarded("warcio", lambda: _content(record, limit + 1))
    if len(data) > limit:
        raise too_large(len(data), limit)
    if kind == "text/plain":
        return decoded(data, reading)
    text = main_text(page_of(data, reading, _charset(rest)), source.path, precise=True)
    if text is None:
        raise Refused("no text", "trafilatura found no main text in this page")
    return text


def _content(record: Any, most: int) -> bytes:
    """The body without its transfer and content encodings, read in pieces so that a bomb stops early."""
    stream = record.content_stream()
    content = io.BytesIO()
    while content.tell() < most and (block := stream.read(min(2**16, most - content.tell()))):
        content.write(block)
    if content.tell() < most and record.raw_stream.limit > 0 and not record.raw_stream.read(1):
        raise BrokenOff("the archive ends inside of a record")
    return content.getvalue()


def _content_type(record: Any) -> str:
    """What the page is: a response says it in the headers of HTTP, others in those of WARC."""
    headers = record.http_headers if record.rec_type == "response" else record.rec_headers
    return (headers.get_header("Content-Type") or "") if headers else ""


def _charset(parameters: str) -> str | None:
    for parameter in parameters.split(";"):
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset" and value.strip(" \"'"):
            return value.strip(" \"'")
    return None
