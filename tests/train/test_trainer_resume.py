"""Going on: only with the same run, with the choices that it began with, and on other micro-batches."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from ingot.data.stream import WindowStream
from ingot.errors import ConfigError
from ingot.models.decoder import DecoderConfig
from ingot.objectives.causal import CausalLM
from ingot.optim.joint import OptimizerConfig
from ingot.progress import Progress
from ingot.train.trainer import TrainConfig, Trainer

SIZES = {
    "vocabulary": 31,
    "width": 16,
    "layers": 1,
    "heads": 2,
    "kv_heads": 1,
    "head_width": 8,
    "feed_forward": 32,
    "context": 16,
}
TOKENS = np.random.default_rng(0).integers(0, 31, 3000).astype(np.uint16)


class Heard(Progress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


def trainer(
    work: Path,
    tokens: np.ndarray = TOKENS,
    sizes: dict[str, int] = SIZES,
    optimizer: OptimizerConfig | None = None,
    **changes: Any,
) -> Trainer:
    model = DecoderConfig.parse(sizes).build(0)
    config = TrainConfig.parse({"steps": 12, "checkpoint_every": 4, **changes})
    rates = (optimizer or OptimizerConfig(embedding_rate=0.05)).build(model)
    return Trainer(model, CausalLM(), WindowStream(tokens, 16, 8, 0), rates, config, work)


def stopped_after(steps: int, work: Path, **changes: Any) -> None:
    """Leaves the checkpoint of a run that was cut off."""
    run = trainer(work, **changes)
    for _ in range(steps):
        run.step()
    run._save(Progress())
    run.prefetch.close()
    run.log.close()


OTHERS: dict[str, tuple[dict[str, Any], str]] = {
    "data": ({"tokens": TOKENS[::-1].copy()}, r"has data [0-9a-f]{12}\.\.\., this run has [0-9a-f]{12}"),
    "steps": ({"steps": 13}, "has steps 12, this run has 13"),
    "seed": ({"seed": 1}, "has seed 0, this run has 1"),
    "width": (
        {"sizes": SIZES | {"width": 24}},
        r"'embedding.weight' is \[31, 16\] in the checkpoint and \[31, 24\] in this run",
    ),
    "layers": ({"sizes": SIZES | {"layers": 2}}, r"'blocks.1.* is absent in the checkpoint and \[.*\]"),
    "optimizer": ({"optimizer": OptimizerConfig(name="lion")}, "optimizer state '.*' of shape"),
    "average": ({"ema": 0.9}, "is absent in the checkpoint"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_run_is_refused_before_any_compute(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped_after(4, tmp_path)
    changes, words = OTHERS[name]
    run = trainer(tmp_path, **changes)
    monkeypatch.setattr(run.program, "update", lambda *inputs: pytest.fail("computed"))
    with pytest.raises(ConfigError, match=words):
        run.fit(Progress(), "x")
    assert (tmp_path / "checkpoints/step-00000004").is_dir()


def test_a_resumed_run_keeps_its_choices_and_says_so(tmp_path: Path) -> None:
    begun = {"precision": "bf16", "micro_batch": 3, "threads": 1}
    whole = trainer(tmp_path / "whole", **begun).fit(Progress(), "x")
    stopped_after(4, tmp_path / "part", **begun)
    heard = Heard()
    run = trainer(tmp_path / "part", precision="fp32", micro_batch=8, threads=2)
    log = run.fit(heard, "training")
    assert heard.said[0] == (
        "training: keeps what the run began with (threads 1, precision bf16, micro_batch 3)"
    )
    assert heard.said[1] == "training: going on after step 4 of 12"
    assert [line["loss"] for line in log[4:]] == [line["loss"] for line in whole[4:]]
    assert torch.get_num_threads() == 1


def test_compilation_that_was_given_up_is_not_tried_again(tmp_path: Path) -> None:
    stopped_after(4, tmp_path)
    state = tmp_path / "checkpoints/step-00000004/state.json"
    values = json.loads(state.read_text())
    assert values["choices"] == {
        "threads": 1,
        "compile": False,
        "precision": "fp32",
        "micro_batch": None,
        "ranks": 1,
    }
    run = trainer(tmp_path, compile=True)
    run.fit(Progress(), "x")
    assert run.config.compile is False


def test_checkpoints_of_an_earlier_version_are_read(tmp_path: Path) -> None:
    """They know neither the run nor its choices, nor a guard."""
    whole = trainer(tmp_path / "whole").fit(Progress(), "x")
    stopped_after(4, tmp_path / "part")
    state = tmp_path / "part/checkpoints/step-00000004/state.json"
    values = json.loads(state.read_text())
    old = {key: values[key] for key in ("step", "sha256", "weight", "seconds")}
    state.write_text(json.dumps(old | {"skipped": 0, "skipped_in_row": 0}))
    log = trainer(tmp_path / "part").fit(Progress(), "x")
    assert [line["loss"] for line in log[4:]] == [line["loss"] for line in whole[4:]]


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    first = trainer(tmp_path, ema=0.9)
    log = first.fit(Progress(), "x")
    again = trainer(tmp_path, ema=0.9)
    again.program.update = lambda *inputs: pytest.fail("computed")  # type: ignore[method-assign]
    assert again.fit(Progress(), "x") == log
    for one, other in zip(first.state.model.parameters(), again.state.model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_what_a_killed_save_left_behind_goes_away(tmp_path: Path) -> None:
    left = tmp_path / "checkpoints" / ".step-00000004.tmp-999999999"
    left.mkdir(parents=True)
    (left / "tensors.safetensors").write_bytes(b"half")
    trainer(tmp_path).fit(Progress(), "x")
    assert sorted(path.name for path in left.parent.iterdir()) == ["step-00000008", "step-00000012"]
