"""Whether a model of ours computes what `transformers` makes of the folder that it came from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ingot.errors import ArtifactError, ResourceError
from ingot.models import huggingface

TOLERANCE = 1e-4
"""Of a logit, in float32; of larger logits that share."""

_TOKENS = 32


def difference(theirs: Path, ours: Path, dtype: torch.dtype) -> float:
    """Returns the largest difference of logits between a decoder's folder in `transformers` and one of ours.

    Both compute in float32, from weights rounded to `dtype`.

    Args:
        theirs: the folder as it came.
        ours: the folder as it was written here.
        dtype: that ours is stored in.

    Raises:
        ArtifactError: they differ by more than `TOLERANCE`.
        ResourceError: `transformers` is not installed.
    """
    try:
        from transformers import AutoModelForCausalLM
        from transformers.utils import logging
    except ImportError:
        fix = "pip install 'ingot[hf]'"
        raise ResourceError("the package 'transformers' is missing", where="--check", fix=fix) from None
    model = huggingface.load(ours)
    logging.disable_progress_bar()
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        theirs, dtype=torch.float32, trust_remote_code=False, local_files_only=True, use_safetensors=True
    )
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.copy_(parameter.to(dtype))
        count = min(_TOKENS, model.config.context)
        generator = torch.Generator().manual_seed(0)
        tokens = torch.randint(0, model.config.vocabulary, (2, count), generator=generator)
        here = model(tokens).logits
        there = loaded.eval()(tokens).logits
    assert here is not None
    largest = float((here - there).abs().max())
    allowed = TOLERANCE * max(1.0, float(there.abs().max()))
    if not largest <= allowed:
        what = f"logits differ by {largest:.1e} from transformers', where {allowed:.1e} are allowed"
        raise ArtifactError(what, where=theirs, fix="tell us which model it is; do not use the import")
    return largest
