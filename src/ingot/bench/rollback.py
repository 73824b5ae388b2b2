"""The rollback drill: from a version that answers back to the one before it, under load, by the clock.

```
present:  answers ------------------------------------------> SIGTERM, finishes what it has, exit status 0
former:                 started, loading ... answers ------> all that is new
switch:   -> present ................................ -> former
clock:                  |--------- ready --------- switched ------------------ ended |
```

This is what a cluster does when it is told to undo a rollout: the former version comes up beside the present
one, new connections go there, and the present one drains. Both are commands; a switch stands before them.
"""

from __future__ import annotations

import asyncio
import socket
import time
from dataclasses import dataclass
from typing import Any

from ingot.bench.attack_life import Program
from ingot.bench.load import LoadConfig, loading
from ingot.bench.load_report import Report
from ingot.bench.switch import Switch, switched
from ingot.bench.wire import Server, first_model
from ingot.errors import ConfigError, ResourceError
from ingot.progress import Progress

PORT = "{port}"
"""Stands for the port in a command."""

SETTLE_SECONDS = 0.5
"""From the switch to SIGTERM: a connection that was made just before brings its request meanwhile."""


@dataclass(frozen=True)
class Drill:
    """What a rollback came to; seconds count from the decision to go back.

    Args:
        ready: when the former version answered.
        switched: when new connections went to it.
        ended: when the present version had ended.
        status: its exit status; None where it had to be killed.
        report: of the load that went on before, during and after.
    """

    ready: float
    switched: float
    ended: float
    status: int | None
    report: Report

    def passed(self, limit: float) -> bool:
        """Returns whether it took no longer than `limit` seconds, every request was answered whole, and the
        exit status was 0."""
        return self.ended <= limit and self.status == 0 and self.report.availability == 1

    def plain(self) -> dict[str, Any]:
        """Returns it as plain data."""
        times = {"ready": self.ready, "switched": self.switched, "ended": self.ended}
        return {"seconds": times, "status": self.status, "load": self.report.plain()}


def rollback(
    former: str,
    present: str,
    config: LoadConfig,
    progress: Progress,
    *,
    before: float = 5.0,
    after: float = 5.0,
    deadline: float = 120.0,
    key: str | None = None,
) -> Drill:
    """Goes back from a version to the one before it, under load.

    Args:
        former: the command that serves the version to go back to, with `{port}` in it.
        present: the command that serves the version that answers now.
        config: the load; its seconds do not matter.
        progress: is told of every answer.
        before: seconds of load before the decision.
        after: and once it is done.
        deadline: seconds within which a version must answer, or end.
        key: of both servers; None sends none.

    Raises:
        ConfigError: a command has no place for a port.
        ResourceError: a version does not start, or the former one does not know the model by its name.

    Example:
        serve = "ingot serve chat=runs/{} --port {{port}}".format
        rollback(serve("a"), serve("b"), LoadConfig(), Progress()).ended
    """
    programs = [_program(one, deadline, key) for one in (former, present)]
    longest = before + 3 * deadline + after
    config = config.model_copy(update={"seconds": longest, "clients": None})
    try:
        return asyncio.run(_drill(programs[0], programs[1], config, progress, before, after))
    finally:
        for one in programs:
            one.kill()


def _program(command: str, deadline: float, key: str | None) -> Program:
    if PORT not in command:
        raise ConfigError(
            f"no place for the port in '{command}'", where="command", fix=f"write --port {PORT}"
        )
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        port = opened.getsockname()[1]
    return Program(command.replace(PORT, str(port)), Server("127.0.0.1", port, key=key), deadline)


async def _drill(
    former: Program, present: Program, config: LoadConfig, progress: Progress, before: float, after: float
) -> Drill:
    await present.start()
    model = await first_model(present.server)
    async with switched(present.server) as switch:
        over = asyncio.Event()
        load = asyncio.create_task(loading(switch.server, config, progress, model, over=over))
        try:
            await asyncio.sleep(before)
            began = time.monotonic()
            ready, moved, status = await _go_back(former, present, switch, model, began)
            ended = time.monotonic() - began
            await asyncio.sleep(after)
        finally:
            over.set()
            report = await load
    return Drill(ready, moved, ended, status, report)


async def _go_back(
    former: Program, present: Program, switch: Switch, model: str, began: float
) -> tuple[float, float, int | None]:
    """Returns when the former version answered, when the switch moved, and the present one's exit status."""
    await former.start()
    answer = await former.server.get("/v1/models")
    if model not in [one["id"] for one in answer.json()["data"]]:
        fix = "give both the same name: ingot serve NAME=DIR"
        raise ResourceError(f"it serves no model '{model}'", where=former.command, fix=fix)
    ready = time.monotonic() - began
    switch.target = former.server
    moved = time.monotonic() - began
    await asyncio.sleep(SETTLE_SECONDS)
    return ready, moved, await present.terminate()
