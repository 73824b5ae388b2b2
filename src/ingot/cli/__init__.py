"""The command line: one thin file per verb, errors as one line, no heavy import before a verb runs."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from ingot import __version__
from ingot.cli import (
    artifacts,
    bench,
    chat,
    compare,
    data,
    demo,
    deploy,
    doctor,
    embed,
    evaluate,
    export,
    generate,
    hub,
    importing,
    plan,
    quantize,
    run,
    serve,
    surgery,
    tokenizer,
    train,
)
from ingot.errors import IngotError, from_system

RESUMABLE = (["demo"], ["run"], ["train"], ["data", "prepare"])
MISTAKE, INTERRUPTED, TERMINATED = 2, 130, 143

app = typer.Typer(
    name="ingot",
    help="Cast your own foundation model: a folder of text in, your own served model out.",
    epilog="Begin with: ingot demo          then: ingot chat runs/demo",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

VERBS: dict[str, Any] = {
    "demo": demo.demo,
    "run": run.run,
    "plan": plan.plan,
    "train": train.train,
    "data": data.app,
    "tokenizer": tokenizer.app,
    "evaluate": evaluate.evaluate,
    "chat": chat.chat,
    "generate": generate.generate,
    "embed": embed.embed,
    "model": surgery.app,
    "serve": serve.serve,
    "deploy": deploy.deploy,
    "quantize": quantize.quantize,
    "export": export.export,
    "import": importing.bring_in,
    "push": hub.push,
    "pull": hub.pull,
    "doctor": doctor.doctor,
    "compare": compare.compare,
    "bench": bench.app,
    "artifacts": artifacts.app,
}
for name, verb in VERBS.items():
    if isinstance(verb, typer.Typer):
        app.add_typer(verb, name=name)
    else:
        app.command(name)(verb)


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs one command and exits: 0 done, 2 a mistake to mend, 130 and 143 interrupted."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    words = [word for word in words if word != "--debug"] or ["--help"]
    if words[:1] == ["--version"]:
        print(f"ingot {__version__}")
        sys.exit(0)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        status = app(words, prog_name="ingot", standalone_mode=False)
        if status == INTERRUPTED:  # typer turns Ctrl-C into this number
            raise KeyboardInterrupt
    except BaseException as error:
        status = _ending(error, words, debug)
    sys.exit(status if isinstance(status, int) else 0)


def _ending(error: BaseException, words: Sequence[str], debug: bool) -> int:
    """Says what happened in one line and returns the exit code; a bug of ours keeps its traceback.

    Of several ranks the lead speaks for all; another one says only what is its own trouble.
    """
    goes_on = "; the same command goes on from here" if _resumable(words) else ""
    rank = os.environ.get("RANK", "0")
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        _say(f"interrupted{goes_on}", rank)
        return INTERRUPTED
    if isinstance(error, BrokenPipeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads: say nothing more
        return 0
    if isinstance(error, SystemExit):
        if error.code == TERMINATED:
            _say(f"terminated{goes_on}", rank)
        return error.code if isinstance(error.code, int) else 1
    if isinstance(error, typer.Exit):
        return error.exit_code
    if debug:
        raise error
    if hasattr(error, "format_message"):  # typer's own: a wrong verb, option or value
        verb = f" {words[0]}" if words[0] in VERBS else ""
        return _refuse(f"{error.format_message().rstrip('.')}; see: ingot{verb} --help", MISTAKE)
    mistake = error if isinstance(error, IngotError) else from_system(error)
    if mistake is None:
        raise error
    if mistake.exit_code == TERMINATED:
        _say(f"interrupted: {mistake}", rank)
        return TERMINATED
    if getattr(mistake, "of_lead", False):  # another rank's trouble, which that rank tells
        return mistake.exit_code
    return _refuse(str(mistake), mistake.exit_code, "" if rank == "0" else f"rank {rank}: ")


def _resumable(words: Sequence[str]) -> bool:
    return any(words[: len(verb)] == verb for verb in RESUMABLE)


def _say(text: str, rank: str) -> None:
    if rank == "0":
        print(f"\n{text}", file=sys.stderr)


def _refuse(text: str, status: int, who: str = "") -> int:
    print(f"{who}error: " + " ".join(text.split()), file=sys.stderr)
    return status


def _terminate(number: int, frame: FrameType | None) -> None:
    """Ends by an exception, so that whatever is being published is taken back."""
    sys.exit(TERMINATED)
