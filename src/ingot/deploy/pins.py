"""Versions: what is installed here and works, so that an image can be built of the same packages."""

from __future__ import annotations

from importlib import metadata

from ingot.errors import ResourceError


def pinned(package: str = "ingot") -> dict[str, str]:
    """Returns all packages that one needs by way of its requirements, with the versions installed here.

    Args:
        package: an installed distribution; it is not listed itself. Extras count where one is asked for.

    Returns:
        Canonical name to version, without local parts such as '+cpu'; sorted by name. What is not
        installed here (requirements of other systems) is left out.

    Raises:
        ResourceError: the package itself is not installed.
    """
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found: dict[str, str] = {}
    visited: set[tuple[str, str]] = set()
    todo = [(package, "")]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in visited:
            continue
        visited.add((name, extra))
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            if name == package:
                what = f"the package '{package}' is not installed, so its versions are not known"
                raise ResourceError(what, fix="install it (pip install .)") from None
            continue
        if name != package:
            found[canonicalize_name(name)] = distribution.version.partition("+")[0]
        for line in distribution.requires or ():
            wanted = Requirement(line)
            if wanted.marker is None or wanted.marker.evaluate({"extra": extra}):
                todo += [(canonicalize_name(wanted.name), one) for one in ("", *wanted.extras)]
    found.pop(canonicalize_name(package), None)
    return dict(sorted(found.items()))
