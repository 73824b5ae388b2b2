"""What tests of exports share: small model folders with a tokenizer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_models import TEXT, trained

from ingot.models import huggingface
from ingot.tokenizer.tokenizer import Tokenizer


@pytest.fixture
def made(tmp_path: Path) -> Callable[..., Path]:
    """Makes model folders."""

    def make(name: str = "base@1", **changes: Any) -> Path:
        folder = tmp_path / name
        tokenizer = Tokenizer.train([TEXT] * 3, vocabulary=320)
        tokenizer.save(folder)
        special = {
            "bos_token_id": tokenizer.bos_id,
            "eos_token_id": tokenizer.eos_id,
            "pad_token_id": tokenizer.pad_id,
        }
        huggingface.save(folder, trained(**changes), special=special)
        return folder

    return make
