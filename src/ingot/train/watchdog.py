"""The watchdog: says where a hung run hangs, and which ranks hold up the others.

```
trainer:   start   phase("data")  phase("compute")  phase("communicate")  beat   ...   close
its own thread:  every few seconds: was there a sign of life? If not: stacks, words, perhaps exit 75
```

A beat ends a step; a phase says what the step is busy with. Both are signs of life and cost about a
microsecond, so that they may stand anywhere in the loop.
"""

from __future__ import annotations

import faulthandler
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

HUNG = 75
"""Exit code of a process that was stopped because it hung: 'try again' to schedulers (EX_TEMPFAIL)."""

PHASES = {
    "data": "waiting for data",
    "compute": "computing",
    "communicate": "communicating with the other ranks",
    "save": "saving a checkpoint",
    "validate": "validating",
}
SLOWER_THAN_STEPS = 10  # median step times without a sign of life
FIRST_STEP = 4  # how much longer the first step may take: compilation falls into it
WINDOW = 64  # steps that medians are taken over
STRAGGLES = 1.5  # times the median of all ranks
DATA_THAT_MATTERS = 0.05  # of a step: below that, slow data holds up nobody


class Watchdog:
    """Watches one process of a run from a thread of its own.

    Args:
        work: folder that `stacks-<rank>.txt` is written to.
        rank: of this process.
        seconds: without a sign of life after which the run counts as hung; ten median steps where
            those are longer, four times as much in the first step.
        stop: whether to end the hung process with exit code 75 rather than to warn only.
        say: takes the warning, in the watchdog's thread; standard error by default.

    Example:
        >>> watchdog = Watchdog(work, rank=0, seconds=300)                  # doctest: +SKIP
        >>> watchdog.start()
        >>> for step in range(steps):
        ...     watchdog.phase("data")
        ...     batch = stream.batch(step)
        ...     watchdog.phase("compute")
        ...     update(batch)
        ...     watchdog.beat()
        >>> watchdog.close()
    """

    def __init__(
        self,
        work: Path,
        rank: int = 0,
        seconds: float = 300.0,
        stop: bool = False,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.path = work / f"stacks-{rank}.txt"
        self.rank = rank
        self.seconds = seconds
        self.stop = stop
        self.say = _to_standard_error if say is None else say
        self.beats = 0
        self._phase = ""
        self._alive = self._step_began = time.perf_counter()
        self._spent: dict[str, float] = {}  # of the present step, by phase
        self._steps, self._data, self._waits = [0.0] * WINDOW, [0.0] * WINDOW, [0.0] * WINDOW
        self._barked = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begins to watch."""
        self._alive = self._step_began = time.perf_counter()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self._thread.start()

    def phase(self, name: str) -> None:
        """Says what the loop does from here on: 'data', 'compute', 'communicate', 'save', 'validate'."""
        now = time.perf_counter()
        self._spent[self._phase] = self._spent.get(self._phase, 0.0) + now - self._alive
        self._phase, self._alive = name, now
        if self._barked:
            self._relieved()

    def beat(self) -> None:
        """Says that a step ended."""
        self.phase(self._phase)
        place = self.beats % WINDOW
        self._steps[place] = self._alive - self._step_began
        self._data[place] = self._spent.get("data", 0.0)
        self._waits[place] = self._spent.get("communicate", 0.0)
        self._spent.clear()
        self._step_began = self._alive
        self.beats += 1

    def close(self) -> None:
        """Ends the watch."""
        self._ended.set()
        if self._thread is not None:
            self._thread.join()

    def pace(self) -> dict[str, float]:
        """Returns what this rank's steps take, for `stragglers`.

        Returns:
            Medians in seconds over the last 64 steps: `step` in all, `data` waiting for data, `wait`
            communicating. Zeros before the first step.
        """
        return {
            "step": self._median(self._steps),
            "data": self._median(self._data),
            "wait": self._median(self._waits),
        }

    def limit(self) -> float:
        """Returns the seconds without a sign of life that count as hung now."""
        if self.beats == 0:
            return FIRST_STEP * self.seconds
        return max(self.seconds, SLOWER_THAN_STEPS * self._median(self._steps))

    def _median(self, ring: list[float]) -> float:
        known = ring[: min(self.beats, WINDOW)]
        return statistics.median(known) if known else 0.0

    def look(self) -> None:
        """Barks where there was no sign of life for too long; its thread calls this every few seconds."""
        silent = time.perf_counter() - self._alive
        if not self._barked and silent > self.limit():
            self._barked = True
            self._bark(silent)

    def _watch(self) -> None:
        while not self._ended.wait(min(5.0, self.seconds / 10)):
            self.look()

    def _bark(self, silent: float) -> None:
        doing = PHASES.get(self._phase, self._phase or "starting")
        words = f"rank {self.rank} hangs in step {self.beats + 1} of this start: {doing} for {silent:.0f} s"
        saved = self._dump(words)
        self.say(f"watchdog: {words}; the stacks are in {self.path}" if saved else f"watchdog: {words}")
        if self.stop:
            self.say(f"watchdog: rank {self.rank} is stopped (exit code {HUNG}); the same command goes on")
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(HUNG)  # the main thread hangs: nothing else would reach it

    def _dump(self, words: str) -> bool:
        """Adds what every Python thread is doing to the file; a full disk must not end the watch."""
        try:
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(f"{datetime.now(UTC).isoformat(timespec='seconds')}  {words}\n")
                file.flush()
                faulthandler.dump_traceback(file, all_threads=True)
                file.write("\n")
        except OSError:
            return False
        return True

    def _relieved(self) -> None:
        self._barked = False
        self.say(f"watchdog: rank {self.rank} goes on")


def stragglers(paces: Sequence[Mapping[str, float]]) -> list[str]:
    """Names the ranks that the others wait for.

    In synchronous training all ranks take the same time per step, since the fast ones wait for the
    slow. So what is compared is the rank's own work (a step less its communication) and its wait for
    data. Waits that hide inside the backward pass count as work: they make ranks look more alike than
    they are, never less.

    Args:
        paces: `Watchdog.pace()` of every rank, in order of the ranks.

    Returns:
        A sentence for each rank that takes more than 1.5 times the median; none with one rank.

    Example:
        >>> stragglers([{"step": 1.0, "data": 0.0, "wait": w} for w in (0.7, 0.7, 0.1)])
        ['rank 2 works 0.900 s per step, the median is 0.300 s']
    """
    if len(paces) < 2:
        return []
    work = [pace["step"] - pace["wait"] for pace in paces]
    data = [pace["data"] for pace in paces]
    usual, usual_data = statistics.median(work), statistics.median(data)
    slow = []
    for rank, pace in enumerate(paces):
        if data[rank] > max(STRAGGLES * usual_data, DATA_THAT_MATTERS * pace["step"]):
            slow.append(f"rank {rank} waits {data[rank]:.3f} s for data, the median is {usual_data:.3f} s")
        elif work[rank] > STRAGGLES * usual:
            slow.append(f"rank {rank} works {work[rank]:.3f} s per step, the median is {usual:.3f} s")
    return slow


def _to_standard_error(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
