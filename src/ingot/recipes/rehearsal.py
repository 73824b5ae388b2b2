"""A rehearsal: everything of a recipe's pretraining but the training, to look at before it begins.

```
recipe -> the stages before pretrain (made as ever) -> plan -> model, data, choices -> find-lr | profile
```

The plan and the weights are thrown away; corpus and tokenizer stay in the run folder, where the training
finds them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

from ingot.errors import ConfigError
from ingot.pipeline import Context, Outlook, Pipeline
from ingot.progress import Progress, Task
from ingot.recipes import Recipe, build

if TYPE_CHECKING:
    from torch import Tensor

    from ingot.data.stream import Stream
    from ingot.stages.pretrain import PretrainConfig, Setup
    from ingot.train.find_rate import Finding
    from ingot.train.profile import Profile

PROFILED_SECONDS, PROFILED_STEPS = 10.0, 20


class Rehearsal(NamedTuple):
    """A pretraining before its first step."""

    config: PretrainConfig
    setup: Setup
    work: Path
    device: str
    seconds_per_step: float


@contextmanager
def rehearsal(
    recipe: Recipe, out: Path, progress: Progress, device: str, compiled: bool
) -> Iterator[Rehearsal]:
    """Plans a recipe's pretraining and sets it up, in a folder that goes away again.

    Args:
        recipe: with a stage `pretrain`.
        out: the run folder; corpus and tokenizer are made there unless they are there.
        progress: told about it.
        device: where to train.
        compiled: whether the plan may choose torch.compile, which takes a while.

    Raises:
        ConfigError: the recipe has no pretraining.
    """
    stages = build(recipe)
    names = [stage.name for stage in stages]
    if "pretrain" not in names:
        fix = "use a recipe that has it: ingot train pretrain"
        raise ConfigError("has no stage 'pretrain' to try", where=f"recipe {recipe.name}", fix=fix)
    before = stages[: names.index("pretrain")]
    config: Any = stages[names.index("pretrain")].config
    from ingot.stages.pretrain import Pretrain

    stage = Pretrain(config if compiled else config.model_copy(update={"compile": False}))
    stage.check(Outlook(1, device, {one.name: one.config for one in stages}))
    made = Pipeline(before, out).run(progress, recipe.seed, device)
    parents = {one.name: artifact for one, artifact in zip(before, made, strict=True)}
    with TemporaryDirectory(prefix="ingot-rehearsal-") as folder:
        work = Path(folder)
        context = Context(work, work, parents, progress, recipe.seed, device)
        plan = stage.plan(context)
        setup = stage.setup(context, plan)
        yield Rehearsal(stage.config, setup, work, device, plan["measured"]["seconds_per_step"])


def find_rate(recipe: Recipe, out: Path, progress: Progress, device: str) -> tuple[Finding, list[str]]:
    """Runs the learning-rate range test on a recipe's pretraining.

    Returns:
        What was found, and the changes of the recipe that follow it, as `a.b=c` texts.
    """
    from ingot import device as machine
    from ingot.objectives.causal import CausalLM
    from ingot.train.find_rate import find_rate_for
    from ingot.train.precision import DTYPES, products
    from ingot.train.repeatable import repeatable

    with rehearsal(recipe, out, progress, device, compiled=False) as found:
        setup, train = found.setup, found.setup.train
        machine.prepare_threads(train.threads)
        with (
            progress.task("raising the learning rate", 100, "steps") as task,
            repeatable(device),
            products(train.precision),
        ):
            finding = find_rate_for(
                setup.model,
                CausalLM(),
                _Counted(setup.stream, task),
                setup.optimizer,
                steps=100,
                dtype=DTYPES[train.precision],
                micro_batch=train.micro_batch,
                clip=train.clip,
                device=device,
            )
        return finding, changed_rates(found.config, setup, finding.suggestion)


def changed_rates(config: PretrainConfig, setup: Setup, factor: float) -> list[str]:
    """Returns the changes of a recipe that multiply its pretraining's rates."""
    optimizer = config.optimizer
    if optimizer.name == "muon":
        rates = {name: rate for name, rate in optimizer.plain().items() if name.endswith("_rate") and rate}
    else:
        plain = optimizer.model_copy(update={"groups": (), "layer_decay": None})
        rates = {"rate": plain.assignments(setup.model)[0].rate}
    return [f"pretrain.optimizer.{name}={rate * factor:.3g}" for name, rate in rates.items()]


def profiled(recipe: Recipe, out: Path, progress: Progress, device: str) -> Profile:
    """Profiles some steps of a recipe's pretraining, planned as it would be."""
    from ingot import device as machine
    from ingot.allocator import keep_freed_memory
    from ingot.objectives.causal import CausalLM
    from ingot.train.peaks import peak_flops
    from ingot.train.precision import products
    from ingot.train.profile import WARM_UP, profile
    from ingot.train.repeatable import repeatable
    from ingot.train.trainer import Trainer

    with rehearsal(recipe, out, progress, device, compiled=True) as found:
        setup, train = found.setup, found.setup.train
        machine.prepare_threads(train.threads)
        keep_freed_memory()
        most = min(PROFILED_STEPS, (train.steps - WARM_UP) // 2)
        steps = max(1, min(most, round(PROFILED_SECONDS / found.seconds_per_step)))
        trainer = Trainer(setup.model, CausalLM(), setup.stream, setup.optimizer, train, found.work, device)
        setup.model.train()
        with (
            progress.task("profiling", WARM_UP + 2 * steps, "steps") as task,
            repeatable(device),
            products(train.precision),
        ):

            def step() -> dict[str, Any]:
                task.advance()
                return trainer.step()

            try:
                return profile(
                    steps,
                    step,
                    device=device,
                    flops_per_token=setup.flops_per_token,
                    peak=peak_flops(device, train.precision),
                )
            finally:
                trainer.prefetch.close()
                trainer.log.close()


class _Counted:
    """A stream whose batches are counted by a task."""

    def __init__(self, stream: Stream, task: Task) -> None:
        self.stream, self.task = stream, task

    def batch(self, step: int) -> dict[str, Tensor]:
        self.task.at(step + 1)
        return self.stream.batch(step)
