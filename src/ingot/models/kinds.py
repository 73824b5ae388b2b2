"""Which kind of model a folder holds, by the architecture that its `config.json` names.

```
decoder          writes on, token by token; pages of keys and values    Qwen3, Llama, GPT-2, ...
linear_decoder   writes on; a state of fixed size                       Qwen3-Next's layers
encoder_decoder  rewrites a source                                      T5, Marian
encoder          reads: vectors, classes, masked tokens                 BERT, RoBERTa, ModernBERT
```
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from ingot.models import encoder_decoder_folder, encoder_folder, huggingface, linear_folder
from ingot.models.config_file import read_keys
from ingot.models.families import marian, qwen3_next, t5


class Kind(NamedTuple):
    """A kind of model.

    Args:
        artifact: what the record of such an artifact calls it.
        words: what it is, for sentences.
        door: the module that reads and writes such folders: `read_config`, `load`, `save`.
    """

    artifact: str
    words: str
    door: ModuleType


DECODER = Kind("model", "a decoder", huggingface)
LINEAR_DECODER = Kind("linear_decoder", "a linear-time decoder", linear_folder)
ENCODER_DECODER = Kind("encoder_decoder", "an encoder-decoder", encoder_decoder_folder)
ENCODER = Kind("encoder", "an encoder", encoder_folder)

KINDS = (DECODER, LINEAR_DECODER, ENCODER_DECODER, ENCODER)

_ARCHITECTURES: dict[Kind, frozenset[str]] = {
    ENCODER: frozenset(name for family in encoder_folder.FAMILIES for name in family.ARCHITECTURES),
    ENCODER_DECODER: frozenset({*t5.ARCHITECTURES, *marian.ARCHITECTURES}),
    LINEAR_DECODER: frozenset(qwen3_next.ARCHITECTURES),
}


def kind_of(folder: Path) -> tuple[Kind, dict[str, Any]]:
    """Returns what kind of model a folder holds, and everything that its `config.json` says.

    Args:
        folder: with `config.json`; the weights are not looked at.

    Raises:
        ArtifactError: no readable `config.json`, an architecture that is not built here, or one with code of
            its own.

    Example:
        >>> kind_of(Path("models/bert"))[0].words
        'an encoder'
    """
    raw = read_keys(folder)
    named = raw.get("architectures")
    for kind, architectures in _ARCHITECTURES.items():
        if isinstance(named, list) and architectures & {name for name in named if isinstance(name, str)}:
            kind.door.read_config(folder)
            return kind, raw
    return DECODER, huggingface.read_config(folder)[1]
