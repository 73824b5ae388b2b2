"""ONNX: the graph for ONNX Runtime and everything else that reads the format, with the cache in and out.

Batch, new tokens and past tokens may be of any size at every call. The names of inputs and outputs are the
usual ones (`graph`), so that runtimes for published models find their way about.
"""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ingot.errors import ArtifactError, ResourceError
from ingot.export.graph import Graph, Step, check, example, names
from ingot.models.decoder import DecoderConfig

MODEL = "model.onnx"
LARGEST_FILE = 1_800_000_000
"""Bytes of weights above which they stand in a file beside the graph: protobuf ends at 2 GiB."""


def write_onnx(graph: Graph, folder: Path) -> dict[str, Any]:
    """Writes `model.onnx` into a folder that exists, and compares it with the model in ONNX Runtime.

    Args:
        graph: of the model.
        folder: where to.

    Returns:
        `opset`, and `difference`, the largest of a logit.

    Raises:
        ArtifactError: the written graph computes something else.
        ResourceError: one of the packages `onnx`, `onnxscript`, `onnxruntime` is missing.
    """
    needed()
    config = graph.model.config
    inputs, outputs = names(config)
    size = 4 * graph.model.parameter_count()
    with warnings.catch_warnings(), torch.no_grad(), quiet():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                graph,
                example(config),
                dynamo=True,
                input_names=inputs,
                output_names=outputs,
                dynamic_shapes=_shapes(config),
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            what = f"PyTorch cannot write this model as ONNX ({type(error).__name__})"
            raise ArtifactError(what, where=folder, fix="export it as torchscript or aot") from error
        assert program is not None
        program.save(str(folder / MODEL), external_data=size > LARGEST_FILE)
    opset = next(int(version) for domain, version in program.model.opset_imports.items() if domain == "")
    return {"opset": opset, "difference": check(graph, Session(folder / MODEL).run, folder)}


def needed() -> None:
    """Looks for the packages.

    Raises:
        ResourceError: one of `onnx`, `onnxscript`, `onnxruntime` is missing.
    """
    for package in ("onnx", "onnxscript", "onnxruntime"):
        try:
            importlib.import_module(package)
        except ImportError:
            fix = "pip install 'ingot[export]'"
            raise ResourceError(f"the package '{package}' is missing", where="ONNX", fix=fix) from None


class Session:
    """A written graph in ONNX Runtime, on the CPU.

    Args:
        path: of `model.onnx`.
        threads: to compute with; None leaves it to the runtime.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        onnxruntime = importlib.import_module("onnxruntime")

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._inputs = [one.name for one in self._session.get_inputs()]

    def run(self, step: Step) -> Sequence[Tensor]:
        """Returns logits and the longer cache, as `Graph.forward` does."""
        *given, past = step
        arrays = [one.numpy() for one in (*given, *past)]
        named = dict(zip(self._inputs, arrays, strict=True))
        return [torch.from_numpy(one) for one in self._session.run(None, named)]


def _shapes(config: DecoderConfig) -> tuple[Any, ...]:
    """Which sizes may change from call to call, and their names."""
    return (
        {0: "batch", 1: "new"},
        {0: "batch", 1: "all"},
        {0: "batch", 1: "new"},
        [{0: "batch", 2: "past"} for _ in range(2 * config.layers)],
    )


class quiet:
    """Keeps exporters' notes on their own doings from the user's screen; errors still come as errors."""

    def __enter__(self) -> None:
        self._before = logging.root.manager.disable
        logging.disable(logging.WARNING)

    def __exit__(self, *error: object) -> None:
        logging.disable(self._before)
