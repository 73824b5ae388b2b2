"""`ingot data label` and `ingot data agreement`: which of two answers is better, and how far people agree."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ingot.cli.options import Json, show_json

if TYPE_CHECKING:
    from ingot.data.preferences.agreement import Kappa

Pairs = Annotated[
    Path, typer.Argument(metavar="FILE", help="Pairs of answers, in any preference format (see convert).")
]
Judgements = Annotated[
    Path | None,
    typer.Option("--judgements", help="The file of judgements.  [default: FILE.judgements.jsonl]"),
]


def label(
    path: Pairs,
    judgements: Judgements = None,
    annotator: Annotated[str, typer.Option(help="Who judges.  [default: the page asks]")] = "",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8765,
    seed: Annotated[int, typer.Option(help="Another seed, other sides.")] = 0,
) -> None:
    """Judge pairs of answers on a page that this machine serves to itself; every answer is saved at once.

    Example: ingot data label pairs.jsonl --annotator ann
    """
    from ingot.data.preferences.labelling import HOST, Labelling, server
    from ingot.data.preferences.pairs import read_pairs

    into = _judgements(path, judgements)
    labelling = Labelling(read_pairs(path), into, path.name, seed)
    running = server(labelling, port, annotator)
    print(f"{len(labelling.pairs):,} pairs at http://{HOST}:{running.server_port} (Ctrl-C ends it)")
    print(f"judgements go to {into}", flush=True)
    with running, contextlib.suppress(KeyboardInterrupt):
        running.serve_forever()


def agreement(
    path: Pairs,
    judgements: Judgements = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write what most preferred, as rows of 'preference'.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say how far annotators agree beyond chance, and whether what stood first won because of its place.

    Example: ingot data agreement pairs.jsonl --out preferences.jsonl
    """
    from ingot.data.preferences import agreement as measures
    from ingot.data.preferences.judgements import preferences, read_judgements
    from ingot.data.preferences.pairs import read_pairs
    from ingot.data.records.formats import FORMATS
    from ingot.data.records.rows import write_rows
    from ingot.errors import DataError

    pairs, into = read_pairs(path), _judgements(path, judgements)
    known = {pair.id for pair in pairs}
    every = read_judgements(into)
    said = [one for one in every if one.pair in known]
    if not said:
        raise DataError("holds no judgement of these pairs", where=into, fix=f"ingot data label {path}")
    everybody, two = measures.agreement(said)
    bias = measures.position_bias(said)
    found, without = preferences(pairs, said)
    if out is not None:
        write_rows(out, (FORMATS["preference"].write(one) for one in found))
    if as_json:
        show_json(
            {
                "judgements": len(said),
                "of_other_pairs": len(every) - len(said),
                "fleiss_kappa": _plain(everybody),
                "cohen_kappa": {f"{one}, {other}": _plain(kappa) for (one, other), kappa in two.items()},
                "position_bias": {**vars(bias), "rate": _number(bias.rate), "found": bias.found},
                "preferences": len(found),
                "without": dict(without),
            }
        )
        return
    print(f"{len(said):,} judgements of {len({one.pair for one in said}):,} pairs")
    if len(every) > len(said):
        print(f"  {len(every) - len(said):,} more are of pairs that {path} does not hold")
    print(f"agreement of all (Fleiss' kappa): {_words(everybody)}")
    for (one, other), kappa in two.items():
        print(f"  {one} and {other} (Cohen's kappa): {_words(kappa)}")
    if bias.judged:
        verdict = "a liking for the place" if bias.found else "no bias beyond chance"
        span = f"95 % interval {bias.low:.0%} to {bias.high:.0%}, p = {bias.p_value:.3f}"
        print(f"the answer shown first won {bias.rate:.0%} of {bias.judged:,} ({span}): {verdict}")
    print(f"{len(found):,} preferences" + (f" in {out}" if out else ""))
    for why, count in without.items():
        print(f"  {count:,} pairs give none: {why}")


def _judgements(path: Path, given: Path | None) -> Path:
    return path.with_name(f"{path.stem}.judgements.jsonl") if given is None else given


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _plain(kappa: Kappa) -> dict[str, float | None]:
    return {key: _number(value) for key, value in vars(kappa).items()}


def _words(kappa: Kappa) -> str:
    if kappa.pairs == 0:
        return "no pair was judged by two"
    if math.isnan(kappa.value):
        return f"not defined, all {kappa.pairs:,} pairs got the same answer"
    span = "" if math.isnan(kappa.low) else f" (95 % interval {kappa.low:.2f} to {kappa.high:.2f})"
    return f"{kappa.value:.2f}{span} on {kappa.pairs:,} pairs; the same said {kappa.observed:.0%} of the time"
