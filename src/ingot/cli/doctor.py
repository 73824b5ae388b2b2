"""`ingot doctor`: what this machine has, what it can do at best, and what is missing for what."""

from __future__ import annotations

import shutil
from typing import Any

from ingot.cli.options import Json, show_json

PACKAGES = {
    "transformers": "loading ingot's models in transformers (pip install 'ingot[hf]')",
    "compressed-tensors": "loading int8 models in transformers (pip install 'ingot[hf]')",
}
CORE = ("numpy", "pyarrow", "safetensors", "tiktoken", "tokenizers", "fastapi", "matplotlib")


def doctor(as_json: Json = False) -> None:
    """Say what this machine is, measure its peaks, and name what is missing for what.

    Example: ingot doctor --json
    """
    facts = examine()
    if as_json:
        show_json(facts)
        return
    for key, value in facts["machine"].items():
        print(f"{key:17}{_words(key, value)}")
    for key, value in facts["measured"].items():
        print(f"{key:17}{value / 1e9:,.1f} {'GB/s' if key == 'memory copies' else 'GFLOP/s'}")
    versions = ", ".join(f"{name} {version}" for name, version in facts["packages"].items() if version)
    print(f"{'packages':17}{versions}")
    for what in facts["missing"]:
        print(f"{'missing':17}{what}")


def examine() -> dict[str, Any]:
    """Returns the machine, its measured peaks, versions and what is missing, as plain data.

    Products are in floating point operations per second, copies in bytes per second.
    """
    import torch

    from ingot import device

    device.prepare_threads()
    place = device.resolve("auto")
    measured = {
        "fp32 products": device.measure_gemm(torch.float32, device=place),
        "bf16 products": device.measure_gemm(torch.bfloat16, device=place),
        "memory copies": device.measure_bandwidth(device=place),
    }
    machine = device.describe() | {
        "trains on": place,
        "number type": str(device.best_dtype(place)).removeprefix("torch."),
        "compiler": device.compiler(),
        "disk free": shutil.disk_usage(".").free,
    }
    packages = {name: device.version_of(name) for name in (*CORE, *PACKAGES)}
    return {
        "machine": machine,
        "measured": measured,
        "packages": packages,
        "missing": _missing(machine, packages),
    }


def _missing(machine: dict[str, Any], packages: dict[str, str | None]) -> list[str]:
    missing = [f"{name}: for {what}" for name, what in PACKAGES.items() if packages[name] is None]
    missing += [f"{name}: a core dependency (pip install ingot)" for name in CORE if packages[name] is None]
    if machine["compiler"] is None:
        fix = "install a C++ compiler and Python's headers (Debian: g++ python3-dev)"
        missing.append(f"compiler: for torch.compile, which makes training faster; {fix}")
    if machine["trains on"] == "cpu" and machine["number type"] == "float32":
        missing.append("AMX or AVX512-BF16: for fast training on a processor; give it more minutes")
    return missing


def _words(key: str, value: Any) -> str:
    if key in ("memory", "disk free"):
        return f"{value / 2**30:.1f} GiB"
    if isinstance(value, list):
        return " ".join(value) or "none that matter"
    return "none" if value is None else str(value)
