"""Recipes: YAML files that say which stages to run, with which settings, in how many minutes.

    recipe file -> quick overrides -> a.b=c changes -> Recipe -> stages -> pipeline

A recipe names what it is `about` (source, cost, expected result), the `minutes` of its training as a
whole and the `share` of them that each training stage gets. Everything it does not set is the default
of the stage's own configuration.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from ingot.artifact import Artifact, latest, write_atomic
from ingot.config import Config, override, read_yaml, write_yaml
from ingot.errors import ConfigError, did_you_mean
from ingot.pipeline import Pipeline, Stage
from ingot.progress import Progress
from ingot.stage import ALONE, Crew
from ingot.stages import STAGES, config_class, stage_class

FOLDER = Path(__file__).parent

_DATA = ("data=", "data.path=")
_TAKING = {"prepare": "data", "examples": "path"}
"""Stages that take the user's data, and the setting that says where it is."""


class Recipe(Config):
    """What to make and how: the stages in order, with the settings that differ from their defaults."""

    name: str
    about: str = ""
    minutes: float = Field(default=12.0, gt=0)
    seed: int = Field(default=0, ge=0)
    stages: dict[str, dict[str, Any]]

    @field_validator("stages", mode="before")
    @classmethod
    def _empty_is_default(cls, stages: Any) -> Any:
        """Lets a recipe write `compress:` where a stage keeps all its defaults."""
        if isinstance(stages, Mapping):
            return {name: {} if settings is None else settings for name, settings in stages.items()}
        return stages

    @model_validator(mode="after")
    def _shares_fit(self) -> Recipe:
        shares = {name: settings["share"] for name, settings in self.stages.items() if "share" in settings}
        for name, share in shares.items():
            if not isinstance(share, int | float) or not 0 < share <= 1:
                raise ValueError(f"{name}.share is {share!r}, and must be a number above 0, at most 1")
        if sum(shares.values()) > 1 + 1e-9:
            raise ValueError(f"the shares add up to {sum(shares.values()):.2f}, more than 1")
        return self

    def settings(self, stage: str) -> dict[str, Any]:
        """Returns a stage's settings, with its share of the minutes turned into minutes."""
        values = dict(self.stages[stage])
        share = values.pop("share", None)
        if share is not None:
            values.setdefault("minutes", share * self.minutes)
        return values

    def up_to(self, stage: str) -> Recipe:
        """Returns the recipe with nothing after `stage`."""
        names = list(self.stages)
        if stage not in names:
            fix = did_you_mean(stage, names)
            raise ConfigError(f"has no stage '{stage}'", where=f"recipe {self.name}", fix=fix)
        kept = names[: names.index(stage) + 1]
        return self.model_copy(update={"stages": {name: self.stages[name] for name in kept}})


def names() -> list[str]:
    """Returns the names of the recipes that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def find(recipe: str) -> Path:
    """Returns the file of a recipe given by name (one of the package's) or by path.

    `recipes/NAME.yaml` is the package's where there is no such file.

    Raises:
        ConfigError: there is none; names the nearest one.
    """
    if recipe in names():
        return FOLDER / f"{recipe}.yaml"
    path = Path(recipe)
    if path.parts[-2:-1] == (FOLDER.name,) and path.stem in names() and not path.exists():
        return FOLDER / path.name
    if path.suffix in (".yaml", ".yml") or path.exists():
        return path
    raise ConfigError(f"no recipe '{recipe}'", where="recipe", fix=did_you_mean(recipe, names()))


def load(recipe: str, changes: Sequence[str] = (), quick: bool = False) -> Recipe:
    """Reads a recipe and applies what the user changes.

    Args:
        recipe: a name or a path.
        changes: `a.b=c` texts: `pretrain.context=256` sets a stage's key, `minutes=3`, `seed=1` and
            `data=DIR` (or `data.path=DIR`) the recipe's own.
        quick: also apply the recipe's `quick` block, its smallest setting.

    Raises:
        ConfigError: no such recipe, stage or key, or a value that cannot be used.
    """
    path = find(recipe)
    values = read_yaml(path)
    smallest = values.pop("quick", None)
    if quick:
        if smallest is None:
            raise ConfigError("has no quick setting", where=path, fix="run it without --quick")
        values = _merge(values, smallest)
    values.setdefault("name", path.stem)
    places = [change.partition("=")[2] for change in changes if change.startswith(_DATA)]
    others = [change for change in changes if not change.startswith(_DATA)]
    values = override(values, [_addressed(change, values, path) for change in others])
    if places:
        values = _with_data(values, places[-1], path)
    loaded = Recipe.parse(values, where=path)
    for name in loaded.stages:
        if name not in STAGES:
            raise ConfigError(f"unknown stage '{name}'", where=path, fix=did_you_mean(name, STAGES))
    return loaded


def build(recipe: Recipe) -> list[Stage]:
    """Makes a recipe's stages; only now are their files imported.

    Raises:
        ConfigError: an unknown setting of a stage (with the nearest right name), or a wrong value.
    """
    where = f"recipe {recipe.name}"
    configs = {
        name: config_class(name).parse(recipe.settings(name), where=f"{where}: {name}")
        for name in recipe.stages
    }
    return [stage_class(name)(config) for name, config in configs.items()]


def resolved(recipe: Recipe, stages: Sequence[Stage]) -> str:
    """Returns the recipe as YAML with every setting written out: running it repeats the work."""
    settings = {}
    for stage in stages:
        settings[stage.name] = stage.config.plain()
        written = recipe.stages[stage.name]
        if "share" in written and "minutes" not in written:
            settings[stage.name] = {"share": written["share"]} | settings[stage.name]
            del settings[stage.name]["minutes"]
    return write_yaml(recipe.plain() | {"stages": settings})


def run(
    recipe: Recipe, out: Path, progress: Progress, device: str = "cpu", crew: Crew = ALONE
) -> list[Artifact]:
    """Carries out a recipe in a run folder and lays the newest report on top of it.

    Args:
        recipe: what to do.
        out: the run folder; started again with the same recipe, it goes on where it was.
        progress: told about every stage.
        device: where to compute.
        crew: the processes that all call this.

    Returns:
        Every stage's artifact, in order.
    """
    stages = build(recipe)
    for stage in stages:
        if hasattr(stage, "watch"):
            stage.watch(progress)
    made = Pipeline(stages, out).run(progress, recipe.seed, device, resolved(recipe, stages), crew)
    report = latest(out, "report")
    if crew.lead and report is not None and (report.path / "report.html").is_file():
        write_atomic(Path(out) / "report.html", (report.path / "report.html").read_bytes())
    return made


def _with_data(values: Mapping[str, Any], text: str, path: Path) -> dict[str, Any]:
    """The values with the user's text in them; a path holds what YAML would misread, so it goes around."""
    stages = values.get("stages") or {}
    stage = next((name for name in _TAKING if name in stages), None)
    if stage is None:
        raise ConfigError("has no stage 'prepare' to take data", where=path, fix="leave the data out")
    place = _located(text) if text not in ("", "null") else None
    return _merge(values, {"stages": {stage: {_TAKING[stage]: place}}})


def _located(text: str) -> str:
    """The full path of a place; a URL or the name of a public corpus (`name@`) is none."""
    if "://" in text or text.endswith("@"):
        return text
    return str(Path(text).expanduser().absolute())


def _addressed(change: str, values: Mapping[str, Any], path: Path) -> str:
    """The change with its full path inside the recipe."""
    key, equals, text = change.partition("=")
    first, *rest = key.removeprefix("stages.").split(".")
    if not equals or not first:
        raise ConfigError(f"'{change}' is not of the form a.b=c", where=path, fix="write key=value")
    stages = values.get("stages") or {}
    if first in stages and rest:
        return f"stages.{'.'.join([first, *rest])}={text}"
    if first in ("minutes", "seed") and not rest:
        return change
    if first in stages:
        fix = f"write {first}.key={text}"
        raise ConfigError(f"'{first}' is a stage, not a setting", where=f"{path}: {change}", fix=fix)
    if first in STAGES:
        raise ConfigError(f"has no stage '{first}'", where=path, fix="stages: " + ", ".join(stages))
    known = ["data", "minutes", "seed", *stages]
    raise ConfigError(f"unknown key '{first}'", where=f"{path}: {change}", fix=did_you_mean(first, known))


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Nested plain data with the values of `above` in place of those of `below`."""
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key) or {}
        both = isinstance(value, Mapping) and isinstance(inner, Mapping)
        merged[key] = _merge(inner, value) if both else value
    return merged
