"""`ingot bench attack URL`: what any server of OpenAI's interface stands."""

from __future__ import annotations

from typing import Annotated

import typer

from ingot.cli.options import Json, show_json, show_table
from ingot.cli.terminal import standard_progress

Url = Annotated[
    str, typer.Argument(metavar="URL", help="Such as http://127.0.0.1:8000, with /v1 or without.")
]
ServedModel = Annotated[
    str | None, typer.Option("--model", help="The model's name.  [default: the first of /v1/models]")
]
Key = Annotated[
    str | None,
    typer.Option("--key", envvar="INGOT_API_KEY", help="Sent as a bearer token.", show_default=False),
]
Seed = Annotated[int, typer.Option("--seed", help="The same seed sends the same requests.")]


def attack(
    url: Url,
    model: ServedModel = None,
    key: Key = None,
    pid: Annotated[
        int | None, typer.Option("--pid", help="The server's process: its memory is watched (Linux).")
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(help="A command that starts the server: it is then also killed under load."),
    ] = None,
    seed: Seed = 0,
    rounds: Annotated[int, typer.Option(help="How often all of it is done; more than one is a soak.")] = 1,
    deadline: Annotated[float, typer.Option(help="Seconds within which everything must be answered.")] = 30.0,
    memory: Annotated[float, typer.Option(help="MiB that the server may grow by.")] = 1024.0,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail, too, where what must be refused is accepted.")
    ] = False,
    quick: Annotated[bool, typer.Option("--quick", help="A small share of everything.")] = False,
    as_json: Json = False,
) -> None:
    """Attack a server of yours: broken and enormous requests, clients that leave, dribble or come in crowds.

    After each kind, plain requests must be answered. Exit code 1 where the server did not stand it.

    Example: ingot bench attack http://127.0.0.1:8000 --pid 4711 --quick
    """
    from ingot.bench.attack import QUICK
    from ingot.bench.attack import attack as attacked
    from ingot.bench.attack_report import HEADER, AttackConfig, rows
    from ingot.bench.wire import Server
    from ingot.device import describe

    given = {"seed": seed, "rounds": rounds, "deadline": deadline, "memory_mib": memory, "strict": strict}
    config = AttackConfig.parse({**(QUICK if quick else {}), **given}, where="bench attack")
    report = attacked(Server.at(url, key), config, standard_progress(), model, pid, start)
    if as_json:
        show_json({"url": url, **report.plain(), "machine": describe()})
    else:
        show_table(rows(report), HEADER)
        for group in report.groups:
            for words in group.faults:
                print(f"\n{group.name}: {words}", end="")
            for words in group.remarks[: None if strict else 3]:
                print(f"\n{group.name}, remark: {words}", end="")
        if report.growth_mib is not None:
            print(f"\nmemory grew by {report.growth_mib:,.0f} MiB")
        if not report.groups[-1].alive:
            print("\nthe server no longer answers plain requests: the rest was not sent")
        print("\n" + ("the server stood it" if report.passed() else "the server did NOT stand it"))
    if not report.passed():
        raise typer.Exit(1)
