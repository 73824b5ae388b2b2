"""Conversations from dialogues: "NAME: text", chat logs with times, IRC, and subtitles with dashes.

Of two who take turns, the one who begins is the user and the other the assistant; names are not kept. Where
more than two speak, what is said to somebody by name answers the last thing that one said.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ingot.data.conversations import Example, make_example
from ingot.data.document import Document, is_code
from ingot.data.mining.skipped import Skipped

FEWEST_LINES = 4
"""Lines with a speaker that make a dialogue."""

SHARE = 0.6
"""Of the lines with text that must have a speaker, or go on with what one said."""

LONGEST_TURN = 4000
"""Signs of what one says without a break."""

MOST_TURNS = 20
"""Of one conversation; a longer dialogue gives several, one after the other."""

_DAY, _CLOCK = r"\d{1,4}[./-]\d{1,2}[./-]\d{1,4}[,T ]*", r"\d{1,2}:\d{2}(?::\d{2})?(?:\s?[AP]M)?"
_TIME = rf"(?:[\[(]?(?:{_DAY})?{_CLOCK}[\])]?\s*(?:-\s+)?)"
_NAME = r"[^\W\d_][\w.'’-]*(?: [\w.'’()-]+){0,3}"
_NICK = re.compile(rf"^{_TIME}?<[ @+%~&]?(?P<name>[^\s<>]{{1,30}})>\s?(?P<text>.*)$", re.IGNORECASE)
_NAMED = re.compile(
    rf"^{_TIME}?(?:\*\*)?(?P<name>{_NAME})(?:\*\*)?:(?:\*\*)?\s+(?P<text>\S.*)$",
    re.IGNORECASE,
)
_EVENT = re.compile(rf"^{_TIME}?(?:\*{{1,3}}\s|-!-\s|-->|<--|--\s)", re.IGNORECASE)
_FIELDS = re.compile(
    r"(?:x-|content-|mime-|files?|licen[cs]e|copyright|comments?|source|upstream|author|maintainer|date|from|to|cc|"
    r"subject|message-id|references|in-reply-to|received|version|name|title|type|size|status|description|summary|"
    r"what|why|who|when|where|how|note|warning|error|example|usage|input|output|options?|default|url|e-?mail|"
    r"address|phone|age|tags?|key|value|depends|package|section|priority|see|todo|fixme|steps?|result)\b",
    re.IGNORECASE,
)
_MARKUP = re.compile(r"</(?:p|div|li|td|code|span|body)>", re.IGNORECASE)  # nobody speaks in tags
_NO_NAMES = frozenset({"q", "a", "question", "answer"})  # those are mined as questions
_CUE = re.compile(r"^\d{2}:\d{2}:\d{2}[,.]\d{3} --> ")
_DIRECTION = re.compile(r"^\s*[\[(][^\])]*[\])]\s*$")


class Turn(NamedTuple):
    """What one says until another speaks, and the line where it begins."""

    line: int
    name: str
    text: str


def mine_dialogues(document: Document) -> Iterator[Example | Skipped]:
    """Finds conversations in documents that are dialogues for the most part.

    Yields:
        Examples of two messages or more, the user first and the assistant last, and what was passed over.
    """
    if is_code(document.kind) or document.kind == "table" or _MARKUP.search(document.text):
        return
    lines = document.text.splitlines()
    scenes = _subtitles(lines) if any(_CUE.match(line) for line in lines[:50]) else _scenes(lines)
    if scenes is None:
        return
    for scene in scenes:
        yield from _from_scene(document.source, _joined(scene))


def _scenes(lines: Sequence[str]) -> list[list[Turn]] | None:
    """The dialogue in parts, wherever something else stands between; None for what is no dialogue."""
    pattern = _NICK if sum(_NICK.match(line) is not None for line in lines) >= FEWEST_LINES else _NAMED
    scenes: list[list[Turn]] = [[]]
    spoken = other = 0
    after_blank = False
    for number, line in enumerate(lines, 1):
        if not line.strip():
            after_blank = True
            continue
        if (found := pattern.match(line)) and found["name"].lower() not in _NO_NAMES:
            scenes[-1].append(Turn(number, found["name"], found["text"]))
            spoken += 1
        elif _EVENT.match(line) or _DIRECTION.match(line):
            pass  # who came and went, and what happens on the stage
        elif scenes[-1] and (not after_blank or line.startswith((" ", "\t"))) and pattern is not _NICK:
            before = scenes[-1][-1]
            scenes[-1][-1] = before._replace(text=f"{before.text}\n{line.strip()}")
            spoken += 1
        else:
            other += 1
            scenes.append([])
        after_blank = False
    counted = Counter(turn.name for scene in scenes for turn in scene)
    again = sum(count for count in counted.values() if count > 1)
    fields = sum(_FIELDS.match(name) is not None for name in counted)
    is_one = (
        len(counted) >= 2
        and 4 * fields < len(counted)  # records have labels, and people have names
        and sum(count > 1 for count in counted.values()) >= 2
        and again >= FEWEST_LINES
        and again >= SHARE * sum(counted.values())
        and spoken >= SHARE * (spoken + other)
    )
    return [scene for scene in scenes if scene] if is_one else None


def _subtitles(lines: Sequence[str]) -> list[list[Turn]]:
    """Cues in which two speak, each with a dash: nobody else says who speaks in subtitles."""
    scenes: list[list[Turn]] = []
    said: list[Turn] = []
    for number, line in enumerate([*lines, ""], 1):
        if line.startswith(("-", "–", "—")):
            words = re.sub(r"<[^>]+>", "", line).lstrip("-–— ")
            said.append(Turn(number, str(len(said)), words))
        elif not line.strip():
            scenes += [said] if len(said) == 2 else []
            said = []
    return scenes


def _joined(scene: Sequence[Turn]) -> list[Turn]:
    made = []
    for name, run in itertools.groupby(scene, key=lambda turn: turn.name):
        turns = list(run)
        made.append(Turn(turns[0].line, name, "\n".join(turn.text for turn in turns).strip()))
    return made


def _from_scene(source: str, turns: Sequence[Turn]) -> Iterator[Example | Skipped]:
    if not turns:
        return
    where = f"{source}:{turns[0].line}"
    if len({turn.name for turn in turns}) > 2:
        yield from _addressed(source, turns)
        return
    if len(turns) < 2:
        yield Skipped(where, "nobody answers")
        return
    for start in range(0, len(turns), MOST_TURNS):
        part = turns[start : start + MOST_TURNS]
        part = part[: len(part) // 2 * 2]  # ends with an answer
        if not part:
            yield Skipped(f"{source}:{turns[start].line}", "nobody answers")
        elif any(not turn.text or len(turn.text) > LONGEST_TURN for turn in part):
            yield Skipped(f"{source}:{part[0].line}", "a turn that is empty or too long")
        else:
            yield _conversation(f"{source}:{part[0].line}", [turn.text for turn in part])


def _addressed(source: str, turns: Sequence[Turn]) -> Iterator[Example | Skipped]:
    """Of many speakers: "name: text" or "name, text" answers the last turn of that name."""
    names = {turn.name.lower(): turn.name for turn in turns}
    last: dict[str, Turn] = {}
    for turn in turns:
        head, mark, rest = _head(turn.text)
        asked = last.get(names.get(head.lower(), "")) if mark else None
        if asked is not None and asked.name != turn.name and rest:
            if max(len(asked.text), len(rest)) > LONGEST_TURN:
                yield Skipped(f"{source}:{turn.line}", "a turn that is empty or too long")
            else:
                yield _conversation(f"{source}:{asked.line}", [_head_free(asked.text, names), rest])
        else:
            yield Skipped(f"{source}:{turn.line}", "more than two speak, and nobody is named")
        last[turn.name] = turn


def _head(text: str) -> tuple[str, str, str]:
    found = re.match(r"@?(\S{1,30}?)([:,])\s+(.*)", text, re.DOTALL)
    return (found[1], found[2], found[3].strip()) if found else ("", "", "")


def _head_free(text: str, names: dict[str, str]) -> str:
    head, mark, rest = _head(text)
    return rest if mark and head.lower() in names and rest else text


def _conversation(source: str, said: Sequence[str]) -> Example:
    whole = make_example(source, "\0".join(said[:-1]), said[-1], None)
    messages = [
        {"role": "assistant" if place % 2 else "user", "content": text} for place, text in enumerate(said)
    ]
    return Example(whole.id, source, messages)
