"""The data card: what a corpus is made of and how to make it again, as a page for people (README.md)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CARD = "README.md"

_SHOWN = 12


def card(name: str, counts: Mapping[str, Any], rebuild: str = "ingot data prepare RECIPE data=DIR") -> str:
    """Writes the card.

    Args:
        name: of the corpus.
        counts: as in `counts.json`.
        rebuild: the command that makes it.

    Returns:
        Markdown.
    """
    documents, sizes = counts["documents"], counts["bytes"]
    parts = [
        f"# Corpus: {name}",
        _table(
            ["", "documents", "bytes", "sources"],
            [[side, documents[side], sizes[side], counts["sources"][side]] for side in ("train", "heldout")],
        ),
        f"Made from {counts['files']:,} files with {counts['bytes_read']:,} bytes. "
        "`inputs.jsonl` lists each with its SHA-256.",
        *_named_sources(counts.get("named_sources", {})),
        _section("Kinds of documents", ["kind", "documents"], counts["kinds"]),
        _section("Languages", ["language", "documents"], counts["languages"]),
        _section("Licences", ["licence", "documents"], counts["licences"]),
        "'unknown' means that nothing said so; it is not a permission.",
        "## What was dropped, by rule",
        _rules(counts["rules"]),
        "Every entry, with what the rule measured and the text itself, is in `ledger/`; "
        "`ingot data inspect` shows some of each rule.",
    ]
    if counts["other_files"]:
        listed = ", ".join(f"{count:,} {suffix}" for suffix, count in counts["other_files"].items())
        parts.append(f"Files of kinds that are not read: {listed}.")
    parts += [
        "## How to make it again",
        f"```sh\n{rebuild}\n```",
        "The settings are in `artifact.json` (`config`). The same files and settings make the same bytes, "
        "whatever the number of workers.",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _named_sources(sources: Mapping[str, Any]) -> list[str]:
    if not sources:
        return []
    rows = [[name, one["path"], one["weight"], one["licence"] or "as found"] for name, one in sources.items()]
    return ["## Sources", _table(["source", "from", "weight", "licence"], rows)]


def _section(title: str, header: list[str], counted: Mapping[str, int]) -> str:
    rows: list[list[Any]] = [[name, count] for name, count in list(counted.items())[:_SHOWN]]
    if len(counted) > _SHOWN:
        rows.append([f"{len(counted) - _SHOWN} others", sum(list(counted.values())[_SHOWN:])])
    return f"## {title}\n\n{_table(header, rows)}"


def _rules(rules: Mapping[str, Any]) -> str:
    if not rules:
        return "Nothing."
    rows = [[rule, one["threshold"], one["documents"], one["bytes"]] for rule, one in rules.items()]
    return _table(["rule", "threshold", "documents", "bytes"], rows)


def _table(header: list[str], rows: list[list[Any]]) -> str:
    lines = [header, ["---"] * len(header), *[[_cell(value) for value in row] for row in rows]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}"
    return str(value).replace("|", "\\|").replace("\n", " ")
