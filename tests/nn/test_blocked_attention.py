"""Attention in pieces, on tiles and in PyTorch, against attention written out in float64."""

from __future__ import annotations

import ctypes
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ingot import device
from ingot.nn import blocked_attention
from ingot.nn.attention import causal
from ingot.nn.kernels import attention as tiles
from ingot.nn.kernels import build

needs_tiles = pytest.mark.skipif(not tiles.ready(), reason="needs AMX and a compiler")
WAYS = [pytest.param(tiles.attend, id="tiles", marks=needs_tiles), pytest.param(None, id="pytorch")]


@pytest.fixture(params=WAYS)
def attend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tensor]:
    """Both ways in turn; the second is what happens where there is no kernel."""
    if request.param is None:
        monkeypatch.setattr(tiles, "suits", lambda query: False)
    return blocked_attention.attend


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Kernels as on a new machine."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    build.load.cache_clear()
    yield tmp_path
    build.load.cache_clear()


def written_out(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Output and logsumexp of the scores."""
    t, shared = query.shape[2], query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(shared, 1), value.repeat_interleave(shared, 1)
    scores = query @ key.mT / query.shape[-1] ** 0.5
    scores = scores.masked_fill(torch.ones(t, t, dtype=torch.bool).triu(1), float("-inf"))
    return scores.softmax(-1) @ value, scores.logsumexp(-1)


def inputs(b: int, h: int, k: int, t: int, e: int) -> list[Tensor]:
    """Query, key, value and the gradient of the output, laid out as projections make them."""
    torch.manual_seed(h * t + e)
    made = [torch.randn(b, t, n, e).bfloat16().transpose(1, 2) for n in (h, k, k, h)]
    return [(made[0] * 2).detach().requires_grad_(), *(x.requires_grad_() for x in made[1:3]), made[3]]


def far(ours: Tensor, theirs: Tensor) -> float:
    """The distance, as a share of what it should be."""
    return ((ours.double() - theirs).norm() / theirs.norm().clamp(min=1e-9)).item()


@pytest.mark.parametrize("t", [1, 2, 31, 33, 128, 257, 300])
@pytest.mark.parametrize(("h", "k", "e"), [(2, 2, 32), (3, 1, 64), (4, 2, 128)])
def test_output_and_gradients_are_those_written_out(
    attend: Callable[..., Tensor], h: int, k: int, t: int, e: int
) -> None:
    *qkv, given = inputs(2, h, k, t, e)
    exact = [x.detach().double().requires_grad_() for x in qkv]
    output, wanted = attend(*qkv), written_out(*exact)[0]
    assert output.dtype == torch.bfloat16 and output.transpose(1, 2).is_contiguous()
    assert far(output, wanted) < 0.006
    ours = torch.autograd.grad(output, qkv, given)
    theirs = torch.autograd.grad(wanted, exact, given.double())
    for got, expected, name in zip(ours, theirs, ("query", "key", "value"), strict=True):
        if expected.norm() > 1e-6:  # of one token, query and key have no gradient
            assert far(got, expected) < 0.012, name
        else:
            assert got.abs().max() < 0.02, name


@needs_tiles
def test_logsumexp() -> None:
    query, key, value, _ = inputs(2, 4, 2, 200, 64)
    _, ours = tiles._attend(query, key, value)
    _, theirs = written_out(query.double(), key.double(), value.double())
    assert (ours - theirs).abs().max() < 5e-5


@needs_tiles
def test_large_scores_neither_overflow_nor_vanish() -> None:
    query, key, value, given = inputs(1, 1, 1, 160, 32)
    query = (query.detach() * 300).requires_grad_()
    exact = [x.detach().double().requires_grad_() for x in (query, key, value)]
    output, wanted = tiles.attend(query, key, value), written_out(*exact)[0]
    assert far(output, wanted) < 0.006
    ours = torch.autograd.grad(output, (query, key, value), given)
    theirs = torch.autograd.grad(wanted, exact, given.double())
    assert all(x.isfinite().all() for x in ours)
    assert far(ours[2], theirs[2]) < 0.012


@needs_tiles
@pytest.mark.parametrize("which", [0, 1, 2])
def test_what_is_not_a_number_shows(which: int) -> None:
    *qkv, given = inputs(1, 2, 2, 70, 32)
    with torch.no_grad():
        qkv[which][0, 1, 40, 3] = float("nan")
    output = tiles.attend(*qkv)
    assert output[0, 1, 40:].isnan().any() and output[0, 0].isfinite().all()
    gradients = torch.autograd.grad(output, qkv, given)
    assert any(x[0, 1].isnan().any() for x in gradients)
    assert all(x[0, 0].isfinite().all() for x in gradients)


@needs_tiles
def test_any_layout_gives_the_same() -> None:
    query, key, value, given = inputs(2, 4, 2, 45, 64)
    output = tiles.attend(query, key, value)
    gradients = torch.autograd.grad(output, (query, key, value), given)
    packed = torch.cat([x.detach().transpose(1, 2) for x in (query, key, value)], 2)  # one projection
    parts = packed.split([4, 2, 2], 2)
    layouts: list[Callable[[Tensor], Tensor]] = [
        lambda x: x.contiguous(),
        lambda x: x.mT.contiguous().mT,  # neighbours along e are far apart
        lambda x: torch.cat([x, x], -1)[..., : x.shape[-1]],
    ]
    for others in [
        [x.transpose(1, 2) for x in parts],
        *([f(x) for x in (query, key, value)] for f in layouts),
    ]:
        leaves = [x.detach().requires_grad_() for x in others]
        again = tiles.attend(*leaves)
        assert torch.equal(again, output)
        for gift in (given, given.mT.contiguous().mT):
            for x, y in zip(
                torch.autograd.grad(again, leaves, gift, retain_graph=True), gradients, strict=True
            ):
                assert torch.equal(x, y)
    ones = given.new_ones(()).expand_as(given)  # as `sum().backward()` gives it
    spread, dense = (
        torch.autograd.grad(tiles.attend(query, key, value), value, x)[0] for x in (ones, ones.clone())
    )
    assert torch.equal(spread, dense)


@needs_tiles
def test_the_number_of_threads_changes_no_bit() -> None:
    query, key, value, given = inputs(3, 4, 2, 199, 64)
    before, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            output = tiles.attend(query, key, value)
            results.append([output, *torch.autograd.grad(output, (query, key, value), given)])
    finally:
        torch.set_num_threads(before)
    for others in results[1:]:
        assert all(torch.equal(x, y) for x, y in zip(results[0], others, strict=True))


def test_rows_of_the_batch_do_not_meet(attend: Callable[..., Tensor]) -> None:
    query, key, value, _ = inputs(3, 2, 1, 50, 32)
    together = attend(query, key, value)
    for row in range(3):
        alone = attend(query[row : row + 1], key[row : row + 1], value[row : row + 1])
        assert far(alone, together[row : row + 1].double()) < 1e-6


@needs_tiles
def test_pytorch_s_own_products_still_find_their_tiles() -> None:
    query, key, value, given = inputs(2, 4, 2, 99, 64)
    x, weight = torch.randn(300, 200).bfloat16(), torch.randn(200, 100).bfloat16()
    wanted, results = x @ weight, []
    for _ in range(3):
        output = tiles.attend(query, key, value)
        assert torch.equal(x @ weight, wanted)
        results.append(torch.autograd.grad(output, query, given)[0])
        assert torch.equal(x @ weight, wanted)
    assert torch.equal(results[0], results[2])


@needs_tiles
def test_pytorch_s_own_check_of_an_operation() -> None:
    query, key, value, given = inputs(1, 4, 2, 40, 32)
    torch.library.opcheck(tiles._attend, (query, key, value))
    with torch.no_grad():
        mixed, logsumexp = tiles._attend(query, key, value)
        torch.library.opcheck(tiles._gradient, (given, query, key, value, mixed, logsumexp))


@needs_tiles
def test_inside_a_compiled_graph() -> None:
    *qkv, given = inputs(2, 4, 2, 40, 32)
    plain = causal(0, *qkv)
    compiled = torch.compile(lambda q, k, v: causal(0, q * 1, k, v), fullgraph=True, backend="aot_eager")(
        *qkv
    )
    assert torch.equal(compiled, plain)
    for x, y in zip(
        torch.autograd.grad(compiled, qkv, given), torch.autograd.grad(plain, qkv, given), strict=True
    ):
        assert torch.equal(x, y)


@needs_tiles
def test_what_does_not_fit_is_refused() -> None:
    query, key, value, _ = inputs(1, 3, 1, 40, 32)
    for bad in (key.float(), key[:, :, :39], key.expand(1, 2, 40, 32), key[..., :16]):
        with pytest.raises(ValueError, match="do not fit"):
            tiles.attend(query, bad, value)
    with pytest.raises(ValueError, match="do not fit"):
        tiles.attend(query[:, :3], key.expand(1, 2, 40, 32), value.expand(1, 2, 40, 32))


@needs_tiles
def test_what_suits() -> None:
    query = inputs(2, 4, 2, 600, 32)[0]
    assert tiles.suits(query) and blocked_attention.suits(query)
    assert not tiles.suits(query[..., :16]) and not blocked_attention.suits(query[..., :16])
    assert not blocked_attention.suits(query.float())
    assert blocked_attention.suits(query.detach())
    assert not blocked_attention.suits(query[:1].detach())


def test_without_a_kernel_pytorch_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiles, "ready", lambda: False)
    query, key, value, _ = inputs(1, 2, 2, 20, 32)
    monkeypatch.setattr(tiles, "attend", None)
    assert (
        far(causal(0, query, key, value), written_out(query.double(), key.double(), value.double())[0]) < 0.01
    )


@needs_tiles
def test_a_build_is_kept(empty_cache: Path) -> None:
    assert isinstance(build.load("attention"), ctypes.CDLL)
    (library,) = (empty_cache / "ingot" / "kernels").iterdir()
    stamp = library.stat().st_mtime_ns
    build.load.cache_clear()
    assert build.load("attention") is not None and library.stat().st_mtime_ns == stamp


@needs_tiles
def test_one_copy_of_the_thread_library_is_loaded() -> None:
    code = (
        "import re; from pathlib import Path; from ingot.nn.kernels import build;"
        "assert build.load('attention'); maps = Path('/proc/self/maps').read_text();"
        r"print(*set(re.findall(r'\S*/lib(?:gomp|iomp5|omp)[-.]\S*', maps)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert len(done.stdout.split()) == 1


@pytest.mark.parametrize("lacking", ["instructions", "permission", "threads", "compiler", "build", "folder"])
def test_whatever_is_lacking_is_no_error(
    lacking: str, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device, "instruction_sets", lambda: frozenset(build.SETS))
    monkeypatch.setattr(build, "tiles_allowed", lambda: True)
    monkeypatch.setattr(build, "openmp", lambda: Path("/lib/libgomp.so.1"))
    monkeypatch.setattr(device, "compiler", lambda: sys.executable)  # which compiles nothing
    if lacking == "instructions":
        monkeypatch.setattr(device, "instruction_sets", lambda: frozenset(build.SETS) - {"amx_bf16"})
    elif lacking == "permission":
        monkeypatch.setattr(build, "tiles_allowed", lambda: False)
    elif lacking == "threads":
        monkeypatch.setattr(build, "openmp", lambda: None)
    elif lacking == "compiler":
        monkeypatch.setattr(device, "compiler", lambda: None)
    elif lacking == "folder":
        (empty_cache / "ingot").write_text("not a folder")
    assert build.load("attention") is None
    assert not list(empty_cache.rglob("*.so"))
