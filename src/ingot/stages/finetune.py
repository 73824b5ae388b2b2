"""Stage finetune: teach the base model to answer, on conversations mined from the corpus itself."""

from __future__ import annotations

import itertools
import time
from typing import Any

import numpy as np
from pydantic import Field

from ingot import device as machine
from ingot.config import Config
from ingot.data.conversations import mine, unseen
from ingot.data.corpus import read_documents
from ingot.data.examples import ConversationStream, encode_examples
from ingot.data.renaming import rename
from ingot.models.decoder import Decoder
from ingot.objectives.causal import CausalLM
from ingot.optim.joint import OptimizerConfig
from ingot.optim.schedules import ScheduleConfig
from ingot.pipeline import Context, LeftOut
from ingot.stages.tuning import kept_plan, load_parent, precision, time_update, write_model
from ingot.train.trainer import DTYPES, TrainConfig, Trainer

FEWEST = 8
"""Conversations; with fewer there is nothing to learn to answer from."""

_MEASURED = 4


class FinetuneConfig(Config):
    """How to fine-tune.

    Args:
        minutes: for the stage, planning included; the number of steps is chosen to fit.
        epochs: passes over the conversations at most.
        batch_size: conversations per step.
        renamed: further copies of every function, each under names drawn anew; only reading the question
            then tells which name to use.
        micro_batch: conversations that are trained on at once.
        answer_tokens: examples with longer answers are left out: a small model should learn to end.
        optimizer: learning rates, lower than in pretraining.
        schedule: of the learning rates; a short rise, then a straight line to zero.
    """

    minutes: float = Field(default=2.0, gt=0)
    epochs: float = Field(default=3.0, gt=0)
    batch_size: int = Field(default=32, gt=0)
    renamed: int = Field(default=2, ge=0)
    micro_batch: int = Field(default=16, gt=0)
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

    def __init__(self, config: FinetuneConfig) -> None:
        self.config = config

    def run(self, context: Context) -> None:
        """Writes the model's folder to `context.folder`.

        Raises:
            LeftOut: the corpus gives too few conversations.
        """
        started = time.perf_counter()
        model, tokenizer = load_parent(context, "pretrain")
        corpus = context.parents["prepare"].path
        mined = unseen(mine(read_documents(corpus, "train")), mine(read_documents(corpus, "heldout")))
        functions = [example for example in mined if example.check is not None]
        copies = [rename(functions, seed=copy) for copy in range(1, self.config.renamed + 1)]
        examples = [*mined, *itertools.chain.from_iterable(copies)]
        room = model.config.context
        fitting = encode_examples(examples, tokenizer, room, self.config.answer_tokens)
        if len(fitting) < FEWEST:
            found = f"{len(fitting)} questions with answers" if fitting else "no questions with answers"
            raise LeftOut(f"{found} can be mined from this corpus")
        batch_size = min(self.config.batch_size, len(fitting))
        stream = ConversationStream(fitting, room, batch_size, context.seed, tokenizer.pad_id)
        plan = kept_plan(context.work, lambda: self._plan(model, stream, context.device, started))
        train = TrainConfig.parse(plan["train"], where=context.work / "plan.json")
        trainer = Trainer(
            model,
            CausalLM(),
            stream,
            self.config.optimizer.build(model, DTYPES[train.precision]),
            train,
            context.work,
            context.device,
        )
        log = trainer.fit(context.progress, "fine-tuning")
        write_model(context, model, tokenizer, plan, log)
        epochs = train.steps / stream.batches_per_epoch
        context.metrics |= {"mined": len(mined), "used": len(fitting), "epochs": round(epochs, 2)}
        again = f" (functions also under {self.config.renamed} other names)" if self.config.renamed else ""
        context.notes.append(
            f"Mined {len(mined):,} questions with answers from the training files; those short enough{again} "
            f"make {len(fitting):,} conversations, which the model saw {epochs:.1f} times."
        )

    def _plan(
        self, model: Decoder, stream: ConversationStream, device: str, started: float
    ) -> dict[str, Any]:
        """Measures a few updates and chooses the number of steps for the minutes that are left."""
        most = max(1, round(self.config.epochs * stream.batches_per_epoch))
        train = TrainConfig(
            steps=most,
            micro_batch=self.config.micro_batch,
            precision=precision(device),
            threads=machine.threads(),
            schedule=self.config.schedule,
        )
        stopwatch = time_update(model, CausalLM(), self.config.optimizer, train, device)
        spread = np.linspace(0, stream.batches_per_epoch - 1, _MEASURED + 1).astype(int).tolist()
        stopwatch(stream.batch(spread[0]))  # the first is slower than all others
        seconds = sum(stopwatch(stream.batch(step)) for step in spread[1:])
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
