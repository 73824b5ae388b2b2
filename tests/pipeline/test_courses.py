"""The schedules of a recipe, drawn: what is drawn is what the trainer will do."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingot import recipes
from ingot.errors import ConfigError
from ingot.recipes.courses import Course, courses, draw, sparkline, text


def test_courses_are_the_multipliers_of_the_trainer() -> None:
    stages = recipes.build(recipes.load("demo", ["minutes=10"]))
    found = courses(stages, steps=300)
    assert [one.stage for one in found] == ["pretrain", "finetune", "align"]
    schedule = next(stage.config for stage in stages if stage.name == "pretrain").schedule
    assert found[0].shares == [schedule.multiplier(step, 300) for step in range(300)]
    assert found[0].minutes == pytest.approx(5.6)
    assert max(found[0].shares) == 1.0 and found[0].shares[-1] < 0.02


def test_a_schedule_that_counts_in_steps_is_drawn_whatever_its_length() -> None:
    changes = ["finetune.schedule.warmup_steps=5000", "finetune.schedule.decay_steps=2000"]
    stages = recipes.build(recipes.load("demo", changes))
    assert max(courses(stages)[1].shares) == 1.0
    late = recipes.build(recipes.load("demo", ["pretrain.schedule.warmup_steps=5000"]))
    with pytest.raises(ConfigError, match="200"):
        courses(late, steps=200)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=300), st.integers(1, 80))
def test_a_sparkline_has_a_bar_for_every_part(values: list[float], width: int) -> None:
    line = sparkline(values, width)
    assert len(line) == min(width, len(values))
    assert set(line) <= set(" ▁▂▃▄▅▆▇█")


def test_pictures_and_texts(tmp_path: Path) -> None:
    one = Course("pretrain", 3.0, "linear", [1.0, 0.5, 0.0])
    assert text([one], width=3) == ["pretrain  █▄   3 min, linear"]
    draw([one, one._replace(stage="align")], tmp_path / "two.svg")
    assert "<svg" in (tmp_path / "two.svg").read_text()
    with pytest.raises(ConfigError, match="schedule"):
        draw([], tmp_path / "none.png")
