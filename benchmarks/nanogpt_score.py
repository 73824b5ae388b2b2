"""Scores what nanoGPT's train.py has saved, over the whole validation split; run inside a checkout of it.

nanoGPT reads its own checkpoint here: train.py resumes, makes one step at a rate of zero, which changes
nothing, and ends; the model is then taken from it. The last line of the output is JSON.
"""

from __future__ import annotations

import json
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROWS = 64


def main() -> None:
    """Loads, scores, prints."""
    sys.argv = ["train.py", *sys.argv[1:], "--init_from=resume", "--max_iters=0", "--eval_iters=1"]
    sys.argv += ["--learning_rate=0.0", "--decay_lr=False"]
    sys.path.insert(0, str(Path.cwd()))
    trained = runpy.run_path("train.py", run_name="__main__")
    tokens = np.fromfile(Path("data", "shakespeare_char", "val.bin"), dtype=np.uint16).astype(np.int64)
    loss = score(trained["raw_model"], torch.from_numpy(tokens), trained["block_size"])
    print(json.dumps({"loss": loss, "parameters": sum(p.numel() for p in trained["model"].parameters())}))


@torch.no_grad()
def score(model: Any, tokens: torch.Tensor, context: int) -> float:
    """Returns the loss in nats per character, over windows that do not overlap."""
    count = (len(tokens) - 1) // context
    inputs = tokens[: count * context].view(count, context)  # [n, t]
    targets = tokens[1 : count * context + 1].view(count, context)
    model.eval()
    nats = 0.0
    for part, target in zip(inputs.split(ROWS), targets.split(ROWS), strict=True):
        nats += float(model(part, target.contiguous())[1]) * target.numel()
    return nats / (count * context)


if __name__ == "__main__":
    main()
