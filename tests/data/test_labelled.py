"""Examples with answers: lines named by number, splits that leak nothing, batches that lose nothing."""

from __future__ import annotations

import ast
import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.data.labelled import library
from ingot.data.labelled.batches import RowStream, batches
from ingot.data.labelled.lines import read_lines
from ingot.data.labelled.split import split
from ingot.data.labelled.tasks import read_examples
from ingot.data.stream import Part
from ingot.errors import ConfigError, DataError

TEXTS = st.text(st.characters(exclude_characters="\r\n\t\0", exclude_categories=["Cs"]), min_size=1).filter(
    str.strip
)


def without_lines(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "line"} for row in rows]


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=6))
def test_all_kinds_of_files_give_the_same_examples(
    rows: list[tuple[str, str]], tmp_path_factory: Any
) -> None:
    folder = tmp_path_factory.mktemp("kinds")
    expected = [{"source": a.strip(), "target": b.strip()} for a, b in rows]
    (folder / "a.jsonl").write_text("".join(json.dumps({"source": a, "target": b}) + "\n" for a, b in rows))
    (folder / "b.json").write_text(json.dumps([{"source": a, "target": b} for a, b in rows]))
    with open(folder / "c.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("source", "target"), *rows])
    with open(folder / "d.tsv", "w", encoding="utf-8", newline="") as file:
        file.write("source\ttarget\n" + "".join(f"{a}\t{b}\n" for a, b in rows))
    for name in ("a.jsonl", "b.json", "c.csv", "d.tsv"):
        assert without_lines(read_examples(folder / name, "rewrites")[0]) == expected, name


def test_lines_are_counted_as_an_editor_counts_them(tmp_path: Path) -> None:
    table = tmp_path / "a.csv"
    table.write_text('text,label\n"two\nlines",a\nthree,b\n')
    assert [line.number for line in read_lines(table)] == [2, 4]
    columns = tmp_path / "b.conll"
    columns.write_text("-DOCSTART- O\n\nIn IN O\nRome NNP B-LOC\n\n# SYM O\n")
    found = list(read_lines(columns))
    assert [line.number for line in found] == [3, 6]
    assert found[0].value == {"words": ["In", "Rome"], "tags": ["O", "B-LOC"]}
    assert found[1].value == {"words": ["#"], "tags": ["O"]}


@pytest.mark.parametrize(
    ("name", "content", "task", "words"),
    [
        ("a.jsonl", '{"text": "x", "label": 1}\n{"text": "y"}\n', "classes", "line 2: has no 'label'"),
        ("a.jsonl", '{"text": "x", "label": 1}\n\n{broken\n', "classes", "line 3: is not JSON"),
        ("a.jsonl", '{"text": "  ", "label": "a"}\n', "classes", "line 1: 'text' is '  ', not a text"),
        ("a.jsonl", '{"text": "x", "label": 0.5}\n', "classes", "line 1: 'label' is 0.5"),
        ("a.csv", "text,label\nx,a\ny,b,c\n", "classes", "line 3: has 3 cells, the first line names 2"),
        ("a.csv", 'text,label\n"x,a\n', "classes", "line"),
        ("a.tsv", "", "classes", "is empty"),
        ("a.conll", "Rome\n", "tags", "line 1 has a word and no tag"),
        ("a.jsonl", '{"words": ["a", "b"], "tags": ["O"]}\n', "tags", "line 1: has 2 words and 1 tags"),
        (
            "a.jsonl",
            '{"question": "q", "context": "c", "answer": "d"}\n',
            "answers",
            "does not hold the answer 'd'",
        ),
        (
            "a.jsonl",
            '{"question": "q", "context": "abc", "answers": {"text": ["b"], "answer_start": [2]}}\n',
            "answers",
            "does not hold the answer 'b' at 2",
        ),
        ("a.jsonl", "", "pairs", "holds no examples"),
        ("a.txt", "x", "pairs", "files ending in '.txt' hold no examples"),
        ("a.jsonl", b"\xff\xfe", "pairs", "is not UTF-8"),
        ("a.csv", b"first,second\n\xff,b\n", "pairs", "is not UTF-8"),
    ],
)
def test_what_is_no_example_is_named(
    name: str, content: str | bytes, task: Any, words: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError) as caught:
        read_examples(path, task)
    assert words in str(caught.value) and name in str(caught.value)


def test_wrong_lines_may_be_skipped_and_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x", "label": true}\n{"text": 5, "label": "a"}\n')
    found, bad = read_examples(path, "classes", wrong="skip")
    assert found == [{"text": "x", "label": "True", "line": 1}]
    assert len(bad) == 1 and bad[0].startswith("line 2:")
    with pytest.raises(DataError, match="1 of 2 lines"):
        read_examples(path, "classes")


def test_columns_may_have_other_names(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("Satz,Art\nja,1\n")
    found, _ = read_examples(path, "classes", {"text": "Satz", "label": "Art"})
    assert found == [{"text": "ja", "label": "1", "line": 2}]
    with pytest.raises(DataError, match=r"has no 'text'.*examples\.columns\.text=NAME"):
        read_examples(path, "classes")
    with pytest.raises(ConfigError, match="'classes' has no key 'txt'; did you mean 'text'"):
        read_examples(path, "classes", {"txt": "Satz"})


def test_squad_rows_and_questions_without_answers(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    rows = [
        {"question": "q", "context": "a b a", "answers": {"text": ["a"], "answer_start": [4]}},
        {"question": "q", "context": "a b a", "answers": {"text": [], "answer_start": []}},
        {"question": "q", "context": "a b a", "answer": "a"},
        {"question": "q", "context": "a b a", "answer": "a", "start": 4},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, _ = read_examples(path, "answers")
    assert [(row["answer"], row["start"]) for row in found] == [("a", 4), ("", -1), ("a", 0), ("a", 4)]


@settings(max_examples=40, deadline=None)
@given(texts=st.lists(st.sampled_from("abcdefghijklmnop"), min_size=2), share=st.floats(0.05, 0.9))
def test_a_split_loses_nothing_and_leaks_nothing(texts: list[str], share: float) -> None:
    rows = [{"text": text, "label": number} for number, text in enumerate(texts)]
    train, heldout = split(rows, share)
    assert sorted(row["label"] for row in train + heldout) == list(range(len(rows)))
    assert not {row["text"] for row in train} & {row["text"] for row in heldout}
    different = len(set(texts))
    if different > 1:
        assert len({row["text"] for row in heldout}) == max(1, round(share * different))


def rows_of(lengths: list[int]) -> list[dict[str, Any]]:
    return [{"inputs": list(range(1, n + 1)), "labels": number} for number, n in enumerate(lengths)]


@settings(max_examples=20, deadline=None)
@given(lengths=st.lists(st.integers(1, 30), min_size=6, max_size=24), seed=st.integers(0, 99))
def test_an_epoch_has_every_row_at_most_once_whole_and_padded(lengths: list[int], seed: int) -> None:
    rows = rows_of(lengths)
    stream = RowStream(rows, {"inputs": 0}, 3, seed)
    seen: list[int] = []
    ids: list[int] = []
    for step in range(2 * stream.batches_per_epoch):
        batch = stream.batch(step)
        for tokens, label in zip(batch["inputs"], batch["labels"].tolist(), strict=True):
            assert tokens[tokens != 0].tolist() == rows[label]["inputs"]
            assert (tokens[lengths[label] :] == 0).all()
        seen += batch["labels"].tolist()
        ids += batch["sample_ids"].tolist()
        assert torch.equal(batch["sample_ids"], stream.sample_ids(step))
        parts = [stream.batch(step, part=Part(rank, 3)) for rank in range(3)]
        assert torch.equal(torch.cat([part["inputs"] for part in parts]), batch["inputs"])
    half = len(seen) // 2
    assert len(set(seen[:half])) == half and len(set(seen[half:])) == half
    assert len(set(ids)) == len(ids)
    assert RowStream(rows, {"inputs": 0}, 3, seed + 1).fingerprint != stream.fingerprint


def test_rows_to_measure_on_keep_their_order() -> None:
    found = batches(rows_of([3, 9, 1, 2, 5]), {"inputs": 0}, 2)
    assert [part["labels"].tolist() for part in found] == [[0, 1], [2, 3], [4]]
    assert [list(part["inputs"].shape) for part in found] == [[2, 16], [2, 8], [1, 8]]


@pytest.mark.parametrize("task", ["classes", "tags", "answers", "pairs", "rewrites"])
def test_the_standard_library_has_examples_of_every_task(task: Any, tmp_path: Path) -> None:
    """What is mined passes the same checks as a user's file."""
    found = library.mine(task, most=40)
    assert len(found) == 40 and found == library.mine(task, most=40)
    path = tmp_path / "mined.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in found))
    checked, _ = read_examples(path, task)
    assert without_lines(checked) == found
    for row in found if task == "answers" else []:
        assert row["context"][row["start"] :].startswith(row["answer"])


def test_the_roles_of_names_are_those_of_the_grammar() -> None:
    code = "def f(a, b=1):\n    c = a.d(b, k=g)\n    return c.e\n"
    tree = ast.parse(code)
    thing = library._Thing("function", tree.body[0], "", code.split("\n"))
    (found,) = library._tags(thing)
    named = [pair for pair in zip(found["words"], found["tags"], strict=True) if pair[1] != "O"]
    assert named == [
        ("a", "parameter"), ("b", "parameter"), ("c", "written"), ("a", "read"), ("d", "called"),
        ("b", "read"), ("k", "keyword"), ("g", "read"), ("c", "read"), ("e", "attribute"),
    ]  # fmt: skip
