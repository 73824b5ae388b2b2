"""Validation and conversion of whole files: which line, what, why; and nothing silently dropped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ingot.data.records.convert import convert_file
from ingot.data.records.record import Chat, RowError
from ingot.data.records.rows import read_rows
from ingot.data.records.validate import check, load
from ingot.errors import DataError

GOOD = {"messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Hello."}]}


def said(*pairs: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


WRONG: list[tuple[Any, str]] = [
    ({"message": GOOD["messages"]}, r"misses 'messages' \(has 'message'\) \(is it 'message'\? rename it\)"),
    (
        said(("user", "Hi."), ("asistant", "Hello.")),
        r"'messages\[2\].role' is 'asistant' \(did you mean 'assistant'",
    ),
    (said(("user", "Hi."), ("assistant", " \n")), r"'messages\[2\].content' is empty"),
    (said(("user", "Hi."), ("assistant", 7)), r"'messages\[2\].content' is a number, not text"),
    (said(("user", "Hi."), ("assistant", None)), r"'messages\[2\].content' is null, not text"),
    (said(("user", "Hi."), ("user", "Hi?"), ("assistant", "Yes.")), r"'messages\[2\]' is from 'user' again"),
    (said(("assistant", "Hello.")), "starts with 'assistant'"),
    (said(("user", "Hi.")), "ends with 'user', and nobody answers"),
    (
        said(("user", "Hi."), ("assistant", "A."), ("system", "B."), ("assistant", "C.")),
        "behind other messages",
    ),
    (said(("system", "Be."), ("system", "Be."), ("user", "a"), ("assistant", "b")), "two system messages"),
    (said(("system", "Be.")), "nothing but a system message"),
    (said(("user", "a"), ("tool", "b"), ("assistant", "c")), "a tool that nobody called"),
    ({"messages": []}, "holds no message"),
    ({"messages": "Hi."}, "is text, not a list of messages"),
    ({"messages": [{"role": "user", "contents": "Hi."}]}, r"misses 'content' .*is it 'contents'"),
    ({"messages": ["Hi."]}, r"'messages\[1\]' is text, not a message"),
    ([1], r"is \[1\], not an object"),
]


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(("wrong", "why"), WRONG)
@pytest.mark.parametrize("as_array", [False, True])
def test_the_wrong_row_is_named_by_its_line(tmp_path: Path, wrong: Any, why: str, as_array: bool) -> None:
    path = tmp_path / "rows.jsonl"
    rows = [GOOD, GOOD, wrong, GOOD]
    if as_array:  # one row per line behind the opening bracket
        path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    else:
        path.write_text(lines(*rows))
    with pytest.raises(DataError, match=f"1 of 4 rows cannot be used: line {4 if as_array else 3}: .*{why}"):
        load(path)


def test_an_alpaca_row_with_a_misspelled_key(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    good = {"instruction": "a", "input": "b", "output": "c"}
    path.write_text(lines({"instruction": "a", "imput": "b", "output": "c"}, good, good))
    with pytest.raises(DataError, match=r"line 1: 'imput' has no meaning \(did you mean 'input'\?\)"):
        load(path)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "p", "chosen": "a", "rejected": "a"}, "are the same"),
        ({"prompt": "p", "completion": "c", "label": "yes"}, "'label' is 'yes'"),
        ({"prompt": "p", "completions": ["a"], "labels": []}, "1 'completions' but 0 'labels'"),
        ({"instruction": "p", "completions": [{"response": "a", "score": 1}] * 2}, "all answers score 1"),
        ({"instruction": "p", "completions": [{"response": "a"}] * 2}, "has no score"),
        ({"chosen": "abc", "rejected": "xyz"}, "no common beginning"),
        ({"conversations": [{"from": "humann", "value": "a"}]}, "did you mean 'human'"),
        ({"conversations": [{"from": "function_call", "value": "{"}]}, "is no call"),
        ({"instruction": "a", "output": "\ud800"}, "half of a surrogate pair"),
        ({"instruction": "a", "output": "b", "history": [["q"]]}, r"'history\[1\]' is no pair"),
    ],
)
def test_other_formats_say_what_is_wrong(tmp_path: Path, row: Any, why: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(lines(row))
    with pytest.raises(DataError, match=f"line 1: .*{why}"):
        load(path)


def test_five_are_listed_and_all_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(lines(*[GOOD] * 10, *[said(("user", "Hi."))] * 8))
    with pytest.raises(DataError) as caught:
        load(path)
    assert "8 of 18 rows" in str(caught.value) and "and 3 more" in str(caught.value)
    assert [f"line {n}:" in str(caught.value) for n in range(10, 18)] == [False, *[True] * 5, False, False]


def test_broken_lines_are_named_and_the_others_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    deep = b"[" * 200_000 + b"]" * 200_000
    good = json.dumps(GOOD).encode()
    path.write_bytes(
        b"\n".join([b"\xef\xbb\xbf" + good, b"", b"{oops", b"\xff\xfe", b'{"a":' + deep + b"}", good])
    )
    rows = list(read_rows(path))
    assert [row.line for row in rows] == [1, 3, 4, 5, 6]
    wrong = [str(row.value) for row in rows if isinstance(row.value, RowError)]
    assert ["not JSON" in wrong[0], "not UTF-8" in wrong[1], "Recursion" in wrong[2]] == [True] * 3
    _, problems = check(path)
    assert (problems.rows, problems.count) == (5, 3)


def test_an_endless_line_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingot.data.records.rows.LONGEST_ROW", 200)
    path = tmp_path / "rows.jsonl"
    path.write_text(lines(GOOD, {"text": "x" * 1000}, GOOD))
    first, long, last = read_rows(path)
    assert "longer than" in str(long.value)
    assert (first.line, long.line, last.line) == (1, 2, 3) and last.value == GOOD


@pytest.mark.parametrize(
    "content", ['[{"text": "a"} {"text": "b"}]', '[{"text": "a"}', '[{"text": "a"},\n{oops}]']
)
def test_a_broken_array_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"line [12]: "):
        load(path)


@pytest.mark.parametrize("content", ["", "\n\n", "[]", "[ ]"])
def test_a_file_without_rows_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "rows.json"
    path.write_text(content)
    with pytest.raises(DataError, match="holds no row"):
        load(path)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        load(tmp_path / "none.jsonl")


def test_a_file_is_converted_row_by_row(tmp_path: Path) -> None:
    path, out = tmp_path / "in.json", tmp_path / "out.jsonl"
    rows = [{"instruction": f"Ask {n}.", "input": "", "output": f"Say {n}."} for n in range(300)]
    path.write_text(json.dumps(rows, indent=2))
    converted = convert_file(path, out, "messages")
    assert (converted.source.name, converted.written, converted.problems.count) == ("alpaca", 300, 0)
    back = tmp_path / "back.jsonl"
    convert_file(out, back, "alpaca")
    assert [json.loads(line) for line in back.read_text().splitlines()] == rows
    assert load(out)[7] == Chat(
        [{"role": "user", "content": "Ask 7."}, {"role": "assistant", "content": "Say 7."}]
    )


def test_wrong_rows_stop_a_conversion_unless_told_otherwise(tmp_path: Path) -> None:
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    out.write_text("what was there\n")
    path.write_text(lines(GOOD, said(("user", "Hi.")), GOOD))
    with pytest.raises(DataError, match="line 2"):
        convert_file(path, out, "sharegpt")
    assert out.read_text() == "what was there\n" and sorted(p.name for p in tmp_path.iterdir()) == [
        "in.jsonl",
        "out.jsonl",
    ]
    converted = convert_file(path, out, "sharegpt", leave_out_wrong=True)
    assert (converted.written, converted.problems.count, converted.problems.first[0].line) == (2, 1, 2)
    assert len(out.read_text().splitlines()) == 2


def test_what_only_json_can_spell_is_written_too(tmp_path: Path) -> None:
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text(lines({"question": "1+1?", "answer": "zw\u00f6lf", "note": "\ud800"}))
    convert_file(path, out, "messages")
    assert json.loads(out.read_text(encoding="utf-8"))["note"] == "\ud800"


def test_what_a_format_cannot_hold_is_counted(tmp_path: Path) -> None:
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_text(lines(*[{"prompt": f"p{n}", "chosen": "a", "rejected": "b"} for n in range(4)]))
    assert convert_file(path, out, "unpaired-preference").written == 8
    converted = convert_file(path, out, "messages")
    assert converted.written == 4 and converted.left_out == {"rejected answers": 4}
    with pytest.raises(DataError, match=r"4 of 4 rows .* a preference cannot be told as an answer in steps"):
        convert_file(path, out, "stepwise")
