"""`ingot tokenizer compare|convert`: several tokenizers on one text, one tokenizer in several formats."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ingot.cli import tokens
from ingot.cli.options import Json, show_json, show_table
from ingot.cli.terminal import standard_progress

if TYPE_CHECKING:
    from ingot.tokenizer.measure import Fit, Premiums

Parallel = Annotated[
    Path | None,
    typer.Option(help="The same sentences by language: a table with tabs, languages in its first line."),
]
Replace = Annotated[bool, typer.Option("--replace", help="Write over what is there.")]

FORMATS = {
    "tokenizer.json": "huggingface",
    "tiktoken": "tiktoken",
    "gpt2": "gpt2",
    "sentencepiece": "sentencepiece",
}
"""What `--to` takes, and what `tokenizer.files` calls it."""


def compare(
    places: Annotated[list[Path], typer.Argument(metavar="A B [C]...", help="Tokenizers: folders or files.")],
    file: Annotated[
        list[str] | None, typer.Option("--file", metavar="PATH", help="Text to compare on; may be repeated.")
    ] = None,
    parallel: Parallel = None,
    base: Annotated[
        str | None, typer.Option(help="The language that others are compared with.  [default: the cheapest]")
    ] = None,
    width: Annotated[int, typer.Option(min=1, help="Of the model whose share of embeddings is told.")] = 768,
    layers: Annotated[int, typer.Option(min=1, help="Of that model.")] = 12,
    as_json: Json = False,
) -> None:
    """Compare tokenizers on the same text: length, evenness, cost to a model, premium by language.

    \b
    Example: ingot tokenizer compare mine code --file heldout.txt
             ingot tokenizer compare mine fair --parallel both.tsv --base en
    """
    from ingot.data.texts import Texts
    from ingot.errors import ConfigError
    from ingot.tokenizer import compare as comparing
    from ingot.tokenizer.parallel import read_parallel
    from ingot.tokenizer.tokenizer import Tokenizer

    if not file and parallel is None:
        raise ConfigError("there is nothing to compare on", where="compare", fix="give --file or --parallel")
    sentences = None if parallel is None else read_parallel(parallel)
    tokenizers = {tokens.short(place, places): Tokenizer.load(place) for place in places}
    if file:
        texts = list(Texts(file, standard_progress()))
    else:
        texts = [sentence for column in (sentences or {}).values() for sentence in column]
    rows = comparing.compare(tokenizers, texts, width=width, layers=layers, parallel=sentences, base=base)
    if as_json:
        show_json({"width": width, "layers": layers, "tokenizers": [row.plain() for row in rows]})
        return
    header = ["", "kind", "entries", *FIT, "embedding", "unknown", "lossless"]
    shown = [
        [
            row.name,
            row.kind,
            f"{row.fit.vocabulary:,}",
            *cells(row.fit),
            f"{row.embedding_share:.1%}",
            f"{row.unknown:,}",
            "yes" if row.lossless else "no",
        ]
        for row in rows
    ]
    print(f"{sum(len(text.encode()) for text in texts):,} bytes of text; ", end="")
    print(f"embedding: share of the weights of a decoder of width {width} with {layers} layers\n")
    show_table(shown, header)
    if sentences is not None:
        print()
        show_premiums({row.name: row.premiums for row in rows if row.premiums is not None})


def convert(
    place: Annotated[Path, typer.Argument(metavar="IN", help="A tokenizer: its folder or file.")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="A folder, or a file for tiktoken and sentencepiece.")
    ],
    to: Annotated[str, typer.Option("--to", help="tokenizer.json, tiktoken, gpt2 or sentencepiece.")],
    split: Annotated[
        str | None, typer.Option(help="Split of a format that does not hold it.  [default: by its name]")
    ] = None,
    special: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Control token behind tiktoken ranks; may be repeated."),
    ] = None,
    replace: Replace = False,
    as_json: Json = False,
) -> None:
    """Write a tokenizer in another format, and read it back to see that its ids are the same.

    \b
    Example: ingot tokenizer convert mine mine.tiktoken --to tiktoken
             ingot tokenizer convert gpt2/vocab.json gpt2-new --to tokenizer.json
    """
    from ingot.errors import ConfigError, did_you_mean
    from ingot.tokenizer import conversion, files
    from ingot.tokenizer.tokenizer import Tokenizer

    if to not in FORMATS:
        raise ConfigError(f"unknown format '{to}'", where="--to", fix=did_you_mean(to, FORMATS))
    free(
        out / "tokenizer.json" if to == "tokenizer.json" else out / "vocab.json" if to == "gpt2" else out,
        replace,
    )
    tokenizer = Tokenizer(files.load(place, split, special or ()))
    converted = conversion.convert(tokenizer, out, FORMATS[to])
    if as_json:
        show_json({"out": str(out), "format": to, "vocabulary": tokenizer.vocab_size, **converted.plain()})
        return
    print(f"{out}: {tokenizer.vocab_size:,} entries as {to}")
    print(f"  read back: the same ids for {converted.same} of {converted.probes} test texts")
    for lost in converted.lost:
        print(f"  not in this format: {lost}")


FIT = ["bytes per token", "tokens per word", "Renyi", "used"]
"""Names of the measures of a fit."""


def cells(fit: Fit) -> list[str]:
    """Returns the measures of a fit, in the order of `FIT`."""
    return [
        f"{fit.bytes_per_token:.3f}",
        f"{fit.fertility:.3f}",
        f"{fit.renyi_efficiency:.3f}",
        f"{fit.usage:.1%}",
    ]


def free(path: Path, replace: bool) -> None:
    """Refuses to write over what is there, unless that was asked for."""
    from ingot.errors import ConfigError

    if path.exists() and not replace:
        raise ConfigError("is there already", where=path, fix="choose another place, or --replace it")


def show_premiums(found: dict[str, Premiums]) -> None:
    """Prints how many times the tokens of its base each language takes, tokenizer by tokenizer."""
    names = list(next(iter(found.values())).by_language)
    header = ["premium", "base", *names, "median", "p90", "max", "worst/best"]
    rows = [
        [
            name,
            one.base,
            *(f"{one.by_language[language]:.2f}" for language in names),
            *(f"{value:.2f}" for value in (one.median, one.p90, one.max, one.spread)),
        ]
        for name, one in found.items()
    ]
    show_table(rows, header)
