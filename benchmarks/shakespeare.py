"""A character-level model of Shakespeare, as a user of ingot's Python interface would write it.

Trains for a fixed number of steps and scores the whole validation split (the last tenth of the file) in
windows that do not overlap. The last line is JSON: loss in nats per character, and where the time went.
"""

from __future__ import annotations

import time

START = time.perf_counter()

import argparse  # noqa: E402
import json  # noqa: E402
import tempfile  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch.nn.functional import cross_entropy  # noqa: E402

from ingot import device  # noqa: E402
from ingot.data.stream import WindowStream  # noqa: E402
from ingot.models.decoder import Decoder, DecoderConfig  # noqa: E402
from ingot.objectives.causal import CausalLM  # noqa: E402
from ingot.optim.joint import OptimizerConfig  # noqa: E402
from ingot.optim.schedules import ScheduleConfig  # noqa: E402
from ingot.progress import Progress  # noqa: E402
from ingot.train.precision import Name  # noqa: E402
from ingot.train.trainer import TrainConfig, Trainer  # noqa: E402

# Width, layers, heads, context, batch: what two AMX cores make the most of in about 5 and 50 seconds.
SIZES = {"short": (128, 3, 2, 128, 32), "long": (192, 3, 3, 128, 32)}
SCHEDULE = ScheduleConfig(warmup=0.02, decay=0.7)


def main() -> None:
    """Reads, trains, scores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", type=Path)
    parser.add_argument("--size", choices=SIZES, default="short")
    parser.add_argument("--steps", type=int, default=110)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--eager", action="store_true")
    given = parser.parse_args()

    text = np.frombuffer(given.text.read_bytes(), dtype=np.uint8)
    characters, tokens = np.unique(text, return_inverse=True)
    cut = int(0.9 * len(tokens))

    width, layers, heads, context, batch = SIZES[given.size]
    model = DecoderConfig(
        vocabulary=len(characters),
        width=width,
        layers=layers,
        heads=heads,
        kv_heads=heads,
        head_width=width // heads,
        feed_forward=4 * width,
        context=context,
        activation="squared_relu",
    ).build(given.seed)
    precision: Name = "bf16" if device.has_fast_bf16() else "fp32"
    config = TrainConfig(
        steps=given.steps,
        checkpoint_every=given.steps,
        precision=precision,
        compile=not given.eager and device.compiler() is not None,
        threads=device.threads(),
        schedule=SCHEDULE,
        seed=given.seed,
    )
    stream = WindowStream(tokens[:cut], context, batch, given.seed)
    optimizer = OptimizerConfig().build(model, torch.bfloat16 if precision == "bf16" else torch.float32)
    ready = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        log = Trainer(model, CausalLM(), stream, optimizer, config, Path(folder)).fit(Progress(), "training")
    trained = time.perf_counter()
    loss = score(model, torch.from_numpy(tokens[cut:]), context)
    end = time.perf_counter()
    figures = {
        "loss": loss,
        "parameters": model.parameter_count(),
        "steps": given.steps,
        "tokens": log[-1]["tokens"],
        "prepare_seconds": round(ready - START, 3),
        "train_seconds": round(trained - ready, 3),
        "score_seconds": round(end - trained, 3),
    }
    print(json.dumps(figures))


@torch.no_grad()
def score(model: Decoder, tokens: torch.Tensor, context: int) -> float:
    """Returns the loss over the whole split, in nats per character."""
    count = (len(tokens) - 1) // context
    inputs = tokens[: count * context].view(count, context)  # [n, t]
    targets = tokens[1 : count * context + 1].view(count, context)
    nats = 0.0
    model.eval()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=device.has_fast_bf16()):
        for part, target in zip(inputs.split(64), targets.split(64), strict=True):
            logits = model(part).logits.float()  # [b, t, v]
            nats += float(cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="sum"))
    return nats / (count * context)


if __name__ == "__main__":
    main()
