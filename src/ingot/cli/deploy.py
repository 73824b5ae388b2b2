"""`ingot deploy`: what other programs need to run, scale and watch a served model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ingot.cli.options import Folder, Json, Model, show_json


def deploy(
    folder: Folder,
    changes: Annotated[
        list[str] | None,
        typer.Argument(metavar="[KEY=VALUE]...", help="Settings, such as max_replicas=40 cpus=4 port=8080."),
    ] = None,
    to: Annotated[
        str,
        typer.Option("--to", help="docker, compose, k8s, systemd, vllm, triton, bentoml, ray or kserve."),
    ] = "docker",
    out: Annotated[Path | None, typer.Option(help="The folder to make.  [default: DIR-TARGET]")] = None,
    device: Annotated[str, typer.Option("--device", help="What it will run on: cpu or cuda.")] = "cpu",
    model: Model = None,
    as_json: Json = False,
) -> None:
    """Write the files that serve a model elsewhere: containers, clusters, units, other servers.

    \b
    Example: ingot deploy runs/demo --to compose --out deploy/demo
             ingot deploy runs/demo --to k8s image=registry.example/demo:1 max_replicas=40
    """
    from ingot.api import locate
    from ingot.config import override
    from ingot.deploy.folder import deploy_folder

    source = locate(folder, model)
    target = out or Path(f"{source}-{to}")
    told = deploy_folder(source, to, target, override({"device": device}, changes or []))
    if as_json:
        show_json({"from": str(source), "to": to, "path": str(target)} | told)
        return
    print(f"{target}: {len(told['files'])} files")
    for name in told["files"]:
        print(f"  {name}")
    print("what to do with them: docs/deploy.md")
