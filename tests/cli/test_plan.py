"""`ingot plan`: budgets, devices that are not here, pictures, and mistakes in one line."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from ingot import cli

Run = Callable[..., tuple[object, str, str]]


@pytest.fixture
def run(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Run:
    """Calls `ingot plan demo` with the given options, its run folder in a new place."""
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)

    def call(*arguments: object, recipe: str = "demo") -> tuple[object, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["plan", recipe, *(str(one) for one in arguments), "--out", str(tmp_path / "run")])
        captured = capfd.readouterr()
        return ended.value.code, captured.out, captured.err

    return call


def test_dollars_on_a_device_that_is_not_here(run: Run) -> None:
    status, out, _ = run("--dollars", 50, "--device", "h200", "--gpus", 8, "--price", 3, "--json")
    assert status == 0
    model = json.loads(out)["model"]
    assert model["budget"] == {
        "device": "h200", "gpus": 8, "peak_tflops": 989.0, "share_of_peak": 0.35,
        "dollars_per_hour": 24.0, "price": "given",
    }  # fmt: skip
    assert model["dollars"] <= 50
    low, high = model["bits_per_byte"]["interval"]
    assert low < model["bits_per_byte"]["value"] < high
    assert any("h200 is not here" in doubt for doubt in model["doubts"])
    assert model["memory"]["total"] < 141e9
    assert model["steps"] * model["batch_size"] * model["context"] <= model["tokens"]


def test_the_answer_in_words_ends_with_the_command_that_does_it(run: Run) -> None:
    status, out, _ = run("pretrain.context=256", "--hours", 2, "--device", "rtx4090")
    assert status == 0
    for word in ("size", "tokens", "batch", "speed", "bits per byte", "memory", "cost", "assumed"):
        assert word in out
    command = next(line for line in out.splitlines() if line.startswith("run it:"))
    words = shlex.split(command)[2:]
    assert words[:5] == ["ingot", "run", "demo", "pretrain.context=256", "minutes=120"]
    from ingot import recipes

    loaded = recipes.load("demo", words[3:])
    recipes.build(loaded)  # every change that is proposed is one that can be used
    assert loaded.minutes == 120
    assert any(word.startswith("pretrain.depth=") for word in words)


def test_schedules_are_drawn_and_shown(run: Run, tmp_path: Path) -> None:
    status, out, _ = run("--device", "a100", "--plot", tmp_path / "rates.png")
    assert status == 0
    assert (tmp_path / "rates.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    lines = [line for line in out.splitlines() if "█" in line]
    assert [line.split()[0] for line in lines] == ["pretrain", "finetune", "align"]
    status, _, error = run("--device", "a100", "--plot", tmp_path / "rates.txt")
    assert status == 2 and "'.txt'" in error


@pytest.mark.usefixtures("known_pace")
def test_a_recipe_of_one_stage_is_planned_on_this_machine(run: Run, tiny_corpus: Path) -> None:
    status, out, _ = run("--quick", f"data={tiny_corpus}", "--minutes", 0.4, "--json", recipe="pretrain")
    assert status == 0
    model = json.loads(out)["model"]
    assert model["budget"] == {"device": "this machine", "gpus": 1} and model["dollars"] is None
    assert model["seconds"] == pytest.approx(24.0)
    assert "another text" in model["bits_per_byte"]["basis"]
    assert model["changes"] == []  # the recipe's own batch and rates suit a machine like this one


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("--minutes", 3, "--hours", 1), "--minutes 3 and --hours 1 both limit the run"),
        (("--dollars", 3), "add --price"),
        (("--device", "h20"), "did you mean 'h200'"),
        (("--hours", -1), "-1 is not above zero"),
        (("--gpus", 2), "this machine"),
    ],
)
def test_mistakes_are_one_line(run: Run, asked: tuple[object, ...], words: str) -> None:
    status, _, error = run(*asked)
    assert status == 2
    assert words in error and error.count("\n") == 1
