"""Push and pull: a model folder to a hub and back, through `huggingface_hub`.

What is pushed is the folder as it is, with a model card as its README.md; what is pulled is the folder
without anything that could run code when it is loaded. A folder with a record is checked against it on both
sides. Calling these is asking for the network; `HF_HUB_OFFLINE=1` forbids it, and `HF_ENDPOINT` names
another hub than huggingface.co.
"""

from __future__ import annotations

import glob
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from ingot.artifact import verify, write_record
from ingot.atomic import publish
from ingot.errors import ArtifactError, ConfigError, ResourceError
from ingot.models.kinds import DECODER, kind_of
from ingot.record import RECORD, files_of, read

CARD = "README.md"
SAFE = (".json", ".safetensors", ".jinja", ".txt", ".model", ".tiktoken", ".md", ".jsonl")
"""Endings of files that are read, never run; of a pulled repository only these (and licences) are taken."""

_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")


class Pushed(NamedTuple):
    """What came of a push: the address to open, the commit, the files sent."""

    address: str
    commit: str
    files: list[str]


class Pulled(NamedTuple):
    """What came of a pull: the folder, the commit it is of, what was taken and what was left there."""

    folder: Path
    commit: str
    files: list[str]
    left: list[str]


def push(
    folder: Path, repository: str, card: str | None = None, public: bool = False, message: str | None = None
) -> Pushed:
    """Sends a model folder to a hub in one commit; the repository is made where there is none.

    Args:
        folder: a model folder; one with a record must still be what the record says.
        repository: `owner/name`.
        card: Markdown for README.md; None keeps the folder's own.
        public: who may see a repository that is made now: everybody, or its owner only.
        message: of the commit.

    Raises:
        ArtifactError: no model folder, or not what its record says.
        ConfigError: no such owner, or a name that a hub does not allow.
        ResourceError: offline, not logged in, or the hub does not answer.
    """
    kind_of(folder)
    _check(folder)
    hub = _online()
    names = sorted({*_sendable(folder), *([RECORD] if (folder / RECORD).is_file() else [])})
    content: dict[str, Any] = {name: folder / name for name in names}
    if card is not None:
        content[CARD] = card.encode()
    files = [hub.CommitOperationAdd(path_in_repo=name, path_or_fileobj=content[name]) for name in content]
    api = hub.HfApi(library_name="ingot")
    with _explained(hub, repository):
        api.create_repo(repository, private=not public, exist_ok=True)
        told = api.create_commit(repository, files, commit_message=message or f"{folder.name} by ingot")
    return Pushed(f"{api.endpoint}/{repository}", str(told.oid), sorted(content))


def pull(repository: str, folder: Path, revision: str | None = None) -> Pulled:
    """Fetches a model folder from a hub; it appears whole or not at all.

    Args:
        repository: `owner/name`.
        folder: to make; it must not exist.
        revision: branch, tag or commit; None is the newest.

    Raises:
        ArtifactError: `folder` exists; or what is there is no model, needs code of its own, has only pickled
            weights, or is not what its record says.
        ConfigError: no such repository or revision.
        ResourceError: offline, not allowed, or the hub does not answer.
    """
    if folder.exists():
        raise ArtifactError("exists already", where=folder, fix="choose another name or remove it")
    hub = _online()
    api = hub.HfApi(library_name="ingot")
    with _explained(hub, repository):
        info = api.model_info(repository, revision=revision)
    commit = str(info.sha)
    there = sorted(str(one.rfilename) for one in info.siblings or [])
    taken = _wanted(there, repository)
    with publish(folder) as aside:
        with _explained(hub, repository):
            patterns = [glob.escape(name) for name in taken]
            hub.snapshot_download(
                repository,
                revision=commit,
                local_dir=aside,
                allow_patterns=patterns,
                library_name="ingot",
                endpoint=api.endpoint,
            )
        shutil.rmtree(aside / ".cache", ignore_errors=True)
        _refuse_code(aside, repository)
        _settle(aside, repository, commit, folder.name)
        taken = files_of(aside)
    left = [name for name in there if name not in taken and not name.startswith(".") and name != RECORD]
    return Pulled(folder, commit, taken, left)


def _settle(aside: Path, repository: str, commit: str, name: str) -> None:
    """Checks what came against its record, or records where it came from."""
    if not (aside / RECORD).is_file():
        origin = {"repository": repository, "commit": commit}
        write_record(aside, kind=_kind(aside), name=name.partition("@")[0], stage="pull", config=origin)
        return
    if CARD not in read(aside).record.files:  # the card was made of the record, and is no part of it
        (aside / CARD).unlink(missing_ok=True)
    _check(aside, repository)


def _kind(folder: Path) -> str:
    """What a record calls the model of a folder; one of an architecture that is not built here is a model."""
    try:
        return kind_of(folder)[0].artifact
    except ArtifactError:
        return DECODER.artifact


def _sendable(folder: Path) -> list[str]:
    """The files of a folder that a model consists of: never hidden ones, never pickled ones."""
    names = [name for name in files_of(folder) if not name.endswith(_PICKLED)]
    if (folder / RECORD).is_file():
        recorded = read(folder).record.files
        return [name for name in names if name in recorded or name == CARD or _is_licence(name)]
    return [name for name in names if name.endswith(SAFE) or _is_licence(name)]


def _wanted(names: list[str], repository: str) -> list[str]:
    """The names of a repository that are taken.

    Raises:
        ArtifactError: a path that leads out of the folder, no model, or only pickled weights.
    """
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name:
            raise ArtifactError(f"the path {name!r} leads out of the folder", where=repository)
    wanted = [
        name for name in names if not name.startswith(".") and (name.endswith(SAFE) or _is_licence(name))
    ]
    if "config.json" not in wanted:
        raise ArtifactError("no config.json: not a model", where=repository, fix="name a model's repository")
    if not any(name.endswith(".safetensors") for name in wanted):
        pickled = [name for name in names if name.endswith(_PICKLED)]
        what = f"its weights are pickled ({pickled[0]}), and reading them could run code" if pickled else ""
        fix = "look for a revision with safetensors, or ask its owner to convert it"
        raise ArtifactError(what or "it has no safetensors weights", where=repository, fix=fix)
    return wanted


def _is_licence(name: str) -> bool:
    return name.upper().startswith(("LICENSE", "LICENCE", "NOTICE")) and "." not in name


def _refuse_code(folder: Path, repository: str) -> None:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError:
        raise ArtifactError("config.json is no JSON", where=repository) from None
    if isinstance(config, dict) and config.get("auto_map"):
        what = "its config.json asks for code of its own (auto_map), which is never run here"
        raise ArtifactError(what, where=repository, fix="pick a model of an architecture that is built in")


def _check(folder: Path, where: object = None) -> None:
    """Refuses a folder that is not what its record says."""
    if not (folder / RECORD).is_file():
        return
    wrong = [one for one in verify(folder) if one.path != CARD and not _is_licence(one.path)]
    if wrong:
        what = f"is not what its record says: {wrong[0].path}: {wrong[0].what}"
        raise ArtifactError(what, where=where or folder, fix="look at it with `ingot artifacts verify`")


def _online() -> Any:
    """The package, where the network may be used."""
    import huggingface_hub
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        what = "HF_HUB_OFFLINE is set, so that nothing is sent or fetched"
        raise ResourceError(what, where="hub", fix="set HF_HUB_OFFLINE=0 to allow it")
    return huggingface_hub


@contextmanager
def _explained(hub: Any, repository: str) -> Iterator[None]:
    """Says what a hub's refusal means to its reader."""
    import httpx

    errors = hub.errors
    login = "log in with `hf auth login`, or set HF_TOKEN"
    try:
        yield
    except errors.HFValidationError:
        what = f"'{repository}' is no repository's name"
        raise ConfigError(what, where="hub", fix="write owner/name: letters, digits, - _ .") from None
    except errors.LocalTokenNotFoundError:
        raise ResourceError("nobody is logged in", where="hub", fix=login) from None
    except errors.GatedRepoError:
        what, fix = "its owner has to let you in first", f"ask on its page, then {login}"
        raise ResourceError(what, where=repository, fix=fix) from None
    except errors.RevisionNotFoundError:
        raise ConfigError("has no such revision", where=repository, fix="check --revision") from None
    except errors.RepositoryNotFoundError:
        fix = f"check the name; if it is private, {login}"
        raise ConfigError("no such repository, or not for you to see", where=repository, fix=fix) from None
    except errors.HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            what = f"the hub does not let you do this ({status})"
            raise ResourceError(what, where=repository, fix=login) from None
        what = f"the hub answers {status or error}"
        raise ResourceError(what, where=repository, fix="try again later") from None
    except (httpx.HTTPError, ConnectionError, TimeoutError) as error:
        what = f"the hub cannot be reached ({type(error).__name__})"
        raise ResourceError(what, where=repository, fix="check the network and HF_ENDPOINT") from None
