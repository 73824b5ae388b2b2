"""Products by tiles, on emulated tile instructions: beside float64, beside themselves, in a whole model."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from array import array
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ingot import device
from ingot.compress.quantize import quantize
from ingot.compress.quantized import quantize_rows
from ingot.inference.computing.native import NativeRunner, build, runner
from ingot.inference.computing.native.layout import BF16, FLOAT, INT8, PANEL, Matrix
from ingot.inference.computing.pages import Pages, pages_for
from ingot.inference.computing.passes import Segment, assemble
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.nn.kernels import build as kernels

HERE = Path(__file__).parent
NATIVE = Path(build.__file__).parent
pytestmark = pytest.mark.skipif(device.compiler() is None, reason="no C++ compiler")


def compiled(source: Path, place: Path, *flags: str) -> ctypes.CDLL:
    """A library of something on emulated tiles."""
    threads, library = kernels.openmp(), place / f"{source.stem}.so"
    build._build(source, [*build._flags(threads), "-O1", *flags], threads, library)
    loaded = ctypes.CDLL(str(library))
    for name in ("panels_bytes", "configured_threads", "tile_products"):
        getattr(loaded, name).restype = ctypes.c_long
    return loaded


@pytest.fixture(scope="module")
def emulated(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Products as on a processor with tiles."""
    return compiled(HERE / "tiles_emulated.cpp", tmp_path_factory.mktemp("products"), f"-I{NATIVE}")


@pytest.fixture(scope="module")
def step(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The compiled step as on a processor with tiles."""
    place, header = tmp_path_factory.mktemp("step"), HERE / "tiles_emulated.h"
    return compiled(NATIVE / "step.cpp", place, "-include", str(header))


def at(tensor: Tensor | None) -> ctypes.c_void_p:
    return ctypes.c_void_p(None if tensor is None else tensor.data_ptr())


class Packed:
    """A random matrix in the step's form, and what it stands for in float64."""

    def __init__(self, library: ctypes.CDLL, kind: int, outs: int, inputs: int, seed: int = 0) -> None:
        weight = torch.randn(outs, inputs, generator=torch.Generator().manual_seed(seed))
        scale = None
        if kind == INT8:
            stored, scale = quantize_rows(weight)
            self.truth = stored.double() * scale.double()[:, None]
        else:
            stored = weight.bfloat16() if kind == BF16 else weight
            self.truth = stored.double()
        self.library, self.kind, self.outs, self.inputs = library, kind, outs, inputs
        self.panels = -(-outs // PANEL)
        self.matrix = Matrix(None, None, None, kind, outs, inputs)
        self._memory = torch.zeros(library.panels_bytes(ctypes.byref(self.matrix)) + 64, dtype=torch.uint8)
        self._scale = torch.zeros(self.panels * PANEL)
        self.matrix.panels = -(-self._memory.data_ptr() // 64) * 64
        self.matrix.scale = self._scale.data_ptr()
        library.pack(ctypes.byref(self.matrix), at(stored), at(scale), ctypes.c_long(outs))

    def times(self, x: Tensor, cuts: tuple[int, ...] = (), unit: int = 1) -> Tensor:
        """[rows, outs], computed in ranges of panels."""
        found, places = torch.full((len(x), self.outs), torch.nan), (0, *cuts, self.panels)
        for first, last in pairwise(places):
            self.library.product(
                ctypes.byref(self.matrix), at(x.contiguous()),
                *map(ctypes.c_long, (len(x), first, last, unit)), at(found),
            )  # fmt: skip
        return found


def rows(count: int, inputs: int, seed: int = 1) -> Tensor:
    """Rows of very different sizes."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, inputs, generator=generator) * 10 ** torch.randn(count, 1, generator=generator)


shapes = given(
    count=st.integers(1, 70), inputs=st.integers(1, 300), outs=st.integers(1, 200), seed=st.integers(0, 99)
)


@pytest.mark.parametrize("kind", [BF16, INT8])
@settings(max_examples=40, deadline=None)
@shapes
def test_products_are_those_of_float64(
    emulated: ctypes.CDLL, kind: int, count: int, inputs: int, outs: int, seed: int
) -> None:
    x, w = rows(count, inputs, seed), Packed(emulated, kind, outs, inputs, seed)
    before = emulated.tile_products()
    found = w.times(x).double()
    assert emulated.tile_products() > before
    met = x.bfloat16().double() if kind == BF16 else x.double()
    sizes = met.abs() @ w.truth.abs().T
    within = 2**-24 * (inputs + 3) * sizes
    if kind == INT8:  # a row's numbers are rounded to 65,025 steps between its least and greatest
        within += x.double().abs().amax(dim=1, keepdim=True) / 32512 * 0.51 * w.truth.abs().sum(dim=1)
    assert ((found - met @ w.truth.T).abs() <= within + 1e-30).all()


def test_fp32_stays_on_vectors(emulated: ctypes.CDLL) -> None:
    x, w = rows(37, 70), Packed(emulated, FLOAT, 90, 70)
    before = emulated.tile_products()
    within = 2**-24 * 73 * (x.double().abs() @ w.truth.abs().T)
    assert ((w.times(x).double() - x.double() @ w.truth.T).abs() <= within).all()
    assert emulated.tile_products() == before


@pytest.mark.parametrize("kind", [BF16, INT8])
@settings(max_examples=40, deadline=None)
@shapes
def test_company_changes_no_bit(
    emulated: ctypes.CDLL, kind: int, count: int, inputs: int, outs: int, seed: int
) -> None:
    """A row alone, in a part of the rows, in other company and with the panels shared out otherwise."""
    x, w = rows(count, inputs, seed), Packed(emulated, kind, outs, inputs, seed)
    together, one, middle = w.times(x), seed % count, seed % (w.panels + 1)
    assert torch.equal(together[one], w.times(x[one : one + 1])[0])
    assert torch.equal(together[one:], w.times(x[one:]))
    assert torch.equal(together, w.times(x, cuts=(middle,), unit=2))
    assert torch.equal(together.flip(0), w.times(x.flip(0)))


@pytest.mark.parametrize("kind", [BF16, INT8])
def test_more_rows_than_the_cache_holds(emulated: ctypes.CDLL, kind: int) -> None:
    inputs = 4000
    x, w = rows(300, inputs), Packed(emulated, kind, 33, inputs)
    assert 300 * inputs * 2 > 2**20
    found = w.times(x)
    assert torch.equal(found[140:150], w.times(x[140:150]))
    met = x.bfloat16().double() if kind == BF16 else x.double()
    error = (found.double() - met @ w.truth.T).norm(dim=1)
    assert (error <= 1e-4 * (met @ w.truth.T).norm(dim=1)).all()


@pytest.mark.parametrize("kind", [BF16, INT8])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_in_its_row(emulated: ctypes.CDLL, kind: int, bad: float) -> None:
    x, w = rows(35, 50), Packed(emulated, kind, 40, 50)
    x[17, 3] = bad
    finite = w.times(x).isfinite()
    assert not finite[17].any()
    assert finite[:17].all()
    assert finite[18:].all()


# -- a whole model


def made(**changes: Any) -> Decoder:
    sizes: dict[str, Any] = {
        "vocabulary": 301, "width": 48, "layers": 2, "heads": 6, "kv_heads": 2, "head_width": 12,
        "feed_forward": 72, "context": 224,
    }  # fmt: skip
    model = DecoderConfig(**{**sizes, **changes}).build(seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 0.2, generator=generator)
    return model.eval().requires_grad_(False)


def logits_of(run: NativeRunner, tokens: list[int], cut: int, beside: int = 0) -> Tensor:
    """[t, v]: a request in passes of so many tokens, with another request's beside them."""
    pages, logits, stored = Pages(100), [], 0
    tables = [array("i", [pages.take() for _ in range(pages_for(224))]) for _ in range(2)]
    while stored < len(tokens):
        new = tokens[stored : stored + cut]
        segments = [Segment(new, stored, tables[0], len(new))]
        if beside:
            segments.insert(0, Segment(list(range(beside)), 0, tables[1], 1))
        logits.append(run(assemble(segments), pages)[-len(new) :])
        stored += len(new)
    return torch.cat(logits)


TOKENS = torch.randint(301, (90,), generator=torch.Generator().manual_seed(3)).tolist()
NEOX = {"arrangement": "parallel", "norm": "layer_bias", "activation": "gelu"}
MODELS: dict[str, Callable[[], Decoder]] = {
    "bf16": lambda: made().bfloat16(),
    "bf16 neox": lambda: made(**NEOX, bias=("up", "down")).bfloat16(),
    "int8": lambda: quantize(made()),
    "int8 neox": lambda: quantize(made(**NEOX).bfloat16()),
}


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_a_model_answers_as_with_vectors(step: ctypes.CDLL, kind: str) -> None:
    if build.load() is None:
        pytest.skip("no compiled step")
    model = MODELS[kind]()
    vectors, tiles = runner(model), NativeRunner(model, step)
    assert vectors is not None
    ours, theirs = logits_of(tiles, TOKENS, 90), logits_of(vectors, TOKENS, 90)
    assert (ours - theirs).norm() <= 1e-2 * theirs.norm()
    for start in range(3):  # greedy
        mine, other = TOKENS[start : start + 5], TOKENS[start : start + 5]
        for _ in range(8):
            mine = [*mine, int(logits_of(tiles, mine, 90)[-1].argmax())]
            other = [*other, int(logits_of(vectors, other, 90)[-1].argmax())]
        assert mine == other


@pytest.mark.slow
@pytest.mark.parametrize("kind", MODELS)
def test_cuts_company_and_threads_change_no_bit(step: ctypes.CDLL, kind: str) -> None:
    run, before, computed = NativeRunner(MODELS[kind](), step), torch.get_num_threads(), step.tile_products()
    whole = logits_of(run, TOKENS, 90)
    try:
        for cut, beside, threads in ((1, 0, 1), (17, 0, 2), (33, 40, 2), (7, 3, 3)):
            torch.set_num_threads(threads)
            assert torch.equal(whole, logits_of(run, TOKENS, cut, beside))
    finally:
        torch.set_num_threads(before)
    assert step.tile_products() > computed
    assert step.configured_threads() == 0  # every thread gave its registers back


# -- whether there are tiles


def test_where_linux_refuses_tiles_the_step_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "instruction_sets", lambda: frozenset({"amx_tile", "amx_bf16"}))
    monkeypatch.setattr(kernels, "tiles_allowed", lambda: True)
    allowed, place = build._flags(None), build._place(None)
    monkeypatch.setattr(kernels, "tiles_allowed", lambda: False)
    assert [flag for flag in build._flags(None) if flag not in allowed] == list(build.WITHOUT_TILES)
    assert build._place(None) != place


def test_linux_is_not_asked_where_there_are_no_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    def asked() -> bool:
        raise AssertionError("asked")

    monkeypatch.setattr(device, "instruction_sets", lambda: frozenset({"avx512f"}))
    monkeypatch.setattr(kernels, "tiles_allowed", asked)
    assert not set(build.WITHOUT_TILES) & set(build._flags(None))


# -- the emulation


def test_emulated_bytes_are_multiplied_exactly(emulated: ctypes.CDLL) -> None:
    numbers = np.random.default_rng(0)
    a = numbers.integers(-128, 128, (16, 64), dtype=np.int8)
    b = numbers.integers(0, 256, (64, 16), dtype=np.uint8)
    c = numbers.integers(-1000, 1000, (16, 16), dtype=np.int32)
    truth = c + a.astype(np.int32) @ b.astype(np.int32)
    packed = np.ascontiguousarray(b.reshape(16, 4, 16).transpose(0, 2, 1))
    emulated.tile_product(*(ctypes.c_void_p(x.ctypes.data) for x in (a, packed, c)), ctypes.c_long(INT8))
    assert (c == truth).all()


def test_emulated_bf16_sums_in_the_order_of_the_manual(emulated: ctypes.CDLL) -> None:
    a, b, c = torch.zeros(16, 32), torch.zeros(32, 16), torch.zeros(16, 16)
    a[0] = 1
    b[:4, 0] = torch.tensor([2.0**24, 1, 1, 1])  # even: 2^24 + 1 is 2^24; odd: 1 + 1; one after another: 2^24
    b[0, 1], c[0, 1] = 2.0**-126, -(2.0**-127)  # a denormal that was there counts as zero
    b[0, 2], a[1, 0] = 2.0**-100, 2.0**-27  # a product too small is zero
    b[0, 3], c[0, 3] = 2.0**-127, 3
    b[0, 4], c[0, 4] = 1, 2.0**24  # a tie goes to the even one
    b[0, 5], c[0, 5] = 3, 2.0**24
    packed = b.bfloat16().reshape(16, 2, 16).transpose(1, 2).contiguous()
    ones = a.bfloat16()
    emulated.tile_product(at(ones), at(packed), at(c), ctypes.c_long(BF16))
    wanted = [2.0**24 + 2, 2.0**-126, 2.0**-100, 3, 2.0**24, 2.0**24 + 4]
    assert c[0, :6].tolist() == wanted
    assert c[1, 2] == 0
    assert c[1, 0] == 2.0**-3


@pytest.mark.parametrize(
    ("which", "word"),
    enumerate(["not configured", "too large", "one depth", "rows", "two factors", "eight tiles"]),
)
def test_the_emulation_refuses_what_a_processor_would(emulated: ctypes.CDLL, which: int, word: str) -> None:
    threads = kernels.openmp()
    code = f"import ctypes; ctypes.CDLL({emulated._name!r}).refused(ctypes.c_long({which}))"
    environment = {**os.environ, "LD_LIBRARY_PATH": str(threads.parent) if threads else ""}
    ended = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert ended.returncode == -signal.SIGABRT
    assert word in ended.stderr
