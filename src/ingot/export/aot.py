"""AOTInductor: the graph compiled ahead of time to a package of machine code and weights.

`torch._inductor.aoti_load_package("model.pt2")` runs it, in Python or C++, without our code and without
compiling anything; it runs on the kind of processor and the version of PyTorch that it was compiled for.
Its inputs have to be contiguous: it does not look at strides, and would misread a slice without a word.
"""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ingot.errors import ResourceError
from ingot.export.graph import Graph, Step, check, example

MODEL = "model.pt2"


def write_aot(graph: Graph, folder: Path) -> dict[str, Any]:
    """Writes `model.pt2` into a folder that exists, and compares it with the model.

    Args:
        graph: of the model.
        folder: where to.

    Returns:
        `difference`, the largest of a logit.

    Raises:
        ArtifactError: the compiled package computes something else.
        ResourceError: there is no C++ compiler.
    """
    if not any(map(shutil.which, ("c++", "g++", "clang++"))):
        raise ResourceError("there is no C++ compiler", where="AOTInductor", fix="install g++ or clang++")
    any_size = torch.export.Dim.AUTO
    dynamic = (
        {0: any_size, 1: any_size},
        {0: any_size, 1: any_size},
        {0: any_size, 1: any_size},
        [{0: any_size, 2: any_size} for _ in range(2 * graph.model.config.layers)],
    )
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # the compiler's notes on its own doings
    try:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")
            program = torch.export.export(graph, example(graph.model.config), dynamic_shapes=dynamic)
            torch._inductor.aoti_compile_and_package(program, package_path=str(folder / MODEL))
            loaded: Any = torch._inductor.aoti_load_package(str(folder / MODEL))
    finally:
        logging.disable(before)

    def run(step: Step) -> Sequence[Tensor]:
        told: Sequence[Tensor] = loaded(*step)
        return told

    return {"difference": check(graph, run, folder)}
