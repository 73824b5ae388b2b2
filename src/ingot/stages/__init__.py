"""The stages, one file each; this table finds their classes without importing them.

```
prepare -> tokenizer -> pretrain -> finetune -> align -> compress -> evaluate -> report      the main job
examples -> [ encode -> ] classify | tag | answer | embed                                    encoders
examples -> translate      prepare -> encode      prepare -> denoise                         other objectives
```
"""

from __future__ import annotations

import importlib
from typing import Any

from ingot.errors import ConfigError, did_you_mean

STAGES: dict[str, tuple[str, str]] = {
    "prepare": ("ingot.stages.prepare", "Prepare"),
    "tokenizer": ("ingot.stages.tokenizer", "TrainTokenizer"),
    "pretrain": ("ingot.stages.pretrain", "Pretrain"),
    "finetune": ("ingot.stages.finetune", "Finetune"),
    "align": ("ingot.stages.align", "Align"),
    "compress": ("ingot.stages.compress", "Compress"),
    "evaluate": ("ingot.stages.evaluate", "Evaluate"),
    "report": ("ingot.stages.report", "Report"),
    "examples": ("ingot.stages.examples", "Examples"),
    "encode": ("ingot.stages.encode", "Encode"),
    "classify": ("ingot.stages.classify", "Classify"),
    "tag": ("ingot.stages.tag", "Tag"),
    "answer": ("ingot.stages.answer", "Answer"),
    "embed": ("ingot.stages.embed", "Embed"),
    "translate": ("ingot.stages.translate", "Translate"),
    "denoise": ("ingot.stages.denoise", "Denoise"),
}


def stage_class(name: str, where: object = "recipe") -> Any:
    """Returns the class of the stage called `name`.

    Raises:
        ConfigError: there is no such stage; names the nearest one.
    """
    module, attribute = _find(name, where)
    return getattr(importlib.import_module(module), attribute)


def config_class(name: str, where: object = "recipe") -> Any:
    """Returns the configuration class of the stage called `name`."""
    module, attribute = _find(name, where)
    return getattr(importlib.import_module(module), attribute + "Config")


def _find(name: str, where: object) -> tuple[str, str]:
    if name not in STAGES:
        raise ConfigError(f"unknown stage '{name}'", where=where, fix=did_you_mean(name, STAGES))
    return STAGES[name]
