"""What the stages that train encoder-decoders share: a fresh one with T5's parts, and its folder."""

from __future__ import annotations

from ingot.models import encoder_decoder_folder
from ingot.models.encoder_decoder import EncoderDecoder, EncoderDecoderConfig
from ingot.models.families.t5 import PARTS
from ingot.pipeline import Context
from ingot.stages.learning import Fitted, LearningConfig, write_training
from ingot.tokenizer.tokenizer import Tokenizer
from ingot.tokenizer.training import TokenizerConfig

HEAD_WIDTH = 32
SENTINELS = tuple(f"<extra_id_{number}>" for number in range(32))
"""T5's names of what stands for a span that was cut out."""

TOKENIZER = TokenizerConfig(kind="bpe", specials=("<pad>", "</s>", *SENTINELS))
"""Byte-level BPE with the control tokens of T5: no text is unknown."""


def fresh(config: LearningConfig, tokenizer: Tokenizer, seed: int) -> EncoderDecoder:
    """Returns a new encoder-decoder with the parts of T5 1.1: gated GELU, a head of its own."""
    return EncoderDecoderConfig(
        **PARTS,
        vocabulary=tokenizer.vocab_size,
        width=config.width,
        encoder_layers=config.layers,
        decoder_layers=config.layers,
        heads=config.width // HEAD_WIDTH,
        head_width=HEAD_WIDTH,
        feed_forward=2 * config.width,
        context=config.context,
        activation="geglu_tanh",
        tied=False,
        padding=tokenizer.pad_id,
        begin=tokenizer.pad_id,
        end=tokenizer.eos_id,
        dropout=config.dropout,
    ).build(seed)


def finish(context: Context, model: EncoderDecoder, tokenizer: Tokenizer, fitted: Fitted) -> None:
    """Writes the model's folder, which `transformers` loads."""
    encoder_decoder_folder.save(context.folder, model)
    write_training(context, model, tokenizer, fitted)
