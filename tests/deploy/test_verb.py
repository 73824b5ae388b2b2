"""`ingot deploy` as it is typed."""

import json
import signal
from pathlib import Path

import pytest
import yaml

from ingot import cli
from ingot.deploy.folder import TARGETS


def call(monkeypatch: pytest.MonkeyPatch, *words: object) -> int:
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)
    with pytest.raises(SystemExit) as ended:
        cli.main(["deploy", *map(str, words)])
    assert isinstance(ended.value.code, int)
    return ended.value.code


def test_it_writes_a_folder_and_says_so(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert call(monkeypatch, model, "max_replicas=7", "--to", "k8s", "--out", out, "--device", "cuda") == 0
    told = capsys.readouterr().out
    assert str(out) in told and "hpa.yaml" in told
    assert yaml.safe_load((out / "hpa.yaml").read_text())["spec"]["maxReplicas"] == 7
    assert "cuda" in (out / "deployment.yaml").read_text()


def test_its_json_names_every_file(
    model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, model, "--to", "vllm", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["path"] == f"{model}-vllm" and told["settings"]["context"] == 512
    assert all((Path(told["path"]) / name).is_file() for name in told["files"])


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--to", "kubernets"], "known:"),
        (["--to", "helm"], "known:"),
        (["port=80"], "port"),
        (["replicas=3"], "unknown key 'replicas'"),
        (["port"], "a.b=c"),
        (["--device", "tpu"], "device"),
    ],
)
def test_a_mistake_is_named_and_nothing_is_written(
    model: Path,
    words: list[str],
    named: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert call(monkeypatch, model, *words) == 2
    assert named in capsys.readouterr().err
    assert not list(model.parent.glob("*-*"))


def test_the_help_names_every_target(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "--help") == 0
    told = capsys.readouterr().out
    assert all(to in told for to in TARGETS)
