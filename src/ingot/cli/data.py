"""`ingot data`: prepare a corpus, look at it, find where a document came from, take a source out again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ingot.cli import atlas, label, records
from ingot.cli.options import Changes, Json, Out, RecipeName, RunFolder, show_json, show_table
from ingot.cli.terminal import standard_progress

if TYPE_CHECKING:
    from ingot.data.diversity import Spread
    from ingot.data.ledger import Rule

app = typer.Typer(
    help="Prepare, inspect and trace the text that models are made from.\n\n"
    "Example: ingot data prepare own_corpus data=~/notes",
    rich_markup_mode=None,
)

Corpus = Annotated[Path, typer.Argument(metavar="DIR", help="A run folder (runs/demo) or a corpus in one.")]

_SHOWN = 8


@app.command()
def prepare(
    recipe: RecipeName,
    changes: Changes = None,
    out: Out = None,
    quick: Annotated[bool, typer.Option("--quick", help="The recipe's smallest setting.")] = False,
    as_json: Json = False,
) -> None:
    """Make a recipe's corpus and stop there; started again after a kill, it goes on where it was.

    \b
    Example: ingot data prepare own_corpus data=~/notes --out runs/notes
             ingot data prepare own_corpus data=~/crawl prepare.cleaning=web prepare.workers=8
    """
    from ingot import recipes

    loaded = recipes.load(recipe, changes or (), quick).up_to("prepare")
    folder = Path("runs", loaded.name) if out is None else out
    (made,) = recipes.run(loaded, folder, standard_progress())  # without torch, which takes memory and time
    if as_json:
        show_json({"folder": str(folder), "address": made.address, **made.record.metrics})
        return
    print(f"{folder / made.address} is ready")
    for note in made.record.notes:
        print(f"  {note}")
    print(f"  look:   ingot data inspect {folder}")


@app.command()
def inspect(
    folder: Corpus,
    rule: Annotated[str | None, typer.Option(help="Only this rule, or all that begin with it.")] = None,
    samples: Annotated[int, typer.Option(min=0, help="Dropped documents to show of each rule.")] = 2,
    against: Annotated[
        Path | None, typer.Option(help="Another corpus to compare with; else train with held-out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what a corpus holds, how it is spread, and what each rule dropped, with samples.

    \b
    Example: ingot data inspect runs/notes
             ingot data inspect runs/notes --rule gopher --samples 5
             ingot data inspect runs/notes --against runs/older
    """
    from ingot.data.corpus import read_counts
    from ingot.data.diversity import skews, spread
    from ingot.data.ledger import rules

    corpus = _corpus(folder)
    counts = read_counts(corpus)
    told = rules(corpus, samples, rule)
    if rule is not None:
        show_json([one.plain() for one in told]) if as_json else _show_rules(told)
        return
    whole = spread(corpus)
    if against is None:
        # Which files are held out is chance; what they are of should not be.
        found = skews(spread(corpus, ["train"]), spread(corpus, ["heldout"]), ("language", "kind", "length"))
        compared = "train and held-out"
    else:
        found = skews(whole, spread(_corpus(against)))
        compared = f"{folder} and {against}"
    if as_json:
        show_json(
            {
                "corpus": str(corpus),
                "counts": counts,
                "duplicate_rate": _duplicate_rate(counts),
                "spread": whole.plain(),
                "compared": compared,
                "skews": [one._asdict() for one in found],
                "rules": [one.plain() for one in told],
            }
        )
        return
    _show_counts(corpus, counts)
    _show_spread(whole)
    print(f"\n{compared}: " + ("no skew beyond chance" if not found else ""))
    for one in found:
        print(f"  {one.words()}")
    _show_rules(told)


@app.command()
def trace(
    folder: RunFolder,
    what: Annotated[
        str | None,
        typer.Argument(metavar="[DOCUMENT|@TOKEN]", help="A training document's number, or @ and a token's."),
    ] = None,
    sample: Annotated[
        int | None, typer.Option(metavar="ID", help="A sample of the pretraining, by its id in the log.")
    ] = None,
    step: Annotated[int | None, typer.Option(metavar="N", help="All samples of a step, from 1 on.")] = None,
    salt: Annotated[int, typer.Option(min=0, help="Rollbacks before that sample or step.")] = 0,
    as_json: Json = False,
) -> None:
    """Say where a training document, a token of the shards or a training sample came from.

    \b
    Example: ingot data trace runs/demo 41
             ingot data trace runs/demo @1234567
             ingot data trace runs/demo --sample 4711
             ingot data trace runs/demo --step 20
    """
    from ingot.errors import ConfigError

    if sum(one is not None for one in (what, sample, step)) != 1:
        fix = "give a document's number, @ and a token's, --sample ID or --step N"
        raise ConfigError("one thing can be traced at a time", where="trace", fix=fix)
    if what is not None:
        _trace_document(folder, what, as_json)
    else:
        _trace_samples(folder, sample, step, salt, as_json)


def _trace_document(folder: Path, what: str, as_json: bool) -> None:
    from ingot.data.ledger import excerpt
    from ingot.data.lineage import described, find
    from ingot.errors import ConfigError

    number = what.removeprefix("@")
    if not number.isdecimal():
        fix = "give a number such as 41, or @41 for a token"
        raise ConfigError(f"'{what}' is no document and no token", where="trace", fix=fix)
    traced = find(folder, int(number), token=what.startswith("@"))
    if as_json:
        show_json(described(traced) | {"excerpt": excerpt(traced.location.document.text)})
        return
    for key, value in described(traced).items():
        print(f"{key:9} {'unknown' if value is None else value}")
    print(f"text      {excerpt(traced.location.document.text)}")


def _trace_samples(folder: Path, sample: int | None, step: int | None, salt: int, as_json: bool) -> None:
    from ingot.data.ledger import excerpt
    from ingot.stages.samples import Samples

    samples = Samples(folder)
    ids = [sample] if sample is not None else samples.of_step(step or 0, salt)
    found = [samples.trace(one, salt).plain() for one in ids]
    if as_json:
        show_json(found[0] if sample is not None else {"step": step, "salt": salt, "samples": found})
        return
    for one in found:
        print(f"sample {one['sample']}: {one['tokens']:,} tokens")
        for part in one["documents"]:
            place = f"document {part['document']}, tokens {part['first_token']:,} to {part['end_token']:,}"
            print(f"  {part['source']} (licence {part['licence'] or 'unknown'}): {part['id']}, {place}")
            print(f"    {excerpt(part['text'])}")


@app.command()
def remove(
    folder: RunFolder,
    source: Annotated[list[str], typer.Option(help="A source's path, a folder of them, or a glob.")],
    as_json: Json = False,
) -> None:
    """Write a run's corpus again without a source, and say which artifacts are now stale.

    Example: ingot data remove runs/notes --source wiki --source 'mail/*.mbox'
    """
    from ingot.stages.removal import remove

    done = remove(folder, source)
    stale = [one.address for one in done.stale]
    holding = [one.address for one in done.holding]
    again = None if done.recipe is None else f"ingot run {done.recipe} --out {folder}"
    if as_json:
        show_json(
            {
                **done.removed._asdict(),
                "made": done.made.address,
                "stale": stale,
                "still_holding": holding,
                "again": again,
            }
        )
        return
    removed = done.removed
    count, size = sum(removed.documents.values()), sum(removed.bytes.values())
    lost = f"{len(removed.sources):,} sources with {count:,} documents ({size:,} bytes)"
    print(f"{done.made.address}: without {lost}")
    if removed.orphans:
        print(f"  {removed.orphans:,} documents that were dropped as their duplicates stay dropped")
    print(f"stale, made from text that is gone: {', '.join(stale) or 'nothing'}")
    print(f"still holding it: {', '.join(holding)}")
    if again is not None:
        print(f"  make them again:  {again}\n  then delete:      ingot artifacts prune {folder}")


for verb in (atlas.atlas, records.convert, records.mine, label.label, label.agreement):
    app.command()(verb)


def _corpus(folder: Path) -> Path:
    from ingot.data.lineage import corpus_of

    return corpus_of(folder)


def _duplicate_rate(counts: dict[str, Any]) -> float:
    from ingot.data.lineage import duplicate_rate

    return duplicate_rate(counts)


def _show_counts(corpus: Path, counts: dict[str, Any]) -> None:
    print(f"{corpus}: {counts.get('name', '')}\n")
    sides = ("train", "heldout")
    rows = [
        [side, *(f"{counts[what][side]:,}" for what in ("documents", "bytes", "sources"))] for side in sides
    ]
    show_table(rows, ["", "documents", "bytes", "sources"])
    print(f"\nread: {counts['files']:,} files, {counts['bytes_read']:,} bytes")
    print(f"duplicate rate: {_duplicate_rate(counts):.2%} of the documents that passed the rules")
    if counts.get("changes"):
        changed = ", ".join(f"{count:,} {name}" for name, count in counts["changes"].items())
        print(f"changed: {changed}")
    if counts.get("skipped"):
        print("left alone: " + ", ".join(f"{count:,} {what}" for what, count in counts["skipped"].items()))
    if counts["other_files"]:
        print("not read: " + ", ".join(f"{count:,} {kind}" for kind, count in counts["other_files"].items()))


def _show_spread(whole: Spread) -> None:
    from ingot.data.diversity import DIMENSIONS

    for dimension in DIMENSIONS:
        shares = whole.shares(dimension)
        rows = [
            [
                one.name,
                f"{one.documents:,}",
                f"{one.share:.1%} ± {1.96 * one.deviation:.1%}",
                f"{one.bytes:,}",
            ]
            for one in shares[:_SHOWN]
        ]
        if len(shares) > _SHOWN:
            rows.append([f"{len(shares) - _SHOWN} others", f"{sum(o.documents for o in shares[_SHOWN:]):,}"])
            rows[-1] += ["", f"{sum(one.bytes for one in shares[_SHOWN:]):,}"]
        print(f"\n{dimension} (as diverse as {whole.effective(dimension):.1f} equal ones)")
        show_table(rows, ["", "documents", "share", "bytes"])
    lengths = ", ".join(f"{name} {size:,}" for name, size in whole.percentiles().items())
    print(f"\nbytes of a document: {lengths}")


def _show_rules(told: list[Rule]) -> None:
    if not told:
        print("\nnothing was dropped")
        return
    print()
    rows = [
        [
            one.name,
            "" if one.threshold is None else f"{one.threshold:g}",
            f"{one.documents:,}",
            f"{one.bytes:,}",
        ]
        for one in told
    ]
    show_table(rows, ["dropped by", "threshold", "entries", "bytes"])
    for one in told:
        if one.samples:
            print(f"\n{one.name}")
        for sample in one.samples:
            from ingot.data.ledger import excerpt

            value = "" if sample.value is None else f" [{sample.value:g}]"
            print(f"  {sample.path}: {sample.detail}{value}")
            if sample.text:
                print(f"    {excerpt(sample.text)}")
