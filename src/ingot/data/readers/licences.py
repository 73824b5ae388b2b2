"""Licences: the SPDX name of a licence file's text; what is not recognised stays unknown.

Recognised by sentences that only that licence has, after case and spacing are made uniform. This is a
note for the reader of a corpus, not legal advice: files may say otherwise of themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

_NAME = re.compile(
    r"(un)?licen[cs]e|licen[cs]es?[-_.](mit|apache|apache-?2(\.0)?|bsd|gpl|lgpl|mpl|psf|unlicense|zlib|cc0)|"
    r"copying([-_.](lesser|lib|gpl|lgpl|bsd|mit))?",
    re.IGNORECASE,
)
_ENDINGS = ("", ".txt", ".md", ".rst", ".markdown")
_MOST = 2**17

_RULES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("MPL-2.0", ("mozilla public license version 2.0",)),  # names the others as secondary licences
    ("AGPL-3.0", ("gnu affero general public license version 3",)),
    ("LGPL-2.1", ("gnu lesser general public license version 2.1",)),
    ("LGPL-2.0", ("gnu library general public license version 2,",)),
    ("LGPL-3.0", ("gnu lesser general public license version 3",)),
    ("GPL-3.0", ("gnu general public license version 3",)),
    ("GPL-2.0", ("gnu general public license version 2",)),
    ("Apache-2.0", ("apache license version 2.0", "terms and conditions for use, reproduction")),
    ("Apache-2.0", ("licensed under the apache license version 2.0",)),
    ("PSF-2.0", ("python software foundation license version 2",)),
    ("CC0-1.0", ("cc0 1.0 universal",)),
    ("CC-BY-SA-4.0", ("attribution-sharealike 4.0 international",)),
    ("CC-BY-SA-3.0", ("attribution-sharealike 3.0 unported",)),
    ("CC-BY-4.0", ("attribution 4.0 international",)),
    ("CC-BY-3.0", ("attribution 3.0 unported",)),
    ("Unlicense", ("free and unencumbered software released into the public domain",)),
    (
        "BSD-3-Clause",
        (
            "redistribution and use in source and binary forms",
            "redistributions in binary form must reproduce",
            "endorse or promote products",
        ),
    ),
    (
        "BSD-2-Clause",
        (
            "redistribution and use in source and binary forms",
            "redistributions in binary form must reproduce",
        ),
    ),
    (
        "MIT",
        (
            "permission is hereby granted, free of charge, to any person obtaining a copy",
            "the above copyright notice and this permission notice shall be included",
        ),
    ),
    ("ISC", ("permission to use, copy, modify, and/or distribute this software for any purpose",)),
)
_FOUR_CLAUSES = "all advertising materials mentioning features"


def is_licence(name: str) -> bool:
    """Tells whether a file of this name holds a licence.

    Example:
        >>> [is_licence(name) for name in ("LICENSE", "COPYING.txt", "license-mit", "licensing.py")]
        [True, True, True, False]
    """
    lowered = name.lower()
    stems = {lowered.removesuffix(ending) for ending in _ENDINGS}
    return any(_NAME.fullmatch(stem) for stem in stems)


def identify(text: str) -> str | None:
    """Returns the SPDX name of a licence text, or None.

    Args:
        text: the content of a licence file. "GPL-2.0" leaves open whether later versions apply too: that
            is said in the files, not in the licence.

    Example:
        >>> identify("This is free and unencumbered software released into the public domain.")
        'Unlicense'
    """
    uniform = re.sub(r"[\s*#>=_]+", " ", text.lower().replace("“", '"').replace("licence", "license"))
    uniform = uniform.replace("license, version", "license version")
    for name, sentences in _RULES:
        if all(sentence in uniform for sentence in sentences):
            if name.startswith("BSD") and _FOUR_CLAUSES in uniform:
                return "BSD-4-Clause"
            return name
    return None


def licence_of(files: Iterable[Path]) -> str | None:
    """Returns the SPDX name for the licence files of one folder.

    Args:
        files: the files; where they name several licences, all are taken to apply ("A AND B"), which is
            the careful reading. The GPL beside the LGPL is only its base text.

    Returns:
        An SPDX expression; None where any of the files is not recognised or cannot be read.
    """
    names: set[str] = set()
    for path in sorted(files):
        try:
            with open(path, "rb") as file:
                name = identify(file.read(_MOST).decode("utf-8", "replace"))
        except OSError:
            return None  # unknown, as the docstring says; reading the folder itself will name the trouble
        if name is None:
            return None
        names.add(name)
    if any(name.startswith("LGPL") for name in names):
        names = {name for name in names if not name.startswith("GPL")}
    return " AND ".join(sorted(names)) or None
