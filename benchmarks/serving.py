"""Serving over HTTP: sixteen clients at once beside llama-server, and what HTTP costs beside the engine.

```
16 clients, whole answers     ours over HTTP     llama-server -np 16     our engine without HTTP
16 clients, streamed          ours over HTTP     llama-server -np 16
first token after 1,000 tokens of a system prompt: read for the first time, and known
from the start of the process to /ready
```

The model is that of decode.py: Qwen3's shape, 27 M parameters, random weights, bf16 on both sides. Every
request has a prompt of its own, as token ids, and as many tokens for an answer; ends of text are ignored.
Both servers run all the time and are asked in turn, by the same client, which needs its share of the same
cores; so does the engine alone, which runs in this process.

    python benchmarks/serving.py --llama-bin llama.cpp/build/bin
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import decoder_sides
import measure
from claims import Claim, result

from ingot import device
from ingot.bench.wire import BrokenAnswer, Server, events, first_model, read_head, send

CLIENTS = 16
PATH = "/v1/completions"
READY_SECONDS = 5.0
STARTS = 3
START_DEADLINE = 120.0


@contextlib.contextmanager
def started(command: Sequence[str | Path], port: int, path: str) -> Iterator[tuple[Server, float]]:
    """Runs a server until the block ends; gives it, and the seconds until `path` answered with 200."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(device.threads())}
    began = time.perf_counter()
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen([str(word) for word in command], stdout=log, stderr=log, env=environment) as process,
    ):
        server = Server.at(f"http://127.0.0.1:{port}")
        try:
            while not asyncio.run(_answers(server, path)):
                if process.poll() is not None or time.perf_counter() > began + START_DEADLINE:
                    log.seek(0)
                    sys.exit(f"no server: {command[0]}\n{log.read()[-2000:].decode(errors='replace')}")
                time.sleep(0.02)
            yield server, time.perf_counter() - began
        finally:
            process.terminate()


async def _answers(server: Server, path: str) -> bool:
    try:
        return (await server.get(path)).status == 200
    except (OSError, BrokenAnswer):
        return False


def free_port() -> int:
    """Returns a port that nobody uses."""
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port: int = opened.getsockname()[1]
        return port


def body(model: str, prompt: list[int], tokens: int, stream: bool) -> dict[str, Any]:
    """Returns a request that both servers understand."""
    plain = {"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True}
    return plain | ({"stream": True, "stream_options": {"include_usage": True}} if stream else {})


async def ask(server: Server, asked: dict[str, Any]) -> tuple[float, int]:
    """Returns the seconds to the first text, and how many tokens the server says it has made."""
    began, first, counted = time.perf_counter(), 0.0, 0
    if not asked.get("stream"):
        answer = await server.post(PATH, asked)
        assert answer.status == 200, answer.body[:300]
        return time.perf_counter() - began, answer.json()["usage"]["completion_tokens"]
    async with server.connection() as (reader, writer):
        await send(writer, server.request(PATH, json.dumps(asked).encode()))
        head = await read_head(reader)
        assert head.status == 200, head
        async for data in events(reader, head):
            if data == "[DONE]":
                break
            said = json.loads(data)
            first = first or time.perf_counter() - began
            counted = (said.get("usage") or {}).get("completion_tokens", counted)
    return first, counted


def crowd(server: Server, model: str, prompts: list[list[int]], tokens: int, stream: bool) -> float:
    """Asks all at once, and returns tokens of answers per second."""

    async def run() -> float:
        began = time.perf_counter()
        made = await asyncio.gather(*(ask(server, body(model, one, tokens, stream)) for one in prompts))
        seconds = time.perf_counter() - began
        assert all(count == tokens for _, count in made), f"{made}: another number of tokens than asked for"
        return len(prompts) * tokens / seconds

    return asyncio.run(run())


def firsts(server: Server, model: str, size: int, seed: int) -> tuple[float, float]:
    """Returns the seconds to the first token behind a new prompt of `size` tokens, and behind a known one."""
    system = decoder_sides.prompt_tokens(size, seed)
    missed, _ = asyncio.run(ask(server, body(model, [*system, 1, 2, 3], 2, True)))
    found, _ = asyncio.run(ask(server, body(model, [*system, 4, 5, 6], 2, True)))
    return missed, found


class Alone:
    """The same engine in this process, without HTTP.

    Args:
        folder: of the model.
    """

    def __init__(self, folder: Path) -> None:
        from ingot.inference.ingot import load

        device.prepare_threads()
        self.engine = load(folder, slots=CLIENTS).engine

    def crowd(self, prompts: list[list[int]], tokens: int) -> float:
        """Submits all at once, and returns tokens of answers per second."""
        from ingot.inference.choosing.sampling import Sampling

        greedy = Sampling(max_new_tokens=tokens, temperature=0, ignore_eos=True)
        began = time.perf_counter()
        made = [self.engine.submit(prompt, greedy) for prompt in prompts]
        while any(request.finish_reason is None for request in made):
            self.engine.step()
        return len(prompts) * tokens / (time.perf_counter() - began)


def prompts_of(number: int, size: int) -> list[list[int]]:
    """Returns a round's prompts; no two of all rounds are the same."""
    return [decoder_sides.prompt_tokens(size, 1000 * number + client) for client in range(CLIENTS)]


def main() -> None:
    """Starts the servers, lets them take turns, prints the result."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a smoke run: the figures mean nothing")
    parser.add_argument("--llama-bin", type=Path, help="folder of llama-server; without it that side is null")
    parser.add_argument("--rounds", type=int, default=5, help="how often the sides take turns")
    parser.add_argument("--prompt", type=int, default=64, help="tokens of a prompt")
    parser.add_argument("--tokens", type=int, default=64, help="tokens of an answer")
    parser.add_argument("--save", type=Path, help="also write the JSON object to this file")
    given = parser.parse_args()
    tokens, rounds = (8, 1) if given.quick else (given.tokens, given.rounds)
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        folder = Path(name) / "model"
        folder.mkdir()
        decoder_sides.write_folder(folder, given.quick)
        ours = [sys.executable, "-m", "ingot", "serve", folder, "--access-log", "none", "--port"]
        starts = []
        for _ in range(1 if given.quick else STARTS):
            port = free_port()
            with started([*ours, str(port)], port, "/ready") as (_, seconds):
                starts.append(seconds)
        port = free_port()
        servers = {"ours": stack.enter_context(started([*ours, str(port)], port, "/ready"))[0]}
        if given.llama_bin:
            from ingot.export.gguf import export_gguf

            file, port = Path(name) / "bf16.gguf", free_port()
            export_gguf(folder, file, "bf16")
            options = [
                "-m",
                file,
                "-np",
                CLIENTS,
                "-c",
                CLIENTS * 2048,
                "-t",
                device.threads(),
                "--port",
                port,
            ]
            command = [given.llama_bin / "llama-server", *map(str, options)]
            servers["llama-server"] = stack.enter_context(started(command, port, "/health"))[0]
        system = 200 if given.quick else 1000
        figures, misses, hits = turns(servers, Alone(folder), given.prompt, tokens, rounds, system)
    report(given, figures, misses, hits, starts)


def turns(
    servers: dict[str, Server], alone: Alone, prompt: int, tokens: int, rounds: int, system: int
) -> tuple[dict[str, list[float]], list[float], list[float]]:
    """Returns tokens per second of every side and round, and seconds to first tokens, new and known."""
    models = {name: asyncio.run(first_model(server)) for name, server in servers.items()}
    figures: dict[str, list[float]] = {}
    misses, hits = [], []
    for number in range(rounds + 1):  # the first is a warm-up
        for stream in (False, True):
            for name, server in servers.items():
                prompts = prompts_of(2 * number + stream, prompt)
                speed = crowd(server, models[name], prompts, tokens, stream)
                if number:
                    figures.setdefault(f"{name}, {'streamed' if stream else 'whole'}", []).append(speed)
        speed = alone.crowd(prompts_of(2 * number, prompt), tokens)
        missed, found = firsts(servers["ours"], models["ours"], system, number + 10**6)
        if number:
            figures.setdefault("engine alone", []).append(speed)
            misses.append(missed)
            hits.append(found)
            measure.say(
                f"round {number}: " + ", ".join(f"{one} {all_[-1]:,.0f}" for one, all_ in figures.items())
            )
    return figures, misses, hits


def report(
    given: argparse.Namespace,
    figures: dict[str, list[float]],
    misses: list[float],
    hits: list[float],
    starts: list[float],
) -> None:
    """Prints the result."""
    middle = {name: statistics.median(speeds) for name, speeds in figures.items()}
    peer = {way: middle.get(f"llama-server, {way}") for way in ("whole", "streamed")}
    claims = [
        Claim(
            f"{CLIENTS} clients, {way} answers, beside llama-server",
            middle[f"ours, {way}"],
            peer[way],
            "tokens/s",
            "higher",
            times=2.0,
        )
        for way in ("whole", "streamed")
    ]
    shares = [http / bare for http, bare in zip(figures["ours, whole"], figures["engine alone"], strict=True)]
    claims += [
        Claim(
            "HTTP beside the engine alone",
            middle["ours, whole"],
            middle["engine alone"],
            "tokens/s",
            "higher",
            0.9,
        ),
        Claim(
            "first token behind a known prompt, beside a new one",
            statistics.median(hits),
            statistics.median(misses),
            "s",
            "lower",
            times=5.0,
        ),
        Claim("start to ready", statistics.median(starts), None, "s", "lower", limit=READY_SECONDS),
    ]
    details = {
        "tokens_per_second": figures,
        "share_of_engine": {"median": statistics.median(shares), "rounds": shares},
        "first_token_seconds": {"new": misses, "known": hits},
        "ready_seconds": starts,
        "load_at_the_end": os.getloadavg(),
    }
    spread = {name: [min(speeds), max(speeds)] for name, speeds in figures.items()}
    measure.report(result("serving", claims, spread, details, quick=given.quick), given.save)


if __name__ == "__main__":
    main()
