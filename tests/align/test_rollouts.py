"""Rollouts: pure in step and weights, honest about probabilities, and good enough to learn from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ingot.align.rewards import Score
from ingot.align.rollouts import Answer, RolloutStream
from ingot.data.conversations import Example
from ingot.data.stream import Part
from ingot.errors import ConfigError
from ingot.evaluate.instruction import answer, chat_prompt
from ingot.inference.choosing.sampling import Sampling
from ingot.inference.ingot import Ingot
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.objectives.grpo import GRPO, token_logprobs
from ingot.objectives.objective import IGNORED
from ingot.optim.joint import OptimizerConfig
from ingot.optim.schedules import ScheduleConfig
from ingot.progress import Progress
from ingot.tokenizer.tokenizer import Tokenizer
from ingot.tokenizer.training import TokenizerConfig
from ingot.train.trainer import TrainConfig, Trainer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["def area(width, height):\n    return width * height\n" * 20], vocabulary=300)


def fresh(tokenizer: Tokenizer, std: float = 0.1) -> Decoder:
    config = DecoderConfig(
        vocabulary=tokenizer.vocab_size,
        width=32,
        layers=2,
        heads=2,
        kv_heads=1,
        head_width=16,
        feed_forward=48,
        context=96,
    )
    torch.manual_seed(0)
    model = config.build()
    for parameter in model.parameters():
        if parameter.dim() == 2:
            nn.init.normal_(parameter, std=std)
    return model


def example(number: int) -> Example:
    messages = [
        {"role": "user", "content": f"Say {number}."},
        {"role": "assistant", "content": str(number)},
    ]
    return Example(str(number), "a.py:1", messages, {"name": "f", "arguments": []})


def score(answer: str, check: Mapping[str, Any]) -> Score:
    """The share of the answer's characters that are lower-case letters."""
    letters = sum(character.islower() for character in answer)
    return Score(letters / max(1, len(answer)), letters > 3, hollow=False)


def stream(model: Decoder, tokenizer: Tokenizer, **changes: Any) -> RolloutStream:
    settings: dict[str, Any] = {
        "prompts": 4,
        "answers": 4,
        "answer_tokens": 12,
        "temperature": 1.0,
        "advantage": "centred",
        "seed": 0,
        "dtype": torch.float32,
    }
    return RolloutStream(model, tokenizer, [example(n) for n in range(10)], score, **(settings | changes))


def test_a_step_is_the_same_whatever_came_before(tokenizer: Tokenizer) -> None:
    model = fresh(tokenizer)
    one, other = stream(model, tokenizer), stream(model, tokenizer)
    other.batch(0)
    for name, value in one.batch(3).items():
        assert torch.equal(value, other.batch(3)[name])
    assert one.fingerprint == other.fingerprint != stream(model, tokenizer, seed=1).fingerprint
    before = one.batch(3)["targets"]
    nn.init.normal_(model.head.weight, std=0.3)
    after = one.batch(3)["targets"]
    assert before.shape != after.shape or not torch.equal(before, after)  # the weights of now answer


def test_rollouts_are_made_by_one_process_and_salted(tokenizer: Tokenizer) -> None:
    rollouts = stream(fresh(tokenizer), tokenizer)
    with pytest.raises(ConfigError, match="made by one process, but 2 share"):
        rollouts.batch(0, 0, Part(0, 2))
    ids = rollouts.sample_ids(0)
    assert rollouts.batch_size == len(ids) == len(ids.unique()) == 16
    assert not torch.equal(ids, rollouts.sample_ids(0, 1))
    assert not torch.equal(rollouts.batch(0)["targets"], rollouts.batch(0, 1)["targets"])


def test_every_prompt_comes_before_any_comes_again(tokenizer: Tokenizer) -> None:
    seen: list[str] = []
    rollouts = stream(fresh(tokenizer), tokenizer, prompts=5, answers=2, answer_tokens=1)
    rollouts.watch = lambda step, made: seen.extend(answer.example.id for answer in made)
    for step in range(4):
        rollouts.batch(step)
    assert sorted(seen[:20]) == sorted(seen[20:]) == sorted(str(n) for n in range(10) for _ in range(2))
    assert seen[:20] != seen[20:]


def test_batches_hold_the_answers_and_their_advantages(tokenizer: Tokenizer) -> None:
    made: list[Answer] = []
    rollouts = stream(fresh(tokenizer), tokenizer)

    def watch(step: int, answers: Sequence[Answer]) -> None:
        made.extend(answers)

    rollouts.watch = watch
    batch = rollouts.batch(0)
    rewards = torch.tensor([answer.score.reward for answer in made]).view(4, 4)
    for row, place in enumerate(batch["sample_ids"].tolist()):
        taught = batch["targets"][row] != IGNORED
        assert batch["targets"][row][taught].tolist() == made[place].completion.tokens
        group = rewards[place // 4]
        assert batch["advantages"][row] == pytest.approx(float(rewards.flatten()[place] - group.mean()))
    assert rollouts.numbers["reward"] == pytest.approx(float(rewards.mean()))
    assert 0 < rollouts.numbers["length"] <= 12


def test_prompts_whose_answers_are_all_alike_are_not_trained_on(tokenizer: Tokenizer) -> None:
    rollouts = stream(fresh(tokenizer), tokenizer)
    rollouts.score = lambda answer, check: Score(0.5, False, False)
    batch = rollouts.batch(0)
    assert len(batch["inputs"]) == len(batch["advantages"]) == 0
    assert GRPO().weight(batch) == 0
    assert rollouts.numbers["taught"] == 0
    assert rollouts.numbers["reward"] == 0.5


def test_the_sampler_and_the_trainer_agree_on_probabilities(tokenizer: Tokenizer) -> None:
    made: list[Answer] = []
    model = fresh(tokenizer, std=0.3)
    rollouts = stream(model, tokenizer)
    rollouts.watch = lambda step, answers: made.extend(answers)
    batch = rollouts.batch(0)
    sampled = [p for row in batch["sample_ids"].tolist() for p in made[row].completion.logprobs]
    logprobs, _ = token_logprobs(model, batch["inputs"], batch["targets"])
    torch.testing.assert_close(logprobs.detach(), torch.tensor(sampled), rtol=1e-4, atol=1e-4)


def test_a_model_learns_what_is_rewarded(tokenizer: Tokenizer, tmp_path: Path) -> None:
    """Engine, scores, advantages, objective and trainer together: the reward goes up, and stays up."""
    model = fresh(tokenizer)
    rollouts = stream(model, tokenizer, answers=8, answer_tokens=8)
    rates = OptimizerConfig(matrix_rate=0.0, embedding_rate=0.01, head_rate=0.01, norm_rate=0.01)
    config = TrainConfig(steps=40, schedule=ScheduleConfig(warmup=0, decay=0.3))
    log = Trainer(model, GRPO(), rollouts, rates.build(model), config, tmp_path).fit(Progress(), "aligning")
    assert log[0]["reward"] < 0.5
    assert log[-1]["reward"] > 0.9


def test_answers_end_where_the_tokenizer_says_that_turns_end() -> None:
    roles = {"bos": "<s>", "start": "<turn>", "end": "<done>", "pad": "<none>", "eos": "</s>"}
    config = TokenizerConfig(specials=("<s>", "</s>", "<turn>", "<done>", "<none>"), roles=roles)
    named = Tokenizer.train(
        ["def area(width, height):\n    return width * height\n" * 20], 300, config=config
    )
    model = fresh(named)
    assert stream(model, named).stop_ids == (named.special["<done>"], named.special["<s>"])
    loaded = Ingot(Path("model"), model, named)
    assert loaded.stop_ids == {named.special[name] for name in ("<s>", "</s>", "<done>")}
    asked = chat_prompt(named, "Say 1.")
    (answered,) = answer(loaded.engine, named, [asked], Sampling(max_new_tokens=4))
    assert isinstance(answered, str)
