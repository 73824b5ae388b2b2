"""Mixed precision over a whole small training: bf16 ends where float32 ends."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ingot.data.stream import WindowStream
from ingot.models.decoder import DecoderConfig
from ingot.objectives.causal import CausalLM
from ingot.optim.joint import OptimizerConfig
from ingot.progress import Progress
from ingot.train.trainer import DTYPES, TrainConfig, Trainer

MODEL = DecoderConfig(
    vocabulary=32, width=64, layers=2, heads=2, kv_heads=1, head_width=32, feed_forward=128, context=32
)
STEPS, WINDOW = 200, 20


def last_losses(work: Path, precision: str) -> float:
    """The mean loss over the last steps, on text that repeats its words with noise between them."""
    chance = np.random.default_rng(0)
    words = [chance.integers(0, 32, 8) for _ in range(6)]
    text = [np.append(words[pick], chance.integers(0, 32, 1)) for pick in chance.integers(0, 6, 1000)]
    stream = WindowStream(np.concatenate(text).astype(np.uint16), MODEL.context, 8, 0)
    model = MODEL.build(0)
    config = TrainConfig(steps=STEPS, precision=precision, checkpoint_every=STEPS)
    optimizer = OptimizerConfig(name="adamw", rate=3e-3).build(model, DTYPES[precision])
    log = Trainer(model, CausalLM(), stream, optimizer, config, work).fit(Progress(), "training")
    assert len(log) == STEPS and log[-1]["loss"] < 0.6 * log[0]["loss"]
    return float(np.mean([line["loss"] for line in log[-WINDOW:]]))


def test_the_loss_at_step_200_is_within_one_percent(tmp_path: Path) -> None:
    exact, short = (last_losses(tmp_path / name, name) for name in ("fp32", "bf16"))
    assert short != exact
    assert abs(short - exact) <= 0.01 * exact
