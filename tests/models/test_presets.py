"""Published sizes have the published number of parameters, counted without allocating one."""

from __future__ import annotations

import pytest
import torch

from ingot.errors import ConfigError
from ingot.models.decoder import Decoder
from ingot.models.families.presets import CLOSED, PRESETS, config_of
from ingot.report.sizes import describe_model

ROUNDED = {"gpt3-175b", "palm-540b", "deepseek-v3", "deepseek-r1"}
"""Published as a rounded number, or counted with numbers that are no weights (DeepSeek's routing biases)."""


@pytest.mark.parametrize("name", PRESETS)
def test_a_published_size_has_the_published_parameters(name: str) -> None:
    preset = PRESETS[name]
    with torch.device("meta"):
        counted = Decoder(config_of(name)).parameter_count()
    assert counted == pytest.approx(preset.parameters, rel=1e-3)
    if name not in ROUNDED:
        assert counted == preset.parameters


def test_closed_models_are_no_presets() -> None:
    assert not set(CLOSED) & set(PRESETS)


def test_model_show_knows_them_and_says_who_never_published() -> None:
    described = describe_model("llama-3-8b", ["context=1024"])
    assert described.root.total == 8_030_261_248 and described.cost.context == 1024
    with pytest.raises(ConfigError, match="never published"):
        describe_model("gpt-4", [])
    with pytest.raises(ConfigError, match="no preset") as wrong:
        describe_model("llama3-8b", [])
    assert "llama-3-8b" in str(wrong.value)
