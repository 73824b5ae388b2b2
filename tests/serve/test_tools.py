"""Calls of tools: read alike however an answer is cut into pieces, and told to models that know none."""

import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingot.errors import ConfigError
from ingot.serve.tool_calls import Reader, Said, schema
from ingot.tokenizer.calls import CLOSE, OPEN, told

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=6), JSON, max_size=3)
NAMES = st.from_regex(r"[a-zA-Z_][\w.-]{0,20}", fullmatch=True).filter(str.isascii)
PROSE = st.text(alphabet='ab <>/tool_cal\n{}"', max_size=20).filter(lambda text: OPEN not in text)


def gathered(pieces: list[str], inside: bool = False) -> tuple[str, list[tuple[str, str]]]:
    """Content and calls, put together as a client does it."""
    reader = Reader(inside=inside)
    said = [one for piece in pieces for one in reader.feed(piece)] + reader.finish()
    content, calls = "", []
    for one in said:
        if one.call is None:
            content += one.text
        elif one.name is not None:
            assert one.call == len(calls)
            calls.append([one.name, one.arguments])
        else:
            assert one.call == len(calls) - 1
            calls[-1][1] += one.arguments
    return content, [(name, arguments) for name, arguments in calls]


def cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[a:b] for a, b in itertools.pairwise(edges)]


@given(
    PROSE,
    st.lists(st.tuples(NAMES, OBJECTS, st.booleans()), max_size=3),
    st.lists(st.integers(0), max_size=9),
)
def test_calls_are_found_however_the_answer_is_cut(
    prose: str, calls: list[tuple[str, dict, bool]], places: list[int]
) -> None:
    text = prose
    for name, arguments, reverse in calls:
        call = {"name": name, "arguments": arguments}
        if reverse:
            call = dict(reversed(call.items()))
        text += f"\n{OPEN}\n{json.dumps(call, ensure_ascii=False)}\n{CLOSE}"
    content, found = gathered(cut(text, places))
    assert content == (prose.rstrip("\n") if calls else prose)
    assert [(name, json.loads(arguments)) for name, arguments in found] == [
        (name, arguments) for name, arguments, _ in calls
    ]


@given(
    st.text(alphabet=f'{OPEN}{CLOSE}{{}}":,name arguments\n', max_size=120),
    st.lists(st.integers(0), max_size=9),
)
def test_any_text_is_read_alike_whole_and_in_pieces(text: str, places: list[int]) -> None:
    assert gathered(cut(text, places)) == gathered([text])


@given(PROSE, st.lists(st.integers(0), max_size=5))
def test_a_text_without_calls_stays_as_it_is(prose: str, places: list[int]) -> None:
    assert gathered(cut(prose, places)) == (prose, [])


@pytest.mark.parametrize(
    ("text", "content", "calls"),
    [
        (f"a{OPEN}no json{CLOSE}b", f"a{OPEN}no json{CLOSE}b", []),
        (f'{OPEN}{{"name": 5}}{CLOSE}', f'{OPEN}{{"name": 5}}{CLOSE}', []),
        (f'{OPEN}{{"name": "f", "arguments": {{"a": ', "", [("f", '{"a": ')]),
        (f'{OPEN}{{"name": "f"', f'{OPEN}{{"name": "f"', []),
        (f'{OPEN}{{"name": "f"}}{CLOSE}', "", [("f", "{}")]),
        (f'{OPEN}{{"name": "f", "parameters": {{"a": 1}}}}', "", [("f", '{"a": 1}')]),
        (f'{OPEN}{{"name": "f", "arguments": {{"a": "}}]\\""}}}}{CLOSE}x', "x", [("f", '{"a": "}]\\""}')]),
        (f"{OPEN}[{'[' * 5000}{CLOSE}", f"{OPEN}[{'[' * 5000}{CLOSE}", []),
    ],
)
def test_what_is_no_call_or_half_of_one(text: str, content: str, calls: list) -> None:
    assert gathered([text]) == (content, calls)
    assert gathered(list(text)) == (content, calls)


def test_arguments_are_passed_on_as_they_come() -> None:
    reader = Reader()
    assert reader.feed(f'{OPEN}{{"name": "f", "arguments": {{"a"') == [
        Said(call=0, name="f"),
        Said(call=0, arguments='{"a"'),
    ]
    assert reader.feed(": 1") == [Said(call=0, arguments=": 1")]


def test_an_answer_may_begin_within_a_call() -> None:
    text = '{"name": "f", "arguments": {"a": [1, 2]}}'
    assert gathered([text], inside=True) == ("", [("f", '{"a": [1, 2]}')])
    assert gathered(list(text), inside=True) == ("", [("f", '{"a": [1, 2]}')])
    assert gathered(["nothing"], inside=True) == ("nothing", [])


TOOL = {"type": "function", "function": {"name": "f", "description": "<b>ä</b>", "parameters": {}}}


def test_a_conversation_with_tools_becomes_plain_messages() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"ä": 1}}}
    messages = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "So:", "tool_calls": [call, call]},
        {"role": "tool", "content": "one", "tool_call_id": "1"},
        {"role": "tool", "content": "two", "tool_call_id": "1"},
        {"role": "user", "content": "Thanks"},
    ]
    plain = told(messages, [TOOL])
    assert [set(message) for message in plain] == [{"role", "content"}] * 5
    assert [message["role"] for message in plain] == ["system", "user", "assistant", "user", "user"]
    listed = re.search("<tools>\n(.*)\n</tools>", plain[0]["content"])
    assert listed is not None
    assert json.loads(listed[1]) == TOOL
    assert gathered([plain[2]["content"]]) == ("So:", [("f", '{"ä": 1}')] * 2)
    assert re.findall("<tool_response>\n(.*)\n</tool_response>", plain[3]["content"]) == ["one", "two"]
    assert told([{"role": "system", "content": "Be brief."}], [TOOL])[0]["content"].startswith(
        "Be brief.\n\n"
    )
    assert told(messages[:1], []) == messages[:1]


def test_references_of_several_schemas_stay_apart() -> None:
    def function(kind: str) -> dict:
        return {
            "name": f"of_{kind}",
            "parameters": {
                "properties": {"x": {"$ref": "#/$defs/X"}},
                "$defs": {"X": {"type": kind}, "Y": {"$ref": "#/$defs/X"}},
            },
        }

    whole = json.loads(schema([function("string"), function("integer")]).text)
    for number, kind in enumerate(("string", "integer")):
        arguments = whole["anyOf"][number]["properties"]["arguments"]
        name = arguments["properties"]["x"]["$ref"].removeprefix("#/$defs/")
        assert whole["$defs"][name] == {"type": kind}
    assert "$defs" not in whole["anyOf"][0]["properties"]["arguments"]


def test_schemas_have_a_depth() -> None:
    deep: dict = {}
    for _ in range(100):
        deep = {"properties": {"a": deep}}
    with pytest.raises(ConfigError, match="nested"):
        schema([{"name": "f", "parameters": deep}])
