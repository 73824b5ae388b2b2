"""Stage pretrain: a model from nothing, of the size that makes the most of the minutes given."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from pydantic import Field
from torch.nn.functional import cross_entropy

from ingot import device as machine
from ingot.config import Config
from ingot.data.corpus import read_documents
from ingot.data.document import Document
from ingot.data.shards import Tokens
from ingot.data.stream import WindowStream
from ingot.errors import ResourceError
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.objectives.causal import CausalLM
from ingot.optim.joint import OptimizerConfig
from ingot.optim.schedules import ScheduleConfig
from ingot.pipeline import Context
from ingot.progress import Progress
from ingot.stages.tuning import PLAN, kept_plan, precision, time_update, write_model
from ingot.tokenizer.tokenizer import Tokenizer
from ingot.train.forecast import prediction
from ingot.train.memory import resident, update_memory
from ingot.train.planner import (
    FEWEST_STEPS,
    Proposal,
    matrix_parameters,
    propose,
    shape,
    training_flops_per_token,
)
from ingot.train.trainer import DTYPES, TrainConfig, Trainer

_PROBE_DEPTH = 4
_VALIDATED = 48  # documents
_CHECKPOINT_SECONDS = 30
_COMPILED_GAIN = 2.0  # how much faster compiled training is taken to be until it has been measured


class PretrainConfig(Config):
    """How to pretrain.

    Args:
        minutes: for the stage, planning included; the model's size and the number of steps follow.
        depth: layers, where they should not follow from the minutes.
        context: tokens that the model sees at once.
        batch_size: windows per step.
        compile: whether torch.compile may be used where it pays.
        optimizer: learning rates.
        schedule: of the learning rates.
    """

    minutes: float = Field(default=7.0, gt=0)
    depth: int | None = Field(default=None, gt=0, le=64)
    context: int = Field(default=512, ge=16)
    batch_size: int = Field(default=16, gt=0)
    compile: bool = True
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()


class Pretrain:
    """Makes the base model: a decoder trained on the corpus's tokens."""

    name = "pretrain"
    artifact = "base"
    kind = "model"
    needs = ("prepare", "tokenizer")

    def __init__(self, config: PretrainConfig) -> None:
        self.config = config

    def run(self, context: Context) -> None:
        """Writes the model's folder to `context.folder`.

        Raises:
            ResourceError: the minutes suffice for no model.
        """
        source = context.parents["tokenizer"].path
        tokenizer, tokens = Tokenizer.load(source), Tokens.open(source)
        plan = kept_plan(context.work, lambda: self._plan(tokenizer.vocab_size, tokens, context))
        model_config = DecoderConfig.parse(plan["model"], where=context.work / PLAN)
        train = TrainConfig.parse(plan["train"], where=context.work / PLAN)
        model = model_config.build(context.seed).to(context.device)
        stream = WindowStream(tokens.tokens, model_config.context, plan["batch_size"], context.seed)
        optimizer = self.config.optimizer.build(model, DTYPES[train.precision])
        heldout = read_documents(context.parents["prepare"].path, "heldout")
        validate = validation(model, heldout, tokenizer, DTYPES[train.precision], context.device)
        trainer = Trainer(model, CausalLM(), stream, optimizer, train, context.work, context.device, validate)
        log = trainer.fit(context.progress, "pretraining")
        write_model(context, model, tokenizer, plan, log)
        seen = log[-1]["tokens"]
        context.metrics |= {"epochs": round(seen / len(tokens), 2)}
        context.notes.append(
            f"A model of {model.parameter_count() / 1e6:.1f} M parameters saw {seen / 1e6:.1f} M tokens "
            f"({seen / len(tokens):.1f} times the training text) in {train.steps:,} steps."
        )

    def _plan(self, vocabulary: int, tokens: Tokens, context: Context) -> dict[str, Any]:
        """Measures this machine and fixes size, precision, compilation and steps."""
        start = time.perf_counter()
        held = resident()
        with context.progress.task("measuring this machine") as task:
            proposal, flops = offer(self.config, len(tokens), vocabulary, context.device)
            task.advance(1, f"{flops / 1e9:.0f} GFLOP/s of training")
            model = proposal.model
            trial = _Trial(self.config, model, tokens, context)
            eager = trial.seconds_per_step(compiled=False)
            left = self._left(start)
            choice, steps = eager, left / eager.step
            if _may_compile(self.config, context.device) and eager.step * FEWEST_STEPS < left:
                task.advance(0, "compiling")
                fused = trial.seconds_per_step(compiled=True)
                left = self._left(start)
                # A fresh process finds the compiled code in the cache, so the trial's wait is not repeated.
                if fused.step < eager.step:
                    choice = fused
                steps = left / choice.step
        if steps < FEWEST_STEPS:
            raise ResourceError(
                f"{self.config.minutes:.2g} minutes are too few: {max(0, int(steps))} steps fit, "
                f"{FEWEST_STEPS} are needed",
                where="pretrain.minutes",
                fix="give more minutes, a smaller batch or a shorter context",
            )
        every = max(1, round(_CHECKPOINT_SECONDS / choice.step))
        config = trial.train_config(compiled=choice.compiled, steps=int(steps), checkpoint_every=every)
        per_step = self.config.batch_size * model.context
        self._say(context.progress, model, config, per_step, len(tokens), choice)
        muon = self.config.optimizer.matrix_rate > 0
        update = update_memory(model, self.config.batch_size, config.precision, muon)
        return {
            "model": model.plain(),
            "train": config.plain(),
            "batch_size": self.config.batch_size,
            "tokens_per_step": per_step,
            "expected_seconds": round(config.steps * choice.step, 1),
            "predicted": prediction(
                model,
                tokens=config.steps * per_step,
                seconds=config.steps * choice.step,
                unique=len(tokens),
                own_text=context.parents["prepare"].record.config.get("data") is not None,
                bytes_per_token=context.parents["tokenizer"].record.metrics.get("heldout_bytes_per_token"),
                memory=max(machine.peak_memory(), held + update.total),
            ),
            "measured": {
                "training_gflops": round(flops / 1e9, 1),
                "eager_seconds_per_step": round(eager.step, 4),
                "seconds_per_step": round(choice.step, 4),
                "tokens_per_second": round(per_step / choice.step, 1),
                "planning_seconds": round(time.perf_counter() - start, 1),
            },
        }

    def _left(self, start: float) -> float:
        """Seconds to train in: at least half of what was given, however long a busy machine took to plan."""
        given = 60 * self.config.minutes
        return max(given - (time.perf_counter() - start), given / 2)

    def _say(
        self,
        progress: Progress,
        model: DecoderConfig,
        train: TrainConfig,
        per_step: int,
        tokens: int,
        choice: _Speed,
    ) -> None:
        seen = train.steps * per_step
        weights = matrix_parameters(model) / 1e6
        progress.say(
            f"plan: {model.layers} layers of width {model.width} ({weights:.1f} M weights in products), "
            f"{train.steps:,} steps of {per_step:,} tokens ({seen / tokens:.1f} epochs) at "
            f"{per_step / choice.step:,.0f} tokens/s, {train.precision}"
            + (", compiled" if train.compile else "")
        )


def validation(
    model: Decoder, documents: Sequence[Document], tokenizer: Tokenizer, dtype: torch.dtype, device: str
) -> Callable[[], dict[str, float]]:
    """Returns a quick look at held-out text: the loss on one window of each of some documents.

    The exact figure is the evaluation's; this one shows the course of the training, and whether the
    model begins to learn its training text by heart.

    Args:
        model: looked at, not changed.
        documents: held out.
        tokenizer: of the model.
        dtype: of the matrix products.
        device: where the model is.

    Returns:
        A function that gives `validation`, in nats per token.
    """
    length = model.config.context + 1
    rows = [[tokenizer.bos_id, *tokenizer.encode(document.text)] for document in documents]
    # From the middle, since the beginnings of files (licences, imports) are all alike.
    rows = [row[(len(row) - length) // 2 :][:length] for row in rows if len(row) >= length][:_VALIDATED]
    windows = torch.tensor(rows, dtype=torch.int64)  # [n, t + 1]

    @torch.no_grad()
    def look() -> dict[str, float]:
        nats = 0.0
        model.eval()
        with nullcontext() if dtype == torch.float32 else torch.autocast(device.split(":")[0], dtype=dtype):
            for part in windows.split(8):
                part = part.to(device)
                logits = model(part[:, :-1]).logits.float()
                nats += float(cross_entropy(logits.flatten(0, 1), part[:, 1:].flatten(), reduction="sum"))
        model.train()
        return {"validation": nats / windows[:, 1:].numel()} if rows else {}

    return look


class _Speed:
    """What a trial measured."""

    def __init__(self, compiled: bool, step: float) -> None:
        self.compiled = compiled
        self.step = step  # seconds


class _Trial:
    """Times real updates of a model that is thrown away."""

    def __init__(
        self, config: PretrainConfig, model: DecoderConfig, tokens: Tokens, context: Context
    ) -> None:
        self.config, self.model, self.device = config, model, context.device
        self.stream = WindowStream(tokens.tokens, model.context, config.batch_size, context.seed)

    def train_config(self, *, compiled: bool, steps: int, checkpoint_every: int = 1) -> TrainConfig:
        """The choices of a run of so many steps."""
        return TrainConfig(
            steps=steps,
            checkpoint_every=checkpoint_every,
            precision=precision(self.device),
            compile=compiled,
            threads=machine.threads(),
            schedule=self.config.schedule,
        )

    def seconds_per_step(self, *, compiled: bool) -> _Speed:
        """Makes a few updates, the first of which compiles, and returns the median of the others."""
        config = self.train_config(compiled=compiled, steps=1)
        model = self.model.build().to(self.device)
        seconds = time_update(model, CausalLM(), self.config.optimizer, config, self.device)
        seconds(self.stream.batch(0))
        times = sorted(seconds(self.stream.batch(step)) for step in range(1, 6 if compiled else 3))
        return _Speed(compiled, times[len(times) // 2])


def offer(config: PretrainConfig, tokens: int, vocabulary: int, device: str) -> tuple[Proposal, float]:
    """Measures the machine with a small model and proposes a size.

    Args:
        config: minutes, context and batch.
        tokens: of the training split.
        vocabulary: v.
        device: where to train.

    Returns:
        The proposal, and the training FLOPs per second that it is based on.
    """
    probe = shape(_PROBE_DEPTH, vocabulary, config.context)
    train = TrainConfig(steps=1, precision=precision(device), threads=machine.threads())
    seconds = time_update(probe.build().to(device), CausalLM(), config.optimizer, train, device)
    rows = max(1, config.batch_size // 4)
    generator = torch.Generator().manual_seed(0)
    window = torch.randint(0, vocabulary, (rows, config.context + 1), generator=generator)
    batch = {"inputs": window[:, :-1].contiguous(), "targets": window[:, 1:].contiguous()}
    seconds(batch)
    fastest = min(seconds(batch) for _ in range(2))
    flops = training_flops_per_token(probe) * rows * config.context / fastest
    if _may_compile(config, device):
        flops *= _COMPILED_GAIN
    proposal = propose(
        seconds=60 * config.minutes,
        flops=flops,
        unique=tokens,
        vocabulary=vocabulary,
        context=config.context,
        tokens_per_step=config.batch_size * config.context,
        depth=config.depth,
    )
    return proposal, flops


def _may_compile(config: PretrainConfig, device: str) -> bool:
    return config.compile and config.minutes >= 2 and (device != "cpu" or machine.compiler() is not None)
