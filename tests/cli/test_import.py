"""`ingot import` and `ingot model extend|upcycle|deepen|stretch`, as their user meets them."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ingot.artifact import verify
from ingot.models import huggingface
from ingot.models.decoder import DecoderConfig
from ingot.record import read
from ingot.tokenizer.tokenizer import Tokenizer

Run = Callable[..., Any]
STEMS, ENDINGS = (
    ("low", "new", "wide", "old", "great", "small", "quick", "bright"),
    ("", "er", "est", "ly", "ness"),
)
TEXTS = ["\n".join(f"the {stem}{ending} of a {stem}" for stem in STEMS for ending in ENDINGS)] * 3


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder as others publish them: bf16, ten rows more than tokens, a licence, a card."""
    tokenizer = Tokenizer.train(TEXTS, 320)
    config = DecoderConfig(
        vocabulary=tokenizer.vocab_size + 10,
        width=32,
        layers=2,
        heads=2,
        kv_heads=1,
        head_width=16,
        feed_forward=48,
        context=128,
    )
    model = config.build(0)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    huggingface.save(folder, model, torch.bfloat16, special={"eos_token_id": tokenizer.special["<|im_end|>"]})
    tokenizer.save(folder)
    (folder / "LICENSE").write_text("do as you like")
    (folder / "setup.py").write_text("raise SystemExit")
    return folder


def change(path: Path, **changes: Any) -> None:
    values = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(values))


def test_a_folder_comes_in_whole_and_keeps_its_bits(run: Run, elsewhere: Path, tmp_path: Path) -> None:
    outcome = run("import", elsewhere, "--out", tmp_path / "low")
    assert outcome.status == 0, outcome.err
    assert "qwen3" in outcome.out and "in bf16" in outcome.out and "chat template: ChatML" in outcome.out
    assert "10 rows of the embedding belong to no token" in outcome.out
    theirs, ours = (load_file(place / "model.safetensors") for place in (elsewhere, tmp_path / "low"))
    assert theirs.keys() == ours.keys()
    assert all(torch.equal(theirs[name], ours[name]) for name in theirs)
    record = read(tmp_path / "low").record
    assert (record.kind, record.stage, record.name) == ("model", "import", "low")
    assert record.config["origin"] == {"folder": str(elsewhere)}
    assert len(record.config["files"]["model.safetensors"]) == 64
    assert verify(tmp_path / "low") == []
    assert (tmp_path / "low" / "LICENSE").read_text() == "do as you like"
    assert not (tmp_path / "low" / "setup.py").exists()
    kept = Tokenizer.load(tmp_path / "low")
    assert kept.vocab_size == 330 and kept.token(329) == "<|unused_329|>"
    assert kept.encode("lower lowest") == Tokenizer.load(elsewhere).encode("lower lowest")
    assert run("import", elsewhere, "--out", tmp_path / "low").err.startswith("error: ")


def test_what_it_says_as_json_and_in_another_number_type(run: Run, elsewhere: Path, tmp_path: Path) -> None:
    outcome = run("import", elsewhere, "--out", tmp_path / "low", "--dtype", "fp32", "--json")
    told = json.loads(outcome.out)
    assert (told["family"], told["dtype"], told["difference"]) == ("qwen3", "fp32", None)
    assert told["sizes"] == {"layers": 2, "width": 32, "context": 128, "vocabulary": 330}
    assert told["parameters"] == huggingface.load(elsewhere).parameter_count()
    stored = load_file(tmp_path / "low" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float32}
    assert "did you mean 'fp32'" in run("import", elsewhere, "--dtype", "fp33").err


def test_a_run_folder_gets_its_next_base(run: Run, elsewhere: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    for number in (1, 2):
        assert run("import", elsewhere, "--out", tmp_path / "run").status == 0
        assert read(tmp_path / "run" / f"base@{number}").record.version == number
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").write_text("Dear")
    assert "neither a run folder nor free" in run("import", elsewhere, "--out", tmp_path / "other").err


def test_what_came_in_can_be_used(run: Run, elsewhere: Path, tmp_path: Path) -> None:
    low = tmp_path / "low"
    run("import", elsewhere, "--out", low)
    (tmp_path / "text.md").write_text("the lower and the lowest of the newest")
    assert run("generate", low, "low", "--max-new-tokens", 4).status == 0
    assert "bits per byte" in run("evaluate", low, "--text", tmp_path / "text.md").out
    assert run("quantize", low, "--out", tmp_path / "int8").status == 0
    assert run("generate", tmp_path / "int8", "low", "--max-new-tokens", 4).status == 0
    assert "qwen3" not in run("model", "show", low).err
    told = run("model", "extend", low, "--control", "<|tool|>", "--word", " zebra", "--json")
    assert json.loads(told.out)["difference"] <= 0.05  # bf16
    for verb in (["upcycle", low, "--experts", 2], ["deepen", low, "--layers", 3]):
        assert run("model", *verb).status == 0
    assert run("model", "stretch", low, "--context", 256, "--method", "linear").status == 0
    for made, what in (
        ("extended", "extend"),
        ("experts", "upcycle"),
        ("deeper", "deepen"),
        ("256", "stretch"),
    ):
        record = read(tmp_path / f"low-{made}").record
        assert record.stage == what
        assert record.parents["model"]["fingerprint"] == read(low).record.fingerprint
        assert run("generate", tmp_path / f"low-{made}", "low", "--max-new-tokens", 2).status == 0
    for wrong in (["extend", low, "--start", "pices"], ["deepen", low, "--layers", 9, "--how", "sollar"]):
        assert "did you mean" in run("model", *wrong).err
    assert "3 of 2 experts" in run("model", "upcycle", low, "--experts", 2, "--chosen", 3).err


def test_a_tokenizer_without_a_chat_gets_one(run: Run, elsewhere: Path, tmp_path: Path) -> None:
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (elsewhere / name).read_text().replace("<|im_start|>", "<|a|>").replace("<|im_end|>", "<|b|>")
        (elsewhere / name).write_text(text)
    change(elsewhere / "tokenizer_config.json", chat_template=None, pad_token=None, bos_token=None)
    outcome = run("import", elsewhere, "--out", tmp_path / "low")
    assert "chat template: none" in outcome.out
    assert "names no bos token; <|endoftext|> takes that part" in outcome.out
    assert run("generate", tmp_path / "low", "low", "--max-new-tokens", 2).status == 0
    assert run("model", "extend", tmp_path / "low", "--chat").status == 0
    tokenizer = Tokenizer.load(tmp_path / "low-extended")
    assert {"start", "end"} <= tokenizer.parts.roles.keys()
    assert "<|im_start|>" in (tokenizer.parts.chat_template or "")


@pytest.mark.parametrize("place", ["chat_template.jinja", "chat_template.json", "listed"])
def test_the_chat_template_is_found_where_it_lies(
    run: Run, elsewhere: Path, tmp_path: Path, place: str
) -> None:
    template = "{% for m in messages %}[{{ m['content'] }}]{% endfor %}"
    listed = [{"name": "tools", "template": "x"}, {"name": "default", "template": template}]
    change(elsewhere / "tokenizer_config.json", chat_template=listed if place == "listed" else None)
    if place == "chat_template.jinja":
        (elsewhere / place).write_text(template)
    elif place == "chat_template.json":
        (elsewhere / place).write_text(json.dumps({"chat_template": template}))
    assert "chat template: its own" in run("import", elsewhere, "--out", tmp_path / "low").out
    assert Tokenizer.load(tmp_path / "low").parts.chat_template == template


def _without_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, folder / "model.safetensors")


def _with_nan(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, folder / "model.safetensors")


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _leading_out(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "part.safetensors")
    index = {"weight_map": {"model.norm.weight": "../../secret.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "remote code": (lambda f: change(f / "config.json", auto_map={"AutoModel": "m.M"}), "code of its own"),
    "architecture": (
        lambda f: change(f / "config.json", architectures=["Qwen3ForCausalLN"]),
        "Qwen3ForCausalLM",
    ),
    "missing": (_without_a_weight, "model.norm.weight"),
    "nan": (_with_nan, "NaN or infinity"),
    "pickled": (_pickled, "pickled"),
    "path": (_leading_out, "secret"),
    "shape": (lambda f: change(f / "config.json", intermediate_size=64), "config.json says [64, 32]"),
    "small": (lambda f: change(f / "config.json", vocab_size=300), "token"),
    "quantized": (lambda f: change(f / "config.json", quantization_config={"format": "x"}), "quantized"),
    "truncated": (lambda f: (f / "model.safetensors").write_bytes(b"\x08"), "damaged or truncated"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "tokenizer.json"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_unsafe_or_damaged_is_refused_and_leaves_nothing(
    run: Run, elsewhere: Path, tmp_path: Path, name: str
) -> None:
    spoil, words = REFUSED[name]
    spoil(elsewhere)
    outcome = run("import", elsewhere, "--out", tmp_path / "low")
    assert outcome.status == 2
    assert words in outcome.err and outcome.err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere"]


def test_nothing_is_fetched_unless_it_is_asked_for(run: Run, tmp_path: Path) -> None:
    outcome = run("import", "ada/low", "--out", tmp_path / "low")
    assert outcome.status == 2 and "add --online to fetch ada/low" in outcome.err
    assert "HF_HUB_OFFLINE" in run("import", "ada/low", "--online", "--out", tmp_path / "low").err
    assert "no such folder" in run("import", tmp_path / "nowhere", "--out", tmp_path / "low").err


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, elsewhere: Path) -> list[str]:
    """A pull that copies a folder of this machine, and counts."""
    import shutil

    from ingot.artifact import write_record
    from ingot.export import fetching
    from ingot.export.hub import Pulled

    asked: list[str] = []

    def pull(repository: str, folder: Path, revision: str | None = None) -> Pulled:
        asked.append(repository)
        shutil.copytree(elsewhere, folder)
        origin = {"repository": repository, "commit": revision or "c0ffee"}
        write_record(folder, kind="model", name="low", stage="pull", config=origin)
        return Pulled(folder, origin["commit"], [], [])

    monkeypatch.setattr(fetching, "pull", pull)
    return asked


def test_a_repository_is_fetched_once_however_often_it_is_taken_in(
    run: Run, hub: list[str], elsewhere: Path, tmp_path: Path
) -> None:
    good = (elsewhere / "config.json").read_text()
    change(elsewhere / "config.json", quantization_config={"format": "x"})
    assert run("import", "ada/low", "--online", "--out", tmp_path / "low").status == 2
    assert (tmp_path / "low-fetched").is_dir()
    (tmp_path / "low-fetched" / "config.json").write_text(good)
    assert run("import", "ada/low", "--online", "--out", tmp_path / "low").status == 0
    assert hub == ["ada/low"]
    origin = read(tmp_path / "low").record.config["origin"]
    assert origin == {"repository": "ada/low", "commit": "c0ffee"}
    assert not (tmp_path / "low-fetched").exists()


def test_logits_are_compared_with_transformers(run: Run, elsewhere: Path, tmp_path: Path) -> None:
    outcome = run("import", elsewhere, "--out", tmp_path / "low", "--check", "--json")
    assert outcome.status == 0, outcome.err
    assert 0 <= json.loads(outcome.out)["difference"] <= 1e-4
    assert read(tmp_path / "low").record.metrics["difference"] <= 1e-4


def test_a_model_that_answers_otherwise_is_not_taken_in(
    run: Run, elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ingot.export import likeness

    monkeypatch.setattr(likeness, "TOLERANCE", 1e-12)
    outcome = run("import", elsewhere, "--out", tmp_path / "low", "--check")
    assert outcome.status == 2 and "from transformers'" in outcome.err
    assert not (tmp_path / "low").exists()


def test_a_check_without_transformers_says_how_to_get_it(
    run: Run, elsewhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    outcome = run("import", elsewhere, "--out", tmp_path / "low", "--check")
    assert outcome.status == 2 and "pip install 'ingot[hf]'" in outcome.err


@pytest.mark.parametrize(
    ("family", "kind"),
    [("bert", "encoder"), ("t5", "encoder_decoder"), ("qwen3-nextgateddeltanet", "linear_decoder")],
)
def test_other_kinds_of_models_come_in_too(run: Run, family: str, kind: str, tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from ingot.bench.doors import DOORS
    from ingot.bench.published import chosen, write

    one = chosen([family])[0]
    theirs = write(one, tmp_path / "theirs")
    outcome = run("import", tmp_path / "theirs", "--out", tmp_path / "ours", "--json")
    assert outcome.status == 0, outcome.err
    assert json.loads(outcome.out)["parameters"] == sum(p.numel() for p in theirs.parameters())
    assert json.loads((tmp_path / "ours" / "artifact.json").read_text())["kind"] == kind
    door = DOORS[one.kind]
    tokens = torch.randint(3, 300, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        said = door.logits(door.load(tmp_path / "ours", torch.float32), tokens)
        assert (said - door.their_logits(theirs, tokens)).abs().max() <= 1e-4
