"""Predicted before step 1, and what came of it: the right numbers side by side, and never a boast."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingot.artifact import Artifact
from ingot.report.facts import gather
from ingot.report.plan import outcomes
from ingot.report.report import render
from ingot.report.words import MINUS, SPACE

MakeRun = Callable[..., tuple[Path, dict[str, Artifact]]]


def rows(run: Path, made: dict[str, Artifact]) -> dict[str, tuple[str, str, str, str]]:
    found = outcomes(gather(made, run))
    assert {row.stage for row in found} <= {"pretrain"}
    plain = lambda text: text.replace(SPACE, " ").replace(MINUS, "-")  # noqa: E731
    return {
        row.what: (row.predicted, plain(row.range), plain(row.actual), plain(row.verdict)) for row in found
    }


def test_every_prediction_stands_beside_what_came_of_it(make_run: MakeRun) -> None:
    run, made = make_run()
    found = rows(run, made)
    assert found["held-out bits per byte"] == ("1.342", "1.220 to 1.476", "1.387", "+3 %, inside the range")
    assert found["tokens"][3] == "as predicted"
    assert found["time of training"] == ("6:58", "", "7:02", "+1 %")
    assert found["tokens per second"][2:] == ("16,796", "-1 %")
    assert found["memory at most"][2:] == ("2.1 GB", "+13 %")
    page = render(gather(made, run))
    assert "Predicted before the first step" in page and "inside the range" in page


def test_outside_the_range_is_said(make_run: MakeRun) -> None:
    run, made = make_run()
    path = made["evaluate"].path / "evaluation.json"
    evaluation = json.loads(path.read_text())
    evaluation["models"]["base"]["bits_per_byte"] = 1.60
    path.write_text(json.dumps(evaluation))
    assert rows(run, made)["held-out bits per byte"][3] == "+19 %, outside the range"


def test_without_an_evaluation_the_last_look_at_held_out_text_counts(make_run: MakeRun) -> None:
    run, made = make_run()
    del made["evaluate"]
    found = rows(run, made)
    assert "held-out bits per byte" not in found
    assert found["validation loss (nats per token)"][0] == "3.170"


@pytest.mark.parametrize("said", [None, [], {"tokens": "many", "bits_per_byte": 1.2}, {"bits_per_byte": {}}])
def test_a_plan_that_predicts_nothing_has_no_rows(make_run: MakeRun, said: Any) -> None:
    run, made = make_run()
    path = made["pretrain"].path / "plan.json"
    plan = copy.deepcopy(json.loads(path.read_text()))
    plan["predicted"] = said
    path.write_text(json.dumps(plan))
    assert rows(run, made) == {}
    render(gather(made, run))
