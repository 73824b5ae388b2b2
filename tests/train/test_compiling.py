"""What the mark remembers is what torch finds out when it tries for itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ingot import device

TRIED = """
import json
from torch._inductor.cpu_vec_isa import valid_vec_isa_list
{first}
found = [sorted(str(one) for one in valid_vec_isa_list())]
valid_vec_isa_list.cache_clear()
{then}
found.append(sorted(str(one) for one in valid_vec_isa_list()))
print(json.dumps(found))
"""
TRUST = "from ingot.train.compiling import trust_vector_instructions; trust_vector_instructions()"


def _found(cache: Path, first: str = "", then: str = "") -> list[list[str]]:
    """What one process finds, twice, and what it does before either."""
    done = subprocess.run(
        [sys.executable, "-c", TRIED.format(first=first, then=then)],
        env={**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        check=True,
    )
    return list(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.skipif(device.compiler() is None, reason="no C++ compiler")
def test_trusted_instruction_sets_are_those_that_work(tmp_path: Path) -> None:
    tried, marked = _found(tmp_path, then=TRUST)
    assert marked == tried  # and left the mark
    if not list(tmp_path.glob("ingot-vectors-*")):
        pytest.skip("torch takes another choice here when it does not try")
    assert _found(tmp_path, TRUST) == [tried, tried]  # goes by it
