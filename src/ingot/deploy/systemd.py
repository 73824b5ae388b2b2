"""One machine without containers: a unit that systemd starts, confines, restarts and ends in good time."""

from __future__ import annotations

import sys
from pathlib import Path

from ingot.deploy.settings import Deployment

_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")
"""What a confined unit does not see of the machine."""

_UNIT = """\
[Unit]
Description=ingot serves {name} ({version})
Documentation=man:systemd.exec(5)
After=network.target
StartLimitIntervalSec=300
StartLimitBurst=5

[Service]
Type=exec
ExecStart="{program}" {arguments}
# INGOT_API_KEY=... stands here, readable by root only; without it there is no key.
EnvironmentFile=-/etc/ingot/{name}.env
Environment=HOME=/var/cache/ingot-{name} XDG_CACHE_HOME=/var/cache/ingot-{name}
Environment=HF_HUB_OFFLINE=1 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
CacheDirectory=ingot-{name}
CacheDirectoryMode=0700
KillSignal=SIGTERM
KillMode=mixed
TimeoutStartSec=60
TimeoutStopSec={stop}
Restart=on-failure
RestartSec=2

# Resources
MemoryMax={memory}G
TasksMax=512
LimitNOFILE=65536
LimitCORE=0
OOMPolicy=stop

# A user that exists only while this runs, and a machine of which it sees little.
DynamicUser=yes
UMask=0077
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectSystem=strict
ProtectHome=tmpfs
PrivateTmp=yes
{seen}{devices}
ProtectProc=invisible
{pid}ProtectClock=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
LockPersonality=yes
KeyringMode=private
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
# Not MemoryDenyWriteExecute: PyTorch's kernels for this processor are written when they are first needed.

[Install]
WantedBy=multi-user.target
"""

_NO_DEVICES = "PrivateDevices=yes"
_NVIDIA = """\
PrivateDevices=no
DevicePolicy=closed
DeviceAllow=char-nvidia-frontend rw
DeviceAllow=char-nvidia rw
DeviceAllow=char-nvidia-uvm rw
DeviceAllow=char-nvidia-caps r"""


def systemd_files(deployment: Deployment) -> dict[str, str]:
    """Returns the unit, by its file name.

    It listens on loopback: what stands before it (a reverse proxy) speaks TLS to the world.
    """
    program = Path(deployment.program)
    hidden = [path for path in _seen(deployment) if path.startswith(tuple(f"{one}/" for one in _HIDDEN))]
    unit = _UNIT.format(
        name=deployment.name,
        version=deployment.version,
        program=program,
        arguments=" ".join(_quoted(word) for word in deployment.arguments(deployment.source, "127.0.0.1")),
        stop=deployment.drain_seconds + 5,
        memory=deployment.memory_gib,
        seen="".join(f'BindReadOnlyPaths="{path}"\n' for path in hidden),
        devices=_NVIDIA if deployment.device == "cuda" else _NO_DEVICES,
        pid="ProcSubset=pid\n" if deployment.device == "cuda" else "",
    )
    return {f"ingot-{deployment.name}.service": unit}


def _seen(deployment: Deployment) -> list[str]:
    """The folders that the server reads: its model, its programs, and the Python below them."""
    installed = Path(deployment.program).parent.parent
    return sorted({deployment.source, str(installed), sys.base_prefix})


def _quoted(word: str) -> str:
    return f'"{word}"' if " " in word else word
