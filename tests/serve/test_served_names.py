"""What names mean: aliases, weighted splits that stick, and forms that cannot be read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from ingot.errors import ConfigError
from ingot.serve.routing import Split, check_names, fraction, read_routing


def test_shares_are_what_the_weights_say() -> None:
    split = Split("chat", ("a", "b", "c"), (6, 3, 1))
    callers = [f"user{number}" for number in range(5000)]
    counts = [sum(split.pick(caller) == model for caller in callers) for model in split.models]
    assert chisquare(counts, [3000, 1500, 500]).pvalue > 0.001
    drawn = [split.pick(None) for _ in range(2000)]
    assert set(drawn) == {"a", "b", "c"}


@given(st.text(), st.lists(st.floats(0, 1e6), min_size=1, max_size=5).filter(lambda w: sum(w) > 0))
def test_a_caller_stays_and_a_weight_of_zero_gets_nobody(caller: str, weights: list[float]) -> None:
    models = tuple(f"m{number}" for number in range(len(weights)))
    split = Split("chat", models, tuple(weights))
    picked = split.pick(caller)
    assert picked == Split("chat", models, tuple(weights)).pick(caller)
    assert weights[models.index(picked)] > 0


def test_raising_a_share_moves_only_those_whom_it_takes_in() -> None:
    before, after = (Split("chat", ("a", "b"), (1 - share, share)) for share in (0.1, 0.2))
    for number in range(2000):
        caller = f"user{number}"
        if before.pick(caller) == "b":
            assert after.pick(caller) == "b"


def test_two_splits_do_not_go_alike() -> None:
    one, two = (Split(name, ("a", "b"), (1, 1)) for name in ("one", "two"))
    same = sum(one.pick(f"user{n}") == two.pick(f"user{n}") for n in range(2000))
    assert 850 < same < 1150


@given(st.text())
def test_fractions_are_fractions(text: str) -> None:
    assert 0 <= fraction(text) < 1


def test_the_command_lines_forms_are_read() -> None:
    routing = read_routing(["chat=a"], ["ab=a:0.9,org/b@2:0.1"], ["a=org/b@2:0.05"])
    assert routing.aliases == {"chat": "a"}
    assert routing.splits == {"ab": {"a": 0.9, "org/b@2": 0.1}}
    assert routing.shadows == {"a": ("org/b@2", 0.05)}
    check_names(routing, ["a", "org/b@2"])


@pytest.mark.parametrize(
    ("aliases", "routes", "shadows"),
    [
        (["chat"], [], []),
        (["=a"], [], []),
        (["chat="], [], []),
        ([], ["ab=a"], []),
        ([], ["ab=a:x"], []),
        ([], ["ab=a:-1,b:1"], []),
        ([], ["ab=a:nan"], []),
        ([], ["ab=a:inf"], []),
        ([], ["ab=a:0,b:0"], []),
        ([], ["ab=a:0.5,,b:0.5"], []),
        ([], [], ["a=b:2"]),
        ([], [], ["a=a:0.1"]),
        ([], [], ["a=b"]),
    ],
)
def test_forms_that_cannot_be_read(aliases: list, routes: list, shadows: list) -> None:
    with pytest.raises(ConfigError):
        read_routing(aliases, routes, shadows)


@pytest.mark.parametrize(
    ("aliases", "routes", "shadows"),
    [
        (["chat=c"], [], []),
        (["a=b"], [], []),
        ([], ["ab=a:1,c:1"], []),
        ([], ["b=a:1"], []),
        (["x=a"], ["x=a:1"], []),
        ([], [], ["a=c:0.1"]),
        ([], [], ["c=a:0.1"]),
    ],
)
def test_names_that_lead_nowhere_or_hide_another(aliases: list, routes: list, shadows: list) -> None:
    with pytest.raises(ConfigError):
        check_names(read_routing(aliases, routes, shadows), ["a", "b"])
