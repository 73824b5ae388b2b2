"""Worker processes: tasks go out one by one, what each has to say comes back as it says it.

A worker is a fresh interpreter (nothing is forked), has a pipe of its own and ends with the process that
started it, however that ends. A worker that dies (a library that crashes on hostile bytes, a system out of
memory) is noticed with the task it died on; so is one that says nothing for too long, which is killed.
"""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import pickle
import signal
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from multiprocessing.connection import Connection, wait
from typing import Generic, NamedTuple, TypeVar

T = TypeVar("T")
M = TypeVar("M")


class Death(NamedTuple, Generic[T]):
    """A worker that ended in the middle of a task.

    Args:
        task: which one.
        code: its exit code, or minus the signal that ended it.
        late: after so many seconds without a word it was killed; None: it ended by itself.
    """

    task: T
    code: int | None
    late: float | None = None

    def words(self) -> str:
        """How it ended, such as 'signal 11'."""
        if self.code is not None and self.code < 0:
            return f"signal {-self.code}"
        return f"exit code {self.code}"


_LOOK = 1.0
"""Seconds after which it is looked whether a worker is late."""


class _Hand(NamedTuple):
    process: multiprocessing.process.BaseProcess
    connection: Connection


def cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def carry_out(
    tasks: Iterable[T],
    work: Callable[[T], Iterator[M]],
    workers: int,
    died: Callable[[Death[T]], T | None] | None = None,
    patience: Callable[[T], float | None] | None = None,
) -> Generator[tuple[T, M], None, None]:
    """Carries out tasks and yields what their workers say, in the order in which it arrives.

    Args:
        tasks: asked for only when a worker is free, so a generator of large ones is held back.
        work: makes the messages of a task; with several workers it and the tasks must be picklable.
        workers: how many processes; 1 does everything in this one, unless there is a `patience`.
        died: is told of a worker that died and returns the task to do instead, or None for nothing; without
            it, that is an error.
        patience: returns how many seconds a worker may be silent after it has begun a task, which its first
            word says; None is no limit.

    Yields:
        The task and one message of its work.

    Raises:
        RuntimeError: a worker died and nobody wanted to know.
        (and whatever `work` raises)
    """
    if workers == 1 and patience is None:
        for task in tasks:
            for message in work(task):
                yield task, message
        return
    yield from _Crew(work, workers, died, patience).run(iter(tasks))


class _Crew(Generic[T, M]):
    """Processes at work."""

    def __init__(
        self,
        work: Callable[[T], Iterator[M]],
        workers: int,
        died: Callable[[Death[T]], T | None] | None,
        patience: Callable[[T], float | None] | None,
    ) -> None:
        self._work, self._workers, self._died, self._patience = work, workers, died, patience
        self._context = multiprocessing.get_context("spawn")
        self._idle: list[_Hand] = []
        self._busy: dict[Connection, tuple[_Hand, T]] = {}
        self._heard: dict[Connection, float] = {}  # when, in seconds of the monotonic clock

    def run(self, tasks: Iterator[T]) -> Generator[tuple[T, M], None, None]:
        more = True
        try:
            while True:
                while more and len(self._busy) < self._workers:
                    try:
                        task = next(tasks)
                    except StopIteration:
                        more = False
                    else:
                        self._give(task)
                if not self._busy:
                    return
                heard = wait(list(self._busy), None if self._patience is None else _LOOK)
                for connection in heard:
                    yield from self._hear(connection)  # type: ignore[arg-type]
                if self._patience is not None:
                    self._end_late()
        finally:
            self._dismiss()

    def _give(self, task: T) -> None:
        hand = self._idle.pop() if self._idle else self._start()
        self._busy[hand.connection] = (hand, task)
        self._heard[hand.connection] = math.inf  # what starting takes is no fault of the task
        # One that died while idle is at its pipe's end: `_hear` gives the task to another.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            hand.connection.send(task)

    def _hear(self, connection: Connection) -> Iterator[tuple[T, M]]:
        hand, task = self._busy[connection]
        self._heard[connection] = time.monotonic()
        try:
            kind, value = connection.recv()
        except (EOFError, ConnectionResetError):
            del self._busy[connection]
            self._bury(hand, task)
            return
        if kind == "said":
            yield task, value
        elif kind == "done":
            del self._busy[connection]
            self._idle.append(hand)
        else:
            raise value

    def _start(self) -> _Hand:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._work), daemon=True)
        with _deaf():
            process.start()
        theirs.close()
        return _Hand(process, ours)

    def _bury(self, hand: _Hand, task: T, late: float | None = None) -> None:
        hand.process.join()
        hand.connection.close()
        death = Death(task, hand.process.exitcode, late)
        if self._died is None:
            raise RuntimeError(f"a worker ended with {death.words()}")
        instead = self._died(death)
        if instead is not None:
            self._give(instead)

    def _end_late(self) -> None:
        """Kills the workers that have said nothing for longer than there is patience."""
        now = time.monotonic()
        for connection, (hand, task) in list(self._busy.items()):
            assert self._patience is not None
            patience = self._patience(task)
            # One whose words wait in the pipe is not silent: this process was elsewhere.
            if patience is None or now - self._heard[connection] <= patience or connection.poll():
                continue
            hand.process.kill()
            del self._busy[connection]
            self._bury(hand, task, now - self._heard[connection])

    def _dismiss(self) -> None:
        hands = [*self._idle, *(hand for hand, _ in self._busy.values())]
        for hand in hands:
            hand.process.terminate()
        for hand in hands:
            hand.process.join()
            hand.connection.close()


def _serve(connection: Connection, work: Callable[[T], Iterator[M]]) -> None:
    """What a worker does: takes tasks until nobody gives any more."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    while True:
        try:
            task = connection.recv()
        except (EOFError, OSError):
            return
        try:
            try:
                for message in work(task):
                    connection.send(("said", message))
                connection.send(("done", None))
            except Exception as error:
                connection.send(("failed", _able_to_travel(error)))
        except (BrokenPipeError, ConnectionResetError):
            return


@contextlib.contextmanager
def _deaf() -> Iterator[None]:
    """Has processes that are started here never hear Ctrl-C, which reaches them all: the parent decides."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)


def _end_with_parent() -> None:
    """Ends this process at once when the one that started it is gone: nobody waits for its work."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _able_to_travel(error: Exception) -> Exception:
    """The error with where it happened; in words where it cannot be sent itself."""
    where = "in a worker process:\n" + traceback.format_exc()
    try:
        error.add_note(where)
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(where)
    return error
