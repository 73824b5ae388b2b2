"""An encoder as ONNX: what its head says of a batch of padded texts, or its hidden states where it has none.

```
input_ids       [b, t]     int64
attention_mask  [b, t]     1 where there is a token, 0 for padding, int64
token_type_ids  [b, t]     which sentence of a pair, int64; only of encoders that know it
-> logits, or last_hidden_state [b, t, d]
```

Batch and length may be of any size at every call; the names are those of `transformers`.
"""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ingot.errors import ArtifactError
from ingot.export.onnx import MODEL, needed, quiet
from ingot.models.encoder import Encoder, EncoderConfig

LARGEST_DIFFERENCE = 1e-3


class Reading(nn.Module):
    """An encoder that takes what its inputs are called by, and gives one tensor.

    Args:
        model: in evaluation mode, on the CPU, in float32.
    """

    def __init__(self, model: Encoder) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, *segments: Tensor) -> Tensor:
        """See the top of this file."""
        said = self.model(input_ids, attention_mask != 0, *segments)
        answer: Tensor = said.hidden if said.logits is None else said.logits
        return answer


def write_encoder_onnx(model: Encoder, folder: Path) -> dict[str, Any]:
    """Writes `model.onnx` into a folder that exists, and compares it with the model in ONNX Runtime.

    Args:
        model: in evaluation mode, on the CPU, in float32.
        folder: where to.

    Returns:
        `difference`, the largest of a number it gives.

    Raises:
        ArtifactError: the graph cannot be written, or computes something else.
        ResourceError: one of the packages `onnx`, `onnxscript`, `onnxruntime` is missing.
    """
    needed()
    reading = Reading(model).eval()
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if model.segments is not None else [])]
    sizes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("length", max=model.config.context)}
    output = "last_hidden_state" if model.config.head is None else "logits"
    with warnings.catch_warnings(), torch.no_grad(), quiet():
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                reading,
                example(model.config, len(names), 3, 9),
                dynamo=True,
                input_names=names,
                output_names=[output],
                dynamic_shapes=(sizes, sizes, *([(sizes,)] if len(names) > 2 else [])),
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            what = f"PyTorch cannot write this encoder as ONNX ({type(error).__name__})"
            raise ArtifactError(what, where=folder, fix="keep to the Hugging Face folder") from error
        assert program is not None
        program.save(str(folder / MODEL))
    return {"difference": check(reading, folder, names)}


def example(config: EncoderConfig, inputs: int, b: int, t: int) -> tuple[Tensor, ...]:
    """Returns inputs for b texts of up to t tokens, the last of them padded."""
    generator = torch.Generator().manual_seed(b * t)
    tokens = torch.randint(0, config.vocabulary, (b, t), generator=generator)
    mask = torch.ones(b, t, dtype=torch.int64)
    mask[-1, t // 2 :] = 0
    return tokens, mask, *([torch.zeros_like(tokens)] if inputs > 2 else [])


def check(reading: Reading, folder: Path, names: list[str]) -> float:
    """Returns the largest difference between the written graph and the model at other sizes.

    Raises:
        ArtifactError: they differ by more than rounding.
    """
    runtime = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(str(folder / MODEL), providers=["CPUExecutionProvider"])
    largest = 0.0
    for b, t in ((1, 4), (2, min(17, reading.model.config.context))):
        given = example(reading.model.config, len(names), b, t)
        with torch.no_grad():
            expected = reading(*given)
        said = session.run(None, {name: one.numpy() for name, one in zip(names, given, strict=True)})[0]
        difference = (torch.from_numpy(said) - expected).abs()
        if expected.shape[:2] == given[1].shape:  # what stands behind the text means nothing
            difference = difference[given[1] != 0]
        largest = max(largest, float(difference.max()))
    if not largest <= LARGEST_DIFFERENCE:
        what = f"the exported graph's numbers are {largest:g} off"
        raise ArtifactError(what, where=folder, fix="report this with the versions of torch and the runtime")
    return largest
