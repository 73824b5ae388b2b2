"""Where a model to take in comes from: a folder here, or a repository of a hub, where that was asked for."""

from __future__ import annotations

import re
from pathlib import Path

from ingot.atomic import remove
from ingot.errors import ArtifactError, ResourceError
from ingot.export.arrival import Arrived, arrive, place_for
from ingot.export.hub import pull
from ingot.record import read

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def from_place(
    source: str,
    out: Path,
    *,
    dtype: str | None = None,
    check: bool = False,
    online: bool = False,
    revision: str | None = None,
) -> Arrived:
    """Makes an artifact of a folder or of a hub's repository. See `arrive`.

    What was fetched lies beside `out` as `NAME-fetched` until the artifact is made: an import that was
    killed after it need not fetch it again.

    Args:
        source: a folder, or `owner/name`.
        out, dtype, check: as `arrive` takes them.
        online: whether a repository may be fetched.
        revision: of the repository; None is the newest.

    Raises:
        ArtifactError: no such folder, or nothing that can be taken in.
        ResourceError: a repository, and nobody allowed to fetch it.
    """
    folder = Path(source).expanduser()
    if folder.is_dir():
        return arrive(folder, out, dtype, check)
    if folder.exists():
        raise ArtifactError("a file, not a folder", where=folder, fix="name the folder that it is in")
    if not _REPOSITORY.fullmatch(source):
        raise ArtifactError("no such folder", where=source, fix="name a folder, or owner/name with --online")
    if not online:
        what = f"there is no folder '{source}', and nothing is fetched unless it is asked for"
        raise ResourceError(what, where="import", fix=f"add --online to fetch {source} from the hub")
    final = place_for(out)
    if final.exists():
        raise ArtifactError("exists already", where=final, fix="choose another name or remove it")
    fetched = final.with_name(f"{final.name.replace('@', '-')}-fetched")
    wanted = {"repository": source} | ({"commit": revision} if revision else {})
    if fetched.exists() and _origin(fetched).items() >= wanted.items():
        origin = _origin(fetched)
    else:
        if fetched.exists():
            remove(fetched)
        commit = pull(source, fetched, revision).commit
        origin = {"repository": source, "commit": commit}
    arrived = arrive(fetched, out, dtype, check, origin)
    remove(fetched)
    return arrived


def _origin(fetched: Path) -> dict[str, str]:
    """Which repository and commit a folder that was fetched is of; nothing where it does not say."""
    try:
        said = read(fetched).record.config
    except ArtifactError:
        return {}
    return {name: str(said[name]) for name in ("repository", "commit") if name in said}
