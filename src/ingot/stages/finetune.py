"""Stage finetune: teach the base model to answer, on conversations mined from the corpus itself."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from pydantic import Field

from ingot.data.conversations import Example, mine, unseen
from ingot.data.corpus import iterate_documents
from ingot.data.examples import ConversationStream, encode_examples, pad
from ingot.data.renaming import rename
from ingot.data.stream import Part
from ingot.errors import ConfigError
from ingot.models.decoder import Decoder
from ingot.objectives.causal import CausalLM
from ingot.objectives.objective import Batch
from ingot.optim.freezing import freeze
from ingot.optim.joint import OptimizerConfig
from ingot.optim.schedules import ScheduleConfig
from ingot.pipeline import Context, LeftOut, Outlook
from ingot.stages.fitting import fitting_rows
from ingot.stages.training import INDIFFERENT, TrainingConfig
from ingot.stages.tuning import (
    PLAN,
    can_chat,
    load_parent,
    ranks_of,
    shared_plan,
    time_update,
    validation,
    write_model,
)
from ingot.tokenizer.tokenizer import Tokenizer
from ingot.train.planner import training_flops_per_token
from ingot.train.trainer import DTYPES, TrainConfig, Trainer

FEWEST = 8
"""Conversations; with fewer there is nothing to learn to answer from."""

MICRO_BATCH = 16
"""Conversations that are trained on at once, where nobody asks for more or fewer."""

_MEASURED = 4
_VALIDATED, _AT_ONCE = 128, 16  # held-out conversations


class FinetuneConfig(TrainingConfig):
    """How to fine-tune; see `TrainingConfig` for what all training stages have.

    The usual micro-batch is 16, the optimizer's rates are lower than in pretraining, and the schedule is a
    short rise, then a straight line to zero.

    Args:
        minutes: for the stage, planning included; the number of steps is chosen to fit.
        epochs: passes over the conversations at most.
        batch_size: conversations per step, over all ranks.
        renamed: further copies of every function, each under names drawn anew; only reading the question
            then tells which name to use.
        context: tokens that a conversation may have; None is all that the model sees.
        answer_tokens: examples with longer answers are left out: a small model should learn to end.
    """

    minutes: float = Field(default=2.0, gt=0)
    epochs: float = Field(default=3.0, gt=0)
    batch_size: int = Field(default=32, gt=0)
    renamed: int = Field(default=2, ge=0)
    context: int | None = Field(default=None, ge=16)
    answer_tokens: int = Field(default=160, gt=1)
    optimizer: OptimizerConfig = OptimizerConfig(
        matrix_rate=0.005, embedding_rate=0.0025, head_rate=0.001, norm_rate=0.0025
    )
    schedule: ScheduleConfig = ScheduleConfig(warmup=0.05, decay=0.95)


class Finetune:
    """Makes the fine-tuned model: loss on what the assistant says, and on nothing else."""

    name = "finetune"
    artifact = "finetuned"
    kind = "model"
    needs = ("tokenizer", "prepare", "pretrain")
    shared = True
    indifferent = INDIFFERENT

    def __init__(self, config: FinetuneConfig) -> None:
        self.config = config

    def check(self, outlook: Outlook) -> None:
        """Refuses settings that do not go together.

        Raises:
            ConfigError: names both values.
        """
        self.config.check(self.name, self.config.batch_size, outlook)
        self._room(getattr(outlook.settings.get("pretrain"), "positions", None))

    def run(self, context: Context) -> None:
        """Writes the model's folder to `context.folder`.

        Raises:
            LeftOut: the corpus gives too few conversations.
            ArtifactError: the base model's tokenizer has no tokens for the ends of messages.
            ConfigError: what is to be frozen has no such name.
        """
        started = time.perf_counter()
        model, tokenizer = load_parent(context, "pretrain")
        can_chat(tokenizer, context.parents["pretrain"])
        freeze(model, self.config.freeze, f"{self.name}.freeze")
        room = self._room(model.config.context)
        corpus = context.parents["prepare"].path
        heldout = mine(iterate_documents(corpus, "heldout"))
        mined = unseen(mine(iterate_documents(corpus, "train")), heldout)
        examples = [*mined, *self._copies(mined)]
        fitting = encode_examples(examples, tokenizer, room, self.config.answer_tokens)
        if len(fitting) < FEWEST:
            found = f"{len(fitting)} questions with answers" if fitting else "no questions with answers"
            raise LeftOut(f"{found} can be mined from this corpus")
        world = context.crew.world
        batch_size = min(self.config.batch_size, max(world, len(fitting) // world * world))
        stream = ConversationStream(fitting, room, batch_size, context.seed, tokenizer.pad_id)
        plan = shared_plan(context, lambda: self._plan(model, stream, context, started))
        train = TrainConfig.parse(plan["train"], where=context.work / PLAN)
        optimizer = self.config.optimizer.build(model, DTYPES[train.precision])
        validate = None
        if self.config.patience is not None:
            batches = self._validated(heldout, tokenizer, room)
            validate = validation(model, CausalLM(), batches, DTYPES[train.precision], context.device)
        trainer = Trainer(
            model,
            CausalLM(),
            stream,
            optimizer,
            self.config.going_on(train),
            context.work,
            context.device,
            validate,
            hooks=self.config.hooks(context),
            ranks=ranks_of(context),
            flops_per_token=training_flops_per_token(model.config),
        )
        log = trainer.fit(context.progress, "fine-tuning")
        write_model(context, model, tokenizer, plan, log)
        epochs = len(log) / stream.batches_per_epoch
        context.metrics |= {"mined": len(mined), "used": len(fitting), "epochs": round(epochs, 2)}
        again = f" (functions also under {self.config.renamed} other names)" if self.config.renamed else ""
        context.notes.append(
            f"Mined {len(mined):,} questions with answers from the training files; those short enough{again} "
            f"make {len(fitting):,} conversations, which the model saw {epochs:.1f} times."
        )

    def _copies(self, mined: Sequence[Example]) -> Iterator[Example]:
        """The functions again, under other names."""
        functions = [example for example in mined if example.check is not None]
        for number in range(1, self.config.renamed + 1):
            yield from rename(functions, seed=number)

    def _validated(self, heldout: Sequence[Example], tokenizer: Tokenizer, room: int) -> list[Batch]:
        """Held-out conversations, in batches."""
        chosen = encode_examples(heldout, tokenizer, room, self.config.answer_tokens)[:_VALIDATED]
        parts = (chosen[at : at + _AT_ONCE] for at in range(0, len(chosen), _AT_ONCE))
        return [pad(part, room, tokenizer.pad_id) for part in parts]

    def _room(self, positions: int | None) -> int:
        """Tokens that a conversation may have, in a model with so many positions."""
        asked = self.config.context
        if positions is not None and asked is not None and asked > positions:
            what = f"a context of {asked} tokens is longer than the model's {positions} positions"
            raise ConfigError(what, where="finetune.context", fix=f"use {positions} or less, or leave it out")
        return asked or positions or 0

    def _plan(
        self, model: Decoder, stream: ConversationStream, context: Context, started: float
    ) -> dict[str, Any]:
        """Measures a few updates and chooses the number of steps for the minutes that are left."""
        device, part = context.device, Part(0, context.crew.world)
        most = max(1, round(self.config.epochs * stream.batches_per_epoch))
        train = self.config.train_config(device, context.seed, steps=most)
        widest = stream.batch(max(range(stream.batches_per_epoch), key=stream.places), part=part)
        asked = self.config.micro_batch or min(MICRO_BATCH, stream.batch_size)
        rows = fitting_rows(
            self.name,
            model.config,
            lambda: copy.deepcopy(model),
            CausalLM(),
            widest,
            asked,
            train,
            device,
            context.progress,
        )
        train = train.model_copy(update={"micro_batch": rows})
        stopwatch = time_update(model, CausalLM(), self.config.optimizer, train, device)
        spread = np.linspace(0, stream.batches_per_epoch - 1, _MEASURED + 1).astype(int).tolist()
        stopwatch(stream.batch(spread[0], part=part))  # the first is slower than all others
        seconds = sum(stopwatch(stream.batch(step, part=part)) for step in spread[1:])
        per_place = seconds / sum(stream.places(step) for step in spread[1:])
        times = np.cumsum([per_place * stream.places(step) for step in range(most)])
        left = 60 * self.config.minutes - (time.perf_counter() - started)
        steps = max(1, int(np.searchsorted(times, left, side="right")))
        return {
            "train": train.model_copy(
                update={"steps": steps, "checkpoint_every": max(10, -(-steps // 8))}
            ).plain(),
            "batch_size": stream.batch_size,
            "conversations": len(stream.examples),
            "most_steps": most,
            "measured": {"places_per_second": round(1 / per_place, 1), "updates": _MEASURED},
            "expected_seconds": round(float(times[steps - 1]), 1),
        }
