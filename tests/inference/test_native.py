"""The compiled step beside the model's own forward pass, and beside itself in other company."""

from __future__ import annotations

import ctypes
import subprocess
import threading
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ingot import device
from ingot.compress.quantize import dequantized, quantize
from ingot.errors import RequestError
from ingot.inference.computing.native import NativeRunner, build, runner, unsupported
from ingot.inference.computing.native.layout import Call, Layer, Matrix, Model, Norm
from ingot.inference.computing.pages import Pages, pages_for
from ingot.inference.computing.passes import Pass, Segment, assemble
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.nn.experts import ExpertsConfig
from ingot.nn.rope_scaling import RopeScaling

compiled = pytest.mark.skipif(build.load() is None, reason="no C++ compiler")

SIZES: dict[str, Any] = {
    "vocabulary": 301, "width": 48, "layers": 2, "heads": 6, "kv_heads": 2, "head_width": 12,
    "feed_forward": 72, "context": 224,
}  # fmt: skip

ALL = ("query", "key", "value", "output", "gate", "up", "down")
SHAPES: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "tied": {"tied": True},
    "multi-head": {"kv_heads": 6, "head_norm": None},
    "multi-query": {"kv_heads": 1},
    "wide heads": {"head_width": 80, "heads": 2, "kv_heads": 1},
    "biases": {"bias": ALL, "head_norm": None},
    "one layer": {"layers": 1, "head_norm": "rms_one", "norm": "rms_one"},
    "neox": {
        "arrangement": "parallel", "norm": "layer_bias", "activation": "gelu", "bias": ("up", "down"),
        "rotary_share": 0.34, "head_norm": None,
    },
    "gpt2": {"positions": "learned", "norm": "layer", "activation": "gelu_tanh", "head_norm": None},
    "olmo2": {"arrangement": "post", "head_norm": "whole"},
    "gemma": {
        "arrangement": "sandwich", "activation": "geglu_tanh", "score_cap": 5.0, "logit_cap": 8.0,
        "window": 40, "local_layers": (0,), "embedding_scale": 6.9, "score_scale": 0.2,
        "local_rope_theta": 500.0,
    },
    "mistral": {"window": 33, "head_norm": None},
    "alibi": {"positions": "alibi", "activation": "relu"},
    "waves": {"positions": "sinusoidal", "activation": "squared_relu"},
    "sinks": {"sinks": True, "activation": "geglu", "window": 50},
    "no positions": {"positions": None},
    "smollm3": {"unturned_layers": (1,), "head_norm": None},
    "stretched": {"rope_scaling": RopeScaling(kind="linear", factor=3.0)},
}  # fmt: skip


def made(**changes: Any) -> Decoder:
    """A small model with random weights everywhere."""
    model = DecoderConfig(**{**SIZES, **changes}).build(seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 0.3, generator=generator)
            else:
                parameter.uniform_(0.5, 1.5, generator=generator)
    return model.eval().requires_grad_(False)


def native(model: nn.Module) -> NativeRunner:
    found = runner(model)
    assert found is not None, unsupported(model)
    return found


def texts(*lengths: int, vocabulary: int = 301) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randint(vocabulary, (length,), generator=generator) for length in lengths]


class Loop:
    """The least of an engine: requests that take pages one after another, interleaved."""

    def __init__(self, run: NativeRunner, requests: Sequence[Tensor]) -> None:
        self.run, self.pages, self.requests = run, Pages(1000), requests
        self.tables = [array("i") for _ in requests]
        self.stored = [0] * len(requests)
        self.logits: list[list[Tensor]] = [[] for _ in requests]

    def take(self, counts: Sequence[int]) -> None:
        """One pass over so many further tokens of each request."""
        part = []
        for i, count in enumerate(counts):
            count = min(count, len(self.requests[i]) - self.stored[i])
            if not count:
                continue
            new = self.requests[i][self.stored[i] : self.stored[i] + count].tolist()
            while len(self.tables[i]) < pages_for(self.stored[i] + count):
                self.tables[i].append(self.pages.take())
            part.append((i, Segment(new, self.stored[i], self.tables[i], count)))
        if not part:
            return
        logits = self.run(assemble([segment for _, segment in part]), self.pages)
        for i, segment in part:
            mine, logits = logits[: segment.wanted], logits[segment.wanted :]
            self.logits[i].append(mine)
            self.stored[i] += segment.wanted

    def all(self, counts: Sequence[int]) -> list[Tensor]:
        """The logits of every request, [t, v] each, in passes of so many tokens of each."""
        while any(len(x) > done for x, done in zip(self.requests, self.stored, strict=True)):
            self.take(counts)
        return [torch.cat(parts) for parts in self.logits]


@compiled
@pytest.mark.parametrize("shape", SHAPES)
def test_logits_are_those_of_the_model(shape: str) -> None:
    model = made(**SHAPES[shape])
    requests = texts(1, 33, 150)
    found = Loop(native(model), requests).all([1, 7, 64])
    for tokens, logits in zip(requests, found, strict=True):
        wanted = model(tokens[None]).logits[0]
        torch.testing.assert_close(logits, wanted, atol=1e-4, rtol=1e-4)


@compiled
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    lengths=st.lists(st.integers(1, 90), min_size=1, max_size=20),
    counts=st.lists(st.integers(1, 90), min_size=20, max_size=20),
    kind=st.sampled_from(["fp32", "bf16", "int8"]),
    shape=st.sampled_from(["qwen3", "gemma", "wide heads"]),
)
def test_company_and_cuts_change_no_bit(
    lengths: list[int], counts: list[int], kind: str, shape: str, cached: dict[str, NativeRunner]
) -> None:
    """A request alone and in one piece, against the same one cut anyhow among others."""
    if shape + kind not in cached:
        model = made(**SHAPES[shape])
        cached[shape + kind] = native(
            {"fp32": Decoder.float, "bf16": Decoder.bfloat16, "int8": quantize}[kind](model)
        )
    run = cached[shape + kind]
    requests = texts(*lengths)
    together = Loop(run, requests).all(counts[: len(requests)])
    for tokens, logits in zip(requests, together, strict=True):
        assert torch.equal(logits, Loop(run, [tokens]).all([1000])[0])


@pytest.fixture(scope="module")
def cached() -> dict[str, NativeRunner]:
    return {}


@compiled
@pytest.mark.parametrize("kind", ["fp32", "bf16", "int8"])
def test_the_number_of_threads_changes_no_bit(kind: str) -> None:
    model = {"fp32": Decoder.float, "bf16": Decoder.bfloat16, "int8": quantize}[kind](made(width=96, heads=8))
    requests = texts(5, 70, 1, 130)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(torch.cat(Loop(native(model), requests).all([2, 70, 1, 50])))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


@compiled
@pytest.mark.parametrize("shape", ["qwen3", "gemma", "biases"])
def test_bf16_is_as_near_to_the_truth_as_pytorch_s(shape: str) -> None:
    short = made(**SHAPES[shape]).bfloat16()
    truth_of = made(**SHAPES[shape])
    truth_of.load_state_dict({name: x.float() for name, x in short.state_dict().items()})
    tokens = texts(100)[0]
    truth = truth_of(tokens[None]).logits[0]
    run = native(short)
    assert run.dtype == torch.bfloat16
    ours = Loop(run, [tokens]).all([100])[0]
    theirs = short(tokens[None]).logits[0].float()
    assert (ours - truth).norm() <= 1.1 * (theirs - truth).norm()
    assert (ours - truth).norm() <= 2e-2 * truth.norm()


@compiled
@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_int8_is_what_the_weights_stand_for(tied: bool, dtype: torch.dtype) -> None:
    small = quantize(made(tied=tied).to(dtype))
    tokens = texts(100)[0]
    truth = dequantized(small)(tokens[None]).logits[0]
    ours = Loop(native(small), [tokens]).all([37])[0]
    within = 1e-3 if dtype == torch.float32 else 2e-2
    assert (ours - truth).norm() <= within * truth.norm()


@compiled
def test_only_wanted_logits_are_given() -> None:
    model = made(**SHAPES["neox"])
    tokens = texts(40)[0]
    pages = Pages(10)
    table = array("i", [pages.take(), pages.take()])
    run = native(model)
    nothing = run(assemble([Segment(tokens[:30].tolist(), 0, table, 0)]), pages)
    assert nothing.shape == (0, 301)
    last = run(assemble([Segment(tokens[30:].tolist(), 30, table, 2)]), pages)
    torch.testing.assert_close(last, model(tokens[None]).logits[0, -2:], atol=1e-4, rtol=1e-4)


@compiled
@pytest.mark.parametrize("change", ["in place", "replaced", "unseen"])
def test_changed_weights_are_followed(change: str) -> None:
    model, tokens = made(), texts(20)[0]
    run = native(model)
    before = Loop(run, [tokens]).all([20])[0]
    with torch.no_grad():
        weight = model.blocks[1].feed_forward.down.weight
        if change == "in place":
            weight.mul_(1.5)
        elif change == "replaced":
            weight.data = weight * 1.5
        else:
            weight.data.mul_(1.5)  # PyTorch does not count this one
            run.refresh()
    after = Loop(run, [tokens]).all([20])[0]
    assert not torch.equal(before, after)
    torch.testing.assert_close(after, model(tokens[None]).logits[0], atol=1e-4, rtol=1e-4)


@compiled
def test_weights_made_in_inference_mode_do() -> None:
    with torch.inference_mode():
        model = made()
    tokens = texts(9)[0]
    found = Loop(native(model), [tokens]).all([9])[0]
    torch.testing.assert_close(found, model(tokens[None]).logits[0], atol=1e-4, rtol=1e-4)


@compiled
@pytest.mark.parametrize("kind", ["fp32", "bf16", "int8"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_hidden(kind: str, bad: float) -> None:
    model = {"fp32": Decoder.float, "bf16": Decoder.bfloat16, "int8": quantize}[kind](made())
    with torch.no_grad():
        model.blocks[0].feed_forward_norm.weight[3] = bad
    assert not Loop(native(model), texts(7)).all([7])[0].isfinite().any()


@compiled
def test_a_table_full_of_an_earlier_request_s_numbers_changes_nothing() -> None:
    run, tokens = native(made()), texts(20, 64)
    alone = Loop(run, tokens[:1]).all([20])[0]
    used = Loop(run, tokens)
    used.tables[0] = array("i", [used.pages.take()])
    with torch.no_grad():
        used.pages.lay_out(run._layout, run.dtype)
        for pool in (*used.pages.keys, *used.pages.values):
            pool.fill_(float("nan"))
    used.take([20, 0])
    assert torch.equal(used.logits[0][0], alone)


@compiled
def test_structures_are_as_long_on_both_sides() -> None:
    library, found = build.load(), (ctypes.c_long * 5)()
    assert library is not None
    library.structure_bytes(found)
    assert list(found) == [ctypes.sizeof(one) for one in (Matrix, Norm, Layer, Model, Call)]


FAULTS = {
    "vocabulary": {"tokens": torch.tensor([301])},
    "context": {"positions": torch.tensor([224])},
    "segments": {"starts": torch.tensor([0, 2], dtype=torch.int32)},
    "pages": {"tables": torch.tensor([[7]], dtype=torch.int32)},
    "reach": {"stored": torch.tensor([32], dtype=torch.int32)},
    "wanted": {"wanted": torch.tensor([1])},
    "int32": {"tokens": torch.tensor([1], dtype=torch.int32)},
}


@compiled
@pytest.mark.parametrize("word", FAULTS)
def test_a_pass_that_points_outside_is_refused(word: str) -> None:
    pages = Pages(1)
    good = assemble([Segment([1], 0, array("i", [pages.take()]), 1)])
    run = native(made())
    run(good, pages)
    with pytest.raises(RequestError, match=word):
        run(Pass(**{**good._asdict(), **FAULTS[word]}), pages)


def test_other_models_are_refused_and_said_why() -> None:
    assert unsupported(made()) is None
    training = made().train()
    hooked = made()
    hooked.norm.register_forward_hook(lambda *_: None)
    wrapped = made()
    wrapped.blocks[1].attention.query = nn.Sequential(wrapped.blocks[1].attention.query)
    experts = made(experts=ExpertsConfig(count=4, chosen=2, width=16))
    mixed = made()
    mixed.blocks[0].attention.key.bfloat16()
    for model, word in (
        (training, "training"),
        (hooked, "norm has hooks"),
        (wrapped, "attention.query is of the type Sequential"),
        (experts, "Experts"),
        (made().half(), "float16"),
        (mixed, "several types"),
        (nn.Linear(2, 2), "Linear is no plain decoder"),
        (made().to("meta"), "CPU"),
    ):
        assert word in (unsupported(model) or "")
        assert runner(model) is None


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """As in a new process on a machine that never compiled the step."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(build, "_asked", False)
    monkeypatch.setattr(build, "_building", None)
    monkeypatch.setattr(build, "_library", None)
    return monkeypatch


def test_without_a_compiler_there_is_no_runner(fresh: pytest.MonkeyPatch) -> None:
    fresh.setattr(device, "compiler", lambda: None)
    assert runner(made()) is None
    assert not build.pending()


def test_a_failed_build_leaves_no_runner_and_no_rest(fresh: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise subprocess.CalledProcessError(1, "c++")

    fresh.setattr(subprocess, "run", fails)
    fresh.setattr(device, "compiler", lambda: "c++")
    assert runner(made()) is None
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_who_does_not_wait_gets_it_later(fresh: pytest.MonkeyPatch) -> None:
    go, made_of = threading.Event(), object()

    def slow() -> None:
        go.wait(10)
        fresh.setattr(build, "_library", made_of)

    fresh.setattr(build, "_make", slow)
    assert build.load(wait=0) is None
    assert build.pending()
    go.set()
    assert build.load() is made_of  # type: ignore[comparison-overlap]
    assert not build.pending()
