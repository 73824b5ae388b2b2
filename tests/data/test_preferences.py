"""Row C16: pairs, what annotators say of them, agreement against worked examples, position bias, the page."""

from __future__ import annotations

import doctest
import http.client
import importlib
import json
import math
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.data.preferences.agreement import (
    agreement,
    cohen_kappa,
    fleiss_kappa,
    position_bias,
)
from ingot.data.preferences.judgements import (
    CHOICES,
    Judgement,
    append,
    preferences,
    read_judgements,
)
from ingot.data.preferences.labelling import Labelling, page, server
from ingot.data.preferences.pairs import Pair, make_pair, read_pairs
from ingot.data.records.formats import FORMATS
from ingot.errors import BusyError, DataError

# Fleiss 1971 as worked out by hand: 10 subjects, 14 raters, 5 categories; the observed agreement is 0.378,
# chance gives 0.213, so kappa is (0.378 - 0.213) / (1 - 0.213) = 0.210.
FLEISS = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]


def test_fleiss_by_hand() -> None:
    found = fleiss_kappa(FLEISS)
    assert found.value == pytest.approx(0.210, abs=5e-4)
    assert found.observed == pytest.approx(0.378, abs=5e-4)
    assert found.low < found.value < found.high and found.pairs == 10


def test_cohen_by_hand() -> None:
    """50 proposals: both yes 20, both no 15, only the first yes 5, only the second yes 10.

    Observed 35/50 = 0.7; chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5; kappa (0.7 - 0.5) / (1 - 0.5) = 0.4.
    """
    first = "y" * 25 + "n" * 25
    second = "y" * 20 + "n" * 5 + "y" * 10 + "n" * 15
    found = cohen_kappa(first, second)
    assert found.value == pytest.approx(0.4) and found.observed == pytest.approx(0.7)
    assert found.low < 0.4 < found.high


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abt"), st.sampled_from("abt")), min_size=1, max_size=40))
def test_cohen_is_one_minus_disagreement_over_that_of_chance(said: list[tuple[str, str]]) -> None:
    """The form with weights, as scikit-learn computes it, pair of categories by pair of categories."""
    first, second = zip(*said, strict=True)
    ours = cohen_kappa(first, second).value
    apart = sum(one != other for one, other in said)
    chance = sum(first.count(one) * second.count(other) for one in "abt" for other in "abt" if one != other)
    if chance == 0:
        assert math.isnan(ours)
    else:
        assert ours == pytest.approx(1 - apart / (chance / len(said)), abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.integers(0, 4), min_size=3, max_size=3), min_size=1, max_size=12))
def test_fleiss_is_its_definition_pair_by_pair(table: list[list[int]]) -> None:
    judged = [row for row in table if sum(row) >= 2]
    found = fleiss_kappa(table)
    assert found.pairs == len(judged)
    if not judged:
        assert math.isnan(found.value)
        return
    agreed = []
    for row in judged:
        votes = [category for category, count in enumerate(row) for _ in range(count)]
        pairs = [(i, j) for i in range(len(votes)) for j in range(len(votes)) if i != j]
        agreed.append(sum(votes[i] == votes[j] for i, j in pairs) / len(pairs))
    total = sum(map(sum, judged))
    chance = sum((sum(row[k] for row in judged) / total) ** 2 for k in range(3))
    if chance == pytest.approx(1):
        assert math.isnan(found.value)
    else:
        assert found.value == pytest.approx((np.mean(agreed) - chance) / (1 - chance))


def test_perfect_and_opposite_judges() -> None:
    assert cohen_kappa("abab", "abab").value == 1
    assert cohen_kappa("abab", "baba").value == -1
    with pytest.raises(ValueError, match="3 and 4"):
        cohen_kappa("aba", "abab")


def said(pair: str, annotator: str, choice: Any, first: str = "a") -> Judgement:
    return Judgement(pair, annotator, choice, first)


def test_agreement_of_all_and_of_each_two() -> None:
    judgements = [said(str(n), who, "a" if n % 2 else "b") for n in range(6) for who in ("Ann", "Bo")]
    judgements += [said("0", "Cy", "tie"), said("9", "Cy", "skip")]
    everybody, two = agreement(judgements)
    assert set(two) == {("Ann", "Bo"), ("Ann", "Cy"), ("Bo", "Cy")}
    assert two["Ann", "Bo"].value == 1 and two["Ann", "Bo"].pairs == 6
    assert 0 < everybody.value < 1 and everybody.pairs == 6
    nobody, none = agreement([])
    assert math.isnan(nobody.value) and none == {}


def test_position_bias_is_found_and_none_is_invented() -> None:
    biased = [said(str(n), "x", "a", first="a" if n % 10 < 8 else "b") for n in range(100)]
    found = position_bias(biased)
    assert (found.first, found.judged, found.rate, found.found) == (80, 100, 0.8, True)
    assert (found.low, found.high) == pytest.approx((0.711, 0.867), abs=1e-3)  # Wilson by hand
    fair = position_bias([said(str(n), "x", "a", first="ab"[n % 2]) for n in range(100)])
    assert fair.rate == 0.5 and not fair.found and fair.p_value == 1
    ignored = [said("1", "x", "tie"), said("2", "x", "skip"), said("3", "x", "a", first="")]
    nothing = position_bias(ignored)
    assert nothing.judged == 0 and math.isnan(nothing.rate) and not nothing.found


def test_the_exact_test_by_hand() -> None:
    """9 of 10: P(9) + P(10) on both sides is 2 * 11 / 1024."""
    nine = [said(str(n), "x", "a", first="b" if n == 0 else "a") for n in range(10)]
    assert position_bias(nine).p_value == pytest.approx(22 / 1024)


PAIRS = [make_pair(f"Ask {n}.", f"Good {n}.", f"Bad {n}.") for n in range(5)]


def test_a_pair_is_the_same_whichever_answer_stood_first(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    rows = [{"prompt": "p", "chosen": "x", "rejected": "y"}, {"prompt": "p", "chosen": "y", "rejected": "x"}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (pair,) = read_pairs(path)
    assert {pair.a, pair.b} == {"x", "y"} and pair.line == 1
    path.write_text(json.dumps({"prompt": "p", "completion": "c"}))
    with pytest.raises(DataError, match="'prompt-completion', which are no pairs"):
        read_pairs(path)


def test_the_last_word_counts_and_a_torn_line_spoils_nothing(tmp_path: Path) -> None:
    path = tmp_path / "said.jsonl"
    append(path, said("1", "Ann", "a"))
    append(path, said("1", "Bo", "b"))
    append(path, said("1", "Ann", "tie"))
    with open(path, "ab") as file:
        file.write(b'{"pair": "2", "annot')
    append(path, said("3", "Zoë", "b"))
    found = {(one.pair, one.annotator): one.choice for one in read_judgements(path)}
    assert found == {("1", "Ann"): "tie", ("1", "Bo"): "b", ("3", "Zoë"): "b"}
    assert len(path.read_text().splitlines()) == 5


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ('{"pair": "1", "annotator": "x"}', "misses"),
        ('{"pair": "1", "annotator": "x", "choice": "c"}', "the choice is 'c'"),
        ('{"pair": 1, "annotator": "x", "choice": "a"}', "not text"),
        ("what?", "is no judgement"),
    ],
)
def test_a_line_that_is_no_judgement_is_named(tmp_path: Path, line: str, why: str) -> None:
    path = tmp_path / "said.jsonl"
    append(path, said("1", "Ann", "a"))
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match=f"line 2 is no judgement .*{why}|line 2 {why}"):
        read_judgements(path)


def test_many_writers_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "said.jsonl"

    def write(name: str) -> None:
        for n in range(20):
            append(path, said(str(n), name, "a"))

    threads = [threading.Thread(target=write, args=(f"who{n}",)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_judgements(path)) == 120


def test_what_most_prefer() -> None:
    one, two, three, four, _ = PAIRS
    good = [("a" if pair.a == f"Good {n}." else "b") for n, pair in enumerate(PAIRS)]
    judgements = [
        said(one.id, "Ann", good[0]),
        said(one.id, "Bo", good[0]),
        said(one.id, "Cy", "tie"),
        said(two.id, "Ann", "a"),
        said(two.id, "Bo", "b"),
        said(three.id, "Ann", "tie"),
        said(four.id, "Ann", "skip"),
    ]
    found, without = preferences(PAIRS, judgements)
    assert [(p.prompt, p.chosen, p.rejected) for p in found] == [("Ask 0.", "Good 0.", "Bad 0.")]
    assert without == Counter({"no majority": 2, "nobody judged it": 2})
    row = FORMATS["preference"].write(found[0])
    assert row["annotators"] == ["Ann", "Bo", "Cy"] and row["votes"]["tie"] == 1


class Client:
    """Real HTTP to a real server."""

    def __init__(self, port: int) -> None:
        self.port = port

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        kind = {"content-type": "application/json"} if body is not None else {}
        connection.request(
            method, path, sent, {**kind, **{k.replace("_", "-"): v for k, v in headers.items()}}
        )
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        is_json = answer.headers.get_content_type() == "application/json"
        return answer.status, json.loads(content) if is_json else content.decode(), answer.headers


@pytest.fixture
def labelling(tmp_path: Path) -> Labelling:
    return Labelling(PAIRS, tmp_path / "said.jsonl", "a set")


@pytest.fixture
def client(labelling: Labelling) -> Iterator[Client]:
    running = server(labelling)
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield Client(running.server_port)
    running.shutdown()
    running.server_close()
    thread.join()


def test_a_person_judges_every_pair(client: Client, labelling: Labelling) -> None:
    status, content, headers = client.ask("GET", "/")
    assert status == 200 and "<title>ingot label</title>" in content
    assert "default-src 'none'" in headers["content-security-policy"]
    _, state, _ = client.ask("GET", "/api/pair?annotator=Ann")
    assert (state["done"], state["total"], state["place"]) == (0, 5, 1)
    for n in range(5):
        good = f"Good {n}."
        assert state["prompt"] == [{"role": "user", "content": f"Ask {n}."}]
        side = "left" if state["left"][0]["content"] == good else "right"
        assert state[side][0]["content"] == good
        body = {"annotator": "Ann", "pair": state["pair"], "choice": side}
        status, state, _ = client.ask("POST", "/api/judge", body)
        assert status == 200 and state["done"] == n + 1
    assert state["pair"] is None
    found, without = preferences(PAIRS, read_judgements(labelling.path))
    assert [one.chosen for one in found] == [f"Good {n}." for n in range(5)] and not without


def test_going_back_shows_what_was_said_and_may_change_it(client: Client, labelling: Labelling) -> None:
    first = PAIRS[0].id
    for choice in ("left", "tie"):
        client.ask("POST", "/api/judge", {"annotator": "Ann", "pair": first, "choice": choice})
        _, state, _ = client.ask("GET", f"/api/pair?annotator=Ann&id={first}")
        assert (state["said"], state["done"]) == (choice, 1)
    _, other, _ = client.ask("GET", f"/api/pair?annotator=Bo&id={first}")
    assert other["said"] is None
    again = Labelling(PAIRS, labelling.path)
    assert again.show("Ann", first)["said"] == "tie" and again.show("Ann")["place"] == 2


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ({"annotator": "Ann", "pair": "none", "choice": "left"}, {}, 404),
        ({"annotator": "Ann", "pair": PAIRS[0].id, "choice": "best"}, {}, 400),
        ({"annotator": " ", "pair": PAIRS[0].id, "choice": "left"}, {}, 400),
        ({"annotator": "A\u202eB", "pair": PAIRS[0].id, "choice": "left"}, {}, 400),
        ({"annotator": "Ann", "pair": PAIRS[0].id, "choice": 1}, {}, 400),
        (b"[]", {}, 400),
        (b"{", {}, 400),
        (b"x" * 20_000, {}, 413),
        ({"annotator": "Ann", "pair": PAIRS[0].id, "choice": "left"}, {"content_type": "text/plain"}, 415),
        ({"annotator": "Ann", "pair": PAIRS[0].id, "choice": "left"}, {"host": "evil.example"}, 403),
    ],
)
def test_bad_requests_write_nothing(
    client: Client, labelling: Labelling, body: Any, headers: dict[str, str], status: int
) -> None:
    got, answer, _ = client.ask("POST", "/api/judge", body, **headers)
    assert got == status and answer["error"]
    assert not labelling.path.exists()
    assert client.ask("GET", "/nothing")[0] == 404


def test_the_sides_are_drawn_evenly_and_stay(labelling: Labelling) -> None:
    drawn = [labelling.first("Ann", str(n)) for n in range(2000)]
    assert drawn == [labelling.first("Ann", str(n)) for n in range(2000)]
    assert abs(drawn.count("a") - 1000) < 4 * math.sqrt(500)
    assert drawn != [labelling.first("Bo", str(n)) for n in range(2000)]


def test_a_name_cannot_leave_its_string() -> None:
    content, policy = page('</script><script>alert("x")//')
    assert content.decode().count("<script>") == 1 and "unsafe" not in policy


def test_one_port_one_server(labelling: Labelling) -> None:
    first = server(labelling)
    with pytest.raises(BusyError, match=str(first.server_port)):
        server(labelling, first.server_port)
    first.server_close()
    with pytest.raises(DataError, match="does not exist"):
        server(labelling, 70_000)


@pytest.mark.parametrize("name", ["pairs", "agreement"])
def test_the_examples_in_the_documentation_are_true(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"ingot.data.preferences.{name}"))
    assert result.attempted > 0
    assert result.failed == 0


def test_every_choice_can_be_read_back(tmp_path: Path) -> None:
    for choice in CHOICES:
        append(tmp_path / "said.jsonl", said(choice, "Ann", choice))
    assert [one.choice for one in read_judgements(tmp_path / "said.jsonl")] == list(CHOICES)


def test_pairs_may_be_messages(labelling: Labelling, tmp_path: Path) -> None:
    prompt = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi."}]
    answers = [[{"role": "assistant", "content": text}] for text in ("Hello.", "Go away.")]
    pair: Pair = make_pair(prompt, *answers)
    state = Labelling([pair], tmp_path / "x.jsonl").show("Ann")
    assert [one["role"] for one in state["prompt"]] == ["system", "user"]
    assert {state["left"][0]["content"], state["right"][0]["content"]} == {"Hello.", "Go away."}
