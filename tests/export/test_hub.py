"""Push and pull against a hub on this machine: the same folder comes back; what is unsafe does not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hub_stub import COMMIT, Hub, running

from ingot.artifact import verify, write_record
from ingot.errors import ArtifactError, ConfigError, ResourceError
from ingot.export import hub as doors
from ingot.record import read

Make = Callable[..., Path]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub that this process talks to, with somebody logged in."""
    import huggingface_hub
    from huggingface_hub import constants

    with running() as server:
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setattr(
            constants,
            "HUGGINGFACE_CO_URL_TEMPLATE",
            server.address + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_TOKEN", server.token)
        real, token = huggingface_hub.HfApi, server.token
        monkeypatch.setattr(
            huggingface_hub,
            "HfApi",
            lambda **arguments: real(endpoint=server.address, token=token, **arguments),
        )
        yield server


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_was_pushed_comes_back_with_its_record(made: Make, hub: Hub, tmp_path: Path) -> None:
    folder = made()
    write_record(folder, kind="model", name="base")
    (folder / "notes.bin").write_bytes(b"not in the record")
    with pytest.raises(ArtifactError, match=r"not what its record says: notes\.bin"):
        doors.push(folder, "ada/low")
    (folder / "notes.bin").unlink()
    before = files(folder)
    pushed = doors.push(folder, "ada/low", card="# Low\n")
    assert pushed.address == f"{hub.address}/ada/low"
    assert pushed.commit == COMMIT
    assert hub.private["ada/low"] is True
    assert hub.repositories["ada/low"] == before | {"README.md": b"# Low\n"}
    pulled = doors.pull("ada/low", tmp_path / "again")
    assert files(pulled.folder) == before
    assert pulled.left == ["README.md"]
    assert verify(pulled.folder) == []


def test_a_folder_without_a_record_gets_one_that_says_where_from(
    made: Make, hub: Hub, tmp_path: Path
) -> None:
    folder = made()
    doors.push(folder, "ada/low", card="# Low\n", public=True)
    assert hub.private["ada/low"] is False
    hub.repositories["ada/low"] |= {"pytorch_model.bin": b"\x80", ".gitattributes": b"*", "LICENSE": b"free"}
    hub.repositories["ada/low"]["modeling_low.py"] = b"raise SystemExit"
    pulled = doors.pull("ada/low", tmp_path / "again", revision="main")
    assert pulled.left == ["modeling_low.py", "pytorch_model.bin"]
    assert {"LICENSE", "README.md", "model.safetensors", "tokenizer.json"} <= set(files(pulled.folder))
    assert read(pulled.folder).record.config == {"repository": "ada/low", "commit": COMMIT}
    assert verify(pulled.folder) == []
    with pytest.raises(ArtifactError, match="exists already"):
        doors.pull("ada/low", pulled.folder)


def test_what_is_unsafe_or_damaged_is_refused_and_leaves_nothing(
    made: Make, hub: Hub, tmp_path: Path
) -> None:
    folder = made()
    write_record(folder, kind="model", name="base")
    doors.push(folder, "ada/low")
    good = dict(hub.repositories["ada/low"])
    config: dict[str, Any] = json.loads(good["config.json"])

    def refused(what: str, **changed: bytes | None) -> None:
        named = {name.replace("__", "/").replace("_json", ".json"): data for name, data in changed.items()}
        content = {name: data for name, data in (good | named).items() if data is not None}
        hub.repositories["ada/low"] = content
        with pytest.raises(ArtifactError, match=what):
            doors.pull("ada/low", tmp_path / "again")
        assert not [path for path in tmp_path.iterdir() if "again" in path.name]

    refused("config.json: changed since it was made", config_json=good["config.json"] + b" ")
    remote = json.dumps(config | {"auto_map": {"AutoModel": "modeling.Low"}}).encode()
    refused("auto_map", config_json=remote, artifact_json=None)
    refused(r"no config\.json", config_json=None)
    refused("leads out of the folder", **{"..__evil_json": b"{}"})
    good["pytorch_model.bin"] = good.pop("model.safetensors")
    refused(r"pickled \(pytorch_model\.bin\)")


def test_refusals_of_the_hub_are_one_clear_line(
    made: Make, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="no such repository"):
        doors.pull("ada/none", tmp_path / "again")
    hub.repositories["ada/low"] = {"config.json": b"{}"}
    with pytest.raises(ConfigError, match="no such revision"):
        doors.pull("ada/low", tmp_path / "again", revision="v9")
    with pytest.raises(ConfigError, match="is no repository's name"):
        doors.pull("ada/low/high", tmp_path / "again")
    hub.token = "another"
    with pytest.raises(ResourceError) as refused:
        doors.push(made(), "ada/low")
    assert "hf auth login" in str(refused.value)


def test_offline_nothing_is_tried(
    made: Make, hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    for call in (lambda: doors.push(made(), "ada/low"), lambda: doors.pull("ada/low", tmp_path / "again")):
        with pytest.raises(ResourceError, match="HF_HUB_OFFLINE") as refused:
            call()
        assert "HF_HUB_OFFLINE=0" in str(refused.value)
    assert hub.asked == []


def test_the_environment_says_which_hub(made: Make, tmp_path: Path) -> None:
    folder = made()
    program = (
        "import sys; from pathlib import Path; from ingot.export.hub import pull, push\n"
        "push(Path(sys.argv[1]), 'ada/low', card='# Low'); pull('ada/low', Path(sys.argv[2]))"
    )
    with running() as server:
        known = os.environ | {"HF_HUB_OFFLINE": "0", "HF_ENDPOINT": server.address, "HF_TOKEN": server.token}
        known |= {"HF_HOME": str(tmp_path / "home"), "no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}
        command = [sys.executable, "-c", program, str(folder), str(tmp_path / "again")]
        done = subprocess.run(command, env=known, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (
        folder / "model.safetensors"
    ).read_bytes()
    assert server.repositories["ada/low"]["README.md"] == b"# Low"
