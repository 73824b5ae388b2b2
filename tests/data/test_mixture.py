"""Mixtures: exact proportions, caps and curricula, from the step alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from ingot.data.course import course
from ingot.data.mixture import MixedStream, MixtureConfig, Source, groups, mix_sources
from ingot.data.origins import Origin
from ingot.data.pack import PackedStream
from ingot.data.shards import Encoded, Tokens, write_encoded
from ingot.data.stream import Part, Span, Stream, WindowStream
from ingot.errors import ConfigError, DataError


class Counted:
    """A source whose samples are their numbers."""

    def __init__(self, name: str, per_epoch: int = 100) -> None:
        self.per_epoch, self.fingerprint = per_epoch, f"{name} {per_epoch}"

    def take(self, samples: NDArray[np.int64], salt: int = 0) -> dict[str, Tensor]:
        return {"numbers": torch.from_numpy(samples.copy()), "sample_ids": torch.from_numpy(samples.copy())}

    def ids(self, samples: NDArray[np.int64], salt: int = 0) -> NDArray[np.int64]:
        return samples

    def spans_of(self, sample_id: int, salt: int = 0) -> list[Span]:
        return [Span(sample_id, 0, 1)]

    def documents_of(self, sample_id: int, salt: int = 0) -> list[int]:
        return [sample_id]


def mixed(
    shares: list[list[float]],
    steps: list[int] | None = None,
    epochs: list[float | None] | None = None,
    batch_size: int = 16,
    seed: int = 0,
    per_epoch: int = 100,
) -> MixedStream:
    count = len(shares[0])
    capped = zip(range(count), epochs or [None] * count, strict=True)
    sources = [Source(f"s{k}", Counted(f"s{k}", per_epoch), most) for k, most in capped]
    return MixedStream(sources, steps or [0], np.array(shares), batch_size, seed)


weights = st.lists(st.floats(0.01, 1), min_size=1, max_size=6)


@settings(max_examples=60, deadline=None)
@given(weights=weights, batch=st.integers(1, 40), seed=st.integers(0, 99), salt=st.integers(0, 3))
def test_shares_are_exact_after_any_number_of_rows(
    weights: list[float], batch: int, seed: int, salt: int
) -> None:
    shares = np.array(weights) / sum(weights)
    stream = mixed([shares.tolist()], batch_size=batch, seed=seed)
    before = np.zeros(len(shares), np.int64)
    for rows in (0, 1, 2, 3, 7, 50, 51, 1000, 10**6, 10**9 + 1):
        counts = stream.counts(rows, salt)
        assert counts.sum() == rows and (counts >= before).all()
        # Each source falls due at most one sample early or late of a common moment.
        assert np.abs(counts - rows * shares).max() <= 1 + len(shares) * shares.max()
        before = counts


def test_each_source_is_met_in_its_own_order_with_nothing_left_out() -> None:
    stream = mixed([[0.5, 0.3, 0.2]], batch_size=7)
    seen: dict[int, list[int]] = {0: [], 1: [], 2: []}
    for step in range(200):
        ids = stream.batch(step)["sample_ids"]
        assert torch.equal(ids, stream.sample_ids(step))
        for one in sorted(ids.tolist()):
            seen[one % 3].append(one // 3)
    assert all(numbers == list(range(len(numbers))) for numbers in map(sorted, seen.values()))
    assert [abs(len(seen[k]) - 1400 * share) < 2 for k, share in enumerate((0.5, 0.3, 0.2))] == [True] * 3


def test_any_step_is_known_without_those_before_it() -> None:
    steady = mixed([[0.2, 0.8], [0.9, 0.1]], steps=[10, 90], epochs=[3.0, None])
    for step in range(120):
        steady.batch(step)
    for step in (0, 17, 80, 119):
        fresh = mixed([[0.2, 0.8], [0.9, 0.1]], steps=[10, 90], epochs=[3.0, None])
        assert torch.equal(fresh.batch(step)["sample_ids"], steady.batch(step)["sample_ids"])


def test_a_curriculum_is_followed() -> None:
    """Shares go from (0.8, 0.2) at step 100 to (0.2, 0.8) at step 300, and are constant outside."""
    stream = mixed([[0.8, 0.2], [0.2, 0.8]], steps=[100, 300], batch_size=10)

    def first(start: int, end: int) -> int:
        return int(stream.counts(10 * end)[0] - stream.counts(10 * start)[0])

    assert abs(first(0, 100) - 800) <= 2
    assert abs(first(100, 200) - 650) <= 2  # the mean of 0.8 and 0.5
    assert abs(first(190, 210) - 100) <= 2
    assert abs(first(300, 1300) - 2000) <= 2


def test_the_course_is_the_integral_of_the_shares() -> None:
    rates = np.array([[6.0, 4.0, 0.0], [0.0, 5.0, 5.0], [2.0, 2.0, 6.0]])
    steps = [5, 20, 60]
    found = course(steps, rates, np.full(3, np.inf))
    moments = np.linspace(0, 100, 200_001)
    shares = np.stack([np.interp(moments, steps, column) for column in rates.T], 1)
    sums = np.concatenate([np.zeros((1, 3)), np.cumsum((shares[1:] + shares[:-1]) / 2 * (100 / 200_000), 0)])
    for at in range(0, 200_001, 5003):
        assert np.abs(found.wanted(moments[at]) - sums[at]).max() < 1e-6


def test_a_cap_on_epochs_is_kept_and_its_share_goes_to_the_others() -> None:
    stream = mixed([[0.5, 0.3, 0.2]], epochs=[2.0, None, None], per_epoch=50, batch_size=10)
    counts = stream.counts(4000)
    assert counts[0] == 100  # two epochs of 50
    assert abs(counts[1] / counts[2] - 1.5) < 0.01
    assert stream.counts(150)[0] == pytest.approx(75, abs=2)


def test_capped_sources_end_the_run_when_all_are_used_up() -> None:
    stream = mixed([[0.5, 0.5]], epochs=[1.0, 2.0], per_epoch=50, batch_size=10)
    assert stream.counts(150).tolist() == [50, 100]
    assert sorted(torch.cat([stream.sample_ids(step) for step in range(15)]).tolist()) == sorted(
        [2 * n for n in range(50)] + [2 * n + 1 for n in range(100)]
    )
    with pytest.raises(DataError, match="used up after 150 rows"):
        stream.batch(15)


def test_a_knot_that_wants_what_is_used_up_is_left_out() -> None:
    stream = mixed([[0.5, 0.5], [1.0, 0.0]], steps=[0, 1000], epochs=[0.5, None], batch_size=10)
    assert stream.counts(50_000).tolist() == [50, 49_950]


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_ranks_share_the_rows(ranks: int) -> None:
    stream: Stream = mixed([[0.7, 0.3]], batch_size=12)
    for step, salt in ((0, 0), (9, 1)):
        whole = stream.batch(step, salt)
        for rank in range(ranks):
            for name, value in stream.batch(step, salt, Part(rank, ranks)).items():
                assert torch.equal(value, whole[name][rank::ranks])


def test_more_ranks_than_rows() -> None:
    assert len(mixed([[0.5, 0.5]], batch_size=2).batch(0, part=Part(3, 4))["sample_ids"]) == 0


def test_batches_are_mixed_and_salts_differ() -> None:
    stream = mixed([[0.5, 0.5]], batch_size=64)
    ids = stream.sample_ids(3)
    assert 20 < int((ids[:-1] % 2 != ids[1:] % 2).sum()) < 44  # not one source after the other
    assert not torch.equal(ids, stream.sample_ids(3, salt=1))


def test_a_fingerprint_notices_what_matters() -> None:
    streams = [
        mixed([[0.5, 0.5]]),
        mixed([[0.4, 0.6]]),
        mixed([[0.5, 0.5]], seed=1),
        mixed([[0.5, 0.5]], batch_size=8),
        mixed([[0.5, 0.5]], epochs=[1.0, None]),
        mixed([[0.5, 0.5]], per_epoch=99),
        mixed([[0.5, 0.5]], steps=[5]),
    ]
    assert len({stream.fingerprint for stream in streams}) == len(streams)
    assert mixed([[0.5, 0.5]]).fingerprint == streams[0].fingerprint


def test_shares_from_weights_sizes_and_temperature() -> None:
    sizes = {"en": 900, "de": 100}
    by_size = MixtureConfig(weights={"en": None, "de": None})
    assert by_size.shares(sizes)[1][0] == pytest.approx([0.9, 0.1])
    flat = MixtureConfig(weights={"en": None, "de": None}, temperature=2.0)
    assert flat.shares(sizes)[1][0] == pytest.approx([0.75, 0.25])  # roots: 30 to 10
    equal = MixtureConfig(weights={"en": None, "de": None}, temperature=float("inf"))
    assert equal.shares(sizes)[1][0] == pytest.approx([0.5, 0.5])
    some = MixtureConfig(weights={"en": 1, "de": 3, "fr": 0}, temperature=float("inf"))
    assert some.shares(sizes | {"fr": 5})[1][0] == pytest.approx([0.5, 0.5, 0])
    course = MixtureConfig.parse(
        {"weights": {"en": None, "de": None}, "curriculum": [{"step": 4, "weights": {"en": 2, "de": 2}}]}
    )
    assert course.shares(sizes)[0] == [4] and course.shares(sizes)[1].tolist() == [[0.5, 0.5]]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"weights": {}}, "at least 1"),
        ({"weights": {"a": -1}}, "not all of them 0"),
        ({"weights": {"a": 0, "b": 0}}, "not all of them 0"),
        ({"weights": {"a": float("nan")}}, "not all of them 0"),
        ({"weights": {"a": 1}, "epochs": {"b": 1}}, "epochs names 'b'"),
        ({"weights": {"a": 1}, "epochs": {"a": 0}}, "more than 0 times"),
        ({"weights": {"a": 1}, "temperature": 0}, "greater than 0"),
        ({"weights": {"a": 1}, "curriculum": [{"step": 1, "weights": {"b": 1}}]}, "curriculum names 'b'"),
        (
            {"weights": {"a": 1}, "curriculum": [{"step": s, "weights": {"a": 1}} for s in (3, 3)]},
            "must ascend",
        ),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        MixtureConfig.parse(settings)


def corpus(folder: Path, named: list[str]) -> Tokens:
    """Documents of 30 tokens, whose source's number is in each token."""
    kinds = sorted(set(named))
    documents = [
        Encoded(
            np.full(30, kinds.index(name), np.uint16), Origin(str(i), name, "text", None, None, bytes(16))
        )
        for i, name in enumerate(named)
    ]
    return write_encoded(folder, documents, 1000)


def test_documents_are_grouped_by_source_and_folder(tmp_path: Path) -> None:
    tokens = corpus(tmp_path, ["a/x.txt", "a/b/y.txt", "ab.txt", "a/b/z.txt", "c"])
    found = groups(tokens, ["a", "a/b", "c", "others"])
    assert {name: places.tolist() for name, places in found.items()} == {
        "a": [0],
        "a/b": [1, 3],
        "c": [4],
        "others": [2],
    }
    with pytest.raises(DataError, match=r"1 documents fit no name, such as ab\.txt"):
        groups(tokens, ["a", "c"])
    with pytest.raises(DataError, match="no document's source is 'd'"):
        groups(tokens, ["a", "d", "others"])
    with pytest.raises(DataError, match="do not say where documents come from"):
        groups(Tokens(tokens.tokens, tokens.offsets), ["a", "others"])


@pytest.mark.parametrize("packing", ["windows", "best_fit"])
def test_real_rows_come_from_the_sources_they_claim(tmp_path: Path, packing: str) -> None:
    tokens = corpus(tmp_path, (["a/x"] * 3 + ["b/y"] * 5) * 20)
    config = MixtureConfig(weights={"a": 3, "b": 1})

    def make(documents: NDArray[np.int64] | None) -> Any:
        if packing == "best_fit":
            return PackedStream(tokens, 90, 8, 1, 5, documents=documents)
        return WindowStream.over(tokens, 90, 8, 1, documents)

    stream = mix_sources(config, tokens, make, batch_size=8, seed=1)
    batches = [stream.batch(step) for step in range(20)]
    inputs, ids = (torch.cat([batch[name] for batch in batches]) for name in ("inputs", "sample_ids"))
    assert ((inputs == (ids % 2)[:, None]) | (inputs == 5)).all() and (inputs == 5).float().mean() < 0.03
    assert int((ids % 2 == 0).sum()) == pytest.approx(120, abs=2)
    for one in ids[:20].tolist():
        documents = stream.documents_of(one)
        assert {("a", "b").index(tokens.origins[d].source[0]) for d in documents} == {one % 2}  # type: ignore[index]
    assert len(stream.documents_of(int(ids[0]))) in (1, 3, 4)
