"""The unit: it confines, it keeps the time to end, and systemd itself finds nothing wrong in it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ingot.deploy.settings import Deployment
from ingot.deploy.systemd import systemd_files

ANALYZE = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing")


def unit_of(deployment: Deployment) -> dict[str, dict[str, list[str]]]:
    """Sections, keys and all values of the one unit that is made."""
    ((name, text),) = systemd_files(deployment).items()
    assert name == f"ingot-{deployment.name}.service"
    found: dict[str, dict[str, list[str]]] = {}
    for line in text.splitlines():
        if line.startswith("["):
            section = found.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, equals, value = line.partition("=")
            assert equals and re.fullmatch(r"[A-Za-z]+", key), line
            section.setdefault(key, []).append(value)
    return found


def test_it_confines(deployment: Deployment) -> None:
    service = unit_of(deployment)["Service"]
    for key in ("DynamicUser", "NoNewPrivileges", "PrivateTmp", "PrivateDevices", "RestrictNamespaces"):
        assert service[key] == ["yes"], key
    assert service["ProtectSystem"] == ["strict"] and service["ProtectHome"] == ["tmpfs"]
    assert service["CapabilityBoundingSet"] == [""]


def test_it_listens_on_loopback_and_has_time_to_end(deployment: Deployment) -> None:
    service = unit_of(deployment)["Service"]
    assert "--host 127.0.0.1" in service["ExecStart"][0]
    assert int(service["TimeoutStopSec"][0]) > deployment.drain_seconds


def test_a_model_in_a_home_is_seen(deployment: Deployment) -> None:
    there = deployment.model_copy(
        update={"source": "/home/ann/my runs/demo", "program": "/opt/ingot/bin/ingot"}
    )
    service = unit_of(there)["Service"]
    assert '"/home/ann/my runs/demo"' in service["BindReadOnlyPaths"]
    assert '"/home/ann/my runs/demo"' in service["ExecStart"][0]
    assert '"/opt/ingot"' not in service["BindReadOnlyPaths"]


def test_a_graphics_card_is_let_in(deployment: Deployment) -> None:
    service = unit_of(deployment.model_copy(update={"device": "cuda"}))["Service"]
    assert service["PrivateDevices"] == ["no"] and service["DevicePolicy"] == ["closed"]
    assert all("nvidia" in one for one in service["DeviceAllow"])


@ANALYZE
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_systemd_takes_it(deployment: Deployment, tmp_path: Path, device: str) -> None:
    program = tmp_path / "bin" / "ingot"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    changes = {"device": device, "program": str(program)}
    for name, text in systemd_files(deployment.model_copy(update=changes)).items():
        (tmp_path / name).write_text(text)
        ended = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(tmp_path / name)],
            capture_output=True,
            text=True,
            timeout=300,
        )
        complaints = [line for line in ended.stderr.splitlines() if name in line]
        assert not complaints, ended.stderr


@ANALYZE
def test_systemd_finds_little_exposed(deployment: Deployment, tmp_path: Path) -> None:
    for name, text in systemd_files(deployment).items():
        (tmp_path / name).write_text(text)
        ended = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--threshold=25", str(tmp_path / name)],
            capture_output=True,
            text=True,
            timeout=300,
        )
        if "Overall exposure level" not in ended.stdout:
            pytest.skip("this systemd-analyze cannot judge files")
        assert ended.returncode == 0, ended.stdout[-2000:]
