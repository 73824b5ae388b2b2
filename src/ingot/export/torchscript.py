"""TorchScript: the graph in one file that `torch.jit.load` runs in Python and C++ without our code.

PyTorch keeps the format running but no longer develops it; `aot` is what it offers in its place.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ingot.export.graph import Graph, Step, check, example

MODEL = "model.ts"


def write_torchscript(graph: Graph, folder: Path) -> dict[str, Any]:
    """Writes `model.ts` into a folder that exists, and compares it with the model.

    Args:
        graph: of the model.
        folder: where to.

    Returns:
        `difference`, the largest of a logit.

    Raises:
        ArtifactError: the written graph computes something else.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # tracing warns of every size that Python code looks at
        traced = torch.jit.trace(graph, example(graph.model.config), check_trace=False, strict=True)
        torch.jit.save(traced, str(folder / MODEL))
        loaded = torch.jit.load(str(folder / MODEL))

    def run(step: Step) -> Sequence[Tensor]:
        told: Sequence[Tensor] = loaded(*step)
        return told

    return {"difference": check(graph, run, folder)}
