"""Conversations from prose with headings: Markdown, reStructuredText, and HTML with its tags."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import NamedTuple

from ingot.data.conversations import (
    LONGEST_PROMPT,
    SHORTEST_SECTION,
    Example,
    make_example,
    sections_of,
    whole_paragraphs,
)
from ingot.data.document import Document
from ingot.data.mining.skipped import Skipped

_HEADING = re.compile(r"h[1-6]")
_BREAKS = re.compile(r"p|div|section|article|li|tr|table|ul|ol|dl|dt|dd|br|pre|blockquote|figure|hr")
_UNREAD = re.compile(r"script|style|template|noscript|nav|footer|head")
_HAS_TAGS = re.compile(r"<h[1-6][\s>]", re.IGNORECASE)


class Section(NamedTuple):
    """A heading, the line it stands on, and the text up to the next heading."""

    heading: str
    line: int
    text: str


def mine_sections(document: Document) -> Iterator[Example | Skipped]:
    """Finds sections under headings: the heading asks, the section answers.

    Of Markdown and reStructuredText these are the examples of `conversations.mine_headings`. HTML is read
    where its tags are still there; where a reader has made text of it, as Markdown.

    Yields:
        Examples, and every other section with the reason why it is none.
    """
    found = sections(document)
    if not found:
        return
    title = found[0].heading
    for one in found:
        source = f"{document.source}:{one.line}"
        text = whole_paragraphs(one.text)
        prompt = f'Write the section "{one.heading}" of "{title}".'
        if len(prompt) > LONGEST_PROMPT:
            yield Skipped(source, "heading too long")
        elif not one.text.strip():
            yield Skipped(source, "nothing between this heading and the next")
        elif len(text) < SHORTEST_SECTION:
            yield Skipped(source, "section too short, or its first paragraph too long")
        else:
            yield make_example(source, prompt, text, None)


def sections(document: Document) -> list[Section]:
    """Returns the sections of a document; none of a kind that has no headings."""
    if document.kind in ("html", "web") and _HAS_TAGS.search(document.text):
        return html_sections(document.text)
    kind = {"html": "markdown", "web": "markdown"}.get(document.kind, document.kind)
    if kind not in ("markdown", "rst"):
        return []
    lines = document.text.splitlines()
    return [Section(heading, line, text) for heading, line, _, text in sections_of(lines, kind)]


def html_sections(text: str) -> list[Section]:
    """Returns the headings of an HTML page and what stands under each, as paragraphs of text.

    Example:
        >>> html_sections("<h1>Bread</h1><p>Flour &amp; water.</p><script>x()</script>")
        [Section(heading='Bread', line=1, text='Flour & water.')]
    """
    reader = _Reader()
    reader.feed(text)
    reader.close()
    return reader.sections()


class _Reader(HTMLParser):
    """Collects headings and the text between them; markup that is never closed ends with the page."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._found: list[tuple[str, int, list[str]]] = []
        self._unread: list[str] = []
        self._in_heading = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if _UNREAD.fullmatch(tag):
            self._unread.append(tag)
        elif self._unread:
            return
        elif _HEADING.fullmatch(tag):
            self._in_heading = tag
            self._found.append(("", self.getpos()[0], []))
        elif self._found and _BREAKS.fullmatch(tag) and not self._in_heading:
            self._found[-1][2].append("\n\n- " if tag == "li" else "\n\n" if tag != "br" else "\n")

    def handle_endtag(self, tag: str) -> None:
        if self._unread:
            if tag in self._unread:
                del self._unread[self._unread.index(tag) :]
        elif tag == self._in_heading:
            self._in_heading = ""
        elif self._found and _BREAKS.fullmatch(tag):
            self._found[-1][2].append("\n\n")

    def handle_data(self, data: str) -> None:
        if self._unread or not self._found:
            return
        if self._in_heading:
            heading, line, parts = self._found[-1]
            self._found[-1] = (heading + data, line, parts)
        else:
            self._found[-1][2].append(re.sub(r"\s+", " ", data))

    def sections(self) -> list[Section]:
        """What was read, blanks put in order."""
        made = []
        for heading, line, parts in self._found:
            body = re.sub(r"[ \t]*\n[ \t]*", "\n", "".join(parts))
            body = re.sub(r"\n{3,}", "\n\n", re.sub(r"[ \t]{2,}", " ", body)).strip()
            made.append(Section(" ".join(heading.split()).rstrip("¶").strip(), line, body))
        return [one for one in made if one.heading]
