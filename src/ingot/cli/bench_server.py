"""`ingot bench attack URL` and `ingot bench load URL`: measurements of any server of OpenAI's interface."""

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


def load(
    url: Url,
    rate: Annotated[float, typer.Option(help="Requests per second that arrive, as a Poisson process.")] = 1.0,
    clients: Annotated[
        int | None, typer.Option(help="In place of a rate: so many clients, each waiting for its answer.")
    ] = None,
    duration: Annotated[float, typer.Option(help="Seconds of arrivals.")] = 30.0,
    prompt_tokens: Annotated[int, typer.Option(help="Tokens of each prompt, about.")] = 64,
    output_tokens: Annotated[int, typer.Option(help="Tokens of each answer, at most.")] = 32,
    spread: Annotated[
        float, typer.Option(help="Lengths vary by this share of themselves, up and down.")
    ] = 0.0,
    cap: Annotated[int | None, typer.Option(help="Requests under way at once.  [default: no cap]")] = None,
    ttft_slo: Annotated[float, typer.Option(help="Seconds to the first token that are still good.")] = 1.0,
    itl_slo: Annotated[float, typer.Option(help="Mean seconds between tokens that are still good.")] = 0.1,
    warm_up: Annotated[int, typer.Option(help="Requests before the first that counts.")] = 4,
    deadline: Annotated[float, typer.Option(help="Seconds after which a request has failed.")] = 120.0,
    model: ServedModel = None,
    key: Key = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Put load on a server, and measure how long first tokens, further tokens and whole answers take.

    Times count from the moment a request was to arrive, whatever the server did then.

    Example: ingot bench load http://127.0.0.1:8000 --rate 4 --duration 60 --ttft-slo 0.5
    """
    from ingot.bench.load import LoadConfig
    from ingot.bench.load import load as loaded
    from ingot.bench.load_report import HEADER, rows
    from ingot.bench.wire import Server
    from ingot.device import describe

    given = {
        "rate": rate,
        "clients": clients,
        "seconds": duration,
        "prompt_tokens": prompt_tokens,
        "output_tokens": output_tokens,
        "spread": spread,
        "cap": cap,
        "ttft_slo": ttft_slo,
        "itl_slo": itl_slo,
        "warm_up": warm_up,
        "deadline": deadline,
        "seed": seed,
    }
    config = LoadConfig.parse(given, where="bench load")
    found = loaded(Server.at(url, key), config, standard_progress(), model).plain()
    if as_json:
        show_json({"url": url, **found, "machine": describe()})
        return
    offered = f"{rate:g} requests per second" if clients is None else f"{clients} clients"
    print(f"{found['model']} at {found['path']}; {offered} for {duration:g} s\n")
    show_table(rows(found), HEADER)
    print(f"\nanswered   {found['answered']:,} of {found['requests']:,} in {found['seconds']:.1f} s")
    speed = found["output_tokens_per_second"]
    print(f"tokens     {speed:,.1f} per second, counted by {found['tokens_counted_by']}")
    good = found["goodput"]
    print(
        f"goodput    {good['requests_per_second']:.2f} requests per second ({100 * good['share']:.0f} %) "
        f"within {ttft_slo:g} s to the first token and {itl_slo:g} s per token"
    )
    if found["errors"]:
        print("errors     " + ", ".join(f"{name}: {count:,}" for name, count in found["errors"].items()))
