"""The stages compress and evaluate on a real run folder whose training stages are stand-ins."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from ingot.artifact import Artifact, verify
from ingot.config import Config
from ingot.data.conversations import mine_code
from ingot.data.corpus import read_documents
from ingot.evaluate import measured
from ingot.evaluate.instruction import Prompt
from ingot.models import huggingface
from ingot.models.decoder import DecoderConfig
from ingot.pipeline import Context, LeftOut, Pipeline
from ingot.progress import Progress
from ingot.stages.compress import Compress, CompressConfig
from ingot.stages.evaluate import Evaluate, EvaluateConfig
from ingot.stages.prepare import Prepare, PrepareConfig
from ingot.stages.tokenizer import TrainTokenizer, TrainTokenizerConfig
from ingot.tokenizer.tokenizer import Tokenizer


class Untrained:
    """Stands for a training stage: a small random model, or none."""

    kind = "model"
    config = Config()

    def __init__(self, name: str, artifact: str, needs: tuple[str, ...], without: str | None) -> None:
        self.name, self.artifact, self.needs, self.without = name, artifact, needs, without

    def run(self, context: Context) -> None:
        if self.without:
            raise LeftOut(self.without)
        tokenizer = Tokenizer.load(context.parents["tokenizer"].path)
        sizes = {"width": 64, "layers": 2, "heads": 2, "kv_heads": 1, "head_width": 32, "feed_forward": 128}
        config = DecoderConfig(vocabulary=tokenizer.vocab_size, context=192, **sizes)
        huggingface.save(context.folder, config.build(len(self.name)))
        tokenizer.save(context.folder)


def road(data: Path, run: Path, without: Sequence[str] = (), prompts: int = 12) -> list[Artifact]:
    reason = dict.fromkeys(without, "nothing to learn from")
    stages = [
        Prepare(PrepareConfig(data=str(data), heldout=0.2)),
        TrainTokenizer(TrainTokenizerConfig(vocabulary=400)),
        Untrained("pretrain", "base", ("tokenizer",), reason.get("pretrain")),
        Untrained("finetune", "finetuned", ("tokenizer", "pretrain"), reason.get("finetune")),
        Untrained("align", "aligned", ("tokenizer", "finetune"), reason.get("align")),
        Compress(CompressConfig()),
        Evaluate(EvaluateConfig(prompts=prompts, max_new_tokens=24)),
    ]
    return Pipeline(stages, run).run(Progress())


def read(artifact: Artifact, name: str) -> Any:
    return json.loads((artifact.path / name).read_text())


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Models as small as these are slower with more."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def skilled(monkeypatch: pytest.MonkeyPatch, tiny_corpus: Path, tmp_path: Path) -> Callable[[], list[str]]:
    """Lets models answer right on 0, 6, 12 and 12 of 12 prompts; returns the calls so far."""
    calls: list[str] = []
    known: dict[str, str] = {}

    def answer(engine: Any, tokenizer: Any, prompts: Sequence[Prompt], sampling: Any, task: Any) -> list[str]:
        if not known:
            documents = read_documents(tmp_path / "run" / "corpus@1", "heldout")
            known.update({one.prompt: one.answer for one in mine_code(documents)})
        calls.append(task)
        right = min(12, 6 * (len(calls) - 1))
        return [known[one.text] if i < right else "```\n1\n```" for i, one in enumerate(prompts)]

    monkeypatch.setattr(measured, "answer", answer)
    return lambda: calls


def test_what_is_written(tiny_corpus: Path, tmp_path: Path, skilled: Callable[[], list[str]]) -> None:
    made = road(tiny_corpus, tmp_path / "run")
    int8, evaluation = made[-2:]
    assert int8.record.metrics["of"] == "aligned"
    assert int8.record.metrics["ratio"] < 0.32
    assert (
        huggingface.read_config(int8.path)[1]["quantization_config"]["quant_method"] == "compressed-tensors"
    )
    found = read(evaluation, "evaluation.json")
    heldout = read_documents(tmp_path / "run" / "corpus@1", "heldout")
    assert found["heldout"]["documents"] == len(heldout)
    assert found["heldout"]["bytes"] == sum(len(document.text.encode()) for document in heldout)
    assert found["xz"]["command"] == "xz -9e"
    assert found["prompts"] == 12
    models = found["models"]
    assert list(models) == ["base", "finetuned", "aligned", "int8"]
    assert [one["folder"] for one in models.values()] == ["base@1", "finetuned@1", "aligned@1", "int8@1"]
    assert [one["success"] for one in models.values()] == [0, 0.5, 1, 1]
    assert [one["parse"] for one in models.values()] == [1, 1, 1, 1]
    assert models["int8"]["of"] == "aligned"
    for one in models.values():
        low, high = one["bits_per_byte_interval"]
        assert low <= one["bits_per_byte"] <= high
        low, high = one["success_interval"]
        assert 0 <= low <= one["success"] <= high <= 1
        assert one["decode_tokens_per_second"] > 0
        weights = tmp_path / "run" / one["folder"] / "model.safetensors"
        assert one["bytes"] == weights.stat().st_size
    by = {(one["from"], one["to"], one["metric"]): one for one in found["comparisons"]}
    assert len(by) == 9
    better = by["base", "finetuned", "success"]
    assert (better["difference"], better["excludes_zero"]) == (0.5, True)
    same = by["aligned", "int8", "success"]
    assert (same["difference"], same["interval"], same["excludes_zero"]) == (0, [0, 0], False)
    loss = by["aligned", "int8", "bits_per_byte"]
    assert loss["relative"]
    assert loss["difference"] == pytest.approx(
        models["int8"]["bits_per_byte"] / models["aligned"]["bits_per_byte"] - 1
    )
    assert loss["interval"][0] <= loss["difference"] <= loss["interval"][1]


def test_targets_are_said_in_words(
    tiny_corpus: Path, tmp_path: Path, skilled: Callable[[], list[str]]
) -> None:
    evaluation = road(tiny_corpus, tmp_path / "run")[-1]
    found = read(evaluation, "evaluation.json")
    met = {one["name"]: one["met"] for one in found["targets"]}
    assert met[next(name for name in met if "of base below" in name)] is False  # it learned nothing
    assert met["bits per byte of int8 within 1 % of aligned"] is True
    assert met["int8 at most 32 % of the float32 bytes"] is True
    assert sum("instruction success" in name and value is True for name, value in met.items()) == 2
    missed = [note for note in evaluation.record.notes if note.startswith("Missed: ")]
    assert len(missed) == list(met.values()).count(False)
    assert not any("That is all there are" in note for note in evaluation.record.notes)
    assert evaluation.record.metrics["finetuned_success"] == 0.5
    assert not verify(tmp_path / "run")


def test_outcomes_and_samples_cover_every_model(
    tiny_corpus: Path, tmp_path: Path, skilled: Callable[[], list[str]]
) -> None:
    evaluation = road(tiny_corpus, tmp_path / "run")[-1]
    lines = [json.loads(line) for line in (evaluation.path / "outcomes.jsonl").read_text().splitlines()]
    assert len(lines) == 4 * 12
    assert {frozenset(line) for line in lines} == {
        frozenset({"model", "prompt", "success", "parses", "answer", "source"})
    }
    for model in ("base", "int8"):
        assert len({line["prompt"] for line in lines if line["model"] == model}) == 12
    shown = read(evaluation, "samples.json")
    assert 4 <= len(shown) <= 6
    assert all(list(one["answers"]) == ["base", "finetuned", "aligned", "int8"] for one in shown)


def test_an_interrupted_evaluation_goes_on(
    tiny_corpus: Path, tmp_path: Path, skilled: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from ingot.stages import evaluate

    real = evaluate.xz_bits_per_byte

    def killed(texts: Sequence[str]) -> float:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluate, "xz_bits_per_byte", killed)
    with pytest.raises(KeyboardInterrupt):
        road(tiny_corpus, tmp_path / "run")
    assert len(skilled()) == 4
    monkeypatch.setattr(evaluate, "xz_bits_per_byte", real)
    evaluation = road(tiny_corpus, tmp_path / "run")[-1]
    assert len(skilled()) == 4
    assert read(evaluation, "evaluation.json")["models"]["aligned"]["success"] == 1


def test_real_answers_without_alignment(tiny_corpus: Path, tmp_path: Path) -> None:
    made = road(tiny_corpus, tmp_path / "run", without=["align"], prompts=3)
    found = read(made[-1], "evaluation.json")
    assert list(found["models"]) == ["base", "finetuned", "int8"]
    assert found["models"]["int8"]["of"] == "finetuned"
    assert {(one["from"], one["to"]) for one in found["comparisons"]} == {
        ("base", "finetuned"),
        ("finetuned", "int8"),
    }
    assert all(len(one["answers"]["base"]) > 0 for one in read(made[-1], "samples.json"))


def test_prose_has_no_success_rate(tmp_path: Path) -> None:
    data = tmp_path / "prose"
    data.mkdir()
    for n in range(12):
        text = "".join(f"Sentence {n * i} about the weather of day {i}.\n" for i in range(80))
        (data / f"{n}.txt").write_text(text)
    made = road(data, tmp_path / "run", without=["finetune", "align"])
    found = read(made[-1], "evaluation.json")
    assert list(found["models"]) == ["base", "int8"]
    assert found["prompts"] == 0
    assert found["models"]["base"]["success"] is None
    assert found["models"]["base"]["success_interval"] is None
    assert [one["metric"] for one in found["comparisons"]] == ["bits_per_byte"]
    assert len(read(made[-1], "samples.json")) == 5
    assert any("hold no functions" in note for note in made[-1].record.notes)
    assert all(math.isfinite(one["value"]) for one in found["targets"])


def test_without_a_model_both_stages_are_left_out(tiny_corpus: Path, tmp_path: Path) -> None:
    made = road(tiny_corpus, tmp_path / "run", without=["pretrain", "finetune", "align"])
    assert [one.record.left_out for one in made[-2:]] == ["no model was made", "no model was made"]
