"""HTML: what a page declares it is encoded in, its main text, and all of its text."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from typing import Any

from ingot.data.document import Document, Dropped
from ingot.data.readers.guard import guarded, missing
from ingot.data.readers.reading import Reading
from ingot.data.readers.source import Refused, Source
from ingot.data.readers.unpacked import whole

_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]+)", re.IGNORECASE)
_XML_ENCODING = re.compile(rb"<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9_:.-]+)")
_HEAD = 4096

# The labels of the web: browsers read these as Windows-1252 (WHATWG Encoding standard, section 4.2).
_WESTERN = {"ascii", "iso8859-1", "latin-1"}

_BLOCKS = frozenset(
    [
        "address",
        "article",
        "aside",
        "blockquote",
        "body",
        "center",
        "dd",
        "details",
        "div",
        "dl",
        "dt",
        "fieldset",
        "figcaption",
        "figure",
        "footer",
        "form",
        "h1",
        "h2",
        "h3",
        "h4",
        "h5",
        "h6",
        "header",
        "hr",
        "html",
        "li",
        "main",
        "nav",
        "ol",
        "p",
        "pre",
        "section",
        "summary",
        "table",
        "tbody",
        "tfoot",
        "thead",
        "tr",
        "ul",
    ]
)
_APART = frozenset(["h1", "h2", "h3", "h4", "h5", "h6", "p", "pre", "blockquote", "ul", "ol", "dl", "table"])
_UNSEEN = frozenset(
    ["head", "script", "style", "template", "noscript", "title", "svg", "math", "object", "iframe"]
)


def read_html(source: Source, reading: Reading) -> Iterator[Document | Dropped]:
    """Reads the main text of a page: what is left without menus, banners and footers.

    Raises:
        Refused: too large, not in the encoding that it declares, or without text.
    """
    page = page_of(whole(source.path, reading), reading)
    text = main_text(page, source.path, precise=False)
    if text is None:
        raise Refused("no text", "trafilatura found no main text in this page")
    yield Document(source.name, source.name, text, "html", source.licence)


def page_of(data: bytes, reading: Reading, charset: str | None = None) -> str:
    """Returns a page's markup as text.

    Args:
        data: the page.
        reading: states what undeclared pages are in.
        charset: what the server declared; a byte order mark comes before it, the page's own word after.

    Raises:
        Refused: "encoding", where the bytes are not what was declared, or "binary".
    """
    for mark, name in (
        (codecs.BOM_UTF8, "utf-8-sig"),
        (codecs.BOM_UTF16_LE, "utf-16"),
        (codecs.BOM_UTF16_BE, "utf-16"),
    ):
        if data.startswith(mark):
            return _decoded(data, name)
    if (position := data.find(b"\0")) >= 0:
        raise Refused("binary", f"NUL byte at {position}")
    head = data[:_HEAD]
    declared = _CHARSET.search(head) or _XML_ENCODING.search(head)
    if charset is None and declared is not None:
        charset = declared[1].decode("ascii")
    if charset is not None:
        return _decoded(data, charset)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if reading.encoding is None:
            what = f"not utf-8 and declares nothing else ({error})"
            raise Refused("encoding", what) from None
    return _decoded(data, reading.encoding)


def _decoded(data: bytes, charset: str) -> str:
    try:
        name = codecs.lookup(charset).name
        return data.decode("cp1252" if name in _WESTERN else name)
    except (LookupError, UnicodeError) as error:
        raise Refused("encoding", f"declared as {charset}, which it is not ({error})") from None


def main_text(page: str, where: object, precise: bool) -> str | None:
    """Returns a page's main text, without menus and banners; None where there is none.

    Args:
        page: markup.
        where: the file, for an error.
        precise: leave out what is doubtful, as for pages of the open web; otherwise keep it.

    Raises:
        Refused: "damaged", where the library cannot read it.
        ResourceError: trafilatura is not installed.
    """
    try:
        import trafilatura
    except ImportError:
        raise missing("trafilatura", where) from None

    def extract() -> str | None:
        found: str | None = trafilatura.extract(
            page,
            include_comments=False,
            include_tables=True,
            deduplicate=False,
            favor_precision=precise,
            favor_recall=not precise,
        )
        return found

    return guarded("trafilatura", extract) or None


def all_text(markup: str) -> str:
    """Returns all text of a page that a reader would see, one line per block, without judging it.

    Args:
        markup: HTML or XHTML, well formed or not; entities that a DTD defines are not expanded.

    Raises:
        Refused: "damaged", where it cannot be parsed.
    """
    try:
        from lxml import etree, html
    except ImportError:
        raise missing("lxml", None) from None

    def parse() -> str:
        if not markup.strip():
            return ""
        parser = html.HTMLParser(huge_tree=False, no_network=True, encoding="utf-8")
        try:
            tree = etree.fromstring(markup.encode("utf-8", "replace"), parser)
        except etree.ParserError:
            return ""
        return "" if tree is None else _lines(tree)

    return guarded("lxml", parse)


def _lines(tree: Any) -> str:
    """Walks the tree without recursion, for it may be deep."""
    from lxml import etree

    text = _Text()
    unseen = preformatted = 0
    for event, element in etree.iterwalk(tree, events=("start", "end", "comment", "pi")):
        tag = element.tag
        if event == "start":
            unseen += tag in _UNSEEN
            preformatted += tag == "pre"
            if not unseen:
                text.edge(tag)
                text.add(element.text, preformatted)
            continue
        if event == "end":
            if not unseen and tag in _BLOCKS:
                text.edge(tag)
            unseen -= tag in _UNSEEN
            preformatted -= tag == "pre"
        if not unseen:
            text.add(element.tail, preformatted)
    return text.finished()


class _Text:
    """Text as it grows: blanks run together, blocks on lines of their own, cells parted by tabs."""

    def __init__(self) -> None:
        self._parts: list[str] = ["\n"]

    def edge(self, tag: str) -> None:
        if tag in _APART:
            self._parts.append("\n\n")
        elif tag == "br":
            self._parts.append("\n")
        elif not self._parts[-1].endswith("\n"):
            if tag in _BLOCKS:
                self._parts.append("\n")
            elif tag in ("td", "th"):
                self._parts.append("\t")

    def add(self, text: str | None, preformatted: int) -> None:
        if text and not preformatted:
            text = re.sub(r"\s+", " ", text)
            if self._parts[-1].endswith(("\n", "\t")):
                text = text.lstrip()
        if text:
            self._parts.append(text)

    def finished(self) -> str:
        lines = (line.rstrip() for line in "".join(self._parts).split("\n"))
        return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")
