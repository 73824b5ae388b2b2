"""Stage align: reinforcement learning on rewards that a program can verify (GRPO)."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import Field

from ingot import device as machine
from ingot.align.rewards import score_code
from ingot.align.rollouts import Answer, RolloutStream, prompt_ids
from ingot.align.same_kernels import SameKernels
from ingot.config import Config
from ingot.data.conversations import Example, mine_code, unseen
from ingot.data.corpus import iterate_documents
from ingot.errors import ConfigError
from ingot.models import huggingface
from ingot.models.decoder import Decoder
from ingot.objectives.grpo import GRPO
from ingot.optim.joint import OptimizerConfig
from ingot.optim.schedules import ScheduleConfig
from ingot.pipeline import Context, LeftOut, Outlook
from ingot.stages.training import usual_precision
from ingot.stages.tuning import early, kept_plan, late, load_parent, time_update, write_model
from ingot.tokenizer.tokenizer import Tokenizer
from ingot.train.log import MetricsLog
from ingot.train.trainer import DTYPES, TrainConfig, Trainer

FEWEST = 8
"""Prompts; with fewer a model would learn these answers and not to answer."""

ROLLOUTS = "rollouts.jsonl"

_MEASURED = 2
_SHOWN = 4


class AlignConfig(Config):
    """How to align.

    Args:
        minutes: for the stage, planning included; the number of steps is chosen to fit.
        prompts: per step.
        answers: per prompt; they are each other's baseline.
        answer_tokens: an answer has at most; one that is cut off earns nothing.
        temperature: to answer at while learning. The policy that is improved is the one at this
            temperature; below 1 it is nearer to the greedy answers that people get, and succeeds oftener.
        advantage: "centred" is reward minus the group's mean (Dr. GRPO), "standardised" divides that by
            the group's standard deviation (GRPO).
        clip_low: how far below 1 the ratio to the old probability still counts.
        clip_high: how far above 1.
        beta: weight of the divergence from the fine-tuned model; 0 needs no reference.
        micro_batch: answers that are trained on at once.
        invariant: whether the trainer computes as the sampler does, to the last bit: the first ratio of an
            update is exactly 1. Else they differ by rounding, as the logged `ratio_off` says. On the CPU, and
            slower (docs/alignment.md).
        most_steps: however many fit into the minutes.
        optimizer: learning rates; `matrix_rate` 0 gives all parameters to AdamW.
        schedule: of the learning rates.
    """

    minutes: float = Field(default=2.0, gt=0)
    prompts: int = Field(default=16, gt=0)
    answers: int = Field(default=8, gt=1)
    answer_tokens: int = Field(default=160, gt=1)
    temperature: float = Field(default=1.0, gt=0)
    advantage: Literal["centred", "standardised"] = "centred"
    clip_low: float = Field(default=0.2, gt=0, lt=1)
    clip_high: float = Field(default=0.28, gt=0)
    beta: float = Field(default=0.0, ge=0)
    micro_batch: int = Field(default=32, gt=0)
    invariant: bool = False
    most_steps: int = Field(default=1000, gt=0)
    optimizer: OptimizerConfig = OptimizerConfig(
        matrix_rate=0.0, embedding_rate=3e-4, head_rate=3e-4, norm_rate=3e-4
    )
    schedule: ScheduleConfig = ScheduleConfig(warmup=0.05, decay=0.5)


class Align:
    """Makes the aligned model: answers that the verifier accepts become likelier."""

    name = "align"
    artifact = "aligned"
    kind = "model"
    needs = ("tokenizer", "prepare", "finetune")

    def __init__(self, config: AlignConfig) -> None:
        self.config = config

    def check(self, outlook: Outlook) -> None:
        """Refuses answers that no model of this recipe could give.

        Raises:
            ConfigError: names both lengths.
        """
        positions = getattr(outlook.settings.get("pretrain"), "positions", None)
        if positions is not None and self.config.answer_tokens >= positions:
            what = f"answers of {self.config.answer_tokens} tokens leave no room for a prompt in a model"
            raise ConfigError(
                f"{what} with {positions} positions", where="align.answer_tokens", fix="use fewer"
            )

    def run(self, context: Context) -> None:
        """Writes the model's folder to `context.folder`, and some of its answers along the way.

        Raises:
            LeftOut: no fine-tuned model, or nothing that can be verified.
        """
        started = time.perf_counter()
        model, tokenizer = load_parent(context, "finetune")
        examples = self._prompts(context, model, tokenizer)
        plan = kept_plan(context.work, lambda: self._plan(model, tokenizer, examples, context, started))
        train = TrainConfig.parse(plan["train"], where=context.work / "plan.json")
        stream = self._stream(model, tokenizer, examples, context.seed, train)
        shown = MetricsLog(context.work / ROLLOUTS)
        stream.watch = lambda step, answers: _show(shown, step, answers)
        trainer = Trainer(
            model,
            self._objective(context, stream),
            stream,
            self.config.optimizer.build(model, DTYPES[train.precision]),
            train,
            context.work,
            context.device,
        )
        log = trainer.fit(context.progress, "aligning")
        write_model(context, model, tokenizer, plan, log)
        _copy_shown(shown, context)
        _report(context, log, len(examples))

    def _prompts(self, context: Context, model: Decoder, tokenizer: Tokenizer) -> list[Example]:
        """Training prompts that leave room for an answer, those with long answers of their own too."""
        corpus = context.parents["prepare"].path
        mined = mine_code(iterate_documents(corpus, "train"))
        examples = unseen(mined, mine_code(iterate_documents(corpus, "heldout")))
        longest = model.config.context - self.config.answer_tokens
        fitting = [example for example in examples if len(prompt_ids(tokenizer, example)) <= longest]
        if len(fitting) < FEWEST:
            found = f"{len(fitting)} prompts" if fitting else "no prompts"
            raise LeftOut(f"{found} whose answers a program can verify can be mined from this corpus")
        return fitting

    def _objective(self, context: Context, stream: RolloutStream) -> GRPO:
        reference = None
        if self.config.beta > 0:
            reference = huggingface.load(context.parents["finetune"].path, device=context.device)
            reference.requires_grad_(False)
        return GRPO(
            clip_low=self.config.clip_low,
            clip_high=self.config.clip_high,
            reference=reference,
            beta=self.config.beta,
            temperature=self.config.temperature,
            policy=None if stream.same is None else stream.same.logprobs,
            compared=stream.compared,
        )

    def _stream(
        self, model: Decoder, tokenizer: Tokenizer, examples: Sequence[Example], seed: int, train: TrainConfig
    ) -> RolloutStream:
        dtype = DTYPES[train.precision]
        machine.prepare_threads(train.threads)  # on as many as it will train on, kernels are tried
        return RolloutStream(
            model,
            tokenizer,
            examples,
            score_code,
            prompts=self.config.prompts,
            answers=self.config.answers,
            answer_tokens=self.config.answer_tokens,
            temperature=self.config.temperature,
            advantage=self.config.advantage,
            seed=seed,
            dtype=dtype,
            same=SameKernels(model, dtype) if self.config.invariant else None,
        )

    def _plan(
        self,
        model: Decoder,
        tokenizer: Tokenizer,
        examples: Sequence[Example],
        context: Context,
        started: float,
    ) -> dict[str, Any]:
        """Measures a few rollouts with their updates and chooses the steps for the minutes that are left."""
        train = TrainConfig(
            steps=self.config.most_steps,
            micro_batch=self.config.micro_batch,
            precision=usual_precision(context.device),
            threads=machine.threads(),
            schedule=self.config.schedule,
        )
        stream = self._stream(model, tokenizer, examples, context.seed, train)
        objective = self._objective(context, stream)
        stopwatch = time_update(model, objective, self.config.optimizer, train, context.device)
        answering = learning = 0.0
        rows = 0
        for step in range(_MEASURED + 1):
            start = time.perf_counter()
            batch = stream.batch(step)
            answered = time.perf_counter() - start
            learned = stopwatch(batch)
            if step > 0:  # the first is slower than all others
                answering, learning = answering + answered, learning + learned
                rows += len(batch["inputs"])
        answering /= _MEASURED
        # Later more prompts may teach: count the time as if all of them did.
        learning = learning / rows * stream.prompts * self.config.answers if rows else answering
        left = 60 * self.config.minutes - (time.perf_counter() - started)
        steps = max(1, min(self.config.most_steps, int(left / (answering + learning))))
        config = train.model_copy(update={"steps": steps, "checkpoint_every": max(2, -(-steps // 8))})
        return {
            "train": config.plain(),
            "prompts": stream.prompts,
            "answers": self.config.answers,
            "expected_seconds": round(steps * (answering + learning), 1),
            "measured": {
                "rollouts": _MEASURED,
                "seconds_answering": round(answering, 3),
                "seconds_learning": round(learning, 3),
                "before": {name: round(value, 4) for name, value in stream.numbers.items()},
            },
        }


def _show(log: MetricsLog, step: int, answers: Sequence[Answer]) -> None:
    """Keeps the first answer to some prompts of a step, for people to read."""
    apart = max(1, len(answers) // _SHOWN)
    for place, answer in enumerate(answers[::apart][:_SHOWN]):
        log.append(
            {
                "step": step,
                "place": place,
                "prompt": answer.example.prompt,
                "answer": answer.completion.text,
                "reward": answer.score.reward,
                "success": answer.score.success,
                "tokens": len(answer.completion.tokens),
            }
        )


def _copy_shown(shown: MetricsLog, context: Context) -> None:
    """Copies the kept answers; a step that was made again after a kill stands there once."""
    once = {(line["step"], line["place"]): line for line in shown.read()}
    copy = MetricsLog(context.folder / ROLLOUTS)
    for place in sorted(once):
        copy.append(once[place])


def _report(context: Context, log: list[dict[str, Any]], prompts: int) -> None:
    """Says what changed, and what looks like cheating."""
    before = {name: early(log, name) for name in ("reward", "success", "length", "hollow")}
    after = {name: late(log, name) for name in before}
    context.metrics |= {"prompts": prompts, **after, "cut": late(log, "cut")}
    context.notes.append(
        f"Over {len(log):,} steps the mean reward went from {before['reward']:.2f} to {after['reward']:.2f}, "
        f"success from {before['success']:.0%} to {after['success']:.0%}, "
        f"the length of answers from {before['length']:.0f} to {after['length']:.0f} tokens."
    )
    compared = [line["ratio_off"] for line in log if "ratio_off" in line]
    if compared:
        context.metrics["ratio_off"] = off = max(compared)
        agreement = f"at most {off:.1e} from" if off else "bit for bit"
        context.notes.append(
            f"Before an update, the trainer's log-probabilities were {agreement} the sampler's."
        )
    if after["hollow"] > 0.2 or after["length"] < before["length"] / 2:
        context.notes.append(
            f"Beware of cheating: {after['hollow']:.0%} of the answers are functions that do nothing, "
            f"and answers are {after['length'] / before['length']:.0%} as long as before."
        )
