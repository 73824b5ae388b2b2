"""The model that a training goes on from: its folder, its tokenizer, its sizes, and what proves which it was.

```
DIR (a model's or a run's folder) --tokenizer--> stage tokenizer: the corpus in its tokens
                                  --sizes, weights--> stage pretrain: trained further, or taken as it is
```
"""

from __future__ import annotations

import json
from pathlib import Path

from ingot.errors import ArtifactError, ConfigError
from ingot.inference.locate import locate
from ingot.models import huggingface
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.models.surgery.context import Method, stretched
from ingot.record import RECORD, file_hash, read
from ingot.tokenizer.hugging_face import tokenizer_json
from ingot.tokenizer.tokenizer import Tokenizer

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "merges.txt")


def place(base: str) -> Path:
    """Returns the model folder that is meant: a model's own, or the best of a run.

    Raises:
        ArtifactError: there is none.
    """
    return locate(Path(base).expanduser())


def tokenizer(base: str) -> Tokenizer:
    """Returns the tokenizer of a base."""
    return Tokenizer.load(place(base))


def tokenizer_hashes(base: str) -> dict[str, str]:
    """Returns the hashes of the files that its tokenizer is made of."""
    folder = place(base)
    return {name: file_hash(folder / name) for name in _TOKENIZER_FILES if (folder / name).is_file()}


def hashes(base: str) -> dict[str, str]:
    """Returns what proves which model it was: hashes of its configuration and weights, or its fingerprint."""
    folder = place(base)
    files = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    proof = {path.name: file_hash(path) for path in files if path.is_file()}
    if (folder / RECORD).is_file():
        proof["fingerprint"] = read(folder).record.fingerprint
    return proof


def sizes(base: str, context: int, stretch: Method | None) -> DecoderConfig:
    """Returns the sizes that training goes on with: the base's, with more positions where that was asked.

    Args:
        base: a folder.
        context: tokens of a training row.
        stretch: how positions beyond the base's are made; None makes none.

    Raises:
        ArtifactError: no model that can be trained: quantized, or of an unknown architecture.
        ConfigError: rows longer than the base has positions, and nobody said how; or nothing to stretch.
    """
    folder = place(base)
    config, raw = huggingface.read_config(folder)
    if raw.get("quantization_config"):
        fix = "name the dense model that it was made from"
        raise ArtifactError("its weights are quantized: they cannot be trained", where=folder, fix=fix)
    if context > config.context and stretch is None:
        what = f"a context of {context} tokens is longer than the {config.context} positions of the base"
        fix = f"use {config.context} or less, or say how to extend them: stretch=theta, linear or yarn"
        raise ConfigError(what, where="pretrain.context", fix=fix)
    if stretch is None:
        return config
    if context <= config.context:
        what = (
            f"stretch is {stretch}, but a context of {context} is no longer than the base's {config.context}"
        )
        raise ConfigError(what, where="pretrain.stretch", fix="give a longer context, or leave it out")
    return stretched(config, context, stretch)


def weights(base: str, config: DecoderConfig, device: str) -> Decoder:
    """Returns the base in float32 to be trained further, with the sizes that `sizes` gave."""
    loaded = huggingface.load(place(base), device=device)
    if loaded.config == config:
        return loaded.train()
    model = Decoder(config).to(device)
    model.load_state_dict(loaded.state_dict())
    return model.train()


def same_tokenizer(base: str, used: Tokenizer) -> None:
    """Refuses a corpus in other tokens than the base's.

    Raises:
        ConfigError: the tokenizer stage took, or learned, another one.
    """
    ours, theirs = (json.dumps(tokenizer_json(one.parts), sort_keys=True) for one in (used, tokenizer(base)))
    if ours != theirs:
        what = "the corpus is not in the tokens of the base"
        raise ConfigError(what, where="pretrain.base", fix=f"set tokenizer.base={base} too")
