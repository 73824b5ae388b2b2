"""The verbs that use a model, on a tiny untrained one: chat, generate, evaluate, quantize."""

from __future__ import annotations

import io
import json
import signal
from pathlib import Path

import pytest
import torch

from ingot import cli
from ingot.artifact import publish, write_record
from ingot.models import huggingface
from ingot.models.decoder import DecoderConfig
from ingot.tokenizer.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with one small model that has learned nothing."""
    run = tmp_path_factory.mktemp("run")
    text = "def add(a, b):\n    return a + b\n" * 50
    tokenizer = Tokenizer.train([text], 300)
    config = DecoderConfig(
        vocabulary=tokenizer.vocab_size,
        width=64,
        layers=1,
        heads=2,
        kv_heads=1,
        head_width=32,
        feed_forward=64,
        context=96,
    )
    with publish(run / "base@1") as folder:
        huggingface.save(folder, config.build(0), dtype=torch.float32)
        tokenizer.save(folder)
        write_record(folder, kind="model", name="base", stage="pretrain")
    return run


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)

    def run(*arguments: object, said: str = "") -> tuple[object, str, str]:
        monkeypatch.setattr("sys.stdin", io.StringIO(said))
        with pytest.raises(SystemExit) as ended:
            cli.main([str(one) for one in arguments])
        captured = capsys.readouterr()
        return ended.value.code, captured.out, captured.err

    return run


def test_generate_repeats_with_a_seed(call, model: Path) -> None:
    arguments = ("generate", model, "def add", "--max-new-tokens", 12, "--seed", 3)
    status, text, _ = call(*arguments)
    assert status == 0
    assert call(*arguments)[1] == text
    answer = json.loads(call(*arguments, "--json")[1])
    assert answer["text"] + "\n" == text
    assert answer["model"] == "base@1"
    assert call("generate", model, "-", "--max-new-tokens", 12, "--seed", 3, said="def add")[1] == text


def test_chat_reads_one_message_per_line(call, model: Path) -> None:
    status, out, err = call("chat", model, "--max-new-tokens", 4, "--seed", 1, said="hello\n\nadd\n")
    assert status == 0
    assert out.count("\n") >= 2
    assert "Ctrl-D leaves" in err


def test_chat_says_what_was_cut(call, model: Path) -> None:
    said = "".join(f"message {number}\n" for number in range(6))
    _, _, err = call("chat", model, "--max-new-tokens", 4, "--temperature", 0, said=said)
    assert "outgrew the context of 96 tokens; cut: user 'message 0'" in err


def test_chat_goes_on_after_a_message_that_is_too_long(call, model: Path) -> None:
    status, out, err = call("chat", model, "--max-new-tokens", 4, said="x" * 500 + "\nhello\n")
    assert status == 0
    assert "shorten it" in err
    assert out


def test_evaluate_and_quantize(call, model: Path, tmp_path: Path) -> None:
    text = tmp_path / "text"
    text.mkdir()
    for number in range(10, 30):
        (text / f"{number}.md").write_text(f"# {number}\n\n" + "To add a and b, return a + b.\n" * 20)
    status, out, _ = call("evaluate", model, "--text", text, "--json")
    assert status == 0
    facts = json.loads(out)
    assert facts["base@1"]["heldout"]["bytes"] == 20 * (text / "10.md").stat().st_size
    low, high = facts["base@1"]["bits_per_byte_interval"]
    assert low <= facts["base@1"]["bits_per_byte"] <= high
    made = json.loads(call("quantize", model, "--out", tmp_path / "int8", "--json")[1])
    assert made["ratio"] < 0.6
    status, out, _ = call("evaluate", tmp_path / "int8", "--text", text)
    assert status == 0
    assert "xz -9e" in out
    assert call("quantize", model, "--out", tmp_path / "int8")[0] == 2
    assert call("evaluate", tmp_path / "int8")[0] == 2
