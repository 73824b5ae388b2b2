"""`ingot tokenizer train`; `tokens` has the verbs that look at a text, `tokenizers` those on several."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ingot.cli import tokenizers, tokens
from ingot.cli.options import Json, show_json, show_table
from ingot.cli.terminal import standard_progress
from ingot.cli.tokenizers import FIT, Parallel, Replace, cells, free, show_premiums

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ingot.data.texts import Texts
    from ingot.tokenizer.counting import PieceCounts
    from ingot.tokenizer.measure import Premiums
    from ingot.tokenizer.tokenizer import Tokenizer
    from ingot.tokenizer.training import TokenizerConfig

app = typer.Typer(
    help="Train, look at, compare and convert tokenizers.\n\nExample: ingot tokenizer train notes --out mine",
    rich_markup_mode=None,
)
app.command()(tokens.encode)
app.command()(tokens.decode)
app.command()(tokens.inspect)
app.command()(tokens.view)
app.command()(tokenizers.compare)
app.command()(tokenizers.convert)


@app.command()
def train(
    data: Annotated[
        list[str] | None,
        typer.Argument(metavar="[DATA]...", help="Files, folders, globs or URLs to learn from."),
    ] = None,
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to write.")] = Path(
        "tokenizer"
    ),
    kind: Annotated[str, typer.Option(help="bpe (on bytes), characters, unigram or wordpiece.")] = "bpe",
    vocabulary: Annotated[int, typer.Option(min=1, help="Entries in all.")] = 8192,
    split: Annotated[
        str | None,
        typer.Option(
            help="gpt2, cl100k, o200k, llama3, qwen2, deepseek3, lines, or a regex.  [default: qwen2]"
        ),
    ] = None,
    digits: Annotated[
        str | None, typer.Option(help="Digits of a number in one token: 1, 1-2, 1-3 or free.")
    ] = None,
    normaliser: Annotated[
        str | None, typer.Option(help="none, nfc, nfkc, bert or bert_cased.  [default: by kind]")
    ] = None,
    special: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="One more control token; may be repeated.")
    ] = None,
    fair: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=PATH", help="A language and its text, in place of DATA; may be repeated."),
    ] = None,
    parallel: Parallel = None,
    memory_mb: Annotated[
        float | None, typer.Option(help="MB that counting may take; rare pieces go beyond.  [default: 1024]")
    ] = None,
    workers: Annotated[int | None, typer.Option(help="Processes that count.  [default: all cores]")] = None,
    min_frequency: Annotated[
        int | None, typer.Option(help="Pairs that are rarer are not merged.  [default: 2]")
    ] = None,
    replace: Replace = False,
    as_json: Json = False,
) -> None:
    """Learn a tokenizer from text, and say how well it fits.

    With --fair each merge goes to the language that is compressed worst (parity-aware BPE).

    \b
    Example: ingot tokenizer train notes --out mine --vocabulary 8192
             ingot tokenizer train src --out code --split gpt2 --digits 1-3 --special '<|tool|>'
             ingot tokenizer train --fair en=en.txt --fair hi=hi.txt --parallel both.tsv --out fair
    """
    from ingot.data.texts import Texts
    from ingot.tokenizer.counting import PieceCounts
    from ingot.tokenizer.parallel import read_parallel
    from ingot.tokenizer.tokenizer import Tokenizer
    from ingot.tokenizer.training import counted, learn_counted, room

    free(out / "tokenizer.json", replace)
    given = {
        "split": split,
        "digits": digits,
        "normaliser": normaliser,
        "memory_mb": memory_mb,
        "workers": workers,
        "min_frequency": min_frequency,
    }
    config = _config(kind, {key: value for key, value in given.items() if value is not None}, special or [])
    sentences = None if parallel is None else read_parallel(parallel)
    progress = standard_progress()
    languages = {
        name: Texts([path], progress, f"reading {name}") for name, path in _languages(fair or [], data or [])
    }
    texts = Texts(data, progress) if data else None
    left = room(vocabulary, config)
    steps, unit = (1, "") if kind == "unigram" else (left, "merges")
    chosen: list[str] | None = None
    if texts is not None:
        counts = [counted(texts, config)]
        with progress.task("learning the vocabulary", steps, unit) as task:
            tokenizer = Tokenizer(learn_counted(counts[0], vocabulary, config, task))
    else:
        from ingot.tokenizer.fair_training import count_fairly, learn_fairly

        spoken = count_fairly(languages, config, sentences)
        counts = [one.pieces for one in spoken.values() if isinstance(one.pieces, PieceCounts)]
        with progress.task("learning the vocabulary", steps, unit) as task:
            parts, learned = learn_fairly(spoken, vocabulary, config, task)
        tokenizer, chosen = Tokenizer(parts), learned.chosen
    tokenizer.save(out)
    read = [texts] if texts is not None else list(languages.values())
    _report(out, tokenizer, config, vocabulary, read, languages, sentences, chosen, _bound(counts), as_json)


def _config(kind: str, given: dict[str, Any], special: list[str]) -> TokenizerConfig:
    from ingot.errors import ConfigError
    from ingot.tokenizer.training import TokenizerConfig

    config = TokenizerConfig.parse({"kind": kind, **given}, where="tokenizer")
    idle = sorted({"split", "digits"} & given.keys()) if kind == "wordpiece" else []
    if idle:
        what = f"wordpiece cuts at blanks and signs, so --{idle[0]} has no effect"
        raise ConfigError(what, where="tokenizer", fix="leave it out")
    names = (*config.control_tokens, *special)
    config = TokenizerConfig.parse({"kind": kind, **given, "specials": names}, where="tokenizer")
    if kind != "wordpiece":
        _check_split(config)
    return config


def _check_split(config: TokenizerConfig) -> None:
    """Refuses a split that no engine can use before anything is read."""
    from ingot.errors import ConfigError
    from ingot.tokenizer.parts import Parts
    from ingot.tokenizer.reading import compiled
    from ingot.tokenizer.split import PATTERNS
    from ingot.tokenizer.tokenizer import Tokenizer

    if config.split not in PATTERNS:
        compiled(config.split, "--split")
    try:
        Tokenizer(Parts.of_merges([], config.pattern))
    except ValueError as error:
        what = f"{config.split!r} is not understood by the engine that encodes ({error})"
        raise ConfigError(what, where="--split", fix="write it without look-behind and the like") from None


def _languages(fair: list[str], data: list[str]) -> list[tuple[str, str]]:
    from ingot.errors import ConfigError

    if fair and data:
        fix = "name every text as --fair NAME=PATH"
        raise ConfigError("DATA and --fair do not go together", where="tokenizer train", fix=fix)
    if not fair and not data:
        fix = "give files or folders, or --fair NAME=PATH"
        raise ConfigError("there is nothing to learn from", where="tokenizer train", fix=fix)
    pairs = [tuple(one.split("=", 1)) for one in fair]
    wrong = next((one for one, pair in zip(fair, pairs, strict=True) if len(pair) < 2 or not all(pair)), None)
    if wrong is not None or len({pair[0] for pair in pairs}) < len(pairs):
        what = f"'{wrong}' is no NAME=PATH" if wrong is not None else "a language comes twice"
        raise ConfigError(what, where="--fair", fix="write it as --fair en=english.txt")
    return [(pair[0], pair[1]) for pair in pairs]


def _bound(counts: Sequence[PieceCounts]) -> dict[str, int]:
    """What the memory limit cost all counts together: the worst error, and the sums of the rest."""
    found = [one.bound for one in counts]
    return {
        "error": max(one["error"] for one in found),
        "dropped": sum(one["dropped"] for one in found),
        "prunings": sum(one["prunings"] for one in found),
    }


def _report(
    out: Path,
    tokenizer: Tokenizer,
    config: TokenizerConfig,
    wanted: int,
    read: list[Texts],
    languages: dict[str, Texts],
    sentences: dict[str, list[str]] | None,
    chosen: list[str] | None,
    bound: dict[str, int],
    as_json: bool,
) -> None:
    """Says what was made, and how well it fits a sample of what it was made from."""
    from collections import Counter

    from ingot.tokenizer.compare import plain_fit, plain_premiums
    from ingot.tokenizer.measure import characters_costs, measure, parallel_costs, premiums

    fit = measure(tokenizer, [text for one in read for text in one.sample])
    found: Premiums | None = None
    if sentences is not None:
        found = premiums(parallel_costs(tokenizer, sentences))
    elif languages:
        found = premiums(characters_costs(tokenizer, {name: one.sample for name, one in languages.items()}))
    dropped = sum((one.dropped for one in read), Counter[str]())
    documents, size = (sum(getattr(one, what) for one in read) for what in ("documents", "bytes"))
    if as_json:
        show_json(
            {
                "folder": str(out),
                "kind": config.kind,
                "vocabulary": tokenizer.vocab_size,
                "asked": wanted,
                "documents": documents,
                "bytes": size,
                "dropped": dict(dropped),
                "counting": bound,
                "sample": plain_fit(fit),
                "premiums": None if found is None else plain_premiums(found),
                "merges_by_language": None if chosen is None else dict(Counter(chosen)),
            }
        )
        return
    print(
        f"{out}: {tokenizer.vocab_size:,} entries ({config.kind}) "
        f"from {documents:,} documents, {size:,} bytes"
    )
    if tokenizer.vocab_size < wanted:
        print(f"  {wanted:,} were asked for; the text gives no more that occur often enough")
    for reason, number in dropped.most_common():
        print(f"  not read: {number:,} {reason}")
    if bound["prunings"]:
        lost = f"{bound['dropped']:,} rare pieces were dropped for want of memory"
        print(f"  counted in bounded memory: {lost}; no count is more than {bound['error']:,} too low")
    print(f"\non a sample of this text ({fit.bytes:,} bytes; other text will fit less well)")
    show_table([cells(fit)], FIT)
    if found is not None:
        print("\ntokens per sentence:" if sentences is not None else "\ntokens per character:")
        show_premiums({out.name: found})
    print(f"\n  look:   ingot tokenizer inspect {out} --text 'Some words of yours'")
