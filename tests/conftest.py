"""What all tests share: slow tests only when asked for, few threads, no network, a tiny corpus."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Where pytest-xdist runs several processes, each gets one thread: more would wait for one another.
THREADS = 1 if "PYTEST_XDIST_WORKER" in os.environ else min(2, os.cpu_count() or 1)
os.environ.setdefault("OMP_NUM_THREADS", str(THREADS))
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Started in the background of a shell: processes that tests start, and interrupt, would be deaf as well.
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("MPLBACKEND", "Agg")

# A crowded machine is slow at making examples, too, and that is no fault of theirs.
settings.register_profile("ingot", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ingot")

VERBS = ("add", "count", "find", "join", "keep", "merge", "parse", "read", "split", "write")
THINGS = ("numbers", "words", "lines", "pairs")
BODIES = (
    "total = 0\n    for item in {thing}:\n        total += len(str(item))\n    return total",
    "return sorted({thing}, key=str)[: {number}]",
    "found = [item for item in {thing} if item]\n    return found or [{number}]",
    "if not {thing}:\n        raise ValueError('no {thing} to {verb}')\n    return {thing}[0]",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("SLOW") not in (None, "", "0") or os.environ.get("CI") == "true":
        return
    skip = pytest.mark.skip(reason="slow; run with SLOW=1")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


def write_corpus(folder: Path, modules: int = 40) -> Path:
    """Writes small Python modules with docstrings and a few Markdown pages, the same ones every time."""
    for index in range(modules):
        verb, thing = VERBS[index % len(VERBS)], THINGS[index // len(VERBS) % len(THINGS)]
        functions = []
        for extra in range(3):
            number = index * 3 + extra
            body = BODIES[number % len(BODIES)].format(thing=thing, number=number, verb=verb)
            head = f"def {verb}_{thing}_{number}({thing}, limit={number}):"
            doc = f'"""{verb.capitalize()} the {thing} up to limit {number}, and return what is left."""'
            functions.append(f"{head}\n    {doc}\n    {body}\n")
        text = f'"""Module {index}: how to {verb} {thing}."""\n\n\n' + "\n\n".join(functions)
        path = folder / "code" / f"{verb}_{thing}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for index, verb in enumerate(VERBS[:6]):
        sections = [
            f"## How to {verb} {thing}\n\nTo {verb} {thing}, call `{verb}_{thing}` with a list. "
            f"It stops at the limit number {index}, and gives back the {thing} that are left.\n"
            for thing in THINGS
        ]
        path = folder / "pages" / f"{verb}.md"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"# {verb.capitalize()}\n\n" + "\n".join(sections), encoding="utf-8")
    return folder


@pytest.fixture
def tiny_corpus(tmp_path: Path) -> Path:
    """A folder of about forty small Python modules and six Markdown pages."""
    return write_corpus(tmp_path / "corpus")


@pytest.fixture(autouse=True)
def denormal_numbers() -> Iterator[None]:
    """Gives the next test back what `device.prepare_threads` switches off for the whole process."""
    yield
    if "torch" in sys.modules:
        sys.modules["torch"].set_flush_denormal(False)
