"""Which model folder is meant: a run folder stands for its best model, a name picks another."""

from __future__ import annotations

from pathlib import Path

from ingot.errors import ArtifactError, did_you_mean
from ingot.record import Artifact, artifacts, latest

PREFERRED = (
    "aligned",
    "finetuned",
    "base",
    "embedder",
    "translator",
    "denoiser",
    "classifier",
    "tagger",
    "answerer",
    "encoder",
)
"""Which artifact of a run folder is meant when none is named: the first of these that was made."""

KINDS = ("model", "linear_decoder", "encoder_decoder", "encoder")
"""Kinds of artifacts that are models."""


def locate(folder: Path | str, model: str | None = None) -> Path:
    """Returns the model folder that is meant.

    Args:
        folder: a run folder or a model folder.
        model: which model of a run folder: a name such as 'int8' (its newest version) or 'base@1'.

    Raises:
        ArtifactError: no such folder, no such model in it, or one that its run left out.
    """
    path = Path(folder)
    if not path.exists():
        raise ArtifactError("no such folder", where=path, fix="give a run folder such as runs/demo")
    if not path.is_dir():
        raise ArtifactError("a file, not a folder", where=path, fix="give the folder that it is in")
    if (path / "config.json").exists():
        if model is not None:
            what = f"is one model, so '{model}' cannot be picked from it"
            raise ArtifactError(what, where=path, fix=f"give its run folder: {path.resolve().parent}")
        return path
    if model is not None:
        return _named(path, model).path
    for name in PREFERRED:
        found = latest(path, name)
        if found is not None and found.record.left_out is None:
            return found.path
    raise ArtifactError("holds no model", where=path, fix="finish its run, or give another folder")


def _named(run: Path, model: str) -> Artifact:
    """The artifact of a run that `model` names; it must be a model, and made."""
    name, _, version = model.partition("@")
    models = [one for one in artifacts(run) if one.record.kind in KINDS]
    matching = [one for one in models if one.address == model or (not version and one.name == name)]
    if not matching:
        known = {one.name for one in models} | {one.address for one in models}
        fix = did_you_mean(model, known) if known else "finish its run first"
        raise ArtifactError(f"holds no model '{model}'", where=run, fix=fix)
    found = max(matching, key=lambda one: one.version)
    if found.record.left_out is not None:
        what = f"{found.address} was left out: {found.record.left_out}"
        raise ArtifactError(what, where=run, fix="pick another model")
    return found
