"""The machine: what is said about it is what other sources say."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
import torch

from ingot import device
from ingot.errors import ConfigError, IngotError, ResourceError


def test_cores_and_threads_stay_within_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert 1 <= device.threads() <= device.cores() <= (os.cpu_count() or 1)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert device.threads() == 3


def test_threads_are_set() -> None:
    before = torch.get_num_threads()
    try:
        assert device.prepare_threads(1) == 1 == torch.get_num_threads()
        tiny = torch.full((1,), 1e-38) * torch.full((1,), 1e-5)
        assert tiny.item() == 0.0
    finally:
        torch.set_num_threads(before)


@pytest.mark.skipif(
    platform.machine() != "x86_64" or sys.platform != "linux", reason="as torch names them there"
)
def test_instruction_sets_agree_with_torch() -> None:
    best = torch.backends.cpu.get_cpu_capability()
    assert ("avx2" in device.instruction_sets()) == (best in ("AVX2", "AVX512"))
    if best == "AVX512":
        assert "avx512f" in device.instruction_sets()


def test_devices() -> None:
    assert device.resolve("cpu") == "cpu"
    assert device.resolve() == ("cuda" if torch.cuda.is_available() else "cpu")
    with pytest.raises(ConfigError, match="did you mean 'cuda'"):
        device.resolve("cud")
    with pytest.raises(ConfigError, match="unknown device"):
        device.resolve("cpu:x")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is CUDA here")
@pytest.mark.parametrize("name", ["cuda", "cuda:1"])
def test_cuda_where_there_is_none(name: str) -> None:
    with pytest.raises(ResourceError, match="use --device cpu"):
        device.resolve(name)


def test_the_best_number_type_follows_the_instruction_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    for names, dtype in (
        ({"avx2"}, torch.float32),
        ({"avx512_bf16"}, torch.bfloat16),
        ({"amx_bf16", "amx_tile"}, torch.bfloat16),
    ):
        monkeypatch.setattr(device, "instruction_sets", lambda names=names: frozenset(names))
        assert device.best_dtype("cpu") == dtype
        assert device.best_dtype("mps") == torch.float32


def test_a_compiler_without_headers_is_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    found = device.compiler()
    if found is not None:
        assert subprocess.run([found, "--version"], capture_output=True, check=False).returncode == 0
    device.compiler.cache_clear()
    monkeypatch.setattr(device.sysconfig, "get_path", lambda name: "/absent")
    monkeypatch.setenv("CPLUS_INCLUDE_PATH", "")
    try:
        assert device.compiler() is None
    finally:
        device.compiler.cache_clear()


def test_measurements_are_of_the_right_size() -> None:
    assert 1e8 < device.measure_gemm(torch.float32, seconds=0.05) < 1e16
    assert 1e8 < device.measure_bandwidth(seconds=0.05) < 1e14


def test_memory_is_in_bytes() -> None:
    program = "from ingot.device import peak_memory; x = b'1' * 300_000_000; print(peak_memory())"
    peak = int(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
    assert 300e6 < peak < 500e6
    assert device.memory() > peak


def test_the_machine_in_words() -> None:
    facts = device.describe()
    assert facts["python"] == platform.python_version()
    assert facts["torch"] == torch.__version__
    assert facts["cpu"]
    assert facts["memory"] == device.memory()
    assert device.version_of("no-such-package-here") is None


def test_errors_here_are_for_people() -> None:
    with pytest.raises(IngotError) as caught:
        device.resolve("gpu")
    assert caught.value.exit_code == 2
