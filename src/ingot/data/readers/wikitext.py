"""Wikitext to text: what a reader of the article would read, without boxes, notes and links.

Markup that nests is taken apart from the inside out by one pass with a stack, so that the work grows with
the length of the text whatever its depth.
"""

from __future__ import annotations

import html
import re

_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
_DROPPED = (
    "ref|gallery|math|chem|timeline|score|syntaxhighlight|source|imagemap|templatestyles|hiero|mapframe|graph"
)
_OPENING = re.compile(rf"<({_DROPPED})\b[^<>]*>", re.IGNORECASE)
_BREAK = re.compile(r"</?(?:br|p|div|tr|li|blockquote|poem|center)\b[^<>]*>", re.IGNORECASE)
_TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
_LINK = re.compile(r"\[(?:(?:https?|ftp):)?//[^\s\[\]]+[ \t]?([^\[\]\n]*)\]")
_MAGIC = re.compile(r"__[A-Z]{3,}__")
_QUOTES = re.compile(r"'{2,5}")
_BRACES = re.compile(r"\{\{|\}\}|\[\[|\]\]|\{\||\|\}(?!\})")
_PREFIX = re.compile(r"[ \t]*:?(?:[a-z][a-z-]{1,11}|[A-Za-zÀ-ž ]{2,24})[ \t]*:(?!//)")
_FILES = re.compile(
    r"[ \t]*(?:file|image|category|datei|bild|kategorie|fichier|catégorie|archivo|categoría)[ \t]*:", re.I
)

_DEEPEST = 40
"""Levels of nesting that are taken apart: MediaWiki's own limit for templates."""

_LAST = {
    "lang",
    "nowrap",
    "nobr",
    "small",
    "big",
    "transl",
    "transliteration",
    "abbr",
    "not a typo",
    "sic",
    "as written",
}
"""Templates that only say how their text is shown."""


def plain_text(markup: str) -> str:
    """Returns the readable text of an article.

    Args:
        markup: wikitext, balanced or not.

    Example:
        >>> plain_text("'''Oak''' is a [[tree|large tree]].<ref>Book</ref>{{stub}}")
        'Oak is a large tree.'
    """
    text = _without_elements(_COMMENT.sub("", markup))
    text = _LINK.sub(r"\1", _nested(text))
    text = _TAG.sub("", _BREAK.sub("\n", text))
    text = _QUOTES.sub("", _MAGIC.sub("", text))
    text = html.unescape(text).replace("\xa0", " ")
    text = re.sub(r"\([ ,;]*\)", "", text)  # what held nothing but a template
    text = re.sub(r"[ \t]+", " ", text)
    text = re.sub(r" ([,.;])", r"\1", text)
    text = "\n".join(_line(line) for line in text.split("\n"))
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def _line(line: str) -> str:
    """A line without the marks of headings, lists and rules."""
    line = line.strip()
    if len(line) > 2 and line[0] == line[-1] == "=":
        return f"\n{line.strip('=').strip()}\n"
    return "" if line.startswith("----") else line.lstrip("*#:;").lstrip()


def _without_elements(text: str) -> str:
    """Text without notes, formulas and programs; one that is never closed loses its opening mark only."""
    kept: list[str] = []
    unclosed: set[str] = set()
    at = 0
    while opening := _OPENING.search(text, at):
        kept.append(text[at : opening.start()])
        at = opening.end()
        name = opening[1].lower()
        if opening[0].endswith("/>") or name in unclosed:
            continue
        closing = re.compile(rf"</{name}\s*>", re.IGNORECASE).search(text, at)
        if closing is None:
            unclosed.add(name)
        else:
            at = closing.end()
    kept.append(text[at:])
    return "".join(kept)


def _nested(text: str) -> str:
    """Replaces templates, tables and links by what is shown of them."""
    open_marks: list[str] = []
    pieces: list[list[str]] = [[]]
    closes = {"}}": "{{", "]]": "[[", "|}": "{|"}
    at = 0
    for match in _BRACES.finditer(text):
        pieces[-1].append(text[at : match.start()])
        at = match.end()
        mark = match[0]
        if mark not in closes:
            if len(open_marks) < _DEEPEST:
                open_marks.append(mark)
                pieces.append([])
        elif closes[mark] in open_marks[-3:]:
            while True:  # what was opened inside and never closed is text
                opened = open_marks.pop()
                inner = "".join(pieces.pop())
                if opened == closes[mark]:
                    pieces[-1].append(_shown(opened, inner))
                    break
                pieces[-1].append(inner)
    pieces[-1].append(text[at:])
    while open_marks:  # never closed: a table or a template runs to the end, a link is its text
        opened, inner = open_marks.pop(), "".join(pieces.pop())
        pieces[-1].append(inner if opened == "[[" else "")
    return "".join(pieces[-1])


def _shown(mark: str, inner: str) -> str:
    if mark == "{|":
        return ""
    if mark == "[[":
        return _link(inner)
    name, *arguments = inner.split("|")
    name = name.strip().lower()
    values = [value.strip() for value in arguments if not re.match(r"\s*[\w -]+=", value)]
    if not values:
        return ""
    if name in _LAST or name.startswith("lang-"):
        return values[-1]
    if name in ("convert", "cvt") and len(values) >= 2:
        return f"{values[0]} {values[1]}"
    return ""


def _link(inner: str) -> str:
    if _FILES.match(inner):
        return ""
    target, bar, label = inner.partition("|")
    if bar:
        return label.rpartition("|")[2]
    if target.startswith(":"):
        return target[1:]
    if re.fullmatch(r"[a-z]{2,3}(-[a-z]+)?:[^ ].*", target) and _PREFIX.match(target):
        return ""  # to the article in another language
    return target.replace("_", " ")
