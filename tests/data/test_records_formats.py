"""Formats of instruction and preference data: what a row means, both ways, and which format it is in."""

from __future__ import annotations

import doctest
import importlib
import json
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.data.records.convert import convert
from ingot.data.records.formats import FORMATS, detect, named
from ingot.data.records.record import Answered, Chat, Judged, Plain, Preference, Prompt, RowError, Steps
from ingot.data.records.reshape import reshape
from ingot.data.records.trl import split_prompt
from ingot.errors import DataError


def says(role: str, content: str) -> dict[str, Any]:
    return {"role": role, "content": content}


SKY = [says("user", "What colour is the sky?")]
BLUE, GREEN = [says("assistant", "It is blue.")], [says("assistant", "It is green.")]

# The rows of TRL's own documentation, by type, each in plain text and in messages, and what it means.
ROWS: list[tuple[str, dict[str, Any], Any]] = [
    ("text", {"text": "The sky is blue."}, Plain("The sky is blue.")),
    ("messages", {"messages": [*SKY, *BLUE]}, Chat([*SKY, *BLUE])),
    ("prompt-only", {"prompt": "The sky is"}, Prompt("The sky is")),
    ("prompt-only", {"prompt": SKY}, Prompt(SKY)),
    (
        "prompt-completion",
        {"prompt": "The sky is", "completion": " blue."},
        Answered("The sky is", " blue."),
    ),
    ("prompt-completion", {"prompt": SKY, "completion": BLUE}, Answered(SKY, BLUE)),
    (
        "preference",
        {"prompt": "The sky is", "chosen": " blue.", "rejected": " green."},
        Preference("The sky is", " blue.", " green."),
    ),
    ("preference", {"prompt": SKY, "chosen": BLUE, "rejected": GREEN}, Preference(SKY, BLUE, GREEN)),
    (
        "preference-implicit",
        {"chosen": "The sky is blue.", "rejected": "The sky is green."},
        Preference("The sky is", " blue.", " green."),
    ),
    (
        "preference-implicit",
        {"chosen": [*SKY, *BLUE], "rejected": [*SKY, *GREEN]},
        Preference(SKY, BLUE, GREEN),
    ),
    (
        "unpaired-preference",
        {"prompt": "The sky is", "completion": " blue.", "label": True},
        Judged("The sky is", " blue.", True),
    ),
    (
        "unpaired-preference",
        {"prompt": SKY, "completion": GREEN, "label": False},
        Judged(SKY, GREEN, False),
    ),
    (
        "stepwise",
        {"prompt": "9.8 or 9.11?", "completions": ["0.8 is more.", "So 9.11."], "labels": [True, False]},
        Steps("9.8 or 9.11?", ["0.8 is more.", "So 9.11."], [True, False]),
    ),
    (
        "alpaca",
        {"instruction": "Correct this.", "input": "", "output": "He goes."},
        Chat([says("user", "Correct this."), says("assistant", "He goes.")]),
    ),
    (
        "alpaca",
        {
            "instruction": "And now?",
            "input": "",
            "output": "Four.",
            "system": "Be brief.",
            "history": [["Hi.", "Hello."]],
        },
        Chat(
            [
                says("system", "Be brief."),
                says("user", "Hi."),
                says("assistant", "Hello."),
                says("user", "And now?"),
                says("assistant", "Four."),
            ]
        ),
    ),
    (
        "alpaca-preference",
        {"instruction": "Add 1 and 1.", "input": "", "chosen": "2", "rejected": "3"},
        Preference("Add 1 and 1.", "2", "3"),
    ),
    (
        "sharegpt",
        {"conversations": [{"from": "human", "value": "Hi."}, {"from": "gpt", "value": "Hello."}]},
        Chat([says("user", "Hi."), says("assistant", "Hello.")]),
    ),
    (
        "sharegpt",
        {
            "conversations": [
                {"from": "human", "value": "Weather in Oslo?"},
                {"from": "function_call", "value": '{"name": "weather", "arguments": {"city": "Oslo"}}'},
                {"from": "observation", "value": '{"sky": "clear"}'},
                {"from": "gpt", "value": "Clear."},
            ]
        },
        Chat(
            [
                says("user", "Weather in Oslo?"),
                says("assistant", "")
                | {
                    "tool_calls": [
                        {
                            "type": "function",
                            "function": {"name": "weather", "arguments": {"city": "Oslo"}},
                        }
                    ]
                },
                says("tool", '{"sky": "clear"}'),
                says("assistant", "Clear."),
            ]
        ),
    ),
    ("question-answer", {"question": "1+1?", "answer": "2"}, Answered("1+1?", "2")),
]
READ_ONLY: list[tuple[str, dict[str, Any], Any]] = [
    (
        "ultrafeedback",
        {
            "instruction": "Add 1 and 1.",
            "completions": [
                {"response": "2", "overall_score": 9.0},
                {"response": "11", "overall_score": 2.5},
                {"response": "about 2", "overall_score": 6},
            ],
        },
        Preference("Add 1 and 1.", "2", "11"),
    ),
    (
        "stackexchange",
        {
            "title": "How to add?",
            "body": "<p>Say <code>a &lt; b</code>.</p>",
            "answers": [
                {"text": "<p>Use:</p><pre><code>a + b\n</code></pre>", "score": 5},
                {"text": "Guess.", "score": 9, "accepted": False},
                {"text": "Take a calculator.", "score": 1, "accepted": True},
            ],
        },
        Answered("How to add?\n\nSay `a < b`.", "Take a calculator."),
    ),
    (
        "hh",
        {
            "chosen": "\n\nHuman: Hi.\n\nAssistant: Hello.\n\nHuman: Sky?\n\nAssistant: Blue.",
            "rejected": "\n\nHuman: Hi.\n\nAssistant: Hello.\n\nHuman: Sky?\n\nAssistant: Green.",
        },
        Preference(
            [says("user", "Hi."), says("assistant", "Hello."), says("user", "Sky?")],
            [says("assistant", "Blue.")],
            [says("assistant", "Green.")],
        ),
    ),
]


@pytest.mark.parametrize(("name", "row", "meaning"), [*ROWS, *READ_ONLY])
def test_a_row_is_known_and_read(name: str, row: dict[str, Any], meaning: Any) -> None:
    assert detect([row]).name == name
    assert FORMATS[name].read(row) == meaning


@pytest.mark.parametrize(("name", "row", "meaning"), ROWS)
def test_what_is_read_is_written_as_it_stood(name: str, row: dict[str, Any], meaning: Any) -> None:
    written = FORMATS[name].write(meaning)
    assert json.loads(json.dumps(written)) == row


def test_every_format_has_a_row_here() -> None:
    assert {name for name, _, _ in [*ROWS, *READ_ONLY]} == set(FORMATS) - {"stackexchange-preference"}


def test_votes_make_a_preference_where_asked_for() -> None:
    answers = [
        {"body": "<p>Use:</p><pre><code>a + b\n</code></pre>", "score": 5},
        {"body": "No.", "score": -1},
    ]
    record = named("stackexchange-preference").read({"question": "How?", "answers": answers})
    assert record == Preference("How?", "Use:\n\n```\na + b\n```", "No.")
    for wrong in ([], [{"score": 1}], [{"text": "a", "score": "x"}], [{"text": "a"}, {"text": "b"}]):
        with pytest.raises(RowError):
            named("stackexchange-preference").read({"question": "How?", "answers": wrong})
    with pytest.raises(RowError, match="nobody liked it"):
        named("stackexchange").read({"question": "How?", "answers": answers[1:]})


def test_instruction_and_input_are_what_the_user_says() -> None:
    row = {"instruction": "Correct this.", "input": "He go.", "output": "He goes."}
    record = named("alpaca").read(row)
    assert record == Chat([says("user", "Correct this.\nHe go."), says("assistant", "He goes.")])


def test_keys_of_no_format_are_carried_along() -> None:
    row = {"question": "1+1?", "answer": "2", "id": 7, "tools": [{"type": "function"}]}
    (written,) = convert(named("question-answer").read(row), named("messages"), Counter())
    assert written["id"] == 7 and written["tools"] == [{"type": "function"}]
    assert [one["content"] for one in written["messages"]] == ["1+1?", "2"]


def test_a_prompt_that_the_answers_repeat_is_taken_from_them() -> None:
    row = {
        "prompt": "Sky?",
        "chosen": [says("user", "Sky?"), *BLUE],
        "rejected": [says("user", "Sky?"), *GREEN],
    }
    assert named("preference").read(row) == Preference("Sky?", BLUE, GREEN)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)
CHATS = st.builds(
    lambda system, said: Chat(
        [says("system", one) for one in system]
        + [says(role, one) for pair in said for role, one in zip(("user", "assistant"), pair, strict=True)]
    ),
    st.lists(TEXTS, max_size=1),
    st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=4),
)


@settings(max_examples=100, deadline=None)
@given(chat=CHATS, name=st.sampled_from(["alpaca", "sharegpt", "messages"]))
def test_chats_survive_every_chat_format(chat: Chat, name: str) -> None:
    row = json.loads(json.dumps(FORMATS[name].write(chat)))
    assert detect([row]).name == name
    assert FORMATS[name].read(row) == chat


@settings(max_examples=100, deadline=None)
@given(chat=CHATS)
def test_a_chat_as_prompt_and_completion_and_back(chat: Chat) -> None:
    (answered,) = reshape(chat, Answered, Counter())
    assert reshape(answered, Chat, Counter()) == [chat]


@settings(max_examples=200, deadline=None)
@given(start=TEXTS, one=TEXTS, other=TEXTS)
def test_a_common_beginning_splits_off_and_nothing_is_lost(start: str, one: str, other: str) -> None:
    chosen, rejected = f"{start} {one}", f"{start} {other}"
    try:
        prompt, better, worse = split_prompt(chosen, rejected)
    except RowError:
        assert chosen.startswith(rejected) or rejected.startswith(chosen) or not prompt_is_possible(chosen)
        return
    assert prompt + better == chosen and prompt + worse == rejected
    assert better[:1].isspace() or better[0] != worse[0]


def prompt_is_possible(text: str) -> bool:
    return any(sign.isspace() for sign in text[1:])


SHAPES: list[tuple[Any, type, list[Any], dict[str, int]]] = [
    (Preference("p", "a", "b"), Judged, [Judged("p", "a", True), Judged("p", "b", False)], {}),
    (Preference("p", "a", "b"), Answered, [Answered("p", "a")], {"rejected answers": 1}),
    (Preference("p", "a", "b"), Prompt, [Prompt("p")], {"rejected answers": 1, "answers": 1}),
    (Judged("p", "a", False), Answered, [], {"bad answers": 1}),
    (Judged("p", "a", True), Answered, [Answered("p", "a")], {"bad answers": 0}),
    (Steps("p", ["a", "b"], [True, False]), Judged, [Judged("p", "a\nb", False)], {}),
    (Steps("p", ["a", "b"], [True, True]), Answered, [Answered("p", "a\nb")], {"labels of steps": 2}),
    (Answered("The sky", " is blue."), Plain, [Plain("The sky is blue.")], {}),
]


@pytest.mark.parametrize(("record", "shape", "expected", "told"), SHAPES)
def test_records_in_another_shape(record: Any, shape: type, expected: list, told: dict[str, int]) -> None:
    left_out: Counter[str] = Counter()
    assert reshape(record, shape, left_out) == expected
    assert left_out == Counter(told)


@pytest.mark.parametrize(
    ("record", "shape"),
    [
        (Plain("x"), Chat),
        (Prompt("x"), Answered),
        (Chat([*SKY, *BLUE]), Preference),
        (Answered(SKY, BLUE), Plain),
    ],
)
def test_what_has_no_meaning_is_refused(record: Any, shape: type) -> None:
    with pytest.raises(RowError):
        reshape(record, shape, Counter())


def test_unknown_names_and_rows() -> None:
    with pytest.raises(DataError, match="did you mean 'alpaca'"):
        named("alpacca")
    with pytest.raises(DataError, match="has 'foo', 'bar'"):
        detect([{"foo": 1, "bar": 2}])


def test_reading_formats_are_not_written() -> None:
    with pytest.raises(RowError, match="to read from"):
        named("hh").write(Preference("p", "a", "b"))


@pytest.mark.parametrize("name", ["trl", "formats", "reshape", "stackexchange"])
def test_the_examples_in_the_documentation_are_true(name: str) -> None:
    module = importlib.import_module(f"ingot.data.records.{name}")
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
