"""A run folder as a real demo leaves it, but written in a second: plausible numbers, real records."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from ingot.artifact import Artifact, publish, read, write_record
from ingot.data.document import Dropped
from ingot.data.tables import Table, ledger_row, ledger_schema

MINED = '''Here it is:
```python
def normpath(path):
    """Normalize path, eliminating double slashes, etc."""
    if not path:
        return "."
    parts = [part for part in path.split("/") if part and part != "."]
    return "/".join(parts)
```'''
RAMBLING = """
    def __init__(self, name, default=None):
        self.name = name
        self.default = default

    def __repr__(self):
        return '%s(%r)' % (self.__class__.__name__, self.name)
"""

RECIPE = """name: demo
minutes: 12
seed: 0
stages: {prepare: {}, tokenizer: {}, pretrain: {share: 0.58}}
"""


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def loss_curve(start: float, floor: float, steps: int, seed: int) -> list[dict[str, Any]]:
    noise = random.Random(seed)
    rows = []
    for step in range(1, steps + 1):
        loss = floor + (start - floor) * math.exp(-4.2 * (step / steps) ** 0.42) + noise.gauss(0, 0.05)
        row = {"step": step, "loss": loss, "rate": 1.0, "tokens": step * 4096, "seconds": step * 0.2}
        if step % max(1, steps // 8) == 0:
            row["validation"] = loss + 0.06
        rows.append(row)
    return rows


def reward_curve(steps: int) -> list[dict[str, Any]]:
    noise = random.Random(7)
    rows = []
    for step in range(1, steps + 1):
        success = min(1.0, max(0.0, 0.62 + 0.2 * (1 - math.exp(-step / 40)) + noise.gauss(0, 0.05)))
        length = 88 - 20 * step / steps + noise.gauss(0, 5)
        reward = 0.1 + 0.9 * success
        rows.append({"step": step, "loss": noise.gauss(0, 0.01), "reward": reward, "success": success})
        rows[-1] |= {"length": length, "seconds": step * 0.8, "tokens": step * 5600}
    return rows


def judged(name: str, bits: float, success: float, parse: float, speed: float, size: int) -> dict[str, Any]:
    return {
        "folder": f"{name}@1",
        "bits_per_byte": bits,
        "bits_per_byte_interval": [bits - 0.034, bits + 0.036],
        "success": success,
        "success_interval": [max(0.0, success - 0.046), min(1.0, success + 0.045)],
        "parse": parse,
        "parse_interval": [max(0.0, parse - 0.04), min(1.0, parse + 0.035)],
        "decode_tokens_per_second": speed,
        "bytes": size,
        "parameters": 6_293_760,
    }


def full_evaluation() -> dict[str, Any]:
    models = {
        "base": judged("base", 1.387, 0.012, 0.081, 212.4, 25_180_224),
        "finetuned": judged("finetuned", 1.452, 0.641, 0.874, 210.8, 25_180_224),
        "aligned": judged("aligned", 1.458, 0.803, 0.967, 211.9, 25_180_224),
        "int8": {**judged("int8", 1.4593, 0.8, 0.965, 248.1, 6_512_340), "of": "aligned"},
    }

    def compare(
        start: str, end: str, metric: str, difference: float, low: float, high: float
    ) -> dict[str, Any]:
        excludes = low * high > 0
        pair = {"from": start, "to": end, "metric": metric, "difference": difference}
        return {**pair, "interval": [low, high], "excludes_zero": excludes}

    return {
        "heldout": {"documents": 41, "bytes": 612_404},
        "xz": {"bits_per_byte": 1.796, "command": "xz -9e"},
        "models": models,
        "comparisons": [
            compare("base", "finetuned", "success", 0.629, 0.575, 0.684),
            compare("finetuned", "aligned", "success", 0.162, 0.108, 0.217),
            compare("aligned", "int8", "success", -0.003, -0.015, 0.009),
            compare("aligned", "int8", "bits_per_byte", 0.0009, 0.0004, 0.0013) | {"relative": True},
        ],
        "prompts": 320,
        "targets": [
            {"name": "held-out bits per byte of base at most 1.45", "value": 1.387, "met": True},
            {"name": "finetuned succeeds more often than base", "value": 0.629, "met": True},
            {"name": "aligned succeeds more often than finetuned", "value": 0.162, "met": True},
            {"name": "int8 at most 32 % of the fp32 bytes", "value": 0.259, "met": True},
            {"name": "the whole job in 15 minutes", "value": 15.4, "met": False},
        ],
        "machine": {
            "cpu": "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
            "cores": 2,
            "threads": 2,
            "memory": 16_640_000_000,
            "instruction_sets": ["avx2", "avx512f", "avx512_bf16", "amx_bf16"],
            "gpu": None,
            "os": "Linux 6.1",
            "python": "3.11.9",
            "torch": "2.13.0+cpu",
            "ingot": "0.1.0",
        },
    }


def some_samples() -> list[dict[str, Any]]:
    asked = (
        "Write a function `normpath(path)` that normalizes a path, eliminating double slashes.",
        "Write a function `is_tracing()` that returns True if traces are being recorded.",
        "Write a function `quote(text, safe)` that quotes the characters which are special in a URL.",
    )
    other = MINED.replace("normpath", "is_tracing")
    return [
        {"prompt": one, "answers": {"base": RAMBLING, "finetuned": MINED, "aligned": other, "int8": other}}
        for one in asked
    ]


def some_drops() -> list[dict[str, Any]]:
    near = {"reason": "near duplicate", "detail": "similarity 0.930 with encodings/cp1250.py"}
    return [
        *[{"path": f"encodings/cp{k}.py", **near} for k in range(437, 479)],
        *[{"path": f"lib2to3/{n}/__init__.py", "reason": "empty", "detail": "0 bytes"} for n in "abcdef"],
        {"path": "pydoc_data/topics.py", "reason": "generated", "detail": "says so in its first line"},
    ]


COUNTS = {
    "files": 1004,
    "bytes_read": 11_947_600,
    "documents": {"train": 914, "heldout": 41},
    "bytes": {"train": 9_871_220, "heldout": 612_404},
}
SHAPE = {
    "hidden_size": 256,
    "num_hidden_layers": 6,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
}
WEIGHTS = {"parameters": 6_293_760}


def plan(steps: int, expected: float, **more: Any) -> dict[str, Any]:
    train = {"steps": steps, "precision": "bf16", "compile": False}
    return {"train": train, "expected_seconds": expected, **more}


PREDICTED = {
    "tokens": 7_086_080,
    "seconds": 418.0,
    "tokens_per_second": 16_952.3,
    "memory": 1_900_000_000,
    "bits_per_byte": {"value": 1.342, "interval": [1.22, 1.476], "basis": "our own runs"},
    "validation": {"value": 3.17, "interval": [2.88, 3.48]},
}


@dataclass(frozen=True)
class Made:
    """One stage of the synthetic run and what it leaves behind."""

    stage: str
    artifact: str
    kind: str
    needs: tuple[str, ...]
    seconds: float
    files: Mapping[str, Any]
    metrics: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def stages(evaluation: Any, samples: Any, ledger: Any) -> list[Made]:
    training = {"config.json": SHAPE}
    return [
        Made(
            "prepare", "corpus", "corpus", (), 21.4,
            {"inputs.jsonl": [{"path": "/usr/lib/os.py"}], "ledger/0.parquet": ledger, "counts.json": COUNTS},
            {"files": 1004, "dropped": len(ledger)}, {"data": None},
            ("The corpus is the standard library of CPython 3.11.9.",),
        ),
        Made(
            "tokenizer", "tokenizer", "tokenizer", ("prepare",), 18.2, {"tokens.json": {}},
            {"vocabulary": 4096, "bytes_per_token": 3.41, "tokens": 2_894_788}, {"vocabulary": 4096},
        ),
        Made(
            "pretrain", "base", "model", ("tokenizer",), 431.7,
            {
                **training, "plan.json": plan(1730, 418.0, predicted=PREDICTED),
                "metrics.jsonl": loss_curve(8.3, 2.6, 1730, 1),
            },
            {
                **WEIGHTS, "steps": 1730, "tokens": 7_086_080, "seconds": 421.9, "loss": 2.9,
                "tokens_per_second": 16_795.6, "peak_memory": 2_140_000_000,
            },
            {"minutes": 6.96},
            ("torch.compile was left off: it would have cost more than it saves.",),
        ),
        Made(
            "finetune", "finetuned", "model", ("tokenizer", "prepare", "pretrain"), 66.3,
            {**training, "plan.json": plan(260, 64.8), "metrics.jsonl": loss_curve(3.9, 1.7, 260, 2)},
            {**WEIGHTS, "tokens": 1_064_960, "seconds": 62.0, "mined": 6407, "used": 6120}, {"minutes": 1.08},
        ),
        Made(
            "align", "aligned", "model", ("tokenizer", "prepare", "finetune", "pretrain"), 118.9,
            {**training, "plan.json": plan(140, 115.2), "metrics.jsonl": reward_curve(140)},
            {**WEIGHTS, "tokens": 784_000, "seconds": 114.0, "prompts": 1480}, {"minutes": 1.92},
        ),
        Made(
            "compress", "int8", "model", ("pretrain", "finetune", "align"), 2.1, training,
            {**WEIGHTS, "of": "aligned", "bytes": 6_512_340, "fp32_bytes": 25_175_040},
        ),
        Made(
            "evaluate", "evaluation", "evaluation",
            ("prepare", "pretrain", "finetune", "align", "compress"), 142.0,
            {"evaluation.json": evaluation, "samples.json": samples}, {"peak_memory": 2_140_000_000},
        ),
    ]  # fmt: skip


def written(name: str, content: Any) -> str:
    return lines(content) if name.endswith(".jsonl") else json.dumps(content)


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    if path.suffix == ".parquet":
        with Table(path, ledger_schema()) as table:
            for row in content:
                table.add(ledger_row(Dropped(**row)))
    else:
        path.write_text(written(path.name, content), encoding="utf-8")


def publish_stage(run: Path, one: Made, parents: Mapping[str, Artifact], left_out: str | None) -> Artifact:
    final = run / f"{one.artifact}@1"
    gone = left_out is not None
    with publish(final) as folder:
        for name, content in [] if gone else one.files.items():
            write(folder / name, content)
        write_record(
            folder,
            kind=one.kind,
            name=one.artifact,
            stage=one.stage,
            parents={need: parents[need] for need in one.needs},
            config=one.config,
            metrics={} if gone else one.metrics,
            seconds=0.4 if gone else one.seconds,
            left_out=left_out,
            notes=() if gone else one.notes,
        )
    return read(final)


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., tuple[Path, dict[str, Artifact]]]:
    """Returns a function that writes a run folder and returns it with its artifacts by stage name.

    `left_out` maps stage names to reasons; `evaluation`, `samples`, `ledger` replace what stands there.
    """

    def make(
        left_out: Mapping[str, str] | None = None,
        evaluation: Any = None,
        samples: Any = None,
        ledger: Any = None,
        name: str = "demo",
    ) -> tuple[Path, dict[str, Artifact]]:
        run = tmp_path / "runs" / name
        run.mkdir(parents=True)
        (run / "recipe.yaml").write_text(RECIPE)
        made: dict[str, Artifact] = {}
        for one in stages(
            full_evaluation() if evaluation is None else evaluation,
            some_samples() if samples is None else samples,
            some_drops() if ledger is None else ledger,
        ):
            made[one.stage] = publish_stage(run, one, made, (left_out or {}).get(one.stage))
        return run, made

    return make
