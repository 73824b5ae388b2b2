"""`ingot bench`: measurements on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ingot.cli import bench_server, bench_traffic
from ingot.cli.options import Device, Json, show_json, show_table
from ingot.cli.terminal import standard_progress

if TYPE_CHECKING:
    from ingot.bench.parity import Cell
    from ingot.bench.race import Result
    from ingot.bench.verdicts import Verdict

QUICK_SECONDS = 0.2

app = typer.Typer(
    help="Measure on this machine.\n\nExample: ingot bench optimizers --seconds 3", rich_markup_mode=None
)


@app.callback()
def _bench() -> None:
    pass


app.command()(bench_server.attack)
app.command()(bench_traffic.load)
app.command()(bench_traffic.trace)
app.command()(bench_traffic.rollback)


@app.command()
def optimizers(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[OPTIMIZER]...", help="Who takes part.  [default: all]")
    ] = None,
    data: Annotated[
        Path | None, typer.Option(help="A text: file or folder.  [default: Python's standard library]")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Training time of each run.")] = 1.5,
    steps: Annotated[int | None, typer.Option(help="Steps of each run, in place of seconds.")] = None,
    seeds: Annotated[int, typer.Option(help="Runs of each optimizer at its best rate; 3 or more.")] = 5,
    target: Annotated[
        float | None,
        typer.Option(help="Bits per byte to count the steps to.  [default: what half of them reach]"),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Very short runs, to see what it does.")] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Compare optimizers: same small model, same text, same seconds, a swept rate for each, several seeds.

    Example: ingot bench optimizers muon adamw sgd --seconds 5 --seeds 7
    """
    from ingot.bench.contenders import CONTENDERS, chosen
    from ingot.bench.material import material
    from ingot.bench.race import RaceConfig, race
    from ingot.bench.verdicts import middle, plain, verdicts
    from ingot.device import describe, prepare_threads, resolve

    contenders = chosen(names or list(CONTENDERS))
    given = {
        "seconds": QUICK_SECONDS if quick else seconds,
        "steps": steps,
        "seeds": min(seeds, 3) if quick else seeds,
    }
    config = RaceConfig.parse(given, where="bench optimizers")
    prepare_threads()
    text = material(data)
    results = race(contenders, config, text, standard_progress(), resolve(device))
    wanted = middle(results) if target is None else target
    found = verdicts(results, wanted)
    if as_json:
        show_json(
            {
                "text": text.name,
                "race": config.plain(),
                "target": wanted,
                "verdicts": plain(found),
                "results": [one.plain() for one in results],
                "machine": describe(),
            }
        )
        return
    length = f"{config.steps:,} steps" if config.steps else f"{config.seconds:g} s of training"
    print(f"{text.name}; {length} per run, {config.seeds} seeds; bits per byte of held-out text")
    print("95 % intervals over seeds; differences seed by seed, 95 % for all pairs together\n")
    header = ["optimizer", "rate", "steps", "bits per byte", "interval", f"steps to {wanted:.3f}", "verdict"]
    show_table([_row(*pair) for pair in zip(results, found, strict=True)], header)
    if any(one.edge for one in results):
        print("\n* the best rate is an end of the sweep: a better one may lie beyond")
    if quick:
        print("\nthese runs are too short to say anything about optimizers; leave out --quick")


@app.command()
def parity(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[FAMILY]...", help="Which families.  [default: all]")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table of docs/models.md.")] = False,
    as_json: Json = False,
) -> None:
    """Check that models of published families are theirs, weight by weight and token by token, in and out.

    Each is a small model with random weights, made by transformers' own class. Exit code 1 where one differs.

    Example: ingot bench parity llama3 gemma3
    """
    from ingot.bench import parity as checks
    from ingot.bench.published import chosen
    from ingot.device import describe

    rows = list(checks.parity(chosen(names or []), standard_progress()))
    if as_json:
        show_json({"rows": [row.plain() for row in rows], "machine": describe()})
    elif markdown:
        print(checks.markdown(rows), end="")
    else:
        cells = [[row.family, *(_marked(cell) for cell in row.cells().values())] for row in rows]
        show_table(cells, ["family", *rows[0].cells()])
    if not all(row.met() for row in rows):
        raise typer.Exit(1)


@app.command()
def architectures(
    study: Annotated[str, typer.Argument(metavar="STUDY", help="positions, parts or sizes.")],
    data: Annotated[
        Path | None, typer.Option(help="A text: file or folder.  [default: Python's standard library]")
    ] = None,
    steps: Annotated[int, typer.Option(help="Steps of each run.")] = 400,
    seeds: Annotated[int, typer.Option(help="Runs of each architecture.")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="Very short runs, to see what it does.")] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Compare architectures: same text, same order, same steps, several seeds; also beyond that length.

    positions: rotary, learned, sinusoidal, ALiBi, none. parts: Llama's, one by one, at equal parameters.
    sizes: two families in four sizes.

    Example: ingot bench architectures positions --steps 1000 --seeds 5
    """
    from ingot.bench import architectures as studies
    from ingot.bench.entrants import study_of
    from ingot.bench.material import CONTEXT, material
    from ingot.device import describe, prepare_threads, resolve

    entrants = study_of(study)
    given = {"steps": 20 if quick else steps, "seeds": 2 if quick else seeds}
    config = studies.StudyConfig.parse(given, where="bench architectures")
    prepare_threads()
    text, longer = material(data), material(data, 2 * CONTEXT)
    found = studies.study(entrants, config, text, longer, standard_progress(), resolve(device))
    if as_json:
        results = [one.plain() for one in found]
        show_json({"text": text.name, "study": config.plain(), "results": results, "machine": describe()})
        return
    print(
        f"{text.name}; {config.steps:,} steps per run, {config.seeds} seeds; bits per byte of held-out text"
    )
    print(f"further on: beyond the {CONTEXT} bytes that were seen at once in training; intervals 95 %\n")
    show_table(studies.rows(found), studies.HEADER)
    if quick:
        print("\nthese runs are too short to say anything about architectures; leave out --quick")


def _marked(cell: Cell) -> str:
    return ("NO: " if cell.met is False else "") + cell.words


def _row(result: Result, verdict: Verdict) -> list[str]:
    interval = verdict.interval
    return [
        verdict.name,
        f"{result.contender.rate(result.factor):.2g}{'*' if result.edge else ''}",
        f"{result.steps:,}",
        f"{verdict.mean:.4f}",
        "" if interval is None else f"{interval.low:.4f} to {interval.high:.4f}",
        "not reached" if verdict.steps_to_target is None else f"{verdict.steps_to_target:,.0f}",
        verdict.words,
    ]
