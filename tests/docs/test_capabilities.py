"""The table of promises keeps its shape, and the script that counts it refuses a table that does not."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "capabilities.py"
TABLE = ROOT / "docs" / "capabilities.md"


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("capabilities_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


capabilities = load_script()

HEADER = (
    "| id | thing | stated | test on two cores | GPU / full scale | status | shown by | last figure |\n"
    "|---|---|---|---|---|---|---|---|\n"
)


def table(*rows: str) -> str:
    return "# Title\n\n## B. Basics\n\n" + HEADER + "".join(row + "\n" for row in rows)


def test_every_promise_stands_in_the_table() -> None:
    sections = capabilities.parse(TABLE.read_text(encoding="utf-8"))
    assert "".join(section.letter for section in sections) == "BCDEFGHIJKLMNOPQRSTUV"
    sizes = {section.letter: len(section.rows) for section in sections}
    assert sizes["B"] == sizes["C"] == 18
    assert sum(sizes.values()) == 237


def test_counts_agree_with_a_count_by_hand() -> None:
    text = TABLE.read_text(encoding="utf-8")
    by_hand = {
        status: len(re.findall(rf"^\| [B-V]\d+ \|.*\| {status} \|[^|]*\|[^|]*\|$", text, re.MULTILINE))
        for status in capabilities.STATUSES
    }
    counted = capabilities.summary(capabilities.parse(text))
    assert counted["by_status"] == by_hand
    assert counted["rows"] == sum(by_hand.values())
    assert len(counted["shown"]) == counted["rows"] - by_hand["no"]


def test_the_tests_that_rows_name_exist() -> None:
    for row in capabilities.summary(capabilities.parse(TABLE.read_text(encoding="utf-8")))["shown"]:
        for path in re.findall(r"tests/[\w/.]+", row["command"]):
            assert (ROOT / path).exists(), f"{row['id']} names {path}, which does not exist"


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("| B1 | a | - | b | - | no | - |", "B1: 7 cells where there should be 8"),
        ("| B1 | a | - | b | - | no | - | - | - |", "B1: 9 cells"),
        ("| B2 | a | - | b | - | no | - | - |", "B2: B1 should stand here"),
        ("| C1 | a | - | b | - | no | - | - |", "C1: B1 should stand here"),
        ("| B1 | a | - | b | - | maybe | - | - |", "B1: status 'maybe' is none of"),
        ("| B1 | a |  | b | - | no | - | - |", "B1: 'stated' is empty"),
        ("| B1 | a | - | b | - | thin | - | - |", "B1: status is 'thin', yet no `command`"),
        ("| B1 | a | - | b | - | no | `ingot demo` | - |", "B1: status is 'no', yet"),
        ("| B1 | a | - | b | - | measured | `ingot demo` | - |", "B1: status is 'measured', yet"),
        ("| B1 | a | - | b | - | no | - | -", "does not end with '|'"),
    ],
)
def test_a_malformed_row_is_named(row: str, complaint: str) -> None:
    with pytest.raises(capabilities.MalformedTable, match=re.escape(complaint)):
        capabilities.parse(table(row))


def test_a_row_given_twice_and_an_empty_section_are_refused() -> None:
    row = "| B1 | a | - | b | - | no | - | - |"
    with pytest.raises(capabilities.MalformedTable, match="B1: B2 should stand here"):
        capabilities.parse(table(row, row))
    with pytest.raises(capabilities.MalformedTable, match=r"section B\. Basics: no rows"):
        capabilities.parse(table())
    with pytest.raises(capabilities.MalformedTable, match="no sections"):
        capabilities.parse("nothing here")


def test_an_escaped_bar_is_part_of_its_cell() -> None:
    (section,) = capabilities.parse(table(r"| B1 | p(a\|b) | - | b | - | no | - | - |"))
    assert section.rows[0].thing == "p(a|b)"


def test_the_command_prints_counts_and_fails_with_one_line(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True)

    assert json.loads(run("--json").stdout)["rows"] == 237
    assert "in all" in run().stdout
    broken = tmp_path / "broken.md"
    broken.write_text(table("| B1 | a | - | b | - | no | - |"), encoding="utf-8")
    failed = run(str(broken))
    assert failed.returncode == 2
    assert failed.stdout == ""
    assert failed.stderr.count("\n") == 1
    assert "B1" in failed.stderr
    assert run(str(tmp_path / "missing.md")).returncode == 2
