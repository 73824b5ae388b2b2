"""What the stages that train encoders share: where the encoder comes from, and the folder that it ends in.

```
start: null            a fresh encoder with ModernBERT's parts and a tokenizer of its own
start: encode          the stage before, masked pretraining
start: DIR             a Hugging Face folder: BERT, RoBERTa or ModernBERT
```
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field
from torch import nn

from ingot.errors import ArtifactError
from ingot.models import encoder_folder
from ingot.models.encoder import Encoder, EncoderConfig
from ingot.models.heads import HeadConfig
from ingot.models.huggingface import WEIGHTS
from ingot.optim.joint import OptimizerConfig
from ingot.pipeline import Context, LeftOut
from ingot.record import file_hash
from ingot.stages.learning import Fitted, LearningConfig, learnt_tokenizer, write_training
from ingot.tokenizer.tokenizer import Tokenizer

ENCODE = "encode"
HEAD_WIDTH = 32

OPTIMIZER = OptimizerConfig(embedding_rate=0.01)
"""Encoders begin with small embeddings (a deviation of 0.02): the rate of decoders would drown them."""


class EncoderLearningConfig(LearningConfig):
    """The settings of a stage that puts a head on an encoder; see `LearningConfig` for the others.

    Args:
        start: where the encoder comes from: `encode` (the stage), a model folder, or null for a fresh one.
    """

    start: str | None = Field(default=None, min_length=1)
    optimizer: OptimizerConfig = OPTIMIZER

    @property
    def needs(self) -> tuple[str, ...]:
        """The stages before."""
        return ("examples", ENCODE) if self.start == ENCODE else ("examples",)

    def identity(self) -> dict[str, Any]:
        """What decides the work besides settings: the weights that it starts from."""
        if self.start in (None, ENCODE):
            return {}
        weights = Path(str(self.start)).expanduser() / WEIGHTS
        if not weights.is_file():
            fix = f"name a folder with config.json and {WEIGHTS}, or '{ENCODE}'"
            raise ArtifactError("no model to start from", where=self.start, fix=fix)
        return {"start": file_hash(weights)}


def fresh(config: LearningConfig, tokenizer: Tokenizer, head: HeadConfig, seed: int) -> Encoder:
    """Returns a new encoder with the parts of ModernBERT (Warner et al. 2024), all layers whole."""
    return EncoderConfig(
        vocabulary=tokenizer.vocab_size,
        width=config.width,
        layers=config.layers,
        heads=config.width // HEAD_WIDTH,
        feed_forward=2 * config.width,
        context=config.context,
        norm="pre",
        norm_epsilon=1e-5,
        biases=False,
        activation="geglu",
        positions="rotary",
        segments=None,
        padding=tokenizer.pad_id,
        dropout=config.dropout,
        head=head,
    ).build(seed)


def begin(
    context: Context,
    config: EncoderLearningConfig,
    texts: Iterable[str],
    task: str,
    names: Sequence[str] = (),
) -> tuple[Encoder, Tokenizer]:
    """Returns the encoder to train, with a fresh head, and its tokenizer.

    Args:
        context: of the stage.
        config: its settings.
        texts: that a tokenizer is learnt from, where one is.
        task: of the head.
        names: of its classes.

    Raises:
        LeftOut: the stage `encode` was left out.
        ArtifactError: a folder that holds no encoder, or whose context is shorter than asked for.
    """
    shape: dict[str, Any] = {"task": task, "labels": max(2, len(names)), "names": tuple(names)}
    if len(names) < 2:
        shape["names"] = ()
    if task != "embedding":
        shape |= {"dropout": config.dropout}
    if config.start is None:
        tokenizer = learnt_tokenizer(context, config, texts)
        return fresh(config, tokenizer, _modern(shape), context.seed), tokenizer
    folder = Path(config.start).expanduser()
    if config.start == ENCODE:
        parent = context.parents[ENCODE]
        if parent.record.left_out is not None:
            raise LeftOut(f"there is no encoder to start from: stage '{ENCODE}' was left out")
        folder = parent.path
    known, family, _ = encoder_folder.read_config(folder)
    head = _modern(shape) if family.__name__.endswith("modernbert") else _older(shape)
    if config.context > known.context:
        what = f"the encoder reads {known.context} tokens, context is {config.context}"
        raise ArtifactError(what, where=folder, fix=f"use {known.context} or less")
    model = encoder_folder.load(folder, head=head, seed=context.seed)
    _drop(model, config.dropout)
    return model, Tokenizer.load(folder)


def _modern(shape: dict[str, Any]) -> HeadConfig:
    if shape["task"] == "embedding":
        return HeadConfig(**shape, pooling="mean")
    return HeadConfig(**shape, transform="gelu_norm", transform_bias=False, pooling="mean")


def _older(shape: dict[str, Any]) -> HeadConfig:
    if shape["task"] == "embedding":
        return HeadConfig(**shape, pooling="mean")
    return HeadConfig(**shape, transform="tanh" if shape["task"] == "sequence" else None)


def _drop(model: Encoder, share: float) -> None:
    """Has a loaded model drop another share in training; what it says of itself follows."""
    head = model.config.head
    if head is not None and head.task != "embedding":
        head = head.model_copy(update={"dropout": share})
    model.config = model.config.model_copy(update={"dropout": share, "head": head})
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = share


def finish(context: Context, model: Encoder, tokenizer: Tokenizer, fitted: Fitted) -> None:
    """Writes the model's folder, which `transformers` loads."""
    special = {"pad_token_id": tokenizer.pad_id, "cls_token_id": tokenizer.role_id("cls")}
    special["sep_token_id"] = tokenizer.role_id("sep")
    encoder_folder.save(context.folder, model, special=special)
    write_training(context, model, tokenizer, fitted)


def framed(tokenizer: Tokenizer, ids: Sequence[int], context: int) -> list[int]:
    """Returns the ids of a text between CLS and SEP, cut to a row."""
    return [tokenizer.role_id("cls"), *ids[: context - 2], tokenizer.role_id("sep")]
