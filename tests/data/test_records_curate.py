"""Row C15: duplicates, lengths, the template there and back, and the mask token by token."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.data.conversations import Example
from ingot.data.examples import encode_examples, pad
from ingot.data.records.curate import Curation, curate, to_examples
from ingot.data.records.formats import FORMATS
from ingot.data.records.record import Chat, Preference, Prompt, RowError
from ingot.tokenizer import Tokenizer
from ingot.tokenizer.chat import encode_chat, render


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["assistant user\n system hello there world, what is it? It is so."] * 3, 340)


def examples(*pairs: tuple[str, str]) -> list[Example]:
    rows = [{"instruction": asked, "output": said} for asked, said in pairs]
    records = [(line, FORMATS["alpaca"].read(row)) for line, row in enumerate(rows, 1)]
    return to_examples(records, "rows.jsonl", Counter())


def test_copies_go_and_the_first_stays() -> None:
    found = curate(
        examples(("What is it?", "So."), ("Why?", "Hm."), ("what  IS it?", "so."), ("Why?", "Ah."))
    )
    assert [one.source for one in found.kept] == ["rows.jsonl:1", "rows.jsonl:2", "rows.jsonl:4"]
    (copy,) = found.dropped
    assert (copy.path, copy.reason, copy.detail) == (
        "rows.jsonl:3",
        "duplicate",
        "says the same as rows.jsonl:1",
    )


def test_near_copies_go_where_asked() -> None:
    words = " ".join(f"word{n}" for n in range(60))
    given_ = examples(
        ("Tell.", words), ("Tell.", words + " more"), ("Tell.", "something else altogether, really")
    )
    assert len(curate(given_).kept) == 3
    found = curate(given_, Curation(near=0.8))
    assert [one.source for one in found.kept] == ["rows.jsonl:1", "rows.jsonl:3"]
    (copy,) = found.dropped
    assert copy.reason == "near duplicate" and copy.value is not None and 0.8 <= copy.value < 1


def test_lengths_are_held_to_their_bounds(tokenizer: Tokenizer) -> None:
    given_ = examples(
        ("a" * 11, "fine"), ("ok", "b" * 21), ("ok", "xy"), ("ok", "fine"), ("hello " * 2, "so " * 6)
    )
    rules = Curation(shortest_answer=3, longest_prompt=12, longest_answer=20)
    found = curate(given_, rules)
    assert [(one.path, one.reason, one.value, one.threshold) for one in found.dropped] == [
        ("rows.jsonl:2", "answer too long", 21, 20),
        ("rows.jsonl:3", "answer too short", 2, 3),
    ]
    tokens = len(encode_chat(tokenizer, given_[4].messages)[0])
    strict = rules.model_copy(update={"context": tokens - 1})
    assert [one.reason for one in curate(given_[4:], strict, tokenizer).dropped] == ["conversation too long"]
    assert len(curate(given_[4:], rules.model_copy(update={"context": tokens}), tokenizer).kept) == 1


def test_what_is_no_example_is_counted_or_refused() -> None:
    left_out: Counter[str] = Counter()
    assert len(to_examples([(1, Preference("p", "a", "b"))], "rows", left_out)) == 1
    assert left_out == {"rejected answers": 1}
    with pytest.raises(RowError, match="a prompt cannot be told as an answer"):
        to_examples([(1, Prompt("p"))], "rows", left_out)
    call = {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "f"}}],
    }
    chat = Chat([{"role": "user", "content": "a"}, call, {"role": "tool", "content": "b"}])
    with pytest.raises(RowError, match="line 3: calls tools"):
        to_examples([(3, chat)], "rows", left_out)


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip)


@settings(max_examples=100, deadline=None)
@given(said=st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3))
def test_the_template_there_and_back(said: list[tuple[str, str]], tokenizer: Tokenizer) -> None:
    """From rows of ShareGPT through the template's ids, read back by its control tokens alone."""
    turns = [
        {"from": who, "value": text}
        for pair in said
        for who, text in zip(("human", "gpt"), pair, strict=True)
    ]
    chat = FORMATS["sharegpt"].read({"conversations": turns})
    assert isinstance(chat, Chat)
    ids, _ = encode_chat(tokenizer, chat.messages)
    assert tokenizer.decode(ids) == render(chat.messages)
    assert read_back(tokenizer, ids) == chat.messages


def read_back(tokenizer: Tokenizer, ids: list[int]) -> list[dict[str, Any]]:
    start, end = tokenizer.special["<|im_start|>"], tokenizer.special["<|im_end|>"]
    found, place = [], 0
    while start in ids[place:]:
        opened = ids.index(start, place)
        place = ids.index(end, opened)
        role, _, content = tokenizer.decode(ids[opened + 1 : place]).partition("\n")
        found.append({"role": role, "content": content})
    return found


def test_the_mask_token_by_token() -> None:
    """Golden: where every token is one sign, the mask can be drawn under the text."""
    tokenizer = Tokenizer.train(["zz"], 300)  # nothing to merge but what is never said
    row = {"instruction": "Q2", "output": "A2", "history": [["Q1", "A1"]]}
    found = to_examples([(1, FORMATS["alpaca"].read(row))], "rows", Counter())
    ids, mask = encode_chat(tokenizer, found[0].messages)
    signs = {tokenizer.special["<|im_start|>"]: "<", tokenizer.special["<|im_end|>"]: ">"} | {
        tokenizer.bos_id: "^"
    }
    drawn = "".join(signs.get(one) or tokenizer.decode([one]) for one in ids)
    taught = "".join("#" if one else "." for one in mask)
    assert drawn.replace("\n", "~") == "^<user~Q1>~<assistant~A1>~<user~Q2>~<assistant~A2>~"
    assert taught ==                    "......................###......................###."  # fmt: skip
    (conversation,) = encode_examples(found, tokenizer, 128, 128)
    targets = pad([conversation], 128, tokenizer.pad_id)["targets"][0]
    assert [int(one) for one in targets if one != -100] == [
        one for one, on in zip(ids, mask, strict=True) if on
    ]
