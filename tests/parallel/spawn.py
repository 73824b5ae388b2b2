"""Four processes that wait for work, so that a test of several ranks does not pay for starting Python."""

from __future__ import annotations

import functools
import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable
from typing import Any

import pytest

MOST = 4
SECONDS = 300


class Crew:
    """Runs functions on some of the processes, as the ranks of one gloo group."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipes = []
        for _ in range(MOST):
            here, there = context.Pipe()
            context.Process(target=_serve, args=(there,), daemon=True).start()
            self.pipes.append(here)

    def run(self, world: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
        """Calls `function(ranks, *arguments)` on each rank and returns what they gave, by rank.

        Args:
            world: how many ranks; 1 gets `ALONE`.
            function: of a module's top level.
            arguments: the same for all.

        Raises:
            AssertionError: a rank raised, or did not answer.
        """
        port = _free_port()
        for rank, pipe in enumerate(self.pipes[:world]):
            pipe.send((rank, world, port, function, arguments))
        answers = []
        for rank, pipe in enumerate(self.pipes[:world]):
            assert pipe.poll(SECONDS), f"rank {rank} did not answer"
            answers.append(pipe.recv())
        failures = [f"rank {rank}:\n{text}" for rank, (_, text) in enumerate(answers) if text]
        assert not failures, "\n".join(failures)
        return [answer for answer, _ in answers]


def _serve(pipe: Any) -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    from ingot.parallel.ranks import join, leave

    torch.set_num_threads(1)
    while True:
        try:
            rank, world, port, function, arguments = pipe.recv()
        except EOFError:
            return
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ |= where | {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
        try:
            pipe.send((function(join("cpu", timeout_seconds=SECONDS / 2), *arguments), ""))
        except BaseException:
            pipe.send((None, traceback.format_exc()))
        leave()


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@functools.cache
def the_crew() -> Crew:
    """One crew for the whole test session."""
    return Crew()


@pytest.fixture
def crew() -> Crew:
    """Processes to run a function on as 1 to 4 ranks."""
    return the_crew()
