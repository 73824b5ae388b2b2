"""Going on from a base: its tokenizer, its sizes, its weights; longer contexts; what is frozen stays."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from ingot.artifact import Artifact, read, verify
from ingot.data.conversations import mine
from ingot.data.corpus import read_documents
from ingot.errors import ArtifactError, ConfigError
from ingot.export.arrival import arrive
from ingot.models import huggingface
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.optim.freezing import freeze
from ingot.pipeline import Outlook, Pipeline
from ingot.progress import Progress
from ingot.stages.finetune import Finetune, FinetuneConfig
from ingot.stages.prepare import Prepare, PrepareConfig
from ingot.stages.pretrain import Pretrain, PretrainConfig
from ingot.stages.tokenizer import TrainTokenizer, TrainTokenizerConfig
from ingot.tokenizer.surgery import extend
from ingot.tokenizer.tokenizer import Tokenizer

SMALL: dict[str, Any] = {
    "minutes": 0.02,
    "context": 32,
    "batch_size": 2,
    "compile": False,
    "optimizer": {"name": "adamw", "rate": 0.003},
}


@pytest.fixture
def base(tiny_corpus: Path, tmp_path: Path) -> Path:
    """A model that somebody made elsewhere, taken in."""
    texts = [path.read_text() for path in sorted(tiny_corpus.rglob("*.py"))[:10]]
    tokenizer = Tokenizer.train(texts, 400)
    config = DecoderConfig(
        vocabulary=tokenizer.vocab_size,
        width=48,
        layers=3,
        heads=3,
        kv_heads=1,
        head_width=16,
        feed_forward=80,
        context=256,
    )
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    model = config.build(5)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.02)
    huggingface.save(elsewhere, model)
    tokenizer.save(elsewhere)
    arrive(elsewhere, tmp_path / "models" / "base@1")
    return tmp_path / "models" / "base@1"


def stages(corpus: Path, base: Path, finetune: dict[str, Any] | None = None, **changes: Any) -> list[Any]:
    line: list[Any] = [
        Prepare(PrepareConfig(data=str(corpus), near_duplicates=1.0)),
        TrainTokenizer(TrainTokenizerConfig(base=str(base))),
        Pretrain(PretrainConfig.parse(SMALL | {"base": str(base)} | changes)),
    ]
    return line if finetune is None else [*line, Finetune(FinetuneConfig.parse(finetune))]


def run(line: list[Any], folder: Path) -> list[Artifact]:
    return Pipeline(line, folder).run(Progress())


@torch.no_grad()
def apart(one: Decoder, other: Decoder) -> float:
    """The mean distance of two models' weights, summed over tensors."""
    return sum(float((a - b).abs().mean()) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.usefixtures("known_speed")
def test_pretraining_goes_on_with_the_weights_sizes_and_tokens_of_the_base(
    base: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    _, tokenizer, made = run(stages(tiny_corpus, base), tmp_path / "run")
    before, after = huggingface.load(base), huggingface.load(made.path)
    assert after.config == before.config
    assert Tokenizer.load(tokenizer.path).merges == Tokenizer.load(base).merges
    log = [json.loads(line) for line in (made.path / "metrics.jsonl").read_text().splitlines()]
    assert log[-1]["loss"] < log[0]["loss"]
    distance = apart(before, after)
    assert 0 < distance < apart(before, before.config.build(0)) / 3
    assert made.record.identity["base"]["fingerprint"] == read(base).record.fingerprint
    plan = json.loads((made.path / "plan.json").read_text())
    assert plan["model"]["layers"] == 3 and "bits_per_byte" not in plan["predicted"]
    assert verify(tmp_path / "run") == []
    again = run(stages(tiny_corpus, base), tmp_path / "run")
    assert again[-1].address == "base@1"


@pytest.mark.usefixtures("known_speed")
def test_another_base_makes_another_artifact(base: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    run(stages(tiny_corpus, base), tmp_path / "run")
    other = huggingface.load(base)
    with torch.no_grad():
        other.norm.weight.mul_(1.01)  # type: ignore[operator, union-attr]
    huggingface.save(base, other)
    assert run(stages(tiny_corpus, base), tmp_path / "run")[-1].address == "base@2"


@pytest.mark.usefixtures("known_speed")
def test_a_base_is_taken_as_it_is_and_finetuned(base: Path, tiny_corpus: Path, tmp_path: Path) -> None:
    line = stages(tiny_corpus, base, {"minutes": 0.05, "epochs": 0.2, "renamed": 0}, minutes=0)
    *_, taken, tuned = run(line, tmp_path / "run")
    same = huggingface.load(taken.path).state_dict()
    for name, weight in huggingface.load(base).state_dict().items():
        assert torch.equal(same[name], weight), name
    assert (taken.record.metrics["steps"], taken.record.metrics["tokens"]) == (0, 0)
    assert tuned.record.left_out is None and tuned.record.metrics["steps"] > 0
    assert mine(read_documents(tmp_path / "run" / "corpus@1", "train"))


@pytest.mark.usefixtures("known_speed")
@pytest.mark.parametrize("stretch", ["theta", "linear", "yarn"])
def test_a_longer_context_is_trained_and_stays(
    base: Path, tiny_corpus: Path, tmp_path: Path, stretch: str
) -> None:
    *_, made = run(stages(tiny_corpus, base, context=512, stretch=stretch, minutes=0.02), tmp_path / "run")
    config, _ = huggingface.read_config(made.path)
    assert config.context == 512
    if stretch == "theta":
        assert config.rope_theta == pytest.approx(10_000 * 2 ** (16 / 14))
    else:
        assert config.rope_scaling is not None and config.rope_scaling.kind == stretch
    tokens = torch.randint(0, 400, (1, 512))
    assert huggingface.load(made.path)(tokens).logits.isfinite().all()


@pytest.mark.usefixtures("known_speed")
def test_what_is_frozen_keeps_its_bits_and_has_no_optimizer_state(
    base: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    patterns = ["embedding*", "blocks.[01].*"]
    *_, made = run(stages(tiny_corpus, base, freeze=patterns, ema=0.9), tmp_path / "run")
    before, after = huggingface.load(base).state_dict(), huggingface.load(made.path).state_dict()
    still = [name for name in before if name.startswith(("embedding", "blocks.0.", "blocks.1."))]
    assert all(torch.equal(before[name], after[name]) for name in still)
    moved = [name for name in before if name not in still]
    assert all(not torch.equal(before[name], after[name]) for name in moved)

    model = huggingface.load(base).train()
    frozen = freeze(model, patterns)
    assert sorted(frozen) == sorted(still)
    optimizer = PretrainConfig.parse(SMALL).optimizer.build(model)
    model(torch.randint(0, 400, (1, 8))).logits.square().mean().backward()
    optimizer.step(1.0)
    held = sum(len(one.state) for one in optimizer.optimizers)
    assert held == len(moved) == len(optimizer.parameters())


@pytest.mark.usefixtures("known_speed")
@pytest.mark.parametrize("heads", ["parallel", "sequential"])
def test_further_tokens_teach_and_leave_nothing_behind(
    base: Path, tiny_corpus: Path, tmp_path: Path, heads: str
) -> None:
    future = {"tokens": 3, "heads": heads}
    *_, made = run(stages(tiny_corpus, base, future=future, z_loss=1e-4), tmp_path / "run")
    log = [json.loads(line) for line in (made.path / "metrics.jsonl").read_text().splitlines()]
    assert {"next_token", "token_2", "token_3", "z_square", "validation"} <= log[-1].keys()
    assert log[-1]["token_3"] < log[0]["token_3"]
    model = huggingface.load(made.path)
    assert made.record.metrics["parameters"] == model.parameter_count()
    assert model.config == huggingface.load(base).config
    assert made.record.metrics["loss"] < log[-1]["loss"]


def test_what_does_not_go_together_is_refused_before_any_work(base: Path, tiny_corpus: Path) -> None:
    settings = {one.name: one.config for one in stages(tiny_corpus, base)}

    def refused(**changes: Any) -> str:
        stage = Pretrain(PretrainConfig.parse(SMALL | {"base": str(base)} | changes))
        with pytest.raises((ConfigError, ArtifactError)) as error:
            stage.check(Outlook(1, "cpu", settings))
        return str(error.value)

    assert "longer than the 256 positions of the base" in refused(context=512)
    assert "no longer than the base's 256" in refused(context=256, stretch="theta")
    assert "'embeding.*' matches no weight; nearest names: embedding.weight" in refused(freeze="embeding.*")
    assert "every weight is frozen" in refused(freeze="*")
    assert "set tokenizer.base=elsewhere too" in refused(base="elsewhere")
    with pytest.raises(ConfigError, match="need a base"):
        PretrainConfig.parse({"minutes": 0})
    with pytest.raises(ConfigError, match="depth"):
        PretrainConfig.parse({"base": str(base), "depth": 3})


def test_a_base_that_cannot_be_told_apart_messages_says_how_to_mend_it(
    base: Path, tiny_corpus: Path, tmp_path: Path
) -> None:
    tokenizer = Tokenizer.load(base)
    assert {"start", "end"} <= tokenizer.parts.roles.keys()
    plain = json.loads((base / "tokenizer.json").read_text())
    text = json.dumps(plain).replace("<|im_start|>", "<|open|>").replace("<|im_end|>", "<|close|>")
    (base / "tokenizer.json").write_text(text)
    settings = (base / "tokenizer_config.json").read_text()
    settings = settings.replace("<|im_start|>", "<|open|>").replace("<|im_end|>", "<|close|>")
    (base / "tokenizer_config.json").write_text(settings)
    with pytest.raises(ArtifactError, match="ingot model extend DIR --chat"):
        run(stages(tiny_corpus, base, {"minutes": 0.05}, minutes=0), tmp_path / "run")
    assert extend(Tokenizer.load(base), controls=["<|im_start|>"]).tokenizer.vocab_size == 401
