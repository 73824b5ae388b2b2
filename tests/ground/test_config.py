"""Configuration: wrong keys and values are named with the nearest right name; overrides hit their key."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import Field, model_validator

from ingot.config import Config, override, read_yaml, write_yaml
from ingot.errors import ConfigError, IngotError, did_you_mean


class Schedule(Config):
    warmup: int = 10
    decay: float = 0.5


class Training(Config):
    context: int = 512
    batch_size: int = 8
    learning_rate: float = 1e-3
    schedule: Schedule = Schedule()
    other: Schedule | None = None


FIELDS = tuple(Training.model_fields)


@given(st.sampled_from(FIELDS), st.data())
def test_a_mistyped_key_is_named_with_the_right_one(key: str, data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(key) - 1))
    letter = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz"))
    mistakes = [
        key[:place] + key[place + 1 :],
        key[:place] + letter + key[place:],
        key[:place] + letter + key[place + 1 :],
    ]
    wrong = data.draw(st.sampled_from(mistakes))
    assume(wrong not in FIELDS and len(wrong) > 2)
    with pytest.raises(ConfigError) as caught:
        Training.parse({wrong: 1}, where="recipe demo: pretrain")
    assert f"unknown key '{wrong}'" in str(caught.value)
    assert f"'{key}'" in str(caught.value)
    assert "recipe demo: pretrain" in str(caught.value)


@given(st.text(min_size=1, max_size=12))
def test_any_unknown_key_ends_in_one_clear_error(key: str) -> None:
    assume(key not in FIELDS)
    with pytest.raises(ConfigError, match="unknown key"):
        Training.parse({key: 1})


@pytest.mark.parametrize("part", ["schedule", "other"])
def test_nested_keys_are_named_with_their_path(part: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Training.parse({part: {"warmpu": 1}}, where="here")
    assert str(caught.value) == f"here: {part}.warmpu: unknown key 'warmpu'; did you mean 'warmup'?"


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"context": "many"}, ["context", "'many'"]),
        ({"context": 1.5}, ["context", "1.5"]),
        ({"schedule": 3}, ["schedule", "3"]),
        ({"schedule": {"decay": None}}, ["schedule.decay", "None"]),
    ],
)
def test_wrong_values_are_named(values: dict, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        Training.parse(values)
    assert all(word in str(caught.value) for word in words)


@given(
    st.builds(
        Training,
        context=st.integers(1, 10**6),
        learning_rate=st.floats(1e-9, 1e9),
        other=st.none() | st.builds(Schedule, warmup=st.integers(0, 100)),
    )
)
def test_yaml_there_and_back(config: Training) -> None:
    assert Training.parse(yaml.safe_load(write_yaml(config.plain()))) == config


def test_configurations_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Training().context = 3


keys = st.text(st.characters(categories=["Ll"]), min_size=1, max_size=5)
leaves = st.integers() | st.booleans() | st.none() | st.lists(st.integers(), max_size=3)


@given(st.lists(keys, min_size=1, max_size=4), leaves, st.dictionaries(keys, st.integers(), max_size=3))
def test_an_override_sets_its_key_and_no_other(path: list[str], value: object, values: dict) -> None:
    assume(len(path) == 1 or path[0] not in values)
    before = dict(values)
    result = override(
        values, [f"{'.'.join(path)}={yaml.safe_dump(value, default_flow_style=True).split(chr(10))[0]}"]
    )
    inner = result
    for part in path:
        inner = inner[part]
    assert inner == value
    assert values == before
    assert {key: one for key, one in result.items() if key != path[0]} == {
        key: one for key, one in values.items() if key != path[0]
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("context", "not of the form"),
        ("=3", "not of the form"),
        ("a.b=3", "holds a value"),
        ("a=[", "not readable"),
    ],
)
def test_overrides_that_cannot_be_applied(change: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        override({"a": 1}, [change])


@pytest.mark.parametrize(
    ("text", "words"), [("a: [", "not readable as YAML"), ("- 1", "holds no keys"), ("", "holds no keys")]
)
def test_files_that_are_no_configuration(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_yaml(path)
    with pytest.raises(ConfigError, match="no such file"):
        read_yaml(tmp_path / "absent.yaml")


def test_an_error_says_what_where_and_what_to_do() -> None:
    assert str(IngotError("context is 0")) == "context is 0"
    assert str(IngotError("context is 0", where="demo", fix="use 64")) == "demo: context is 0; use 64"
    assert did_you_mean("xyz", ["b", "a"]) == "known: a, b"


class Place(Config):
    path: str
    weight: float = 1.0


class Places(Config):
    named: dict[str, Place] = Field(default_factory=dict)
    listed: tuple[Place, ...] = ()
    maybe: dict[str, Place] | None = None


@pytest.mark.parametrize(
    "values",
    [
        {"named": {"wiki": {"path": "a", "wieght": 2}}},
        {"listed": [{"path": "a"}, {"path": "a", "wieght": 2}]},
        {"maybe": {"wiki": {"path": "a", "wieght": 2}}},
    ],
)
def test_the_nearest_name_is_found_inside_mappings_and_lists(values: dict) -> None:
    with pytest.raises(ConfigError, match="unknown key 'wieght'") as caught:
        Places.parse(values)
    assert caught.value.fix == "did you mean 'weight'?"


def test_a_refusal_of_the_whole_has_no_empty_key_and_no_endless_value() -> None:
    class Range(Config):
        low: int = 0
        high: int = 1
        name: str = ""

        @model_validator(mode="after")
        def _ordered(self) -> Range:
            if self.low > self.high:
                raise ValueError("low is above high")
            return self

    with pytest.raises(ConfigError) as caught:
        Range.parse({"low": 3, "name": "x" * 10_000}, where="range")
    assert caught.value.where == "range"
    assert len(str(caught.value)) < 400
