"""How a model and a pass lie in memory for the compiled step: as in `model.h` and `products.h`."""

from __future__ import annotations

from ctypes import POINTER, Structure, c_float, c_long, c_void_p

FLOAT, BF16, INT8 = 0, 1, 2
"""Kinds of numbers."""

PANEL = 32
"""Outputs that stand side by side in a packed matrix."""

ACTIVATIONS = {
    "swiglu": 0, "geglu": 1, "geglu_tanh": 2, "gelu": 1, "gelu_tanh": 2, "relu": 3, "squared_relu": 4
}  # fmt: skip
"""The number of the activation in each kind of feed-forward layer."""


class Matrix(Structure):
    """A matrix in panels; scale and bias are in the order of the panels' outputs, or null."""

    _fields_ = (
        ("panels", c_void_p), ("scale", c_void_p), ("bias", c_void_p),
        ("kind", c_long), ("outs", c_long), ("inputs", c_long),
    )  # fmt: skip


class Norm(Structure):
    """Kind 0 is none, 1 by the root mean square, 2 by mean and deviation."""

    _fields_ = (("weight", c_void_p), ("bias", c_void_p), ("kind", c_long), ("epsilon", c_float))


class Layer(Structure):
    """One block."""

    _fields_ = (
        ("attention_norm", Norm), ("attention_output_norm", Norm),
        ("feed_forward_norm", Norm), ("feed_forward_output_norm", Norm),
        ("query_norm", Norm), ("key_norm", Norm),
        ("heads", Matrix), ("output", Matrix), ("up", Matrix), ("down", Matrix),
        ("cosine", c_void_p), ("sine", c_void_p), ("slopes", c_void_p), ("sinks", c_void_p),
        ("window", c_long),
    )  # fmt: skip


class Model(Structure):
    """A decoder."""

    _fields_ = (
        *((name, c_long) for name in (
            "layers", "vocabulary", "width", "heads", "key_heads", "head_width", "feed_forward", "turned",
            "places", "activation", "gated", "parallel", "joint_norm", "cache_kind", "embedding_kind",
        )),
        *((name, c_float) for name in ("score_scale", "score_cap", "embedding_scale", "logit_cap")),
        ("embedding", c_void_p), ("embedding_rows", c_void_p), ("positions", c_void_p),
        ("layer", POINTER(Layer)), ("norm", Norm), ("head", Matrix),
    )  # fmt: skip


class Call(Structure):
    """A pass, and where its logits go."""

    _fields_ = (
        *((name, c_long) for name in ("t", "n", "m", "w", "pages")),
        *((name, c_void_p) for name in ("tokens", "positions", "starts", "stored", "tables", "wanted")),
        ("keys", POINTER(c_void_p)), ("values", POINTER(c_void_p)), ("logits", c_void_p),
    )  # fmt: skip
