"""Mining prose: sections, questions and dialogues; and the harvest of a corpus with its counts."""

from __future__ import annotations

import doctest
import importlib
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.data.conversations import Example, mine_headings
from ingot.data.document import Document
from ingot.data.mining.dialogues import mine_dialogues
from ingot.data.mining.harvest import MINERS, Harvest, harvest, to_row
from ingot.data.mining.questions import mine_questions
from ingot.data.mining.sections import html_sections, mine_sections
from ingot.data.mining.skipped import Skipped
from ingot.data.records.formats import FORMATS
from ingot.data.records.record import Chat
from ingot.errors import DataError

LONG = "Flour, water, salt and time are all that bread needs, and of these time is what people spare. "


def document(text: str, kind: str = "text", source: str = "a.txt") -> Document:
    return Document(source, source, text, kind)


def split(found: Any) -> tuple[list[Example], Counter[str]]:
    found = list(found)
    examples = [one for one in found if isinstance(one, Example)]
    return examples, Counter(one.reason for one in found if isinstance(one, Skipped))


def said(example: Example) -> list[tuple[str, str]]:
    return [(one["role"], one["content"]) for one in example.messages]


MARKDOWN = f"# Bread\n\n{LONG}\n\n## Empty\n\n## Rye\n\nShort.\n\n## Wheat\n\n{LONG}{LONG}\n"


def test_markdown_sections_are_those_of_mine_headings() -> None:
    given_ = document(MARKDOWN, "markdown", "bread.md")
    examples, skipped = split(mine_sections(given_))
    assert examples == mine_headings([given_]) and len(examples) == 2
    assert skipped == {
        "nothing between this heading and the next": 1,
        "section too short, or its first paragraph too long": 1,
    }


HTML = f"""<html><head><title>x</title><script>var a = "<h1>no</h1>";</script></head><body>
<nav><h2>Menu</h2><p>Home</p></nav>
<h1>Bread &amp; <em>butter</em></h1>
<p>{LONG}</p><ul><li>flour<li>water</ul>
<h2>Rye</h2><div><p>{LONG}</p></div>
<style>h2 {{ color: red }}</style>
<h2></h2><p>lost</p>"""


def test_html_sections() -> None:
    examples, _ = split(mine_sections(document(HTML, "html", "bread.html")))
    assert [one.prompt for one in examples] == [
        'Write the section "Bread & butter" of "Bread & butter".',
        'Write the section "Rye" of "Bread & butter".',
    ]
    assert examples[0].answer == f"{LONG.strip()}\n\n- flour\n\n- water"
    assert [one.source for one in examples] == ["bread.html:3", "bread.html:5"]
    converted, _ = split(mine_sections(document(MARKDOWN, "html")))  # a reader made Markdown of it
    assert len(converted) == 2


@settings(max_examples=100, deadline=None)
@given(st.text(st.sampled_from("<>/h1p& \n\"'=ab!-"), max_size=80))
def test_any_tag_soup_is_read(soup: str) -> None:
    for one in html_sections(f"<h1>x</h1>{soup}"):
        assert one.heading.strip() == one.heading


FAQ = f"""Frequently asked

Q: What does bread need?
A: {LONG}

More of it.

Q2. Why?
A2. No.

**Q:** How long does
it take?
**A:** It takes a whole night, in a cold place.

Q: Who knows?

Q: {"very " * 200}long?
A: {LONG}
"""


def test_questions_with_their_answers() -> None:
    examples, skipped = split(mine_questions(document(FAQ)))
    assert [said(one) for one in examples] == [
        [("user", "What does bread need?"), ("assistant", f"{LONG.strip()}\n\nMore of it.")],
        [
            ("user", "How long does it take?"),
            ("assistant", "It takes a whole night, in a cold place."),
        ],
    ]
    assert [one.source for one in examples] == ["a.txt:3", "a.txt:11"]
    assert skipped == {
        "answer too short, or its first paragraph too long": 1,
        "a question without an answer": 1,
        "question too long": 1,
    }


def test_headings_that_ask() -> None:
    text = f"# FAQ\n\n## 1.2) What does bread need?\n\n{LONG}\n\n## Really?\n\n{LONG}\n"
    examples, _ = split(mine_questions(document(text, "markdown")))
    assert [said(one)[0] for one in examples] == [("user", "What does bread need?")]
    assert list(mine_questions(document(FAQ, "python"))) == []


CHAT = """[10:01] Ann: Hello there, have you got a minute?
[10:02] Bob: Sure.
[10:02] Bob: What is it?
[10:03] Ann: The bread does not rise.
It never does.
[10:05] Bob: Give it time.
[10:06] Ann: Thanks!
"""


def test_a_chat_of_two() -> None:
    examples, skipped = split(mine_dialogues(document(CHAT)))
    assert [said(one) for one in examples] == [
        [
            ("user", "Hello there, have you got a minute?"),
            ("assistant", "Sure.\nWhat is it?"),
            ("user", "The bread does not rise.\nIt never does."),
            ("assistant", "Give it time."),
        ]
    ]
    assert not skipped
    assert isinstance(FORMATS["messages"].read(to_row(examples[0])), Chat)


IRC = """--- Log opened
12:00 -!- bob [~bob@host] has joined #bread
12:01 <ann> my bread does not rise
12:02 <+bob> has anybody seen the oven?
12:02 <@cy> ann: give it time
12:03 <ann> cy, how much time?
12:03 <cy> a night
12:04 * bob sighs
12:05 <bob> nobody listens
"""


def test_irc_answers_by_name() -> None:
    examples, skipped = split(mine_dialogues(document(IRC)))
    assert [said(one) for one in examples] == [
        [("user", "my bread does not rise"), ("assistant", "give it time")],
        [("user", "give it time"), ("assistant", "how much time?")],
    ]
    assert skipped == {"more than two speak, and nobody is named": 4}


def test_scenes_of_a_play_and_where_they_break() -> None:
    play = (
        "ACT ONE\n\nANN: Who goes there?\nBOB: A friend of the\n  miller.\n(They bow.)\nANN: Enter.\n\n"
        "The door opens, and all of them go in, one after the other.\n\n"
        "BOB: Here is the bread.\nANN: At last.\n"
    )
    examples, _ = split(mine_dialogues(document(play)))
    assert [said(one)[-1][1] for one in examples] == ["A friend of the\nmiller.", "At last."]


def test_subtitles_with_dashes() -> None:
    cues = [
        f"{n}\n00:00:0{n},000 --> 00:00:0{n},900\n- Is it done, {n}?\n- <i>Not yet</i>, {n}.\n"
        for n in range(4)
    ]
    examples, _ = split(mine_dialogues(document("\n".join(cues))))
    assert said(examples[0]) == [("user", "Is it done, 0?"), ("assistant", "Not yet, 0.")]
    assert len(examples) == 4


@pytest.mark.parametrize(
    "text",
    [
        "Note: this is no dialogue.\nWarning: neither is this.\nNote: at all.\nTitle: x\nDate: z\n",
        MARKDOWN,
        FAQ,
        "Files: a\nLicense: GPL\n\nFiles: b\nLicense: MIT\n\nFiles: c\nLicense: GPL\nComment: none\n",
        "What: a tool\nWhy: nobody uses it\n\nWhat: another\nWhy: it is old\n\nWhat: a third\nWhy: so\n",
        "<p>Ann: Hi.</p>\nAnn: Hello.\nBob: Hi.\nAnn: Hello?\nBob: Hi.\n",
        "Name: Ann\nAge: 7\n\nName: Bob\nAge: 8\n\n" + LONG * 3 + "\n" + (LONG + "\n\n") * 9,
        "",
    ],
)
def test_what_is_no_dialogue(text: str) -> None:
    assert split(mine_dialogues(document(text)))[0] == []


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["Ann", "Bob", "Cy"]), st.text("ab :<>,\n\t-", max_size=30)), max_size=30
    )
)
def test_whatever_is_found_takes_turns(lines: list[tuple[str, str]]) -> None:
    found, _ = split(mine_dialogues(document("\n".join(f"{name}: {text}" for name, text in lines))))
    for one in found:
        assert [m["role"] for m in one.messages] == ["user", "assistant"] * (len(one.messages) // 2)
        assert all(m["content"] for m in one.messages)


def test_the_harvest_of_a_corpus() -> None:
    python = 'def area(w, h):\n    """Return the area of a room."""\n    return w * h\n'
    corpus = [
        document(python, "python", "a.py"),
        document(python, "python", "copy.py"),
        document(MARKDOWN, "markdown", "bread.md"),
        document(FAQ, "text", "faq.txt"),
        document(CHAT, "text", "chat.txt"),
    ]
    counts = Harvest()
    examples = list(harvest(iter(corpus), counts))
    assert counts.documents == 5 and counts.found.total() == len(examples)
    assert counts.found == {"functions": 1, "explanations": 1, "sections": 2, "questions": 2, "dialogues": 1}
    assert counts.skipped["functions", "said before"] == counts.skipped["explanations", "said before"] == 1
    assert len({one.id for one in examples}) == len(examples)
    rows = [to_row(one) for one in examples]
    assert all(isinstance(FORMATS["messages"].read(row), Chat) for row in rows)
    assert rows[0]["check"] == {"name": "area", "arguments": ["w", "h"]} and rows[0]["source"] == "a.py:1"
    only = Harvest()
    assert [one.source for one in harvest(corpus, only, ["dialogues"])] == ["chat.txt:1"]
    with pytest.raises(DataError, match="did you mean 'dialogues'"):
        list(harvest(corpus, Harvest(), ["dialogue"]))


def test_a_question_is_asked_once_though_a_section_would_answer_alike() -> None:
    text = f"# Questions\n\n## What does bread need?\n\n{LONG}\n"
    counts = Harvest()
    (only,) = harvest([document(text, "markdown")], counts)
    assert only.prompt == "What does bread need?" and counts.skipped["sections", "said before"] == 1


def test_every_miner_takes_every_kind() -> None:
    for kind in ("python", "javascript", "text", "markdown", "html", "table", "cobol"):
        for text in (
            "",
            "\n",
            "{" * 2000,
            "/** x */ f(",
            "Q: \nA: ",
            "<h1>",
            "a: b\n" * 50,
            "\x00\x0c\u2028",
        ):
            for miner in MINERS.values():
                list(miner(document(text, kind)))


def test_the_examples_in_the_documentation_are_true() -> None:
    result = doctest.testmod(importlib.import_module("ingot.data.mining.sections"))
    assert result.attempted > 0
    assert result.failed == 0
