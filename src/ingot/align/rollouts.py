"""Rollouts: the model's own answers, scored, as the next batch to learn from.

Other streams are a pure function of (seed, step); this one also of the model's weights at that step.
The engine's random numbers depend only on the seed, the step and the answer's place, so a run that is
resumed from the weights of a step sees the same answers again, and there is no buffer to save.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ingot.align.advantages import ESTIMATORS
from ingot.align.rewards import Score
from ingot.align.same_kernels import SameKernels
from ingot.data.conversations import Example
from ingot.data.examples import Conversation, pad
from ingot.data.permutation import permute
from ingot.data.stream import WHOLE, Part, salted_key
from ingot.errors import ConfigError
from ingot.inference.choosing.sampling import Sampling
from ingot.inference.computing.native.runner import runner as native_runner
from ingot.inference.computing.paged_attention import TorchRunner
from ingot.inference.computing.pages import Pages
from ingot.inference.computing.passes import Pass, Runner
from ingot.inference.engine import Engine
from ingot.inference.request import Completion
from ingot.models.decoder import Decoder
from ingot.objectives.objective import IGNORED
from ingot.tokenizer.chat import encode_chat
from ingot.tokenizer.tokenizer import Tokenizer

Scorer = Callable[[str, Mapping[str, Any]], Score]


class Answer(NamedTuple):
    """One answer of the model, and what it is worth."""

    example: Example
    completion: Completion
    score: Score
    advantage: float


class _Tempered:
    """A runner whose logits are those of a temperature, so that recorded probabilities are, too.

    Args:
        runner: of the model.
        temperature: that its logits are divided by.
    """

    def __init__(self, runner: Runner, temperature: float) -> None:
        self.runner = runner
        self.temperature = temperature

    def __call__(self, pass_: Pass, pages: Pages) -> Tensor:
        """See `Runner`."""
        return self.runner(pass_, pages) / self.temperature


class RolloutStream:
    """Makes batches of scored answers with the model as it is when the batch is asked for.

    A batch holds what `GRPO` takes: `inputs`, `targets`, `sampled_logprobs` [b, t], `advantages` [b], and
    `sample_ids` [b]; with the same kernels in the trainer, also `old_logprobs` [b, t], the same numbers. Of
    the answers, those of prompts whose answers all earned the same are not in it: they teach nothing
    (DAPO, arXiv 2503.14476, section 3.2). Where that leaves none, it has no rows.

    After each batch, `numbers` holds what `summary` says of all its answers, and `taught`, the share of
    prompts that the batch was made of; `watch`, where it is set, is given the step and the answers. An
    objective that is given `compared` adds `ratio_off`: how far the trainer's probabilities are from the
    sampler's, as the largest |log ratio|.

    The answers depend on the weights of now, so batches are not made ahead (`live`), and one process makes
    them all. In a batch, `sample_ids` are places among the answers of the step; the method `sample_ids`
    gives ids of prompts and answers over the whole run.

    Args:
        model: the policy; a copy of it in `dtype` answers.
        tokenizer: of the model.
        examples: prompts with checks.
        score: gives an answer's score.
        prompts: prompts per step.
        answers: answers per prompt.
        answer_tokens: tokens that an answer has at most.
        temperature: to answer at; the objective must be told the same.
        advantage: "centred" or "standardised".
        seed: of the prompts' order and of the answers.
        dtype: to answer in.
        same: kernels that the trainer computes with too; None answers with the fastest.
    """

    live = True

    def __init__(
        self,
        model: Decoder,
        tokenizer: Tokenizer,
        examples: Sequence[Example],
        score: Scorer,
        *,
        prompts: int,
        answers: int,
        answer_tokens: int,
        temperature: float,
        advantage: str,
        seed: int,
        dtype: torch.dtype,
        same: SameKernels | None = None,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.examples = list(examples)
        self.score = score
        self.prompts = min(prompts, len(self.examples))
        self.answers = answers
        self.batch_size = self.prompts * answers
        self.answer_tokens = answer_tokens
        self.temperature = temperature
        self.advantage = advantage
        self.seed = seed
        self.stop_ids = (tokenizer.role_id("end"), tokenizer.bos_id)
        self.numbers: dict[str, float] = {}
        self.watch: Callable[[int, Sequence[Answer]], None] | None = None
        self._encoded = [prompt_ids(tokenizer, example) for example in self.examples]
        self.same = same
        # As in the trainer, products in a shorter type are autocast's then.
        self._sampler = copy.deepcopy(model).to(dtype if same is None else torch.float32)
        self._sampler.eval().requires_grad_(False)
        runner: Runner | None = None if same is None else same.runner(self._sampler)
        if temperature != 1:
            runner = _Tempered(
                runner or native_runner(self._sampler) or TorchRunner(self._sampler), temperature
            )
        self._engine = Engine(self._sampler, tokenizer, slots=min(self.prompts * answers, 128), runner=runner)

    @property
    def fingerprint(self) -> str:
        """Changes when the prompts, their order or the way to answer change."""
        way = [self.answer_tokens, self.temperature, self.advantage]
        way += [] if self.same is None else ["same kernels"]
        settings = [self.prompts, self.answers, *way, self.seed]
        ids = [example.id for example in self.examples]
        return hashlib.sha256(json.dumps([settings, ids]).encode()).hexdigest()

    def batch(self, step: int, salt: int = 0, part: Part = WHOLE) -> dict[str, Tensor]:
        """Answers the prompts of a step, counted from 0, and scores the answers.

        Raises:
            ConfigError: several processes share the batch.
        """
        if part.ranks > 1:
            what = f"rollouts are made by one process, but {part.ranks} share the batch"
            raise ConfigError(what, where="align", fix="start this stage without torchrun")
        chosen = self._chosen(step, salt)
        completions = self._answer(step, salt, chosen)
        examples = [self.examples[index] for index in chosen for _ in range(self.answers)]
        scores = [
            self.score(completion.text, example.check or {})
            for completion, example in zip(completions, examples, strict=True)
        ]
        rewards = torch.tensor([score.reward for score in scores]).view(-1, self.answers)  # [p, g]
        advantages = ESTIMATORS[self.advantage](rewards)  # [p, g]
        made = [
            Answer(*parts)
            for parts in zip(examples, completions, scores, advantages.flatten().tolist(), strict=True)
        ]
        if self.watch is not None:
            self.watch(step, made)
        teaching = advantages.ne(0).any(-1)  # [p]
        self.numbers = summary(made) | {"taught": teaching.float().mean().item()}
        conversations = [
            self._conversation(chosen[place // self.answers], completion)
            for place, completion in enumerate(completions)
        ]
        rows = teaching.repeat_interleave(self.answers).nonzero().flatten()
        # Short ones first: micro-batches of similar lengths hold less padding.
        lengths = torch.tensor([len(conversation.tokens) for conversation in conversations])
        rows = rows[lengths[rows].argsort(stable=True)]
        kept = [conversations[row] for row in rows.tolist()] or conversations[:1]  # of which no row is taken
        padded = pad(kept, self.model.config.context, self.tokenizer.pad_id)
        targets = padded["targets"][: len(rows)]
        sampled = torch.zeros(targets.shape)
        said = [chance for row in rows.tolist() for chance in completions[row].logprobs]
        sampled[targets != IGNORED] = torch.tensor(said)
        batch = {
            "inputs": padded["inputs"][: len(rows)],
            "targets": targets,
            "sampled_logprobs": sampled,
            "advantages": advantages.flatten()[rows],
            "sample_ids": rows,
        }
        return batch if self.same is None else batch | {"old_logprobs": sampled}

    def compared(self, log_ratios: Tensor) -> None:
        """Takes note of how far the trainer was from the sampler; for `GRPO`, before each update.

        Args:
            log_ratios: [n] of a micro-batch's tokens.
        """
        if len(log_ratios):
            before = self.numbers.get("ratio_off", 0.0)
            self.numbers["ratio_off"] = max(before, log_ratios.abs().max().item())

    def sample_ids(self, step: int, salt: int = 0) -> Tensor:
        """Returns an id of each answer of a step, [prompts * answers] int64, before any is made."""
        prompts = torch.tensor(self._chosen(step, salt))[:, None] * self.answers  # [p, 1]
        return (prompts + torch.arange(self.answers)).flatten()

    def _chosen(self, step: int, salt: int) -> list[int]:
        """Prompt indexes of a step: all prompts in one order, then in another."""
        epoch, place = divmod(step, len(self.examples) // self.prompts)
        places = np.arange(place * self.prompts, (place + 1) * self.prompts)
        order = salted_key(salt, self.seed, epoch, 0)
        chosen: list[int] = permute(places, len(self.examples), order).tolist()
        return chosen

    def _answer(self, step: int, salt: int, chosen: Sequence[int]) -> list[Completion]:
        with torch.no_grad():
            for mine, theirs in zip(self._sampler.parameters(), self.model.parameters(), strict=True):
                mine.copy_(theirs)
        count = len(chosen) * self.answers
        samplings = [
            Sampling(
                max_new_tokens=self.answer_tokens,
                temperature=1.0,  # the logits are divided already: what is recorded is of this temperature
                # Of 64 bits, the 63 that a seed may have.
                seed=salted_key(salt, self.seed, step, place, 1) // 2,
            )
            for place in range(count)
        ]
        prompts = [self._encoded[index] for index in chosen for _ in range(self.answers)]
        return self._engine.generate(prompts, samplings, self.stop_ids)

    def _conversation(self, index: int, completion: Completion) -> Conversation:
        prompt = self._encoded[index]
        taught = [False] * len(prompt) + [True] * len(completion.tokens)
        return Conversation(prompt + completion.tokens, taught)


def prompt_ids(tokenizer: Tokenizer, example: Example) -> list[int]:
    """Returns the token ids that an answer to the example follows."""
    ids, _ = encode_chat(tokenizer, example.messages[:-1], add_generation_prompt=True)
    return ids


def summary(answers: Sequence[Answer]) -> dict[str, float]:
    """Means over answers: reward, successes, length in tokens, cut off by length, hollow successes."""
    columns = {
        "reward": [answer.score.reward for answer in answers],
        "success": [float(answer.score.success) for answer in answers],
        "length": [float(len(answer.completion.tokens)) for answer in answers],
        "cut": [float(answer.completion.finish_reason == "length") for answer in answers],
        "hollow": [float(answer.score.hollow) for answer in answers],
    }
    return {name: float(np.mean(values)) for name, values in columns.items()}
