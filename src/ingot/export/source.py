"""What an export begins with: a dense model folder, read and checked, and where it came from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingot.device import version_of
from ingot.errors import ArtifactError
from ingot.models import encoder_folder, huggingface
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.models.encoder import Encoder
from ingot.record import RECORD, Artifact, file_hash, read
from ingot.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Source:
    """A model folder that is about to be exported.

    Args:
        folder: where it is.
        config: the model's sizes and parts.
        raw: everything that its `config.json` says.
        record: what it says of its making, or None.
    """

    folder: Path
    config: DecoderConfig
    raw: dict[str, Any]
    record: Artifact | None

    def model(self) -> Decoder:
        """Returns the model in float32, ready to answer."""
        return huggingface.load(self.folder).requires_grad_(False)

    def tokenizer(self) -> Tokenizer:
        """Returns the tokenizer.

        Raises:
            ArtifactError: the folder has none, or one that does not fit the model.
        """
        tokenizer = Tokenizer.load(self.folder)
        if tokenizer.vocab_size > self.config.vocabulary:
            what = f"the tokenizer has {tokenizer.vocab_size} tokens, the model {self.config.vocabulary}"
            raise ArtifactError(what, where=self.folder, fix="give the model the tokenizer it was made with")
        return tokenizer

    def origin(self) -> dict[str, str]:
        """Returns what an export says of where it came from: names, hashes and our version."""
        return _origin(self.folder, self.record)


@dataclass(frozen=True)
class EncoderSource:
    """An encoder's folder that is about to be exported.

    Args:
        folder: where it is.
        record: what it says of its making, or None.
    """

    folder: Path
    record: Artifact | None

    def model(self) -> Encoder:
        """Returns the encoder in float32, ready to read."""
        return encoder_folder.load(self.folder).requires_grad_(False)

    def origin(self) -> dict[str, str]:
        """Returns what an export says of where it came from: names, hashes and our version."""
        return _origin(self.folder, self.record)


def _origin(folder: Path, record: Artifact | None) -> dict[str, str]:
    whole = folder / huggingface.WEIGHTS
    weights = [whole] if whole.is_file() else sorted(folder.glob("*.safetensors"))
    told = {
        "ingot": version_of("ingot") or "unknown",
        "model": record.address if record else folder.resolve().name,
        "weights_sha256": " ".join(file_hash(path) for path in weights),
    }
    return told | ({"fingerprint": record.record.fingerprint} if record else {})


def is_encoder(folder: Path) -> bool:
    """Returns whether a folder says that it holds an encoder."""
    try:
        encoder_folder.read_config(folder)
    except ArtifactError:
        return False
    return True


def read_encoder(folder: Path) -> EncoderSource:
    """Reads an encoder's folder.

    Args:
        folder: with `config.json` and weights.
    """
    return EncoderSource(folder, _record(folder))


def _record(folder: Path) -> Artifact | None:
    return read(folder) if (folder / RECORD).is_file() else None


def read_source(folder: Path) -> Source:
    """Reads and checks a model folder.

    Args:
        folder: with `config.json` and weights.

    Raises:
        ArtifactError: no model folder, an unknown architecture, or quantized weights.
    """
    config, raw = huggingface.read_config(folder)
    scheme = raw.get("quantization_config")
    if scheme:
        said = scheme.get("format") if isinstance(scheme, dict) else scheme
        what = f"its weights are quantized ({said}), and an export begins with dense ones"
        raise ArtifactError(what, where=folder, fix="export the model that it was made from")
    return Source(folder, config, raw, _record(folder))
