"""The verbs `export`, `push` and `pull`: what they print, and 2 for what a user can mend."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from ingot.artifact import write_record
from ingot.cli import export, hub
from ingot.errors import IngotError
from ingot.export import hub as doors

Make = Callable[..., Path]


@pytest.fixture
def verbs() -> typer.Typer:
    app = typer.Typer()
    for verb in (export.export, hub.push, hub.pull):
        app.command()(verb)
    return app


def call(app: typer.Typer, *words: object) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_gguf_beside_the_model(made: Make, verbs: typer.Typer) -> None:
    pytest.importorskip("gguf")
    folder = made()
    done = call(verbs, "export", folder, "--to", "gguf", "--type", "q8_0", "--json")
    told = json.loads(done.stdout)
    assert told["path"] == f"{folder}-q8_0.gguf"
    assert Path(told["path"]).stat().st_size == told["bytes"]
    done = call(verbs, "export", folder, "--to", "torchscript", "--out", folder.parent / "ts")
    assert "logits differ by" in done.stdout
    assert (folder.parent / "ts" / "model.ts").is_file()


@pytest.mark.parametrize(
    ("words", "fix"),
    [
        (["--to", "onnxx"], "onnx"),
        (["--to", "gguf", "--type", "q8"], "q8_0"),
        (["--to", "onnx", "--type", "f16"], "--to gguf"),
    ],
)
def test_wrong_arguments_are_mistakes_to_mend(
    made: Make, verbs: typer.Typer, words: Sequence[str], fix: str
) -> None:
    error = call(verbs, "export", made(), *words).exception
    assert isinstance(error, IngotError)
    assert error.exit_code == 2
    assert fix in str(error)


def test_the_format_has_to_be_named(made: Make, verbs: typer.Typer) -> None:
    assert call(verbs, "export", made()).exit_code == 2
    assert call(verbs, "push", made()).exit_code == 2


def test_push_sends_a_card_made_of_the_record_and_its_run(
    made: Make, verbs: typer.Typer, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made()
    record = write_record(folder, kind="model", name="base", metrics={"tokens": 1234})
    measured = folder.parent / "evaluation@1"
    measured.mkdir()
    figures = {"models": {"base": {"bits_per_byte": 2.125, "bits_per_byte_interval": [2.0, 2.25]}}}
    (measured / "evaluation.json").write_text(json.dumps(figures))
    sent: list[Any] = []

    def send(*arguments: Any) -> doors.Pushed:
        sent.extend(arguments)
        return doors.Pushed("http://hub/ada/low", "0123456789", ["config.json"])

    monkeypatch.setattr(doors, "push", send)
    from ingot.artifact import Artifact

    write_record(measured, kind="evaluation", name="evaluation", parents={"base": Artifact(folder, record)})
    done = call(verbs, "push", folder, "ada/low")
    assert done.stdout.strip() == "http://hub/ada/low: 1 files, commit 0123456"
    source, repository, card, public, message = sent
    assert (source, repository, public, message) == (folder, "ada/low", False, None)
    assert record.fingerprint in card
    assert "2.125" in card or "2.13" in card or "2.12" in card
