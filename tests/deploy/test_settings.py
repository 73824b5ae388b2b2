"""Settings: what a model folder suggests, what is refused, and the folder that comes of them."""

import json
import stat
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ingot.deploy.folder import TARGETS, deploy_folder
from ingot.deploy.settings import Deployment, describe, slug
from ingot.errors import ArtifactError, ConfigError


@given(st.text(min_size=1, max_size=80))
def test_any_name_becomes_one_that_clusters_take(text: str) -> None:
    Deployment(name=slug(text), source="/m")


def test_a_folder_suggests_its_settings(model: Path) -> None:
    found = describe(model)
    assert (found.name, found.context, found.version) == ("aligned-1", 512, "unrecorded")
    assert found.source == str(model.resolve())
    assert found.memory_gib == 3  # two, and one for a kilobyte of weights, rounded up
    assert found.tag == "ingot-aligned-1:unrecorded"
    assert describe(model, {"image": "here/there:2"}).tag == "here/there:2"


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"max_replica": 3}, "max_replicas"),
        ({"port": 80}, "port"),
        ({"device": "gpu"}, "device"),
        ({"name": "a; rm -rf /"}, "name"),
        ({"name": "Upper"}, "name"),
        ({"image": "x\nUSER root"}, "image"),
        ({"source": "/m\nExecStartPre=/bin/false"}, "source"),
        ({"program": "/bin/$(id)"}, "program"),
        ({"min_replicas": 5, "max_replicas": 4}, "max_replicas 4 is below"),
    ],
)
def test_what_cannot_be_used_is_refused_by_name(model: Path, changes: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        describe(model, changes)


def test_no_model_no_deployment(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="no model folder"):
        describe(tmp_path)
    for broken in ("{", "[]"):
        (tmp_path / "config.json").write_text(broken)
        with pytest.raises(ArtifactError):
            describe(tmp_path)


@pytest.mark.parametrize("to", TARGETS)
def test_every_target_makes_a_folder_of_readable_files(model: Path, tmp_path: Path, to: str) -> None:
    out = tmp_path / "out"
    told = deploy_folder(model, to, out)
    made = sorted(str(path.relative_to(out)) for path in out.rglob("*") if path.is_file())
    assert made == told["files"]
    assert yaml.safe_load((out / "settings.yaml").read_text())["name"] == "aligned-1"
    for name in made:
        text = (out / name).read_text()
        assert text.endswith("\n"), name
        if name.endswith((".yaml", ".yml")):
            assert yaml.safe_load(text), name
        elif name.endswith(".json"):
            assert json.loads(text), name
        elif name.endswith(".py"):
            compile(text, name, "exec")
        elif name.endswith(".sh"):
            assert text.startswith("#!/") and (out / name).stat().st_mode & stat.S_IRUSR
    with pytest.raises(ArtifactError, match="exists"):
        deploy_folder(model, to, out)


def test_the_same_settings_make_the_same_files(model: Path, tmp_path: Path) -> None:
    for to, make in TARGETS.items():
        assert make(describe(model)) == make(describe(model)), to


def test_an_unknown_target_names_the_nearest(model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean 'docker'"):
        deploy_folder(model, "doker", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError):
        Deployment(name="demo", source="/m").port = 1  # type: ignore[misc]
