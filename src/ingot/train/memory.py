"""How much memory an update needs, from the sizes of the model alone.

    weights + gradients + optimizer + its work + what is kept for the backward pass + the loss

The first four grow with the parameters, the others with the tokens of a micro-batch. They are added up
although the optimizer works when nothing is kept any more: allocators give little of it back in between.
What is kept was counted in the graph that PyTorch builds for the decoder in eager mode; torch.compile
keeps less, so with it the estimate is an upper one.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from ingot import device as machine
from ingot.models.decoder import DecoderConfig
from ingot.models.decoder_config import GATED
from ingot.train.planner import matrix_parameters, parameter_count

_FP32 = 4  # bytes: master weights, gradients, optimizer state and the residual stream


class Memory(NamedTuple):
    """Bytes of an update, part by part."""

    weights: int
    gradients: int
    optimizer: int
    work: int  # of the optimizer, while it steps
    activations: int
    loss: int

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(self)


def update_memory(
    model: DecoderConfig, rows: int, precision: str = "fp32", matrices_to_muon: bool = True, ranks: int = 1
) -> Memory:
    """Returns the bytes that one update holds at its peak, on one device.

    Args:
        model: sizes of the decoder.
        rows: sequences of the model's context in a micro-batch.
        precision: of the products; weights, gradients and optimizer state are fp32 whatever it is.
        matrices_to_muon: Muon keeps one number per weight of the blocks' matrices, Adam two.
        ranks: devices that share weights, gradients and optimizer state (FSDP).

    Example:
        >>> update_memory(config, rows=16).total / 1e9   # doctest: +SKIP
        0.9
    """
    d, f, v = model.width, model.feed_forward, model.vocabulary
    heads, kv = model.heads * model.head_width, model.kv_heads * model.head_width  # h * e, k * e
    blocks = matrix_parameters(model) - v * d
    others = parameter_count(model) - blocks
    states = blocks * (1 if matrices_to_muon else 2) + others * 2
    half = precision in ("bf16", "fp16")
    product = 2 if half else _FP32
    # One token in one layer:
    kept = 2 * 2 * d * _FP32  # the input of both norms, and the same before the norm's weight
    kept += (5 if half else 2) * d * product  # the norms' outputs, cast anew for each linear layer
    kept += 2 * (heads + kv) * _FP32  # query and key before and inside their norms
    kept += 2 * (heads + kv) * product  # query, key and value as attention reads them, and its output
    gated = model.activation in GATED
    kept += (4 if gated else 2) * f * product  # gate, silu(gate), up, their product; or up and its activation
    tokens = rows * model.context
    activations = tokens * (model.layers * kept + d * (2 * _FP32 + product))  # and the last norm
    casts = (blocks + v * d) * product if half else 0  # weights in the products' type
    # Log-probabilities and two gradients of theirs in fp32, and the gradient of the logits.
    logits = tokens * v * (3 * _FP32 + (product if half else 0))
    # Muon works on all matrices of one shape together: the gates and ups are the most. Six copies, three
    # of them in the products' type.
    together = model.layers * (2 if gated else 1) * d * f if matrices_to_muon else 0
    return Memory(
        weights=(blocks + others) * _FP32 // ranks,
        gradients=(blocks + others) * _FP32 // ranks,
        optimizer=states * _FP32 // ranks,
        work=together * 3 * (_FP32 + product) // ranks,
        activations=activations + casts,
        loss=logits,
    )


def rows_that_fit(
    model: DecoderConfig,
    batch_size: int,
    memory: float,
    precision: str = "bf16",
    ranks: int = 1,
    spare: float = 0.2,
) -> int | None:
    """Returns the most rows that fit at once, a divisor of the batch; None where not even one does.

    Args:
        model: sizes of the decoder.
        batch_size: rows of the global batch (of one device's part of it).
        memory: bytes of the device.
        precision: of the products.
        ranks: see `update_memory`.
        spare: share of the memory that is left alone (fragments, buffers of the libraries).
    """
    for rows in range(batch_size, 0, -1):
        needed = update_memory(model, rows, precision, ranks=ranks).total
        if batch_size % rows == 0 and needed <= memory * (1 - spare):
            return rows
    return None


def resident() -> int:
    """Returns the bytes that this process holds now; where the system does not say, the most it has held."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return machine.peak_memory()
    return pages * os.sysconf("SC_PAGE_SIZE")
