"""Permutations and streams: bijections, every token once, pure in seed and step."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.data.examples import Conversation, ConversationStream
from ingot.data.permutation import key, mix, permute
from ingot.data.stream import Part, Stream, WindowStream
from ingot.errors import DataError


@settings(max_examples=200, deadline=None)
@given(n=st.integers(1, 3000), parts=st.lists(st.integers(-(2**70), 2**70), min_size=1, max_size=3))
def test_a_permutation_gives_every_thing_once(n: int, parts: list[int]) -> None:
    things = permute(np.arange(n), n, key(*parts))
    assert np.array_equal(np.sort(things), np.arange(n))


@given(n=st.integers(1, 2**40), k=st.integers(0, 2**64 - 1), data=st.data())
def test_a_place_does_not_depend_on_what_else_is_asked(n: int, k: int, data: st.DataObject) -> None:
    places = np.array(data.draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=20)))
    together = permute(places, n, k)
    assert [int(permute(places[i : i + 1], n, k)[0]) for i in range(len(places))] == together.tolist()
    assert together.max() < n


@given(one=st.integers(-(2**70), 2**70), two=st.integers(-(2**70), 2**70))
def test_keys_are_mixed_one_part_after_another(one: int, two: int) -> None:
    golden = 0x9E3779B97F4A7C15
    first = int(mix(np.array([(one + golden) % 2**64], dtype=np.uint64))[0])
    assert key(one) == first
    assert key(one, two) == int(mix(np.array([(first + two + golden) % 2**64], dtype=np.uint64))[0])


def test_a_place_outside_is_refused() -> None:
    for wrong in (-1, 5):
        with pytest.raises(IndexError):
            permute(np.array([wrong]), 5, 1)


def test_all_orders_of_few_things_are_about_as_frequent() -> None:
    """A chi-square test over the 24 orders of four things, under 2,400 keys."""
    counts = Counter(tuple(permute(np.arange(4), 4, key(seed, 1)).tolist()) for seed in range(2_400))
    assert len(counts) == 24
    chi = sum((count - 100) ** 2 / 100 for count in counts.values())
    assert chi < 56  # 0.9999 of the distribution with 23 degrees of freedom


def test_neighbours_do_not_stay_neighbours() -> None:
    things = permute(np.arange(10_000), 10_000, key(3)).astype(float)
    assert abs(np.corrcoef(things[:-1], things[1:])[0, 1]) < 0.05
    assert abs(np.corrcoef(things, np.arange(10_000))[0, 1]) < 0.05


def test_orders_do_not_change_with_the_release() -> None:
    assert permute(np.arange(8), 8, key(1, 2)).tolist() == [7, 3, 4, 5, 2, 0, 6, 1]


@settings(max_examples=100, deadline=None)
@given(n=st.integers(3, 400), context=st.integers(1, 40), batch=st.integers(1, 7), seed=st.integers(0, 9))
def test_an_epoch_covers_each_token_once(n: int, context: int, batch: int, seed: int) -> None:
    if n < context + 1:
        return
    tokens = np.arange(n, dtype=np.uint16)
    stream = WindowStream(tokens, context, batch, seed)
    steps = -(-2 * stream.windows // batch)
    batches = [stream.batch(step) for step in range(steps)]
    inputs, targets, ids = (
        torch.cat([b[name] for b in batches]) for name in ("inputs", "targets", "sample_ids")
    )
    assert torch.equal(targets, inputs + 1)
    assert inputs.dtype == targets.dtype == ids.dtype == torch.int64
    for epoch in range(2):
        rows = slice(epoch * stream.windows, (epoch + 1) * stream.windows)
        covered = targets[rows].flatten().tolist()
        assert len(covered) == len(set(covered)) == stream.windows * context
        assert sorted(covered) == list(range(min(covered), max(covered) + 1))
        assert n - 1 - len(covered) < 2 * context
        assert set(ids[rows].tolist()) == set(range(rows.start, rows.stop))


def test_offsets_and_orders_differ_between_epochs() -> None:
    tokens = np.arange(10_000, dtype=np.uint16)
    stream = WindowStream(tokens, context=100, batch_size=98, seed=1)
    assert stream.windows == 99
    stream = WindowStream(tokens, context=100, batch_size=99, seed=1)
    firsts = [stream.batch(epoch)["inputs"][:, 0] for epoch in range(6)]
    assert len({int(first.min()) for first in firsts}) > 3
    assert not torch.equal(firsts[0].argsort(), firsts[1].argsort())


def test_batches_are_pure_in_seed_and_step() -> None:
    tokens = np.arange(5_000, dtype=np.uint16)
    one, two, other = (WindowStream(tokens, 64, 8, seed) for seed in (1, 1, 2))
    two.batch(17)
    for name, value in one.batch(40).items():
        assert torch.equal(value, two.batch(40)[name])
    assert not torch.equal(one.batch(40)["inputs"], other.batch(40)["inputs"])


def test_the_samples_do_not_depend_on_the_batch_size() -> None:
    """Two small batches are one large one, so micro-batches and ranks can be cut freely."""
    tokens = np.arange(5_000, dtype=np.uint16)
    large, small = WindowStream(tokens, 64, 12, 1), WindowStream(tokens, 64, 4, 1)
    for step in range(10):
        parts = [small.batch(3 * step + part)["sample_ids"] for part in range(3)]
        assert torch.equal(large.batch(step)["sample_ids"], torch.cat(parts))


def test_a_fingerprint_notices_every_change_that_matters() -> None:
    tokens = np.arange(5_000, dtype=np.uint16)
    base: Stream = WindowStream(tokens, 64, 8, 1)
    changed = tokens.copy()
    changed[-1] += 1
    others: list[Stream] = [
        WindowStream(changed, 64, 8, 1),
        WindowStream(tokens[:-1], 64, 8, 1),
        WindowStream(tokens, 32, 8, 1),
        WindowStream(tokens, 64, 4, 1),
        WindowStream(tokens, 64, 8, 2),
    ]
    assert base.fingerprint == WindowStream(tokens.astype(np.uint32), 64, 8, 1).fingerprint
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 6


def test_too_few_tokens_are_refused() -> None:
    with pytest.raises(DataError, match="64 tokens are fewer than one window of 64"):
        WindowStream(np.zeros(64, dtype=np.uint16), 64, 1, 0)
    stream = WindowStream(np.arange(65, dtype=np.uint16), 64, 2, 0)
    assert stream.batch(3)["inputs"].shape == (2, 64)


def streams() -> list[Stream]:
    conversations = [
        Conversation([n] * (5 + n % 90), [False, False] + [True] * (3 + n % 90)) for n in range(97)
    ]
    return [
        WindowStream(np.arange(5_000, dtype=np.uint16), 64, 12, 1),
        ConversationStream(conversations, context=256, batch_size=12, seed=1, pad_id=99),
    ]


@pytest.mark.parametrize("stream", streams(), ids=lambda stream: type(stream).__name__)
@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_ranks_share_the_rows_of_the_whole_batch(stream: Stream, ranks: int) -> None:
    for step, salt in ((0, 0), (7, 0), (7, 2), (40, 1)):
        whole = stream.batch(step, salt)
        assert torch.equal(stream.sample_ids(step, salt), whole["sample_ids"])
        for rank in range(ranks):
            for name, value in stream.batch(step, salt, Part(rank, ranks)).items():
                assert torch.equal(value, whole[name][rank::ranks])


@pytest.mark.parametrize("stream", streams(), ids=lambda stream: type(stream).__name__)
def test_a_salt_is_another_order_of_the_same_samples(stream: Stream) -> None:
    orders = [torch.cat([stream.sample_ids(step, salt) for step in range(6)]) for salt in range(3)]
    assert all(len(order.unique()) == 72 for order in orders)
    assert not torch.equal(orders[0], orders[1]) and not torch.equal(orders[1], orders[2])
    assert torch.equal(stream.sample_ids(3), stream.sample_ids(3, 0))


def test_salted_epochs_cover_each_token_once() -> None:
    stream = WindowStream(np.arange(1_000, dtype=np.uint16), 10, 9, 1)
    ids = torch.cat([stream.batch(step, 5)["sample_ids"] for step in range(stream.windows // 9)])
    assert len(ids.unique()) == len(ids)
    targets = torch.cat([stream.batch(step, 5)["targets"] for step in range(stream.windows // 9)])
    assert len(targets.unique()) == targets.numel()


def test_the_unsalted_order_is_that_of_earlier_versions() -> None:
    stream = WindowStream(np.arange(5_000, dtype=np.uint16), 64, 4, 1)
    assert stream.sample_ids(0).tolist() == [73, 7, 66, 49]


def test_samples_by_number_are_those_of_the_batches() -> None:
    stream = WindowStream(np.arange(5_000, dtype=np.uint16), 64, 12, 1)
    for step, salt in ((0, 0), (3, 0), (40, 2)):
        taken = stream.take(np.arange(12 * step, 12 * step + 12), salt)
        for name, value in stream.batch(step, salt).items():
            assert torch.equal(taken[name], value)


def test_a_window_says_which_documents_it_is_of() -> None:
    tokens = np.arange(5_000, dtype=np.uint16)
    offsets = np.array([0, 7, 7, 900, 901, 3_000, 5_000], dtype=np.int64)
    stream = WindowStream(tokens, 64, 12, 1, offsets)
    assert stream.fingerprint == WindowStream(tokens, 64, 12, 1).fingerprint
    for step in range(0, 60, 7):
        batch = stream.batch(step, salt=1)
        for row, sample_id in enumerate(batch["sample_ids"].tolist()):
            places = [int(batch["inputs"][row, 0]), *batch["targets"][row].tolist()]
            inside = np.searchsorted(offsets, places, side="right") - 1
            found = stream.documents_of(sample_id, salt=1)
            assert found[0] == inside[0] and found[-1] == inside[-1]
            assert set(inside.tolist()) <= set(found)
    with pytest.raises(DataError, match="nobody said where documents begin"):
        WindowStream(tokens, 64, 12, 1).documents_of(0)
