"""What these tests share: a model folder without weights that matter, and a deployment of it."""

import json
from pathlib import Path

import pytest

from ingot.deploy.settings import Deployment

TEXT = "def add(a, b):\n    return a + b\n\nHello, how are you?\n" * 20


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder that looks like a model's from outside."""
    folder = tmp_path / "aligned@1"
    folder.mkdir()
    config = {"architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "max_position_embeddings": 512}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").write_bytes(b"\0" * 1024)
    return folder


@pytest.fixture
def deployment() -> Deployment:
    return Deployment(name="demo", source="/srv/models/demo", version="0123456789ab", context=512)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model folder that loads and answers (nonsense)."""
    from ingot.models import huggingface
    from ingot.models.decoder import DecoderConfig
    from ingot.tokenizer import Tokenizer

    path = tmp_path_factory.mktemp("run") / "tiny"
    path.mkdir()
    tokenizer = Tokenizer.train([TEXT], vocabulary=300)
    tokenizer.save(path)
    config = DecoderConfig(
        vocabulary=tokenizer.vocab_size,
        width=32,
        layers=2,
        heads=4,
        kv_heads=2,
        head_width=8,
        feed_forward=64,
        context=128,
    )
    huggingface.save(path, config.build(seed=0))
    return path
