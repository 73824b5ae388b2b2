"""Stage compress: the newest model in a quarter of its size, weights in int8."""

from __future__ import annotations

from ingot.compress.files import write_int8
from ingot.config import Config
from ingot.pipeline import Context, LeftOut

SOURCES = ("align", "finetune", "pretrain")
"""The stage whose model is taken: the first of these that was not left out."""


class CompressConfig(Config):
    """How to compress; there is nothing to choose yet: int8 weights, one scale per row."""


class Compress:
    """Makes the int8 model from the aligned one, else the finetuned, else the base."""

    name = "compress"
    artifact = "int8"
    kind = "model"
    needs = ("pretrain", "finetune", "align")

    def __init__(self, config: CompressConfig) -> None:
        self.config = config

    def run(self, context: Context) -> None:
        """Writes the int8 folder to `context.folder`.

        Raises:
            LeftOut: there is no model to compress.
        """
        made = [context.parents[name] for name in SOURCES if context.parents[name].record.left_out is None]
        if not made:
            raise LeftOut("no model was made")
        source = made[0]
        with context.progress.task(f"rounding {source.address} to int8", total=1, unit="models") as task:
            counted = write_int8(source.path, context.folder)
            task.advance(1, f"{counted['ratio']:.1%} of the float32 bytes")
        context.metrics.update(counted, of=source.name)
        context.notes.append(
            f"{source.address} in int8: {counted['bytes'] / 1e6:.1f} MB instead of "
            f"{counted['fp32_bytes'] / 1e6:.1f} MB ({counted['ratio']:.1%})."
        )
