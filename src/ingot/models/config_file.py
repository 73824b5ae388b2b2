"""`config.json`: what a folder says of its model, read and refused alike for every kind of model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ingot.errors import ArtifactError, ConfigError

CONFIG = "config.json"
AGAIN = "copy or make it anew"

Read = TypeVar("Read")


def read_keys(folder: Path) -> dict[str, Any]:
    """Returns everything that a folder's `config.json` says.

    Raises:
        ArtifactError: there is none, it is not readable, or it asks for code of its own.
    """
    path = folder / CONFIG
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        what = "no config.json: not a model folder"
        raise ArtifactError(what, where=folder, fix="name a model folder") from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ArtifactError("not readable as JSON", where=path, fix=AGAIN) from None
    if not isinstance(raw, dict):
        raise ArtifactError("holds no keys", where=path, fix=AGAIN)
    if raw.get("auto_map"):
        fix = "use a version of the model that needs no code (look for one without auto_map)"
        raise ArtifactError("asks to run code of its own (auto_map): refused", where=path, fix=fix)
    return raw


def understood(read: Callable[[dict[str, Any]], Read], raw: dict[str, Any], folder: Path) -> Read:
    """Returns what a family makes of the keys.

    Args:
        read: of the family.
        raw: what the folder says.
        folder: to name in errors.

    Raises:
        ArtifactError: a key is missing, or holds what cannot be used.
    """
    path = folder / CONFIG
    try:
        return read(raw)
    except KeyError as missing:
        what = f"key {missing} is missing, which {raw['architectures'][0]} has"
        raise ArtifactError(what, where=path, fix=AGAIN) from None
    except (ConfigError, ArtifactError) as error:
        raise ArtifactError(error.what, where=error.where or path, fix=error.fix or AGAIN) from None
    except (TypeError, ValueError, AttributeError, ZeroDivisionError) as error:
        raise ArtifactError(f"holds a value that cannot be used ({error})", where=path, fix=AGAIN) from None
