"""`ingot bench load`, `trace` and `rollback`: a server of OpenAI's interface under traffic."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ingot.cli.bench_server import Key, Seed, ServedModel, Url
from ingot.cli.options import Json, show_json, show_table
from ingot.cli.terminal import standard_progress

PromptTokens = Annotated[int, typer.Option(help="Tokens of each prompt, about.")]
OutputTokens = Annotated[int, typer.Option(help="Tokens of each answer, at most.")]


def load(
    url: Url,
    rate: Annotated[float, typer.Option(help="Requests per second that arrive, as a Poisson process.")] = 1.0,
    bursts: Annotated[
        float | None,
        typer.Option(help="From time to time so many times that rate.  [default: none]", min=1),
    ] = None,
    burst_every: Annotated[float, typer.Option(help="Seconds from one burst to the next.")] = 60.0,
    burst_seconds: Annotated[float, typer.Option(help="That a burst lasts.")] = 10.0,
    trace: Annotated[
        Path | None,
        typer.Option(help="In place of a rate: a file of requests by time, as `ingot bench trace` writes."),
    ] = None,
    speed: Annotated[float, typer.Option(help="How many times as fast the trace goes by.", min=0.001)] = 1.0,
    clients: Annotated[
        int | None, typer.Option(help="In place of a rate: so many clients, each waiting for its answer.")
    ] = None,
    duration: Annotated[float, typer.Option(help="Seconds of arrivals.")] = 30.0,
    prompt_tokens: PromptTokens = 64,
    output_tokens: OutputTokens = 32,
    spread: Annotated[
        float, typer.Option(help="Lengths vary by this share of themselves, up and down.")
    ] = 0.0,
    cap: Annotated[int | None, typer.Option(help="Requests under way at once.  [default: no cap]")] = None,
    ttft_slo: Annotated[float, typer.Option(help="Seconds to the first token that are still good.")] = 1.0,
    itl_slo: Annotated[float, typer.Option(help="Mean seconds between tokens that are still good.")] = 0.1,
    availability: Annotated[
        float | None, typer.Option(help="Share of requests that must be answered whole, such as 0.999.")
    ] = None,
    p95: Annotated[
        float | None, typer.Option(help="Seconds within which 95 of 100 answers must be whole.")
    ] = None,
    warm_up: Annotated[int, typer.Option(help="Requests before the first that counts.")] = 4,
    deadline: Annotated[float, typer.Option(help="Seconds after which a request has failed.")] = 120.0,
    model: ServedModel = None,
    key: Key = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Put load on a server, and measure how long first tokens, further tokens and whole answers take.

    Times count from the moment a request was to arrive, whatever the server did then. Exit code 1 where
    --availability or --p95 was missed.

    \b
    Example: ingot bench load http://127.0.0.1:8000 --rate 4 --duration 60 --ttft-slo 0.5
             ingot bench load http://127.0.0.1:8000 --trace day.jsonl --availability 0.999 --p95 2
    """
    from ingot.bench.load import LoadConfig
    from ingot.bench.load import load as loaded
    from ingot.bench.load_report import HEADER, rows
    from ingot.bench.traces import read_trace
    from ingot.bench.wire import Server
    from ingot.device import describe

    given = {
        "rate": rate,
        "bursts": bursts and {"times": bursts, "every": burst_every, "seconds": burst_seconds},
        "clients": clients,
        "seconds": duration,
        "prompt_tokens": prompt_tokens,
        "output_tokens": output_tokens,
        "spread": spread,
        "cap": cap,
        "ttft_slo": ttft_slo,
        "itl_slo": itl_slo,
        "availability": availability,
        "p95": p95,
        "warm_up": warm_up,
        "deadline": deadline,
        "seed": seed,
    }
    config = LoadConfig.parse(given, where="bench load")
    asked = None if trace is None else read_trace(trace, speed)
    found = loaded(Server.at(url, key), config, standard_progress(), model, asked).plain()
    if asked is not None:
        found["trace"] = {"file": str(trace), "speed": speed, "seconds": asked[-1].at}
    if as_json:
        show_json({"url": url, **found, "machine": describe()})
    else:
        print(f"{found['model']} at {found['path']}; {_offered(found)}\n")
        show_table(rows(found), HEADER)
        _summary(found)
    if not all(one["met"] for one in found["objectives"].values()):
        raise typer.Exit(1)


def trace(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Where the trace goes (JSON lines).")],
    duration: Annotated[float, typer.Option(help="Seconds from one night to the next.")] = 1800.0,
    rate: Annotated[float, typer.Option(help="Requests per second on average.")] = 1.2,
    depth: Annotated[
        float, typer.Option(help="How far the rate falls at night and rises by day, as a share of it.")
    ] = 0.6,
    prompt_tokens: Annotated[int, typer.Option(help="Half of the prompts are shorter.")] = 64,
    output_tokens: Annotated[int, typer.Option(help="Half of the answers are shorter.")] = 16,
    sigma: Annotated[float, typer.Option(help="Of the lengths' logarithms; 0 makes all alike.")] = 0.6,
    seed: Seed = 0,
) -> None:
    """Make up a day of requests for `ingot bench load --trace`: few at night, many at noon, some long ones.

    Each line of the file says when a request comes and how long its prompt and its answer are.

    Example: ingot bench trace day.jsonl --duration 1800 --rate 1.2
    """
    from ingot.bench.traces import TraceConfig, make_trace, write_trace

    given = {
        "seconds": duration,
        "rate": rate,
        "depth": depth,
        "prompt_tokens": prompt_tokens,
        "output_tokens": output_tokens,
        "sigma": sigma,
        "seed": seed,
    }
    made = make_trace(TraceConfig.parse(given, where="bench trace"))
    write_trace(path, made)
    print(f"{len(made):,} requests in {duration:g} s: {path}")


def rollback(
    former: Annotated[
        str, typer.Option(help="The command that serves the version to go back to, with {port} in it.")
    ],
    present: Annotated[str, typer.Option(help="The command that serves the version that answers now.")],
    rate: Annotated[float, typer.Option(help="Requests per second that arrive meanwhile.")] = 1.2,
    prompt_tokens: PromptTokens = 64,
    output_tokens: OutputTokens = 16,
    limit: Annotated[float, typer.Option(help="Seconds that the way back may take.")] = 60.0,
    key: Key = None,
    seed: Seed = 0,
    as_json: Json = False,
) -> None:
    """Practise the way back to a former version, under load: start it, switch to it, drain the present one.

    Exit code 1 where it took too long, a request was lost, or the drained server did not exit with 0.

    \b
    Example: ingot bench rollback --former "ingot serve chat=runs/a --port {port}"
                                  --present "ingot serve chat=runs/b --port {port}"
    """
    from ingot.bench.load import LoadConfig
    from ingot.bench.rollback import rollback as practised
    from ingot.device import describe

    given = {"rate": rate, "prompt_tokens": prompt_tokens, "output_tokens": output_tokens, "seed": seed}
    config = LoadConfig.parse(given, where="bench rollback")
    drill = practised(former, present, config, standard_progress(), key=key)
    found = drill.plain()
    if as_json:
        show_json({**found, "passed": drill.passed(limit), "machine": describe()})
    else:
        print(f"ready      {drill.ready:.1f} s after the decision")
        print(f"switched   {drill.switched:.1f} s")
        print(f"ended      {drill.ended:.1f} s, exit status {drill.status}; {limit:g} s are allowed")
        _summary(found["load"])
    if not drill.passed(limit):
        raise typer.Exit(1)


def _offered(found: dict[str, Any]) -> str:
    config = found["config"]
    if "trace" in found:
        return f"{found['trace']['file']}, {found['trace']['seconds']:,.0f} s"
    seconds = f"for {config['seconds']:g} s"
    if config["clients"] is not None:
        return f"{config['clients']} clients {seconds}"
    burst = config["bursts"]
    more = (
        ""
        if burst is None
        else f", {burst['times']:g} times that in {burst['seconds']:g} of {burst['every']:g} s"
    )
    return f"{config['rate']:g} requests per second{more} {seconds}"


def _summary(found: dict[str, Any]) -> None:
    """Prints the counts of a load, and what its objectives came to."""
    config, good, speed = found["config"], found["goodput"], found["output_tokens_per_second"]
    print(f"\nanswered   {found['answered']:,} of {found['requests']:,} in {found['seconds']:.1f} s")
    print(f"available  {100 * found['availability']:.3f} % of the requests, answered whole")
    print(f"tokens     {speed:,.1f} per second, counted by {found['tokens_counted_by']}")
    print(
        f"goodput    {good['requests_per_second']:.2f} requests per second ({100 * good['share']:.0f} %) "
        f"within {config['ttft_slo']:g} s to the first token and {config['itl_slo']:g} s per token"
    )
    if found["errors"]:
        print("errors     " + ", ".join(f"{name}: {count:,}" for name, count in found["errors"].items()))
    for name, one in found["objectives"].items():
        came = "nothing" if one["found"] is None else f"{one['found']:.5g}"
        print(f"objective  {name} {one['target']:g}: {came}, {'met' if one['met'] else 'MISSED'}")
