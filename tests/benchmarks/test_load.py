"""The load: arrivals, times from the schedule on, counts, and what planted faults look like."""

import json
import statistics
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from fakes import Behaviour, Handler, fake
from scipy import stats

from ingot.bench.arrivals import Arrival, Bursts, arrivals, varying
from ingot.bench.load import LoadConfig, expected, load
from ingot.bench.load_report import Report, Sample, rows, spread
from ingot.bench.wire import Server
from ingot.errors import ResourceError
from ingot.progress import Progress


def loaded(behaviour: Behaviour | None = None, **changes: object) -> Report:
    with fake(behaviour) as url:
        config = LoadConfig(**{"rate": 40, "seconds": 0.5, "output_tokens": 4, "warm_up": 1, **changes})
        return load(Server.at(url), config, Progress())


def test_arrivals_are_a_poisson_process_and_repeat_by_seed() -> None:
    times = arrivals(50, 200, seed=1)
    assert times == arrivals(50, 200, seed=1) != arrivals(50, 200, seed=2)
    gaps = [later - one for one, later in zip([0.0, *times], times, strict=False)]
    assert stats.kstest(gaps, "expon", args=(0, 1 / 50)).pvalue > 0.01
    counts = [sum(second <= one < second + 1 for one in times) for second in range(200)]
    assert statistics.mean(counts) == pytest.approx(50, abs=2)
    assert statistics.variance(counts) == pytest.approx(50, rel=0.3)  # a Poisson count's variance is its mean


def test_bursts_are_a_poisson_process_of_two_rates() -> None:
    """In units of what is expected to have come, the gaps of any Poisson process are exponential."""
    bursts = Bursts(times=5, every=20, seconds=4)
    config = LoadConfig(rate=10, seconds=400, bursts=bursts, spread=0.2)
    times = [one.at for one in expected(config)]
    assert times == [one.at for one in expected(config)]
    within = sum(at % 20 >= 16 for at in times)
    assert within == pytest.approx(10 * 5 * 4 * 20, rel=0.1)
    assert len(times) - within == pytest.approx(10 * 16 * 20, rel=0.1)

    def come(at: float) -> float:
        whole, rest = divmod(at, 20)
        return 10 * (whole * (16 + 5 * 4) + min(rest, 16) + 5 * max(0.0, rest - 16))

    scaled = [come(at) for at in times]
    gaps = [later - one for one, later in zip([0.0, *scaled], scaled, strict=False)]
    assert stats.kstest(gaps, "expon").pvalue > 0.01


def test_a_rate_of_nothing_lets_nobody_in() -> None:
    assert varying(lambda at: 0.0, 50, 10, seed=0) == []
    assert varying(lambda at: 50.0, 50, 10, seed=3) == arrivals(50, 10, seed=3)


def test_a_trace_is_replayed_as_it_stands() -> None:
    trace = [Arrival(0.05 * number, 40 + 10 * number, 1 + number % 3) for number in range(8)]
    with fake() as url:
        config = LoadConfig(rate=1000, seconds=100, warm_up=0, availability=1.0, p95=20.0)
        report = load(Server.at(url), config, Progress(), trace=trace)
    samples = sorted(report.samples, key=lambda one: one.scheduled)
    assert [one.scheduled for one in samples] == pytest.approx([one.at for one in trace], abs=1e-3)
    assert [one.prompt_tokens for one in samples] == [one.prompt_tokens for one in trace]
    assert [one.tokens for one in samples] == [one.output_tokens for one in trace]
    assert all(one["met"] for one in report.plain()["objectives"].values())


def test_every_arrival_is_answered_and_counted() -> None:
    report = loaded()
    values = report.plain()
    assert values["requests"] == len(arrivals(40, 0.5, seed=0)) == values["answered"]
    assert values["errors"] == {}
    assert values["output_tokens"] == 4 * values["answered"]
    assert values["tokens_counted_by"] == "server"
    assert [one.scheduled for one in report.samples] == pytest.approx(arrivals(40, 0.5, seed=0), abs=1e-3)
    assert all(len(one.gaps()) == 3 for one in report.samples)
    assert values["understood"] == ["stream_options"]  # the fake refuses ignore_eos
    json.dumps(values, allow_nan=False)


def test_prompts_have_the_length_that_was_asked_for() -> None:
    """The fake counts two tokens for a word, and ten for the template."""
    report = loaded(prompt_tokens=110)
    assert {one.prompt_tokens for one in report.samples} == {110}
    report = loaded(prompt_tokens=110, spread=0.5)
    lengths = [one.prompt_tokens or 0 for one in report.samples]
    assert len(set(lengths)) > 5
    assert 54 <= min(lengths) < max(lengths) <= 166


class Slow(Behaviour):
    first_seconds = 0.05
    gap_seconds = 0.02


def test_planted_delays_are_seen() -> None:
    values = loaded(Slow()).plain()
    assert values["ttft"]["p50"] >= 0.05
    assert values["inter_token"]["p50"] >= 0.015
    assert values["per_token"]["p50"] >= 0.015
    assert values["end_to_end"]["p50"] >= 0.05 + 3 * 0.015


class Stalls(Behaviour):
    """Stands still once, for 0.6 s, and for everybody."""

    def __init__(self) -> None:
        super().__init__()
        self.stall = threading.Lock()

    def before(self, handler: Handler, body: bytes) -> bool:
        with self.stall:
            if self.seen == 10:
                time.sleep(0.6)
        return True


@pytest.mark.parametrize("cap", [None, 1])
def test_a_stall_is_charged_to_all_who_arrive_meanwhile(cap: int | None) -> None:
    """With one request at a time, a clock that starts at sending would see the stall a single time."""
    report = loaded(Stalls(), seconds=1.0, cap=cap, rate=40)
    assert sum(one.whole > 0.2 for one in report.samples) >= 8
    if cap == 1:
        assert sum(one.last - one.sent > 0.4 for one in report.samples) <= 3


@pytest.mark.parametrize(("changes", "most"), [({"clients": 3}, 3), ({"cap": 2, "rate": 60}, 2)])
def test_so_many_are_under_way_and_no_more(changes: dict, most: int) -> None:
    behaviour = Slow()
    report = loaded(behaviour, **changes)
    assert behaviour.most_active == most
    assert report.plain()["answered"] == len(report.samples) > most


class Faulty(Behaviour):
    """After the probes: refusals, failures, streams that break off, or silence, in turn."""

    def before(self, handler: Handler, body: bytes) -> bool:
        kind = self.seen % 5 if self.seen > 8 else 0
        if kind == 1:
            handler.reply(429, {"error": {"message": "full"}})
        elif kind == 2:
            handler.reply(500, {"error": {"message": "broken"}})
        elif kind == 3:
            handler.send_response(200)
            handler.send_header("transfer-encoding", "chunked")
            handler.end_headers()
            handler.event({"choices": [{"delta": {"content": "x"}}]})
            handler.close_connection = True
        elif kind == 4:
            handler.rfile.read(1)  # until the client gives up
        return kind == 0


def test_failures_are_counted_by_what_they_are_and_are_no_goodput() -> None:
    values = loaded(Faulty(), rate=60, deadline=2).plain()
    assert set(values["errors"]) == {"429", "500", "broken", "timeout"}
    assert values["answered"] + sum(values["errors"].values()) == values["requests"]
    assert values["goodput"]["share"] <= values["answered"] / values["requests"] < 1
    assert max(values["errors"].values()) - min(values["errors"].values()) <= 2


class Uncounted(Behaviour):
    counts_tokens = False


def test_a_server_that_counts_no_tokens_is_measured_by_pieces() -> None:
    values = loaded(Uncounted()).plain()
    assert values["tokens_counted_by"] == "pieces"
    assert values["output_tokens"] == 4 * values["answered"] > 0
    assert values["prompt_tokens"] is None


class Refuses(Behaviour):
    def before(self, handler: Handler, body: bytes) -> bool:
        handler.reply(401, {"error": {"message": "no key"}})
        return False


def test_a_server_that_refuses_everything_is_told() -> None:
    with pytest.raises(ResourceError, match="401"):
        loaded(Refuses())


def sample(scheduled: float, pieces: list[float], last: float, **rest: object) -> Sample:
    return Sample(scheduled, scheduled, 200, pieces=pieces, last=last, **rest)  # type: ignore[arg-type]


def test_figures_of_a_load_made_by_hand() -> None:
    samples = [
        sample(0.0, [0.5, 0.6, 0.8], 1.0, answer_tokens=3),  # good
        sample(1.0, [3.0, 3.1], 3.2, answer_tokens=2),  # the first token is late
        sample(2.0, [2.1, 2.9], 3.0, answer_tokens=2),  # the second is
        sample(2.0, [2.2], 4.0, answer_tokens=5),  # five tokens in one piece: no rate to miss
        Sample(3.0, 3.0, 500, last=3.1),
    ]
    config = {"ttft_slo": 1.0, "itl_slo": 0.2}
    values = Report("m", "/v1/completions", [], config, samples).plain()
    assert values["seconds"] == 4.0
    assert values["errors"] == {"500": 1}
    assert values["output_tokens_per_second"] == 12 / 4
    assert values["goodput"] == {"requests_per_second": 0.5, "share": 0.4}
    assert values["ttft"]["mean"] == pytest.approx((0.5 + 2.0 + 0.1 + 0.2) / 4)
    assert values["per_token"]["max"] == pytest.approx(0.8)
    assert values["inter_token"]["p50"] == pytest.approx(statistics.median([0.1, 0.2, 0.1, 0.8]))
    assert values["end_to_end"]["p50"] == pytest.approx(statistics.median([1.0, 2.2, 1.0, 2.0]))
    assert rows(values)[0][:3] == ["time to first token", "700.0", "350.0"]
    assert values["availability"] == 0.8
    assert values["objectives"] == {}
    asked = {**config, "availability": 0.75, "p95": 2.0}
    late = np.quantile([1.0, 2.2, 1.0, 2.0], 0.95)
    assert Report("m", "", [], asked, samples).plain()["objectives"] == {
        "availability": {"target": 0.75, "found": 0.8, "met": True},
        "p95": {"target": 2.0, "found": pytest.approx(late), "met": False},
    }
    nothing = Report("m", "", [], asked, samples[-1:]).objectives()
    assert [one["met"] for one in nothing.values()] == [False, False]
    assert Report("m", "", [], config, []).plain()["ttft"] is None


def test_percentiles_are_those_of_the_standard_library() -> None:
    values = [float(number * number % 101) for number in range(101)]
    found = spread(values)
    cuts = statistics.quantiles(values, n=100, method="inclusive")
    assert found is not None
    assert (found["p50"], found["p90"], found["p99"]) == pytest.approx((cuts[49], cuts[89], cuts[98]))
    assert spread([]) is None


@pytest.mark.parametrize("data", ["{", "[]", '{"error": {"message": "a"}}', "null"])
def test_an_error_inside_a_stream_is_an_error(data: str) -> None:
    one = sample(0.0, [], 1.0)
    one.event(data, 0.5)
    assert not one.good


def test_the_command_prints_a_table_and_json() -> None:
    with fake() as url:
        command = [
            sys.executable,
            "-m",
            "ingot",
            "bench",
            "load",
            url + "/v1",
            "--duration",
            "0.3",
            "--rate",
            "30",
        ]
        table = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout
        said = subprocess.run(
            [*command, "--clients", "2", "--json"], capture_output=True, text=True, timeout=300, check=True
        ).stdout
    assert "time to first token" in table
    assert "goodput" in table
    assert "available  100.000 %" in table
    values = json.loads(said)
    assert values["answered"] == values["requests"] > 0
    assert values["config"]["clients"] == 2
    assert "cpu" in json.dumps(values["machine"]).lower()
