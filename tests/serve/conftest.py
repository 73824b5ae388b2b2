"""A tiny random model in a folder, and a server over it."""

import functools
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import torch
from servers import Running, running

from ingot.models import huggingface
from ingot.models.decoder import DecoderConfig
from ingot.tokenizer import Tokenizer

TEXT = "def add(a, b):\n    return a + b\n\nHello, how are you? Grüße! 日本語\n" * 20


@pytest.fixture(autouse=True)
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has clients wait a minute: the 5 seconds that are httpx's own may pass on a crowded machine."""
    for name in ("get", "post", "request", "stream"):
        monkeypatch.setattr(httpx, name, functools.partial(getattr(httpx, name), timeout=60))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder, as a finished stage leaves it (without the record)."""
    path = tmp_path_factory.mktemp("run") / "aligned@1"
    path.mkdir()
    tokenizer = Tokenizer.train([TEXT], vocabulary=340)
    tokenizer.save(path)
    config = DecoderConfig(
        vocabulary=tokenizer.vocab_size,
        width=32,
        layers=2,
        heads=4,
        kv_heads=2,
        head_width=8,
        feed_forward=64,
        context=512,
    )
    model = config.build(seed=0)
    with torch.no_grad():
        model.head.weight[tokenizer.vocab_size - 4 :] = 0  # control tokens are as unlikely as any other
    huggingface.save(path, model)
    return path


@pytest.fixture(scope="session")
def server(folder: Path) -> Iterator[Running]:
    with running(folder) as started:
        yield started
