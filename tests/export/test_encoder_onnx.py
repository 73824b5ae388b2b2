"""Encoders as ONNX: the head's answer in ONNX Runtime is theirs, and other forms are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ingot.bench.published import chosen, write
from ingot.errors import ArtifactError
from ingot.export.folder import export_folder

transformers = pytest.importorskip("transformers")
runtime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_onnx_runtime_says_what_transformers_says(family: str, tmp_path: Path) -> None:
    theirs = write(chosen([family])[0], tmp_path / "model")
    told = export_folder(tmp_path / "model", tmp_path / "out", "onnx")
    assert told["difference"] <= 1e-4
    session = runtime.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    tokens = torch.randint(4, 300, (5, 23), generator=torch.Generator().manual_seed(4))
    mask = torch.ones_like(tokens)
    mask[2, 11:] = 0
    given = {"input_ids": tokens.numpy(), "attention_mask": mask.numpy()}
    if "token_type_ids" in {one.name for one in session.get_inputs()}:
        given["token_type_ids"] = np.zeros_like(given["input_ids"])
    said = session.run(["logits"], given)[0]
    with torch.no_grad():
        expected = theirs(tokens, attention_mask=mask).logits
    assert np.abs(said - expected.numpy())[mask.numpy() != 0].max() <= 1e-4


def test_other_forms_of_an_encoder_are_refused_and_leave_nothing(tmp_path: Path) -> None:
    write(chosen(["bert"])[0], tmp_path / "model")
    with pytest.raises(ArtifactError, match="encoders are not written as torchscript"):
        export_folder(tmp_path / "model", tmp_path / "out", "torchscript")
    assert not (tmp_path / "out").exists()
