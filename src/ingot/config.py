"""Configuration: frozen models beside the things they configure, YAML both ways, dotted overrides.

A `Config` is a frozen pydantic model. Unknown keys fail and name the nearest right one; wrong types
fail and name the key, the value and what was expected.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, get_args, get_origin

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from ingot.errors import ConfigError, did_you_mean

SHOWN = 200
"""Characters of a wrong value that an error repeats."""


class Config(BaseModel):
    """Base of every configuration: immutable, closed to unknown keys, convertible to plain data."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, protected_namespaces=())

    @classmethod
    def parse(cls, values: Mapping[str, Any], where: object = None) -> Self:
        """Makes the configuration from plain data.

        Args:
            values: keys and values, as YAML gives them.
            where: what to call the source in an error.

        Raises:
            ConfigError: an unknown key (with the nearest right name) or a value of the wrong type.
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise _explain(cls, error, where) from None

    def plain(self) -> dict[str, Any]:
        """Returns the configuration as plain data (what JSON and YAML can hold)."""
        return self.model_dump(mode="json")


def _explain(cls: type[BaseModel], error: ValidationError, where: object) -> ConfigError:
    first = error.errors()[0]
    path = [str(part) for part in first["loc"]]
    key = ".".join(path)
    prefix = ": ".join(part for part in (str(where or ""), key) if part)
    given = repr(first["input"])
    given = given if len(given) <= SHOWN else f"{given[:SHOWN]} ..."
    if first["type"] == "extra_forbidden":
        known = _fields_at(cls, path[:-1])
        return ConfigError(f"unknown key '{path[-1]}'", where=prefix, fix=did_you_mean(path[-1], known))
    if first["type"] == "missing":
        return ConfigError(f"'{path[-1]}' is missing", where=prefix, fix="give it a value")
    if first["type"] == "literal_error":
        expected = first["ctx"]["expected"]
        fix = did_you_mean(str(first["input"]), re.findall("'(.*?)'", expected))
        return ConfigError(f"{given} is not {expected}", where=prefix, fix=fix)
    message = first["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    return ConfigError(f"{given} cannot be used: {message}", where=prefix)


def _fields_at(annotation: Any, path: Sequence[str]) -> list[str]:
    """The field names of the model that `path` leads to, through models, mappings and sequences of them."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        if not path:
            return list(annotation.model_fields)
        field = annotation.model_fields.get(path[0])
        return [] if field is None else _fields_at(field.annotation, path[1:])
    inside = [one for one in get_args(annotation) if one is not Ellipsis]
    if get_origin(annotation) in (dict, Mapping, list, tuple, Sequence):  # a part of the path is its key
        return _fields_at(inside[-1], path[1:]) if inside and path else []
    return next((fields for one in inside if (fields := _fields_at(one, path))), [])


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML mapping.

    Raises:
        ConfigError: the file is missing, is not YAML, or holds no mapping.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError("no such file", where=path, fix="check the path") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = str(error).replace("\n", " ")
        raise ConfigError(f"not readable as YAML ({line})", where=path, fix="mend the file") from None
    if not isinstance(values, dict):
        raise ConfigError("holds no keys", where=path, fix="write 'key: value' lines")
    return values


def write_yaml(values: Mapping[str, Any]) -> str:
    """Returns plain data as YAML, keys in the order given."""
    return yaml.safe_dump(dict(values), sort_keys=False, allow_unicode=True)


def override(values: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    """Returns `values` with dotted changes applied; the given mapping stays as it is.

    Args:
        values: nested plain data.
        changes: `a.b=c` texts; `c` is read as YAML, so numbers, lists and null work.

    Raises:
        ConfigError: a change has no '=', or walks through something that has no keys.

    Example:
        >>> override({"pretrain": {"lr": 1.0}}, ["pretrain.lr=0.5"])
        {'pretrain': {'lr': 0.5}}
    """
    result = _copy(values)
    for change in changes:
        key, equals, text = change.partition("=")
        if not equals or not key:
            raise ConfigError(f"'{change}' is not of the form a.b=c", where="override", fix="write key=value")
        inner: Any = result
        *path, last = key.split(".")
        for part in path:
            if inner.get(part) is None:
                inner[part] = {}
            inner = inner[part]
            if not isinstance(inner, dict):
                raise ConfigError(f"'{part}' holds a value, not keys", where=f"override {change}")
        try:
            inner[last] = yaml.safe_load(text)
        except yaml.YAMLError:
            raise ConfigError(f"value {text!r} is not readable", where=f"override {change}") from None
    return result


def _copy(values: Any) -> Any:
    return {k: _copy(v) for k, v in values.items()} if isinstance(values, Mapping) else values
