"""Whether a model of ours computes what `transformers` makes of the folder that it came from.

```
decoder, linear-time decoder   logits of every token
encoder                        what its head says, or the hidden states of one without a head
encoder-decoder                logits of a target, given a source
```
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ingot.errors import ArtifactError, ResourceError
from ingot.models.kinds import ENCODER, ENCODER_DECODER, kind_of

TOLERANCE = 1e-4
"""Of a logit, in float32; of larger logits that share."""

_TOKENS = 32


def difference(theirs: Path, ours: Path, dtype: torch.dtype) -> float:
    """Returns the largest difference of logits between a folder in `transformers` and one of ours.

    Both compute in float32, from weights rounded to `dtype`.

    Args:
        theirs: the folder as it came, of any kind that `models.kinds` knows.
        ours: the folder as it was written here.
        dtype: that ours is stored in.

    Raises:
        ArtifactError: they differ by more than `TOLERANCE`.
        ResourceError: `transformers` is not installed.
    """
    try:
        import transformers
        from transformers.utils import logging
    except ImportError:
        fix = "pip install 'ingot[hf]'"
        raise ResourceError("the package 'transformers' is missing", where="--check", fix=fix) from None
    kind, raw = kind_of(ours)
    model: Any = kind.door.load(ours)
    logging.disable_progress_bar()
    # The class that the folder names, which `kind_of` knows; an automatic one would pick by model type only.
    named = raw["architectures"][0]
    automatic = "AutoModelForSeq2SeqLM" if kind is ENCODER_DECODER else "AutoModelForCausalLM"
    chosen = getattr(transformers, named if kind is ENCODER else automatic)
    loaded: Any = chosen.from_pretrained(
        theirs, dtype=torch.float32, trust_remote_code=False, local_files_only=True, use_safetensors=True
    )
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.copy_(parameter.to(dtype))
        tokens = _tokens(model.config)
        compared = {ENCODER: _encoded, ENCODER_DECODER: _rewritten}.get(kind, _written)
        here, there = compared(model, loaded.eval(), tokens)
    largest = float((here - there).abs().max())
    allowed = TOLERANCE * max(1.0, float(there.abs().max()))
    if not largest <= allowed:
        what = f"logits differ by {largest:.1e} from transformers', where {allowed:.1e} are allowed"
        raise ArtifactError(what, where=theirs, fix="tell us which model it is; do not use the import")
    return largest


def _tokens(config: Any) -> Tensor:
    """Two texts of any tokens but padding, which models read in ways of their own."""
    count = min(_TOKENS, config.context)
    tokens = torch.randint(0, config.vocabulary, (2, count), generator=torch.Generator().manual_seed(0))
    padding = getattr(config, "padding", None)
    return tokens if padding is None else tokens.where(tokens != padding, (padding + 1) % config.vocabulary)


def _written(ours: Any, theirs: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    return ours(tokens).logits, theirs(tokens).logits


def _rewritten(ours: Any, theirs: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    target = tokens.flip(1)
    return ours(tokens, target).logits, theirs(tokens, decoder_input_ids=target).logits


def _encoded(ours: Any, theirs: Any, tokens: Tensor) -> tuple[Tensor, Tensor]:
    here, there = ours(tokens), theirs(tokens, attention_mask=torch.ones_like(tokens))
    if here.logits is None:
        return here.hidden, there.last_hidden_state
    if ours.config.head.task == "span":
        return here.logits, torch.stack([there.start_logits, there.end_logits], -1)
    return here.logits, there.logits
