"""One side of the throughput benchmarks: trains the same model for a while, prints tokens per second.

Run by train_throughput.py and gpu_throughput.py, each time as a fresh process; the last line of the output
is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import same_model
import torch
from clock import Clock
from numpy.typing import NDArray
from same_model import SIZES, Work
from torch import Tensor

from ingot import device as machine
from ingot.allocator import keep_freed_memory

RATE, WEIGHT_DECAY, BETAS = 1e-3, 0.1, (0.9, 0.99)
"""As in nanoGPT's config/train_shakespeare_char.py and train.py."""

CLIP = {"cpu": 1.0, "cuda": None}
"""train.py clips; bench.py, whose work is that on a GPU, does not."""

FOREVER = 1_000_000  # steps: the clock ends a side, not a plan


def ours(work: Work, tokens: NDArray[Any], clock: Clock, given: argparse.Namespace) -> dict[str, Any]:
    """ingot's Trainer, as a user would set it up for this machine."""
    from ingot.data.stream import WindowStream
    from ingot.objectives.causal import CausalLM
    from ingot.optim.joint import OptimizerConfig
    from ingot.optim.schedules import ScheduleConfig
    from ingot.progress import Progress
    from ingot.train.hooks import Hook
    from ingot.train.trainer import TrainConfig, Trainer

    class Watch(Hook):
        def step(self, line: dict[str, Any]) -> str | None:
            return "measured" if clock.tick() else None

    keep_freed_memory()
    model = same_model.ours(work).to(given.device)
    optimizer = OptimizerConfig(
        name="adamw", rate=RATE, weight_decay=WEIGHT_DECAY, beta1=BETAS[0], beta2=BETAS[1], epsilon=1e-8
    )
    config = TrainConfig(
        steps=FOREVER,
        checkpoint_every=FOREVER,
        clip=CLIP[given.device],
        precision="bf16" if given.bf16 else "fp32",
        compile=given.compile,
        threads=machine.threads(),
        schedule=ScheduleConfig(kind="constant", warmup=0),
    )
    stream = WindowStream(tokens, work.context, work.rows, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        joint, place = optimizer.build(model), Path(folder)
        trainer = Trainer(model, CausalLM(), stream, joint, config, place, given.device, hooks=[Watch()])
        log = trainer.fit(Progress(), "training")
    failure = next((line["compile_failure"] for line in log if "compile_failure" in line), None)
    return {"first_loss": log[0]["loss"], "last_loss": log[-1]["loss"], "compile_failure": failure}


def nanogpt(work: Work, tokens: NDArray[Any], clock: Clock, given: argparse.Namespace) -> dict[str, Any]:
    """nanoGPT's model and optimizer, in the order of its train.py: the next batch is made before backward."""
    with contextlib.redirect_stdout(io.StringIO()):
        model: Any = same_model.nanogpt(work, given.peer).to(given.device)
        optimizer = model.configure_optimizers(WEIGHT_DECAY, RATE, BETAS, given.device)
    forward = torch.compile(model) if given.compile else model
    torch.backends.cuda.matmul.allow_tf32 = True
    batch = _random_windows(tokens, work, given.device)
    clip = CLIP[given.device]
    inputs, targets = batch()
    seen: list[float] = []
    for step in itertools.count():
        with torch.autocast(given.device, dtype=torch.bfloat16, enabled=given.bf16):
            _, loss = forward(inputs, targets)
        inputs, targets = batch()
        loss.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 10 == 0:  # its log_interval
            seen.append(loss.item())
        if clock.tick():
            break
    return {"first_loss": seen[0], "last_loss": loss.item()}


def transformers(work: Work, tokens: NDArray[Any], clock: Clock, given: argparse.Namespace) -> dict[str, Any]:
    """The Trainer of transformers; its loss covers one token less per row."""
    from transformers import Trainer, TrainerCallback, TrainingArguments
    from transformers.utils import logging

    logging.set_verbosity_error()

    class Watch(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> Any:
            control.should_training_stop = clock.tick()
            return control

    windows = torch.from_numpy(tokens.astype(np.int64)).unfold(0, work.context, work.context)
    rows = [{"input_ids": row, "labels": row} for row in windows]
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            use_cpu=True,
            bf16=given.bf16,
            torch_compile=given.compile,
            per_device_train_batch_size=work.rows,
            max_steps=FOREVER,
            learning_rate=RATE,
            lr_scheduler_type="constant",
            weight_decay=WEIGHT_DECAY,
            adam_beta1=BETAS[0],
            adam_beta2=BETAS[1],
            max_grad_norm=CLIP[given.device] or 0.0,
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
            dataloader_drop_last=True,
        )
        trainer = Trainer(
            model=same_model.transformers(work), args=arguments, train_dataset=rows, callbacks=[Watch()]
        )
        with contextlib.redirect_stdout(io.StringIO()):
            done = trainer.train()
    return {"mean_loss": done.training_loss}


def check(work: Work, given: argparse.Namespace) -> dict[str, Any]:
    """Whether all systems hold the same model: losses with the same weights, and numbers of weights."""
    with contextlib.redirect_stdout(io.StringIO()):
        losses = same_model.losses(work, given.peer)
        models = {"ingot": same_model.ours(work), "transformers": same_model.transformers(work)}
        if given.peer is not None:
            models["nanogpt"] = same_model.nanogpt(work, given.peer)
    counts = {name: same_model.parameters(model) for name, model in models.items()}
    return {"losses": losses, "parameters": counts, "flops_per_token": work.flops_per_token}


def peaks(given: argparse.Namespace) -> dict[str, Any]:
    """What large matrix products reach here, in FLOP/s."""
    machine.prepare_threads()
    seconds = 0.05 if given.quick else 1.0
    types = {"fp32": torch.float32, "bf16": torch.bfloat16}
    return {name: machine.measure_gemm(dtype, seconds) for name, dtype in types.items()}


def _random_windows(tokens: NDArray[Any], work: Work, device: str) -> Callable[[], tuple[Tensor, Tensor]]:
    """Batches cut at random places, as nanoGPT's `get_batch` makes them."""

    def placed(rows: Tensor) -> Tensor:
        rows = rows.contiguous()
        return rows.pin_memory().to(device, non_blocking=True) if device == "cuda" else rows

    def batch() -> tuple[Tensor, Tensor]:
        starts = torch.randint(len(tokens) - work.context, (work.rows,)).tolist()
        rows = [torch.from_numpy(tokens[s : s + work.context + 1].astype(np.int64)) for s in starts]
        whole = torch.stack(rows)  # [b, t + 1]
        return placed(whole[:, :-1]), placed(whole[:, 1:])

    return batch


def _tokens(work: Work, text: Path | None) -> NDArray[Any]:
    """The characters of the text as numbers; random ones without it, which take the same time."""
    if text is None:
        return np.random.default_rng(0).integers(work.vocabulary, size=200_000).astype(np.uint16)
    characters = np.frombuffer(text.read_bytes(), dtype=np.uint8)
    return np.unique(characters, return_inverse=True)[1].astype(np.uint16)


def _peak_memory(device: str) -> int:
    """The most bytes held at once: by the process, or on the GPU."""
    return machine.peak_memory() if device == "cpu" else torch.cuda.max_memory_allocated()


def main() -> None:
    """Runs the side that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("side", choices=["ours", "nanogpt", "transformers", "check", "peaks"])
    parser.add_argument("--size", choices=SIZES, default="characters")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--peer", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    work = SIZES["smoke" if given.quick else given.size]
    if given.side == "check":
        figures = check(work, given)
    elif given.side == "peaks":
        figures = peaks(given)
    else:
        clock = Clock(given.seconds, *((1, 2) if given.quick else ()))
        train = {"ours": ours, "nanogpt": nanogpt, "transformers": transformers}[given.side]
        figures = train(work, _tokens(work, given.data), clock, given)
        figures = clock.figures(work.tokens) | figures | {"peak_memory": _peak_memory(given.device)}
        figures |= {"flops_per_token": work.flops_per_token}
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
