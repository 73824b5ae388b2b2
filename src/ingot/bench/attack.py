"""An attack on a server of OpenAI's interface: nothing that a client sends may take it down.

Every group of requests is followed by plain ones, which must be answered. A server passes when bad input
never makes a 5xx (501 and 505 have their place where HTTP itself is broken, and 503 with Retry-After under
load), no answer is broken or missing, nothing hangs, and memory stays bounded.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from ingot.bench import attack_cases, attack_fields, attack_http
from ingot.bench.attack_cases import CHAT, COMPLETION, Case, encoded, plain
from ingot.bench.attack_life import Program, drained, killed
from ingot.bench.attack_pressure import bounded, burst, crowd, disconnects, memory, slow
from ingot.bench.attack_report import AttackConfig, Group, Report
from ingot.bench.attack_schema import by_document
from ingot.bench.wire import BrokenAnswer, Head, Server, first_model, read_head, send
from ingot.errors import ResourceError
from ingot.progress import Progress

BELOW_LIMITS = 900_000
"""Bytes of bodies that are large, but pass a limit of 1 MB: the parts behind it must cope."""

PATIENCE = 2.0
"""Seconds to wait for an answer to what may lawfully be taken for half a request."""


Work = Callable[[Group], Awaitable[None]]
"""Does the work of a group, and counts what comes of it."""

QUICK: dict[str, Any] = {
    "mutants": 30,
    "every": 7,
    "megabytes": 2,
    "noise": 10,
    "disconnects": 50,
    "together": 30,
    "held": 15,
    "held_seconds": 2,
    "examples": 5,
    "kills": 1,
}
"""What a short attack is made of."""


def attack(
    server: Server,
    config: AttackConfig,
    progress: Progress,
    model: str | None = None,
    pid: int | None = None,
    command: str | None = None,
) -> Report:
    """Attacks a server that is yours to attack.

    Args:
        server: which.
        config: how.
        progress: is told of every group.
        model: the name of a model; None takes the first that the server lists.
        pid: of the server's process, whose memory is then watched.
        command: starts the server, which is then also killed under load, asked to end, and ended at last.

    Raises:
        ResourceError: it does not answer plain requests to begin with, or has no such process.

    Example:
        attack(Server.at("http://127.0.0.1:8000"), AttackConfig(**QUICK), Progress()).passed()
    """
    if command is None:
        return asyncio.run(_Attack(server, config, progress, pid).run(model))
    program = Program(command, server, 4 * config.deadline)

    async def whole() -> Report:
        await program.start()
        return await _Attack(server, config, progress, program.pid, program).run(model)

    try:
        return asyncio.run(whole())
    finally:
        program.kill()


class _Attack:
    def __init__(
        self,
        server: Server,
        config: AttackConfig,
        progress: Progress,
        pid: int | None,
        program: Program | None = None,
    ) -> None:
        self.server = server
        self.config = config
        self.progress = progress
        self.pid = pid
        self.program = program
        self.patience = min(PATIENCE, config.deadline / 2)
        self.health = "/v1/models"
        self.good: tuple[str, dict[str, Any]] = (CHAT, {})

    async def run(self, model: str | None) -> Report:
        name = model or await first_model(self.server)
        paths = await self._prepare(name)
        report = Report(name, paths, self.config)
        base = self._memory()
        for number in range(self.config.rounds):
            for label, work in self._groups(name, paths):
                label_it = label if self.config.rounds == 1 else f"{number + 1}: {label}"
                if not await self._group(label_it, work, report):
                    return report  # nothing that follows would say anything
            if number == 0 and self.config.rounds > 1:
                base = self._memory()
        now = self._memory()
        report.growth_mib = None if base is None or now is None else round(now - base, 1)
        if self.program is not None:  # last, for the memory of a new process says nothing of the old one's
            for label, work in self._ends(self.program):
                await self._group(label, work, report)
        return report

    async def _group(self, name: str, work: Work, report: Report) -> bool:
        """Does the work of one group; returns whether plain requests are answered afterwards."""
        group = Group(name)
        report.groups.append(group)
        began = time.monotonic()
        with self.progress.task(name, unit="requests") as task:
            await work(group)
            group.seconds = time.monotonic() - began
            group.alive = await self._alive()
            task.advance(group.sent)
        group.memory_mib = self._memory()
        return group.alive

    def _ends(self, program: Program) -> Iterator[tuple[str, Work]]:
        """Yields the ends of the process."""
        path, asked = self.good
        times = self.config.kills
        yield "killed under load", lambda group: killed(program, path, asked, times, group.count)
        yield "asked to end", lambda group: drained(program, path, asked, group.count)

    async def _prepare(self, model: str) -> list[str]:
        """Finds out what the server has, and a plain request that it answers."""
        where = f"{self.server.host}:{self.server.port}"
        if self.pid is not None and self._memory() is None:
            fix = "name a process of this machine; this needs Linux"
            raise ResourceError(f"the memory of process {self.pid} cannot be read", where=where, fix=fix)
        try:
            async with asyncio.timeout(4 * self.config.deadline):
                if (await self.server.get("/health")).status == 200:
                    self.health = "/health"
                answers = {}
                for path in (CHAT, COMPLETION):
                    answers[path] = (await self.server.post(path, plain(path, model))).status
                paths = []
                for path in attack_cases.PATHS:
                    if (await self.server.post(path, {})).status not in (404, 405):
                        paths.append(path)
        except (OSError, BrokenAnswer) as error:
            raise ResourceError(f"no sound answer ({error or 'none in time'})", where=where) from None
        well = [path for path, status in answers.items() if status == 200]
        if not well:
            what = f"a plain request to {CHAT} is answered by {answers[CHAT]}, one to {COMPLETION} by "
            fix = "name a model by --model, a key by --key"
            raise ResourceError(f"{what}{answers[COMPLETION]}", where=where, fix=fix)
        self.good = (well[0], plain(well[0], model))
        return paths

    def _groups(self, model: str, paths: list[str]) -> Iterator[tuple[str, Work]]:
        config, server, (path, asked) = self.config, self.server, self.good
        raw = server.request(path, encoded(asked))
        seed, deadline = config.seed, config.deadline

        def thin(make: Callable[[str, str], Iterable[Case]]) -> Iterable[Case]:
            whole = itertools.chain.from_iterable(make(one, model) for one in paths)
            return itertools.islice(whole, seed % config.every, None, config.every)

        def cases(found: Iterable[Case], clients: int = config.clients) -> Work:
            return lambda group: crowd((self._case(case, group) for case in found), clients)

        examples = config.examples
        yield "own document", lambda group: by_document(server, group, examples, seed, deadline)
        mutants = (attack_cases.mutated(one, model, config.mutants, seed) for one in paths)
        yield "bytes changed", cases(itertools.chain.from_iterable(mutants))
        yield "wrong types", cases(thin(attack_fields.wrong))
        yield "numbers", cases(thin(attack_fields.numbers))
        yield "schemas", cases(thin(attack_fields.schemas))
        yield "depth", cases(thin(attack_cases.deep))
        yield "strange text", cases(thin(attack_cases.strange))
        sizes = (BELOW_LIMITS, config.megabytes * 10**6)
        enormous = (attack_cases.large(one, model, size) for one in paths for size in sizes)
        yield "large bodies", cases(itertools.chain.from_iterable(enormous), 2)
        yield "content types", cases(attack_http.kinds(server, model, path))
        yield "heads", cases(attack_http.heads(server, model))
        yield "no HTTP", cases(attack_http.garbage(server, model, seed, config.noise))
        leaving = config.disconnects
        yield (
            "disconnects",
            lambda group: disconnects(server, path, asked, leaving, seed, deadline, group.count),
        )
        yield "all at once", lambda group: burst(server, raw, config.together, deadline, group.count)
        held, seconds = config.held, config.held_seconds
        yield "slow clients", lambda group: slow(server, path, asked, held, seconds, deadline, group.count)

    async def _case(self, case: Case, group: Group) -> None:
        """Sends one case, and counts what came of it."""
        if case.raw is not None:
            return await self._raw(case, group)
        request = self.server.request(case.path, case.body, headers=case.headers)
        told = _Lenient(case, group)

        async def exchange() -> None:
            if case.head_only:
                async with self.server.connection() as (reader, writer):
                    await send(writer, request)
                    group.count("answered", await read_head(reader), case.words, case)
                return
            answer = await self.server.ask(request)
            group.count("answered", answer, case.words, case)
            group.body(answer, case.words)

        await bounded(exchange(), self.config.deadline, told, f"{case.path} {case.words}")

    async def _raw(self, case: Case, group: Group) -> None:
        assert case.raw is not None
        try:
            async with asyncio.timeout(self.patience), self.server.connection() as (reader, writer):
                sending = asyncio.create_task(send(writer, case.raw))
                try:
                    group.count("answered", await read_head(reader), case.words, case)
                finally:
                    sending.cancel()
        except TimeoutError:
            group.outcomes["waiting"] += 1
        except (BrokenAnswer, OSError) as error:
            _Lenient(case, group)("dropped", None, f"{case.words}: {error}")

    async def _alive(self) -> bool:
        """Returns whether plain requests are answered in time; a full server may take until the deadline."""
        path, asked = self.good
        end = time.monotonic() + self.config.deadline
        while (left := end - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left):
                    health = await self.server.get(self.health)
                    answer = await self.server.post(path, asked)
                    if health.status == answer.status == 200:
                        return True
            except (OSError, BrokenAnswer):
                pass  # asked again until the deadline, which is what decides
            await asyncio.sleep(0.2)
        return False

    def _memory(self) -> float | None:
        return None if self.pid is None else memory(self.pid)


class _Lenient:
    """Counts a closed connection as a cut where a case allows for that."""

    def __init__(self, case: Case, group: Group) -> None:
        self.case = case
        self.group = group

    def __call__(self, outcome: str, head: Head | None, words: str) -> None:
        if outcome == "dropped" and self.case.may_close:
            outcome = "cut"
        self.group.count(outcome, head, words, self.case)
