"""Wikipedia's XML dumps: one document per article, streamed."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from typing import Any

from ingot.data.document import Document, Dropped
from ingot.data.readers.guard import missing
from ingot.data.readers.reading import Reading
from ingot.data.readers.source import Refused, Source, first_line
from ingot.data.readers.unpacked import opened, too_large
from ingot.data.readers.wikitext import plain_text

_HEAD = 4096
_PROJECTS = re.compile(
    r"https?://[a-z0-9.-]+\.(wikipedia|wiktionary|wikibooks|wikisource|wikiversity|wikivoyage|wikiquote)\.org/"
)
_TERMS = "CC-BY-SA-4.0"  # of the text in all projects above, by the terms of use of their foundation


def read_wiki(source: Source, reading: Reading) -> Iterator[Document | Dropped]:
    """Reads a dump of MediaWiki, packed or not; ids are `name:Title`.

    Redirects, and pages outside the namespace of articles, are dropped by name. Entities are not expanded,
    and no DTD is loaded.

    Raises:
        Refused: damaged, or XML of another kind.
        ResourceError: lxml is not installed.
    """
    try:
        from lxml import etree
    except ImportError:
        raise missing("lxml", source.path) from None
    with opened(source.path, reading) as file:
        head = file.peek(_HEAD)[:_HEAD]
        if b"<mediawiki" not in head:
            raise Refused("no text", "XML that is no dump of MediaWiki")
        parser = etree.iterparse(
            _AsItComes(file),
            events=("end",),
            tag=("{*}page", "{*}siteinfo"),
            huge_tree=False,
            resolve_entities=False,
            no_network=True,
            load_dtd=False,
        )
        licence = source.licence
        try:
            for _, element in parser:
                if etree.QName(element).localname == "siteinfo":
                    base = element.findtext("{*}base") or ""
                    licence = _TERMS if _PROJECTS.match(base) else licence
                else:
                    yield _page(element, source, reading, licence)
                _forget(element)
        except etree.XMLSyntaxError as error:
            raise Refused("damaged", f"XML: {first_line(error)}") from None


class _AsItComes:
    """A stream that gives what it has, so that what came before an error is parsed."""

    def __init__(self, file: io.BufferedReader) -> None:
        self.read = file.read1


def _forget(element: Any) -> None:
    """Gives back the memory of what has been read: the tree would grow with the file."""
    element.clear(keep_tail=False)
    while element.getprevious() is not None:
        del element.getparent()[0]


def _page(page: Any, source: Source, reading: Reading, licence: str | None) -> Document | Dropped:
    title = page.findtext("{*}title") or ""
    id = f"{source.name}:{title}"
    namespace = page.findtext("{*}ns") or "0"
    if namespace != "0":
        return Dropped(id, "namespace", f"namespace {namespace} holds no articles")
    redirect = page.find("{*}redirect")
    if redirect is not None:
        return Dropped(id, "redirect", f"to {redirect.get('title', '')}")
    markup = page.findtext("{*}revision/{*}text") or ""
    if len(markup) > reading.max_document_bytes:
        refused = too_large(len(markup), reading.max_document_bytes)
        return Dropped(id, refused.reason, refused.detail, refused.value, refused.threshold)
    if re.match(r"\s*#redirect\b", markup, re.IGNORECASE):
        return Dropped(id, "redirect", "by its text")
    text = plain_text(markup)
    if not text:
        return Dropped(id, "no text", "nothing but templates and markup", text=markup[:1000])
    return Document(id, source.name, f"{title}\n\n{text}" if title else text, "wiki", licence)
