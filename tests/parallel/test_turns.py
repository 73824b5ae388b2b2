"""Turns: the lead works as long as it takes, the others wait for the result, or hear that there is none."""

from __future__ import annotations

import time

import pytest
from spawn import Crew as Processes

from ingot.errors import DataError
from ingot.parallel import turns
from ingot.parallel.ranks import ALONE, Ranks
from ingot.parallel.turns import Crew, LeadFailed


def test_one_process_does_the_work_itself() -> None:
    found = object()
    assert Crew(ALONE).by_lead(lambda: found) is found
    assert (Crew(ALONE).lead, Crew(ALONE).world) == (True, 1)


def work(ranks: Ranks, breath: float, seconds: float) -> tuple[list[dict[str, int]], float]:
    """Has the lead work three times, and returns what came of it on this rank, and how long it waited."""
    turns.BREATH = breath
    crew, start = Crew(ranks), time.monotonic()

    def slowly() -> dict[str, int]:
        assert ranks.lead
        time.sleep(seconds)
        return {"made by": ranks.rank}

    found = [crew.by_lead(slowly) for _ in range(3)]
    assert ranks.gather(ranks.rank) == list(range(ranks.world))  # nobody is a word behind
    return found, time.monotonic() - start


@pytest.mark.parametrize(("breath", "seconds"), [(5.0, 0.0), (0.01, 0.2)])
def test_all_get_what_the_lead_made_however_long_it_takes(
    crew: Processes, breath: float, seconds: float
) -> None:
    for found, waited in crew.run(3, work, breath, seconds):
        assert found == 3 * [{"made by": 0}]
        assert waited >= 3 * seconds


def fail(ranks: Ranks) -> tuple[str, int]:
    """Has the lead fail, and returns the kind of error that this rank got, and its exit code."""

    def refuse() -> None:
        raise DataError("no text")

    try:
        Crew(ranks).by_lead(refuse)
    except (DataError, LeadFailed) as error:
        return type(error).__name__, error.exit_code
    return "", 0


def test_where_the_lead_fails_the_others_hear_of_it(crew: Processes) -> None:
    assert crew.run(2, fail) == [("DataError", 2), ("LeadFailed", 2)]


@pytest.mark.parametrize(
    ("error", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143), (ValueError("a bug"), 1)]
)
def test_the_exit_code_is_the_leads(error: BaseException, code: int) -> None:
    assert turns._exit_code(error) == code
