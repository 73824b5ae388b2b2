"""Text that grows from tokens: whole characters, stops found and cut, nothing shown that is taken back."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.inference.text import Transcript


class Pieces:
    """A tokenizer whose token i stands for the i-th piece of some bytes."""

    def __init__(self, pieces: list[bytes]) -> None:
        self.pieces = pieces

    def token_bytes(self, token: int) -> bytes:
        return self.pieces[token]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({0, len(data), *(place % (len(data) + 1) for place in places)})
    return [data[a:b] for a, b in itertools.pairwise(marks)]


def shown(pieces: list[bytes], stop: tuple[str, ...] = ()) -> tuple[list[str], bool]:
    """What a reader sees, piece by piece, and whether a stop text was found."""
    transcript = Transcript(Pieces(pieces), stop)
    seen = []
    for token in range(len(pieces)):
        stopped = transcript.push(token)
        seen.append(transcript.take())
        if stopped:
            break
    else:
        stopped = False
    transcript.finish()
    seen.append(transcript.take())
    assert "".join(seen) == transcript.text
    return seen, stopped


@settings(deadline=None)
@given(st.text(max_size=60), st.lists(st.integers(0, 300), max_size=20))
def test_any_cut_of_any_text_comes_back_whole(text: str, places: list[int]) -> None:
    data = text.encode("utf-8", "replace")
    seen, _ = shown(cut(data, places))
    assert "".join(seen) == data.decode()
    assert all("\ufffd" not in piece for piece in seen) or "\ufffd" in text


@settings(deadline=None)
@given(st.binary(max_size=60), st.lists(st.integers(0, 300), max_size=20))
def test_bytes_that_are_no_text_become_what_python_makes_of_them(data: bytes, places: list[int]) -> None:
    assert "".join(shown(cut(data, places))[0]) == data.decode("utf-8", "replace")


@settings(deadline=None)
@given(
    st.text(alphabet="abé", max_size=40),
    st.lists(st.text(alphabet="abé", min_size=1, max_size=4), min_size=1, max_size=3),
    st.lists(st.integers(0, 100), max_size=20),
)
def test_stops_are_found_wherever_the_tokens_end(text: str, stops: list[str], places: list[int]) -> None:
    pieces = cut(text.encode(), places)
    seen, stopped = shown(pieces, tuple(stops))
    assert stopped == any(stop in text for stop in stops)
    result = "".join(seen)
    assert text.startswith(result)
    assert not any(stop in result for stop in stops)
    if not stopped:
        assert result == text


def test_an_unfinished_character_is_held_back() -> None:
    data = "é👍".encode()
    seen, _ = shown([data[:1], data[1:3], data[3:5], data[5:]])
    assert seen == ["", "é", "", "👍", ""]


def test_an_unfinished_character_at_the_end_becomes_the_replacement_character() -> None:
    assert shown([b"a", "é".encode()[:1]])[0] == ["a", "", "\ufffd"]


def test_what_may_be_a_stop_is_held_back_until_it_is_not() -> None:
    seen, stopped = shown([b"one ", b"\n", b"two", b"\n", b"\nthree"], ("\n\n",))
    assert seen == ["one ", "", "\ntwo", "", "", ""]
    assert stopped


def test_the_earliest_stop_wins() -> None:
    assert "".join(shown([b"x STOP y END"], ("END", "STOP"))[0]) == "x "
