"""What this machine can do: real updates of small and of full-sized models, timed and thrown away."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch

from ingot import device as machine
from ingot.data.stream import Part, Stream
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.models.foresight import Foresight
from ingot.objectives.causal import CausalLM
from ingot.stages.fitting import fitting_rows
from ingot.stages.tuning import time_update
from ingot.train.planner import Proposal, propose, shape, training_flops_per_token
from ingot.train.trainer import TrainConfig

if TYPE_CHECKING:
    from ingot.pipeline import Context
    from ingot.stages.pretrain import PretrainConfig

PROBE_DEPTH = 4
_ANY = 1_000_000  # steps of a configuration that is only timed
COMPILED_GAIN = 2.0
"""How much faster compiled training is taken to be until it has been measured."""


class Speed(NamedTuple):
    """What a trial measured."""

    compiled: bool
    step: float  # seconds


class Trial:
    """Times real updates of a model that is thrown away.

    Of several ranks one alone measures, on the rows that will be its own: what ranks say to one another in
    a step is not counted.

    Args:
        config: of the stage.
        model: sizes of the model to be trained.
        stream: of the training.
        context: of the stage.
    """

    def __init__(
        self, config: PretrainConfig, model: DecoderConfig, stream: Stream, context: Context
    ) -> None:
        self.config, self.model, self.stream, self.context = config, model, stream, context
        self.part = Part(0, context.crew.world)
        self.micro_batch = self._fitting()

    def train_config(self, *, compiled: bool, steps: int, checkpoint_every: int = 1) -> TrainConfig:
        """Returns the choices of a run of so many steps."""
        return self.config.train_config(
            self.context.device,
            self.context.seed,
            steps=steps,
            checkpoint_every=checkpoint_every,
            compile=compiled,
            micro_batch=self.micro_batch,
        )

    def seconds_per_step(self, *, compiled: bool) -> Speed:
        """Makes a few updates, the first of which compiles, and returns the median of the others."""
        config = self.train_config(compiled=compiled, steps=_ANY)
        objective, optimizer = self.config.objective(), self.config.optimizer
        seconds = time_update(self._build(), objective, optimizer, config, self.context.device)
        seconds(self.stream.batch(0, part=self.part))
        last = 6 if compiled else 3
        times = sorted(seconds(self.stream.batch(step, part=self.part)) for step in range(1, last))
        return Speed(compiled, times[len(times) // 2])

    def _build(self) -> Decoder | Foresight:
        return self.config.learner(self.model.build().to(self.context.device))

    def _fitting(self) -> int | None:
        context, config = self.context, self.config
        return fitting_rows(
            "pretrain",
            self.model,
            self._build,
            config.objective(),
            self.stream.batch(0, part=self.part),
            config.micro_batch,
            config.train_config(context.device, context.seed, steps=_ANY),
            context.device,
            context.progress,
        )


def offer(
    config: PretrainConfig, tokens: int, vocabulary: int, device: str, world: int = 1
) -> tuple[Proposal, float]:
    """Measures the machine with a small model and proposes a size.

    Args:
        config: minutes, context and batch.
        tokens: of the training split.
        vocabulary: v.
        device: where to train.
        world: ranks that share every batch, taken to be as fast as this one.

    Returns:
        The proposal, and the training FLOPs per second that it is based on.
    """
    probe = shape(PROBE_DEPTH, vocabulary, config.context)
    rows = max(1, config.batch_size // world // 4)
    train = config.train_config(device, 0, steps=_ANY, micro_batch=None)
    optimizer = config.optimizer.model_copy(update={"groups": ()})  # whose names may not be in the probe
    seconds = time_update(probe.build().to(device), CausalLM(), optimizer, train, device)
    generator = torch.Generator().manual_seed(0)
    window = torch.randint(0, vocabulary, (rows, config.context + 1), generator=generator)
    batch = {"inputs": window[:, :-1].contiguous(), "targets": window[:, 1:].contiguous()}
    seconds(batch)
    fastest = min(seconds(batch) for _ in range(2))
    flops = training_flops_per_token(probe) * rows * config.context / fastest * world
    if may_compile(config, device):
        flops *= COMPILED_GAIN
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


def may_compile(config: PretrainConfig, device: str) -> bool:
    """Whether torch.compile is allowed, possible, and given the time to pay."""
    if not config.compile or config.minutes < 2:
        return False
    return device != "cpu" or machine.compiler() is not None
