"""Two runs side by side: what was changed is named, what was not is not, and the step at which they part."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ingot.artifact import publish, read, write_record
from ingot.errors import ArtifactError
from ingot.train.compare import difference
from ingot.train.log import MetricsLog


def made(run: Path, version: int, losses: list[float], seed: int = 0, **config: object) -> Path:
    parent = run / "corpus@1"
    if not parent.exists():
        with publish(parent) as folder:
            (folder / "text").write_text("text")
            write_record(folder, kind="corpus", name="corpus")
    final = run / f"base@{version}"
    with publish(final) as folder:
        log = MetricsLog(folder / "metrics.jsonl")
        for step, loss in enumerate(losses, start=1):
            log.append({"step": step, "loss": loss, "seconds": 0.5 * step * version})
        (folder / "plan.json").write_text(json.dumps({"train": {"steps": len(losses)}}))
        settings = {"clip": 1.0, "schedule": {"shape": "cosine"}} | config
        parents = {"prepare": read(parent)}
        write_record(
            folder, kind="model", name="base", version=version, config=settings, seed=seed, parents=parents
        )
    return final


def test_the_same_run_twice_differs_in_nothing_but_time(tmp_path: Path) -> None:
    found = difference(made(tmp_path, 1, [3.0, 2.0]), made(tmp_path, 2, [3.0, 2.0]))
    assert found.settings == found.origins == found.code == found.machine == {}
    assert found.results == {"step": (2, 2), "loss": (2.0, 2.0), "seconds": (1.0, 2.0)}
    assert found.parted is None
    assert "settings: the same" in found.table() and "losses: they never part" in found.table()


def test_what_was_changed_is_named_and_nothing_else(tmp_path: Path) -> None:
    one = made(tmp_path, 1, [3.0, 2.0, 1.0])
    two = made(tmp_path, 2, [3.0, 2.0 + 1e-15, 0.5, 0.4], seed=1, schedule={"shape": "linear"}, extra=None)
    found = difference(one, two)
    assert found.settings == {
        "plan.train.steps": (3, 4),
        "schedule.shape": ("cosine", "linear"),
        "seed": (0, 1),
    }
    assert found.parted == 2  # the last bit counts
    assert "schedule.shape    cosine -> linear" in found.table()
    assert "losses: they part at step 2" in found.table()
    assert json.loads(json.dumps(found.plain()))["settings"]["seed"] == [0, 1]


def test_a_run_under_way_can_be_compared(tmp_path: Path) -> None:
    work = tmp_path / "work" / "pretrain-abc"
    work.mkdir(parents=True)
    log = MetricsLog(work / "metrics.jsonl")
    log.append({"step": 1, "loss": float("nan")})
    found = difference(work, made(tmp_path, 1, [float("nan"), 2.0]))
    assert found.parted == 2  # NaN is the same as NaN; the second goes on alone
    assert found.settings["clip"] == (None, 1.0)
    assert "- -> 1" in found.table()


def test_other_folders_are_refused(tmp_path: Path) -> None:
    made(tmp_path, 1, [1.0])
    with pytest.raises(ArtifactError, match=r"holds no metrics\.jsonl; give a trained model's folder"):
        difference(tmp_path / "base@1", tmp_path)
