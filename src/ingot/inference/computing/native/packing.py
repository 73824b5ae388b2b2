"""A decoder's weights, copied into the order in which the compiled step reads them.

```
layer 0: query key value | output | gate up | down     layer 1: ...     head       one stretch of memory
```

Weights keep their type: fp32, bf16, or the int8 of `compress/quantized.py`. What is not a matrix is copied as
float32. Models with other parts than the step knows are refused: `unsupported` says why.
"""

from __future__ import annotations

import ctypes
import mmap
from collections.abc import Iterator
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ingot.compress.quantized import QuantizedEmbedding, QuantizedLinear
from ingot.inference.computing.native.layout import (
    ACTIVATIONS,
    BF16,
    FLOAT,
    INT8,
    PANEL,
    Layer,
    Matrix,
    Model,
    Norm,
)
from ingot.models.decoder import Block, Decoder
from ingot.models.decoder_config import GATED
from ingot.nn.attention import Attention
from ingot.nn.capped import CappedLinear
from ingot.nn.feed_forward import FeedForward, GatedFeedForward
from ingot.nn.linear import Linear
from ingot.nn.norms import AllHeadsRMSNorm, RMSNorm, RMSNormFromOne
from ingot.nn.positions import Alibi, Rotary, Sinusoidal

KINDS = {torch.float32: FLOAT, torch.bfloat16: BF16, torch.int8: INT8}
KNOWN = (
    Decoder, Block, Attention, FeedForward, GatedFeedForward, Linear, nn.Linear, CappedLinear,
    QuantizedLinear, nn.Embedding, QuantizedEmbedding, RMSNorm, RMSNormFromOne, AllHeadsRMSNorm,
    nn.LayerNorm, nn.ModuleList, Rotary, Alibi, Sinusoidal,
)  # fmt: skip
_ALIGNED = 4096


def unsupported(model: nn.Module) -> str | None:
    """Returns why the compiled step cannot compute this model, or None where it can."""
    if type(model) is not Decoder:
        return f"{type(model).__name__} is no plain decoder"
    if model.training:
        return "the model is in training mode"
    for name, module in model.named_modules():
        if type(module) not in KNOWN:
            return f"{name} is of the type {type(module).__name__}"
        if module._forward_hooks or module._forward_pre_hooks:
            return f"{name} has hooks"
    for name, tensor in chain(model.named_parameters(), model.named_buffers()):
        if tensor.device.type != "cpu" or type(tensor) not in (Tensor, nn.Parameter):
            return f"{name} is no plain tensor of the CPU"
        if tensor.dtype not in KINDS or not tensor.is_contiguous():
            return f"{name} is of the type {tensor.dtype}, or lies apart"
    for block in model.blocks:
        attention, feed_forward = block.attention, block.feed_forward
        assert isinstance(attention, Attention)
        together: list[list[nn.Module]] = [[attention.query, attention.key, attention.value]]
        if isinstance(feed_forward, GatedFeedForward):
            together.append([feed_forward.gate, feed_forward.up])
        if any(len({_tensor(part, "weight").dtype for part in parts}) > 1 for parts in together):
            return "matrices that are read together are of several types"
    return None


class Piece(NamedTuple):
    """A source of rows of a packed matrix."""

    layer: nn.Module
    first: int
    spread: int = 1


class Packed:
    """A decoder in the form of the compiled step.

    Args:
        model: one that is not `unsupported`.
        library: the compiled step.
    """

    def __init__(self, model: Decoder, library: ctypes.CDLL) -> None:
        self.model = model
        self._library = library
        self.refresh()

    def refresh(self) -> None:
        """Copies the weights anew, as after they were changed."""
        self._sources = [*self.model.parameters(), *self.model.buffers()]
        # Those made in inference mode do not count how often they are changed.
        self._counted = [source for source in self._sources if not source.is_inference()]
        self._kept: list[Tensor] = []  # what the structures point into
        self._state = self._now()
        self._matrices: list[tuple[Matrix, list[Piece]]] = []
        self.structure = self._model()
        self._fill()

    def follow(self) -> None:
        """Copies the weights anew where they were changed in place or replaced since the last time."""
        if self._now() != self._state:
            self.refresh()

    def _now(self) -> tuple[list[int], list[int]]:
        """Where every tensor is, and how often it was changed in place."""
        return [source.data_ptr() for source in self._sources], [source._version for source in self._counted]

    def _model(self) -> Model:
        model, config = self.model, self.model.config
        embedding: nn.Module = model.embedding
        computed, rows = model.embedding.weight.dtype, None
        if isinstance(embedding, QuantizedEmbedding):
            computed, rows = embedding.scale.dtype, self._floats(embedding.scale)
        scale = 1.0 if config.embedding_scale is None else config.embedding_scale
        score = config.head_width**-0.5 if config.score_scale is None else config.score_scale
        self._layers = (Layer * config.layers)(*map(self._layer, model.blocks, range(config.layers)))
        return Model(
            layers=config.layers,
            vocabulary=config.vocabulary,
            width=config.width,
            heads=config.heads,
            key_heads=config.kv_heads,
            head_width=config.head_width,
            feed_forward=config.feed_forward,
            turned=config.rotary_width,
            places=config.context,
            activation=ACTIVATIONS[config.activation],
            gated=config.activation in GATED,
            parallel=config.arrangement == "parallel",
            joint_norm=config.head_norm == "whole",
            cache_kind=KINDS[computed],
            embedding_kind=KINDS[model.embedding.weight.dtype],
            score_scale=score,
            score_cap=config.score_cap or 0.0,
            # The published models round this number to the type that they compute in.
            embedding_scale=torch.full((), scale, dtype=computed).item(),
            logit_cap=config.logit_cap or 0.0,
            embedding=self._at(model.embedding.weight),
            embedding_rows=rows,
            positions=None if model.positions is None else self._floats(model.positions.weight),
            layer=self._layers,
            norm=self._norm(model.norm),
            head=self._matrix([Piece(model.head, 0)], config.vocabulary),
        )

    def _layer(self, block: nn.Module, number: int) -> Layer:
        assert isinstance(block, Block) and isinstance(block.attention, Attention)
        config, attention, feed_forward = self.model.config, block.attention, block.feed_forward
        query, key = config.heads * config.head_width, config.kv_heads * config.head_width
        heads = [Piece(attention.query, 0), Piece(attention.key, query), Piece(attention.value, query + key)]
        panels = -(-config.feed_forward // PANEL)
        if isinstance(feed_forward, GatedFeedForward):
            up, ups = [Piece(feed_forward.gate, 0, 2), Piece(feed_forward.up, PANEL, 2)], 2 * panels
        else:
            assert isinstance(feed_forward, FeedForward)
            up, ups = [Piece(feed_forward.up, 0)], panels
        local = self.model.local_rotary if config.local(number) else None
        rotary = None if number in config.unturned_layers else local or self.model.rotary
        return Layer(
            attention_norm=self._norm(block.attention_norm),
            attention_output_norm=self._norm(block.attention_output_norm),
            feed_forward_norm=self._norm(block.feed_forward_norm),
            feed_forward_output_norm=self._norm(block.feed_forward_output_norm),
            query_norm=self._norm(attention.query_norm),
            key_norm=self._norm(attention.key_norm),
            heads=self._matrix(heads, query + 2 * key),
            output=self._matrix([Piece(attention.output, 0)], config.width),
            up=self._matrix(up, ups * PANEL),
            down=self._matrix([Piece(feed_forward.down, 0)], config.width),
            cosine=None if rotary is None else self._floats(rotary.cosine),
            sine=None if rotary is None else self._floats(rotary.sine),
            slopes=None if attention.alibi is None else self._floats(attention.alibi.slopes),
            sinks=None if attention.sinks is None else self._floats(attention.sinks),
            window=attention.window or 0,
        )

    def _norm(self, norm: nn.Module | None) -> Norm:
        if norm is None:
            return Norm(None, None, 0, 0.0)
        if isinstance(norm, nn.LayerNorm):
            bias = None if norm.bias is None else self._floats(norm.bias)
            return Norm(self._floats(norm.weight), bias, 2, norm.eps)
        assert isinstance(norm, RMSNorm | RMSNormFromOne)
        weight = norm.weight.float() + 1 if isinstance(norm, RMSNormFromOne) else norm.weight
        return Norm(self._floats(weight), None, 1, norm.epsilon)

    def _matrix(self, pieces: list[Piece], outs: int) -> Matrix:
        """A matrix whose memory `_fill` provides."""
        weight = _tensor(pieces[0].layer, "weight")
        matrix = Matrix(None, None, None, KINDS[weight.dtype], outs, weight.shape[1])
        padded = -(-outs // PANEL) * PANEL
        if any(_has_bias(piece.layer) for piece in pieces):
            matrix.bias = self._floats(torch.zeros(padded))
        if matrix.kind == INT8:
            matrix.scale = self._floats(torch.zeros(padded))
        self._matrices.append((matrix, pieces))
        return matrix

    def _all(self) -> Iterator[tuple[Matrix, list[Piece]]]:
        """The matrices as they stand in the structure (which holds copies), with their pieces."""
        held = [m for layer in self._layers for m in (layer.heads, layer.output, layer.up, layer.down)]
        return zip([*held, self.structure.head], [pieces for _, pieces in self._matrices], strict=True)

    def _fill(self) -> None:
        sizes = [_rounded(self._library.panels_bytes(ctypes.byref(matrix))) for matrix, _ in self._all()]
        self._memory = _Memory(sum(sizes))
        at = self._memory.address
        for (matrix, pieces), size in zip(self._all(), sizes, strict=True):
            matrix.panels = at
            at += size
            for layer, first, spread in pieces:
                weight = _tensor(layer, "weight")
                scale = _tensor(layer, "scale").float() if matrix.kind == INT8 else None
                bias = _tensor(layer, "bias").float() if _has_bias(layer) else None
                self._library.pack(
                    ctypes.byref(matrix), _pointer(weight), _pointer(scale), _pointer(bias),
                    ctypes.c_long(len(weight)), ctypes.c_long(first), ctypes.c_long(spread),
                )  # fmt: skip

    def _floats(self, tensor: Tensor) -> int:
        return self._at(tensor.detach().float())

    def _at(self, tensor: Tensor) -> int:
        """The address of a tensor, which is kept as long as the structures are."""
        tensor = tensor.detach().contiguous()
        self._kept.append(tensor)
        return tensor.data_ptr()


class _Memory:
    """Zeros, in large pages where the system has them: one look-up of an address serves far more reads."""

    def __init__(self, size: int) -> None:
        self._map = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANON)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            self._map.madvise(mmap.MADV_HUGEPAGE)
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self._map))


def _tensor(layer: nn.Module, name: str) -> Tensor:
    """A layer's tensor of this name."""
    tensor = getattr(layer, name)
    assert isinstance(tensor, Tensor)
    return tensor.detach()


def _has_bias(layer: nn.Module) -> bool:
    return getattr(layer, "bias", None) is not None


def _rounded(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


def _pointer(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())
