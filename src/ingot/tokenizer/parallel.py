"""Parallel text: the same sentences in several languages, one language a column."""

from __future__ import annotations

from pathlib import Path

from ingot.errors import DataError


def read_parallel(path: Path) -> dict[str, list[str]]:
    """Reads a table with tabs between columns: first the languages, then a sentence a row in each of them.

    Args:
        path: of the UTF-8 file.

    Returns:
        language -> its sentences, all lists of one length.

    Raises:
        DataError: it cannot be read, has fewer than two languages, or a row lacks a sentence.
    """
    fix = "give a UTF-8 file with a column for each language, tabs between, and their names in the first line"
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # U+2028 and the like end no line here
    except UnicodeDecodeError:
        raise DataError("is not UTF-8", where=path, fix=fix) from None
    names = [name.strip() for name in lines[0].split("\t")]
    if len(names) < 2 or len(set(names)) != len(names) or not all(names):
        raise DataError(f"names {len(set(names) - {''})} languages in its first line", where=path, fix=fix)
    found: dict[str, list[str]] = {name: [] for name in names}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        cells = line.split("\t")
        if len(cells) != len(names) or not all(map(str.strip, cells)):
            given = sum(bool(cell.strip()) for cell in cells)
            what = f"{given} sentences for {len(names)} languages"
            raise DataError(what, where=f"{path}, line {number}", fix="give each sentence in all languages")
        for name, cell in zip(names, cells, strict=True):
            found[name].append(cell.strip())
    if not found[names[0]]:
        raise DataError("holds no sentence", where=path, fix=fix)
    return found
