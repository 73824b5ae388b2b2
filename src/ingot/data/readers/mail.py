"""Mail: mbox archives and single messages; the subject and the text, without addresses and attachments."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from email.header import decode_header, make_header
from email.message import Message
from typing import BinaryIO

from ingot.data.document import Document, Dropped
from ingot.data.readers.guard import guarded
from ingot.data.readers.markup import all_text
from ingot.data.readers.plain import decoded
from ingot.data.readers.reading import Reading
from ingot.data.readers.source import Refused, Source
from ingot.data.readers.unpacked import opened, too_large, whole


def read_mbox(source: Source, reading: Reading) -> Iterator[Document | Dropped]:
    """Reads an mbox archive (RFC 4155) message by message; ids are `name:number`.

    Raises:
        Refused: it does not begin like an mbox.
    """
    with opened(source.path, reading) as file:
        for number, message in enumerate(_messages(file, reading.max_document_bytes), start=1):
            id = f"{source.name}:{number}"
            try:
                if isinstance(message, Refused):
                    raise message
                text = guarded("email", lambda message=message: _text(message, reading))  # type: ignore[misc]
            except Refused as refused:
                yield Dropped(id, refused.reason, refused.detail, refused.value, refused.threshold)
            else:
                yield Document(id, source.name, text, "mail", source.licence)


def read_message(source: Source, reading: Reading) -> Iterator[Document | Dropped]:
    """Reads a file that holds one message.

    Raises:
        Refused: damaged, too large, or without text.
    """
    data = whole(source.path, reading)
    text = guarded("email", lambda: _text(data, reading))
    yield Document(source.name, source.name, text, "mail", source.licence)


def _messages(file: BinaryIO, limit: int) -> Iterator[bytes | Refused]:
    """Messages begin at a line 'From ' after a blank one (or at the start)."""
    lines: list[bytes] = []
    size = 0
    begun, blank = False, True
    while line := file.readline(limit + 1):
        if blank and line.startswith(b"From "):
            if begun:
                yield too_large(size, limit) if size > limit else b"".join(lines)
            lines, size, begun = [], 0, True
        elif not begun and line.strip():
            raise Refused("damaged", "does not begin with 'From ', as an mbox does")
        else:
            size += len(line)
            if size <= limit:
                lines.append(
                    line[1:] if line.lstrip(b">").startswith(b"From ") and line[:1] == b">" else line
                )
            else:
                lines = []
        blank = line in (b"\n", b"\r\n")
    if begun:
        yield too_large(size, limit) if size > limit else b"".join(lines)


def _text(data: bytes, reading: Reading) -> str:
    message = email.message_from_bytes(data, policy=email.policy.compat32)
    body = _body(message, reading)
    subject = " ".join(str(make_header(decode_header(message.get("Subject", "")))).split())
    text = "\n\n".join(part for part in (f"Subject: {subject}" if subject else "", body) if part)
    if not body:
        raise Refused("no text", "a message without a part of text")
    return text


def _body(message: Message, reading: Reading) -> str:
    """The first plain text of each branch, and HTML only where there is none."""
    plain: list[str] = []
    pages: list[str] = []
    for part in message.walk():
        kind = part.get_content_type()
        if kind not in ("text/plain", "text/html") or part.get_filename():
            continue
        payload = part.get_payload(decode=True)
        if not isinstance(payload, bytes):
            continue
        text = _decoded(payload, part.get_content_charset(), reading)
        if kind == "text/plain":
            plain.append(text.replace("\r\n", "\n").strip())
        else:
            pages.append(all_text(text))
    return "\n\n".join(part for part in plain or pages if part)


def _decoded(payload: bytes, charset: str | None, reading: Reading) -> str:
    if charset is None:
        return decoded(payload, reading)
    try:
        return payload.decode("utf-8" if charset == "us-ascii" else charset)
    except (LookupError, UnicodeDecodeError) as error:
        raise Refused("encoding", f"declared as {charset}, which it is not ({error})") from None
