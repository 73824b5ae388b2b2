"""The same kernels in sampler and trainer: equal to the last bit before an update, whatever else runs."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ingot.align.rewards import Score
from ingot.align.rollouts import RolloutStream
from ingot.align.same_kernels import SameKernels
from ingot.artifact import Artifact
from ingot.config import Config
from ingot.data.conversations import Example
from ingot.errors import ConfigError
from ingot.inference.choosing.sampling import Sampling
from ingot.inference.engine import Engine
from ingot.models import huggingface
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.objectives.grpo import GRPO, token_logprobs
from ingot.objectives.objective import IGNORED
from ingot.pipeline import Context, Pipeline
from ingot.progress import Progress
from ingot.stages.align import Align, AlignConfig
from ingot.stages.prepare import Prepare, PrepareConfig
from ingot.stages.tokenizer import TrainTokenizer, TrainTokenizerConfig
from ingot.tokenizer.tokenizer import Tokenizer
from ingot.train.precision import autocast

BASE: dict[str, Any] = {
    "vocabulary": 61, "width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "head_width": 8,
    "feed_forward": 44, "context": 300,
}  # fmt: skip
LATENT = {"key_value_rank": 12, "rotary_width": 4, "plain_width": 4, "value_width": 6, "query_rank": 10}
KINDS: dict[str, dict[str, Any]] = {
    "grouped": {},
    "odd sizes": {"width": 27, "feed_forward": 37, "heads": 3, "kv_heads": 1, "tied": True},
    "window, sinks": {"window": 40, "local_layers": [0], "sinks": True},
    "caps, gelu": {"score_cap": 5.0, "logit_cap": 9.0, "activation": "geglu", "embedding_scale": 3.0},
    "distances": {"positions": "alibi", "norm": "layer_bias", "bias": ["query", "up"]},
    "latent": {"latent": LATENT, "kv_heads": 4},
}
TYPES = [torch.float32, torch.bfloat16]


class Letters:
    def token_bytes(self, token: int) -> bytes:
        return bytes([97 + token % 26])


def model_of(config: DecoderConfig) -> Decoder:
    """A model whose parts all matter."""
    built = config.build(seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 0.3, generator=generator)
            else:
                parameter.uniform_(0.5, 1.5, generator=generator)
    return built


MODELS = {kind: model_of(DecoderConfig.parse(BASE | changes)) for kind, changes in KINDS.items()}


def padded(texts: Sequence[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
    """Inputs and targets [b, t] of prompts with answers."""
    t = max(len(prompt) + len(answer) for prompt, answer in texts) - 1
    inputs, targets = torch.zeros(len(texts), t, dtype=torch.long), torch.full((len(texts), t), IGNORED)
    for row, (prompt, answer) in enumerate(texts):
        whole = torch.tensor(prompt + answer)
        inputs[row, : len(whole) - 1] = whole[:-1]
        targets[row, len(prompt) - 1 : len(whole) - 1] = whole[len(prompt) :]
    return inputs, targets


@pytest.mark.parametrize("dtype", TYPES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=2, deadline=None)
def test_the_trainer_says_what_the_sampler_recorded(
    kind: str, dtype: torch.dtype, data: st.DataObject
) -> None:
    """At any concurrency, chunk, prompt length and state of the cache, every bit."""
    model = MODELS[kind]
    same = SameKernels(model, dtype)
    engine = Engine(
        model, Letters(), slots=data.draw(st.integers(1, 5)), chunk=data.draw(st.sampled_from([33, 512])),
        runner=same.runner(model),
    )  # fmt: skip
    chance = random.Random(data.draw(st.integers(0, 99)))
    beginnings = [[chance.randrange(61) for _ in range(length)] for length in (1, 40, 100, 250)]
    requests = []
    for seed in range(data.draw(st.integers(2, 5))):
        prompt = data.draw(st.sampled_from(beginnings)) + [seed] * data.draw(st.integers(0, 3))
        asked = Sampling(seed=seed, max_new_tokens=data.draw(st.integers(1, 8)))
        requests.append(engine.submit(prompt, asked))
        for _ in range(data.draw(st.integers(0, 12))):
            engine.step()
    while engine.active or engine.waiting:
        engine.step()
    sampled = [chance for request in requests for chance in request.logprobs]
    with autocast(dtype, "cpu"):
        batch = padded([(request.prompt, request.tokens) for request in requests])
        logprobs, _ = same.logprobs(model, *batch)
    assert logprobs.tolist() == sampled


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_the_usual_ones(kind: str) -> None:
    model = MODELS[kind]
    tokens = torch.randint(0, 61, (3, 140), generator=torch.Generator().manual_seed(0))
    parts = []
    for policy in (token_logprobs, SameKernels(model, torch.float32).logprobs):
        logprobs, entropy = policy(model, tokens[:, :-1], tokens[:, 1:], 0.8)
        found = torch.autograd.grad(logprobs.square().sum(), list(model.parameters()))
        parts.append((logprobs.detach(), entropy, *found))
    for usual, tiled in zip(*parts, strict=True):
        torch.testing.assert_close(tiled, usual, rtol=2e-4, atol=2e-4 * float(usual.abs().max()))


def score(answer: str, check: Mapping[str, Any]) -> Score:
    """A reward that a model without training earns sometimes."""
    return Score(min(1.0, answer.count(" ") / 4), success="t" in answer, hollow=False)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["def area(width, height):\n    return width * height\n" * 20], vocabulary=300)


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("dtype", TYPES, ids=str)
def test_rollouts_have_ratio_one_and_no_divergence(
    tokenizer: Tokenizer, dtype: torch.dtype, temperature: float
) -> None:
    model = model_of(DecoderConfig.parse(BASE | {"vocabulary": tokenizer.vocab_size}))
    examples = []
    for number in range(8):  # some share pages of their beginning, some have none that is full
        asked = {"role": "user", "content": f"{'Say it again. ' * (number % 3 * 7)}Say {number}."}
        said = {"role": "assistant", "content": "1"}
        examples.append(Example(str(number), "a.py:1", [asked, said], {"name": "f", "arguments": []}))
    found: dict[bool, dict[str, float]] = {}
    for same in (None, SameKernels(model, dtype)):
        stream = RolloutStream(
            model, tokenizer, examples, score, prompts=8, answers=4, answer_tokens=24,
            temperature=temperature, advantage="centred", seed=0, dtype=dtype, same=same,
        )  # fmt: skip
        batch = stream.batch(0)
        assert len(batch["inputs"]) > 1
        policy = None if same is None else same.logprobs
        objective = GRPO(temperature=temperature, policy=policy, compared=stream.compared)
        with autocast(dtype, "cpu"):
            for part in ({name: value[:5] for name, value in batch.items()}, batch):
                loss = objective.loss(model, part)
        ratios = torch.tensor(stream.numbers["ratio_off"]), loss.metrics["sampler_kl"].abs()
        found[same is not None] = {"off": float(ratios[0]), "kl": float(ratios[1])}
        if same is not None:
            advantages = batch["advantages"][:, None].expand_as(batch["targets"])
            each = advantages[batch["targets"] != IGNORED]
            assert torch.equal(loss.sum.detach(), -each.sum())  # the ratio is exactly 1
    assert found[True] == {"off": 0.0, "kl": 0.0}
    assert 0 < found[False]["off"] < (1e-4 if dtype == torch.float32 else 1)
    assert found[False]["kl"] != 0


def test_a_sampler_that_has_not_moved_is_seen(tokenizer: Tokenizer) -> None:
    """The figure is no constant: with other weights than the sampler's it says so."""
    model = model_of(DecoderConfig.parse(BASE | {"vocabulary": tokenizer.vocab_size}))
    same = SameKernels(model, torch.float32)
    asked = [{"role": "user", "content": "Say 1."}, {"role": "assistant", "content": "1"}]
    example = Example("1", "a.py:1", asked, {"name": "f", "arguments": []})
    stream = RolloutStream(
        model, tokenizer, [example], score, prompts=1, answers=6, answer_tokens=12,
        temperature=1.0, advantage="centred", seed=0, dtype=torch.float32, same=same,
    )  # fmt: skip
    batch = stream.batch(0)
    with torch.no_grad():
        model.head.weight[7] += 1e-3
    GRPO(policy=same.logprobs, compared=stream.compared).loss(model, batch)
    assert stream.numbers["ratio_off"] > 0


LONG = {
    "kind": "longrope", "original_context": 16, "short": [1.0] * 4, "long": [2.0] * 4,
}  # fmt: skip


@pytest.mark.parametrize(
    ("part", "name"),
    [
        ({"experts": {"count": 4, "chosen": 2, "width": 24}}, "mixture of experts"),
        ({"rope_scaling": LONG}, "long-RoPE"),
    ],
)
def test_models_that_cannot_share_are_refused_by_name(part: dict[str, Any], name: str) -> None:
    model = DecoderConfig.parse(BASE | part).build(0)
    with pytest.raises(ConfigError, match=name) as refused:
        SameKernels(model, torch.float32)
    assert "align.invariant" in str(refused.value)


class Pretend:
    """Stands for fine-tuning: a model as it was initialised."""

    name, artifact, kind, needs = "finetune", "finetuned", "model", ("tokenizer",)

    def __init__(self) -> None:
        self.config = Config()

    def run(self, context: Context) -> None:
        tokenizer = Tokenizer.load(context.parents["tokenizer"].path)
        sizes = BASE | {"vocabulary": tokenizer.vocab_size, "head_width": 16, "context": 256}
        model = DecoderConfig.parse(sizes).build(seed=0)
        for parameter in model.parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.1)
        huggingface.save(context.folder, model)
        tokenizer.save(context.folder)


@pytest.fixture
def _easy_reward(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingot.stages.align.score_code", score)


def write_code(folder: Path) -> Path:
    folder.mkdir()
    chance = random.Random(0)
    words = ["sum", "part", "size", "name", "list", "word", "line", "page", "room", "door", "path", "node"]
    for number in range(12):
        made = []
        for index in range(16):
            a, b, c = chance.sample(words, 3)
            made.append(
                f"def {a}_{b}_{number}({c}, {b}):\n"
                f'    """Return the {a} of {b} {number} and {c} {index}."""\n'
                f"    {a} = {c} + {b} * {chance.randrange(1000)}\n    return {a}\n"
            )
        (folder / f"module{number}.py").write_text("\n\n".join(made))
    return folder


@pytest.mark.usefixtures("_easy_reward")
def test_the_stage_logs_how_far_the_trainer_is_from_the_sampler(tmp_path: Path) -> None:
    data = write_code(tmp_path / "code")
    off: dict[bool, list[float]] = {}
    for invariant in (True, False):
        short = AlignConfig(
            minutes=5, most_steps=3, prompts=4, answers=4, answer_tokens=16, micro_batch=5, beta=0.1,
            invariant=invariant,
        )  # fmt: skip
        stages: list[Any] = [
            Prepare(PrepareConfig(data=str(data), heldout=0.1)),
            TrainTokenizer(TrainTokenizerConfig(vocabulary=400)),
            Pretend(),
            Align(short),
        ]
        aligned: Artifact = Pipeline(stages, tmp_path / "run").run(Progress())[-1]
        lines = [json.loads(line) for line in (aligned.path / "metrics.jsonl").read_text().splitlines()]
        assert len(lines) == 3
        off[invariant] = [line["ratio_off"] for line in lines]
        assert aligned.record.metrics["ratio_off"] == max(off[invariant])
        if invariant:
            assert [line["sampler_kl"] for line in lines] == [0.0, 0.0, 0.0]
            assert lines[0]["kl"] == 0.0  # from the reference, before the first update
            assert lines[-1]["kl"] > 0.0
            assert lines[0]["gradient_norm"] > 0
    assert off[True] == [0.0, 0.0, 0.0]  # of every update, as each has rollouts of its own
    assert 0 < max(off[False]) < 0.5  # bf16 where that is fast, else fp32
