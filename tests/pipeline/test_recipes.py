"""Recipes: found by name or path, changed by dotted keys, shares turned into minutes."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot import recipes, stages
from ingot.config import Config
from ingot.errors import ConfigError
from ingot.pipeline import Context
from ingot.progress import Progress

RECIPE = """
name: small
about: Two stages.
minutes: 10
stages:
  prepare:
  pretrain: {share: 0.5, context: 64}
quick:
  minutes: 1
  stages: {pretrain: {context: 32}}
"""


class PrepareConfig(Config):
    data: str | None = None


class PretrainConfig(Config):
    minutes: float = 1.0
    context: int = 512


def fake(name: str, artifact: str, kind: str, needs: tuple[str, ...]) -> type:
    def run(self, context: Context) -> None:
        (context.folder / "report.html").write_text(f"{name} {self.config}")

    def init(self, config: Config) -> None:
        self.config = config

    body = {"name": name, "artifact": artifact, "kind": kind, "needs": needs, "run": run, "__init__": init}
    return type(name.title(), (), body)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A recipe file whose stages are two fakes that need no machine learning."""
    module = types.ModuleType("fake_stages")
    module.Prepare = fake("prepare", "corpus", "corpus", ())
    module.PrepareConfig = PrepareConfig
    module.Pretrain = fake("pretrain", "report", "report", ("prepare",))
    module.PretrainConfig = PretrainConfig
    monkeypatch.setitem(sys.modules, "fake_stages", module)
    table = {"prepare": ("fake_stages", "Prepare"), "pretrain": ("fake_stages", "Pretrain")}
    monkeypatch.setattr(stages, "STAGES", stages.STAGES | table)
    path = tmp_path / "small.yaml"
    path.write_text(RECIPE)
    return str(path)


def test_a_share_becomes_minutes(recipe: str) -> None:
    loaded = recipes.load(recipe)
    assert loaded.settings("pretrain") == {"minutes": 5.0, "context": 64}
    assert recipes.load(recipe, ["minutes=4"]).settings("pretrain")["minutes"] == 2.0
    assert recipes.load(recipe, ["pretrain.minutes=3"]).settings("pretrain")["minutes"] == 3
    assert recipes.load(recipe, quick=True).settings("pretrain") == {"minutes": 0.5, "context": 32}
    assert recipes.load(recipe, ["minutes=2"], quick=True).settings("pretrain")["minutes"] == 1.0


def test_dotted_keys(recipe: str) -> None:
    assert recipes.load(recipe, ["pretrain.context=8", "seed=3"]).seed == 3
    built = recipes.build(recipes.load(recipe, ["stages.pretrain.context=8"]))
    assert built[1].config.plain() == {"minutes": 5.0, "context": 8}


@settings(max_examples=50)
@given(name=st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1))
def test_data_is_a_path_whatever_it_holds(name: str) -> None:
    if name == "null" or name.startswith("~"):
        return
    loaded = recipes.load("demo", [f"data={name}"])
    assert loaded.stages["prepare"]["data"] == str(Path.cwd() / name)


def test_no_data_means_the_default() -> None:
    assert recipes.load("demo", ["data="]).stages["prepare"]["data"] is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["minuts=3"], "unknown key 'minuts'; did you mean 'minutes'"),
        (["pretrian.context=3"], "unknown key 'pretrian'; did you mean 'pretrain'"),
        (["pretrain=3"], "'pretrain' is a stage"),
        (["align.minutes=3"], "has no stage 'align'"),
        (["minutes"], "not of the form"),
        (["minutes=0"], "greater than 0"),
        (["minutes=soon"], "'soon' cannot be used"),
        (["seed=-1"], "-1 cannot be used"),
        (["pretrain.share=2"], "share is 2"),
        (["prepare.share=0.6"], "add up to 1.10"),
    ],
)
def test_changes_that_cannot_be_applied(recipe: str, changes: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recipes.load(recipe, changes)
    assert words in str(caught.value)
    assert "small.yaml" in str(caught.value)


def test_settings_of_a_stage_are_checked_when_built(recipe: str) -> None:
    with pytest.raises(ConfigError) as caught:
        recipes.build(recipes.load(recipe, ["pretrain.contxt=3"]))
    expected = "recipe small: pretrain: contxt: unknown key 'contxt'; did you mean 'context'?"
    assert str(caught.value) == expected
    with pytest.raises(ConfigError, match="'wide' cannot be used"):
        recipes.build(recipes.load(recipe, ["pretrain.context=wide"]))


def test_unknown_recipes_and_stages(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no recipe 'dmeo'; did you mean 'demo'"):
        recipes.load("dmeo")
    with pytest.raises(ConfigError, match="no such file"):
        recipes.load(str(tmp_path / "absent.yaml"))
    path = tmp_path / "wrong.yaml"
    path.write_text("stages: {pretrian: {}}")
    with pytest.raises(ConfigError, match="unknown stage 'pretrian'; did you mean 'pretrain'"):
        recipes.load(str(path))
    path.write_text("stages: {prepare: }\nminuts: 3")
    with pytest.raises(ConfigError, match="unknown key 'minuts'; did you mean 'minutes'"):
        recipes.load(str(path))
    with pytest.raises(ConfigError, match="has no quick setting"):
        recipes.load(str(path), quick=True)


def test_up_to(recipe: str) -> None:
    assert list(recipes.load(recipe).up_to("prepare").stages) == ["prepare"]
    with pytest.raises(ConfigError, match="has no stage 'pretrian'; did you mean 'pretrain'"):
        recipes.load(recipe).up_to("pretrian")


def test_the_kept_recipe_repeats_the_run(recipe: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    made = recipes.run(recipes.load(recipe, ["minutes=6", "seed=4"]), out, Progress())
    assert [one.address for one in made] == ["corpus@1", "report@1"]
    assert (out / "report.html").read_bytes() == (made[1].path / "report.html").read_bytes()
    kept = yaml.safe_load((out / "recipe.yaml").read_text())
    assert kept["stages"] == {"prepare": {"data": None}, "pretrain": {"share": 0.5, "context": 64}}
    again = recipes.run(recipes.load(str(out / "recipe.yaml")), out, Progress())
    assert again == made


@pytest.mark.parametrize("name", recipes.names())
def test_our_own_recipes(name: str) -> None:
    for quick in (False, True):
        loaded = recipes.load(name, quick=quick)
        assert loaded.name == name
        assert all(word in loaded.about for word in ("Source:", "Cost:", "Expected:"))
        assert set(loaded.stages) <= set(stages.STAGES)


@pytest.mark.parametrize("name", recipes.names())
def test_our_own_recipes_can_be_built(name: str) -> None:
    for quick in (False, True):
        assert [stage.name for stage in recipes.build(recipes.load(name, quick=quick))]
