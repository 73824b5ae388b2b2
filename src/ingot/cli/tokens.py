"""`ingot tokenizer encode|decode|inspect|view`: what a tokenizer makes of one text."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ingot.cli.options import Json, show_json, show_table

if TYPE_CHECKING:
    from ingot.tokenizer.overview import Overview
    from ingot.tokenizer.spans import Span

Place = Annotated[Path, typer.Argument(metavar="DIR|FILE", help="A tokenizer: its folder or file.")]
Text = Annotated[str | None, typer.Option("--text", help="The text itself.")]
File = Annotated[Path | None, typer.Option("--file", help="A file with the text; - is standard input.")]
Standard = Annotated[str | None, typer.Argument(metavar="[-]", help="Read the text from standard input.")]
Parse = Annotated[
    bool, typer.Option("--parse", help="Take names of control tokens in the text for those tokens.")
]

COLOURS = ("#fde0c2", "#d5e8d4", "#d3e4f3", "#e8dcf5", "#f8d7dd", "#efe6b8")
"""Backgrounds of neighbouring tokens, behind black letters."""

FEW_COLOURS = ("bright_yellow", "bright_green", "bright_cyan", "bright_magenta", "white")
"""The same for a terminal that has sixteen colours."""


def encode(
    place: Place,
    standard: Standard = None,
    text: Text = None,
    file: File = None,
    ids: Annotated[bool, typer.Option("--ids", help="Print the ids only, on one line.")] = False,
    parse: Parse = False,
    as_json: Json = False,
) -> None:
    """Print the tokens of a text: id, and what it stands for.

    \b
    Example: ingot tokenizer encode mine --text 'To be or not to be'
             ingot tokenizer encode mine --file poem.txt --ids
    """
    from ingot.tokenizer.spans import written
    from ingot.tokenizer.tokenizer import Tokenizer

    data = _given(standard, text, file)
    tokenizer = Tokenizer.load(place)
    if parse:
        found = tokenizer.encode(_as_text(data), specials="parse")
    elif _is_text(data):
        found = tokenizer.encode(data.decode())
    else:
        found = tokenizer.encode_bytes(data)
    if as_json:
        names = [tokenizer.token(token) for token in found]
        show_json({"bytes": len(data), "tokens": len(found), "ids": found, "names": names})
    elif ids:
        print(" ".join(map(str, found)))
    else:
        rows = [
            [str(token), written(tokenizer.token_bytes(token)) or tokenizer.token(token)] for token in found
        ]
        show_table([[token, f"|{shown}|"] for token, shown in rows], ["id", "text"])


def decode(
    place: Place,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="Ids; none reads them from standard input.")
    ] = None,
) -> None:
    """Write the text of ids to standard output, byte by byte.

    \b
    Example: ingot tokenizer decode mine 320 412 77
             ingot tokenizer encode mine --file a.txt --ids | ingot tokenizer decode mine > b.txt
    """
    from ingot.errors import DataError
    from ingot.tokenizer.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(place)
    words = ids or sys.stdin.read().replace(",", " ").split()
    wrong = next((w for w in words if not w.isdecimal() or int(w) >= tokenizer.vocab_size), None)
    if wrong is not None or not words:
        what = "there are no ids" if wrong is None else f"'{wrong[:40]}' is no id of this tokenizer"
        fix = f"give numbers from 0 to {tokenizer.vocab_size - 1}"
        raise DataError(what, where="decode", fix=fix)
    numbers = [int(word) for word in words]
    control = set(tokenizer.special.values())
    if tokenizer.byte_level and not control & set(numbers):
        sys.stdout.buffer.write(tokenizer.decode_bytes(numbers))
    else:
        sys.stdout.buffer.write(tokenizer.decode(numbers).encode("utf-8", errors="replace"))
    sys.stdout.flush()


def inspect(
    place: Place,
    standard: Standard = None,
    text: Text = None,
    file: File = None,
    parse: Parse = False,
    longest: Annotated[int, typer.Option(min=0, help="How many of the longest tokens to name.")] = 10,
    as_json: Json = False,
) -> None:
    """Say what a tokenizer is, or colour a text by its tokens.

    \b
    Example: ingot tokenizer inspect mine
             ingot tokenizer inspect mine --text 'Tokens are longer than one may think.'
    """
    from ingot.tokenizer.measure import measure
    from ingot.tokenizer.overview import overview
    from ingot.tokenizer.spans import spans
    from ingot.tokenizer.tokenizer import Tokenizer

    asked = standard is not None or text is not None or file is not None
    read = _as_text(_given(standard, text, file)) if asked else None
    tokenizer = Tokenizer.load(place)
    if read is None:
        told = overview(tokenizer, longest)
        show_json(told.plain()) if as_json else _show_overview(place, told)
        return
    found = spans(tokenizer, read, "parse" if parse else "text")
    fit = measure(tokenizer, [read])
    if as_json:
        show_json({"tokens": fit.tokens, "spans": [{"text": one.text, "ids": one.ids} for one in found]})
        return
    _show_spans(found)
    count = sum(len(one.ids) for one in found)
    print(f"\n{count:,} tokens, {fit.bytes:,} bytes, {fit.bytes_per_token:.2f} bytes per token")


def view(
    places: Annotated[
        list[Path], typer.Argument(metavar="DIR [DIR2]...", help="Tokenizers: folders or files.")
    ],
    text: Text = None,
    file: File = None,
    out: Annotated[Path, typer.Option("--out", help="The page to write.")] = Path("tokens.html"),
    characters: Annotated[int, typer.Option(min=1, help="Of the text to show at most.")] = 50_000,
    parse: Parse = False,
    as_json: Json = False,
) -> None:
    """Write one page that shows a text coloured by token, several tokenizers side by side.

    \b
    Example: ingot tokenizer view mine --text 'To be or not to be'
             ingot tokenizer view mine gpt2 --file poem.txt --out poem.html
    """
    from ingot.atomic import write_atomic
    from ingot.report.tokens import render
    from ingot.tokenizer.tokenizer import Tokenizer

    read = _as_text(_given(None, text, file))
    tokenizers = {short(place, places): Tokenizer.load(place) for place in places}
    name = "text" if file is None or str(file) == "-" else file.name
    page = render(tokenizers, read[:characters], name, len(read), "parse" if parse else "text")
    write_atomic(out, page)
    if as_json:
        show_json({"page": str(out), "bytes": len(page.encode()), "characters": len(read[:characters])})
        return
    left = f", the first {characters:,} of {len(read):,} characters" if characters < len(read) else ""
    print(f"{out}: {len(tokenizers)} tokenizer{'s' if len(tokenizers) > 1 else ''}{left}")


def short(place: Path, places: Sequence[Path]) -> str:
    """Returns the name of a tokenizer among others: its folder's or file's, or the path where two share it.

    Raises:
        ConfigError: the place is given twice.
    """
    from ingot.errors import ConfigError

    if places.count(place) > 1:
        raise ConfigError("is given twice", where=place, fix="name each tokenizer once")
    names = [one.resolve().name for one in places]
    name = place.resolve().name
    return name if names.count(name) == 1 else str(place)


def _given(standard: str | None, text: str | None, file: Path | None) -> bytes:
    """The text that a verb is about, as bytes."""
    from ingot.errors import ConfigError, DataError

    fix = "give --text TEXT, --file FILE, or - for standard input"
    if standard not in (None, "-"):
        raise ConfigError(f"'{standard}' is no option", where="text", fix=fix)
    given = [one for one in (standard, text, file) if one is not None]
    if len(given) != 1:
        what = "there is no text" if not given else "the text is given more than once"
        raise ConfigError(what, where="text", fix=fix)
    if text is not None:
        data = os.fsencode(text)
    elif standard == "-" or str(file) == "-":
        data = sys.stdin.buffer.read()
    else:
        data = Path(str(file)).read_bytes()
    if not data:
        raise DataError("the text is empty", where=file or "text", fix="give one character or more")
    return data


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _as_text(data: bytes) -> str:
    from ingot.errors import DataError

    if not _is_text(data):
        raise DataError(
            "the text is not UTF-8", where="text", fix="convert it, or encode its bytes with encode"
        )
    return data.decode()


def _show_overview(place: Path, told: Overview) -> None:
    print(f"{place}: {told.kind}, {told.vocabulary:,} entries\n")
    rows = [
        ["merges", f"{told.merges:,}" if told.merges else "none"],
        ["single bytes", f"{told.byte_tokens:,}" if told.byte_tokens else "none"],
        ["split", told.split],
        ["normaliser", told.normaliser],
        ["decoder", told.decoder],
        ["other added", f"{told.added:,}"],
        ["encoding", "in compiled code" if told.compiled else "in Python"],
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        print(f"{name:{width}}  {value}")
    if told.control:
        print()
        show_table(
            [[str(one.id), one.name, ", ".join(one.roles)] for one in told.control],
            ["id", "control token", "for"],
        )
    if told.longest:
        print()
        show_table([[str(token), f"|{text}|"] for token, text in told.longest], ["id", "longest tokens"])


def _show_spans(found: list[Span]) -> None:
    """A text by its tokens: coloured in a terminal, with bars between them elsewhere."""
    from ingot.tokenizer.spans import written

    shown = [(written(span.text).replace("\\n", "\\n\n").replace("\\\\", "\\"), span) for span in found]
    if not sys.stdout.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        print("\u2502".join(text for text, _ in shown))
        return
    from rich.console import Console
    from rich.text import Text as Coloured

    console = Console(highlight=False, soft_wrap=True)
    colours = FEW_COLOURS if console.color_system == "standard" else COLOURS
    line = Coloured()
    for place, (text, span) in enumerate(shown):
        style = f"black on {colours[place % len(colours)]}" if span.ids else "dim strike"
        line.append(text, style + (" underline" if len(span.ids) > 1 else ""))
    console.print(line)
