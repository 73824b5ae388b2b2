"""Span corruption: the paper's own example, nothing lost, and cuts that belong to the sample."""

from __future__ import annotations

from itertools import combinations, pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ingot.errors import ConfigError
from ingot.objectives.objective import IGNORED, Batch
from ingot.objectives.spans import SpanCorruption, Spans

END, PADDING = 1, 0
SENTINELS = tuple(range(999, 899, -1))  # as T5's: from the end of the vocabulary down


def texts(lengths: list[int], width: int) -> Batch:
    rows = torch.zeros(len(lengths), width, dtype=torch.long)
    for row, length in enumerate(lengths):
        rows[row, :length] = torch.randint(2, 900, (length,), generator=torch.Generator().manual_seed(row))
    return {"inputs": rows, "sample_ids": torch.arange(len(lengths)) + 17}


def rebuilt(source: Tensor, target: Tensor) -> list[int]:
    """Puts the spans of a target back in the places of their sentinels."""
    spans: dict[int, list[int]] = {}
    seen = target[target != IGNORED].tolist()
    for token in seen[:-1]:
        if token in SENTINELS:
            spans[token] = []
        else:
            spans[list(spans)[-1]].append(token)
    whole: list[int] = []
    for token in source.tolist():
        if token == END:
            break
        whole += spans.get(token, [token])
    return whole


def test_the_example_of_the_paper() -> None:
    """Figure 2 of Raffel et al. 2020, with the ends that section 3.1.4 speaks of."""
    words = ["Thank", "you", "for", "inviting", "me", "to", "your", "party", "last", "week", "."]
    ids = {word: number for number, word in enumerate(words, 2)}
    names = {number: word for word, number in ids.items()} | {999: "<X>", 998: "<Y>", 997: "<Z>", END: "</s>"}
    text = torch.tensor([[ids[word] for word in words]])
    cuts = Spans(torch.tensor([[2, 8]]), torch.tensor([[2, 1]]))
    objective = SpanCorruption(SENTINELS, density=0.27, mean_length=1.5)  # 3 tokens in 2 spans
    source, target = objective.cut(text, torch.tensor([len(words)]), cuts)

    def said(row: Tensor) -> str:
        return " ".join(names[token] for token in row.tolist() if token not in (PADDING, IGNORED))

    assert said(source[0]) == "Thank you <X> me to your party <Y> week . </s>"
    assert said(target[0]) == "<X> for inviting <Y> last <Z> </s>"


def test_what_a_seed_and_a_sample_give_stays() -> None:
    """A golden pair: a change of it changes every run that is gone on with."""
    pair = SpanCorruption(SENTINELS, density=0.4, mean_length=2, seed=3).corrupted(
        {"inputs": torch.arange(10, 25)[None], "sample_ids": torch.tensor([5])}
    )
    assert pair["inputs"].tolist() == [[10, 11, 999, 13, 14, 998, 18, 19, 20, 997, 23, 24, END]]
    assert pair["targets"].tolist() == [[999, 12, 998, 15, 16, 17, 997, 21, 22, 996, END]]


def test_counts_are_those_of_the_paper() -> None:
    """Section 3.1.4: of 500 tokens 15 % are 75, in 25 spans, so 3 tokens on average; T5's rows of 512."""
    cut, spans = SpanCorruption(SENTINELS).counts(torch.tensor([500, 512, 20, 2, 1, 0]))
    assert cut.tolist() == [75, 77, 3, 1, 0, 0]
    assert spans.tolist() == [25, 26, 1, 1, 0, 0]
    pair = SpanCorruption(SENTINELS).corrupted(texts([500] * 40, 500))
    for source, target in zip(pair["inputs"], pair["targets"], strict=True):
        marks = [token for token in source.tolist() if token in SENTINELS]
        assert marks == list(SENTINELS[:25])  # in order, none twice
        assert len(target) == 75 + 25 + 2 and int((target == IGNORED).sum()) == 0
        assert len(source) == 500 - 75 + 25 + 1 and source[-1] == END


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 60), min_size=1, max_size=5),
    density=st.floats(0.02, 0.95),
    mean=st.floats(1, 8),
    seed=st.integers(0, 5),
)
def test_source_and_target_rebuild_the_text(
    lengths: list[int], density: float, mean: float, seed: int
) -> None:
    batch = texts(lengths, max(lengths) + 3)
    objective = SpanCorruption(SENTINELS, density=density, mean_length=mean, seed=seed)
    pair = objective.corrupted(batch)
    for text, source, target in zip(batch["inputs"], pair["inputs"], pair["targets"], strict=True):
        whole = text[text != PADDING].tolist()
        assert rebuilt(source, target) == whole if len(whole) > 1 else bool((target == IGNORED).all())
        tokens = source[source != PADDING].tolist()
        assert tokens[-1] == END and tokens.count(END) == 1
        assert not any(one in SENTINELS and two in SENTINELS for one, two in pairwise(tokens))
    assert torch.equal(pair["mask"], pair["inputs"] != PADDING)
    assert objective.weight(batch) == int((pair["targets"] != IGNORED).sum())


def test_all_ways_to_cut_are_alike() -> None:
    """4 of 8 tokens in 2 spans: 10 choices of gaps (2 of 5), 3 of lengths, each as often."""
    objective = SpanCorruption(SENTINELS, density=0.5, mean_length=2)
    rows = 12_000
    cuts = objective.spans(torch.arange(rows), torch.full((rows,), 8), 8)
    kept, lengths = cuts.starts.clone(), cuts.lengths
    kept[:, 1] -= lengths[:, 0]
    ways = {(gaps, length): 0 for gaps in combinations(range(5), 2) for length in (1, 2, 3)}
    for gaps, length in zip(kept.tolist(), lengths.tolist(), strict=True):
        assert sum(length) == 4
        ways[(gaps[0], gaps[1]), length[0]] += 1
    expected = rows / len(ways)
    square = sum((count - expected) ** 2 / expected for count in ways.values())
    assert square < 58.3  # chi-square of 29 degrees of freedom: one seed in a thousand is above it


def test_cuts_belong_to_the_sample_and_the_seed() -> None:
    batch = texts([40, 37, 40, 12, 40, 31], 40)
    objective = SpanCorruption(SENTINELS)
    whole = objective.corrupted(batch)
    part = objective.corrupted({name: value[2:5] for name, value in batch.items()})
    assert all(torch.equal(part[name], whole[name][2:5]) for name in whole)
    wider = {**batch, "inputs": torch.nn.functional.pad(batch["inputs"], (0, 9))}
    longer = objective.corrupted(wider)
    assert torch.equal(longer["inputs"][:, : whole["inputs"].shape[1]], whole["inputs"])
    assert not torch.equal(SpanCorruption(SENTINELS, seed=1).corrupted(batch)["inputs"], whole["inputs"])
    moved = batch | {"sample_ids": batch["sample_ids"] + 6}
    assert not torch.equal(objective.corrupted(moved)["inputs"], whole["inputs"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"density": 0.0}, "density is 0"),
        ({"density": 1.0}, "density is 1"),
        ({"mean_length": 0.5}, "mean_length is 0.5"),
        ({"smoothing": 1.0}, "smoothing is 1"),
    ],
)
def test_settings_that_cannot_be(changes: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SpanCorruption(SENTINELS, **changes)


def test_too_few_sentinels_are_said() -> None:
    with pytest.raises(ConfigError, match="texts of 100 tokens need 6 sentinels, there are 5"):
        SpanCorruption(SENTINELS[:5]).corrupted(texts([100], 100))
