"""The runner of the compiled step: what `Engine` calls for models of the common shape on CPUs."""

from __future__ import annotations

import ctypes
import functools

import torch
from torch import Tensor, nn

from ingot.errors import RequestError
from ingot.inference.computing.native import build
from ingot.inference.computing.native.layout import BF16, Call
from ingot.inference.computing.native.packing import Packed, unsupported
from ingot.inference.computing.pages import Layout, Pages
from ingot.inference.computing.passes import Pass
from ingot.models.decoder import Decoder

TYPES = {
    "tokens": torch.int64, "positions": torch.int64, "starts": torch.int32, "stored": torch.int32,
    "tables": torch.int32, "wanted": torch.int64,
}  # fmt: skip
FAULTS = {
    1: "a token is outside the vocabulary",
    2: "a position is outside the context",
    3: "the segments do not fit the tokens",
    4: "a request's pages do not reach its tokens, or are not there",
    5: "logits are wanted of a token that is not there",
}


class NativeRunner:
    """Computes passes in one call, without PyTorch.

    A request's logits are the same bit for bit whatever other requests are in the pass and however its
    prompt is cut into pieces. Weights that are changed in place are noticed by the next pass that reads a
    prompt; what PyTorch itself does not notice (`parameter.data.copy_`, another object in a parameter's
    place) takes a call of `refresh`.

    Args:
        model: one that is not `unsupported`; it is kept, and its weights a second time, packed.
        library: the compiled step.
    """

    def __init__(self, model: Decoder, library: ctypes.CDLL) -> None:
        self._packed = Packed(model, library)
        self._step = library.step
        config = model.config
        self._layout = Layout(config.layers, config.kv_heads, config.head_width, config.head_width)
        self._vocabulary = config.vocabulary
        self._keys = (ctypes.c_void_p * config.layers)()
        self._values = (ctypes.c_void_p * config.layers)()

    @property
    def dtype(self) -> torch.dtype:
        """Of the keys and values in the pages."""
        return torch.bfloat16 if self._packed.structure.cache_kind == BF16 else torch.float32

    def refresh(self) -> None:
        """Takes over the model's weights of now."""
        self._packed.refresh()

    def __call__(self, pass_: Pass, pages: Pages) -> Tensor:
        """Computes a pass.

        Args:
            pass_: see there.
            pages: with the keys and values of what is stored; those of the new tokens are written.

        Returns:
            [w, v] float32 logits.

        Raises:
            RequestError: the pass names tokens, places or pages that do not exist.
        """
        # Looking at every weight costs as much as a tenth of a small model's step.
        if len(pass_.tokens) > len(pass_.stored) or not pass_.stored.all():
            self._packed.follow()
        pages.lay_out(self._layout, self.dtype)
        for layer, (keys, values) in enumerate(zip(pages.keys, pages.values, strict=True)):
            self._keys[layer], self._values[layer] = keys.data_ptr(), values.data_ptr()
        if keys.dtype != self.dtype:
            raise RequestError(f"the pages hold {keys.dtype}, the step {self.dtype}", where="cache")
        tensors = {name: getattr(pass_, name).contiguous() for name in TYPES}
        for name, tensor in tensors.items():
            if tensor.dtype != TYPES[name] or not tensor.is_cpu:
                raise RequestError(f"{name} are {tensor.dtype} on {tensor.device}", where="pass")
        logits = torch.empty(len(pass_.wanted), self._vocabulary)
        call = Call(
            t=len(pass_.tokens), n=len(pass_.stored), m=pass_.tables.shape[1], w=len(logits), pages=len(keys),
            keys=self._keys, values=self._values, logits=logits.data_ptr(),
            **{name: tensor.data_ptr() for name, tensor in tensors.items()},
        )  # fmt: skip
        wrong = self._step(
            ctypes.byref(self._packed.structure), ctypes.byref(call), ctypes.c_int(torch.get_num_threads())
        )
        if wrong:
            raise RequestError(FAULTS[wrong], where="pass")
        return logits


def runner(model: nn.Module, wait: float | None = None) -> NativeRunner | None:
    """Returns the compiled step for a model, where there is one.

    Args:
        model: in evaluation mode.
        wait: seconds that compiling it (once for each machine) may take before this returns None; ask
            again while `build.pending()`. None waits for the end.

    Returns:
        The runner, or None: the model has parts that the step does not know, is not on the CPU or in
        training, or there is no compiler. `unsupported(model)` says which part.

    Example:
        >>> native = runner(model, wait=0)
        >>> logits = (native or torch_runner)(pass_, pages)
    """
    if unsupported(model) is not None:
        return None
    library = _declared(wait)
    return None if library is None else NativeRunner(model, library)  # type: ignore[arg-type]


def _declared(wait: float | None) -> ctypes.CDLL | None:
    library = build.load(wait)
    return None if library is None else _typed(library)


@functools.cache
def _typed(library: ctypes.CDLL) -> ctypes.CDLL:
    library.panels_bytes.restype = ctypes.c_long
    return library
