"""The training loop: the same for every objective.

```
batch <- stream.batch(step)   loss, gradient <- objective   weights <- optimizer   state -> checkpoint
```

A run is a pure function of its plan, its stream and its first weights: whatever is killed, starting
the same again goes on from the last checkpoint with the same losses. The random numbers that a model
draws (dropout) are seeded anew in every step by (seed, step, rank), so no generator is part of the state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ingot import device as machine
from ingot.allocator import keep_freed_memory
from ingot.data.permutation import key
from ingot.data.stream import Part, Stream
from ingot.errors import IngotError
from ingot.objectives.objective import Objective
from ingot.optim.joint import Joint
from ingot.parallel.apply import ParallelConfig, parallelize, reshard
from ingot.parallel.ranks import ALONE, Ranks
from ingot.progress import Progress
from ingot.train.average import Average
from ingot.train.balance import balanced
from ingot.train.checkpoints import Checkpoints, open_store
from ingot.train.config import TrainConfig
from ingot.train.guard import Guard
from ingot.train.hooks import Hook, Run
from ingot.train.log import MetricsLog, in_words
from ingot.train.patience import Patience
from ingot.train.peaks import peak_flops, utilisation
from ingot.train.precision import DTYPES, Scaler, products
from ingot.train.preemption import Interrupted, preemption
from ingot.train.prefetch import Prefetch, Prepared
from ingot.train.repeatable import repeatable
from ingot.train.sharpness import SharpnessAware
from ingot.train.state import TrainState
from ingot.train.step import Accumulate, StepProgram, Update, loss_function
from ingot.train.watchdog import Watchdog, stragglers

__all__ = ["DTYPES", "TrainConfig", "Trainer"]


class Trainer:
    """Trains a model by an objective on a stream.

    Args:
        model: in float32, on `device`; changed in place.
        objective: what to minimise.
        stream: gives the batch of any step. Where it has `numbers`, a mapping of what it saw in
            making its last batch (rewards of rollouts), they are logged with the step.
        optimizer: over the model's parameters.
        config: the run's choices.
        work: folder that survives kills: `checkpoints/` and `metrics.jsonl` live there.
        device: where the model is.
        validate: measures the model on data that it is not trained on; called at every checkpoint, its
            numbers are logged with the step. It changes nothing. The first of them decides what is best.
        hooks: look on, on the lead rank; may ask for the end.
        ranks: this process and those that it trains with.
        parallel: how they share the run; None is the configuration's.
        flops_per_token: of training, forward and backward, for the MFU.

    Raises:
        ConfigError: choices that do not fit one another.

    Example:
        >>> Trainer(model, CausalLM(), stream, OptimizerConfig().build(model),
        ...         TrainConfig(steps=100), work).fit(Progress(), "training")   # doctest: +SKIP
    """

    def __init__(
        self,
        model: nn.Module,
        objective: Objective,
        stream: Stream,
        optimizer: Joint,
        config: TrainConfig,
        work: Path,
        device: str = "cpu",
        validate: Callable[[], Mapping[str, float]] | None = None,
        *,
        hooks: Sequence[Hook] = (),
        ranks: Ranks = ALONE,
        parallel: ParallelConfig | None = None,
        flops_per_token: float | None = None,
    ) -> None:
        config.check(getattr(stream, "batch_size", None), ranks.world, device, validate is not None)
        self.config = config
        self.objective = objective
        self.stream = stream
        self.work = work
        self.device = device
        self.validate = validate
        self.hooks = hooks if ranks.lead else ()
        self.ranks = ranks
        self.flops_per_token = flops_per_token
        self.peak: float | None = None
        work.mkdir(parents=True, exist_ok=True)
        self.parallel = parallelize(model, parallel or config.parallel, ranks, recompute=config.recompute)
        if ranks.world > 1:
            optimizer.follow(model)
        run = {"data": getattr(stream, "fingerprint", None), "steps": config.steps, "seed": config.seed}
        self.checkpoints = Checkpoints(work / "checkpoints", ranks, run)
        self.log = MetricsLog(work / "metrics.jsonl")
        average = None if config.ema is None else Average(model, config.ema)
        patience = config.patience and Patience(config.patience, open_store(work / "best", ranks))
        self.state = TrainState(model, optimizer, Guard(config.guard), average, patience or None)
        self.prefetch = Prefetch(stream, Part(ranks.rank, ranks.world), device.startswith("cuda"))
        self.watchdog = Watchdog(work, ranks.rank, config.watchdog or 600.0, config.stop_hung)
        self.program = self._program()
        self._remarks: dict[str, Any] = {}  # for the next line of the log

    def _program(self) -> StepProgram:
        """What makes an update, by the configuration of now."""
        config, state = self.config, self.state
        state.scaler = Scaler() if config.precision == "fp16" else None
        self.forward = loss_function(
            self.parallel, self.objective, DTYPES[config.precision], config.compile, self.device
        )
        program = Accumulate(
            self.objective,
            self.forward,
            state.optimizer,
            config.micro_batch,
            config.clip,
            guard=state.guard,
            device=self.device,
            ranks=self.ranks,
            model=self.parallel,
            scaler=state.scaler,
        )
        rho, parts = config.sharpness, (program.gradients, state.optimizer)
        sharp = None if rho is None else SharpnessAware(*parts, rho, config.clip, guard=state.guard)
        return balanced(sharp or program, state.model, self.ranks)

    def fit(self, progress: Progress, what: str) -> list[dict[str, Any]]:
        """Runs from where the run stands to its last step.

        Args:
            progress: is told what is done.
            what: the work in words, for the progress bar.

        Returns:
            The log: one mapping per step.

        Raises:
            ConfigError: the checkpoint there is of another run.
            IngotError: updates were refused many times in a row, and rollbacks did not help.
            Interrupted: this process, or one of its fellows, got SIGTERM; the state is saved.
        """
        state = self.state
        progress = progress if self.ranks.lead else Progress()
        with self._looked_on(), preemption() as asked:
            self._resume(progress, what)
            machine.prepare_threads(self.config.threads)
            keep_freed_memory()
            self._start(what)
            state.model.train()
            steps, bar = self.config.steps, progress.task(what, self.config.steps, "steps")
            with repeatable(self.device), products(self.config.precision), bar as task:
                task.at(state.step)
                while state.step < steps and state.stopped is None:
                    line = self.step()
                    task.at(state.step, in_words(line))
                    task.show(line)
                    self._end_of_step(line, asked, progress)
        best = None if state.patience is None else state.patience.weights()
        if best is not None:
            state.adopt(best)
        elif state.average is not None:
            state.average.adopt()
        return self.log.read()

    def step(self) -> dict[str, Any]:
        """Makes one update and returns its line of the log."""
        state, config, start = self.state, self.config, time.perf_counter()
        multiplier = config.schedule.multiplier(state.step, config.steps)
        momentum = config.schedule.momentum(state.step, config.steps)
        self.watchdog.phase("data")
        data = self.prefetch.get(state.step, state.salt, ahead=state.step + 1 < config.steps)
        waited = time.perf_counter() - start
        self.watchdog.phase("compute")
        self._seed()
        update = self.program.update(data.batch, multiplier, momentum)
        self._count(update, data)
        seconds = time.perf_counter() - start
        state.seconds += seconds
        line = {
            "step": state.step,
            "loss": update.loss,
            "rate": multiplier,
            "gradient_norm": update.gradient_norm,
            "clipped_norm": update.clipped_norm,
            "tokens": int(state.weight),
            "seconds": round(state.seconds, 3),
            "data_seconds": round(waited, 6),
            "mfu": utilisation(update.weight / seconds, self.flops_per_token, self.peak),
            "samples": state.samples,
            "accepted": update.accepted,
            **update.metrics,
            **getattr(self.stream, "numbers", {}),
            **self._remarks,
        }
        self._remarks = {}
        if self.validate is not None and self._saves_at(state.step):
            line |= self._validated(self.validate)
        if self.ranks.lead:
            self.log.append(line)
        self.watchdog.beat()
        return line

    def _seed(self) -> None:
        """Seeds what the model draws at random; other ranks draw other numbers."""
        state = self.state
        seed = key(self.config.seed, state.step, self.ranks.rank, state.salt)
        torch.default_generator.manual_seed(seed)
        if self.device.startswith("cuda"):
            torch.cuda.manual_seed(seed)

    def _count(self, update: Update, data: Prepared) -> None:
        self.state.count(data.sample_ids, update.weight if update.accepted else None)
        if not update.accepted:
            self._remarks |= {"refused": update.refused, "sample_ids": data.sample_ids.tolist()}
        if self.forward.failure is not None and self.config.compile:
            self._remarks["compile_failure"] = self.forward.failure
            self.config = self.config.model_copy(update={"compile": False})

    def _validated(self, validate: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        """What the averaged weights, where there are any, reach on other data; all ranks take the lead's."""
        state = self.state
        self.watchdog.phase("validate")
        with nullcontext() if state.average is None else state.average.swap():
            numbers: dict[str, float] = self.ranks.share(dict(validate()))
            reshard(self.parallel)
            if state.patience is not None and numbers:
                state.patience.look(state.step, next(iter(numbers.values())), state.weights())
                state.stopped = state.patience.lost()
        return numbers

    def _end_of_step(self, line: dict[str, Any], asked: Callable[[], bool], progress: Progress) -> None:
        """What may follow an update: a rollback, a checkpoint, the end."""
        state = self.state
        if state.guard.exhausted():
            self._roll_back(line, progress)
            return
        wishes = [wish for hook in self.hooks if (wish := hook.step(line)) is not None]
        self.watchdog.phase("communicate")
        interrupted, ended = self.ranks.sum_numbers([float(asked()), float(bool(wishes))])
        if ended:
            state.stopped = self.ranks.share(wishes[0] if wishes else None)
        # A streak of refusals is no place to come back to.
        settled = state.guard.in_row == 0 or state.step == self.config.steps
        if interrupted or state.stopped is not None or (settled and self._saves_at(state.step)):
            self._save(progress)
        if interrupted:
            raise Interrupted(
                f"asked to stop (SIGTERM) and saved after step {state.step:,} of {self.config.steps:,}",
                step=state.step,
                where=self.work,
                fix="run the same command again to go on",
            )
        if state.stopped is not None:
            progress.say(f"stopped after step {state.step:,} of {self.config.steps:,}: {state.stopped}")

    def _roll_back(self, line: dict[str, Any], progress: Progress) -> None:
        """Goes back to the last checkpoint and on with other data, unless that was tried often enough."""
        state, limits = self.state, self.config.guard
        refused = f"{line['refused']}, {limits.skips_before_rollback} times in a row"
        if state.salt >= limits.rollbacks:
            raise IngotError(
                f"{refused}, after {state.salt} rollbacks (samples {line['sample_ids']})",
                where=f"step {state.step}",
                fix="lower the learning rate, look at these samples, or use precision fp32",
            )
        left = state.step
        state.roll_back(self.checkpoints.newest(state))
        if self.ranks.lead:
            given_up = MetricsLog(self.work / "rolled_back.jsonl")
            for old in self.log.cut(state.step):
                given_up.append(old | {"salt": state.salt - 1})
            given_up.close()
        self._remarks["rollback"] = {"from": left, "salt": state.salt, "why": line["refused"]}
        progress.say(f"{refused}: back from step {left:,} to {state.step:,}, on with other data")

    def _resume(self, progress: Progress, what: str) -> None:
        """Takes up the run where its newest checkpoint left it."""
        state = self.state
        checkpoint = self.checkpoints.newest(state)
        if checkpoint is not None:
            kept = self.checkpoints.choices(checkpoint, self.config)
            if kept:
                self.config = self.config.model_copy(update=kept)
                self.program = self._program()
                words = ", ".join(f"{name} {value}" for name, value in kept.items())
                progress.say(f"{what}: keeps what the run began with ({words})")
            state.restore(checkpoint)
            progress.say(f"{what}: going on after step {state.step:,} of {self.config.steps:,}")
        if self.ranks.lead:
            self.log.cut(state.step)
        self.ranks.barrier()

    def _start(self, what: str) -> None:
        """Tells those who look on what is about to run."""
        config, state = self.config, self.state
        if config.watchdog is not None:
            self.watchdog.start()
        peak = None if self.flops_per_token is None else peak_flops(self.device, config.precision)
        self.peak = None if peak is None else peak * self.ranks.world
        parameters = sum(p.numel() for p in state.model.parameters())
        run = Run(self.work, config.steps, config.plain(), parameters, self.flops_per_token, self.peak, what)
        for hook in self.hooks:
            hook.start(run, state.step)

    def _save(self, progress: Progress) -> None:
        """Makes the state of now the newest checkpoint."""
        self.watchdog.phase("save")
        self.log.flush()
        folder = self.checkpoints.save(self.state, self.config)
        for hook in self.hooks:
            hook.checkpoint(self.state.step, folder)
        for words in stragglers(self.ranks.gather(self.watchdog.pace())):
            progress.say(words)

    def _saves_at(self, step: int) -> bool:
        return step % self.config.checkpoint_every == 0 or step == self.config.steps

    @contextmanager
    def _looked_on(self) -> Iterator[None]:
        """Has hooks hear of errors and of the end, and threads end with the run."""
        with ExitStack() as ending:
            for close in (self.log.close, self.prefetch.close, self.watchdog.close):
                ending.callback(close)
            for hook in self.hooks:
                ending.callback(hook.close)
            try:
                yield
            except BaseException as error:
                for hook in self.hooks:
                    hook.error(error)
                raise
