"""`model show` of every kind of folder: parameters are those of transformers, and it can be drawn."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingot.bench.published import chosen, write
from ingot.report.sizes import describe_model, lines

pytest.importorskip("transformers")


@pytest.mark.parametrize("family", ["mixtral", "qwen3-nextgateddeltanet", "bert", "t5", "gemma3"])
def test_a_folder_of_any_kind_is_shown(family: str, tmp_path: Path) -> None:
    theirs = write(chosen([family])[0], tmp_path / "model")
    parameters = sum(parameter.numel() for parameter in theirs.parameters())
    described = describe_model(str(tmp_path / "model"), [])
    assert described.root.total == described.plain()["parameters"] == parameters
    assert f"parameters        {parameters:,}" in "\n".join(lines(described))
    assert 0 < described.cost.forward < described.cost.training
    assert described.drawing().startswith("<svg")
