"""`ingot train`: a recipe up to its pretrained model, or a look at that training before it begins."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ingot.cli.options import Changes, Device, Json, Out, RecipeName, show_json
from ingot.cli.run import carry_out
from ingot.cli.terminal import standard_progress

if TYPE_CHECKING:
    from ingot.recipes import Recipe

FITTED = ("pretrain", "finetune")
COLUMNS = 50
PICTURES = (".png", ".svg", ".pdf")


def train(
    recipe: RecipeName,
    changes: Changes = None,
    until: Annotated[str, typer.Option(help="The last stage to run.")] = "pretrain",
    out: Out = None,
    quick: Annotated[bool, typer.Option("--quick", help="The recipe's smallest setting.")] = False,
    fit: Annotated[
        bool, typer.Option("--fit", help="Run as many rows at once as fit into memory (found by trying).")
    ] = False,
    find_lr: Annotated[
        bool, typer.Option("--find-lr", help="Do not train: test which learning rates suit, and suggest.")
    ] = False,
    plot: Annotated[
        Path | None, typer.Option(help="With --find-lr: draw the curve into this .png, .svg or .pdf.")
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Do not train: say where the time of a step goes.")
    ] = False,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Train a recipe's base model and stop there; `ingot run` on the same folder does the rest.

    Started again after a kill, Ctrl-C or SIGTERM, the same command goes on where it was. Under torchrun
    all processes train the one model together. Settings: docs/training.md.

    \b
    Example: ingot train demo minutes=12 --out runs/demo
             ingot train pretrain data=~/notes minutes=5 pretrain.ema=0.999
             ingot train pretrain pretrain.optimizer.name=adamw pretrain.schedule.kind=cosine
             ingot train pretrain --find-lr --plot rates.png
             ingot train pretrain --profile --json
             torchrun --nproc-per-node 2 -m ingot train pretrain pretrain.parallel.data=fsdp
    """
    from ingot import recipes
    from ingot.errors import ConfigError

    given = list(changes or ())
    loaded = recipes.load(recipe, given, quick)
    if fit:
        wanted = [f"{stage}.micro_batch=fit" for stage in FITTED if stage in loaded.stages]
        loaded = recipes.load(recipe, [*given, *wanted], quick)
    if find_lr and profile:
        raise ConfigError("--find-lr and --profile are two things", where="train", fix="ask for one")
    if plot is not None and not find_lr:
        raise ConfigError(f"--plot {plot} has nothing to draw", where="train", fix="add --find-lr")
    if plot is not None and plot.suffix not in PICTURES:
        fix = f"end it with one of {', '.join(PICTURES)}"
        raise ConfigError(f"no picture is of the kind '{plot.suffix}'", where=f"--plot {plot}", fix=fix)
    folder = Path("runs", loaded.name) if out is None else out
    if find_lr:
        command = " ".join(["ingot train", recipe, *given, *(["--quick"] if quick else [])])
        _find_rate(loaded, folder, device, plot, command, as_json)
    elif profile:
        _profile(loaded, folder, device, as_json)
    else:
        carry_out(loaded.up_to(until), out, device, as_json)


def _find_rate(
    recipe: Recipe, folder: Path, device: str, plot: Path | None, command: str, as_json: bool
) -> None:
    from ingot.cli.dashboard import sparkline
    from ingot.recipes.rehearsal import find_rate
    from ingot.train.find_rate import draw

    finding, changes = find_rate(recipe, folder, standard_progress(), _alone(device))
    if plot is not None:
        draw(finding, plot)
    if as_json:
        show_json(finding._asdict() | {"changes": changes, "plot": plot})
        return
    shown = finding.losses[:: 1 + len(finding.losses) // COLUMNS]
    print(f"loss   {finding.losses[0]:.3f} {sparkline(shown)} {finding.losses[-1]:.3f}")
    print(f"rates  x {finding.rates[0]:.3g} ... x {finding.rates[-1]:.3g}")
    print(finding.text() + (f" (drawn: {plot})" if plot else ""))
    print("\ntry it:  " + " ".join([command, *changes]))


def _profile(recipe: Recipe, folder: Path, device: str, as_json: bool) -> None:
    import os

    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # torch's profiler tells of its own beginning and end
    from ingot.recipes.rehearsal import profiled

    found = profiled(recipe, folder, standard_progress(), _alone(device))
    if as_json:
        show_json(found.plain())
    else:
        print(found.table(), end="")


def _alone(device: str) -> str:
    """The device of one process; with several there would be as many answers."""
    import os

    from ingot.device import prepare_threads, resolve
    from ingot.errors import ConfigError

    if int(os.environ.get("WORLD_SIZE") or 1) > 1:
        raise ConfigError(
            f"{os.environ['WORLD_SIZE']} processes cannot try this together", where="torchrun", fix="use one"
        )
    prepare_threads()
    return resolve(device)
