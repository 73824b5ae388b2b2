"""Stage pretrain: a model from nothing, of the size that makes the most of the minutes given, or a base
that somebody made, trained further or taken as it is."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator

from ingot import device as machine
from ingot.data.corpus import read_documents
from ingot.data.document import Document
from ingot.data.mixture import MixtureConfig, mix_sources
from ingot.data.pack import PackedStream
from ingot.data.shards import Tokens
from ingot.data.stream import Stream, WindowStream
from ingot.errors import ConfigError, ResourceError
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.models.foresight import Foresight
from ingot.models.surgery.context import Method
from ingot.objectives.causal import CausalLM
from ingot.objectives.future import FutureConfig, FutureTokens
from ingot.objectives.objective import Batch
from ingot.optim.freezing import freeze
from ingot.optim.joint import Joint
from ingot.pipeline import Context, Outlook
from ingot.progress import Progress
from ingot.stages import base
from ingot.stages.measuring import Trial, may_compile, offer
from ingot.stages.training import INDIFFERENT, TrainingConfig
from ingot.stages.tuning import PLAN, load_tokenizer, ranks_of, shared_plan, validation, write_model
from ingot.tokenizer.tokenizer import Tokenizer
from ingot.train.forecast import prediction
from ingot.train.memory import resident, update_memory
from ingot.train.planner import FEWEST_STEPS, matrix_parameters, training_flops_per_token
from ingot.train.trainer import DTYPES, TrainConfig, Trainer

_VALIDATED = 48  # documents
_VALIDATED_AT_ONCE = 8
_CHECKPOINT_SECONDS = 30
_FROM_NOTHING = ("bits_per_byte", "validation")  # predictions that hold for a model that begins with nothing


class PretrainConfig(TrainingConfig):
    """How to pretrain; see `TrainingConfig` for what all training stages have.

    Args:
        minutes: for the stage, planning included; the model's size and the number of steps follow. 0 takes
            a base as it is, for the stages after this one.
        base: folder of a model to train further: its weights, its sizes; `tokenizer.base` must name the same
            folder. None begins with nothing.
        stretch: how a context longer than the base's is made: theta, linear or yarn (docs/import.md).
        depth: layers, where they should not follow from the minutes.
        context: tokens that the model sees at once.
        batch_size: rows per step, over all ranks.
        packing: what a row is. windows (or null): the next tokens of the training text, whatever documents
            they are of. best_fit: whole documents side by side, each of which sees itself only; those longer
            than the context are split (docs/data.md).
        overlap: tokens that the pieces of a split document share, to be seen and not learnt twice.
        mixture: how the sources of the corpus are mixed, or null for the corpus as it is.
        z_loss: weight of the squared logarithm of the softmax's normaliser (PaLM's 1e-4), or 0.
        future: how many tokens every place predicts, and by what heads; null predicts the next one only.
            The further heads teach and are not part of the model that is made.
        compile: whether torch.compile may be used where it pays.
    """

    minutes: float = Field(default=7.0, ge=0)
    base: str | None = None
    stretch: Method | None = None
    depth: int | None = Field(default=None, gt=0, le=64)
    context: int = Field(default=512, ge=16)
    batch_size: int = Field(default=16, gt=0)
    packing: Literal["windows", "best_fit"] | None = None
    overlap: int = Field(default=0, ge=0)
    mixture: MixtureConfig | None = None
    z_loss: float = Field(default=0.0, ge=0)
    future: FutureConfig | None = None
    compile: bool = True

    @model_validator(mode="after")
    def _overlap_fits(self) -> Self:
        if self.overlap and self.packing != "best_fit":
            raise ValueError("an overlap is of pieces of documents: it needs packing: best_fit")
        if self.overlap >= self.context:
            raise ValueError(f"overlap ({self.overlap}) must be less than context ({self.context})")
        return self

    @model_validator(mode="after")
    def _base_fits(self) -> Self:
        if self.base is None and (self.stretch is not None or self.minutes == 0):
            raise ValueError("stretch, and minutes of 0, need a base")
        if self.base is not None and self.depth is not None:
            raise ValueError(f"depth ({self.depth}) is the base's own, leave it out")
        return self

    @property
    def positions(self) -> int:
        """Tokens that the model can see at once."""
        return (
            self.context if self.base is None else base.sizes(self.base, self.context, self.stretch).context
        )

    def objective(self) -> CausalLM | FutureTokens:
        """Returns what is minimised."""
        following = CausalLM(self.z_loss)
        return following if self.future is None else FutureTokens(following, self.future.weight)

    def learner(self, model: Decoder) -> Decoder | Foresight:
        """Returns what is trained: the model, with further heads where it looks ahead, parts of it frozen."""
        ahead = self.future
        learner = model if ahead is None else Foresight(model, ahead.tokens, ahead.heads)
        freeze(learner, self.freeze, "pretrain.freeze")
        return learner

    def stream(self, tokens: Tokens, context: int, batch_size: int, seed: int, end_id: int) -> Stream:
        """Returns the rows to train on.

        Args:
            tokens: of the corpus.
            context: tokens of a row.
            batch_size: rows of a step.
            seed: of their order.
            end_id: the token that follows a document.

        Raises:
            DataError: too little text, or a mixture of sources that the corpus has not.
        """

        def rows(documents: NDArray[np.int64] | None) -> PackedStream | WindowStream:
            if self.packing == "best_fit":
                return PackedStream(tokens, context, batch_size, seed, end_id, self.overlap, documents)
            return WindowStream.over(tokens, context, batch_size, seed, documents)

        return (
            rows(None) if self.mixture is None else mix_sources(self.mixture, tokens, rows, batch_size, seed)
        )


class Setup(NamedTuple):
    """All that a pretraining is made of."""

    model: Decoder | Foresight
    objective: CausalLM | FutureTokens
    tokenizer: Tokenizer
    tokens: Tokens
    stream: Stream
    optimizer: Joint
    train: TrainConfig
    validate: Callable[[], dict[str, float]] | None
    flops_per_token: float


class Pretrain:
    """Makes the base model: a decoder trained on the corpus's tokens, from nothing or further."""

    name = "pretrain"
    artifact = "base"
    kind = "model"
    needs = ("prepare", "tokenizer")
    shared = True
    indifferent = INDIFFERENT

    def __init__(self, config: PretrainConfig) -> None:
        self.config = config

    def check(self, outlook: Outlook) -> None:
        """Refuses settings that do not go together.

        Raises:
            ConfigError: names both values.
        """
        config = self.config
        config.check(self.name, config.batch_size, outlook)
        if config.base is None:
            return
        taken = getattr(outlook.settings.get("tokenizer"), "base", None)
        if taken != config.base:
            what = f"the base is {config.base}, the tokenizer that of {taken or 'the corpus'}"
            raise ConfigError(what, where="pretrain.base", fix=f"set tokenizer.base={config.base} too")
        with torch.device("meta"):
            config.learner(Decoder(base.sizes(config.base, config.context, config.stretch)))

    def identity(self) -> dict[str, Any]:
        """Returns the hashes of the base: another one makes another artifact."""
        return {} if self.config.base is None else {"base": base.hashes(self.config.base)}

    def run(self, context: Context) -> None:
        """Writes the model's folder to `context.folder`.

        Raises:
            ResourceError: the minutes suffice for no model.
        """
        if self.config.minutes == 0:
            context.crew.by_lead(lambda: self._take(context))
            return
        plan = shared_plan(context, lambda: self.plan(context))
        setup = self.setup(context, plan)
        model, tokens = setup.model, setup.tokens
        trainer = Trainer(
            model,
            setup.objective,
            setup.stream,
            setup.optimizer,
            setup.train,
            context.work,
            context.device,
            setup.validate,
            hooks=self.config.hooks(context),
            ranks=ranks_of(context),
            flops_per_token=setup.flops_per_token,
        )
        log = trainer.fit(context.progress, "pretraining")
        write_model(context, model, setup.tokenizer, plan, log)
        seen = log[-1]["tokens"]
        context.metrics |= {"epochs": round(seen / len(tokens), 2)}
        if self.config.base is not None:
            context.notes.append(f"It began with the weights of {self.config.base}.")
        context.notes.append(
            f"A model of {model.parameter_count() / 1e6:.1f} M parameters saw {seen / 1e6:.1f} M tokens "
            f"({seen / len(tokens):.1f} times the training text) in {len(log):,} steps."
        )

    def setup(self, context: Context, plan: dict[str, Any]) -> Setup:
        """Returns model, data and choices as a plan has them, before step 1.

        Raises:
            ArtifactError: the tokenizer changed since it was made.
            ConfigError: the plan is of another vocabulary.
        """
        source = context.parents["tokenizer"]
        tokenizer, tokens = load_tokenizer(source), Tokens.open(source.path)
        config = DecoderConfig.parse(plan["model"], where=context.work / PLAN)
        if config.vocabulary != tokenizer.vocab_size:
            what = f"the plan has a vocabulary of {config.vocabulary}, the tokenizer {tokenizer.vocab_size}"
            raise ConfigError(what, where=context.work / PLAN, fix="delete that folder to plan anew")
        train = self.config.going_on(TrainConfig.parse(plan["train"], where=context.work / PLAN))
        model = self.config.learner(self._begun(config, context, tokenizer))
        dtype = DTYPES[train.precision]
        heldout = read_documents(context.parents["prepare"].path, "heldout")
        rows = self.config.context
        batches = windows(heldout, tokenizer, rows)
        return Setup(
            model,
            self.config.objective(),
            tokenizer,
            tokens,
            self.config.stream(tokens, rows, plan["batch_size"], context.seed, tokenizer.bos_id),
            self.config.optimizer.build(model, dtype),
            train,
            validation(model, CausalLM(), batches, dtype, context.device),
            training_flops_per_token(config),
        )

    def plan(self, context: Context) -> dict[str, Any]:
        """Measures this machine and fixes size, precision, compilation and steps."""
        source = context.parents["tokenizer"]
        tokenizer, tokens = load_tokenizer(source), Tokens.open(source.path)
        world = context.crew.world
        start = time.perf_counter()
        held = resident()
        with context.progress.task("measuring this machine") as task:
            proposal, flops = offer(self.config, len(tokens), tokenizer.vocab_size, context.device, world)
            task.advance(1, f"{flops / 1e9:.0f} GFLOP/s of training")
            model = self._sizes() or proposal.model
            rows, length = self.config.batch_size, self.config.context
            stream = self.config.stream(tokens, length, rows, context.seed, tokenizer.bos_id)
            trial = Trial(self.config, model, stream, context)
            eager = trial.seconds_per_step(compiled=False)
            left = self._left(start)
            choice, steps = eager, left / eager.step
            if may_compile(self.config, context.device) and eager.step * FEWEST_STEPS < left:
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
        self._check_schedule(config.steps)
        per_step = self.config.batch_size * self.config.context
        speed = per_step / choice.step
        self._say(context.progress, model, config, per_step, len(tokens), speed)
        muon = self.config.optimizer.name == "muon" and self.config.optimizer.matrix_rate > 0
        rows = min(config.micro_batch or self.config.batch_size, self.config.batch_size // world)
        cut = world if self.config.parallel.data == "fsdp" else 1
        update = update_memory(model, rows, config.precision, muon, cut)
        predicted = prediction(
            model,
            tokens=config.steps * per_step,
            seconds=config.steps * choice.step,
            unique=len(tokens),
            own_text=context.parents["prepare"].record.config.get("data") is not None,
            bytes_per_token=source.record.metrics.get("heldout_bytes_per_token"),
            memory=max(machine.peak_memory(), held + update.total),
        )
        if self.config.base is not None:  # nobody knows what it has seen
            predicted = {name: predicted[name] for name in predicted if name not in _FROM_NOTHING}
        return {
            "model": model.plain(),
            "train": config.plain(),
            "batch_size": self.config.batch_size,
            "tokens_per_step": per_step,
            "expected_seconds": round(config.steps * choice.step, 1),
            "predicted": predicted,
            "measured": {
                "training_gflops": round(flops / 1e9, 1),
                "eager_seconds_per_step": round(eager.step, 4),
                "seconds_per_step": round(choice.step, 4),
                "tokens_per_second": round(speed, 1),
                "planning_seconds": round(time.perf_counter() - start, 1),
            },
        }

    def _sizes(self) -> DecoderConfig | None:
        """The sizes of the base, where there is one."""
        config = self.config
        return None if config.base is None else base.sizes(config.base, config.context, config.stretch)

    def _begun(self, sizes: DecoderConfig, context: Context, tokenizer: Tokenizer) -> Decoder:
        """The model before step 1: drawn anew, or the base."""
        if self.config.base is None:
            return sizes.build(context.seed).to(context.device)
        base.same_tokenizer(self.config.base, tokenizer)
        return base.weights(self.config.base, sizes, context.device)

    def _take(self, context: Context) -> None:
        """Writes the base as it is, with more positions where that was asked."""
        sizes = self._sizes()
        assert sizes is not None and self.config.base is not None
        tokenizer = load_tokenizer(context.parents["tokenizer"])
        model = self._begun(sizes, context, tokenizer)
        write_model(context, model, tokenizer, {"model": sizes.plain(), "taken": self.config.base}, [])
        context.notes.append(f"The model is {self.config.base} as it is: nothing was trained.")

    def _left(self, start: float) -> float:
        """Seconds to train in: at least half of what was given, however long a busy machine took to plan."""
        given = 60 * self.config.minutes
        return max(given - (time.perf_counter() - start), given / 2)

    def _check_schedule(self, steps: int) -> None:
        try:
            self.config.schedule.check(steps)
        except ConfigError as error:
            raise ConfigError(error.what, where="pretrain.schedule", fix=error.fix) from None

    def _say(
        self,
        progress: Progress,
        model: DecoderConfig,
        train: TrainConfig,
        per_step: int,
        tokens: int,
        speed: float,
    ) -> None:
        seen = train.steps * per_step
        weights = matrix_parameters(model) / 1e6
        progress.say(
            f"plan: {model.layers} layers of width {model.width} ({weights:.1f} M weights in products), "
            f"{train.steps:,} steps of {per_step:,} tokens ({seen / tokens:.1f} epochs) at "
            f"{speed:,.0f} tokens/s, {train.precision}" + (", compiled" if train.compile else "")
        )


def windows(documents: Sequence[Document], tokenizer: Tokenizer, context: int) -> list[Batch]:
    """Returns one window of each of some held-out documents, in batches of `inputs` and `targets` [b, t].

    Args:
        documents: those that are as long as the context count.
        tokenizer: of the model.
        context: t.
    """
    length = context + 1
    rows = [[tokenizer.bos_id, *tokenizer.encode(document.text)] for document in documents]
    # From the middle, since the beginnings of files (licences, imports) are all alike.
    rows = [row[(len(row) - length) // 2 :][:length] for row in rows if len(row) >= length][:_VALIDATED]
    parts = (
        torch.tensor(rows[at : at + _VALIDATED_AT_ONCE]) for at in range(0, len(rows), _VALIDATED_AT_ONCE)
    )
    return [{"inputs": part[:, :-1], "targets": part[:, 1:].contiguous()} for part in parts]
