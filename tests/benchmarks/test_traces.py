"""Traces: a made-up day has the shape that was asked for, files come back, and broken ones are refused."""

import json
import math
import statistics
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import fake
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ingot.bench.arrivals import Arrival
from ingot.bench.traces import LONGEST, TraceConfig, make_trace, read_trace, write_trace
from ingot.errors import DataError


def test_a_day_is_quiet_at_its_ends_and_busy_in_the_middle() -> None:
    config = TraceConfig(seconds=1000, rate=20, depth=0.8, seed=1)
    times = [one.at for one in make_trace(config)]
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] < 1000
    assert len(times) == pytest.approx(20_000, rel=0.03)

    def share(at: float) -> float:  # of the day's requests that should have come
        return at / 1000 - 0.8 * math.sin(2 * math.pi * at / 1000) / (2 * math.pi)

    assert stats.kstest([share(at) for at in times], "uniform").pvalue > 0.01
    assert sum(450 < at < 550 for at in times) > 5 * sum(at < 50 or at > 950 for at in times)


def test_lengths_have_the_asked_middle_and_a_long_tail() -> None:
    trace = make_trace(TraceConfig(seconds=2000, rate=5, prompt_tokens=100, output_tokens=20, sigma=0.6))
    for tokens, middle in (
        ([one.prompt_tokens for one in trace], 100),
        ([one.output_tokens for one in trace], 20),
    ):
        assert statistics.median(tokens) == pytest.approx(middle, rel=0.05)
        assert statistics.pstdev([math.log(one) for one in tokens]) == pytest.approx(0.6, rel=0.07)
        assert 1 <= min(tokens) < middle / 2
        assert 3 * middle < max(tokens) <= LONGEST * middle
    alike = make_trace(TraceConfig(seconds=60, sigma=0))
    assert {one[1:] for one in alike} == {(64, 16)}


def test_the_same_seed_makes_the_same_day() -> None:
    one, other = (TraceConfig(seconds=100, seed=seed) for seed in (1, 2))
    assert make_trace(one) == make_trace(one) != make_trace(other)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.builds(
            Arrival,
            st.integers(0, 10**7).map(lambda at: at / 1000),
            st.integers(1, 10**6),
            st.integers(1, 10**6),
        ),
        min_size=1,
    ),
    st.sampled_from([0.5, 1, 4]),
)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, trace: list[Arrival], speed: float
) -> None:
    path = tmp_path_factory.mktemp("trace") / "t.jsonl"
    write_trace(path, trace)
    assert read_trace(path, speed) == [one._replace(at=one.at / speed) for one in sorted(trace)]


def test_other_fields_and_empty_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('\n{"output_tokens": 2, "user": "x", "at": 3, "prompt_tokens": 1}\n\n')
    assert read_trace(path) == [Arrival(3, 1, 2)]


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        "3",
        "{}",
        '{"at": 1, "prompt_tokens": 2}',
        '{"at": -1, "prompt_tokens": 2, "output_tokens": 2}',
        '{"at": NaN, "prompt_tokens": 2, "output_tokens": 2}',
        '{"at": Infinity, "prompt_tokens": 2, "output_tokens": 2}',
        '{"at": "1", "prompt_tokens": 2, "output_tokens": 2}',
        '{"at": true, "prompt_tokens": 2, "output_tokens": 2}',
        '{"at": 1, "prompt_tokens": 0, "output_tokens": 2}',
        '{"at": 1, "prompt_tokens": 2.5, "output_tokens": 2}',
        '{"at": 1, "prompt_tokens": 2, "output_tokens": null}',
        "[" * 100_000,
    ],
)
def test_a_line_that_is_no_request_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text('{"at": 1, "prompt_tokens": 2, "output_tokens": 2}\n' + line + "\n")
    with pytest.raises(DataError, match=r"t\.jsonl:2"):
        read_trace(path)


def test_files_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\x00")
    for name in ("empty", "bytes", "absent", "."):
        with pytest.raises(DataError):
            read_trace(tmp_path / name)


def test_the_commands_make_a_day_and_replay_it_against_objectives(tmp_path: Path) -> None:
    path = tmp_path / "day.jsonl"

    def ingot(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "ingot", "bench", *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    made = ingot("trace", str(path), "--duration", "40", "--rate", "1", "--seed", "3")
    assert made.returncode == 0, made.stderr
    trace = read_trace(path)
    assert f"{len(trace)} requests" in made.stdout
    with fake() as url:
        asked = ["load", url, "--trace", str(path), "--speed", "100", "--availability", "0.999"]
        said = ingot(*asked, "--p95", "20")
        missed = ingot(*asked, "--p95", "0.000001", "--json")
    assert said.returncode == 0, said.stderr
    assert "objective  availability 0.999: 1, met" in said.stdout
    assert missed.returncode == 1
    values = json.loads(missed.stdout)
    assert values["answered"] == values["requests"] == len(trace)
    assert values["objectives"]["p95"]["met"] is False
    assert values["trace"]["seconds"] == pytest.approx(trace[-1].at / 100)
