"""Packing: nothing cut off, little padding, the best fit of the textbook, and pure in seed and number."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from ingot.data.pack import PackedStream, best_fit, split
from ingot.data.stream import Part, Stream
from ingot.data.tokens import Tokens
from ingot.errors import ConfigError, DataError
from ingot.train.prefetch import Prefetch

END = 0
sizes_and_room = st.integers(1, 40).flatmap(
    lambda room: st.tuples(st.just(room), st.lists(st.integers(1, room), min_size=1, max_size=120))
)


def tokens_of(lengths: list[int], taught: NDArray[np.uint8] | None = None) -> Tokens:
    """Documents in which every token is another number, from 1 on."""
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return Tokens(np.arange(1, offsets[-1] + 1, dtype=np.uint32), offsets, taught)


def textbook(sizes: list[int], room: int) -> list[int]:
    """Best fit decreasing, piece by piece, looking at all rows."""
    left: list[int] = []
    rows = []
    for size in sizes:
        fitting = [row for row, has in enumerate(left) if has >= size]
        row = min(fitting, key=lambda one: left[one]) if fitting else len(left)
        if not fitting:
            left.append(room)
        left[row] -= size
        rows.append(row)
    return rows


@settings(max_examples=200, deadline=None)
@given(sizes_and_room)
def test_pieces_go_where_the_textbook_puts_them(case: tuple[int, list[int]]) -> None:
    room, sizes = case
    ordered = sorted(sizes, reverse=True)
    rows = best_fit(np.array(ordered, dtype=np.int32), room)
    theirs = textbook(ordered, room)

    # Which of several rows with the same room is taken is free; how full rows are does not depend on it.
    ours = np.bincount(rows, weights=ordered)
    assert Counter(ours.tolist()) == Counter(np.bincount(theirs, weights=ordered).tolist())
    assert ours.max() <= room
    assert set(rows.tolist()) == set(range(max(theirs) + 1))


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 100), min_size=1, max_size=30),
    st.integers(1, 40).flatmap(lambda c: st.tuples(st.just(c), st.integers(0, c - 1))),
)
def test_long_documents_are_split_without_gaps(lengths: list[int], case: tuple[int, int]) -> None:
    context, overlap = case
    pieces = split(np.array(lengths, dtype=np.int64), context, overlap)
    for number, length in enumerate(lengths):
        mine = pieces.document == number
        starts = [pieces.start(int(piece)) for piece in np.flatnonzero(mine)]
        sizes = pieces.size[mine].tolist()
        if length <= context:
            assert (starts, sizes) == (([0], [length]) if length else ([], []))
            continue
        assert all(0 < size <= context for size in sizes) and sizes[:-1] == [context] * (len(sizes) - 1)
        ends = [start + size for start, size in zip(starts, sizes, strict=True)]
        assert starts[0] == 0 and ends[-1] == length
        assert starts[1:] == [end - overlap for end in ends[:-1]]
        assert sizes[-1] > overlap  # a last piece has something new


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=40).filter(any),
    context=st.integers(2, 32),
    overlap=st.integers(0, 5),
    epoch=st.integers(0, 3),
)
def test_every_token_is_an_input_and_a_target_once(
    lengths: list[int], context: int, overlap: int, epoch: int
) -> None:
    overlap = min(overlap, context - 1)
    tokens = tokens_of(lengths)
    stream = PackedStream(tokens, context, 1, 3, END, overlap)
    seen: Counter[int] = Counter()
    learnt: Counter[int] = Counter()
    begun = set(tokens.offsets[:-1].tolist())
    for step in range(epoch * stream.rows, (epoch + 1) * stream.rows):
        batch = {name: value[0].tolist() for name, value in stream.batch(step).items() if value.dim() == 2}
        real = [i for i in range(context) if batch["inputs"][i] != END]
        assert real == list(range(len(real)))  # padding is at the end
        for at in range(context):
            starts = batch["positions"][at] == 0
            assert starts == (at == 0 or batch["documents"][at] == batch["documents"][at - 1] + 1)
            if not starts:
                assert batch["documents"][at] == batch["documents"][at - 1]
                assert batch["positions"][at] == batch["positions"][at - 1] + 1
        for at in real:
            token, target = batch["inputs"][at], batch["targets"][at]
            last = token in set(tokens.offsets[1:].tolist())
            again = target == -100
            assert again or target == (END if last else token + 1)
            if at + 1 in real and batch["documents"][at + 1] == batch["documents"][at]:
                assert batch["inputs"][at + 1] == token + 1
            if not again:
                seen[token] += 1
                learnt[target] += 1
        assert all(target == -100 for target in batch["targets"][len(real) :])
        first = batch["inputs"][0] - 1
        document = int(np.searchsorted(tokens.offsets, first, side="right")) - 1
        assert first in begun or lengths[document] > context
    assert seen == Counter(range(1, sum(lengths) + 1))
    assert learnt[END] == sum(length > 0 for length in lengths)


def realistic(count: int, seed: int = 0) -> NDArray[np.int64]:
    """Lengths as of web text: log-normal, a median of 490 tokens, a mean of 1,000."""
    drawn = np.random.default_rng(seed).lognormal(6.2, 1.2, count)
    return np.maximum(drawn, 2).astype(np.int64)


@pytest.mark.parametrize("context", [512, 2048, 8192])
def test_of_realistic_documents_99_of_100_tokens_are_trained_on(context: int) -> None:
    """A count of places, by the stream's own batches for some steps and by its rows for all."""
    lengths = realistic(20_000)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = Tokens(np.zeros(offsets[-1], np.uint16), offsets)
    stream = PackedStream(tokens, context, 16, 0, END)
    trained = int(stream.pieces.size.sum())
    assert trained == lengths.sum()  # all of them, none cropped
    assert stream.padding <= 0.01 and stream.rows * context * (1 - stream.padding) == pytest.approx(trained)
    some = [stream.batch(step)["targets"] for step in range(20)]
    assert float((torch.cat(some) != -100).float().mean()) >= 0.99


@pytest.mark.slow
def test_a_million_documents_are_packed_alike_in_bounded_memory() -> None:
    import tracemalloc

    lengths = realistic(1_000_000)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    tokens = Tokens(np.zeros(1 << 20, np.uint16), offsets)
    tracemalloc.start()
    stream = PackedStream(tokens, 2048, 16, 0, END)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    pieces = len(stream.pieces.size)
    assert stream.padding < 0.001 and kept < 40 * pieces and peak < 120 * pieces


def packed(seed: int = 1, batch_size: int = 4, context: int = 32, count: int = 90) -> PackedStream:
    lengths = [int(one) % 70 + 1 for one in np.random.default_rng(5).integers(0, 1000, count)]
    return PackedStream(tokens_of(lengths), context, batch_size, seed, END, overlap=3)


def test_batches_are_pure_in_seed_step_and_salt() -> None:
    one, two, other = packed(), packed(), packed(seed=2)
    for step in (17, 3, 200):
        two.batch(step)
    for step, salt in ((40, 0), (2, 0), (40, 3)):
        for name, value in one.batch(step, salt).items():
            assert torch.equal(value, two.batch(step, salt)[name])
    assert not torch.equal(one.batch(40)["inputs"], other.batch(40)["inputs"])
    assert not torch.equal(one.batch(40)["inputs"], one.batch(40, 1)["inputs"])


def test_epochs_share_rows_out_anew() -> None:
    stream = packed(count=400)
    rows = [
        [frozenset(stream.documents_of(epoch * stream.rows + row)) for row in range(stream.rows)]
        for epoch in range(3)
    ]
    assert all(set().union(*epoch) == set(range(400)) for epoch in rows)
    shared = [{row for row in epoch if len(row) > 1} for epoch in rows]
    assert len(shared[0]) > 50
    assert len(shared[0] & shared[1]) < 20 and len(shared[1] & shared[2]) < 20


def test_the_samples_do_not_depend_on_the_batch_size() -> None:
    large, small = packed(batch_size=12), packed(batch_size=4)
    for step in range(10):
        parts = [small.batch(3 * step + part) for part in range(3)]
        for name, value in large.batch(step).items():
            assert torch.equal(value, torch.cat([part[name] for part in parts]))


@pytest.mark.parametrize("ranks", [1, 2, 3, 5])
def test_ranks_share_the_rows_of_the_whole_batch(ranks: int) -> None:
    stream: Stream = packed()
    for step, salt in ((0, 0), (7, 0), (40, 1)):
        whole = stream.batch(step, salt)
        assert torch.equal(stream.sample_ids(step, salt), whole["sample_ids"])
        for rank in range(ranks):
            for name, value in stream.batch(step, salt, Part(rank, ranks)).items():
                assert torch.equal(value, whole[name][rank::ranks])


def test_rows_say_which_documents_they_are_of() -> None:
    lengths = [int(one) % 70 + 1 for one in np.random.default_rng(5).integers(0, 1000, 90)]
    tokens = tokens_of(lengths)
    chosen = np.arange(1, 90, 2)
    for stream in (packed(), PackedStream(tokens, 32, 4, 1, END, documents=chosen)):
        batch = stream.batch(5)
        for row, sample_id in enumerate(batch["sample_ids"].tolist()):
            inputs = batch["inputs"][row]
            firsts = inputs[(batch["positions"][row] == 0) & (inputs != END)] - 1
            assert stream.documents_of(sample_id) == [tokens.at(int(first)) for first in firsts]
    seen = torch.cat(
        [stream.batch(step)["inputs"].flatten() for step in range(stream.rows // 4 + 1)]
    ).unique()
    assert {tokens.at(int(one) - 1) for one in seen if one != END} == set(chosen.tolist())


def test_loss_masks_hide_targets() -> None:
    taught = (np.arange(100) % 3 == 0).astype(np.uint8)
    tokens = tokens_of([30, 10, 60], taught)
    stream = PackedStream(tokens, 25, 8, 0, END)
    targets = stream.take(np.arange(stream.rows))["targets"]
    learnt = sorted(one for one in targets.flatten().tolist() if one not in (-100, END))
    firsts = {1, 31, 41}
    assert set(learnt) == {place + 1 for place in range(100) if taught[place]} - firsts
    assert int((targets == END).sum()) == sum(taught[end - 1] for end in (30, 40, 100))


def test_without_an_end_the_last_token_predicts_nothing() -> None:
    batch = PackedStream(tokens_of([3, 2]), 8, 1, 0).batch(0)
    assert batch["inputs"].tolist() == [[1, 2, 3, 4, 5, 0, 0, 0]]
    assert batch["targets"].tolist() == [[2, 3, -100, 5, -100, -100, -100, -100]]
    assert batch["positions"].tolist() == [[0, 1, 2, 0, 1, 0, 1, 2]]
    assert batch["documents"].tolist() == [[0, 0, 0, 1, 1, 2, 2, 2]]


def test_a_fingerprint_notices_every_change_that_matters() -> None:
    def make(**changed: object) -> str:
        named = {"context": 16, "batch_size": 2, "seed": 1, "end_id": END, "overlap": 0, **changed}
        tokens = named.pop("tokens", tokens_of([20, 5, 7]))
        return PackedStream(tokens, **named).fingerprint  # type: ignore[arg-type]

    others = [
        make(context=17),
        make(batch_size=3),
        make(seed=2),
        make(end_id=3),
        make(overlap=1),
        make(tokens=tokens_of([20, 6, 6])),
        make(tokens=tokens_of([20, 5, 7], np.ones(32, np.uint8))),
        make(documents=np.array([0, 2])),
    ]
    assert len({make(), *others}) == 9 and make() == make()


def test_what_cannot_be_packed_is_refused() -> None:
    with pytest.raises(DataError, match="no tokens to pack"):
        PackedStream(tokens_of([0, 0]), 8, 1, 0)
    with pytest.raises(ConfigError, match="an overlap of 8 in rows of 8 tokens"):
        PackedStream(tokens_of([9]), 8, 1, 0, overlap=8)


class Steps(Dataset[dict[str, torch.Tensor]]):
    """A stream as PyTorch's loader sees it: item i is the batch of step i."""

    def __init__(self, stream: Stream, count: int) -> None:
        self.stream, self.count = stream, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, step: int) -> dict[str, torch.Tensor]:
        return self.stream.batch(step)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_change_no_sample(workers: int) -> None:
    """Threads of ours (none, or one ahead), and processes of PyTorch's loader."""
    plain = [packed().batch(step) for step in range(12)]
    prefetch = Prefetch(packed(), Part(0, 1), pinned=False)
    prefetch._worth = 0.0  # ahead even though these batches are quick to make
    try:
        ours = [prefetch.get(step, 0, ahead=workers > 0).batch for step in range(12)]
    finally:
        prefetch.close()
    theirs = list(DataLoader(Steps(packed(), 12), batch_size=None, num_workers=workers))
    for wanted, one, other in zip(plain, ours, theirs, strict=True):
        assert all(
            torch.equal(value, one[name]) and torch.equal(value, other[name])
            for name, value in wanted.items()
        )
