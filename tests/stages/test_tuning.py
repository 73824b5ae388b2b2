"""Fine-tuning and alignment as stages: tiny models and corpora, real trainer, real folders."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from ingot.align.rewards import Score
from ingot.artifact import Artifact
from ingot.checkpoint.store import Checkpoint, CheckpointStore
from ingot.config import Config
from ingot.models import huggingface
from ingot.models.decoder import DecoderConfig
from ingot.pipeline import Context, Pipeline
from ingot.progress import Progress
from ingot.stages.align import Align, AlignConfig
from ingot.stages.finetune import Finetune, FinetuneConfig
from ingot.stages.prepare import Prepare, PrepareConfig
from ingot.stages.tokenizer import TrainTokenizer, TrainTokenizerConfig
from ingot.stages.tuning import early, kept_plan, late
from ingot.tokenizer.tokenizer import Tokenizer

QUICK = FinetuneConfig(minutes=5, epochs=1, batch_size=8)
SHORT = AlignConfig(minutes=5, most_steps=3, prompts=4, answers=4, answer_tokens=24)


class Pretend:
    """Stands for pretraining: a model as it was initialised."""

    name, artifact, kind, needs = "pretrain", "base", "model", ("tokenizer",)

    def __init__(self) -> None:
        self.config = Config()

    def run(self, context: Context) -> None:
        tokenizer = Tokenizer.load(context.parents["tokenizer"].path)
        config = DecoderConfig(
            vocabulary=tokenizer.vocab_size,
            width=32,
            layers=2,
            heads=2,
            kv_heads=1,
            head_width=16,
            feed_forward=48,
            context=256,
        )
        huggingface.save(context.folder, config.build(seed=0))
        tokenizer.save(context.folder)


def write_code(folder: Path, files: int = 12) -> Path:
    """Modules of functions with docstrings, all different."""
    folder.mkdir()
    chance = random.Random(0)
    words = ["sum", "part", "size", "name", "list", "word", "line", "page", "room", "door", "path", "node"]
    for number in range(files):
        functions = []
        for index in range(12):
            a, b, c = chance.sample(words, 3)
            functions.append(
                f"def {a}_{b}_{number}({c}, {b}):\n"
                f'    """Return the {a} of {b} {number} and {c} {index}."""\n'
                f"    {a} = {c} + {b} * {chance.randrange(1000)}\n"
                f"    return {a}\n"
            )
        comment = " ".join(chance.choice(words) + str(chance.randrange(10**6)) for _ in range(80))
        (folder / f"module{number}.py").write_text(f"# {comment}\n\n" + "\n\n".join(functions))
    return folder


def write_novel(folder: Path) -> Path:
    folder.mkdir()
    chance = random.Random(1)
    for chapter in range(6):
        text = " ".join(str(chance.randrange(10**9)) for _ in range(900))
        (folder / f"chapter{chapter}.txt").write_text(text)
    return folder


def run(
    out: Path, data: Path, finetune: FinetuneConfig = QUICK, align: AlignConfig = SHORT
) -> list[Artifact]:
    stages: list[Any] = [
        Prepare(PrepareConfig(data=str(data), heldout=0.1)),
        TrainTokenizer(TrainTokenizerConfig(vocabulary=400)),
        Pretend(),
        Finetune(finetune),
        Align(align),
    ]
    return Pipeline(stages, out).run(Progress())


def losses(artifact: Artifact) -> list[tuple[float, ...]]:
    lines = [json.loads(line) for line in (artifact.path / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"], line["gradient_norm"], line["tokens"]) for line in lines]


def score_spaces(answer: str, check: Mapping[str, Any]) -> Score:
    """A reward that a model without training earns sometimes."""
    return Score(min(1.0, answer.count(" ") / 4), success="t" in answer, hollow=False)


@pytest.fixture(scope="module", autouse=True)
def _easy_reward() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ingot.stages.align.score_code", score_spaces)
        yield


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_code(tmp_path_factory.mktemp("data") / "code")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, data: Path) -> list[Artifact]:
    return run(tmp_path_factory.mktemp("run") / "out", data)


def test_both_make_model_folders(finished: list[Artifact]) -> None:
    for artifact in finished[3:]:
        assert artifact.record.left_out is None
        model = huggingface.load(artifact.path)
        tokenizer = Tokenizer.load(artifact.path)
        assert model.config.vocabulary == tokenizer.vocab_size
        generation = json.loads((artifact.path / "generation_config.json").read_text())
        assert generation["eos_token_id"] == tokenizer.special["<|im_end|>"]
        plan = json.loads((artifact.path / "plan.json").read_text())
        assert plan["train"]["steps"] == len(losses(artifact)) == artifact.record.metrics["steps"]
        assert {"parameters", "tokens", "seconds", "tokens_per_second", "loss"} <= set(
            artifact.record.metrics
        )


def test_finetuning_learns_and_counts(finished: list[Artifact]) -> None:
    finetuned = finished[3]
    assert losses(finetuned)[-1][1] < losses(finetuned)[0][1]
    metrics = finetuned.record.metrics
    assert metrics["epochs"] == 1.0
    assert metrics["mined"] <= 12 * 12
    assert metrics["used"] <= (1 + QUICK.renamed) * metrics["mined"]
    assert "questions with answers" in finetuned.record.notes[0]


def test_alignment_logs_rewards_and_keeps_answers(finished: list[Artifact]) -> None:
    aligned = finished[4]
    lines = [json.loads(line) for line in (aligned.path / "metrics.jsonl").read_text().splitlines()]
    assert all({"reward", "success", "length", "hollow", "cut", "taught"} <= set(line) for line in lines)
    shown = [json.loads(line) for line in (aligned.path / "rollouts.jsonl").read_text().splitlines()]
    assert [(line["step"], line["place"]) for line in shown] == [(s, p) for s in range(3) for p in range(4)]
    assert "success from" in aligned.record.notes[0]
    assert lines[0]["gradient_norm"] > 0
    assert lines[0]["clipped"] == 0  # the answers are the policy's own: the ratio is 1


class Interrupted(BaseException):
    pass


@pytest.mark.parametrize("saves", [1, 2])
def test_a_stage_that_was_stopped_goes_on_with_the_same_losses(
    finished: list[Artifact], data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saves: int
) -> None:
    """Both stages are stopped after a checkpoint, once each, and end where the others ended."""
    left = {"finetune": saves, "align": 1}
    save = CheckpointStore.save

    def save_and_stop(store: CheckpointStore, checkpoint: Checkpoint) -> None:
        save(store, checkpoint)
        stage = store.folder.parent.name.split("-")[0]
        left[stage] -= 1
        if left[stage] == 0:
            raise Interrupted

    monkeypatch.setattr(CheckpointStore, "save", save_and_stop)
    for _ in range(2):
        with pytest.raises(Interrupted):
            run(tmp_path / "out", data)
    again = run(tmp_path / "out", data)
    for before, after in zip(finished[3:], again[3:], strict=True):
        assert losses(before) == losses(after)
        for name in ("model.safetensors", "config.json"):
            assert before.record.files[name] == after.record.files[name]
    assert finished[4].record.files["rollouts.jsonl"] == again[4].record.files["rollouts.jsonl"]


def test_a_novel_leaves_both_out(tmp_path: Path) -> None:
    *_, finetuned, aligned = run(tmp_path / "out", write_novel(tmp_path / "novel"))
    assert finetuned.record.left_out == "no questions with answers can be mined from this corpus"
    assert aligned.record.left_out is not None
    assert "'finetune' was left out" in aligned.record.left_out


def test_prose_with_headings_is_finetuned_and_not_aligned(tmp_path: Path) -> None:
    folder = tmp_path / "prose"
    folder.mkdir()
    chance = random.Random(2)
    for number in range(10):
        sections = [
            f"## Part {number}.{part}\n\n" + " ".join(str(chance.randrange(10**4)) for _ in range(40)) + "\n"
            for part in range(15)
        ]
        (folder / f"note{number}.md").write_text(f"# Note {number}\n\n" + "\n".join(sections))
    *_, finetuned, aligned = run(
        tmp_path / "out", folder, FinetuneConfig(minutes=5, epochs=0.2, answer_tokens=230)
    )
    assert finetuned.record.left_out is None
    assert (
        aligned.record.left_out
        == "no prompts whose answers a program can verify can be mined from this corpus"
    )


def test_a_plan_is_made_once(tmp_path: Path) -> None:
    made: list[int] = []

    def make() -> dict[str, Any]:
        made.append(1)
        return {"steps": 7}

    assert kept_plan(tmp_path, make) == kept_plan(tmp_path, make) == {"steps": 7}
    assert len(made) == 1


def test_the_budget_sets_the_steps(data: Path, tmp_path: Path) -> None:
    tight = FinetuneConfig(minutes=1e-6, epochs=50, batch_size=8)
    *_, finetuned, aligned = run(
        tmp_path / "out", data, tight, SHORT.model_copy(update={"minutes": 1e-6, "beta": 0.01})
    )
    assert len(losses(finetuned)) == len(losses(aligned)) == 1


def test_early_and_late() -> None:
    log = [{"x": float(number)} for number in range(40)]
    assert (early(log, "x"), late(log, "x")) == (1.5, 37.5)
    assert late(log[:1], "x") == 0.0
