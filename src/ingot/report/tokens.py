"""The token viewer: one page that shows a text coloured by token, several tokenizers side by side.

Text and token names come from anywhere, so the template escapes all of them, and a content policy in the
page allows its own script and style and nothing else. Each span carries its bytes in hex, so that the text
can be had back from the page byte by byte, whatever the screen shows. Without the script the page still
shows everything but what points from one tokenizer to another.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from ingot.errors import DataError
from ingot.report.report import PAGE
from ingot.report.samples import visible
from ingot.tokenizer.measure import Fit, measure
from ingot.tokenizer.overview import kind_of, split_of
from ingot.tokenizer.spans import Span, spans, written
from ingot.tokenizer.tokenizer import Specials, Tokenizer

COLOURS = 6
"""Backgrounds that take turns, so that neighbours differ."""

_LONGEST_SPLIT = 40  # characters of a split pattern that the page shows


@dataclass(frozen=True)
class Column:
    """One tokenizer on the page.

    Args:
        name: for people.
        facts: kind, size and split, in a few words.
        fit: what encoding gave.
        width: of its bar, in percent of the longest.
        body: the text, span by span.
    """

    name: str
    facts: str
    fit: Fit
    width: float
    body: Markup


def render(
    tokenizers: Mapping[str, Tokenizer],
    text: str,
    name: str,
    whole: int | None = None,
    specials: Specials = "text",
) -> str:
    """Returns the page.

    Args:
        tokenizers: by the names to show.
        text: what they encode, or the beginning of it; without lone surrogates.
        name: of the text.
        whole: characters of the whole text, where `text` is its beginning.
        specials: whether names of control tokens in the text are text or tokens.

    Returns:
        A whole HTML document that refers to nothing outside itself.

    Raises:
        DataError: there is no text or no tokenizer.
    """
    if not text or not tokenizers:
        raise DataError("there is nothing to show", where="tokenizer view", fix="give a text and a tokenizer")
    style, script = ((PAGE / file).read_text(encoding="utf-8") for file in ("tokens.css", "tokens.js"))
    style = (PAGE / "report.css").read_text(encoding="utf-8") + style
    environment = Environment(
        loader=FileSystemLoader(PAGE), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    columns = _columns(tokenizers, text, specials)
    view: dict[str, Any] = {
        "policy": f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'",
        "style": Markup(style),
        "script": Markup(script),
        "name": visible(name),
        "columns": columns,
        "characters": f"{len(text):,}",
        "size": f"{len(text.encode()):,}",
        "left_out": f"{whole - len(text):,}" if whole is not None and whole > len(text) else "",
    }
    return environment.get_template("tokens.html").render(view)


def _columns(tokenizers: Mapping[str, Tokenizer], text: str, specials: Specials) -> list[Column]:
    found = {name: spans(tokenizer, text, specials) for name, tokenizer in tokenizers.items()}
    most = max(sum(len(span.ids) for span in one) for one in found.values()) or 1
    columns = []
    for name, tokenizer in tokenizers.items():
        fit = measure(_Encoded(tokenizer.vocab_size, found[name]), [text])
        split = split_of(tokenizer)
        facts = f"{kind_of(tokenizer)}, {tokenizer.vocab_size:,} entries"
        if len(split) <= _LONGEST_SPLIT and split != "none":
            facts += f", split {split}"
        width = round(100 * fit.tokens / most, 2)
        columns.append(Column(visible(name), facts, fit, width, _body(tokenizer, found[name])))
    return columns


class _Encoded:
    """An encoding that is there already, to be measured."""

    def __init__(self, vocab_size: int, found: list[Span]) -> None:
        self.vocab_size = vocab_size
        self._found = found

    def encode(self, text: str) -> list[int]:
        """Returns the ids that were found."""
        return [token for span in self._found for token in span.ids]


def _body(tokenizer: Tokenizer, found: list[Span]) -> Markup:
    """The spans as elements: colour, ids and bytes of each."""
    control = set(tokenizer.special.values())
    parts = []
    for place, span in enumerate(found):
        kinds = [f"c{place % COLOURS}"] if span.ids else ["lost" if span.text.strip() else "gap"]
        kinds += ["part"] if len(span.ids) > 1 else []
        kinds += ["control"] if control & set(span.ids) else []
        ids = " ".join(map(str, span.ids))
        tip = "\n".join(_told(tokenizer, token) for token in span.ids) or "in no token"
        parts.append(
            f'<span class="{" ".join(kinds)}" data-i="{ids}" data-h="{span.text.encode().hex()}" '
            f'title="{escape(visible(tip))}">{_drawn(span.text)}</span>'
        )
    return Markup("".join(parts))


def _told(tokenizer: Tokenizer, token: int) -> str:
    """One token in a line: id, bytes, name."""
    data = tokenizer.token_bytes(token)
    if not data:
        return f"{token}  control token {written(tokenizer.token(token))}"
    return f"{token}  {data.hex(' ')}  \u201c{written(data)}\u201d"


def _drawn(text: str) -> str:
    """A text for the screen: control characters as pictures, line ends and tabs with a mark."""
    shown = "".join(visible(character) if character != "\r" else "\u240d" for character in text)
    marked = str(escape(shown)).replace("\n", "<i>\u21b5</i>\n").replace("\t", "<i>\u2192</i>\t")
    return marked or "<i>\u2205</i>"


def _hash(text: str) -> str:
    """The digest by which a content policy knows a script or style."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
