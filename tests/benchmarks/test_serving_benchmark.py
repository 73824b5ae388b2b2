"""benchmarks/serving.py: a smoke run of our sides, and that it does not count tokens that were not made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
def test_a_short_run_measures_our_sides_and_claims_nothing_of_a_peer() -> None:
    command = [sys.executable, BENCHMARKS / "serving.py", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    result = json.loads(done.stdout.splitlines()[-1])
    claims = {claim["what"]: claim for claim in result["details"]["claims"]}
    assert claims["16 clients, whole answers, beside llama-server"]["met"] is None
    assert claims["HTTP beside the engine alone"]["ratio"] > 0
    assert claims["start to ready"]["ours"] > 0
    assert result["met"] is None
    assert set(result["details"]["tokens_per_second"]) == {"ours, whole", "ours, streamed", "engine alone"}


def test_a_server_that_makes_fewer_tokens_is_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import serving

    from ingot.bench.wire import Server

    async def fewer(server: Server, asked: dict[str, object]) -> tuple[float, int]:
        return 0.1, 7

    monkeypatch.setattr(serving, "ask", fewer)
    with pytest.raises(AssertionError, match="another number of tokens"):
        serving.crowd(Server.at("http://127.0.0.1:9"), "a", [[1], [2]], 8, stream=False)


def test_no_two_prompts_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import serving

    made = [tuple(prompt) for number in range(6) for prompt in serving.prompts_of(number, 64)]
    assert len(set(made)) == len(made) == 6 * serving.CLIENTS
