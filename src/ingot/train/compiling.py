"""What torch.compile finds out anew in every process, remembered."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch

from ingot import device as machine
from ingot.atomic import write_atomic


def trust_vector_instructions() -> bool:
    """Spares this process the trial of the processor's instruction sets that torch.compile begins with.

    The trial starts an interpreter per instruction set and takes nearly a second, every time. Here the
    first process makes it and leaves a mark beside the compiler's cache; others, with the same torch,
    processor and C++ compiler, go by the mark.

    Returns:
        Whether the instruction sets are known to work, so that torch need not try them.
    """
    compiler = machine.compiler()
    if compiler is None:
        return False
    try:
        from torch._inductor import config
        from torch._inductor.cpu_vec_isa import valid_vec_isa_list
        from torch._inductor.runtime.cache_dir_utils import cache_dir

        what = (
            torch.__version__,
            compiler,
            Path(compiler).stat().st_mtime_ns,
            sorted(machine.instruction_sets()),
        )
        mark = Path(cache_dir(), f"ingot-vectors-{hashlib.sha256(repr(what).encode()).hexdigest()[:16]}")
        if not mark.exists():
            tried = {str(one) for one in valid_vec_isa_list()}
            if not _same_if_trusted(tried):
                return False
            mark.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(mark, "")
        config.cpp.vec_isa_ok = True
    except (ImportError, AttributeError, OSError):  # another torch keeps these elsewhere, or no folder
        return False
    return True


def _same_if_trusted(tried: set[str]) -> bool:
    """Whether torch, when it tries nothing, takes exactly the instruction sets that passed its trial."""
    from torch._inductor import config
    from torch._inductor.cpu_vec_isa import valid_vec_isa_list

    before = config.cpp.vec_isa_ok
    try:
        config.cpp.vec_isa_ok = True
        valid_vec_isa_list.cache_clear()
        return {str(one) for one in valid_vec_isa_list()} == tried
    finally:
        config.cpp.vec_isa_ok = before
        valid_vec_isa_list.cache_clear()
