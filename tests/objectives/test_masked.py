"""Masked language modelling: the shares of Devlin et al., and what is never touched."""

from __future__ import annotations

import torch

from ingot.objectives.masked import MaskedLM
from ingot.objectives.objective import Batch

MASK, VOCABULARY = 99, 98


def batch(rows: int = 400, places: int = 100) -> Batch:
    torch.manual_seed(0)
    return {"inputs": torch.randint(0, VOCABULARY, (rows, places)), "sample_ids": torch.arange(rows)}


def test_shares_are_those_of_the_paper() -> None:
    rows = batch()
    objective = MaskedLM(MASK, VOCABULARY)
    chosen = objective.chosen(rows)
    seen = objective.hidden(rows, chosen)
    count = int(chosen.sum())
    assert abs(count / chosen.numel() - 0.15) < 0.006  # three deviations and more
    assert abs((seen[chosen] == MASK).float().mean() - 0.8) < 0.02
    kept = (seen == rows["inputs"])[chosen].float().mean()
    assert abs(kept - (0.1 + 0.1 / VOCABULARY)) < 0.015
    replaced = seen[chosen & (seen != MASK) & (seen != rows["inputs"])]
    assert replaced.min() >= 0 and replaced.max() < VOCABULARY
    assert len(replaced.unique()) == VOCABULARY
    assert torch.equal(seen[~chosen], rows["inputs"][~chosen])
    assert objective.weight(rows) == count


def test_special_tokens_are_never_chosen() -> None:
    rows = batch()
    chosen = MaskedLM(MASK, VOCABULARY, special_ids=(3, 4), share=0.9).chosen(rows)
    special = (rows["inputs"] == 3) | (rows["inputs"] == 4)
    assert special.any() and not chosen[special].any()


def test_masks_belong_to_the_sample_and_the_seed() -> None:
    rows = batch(8)
    objective = MaskedLM(MASK, VOCABULARY)
    chosen = objective.chosen(rows)
    part = {name: value[5:7] for name, value in rows.items()}
    assert torch.equal(objective.chosen(part), chosen[5:7])
    assert torch.equal(objective.hidden(part, chosen[5:7]), objective.hidden(rows, chosen)[5:7])
    assert not torch.equal(MaskedLM(MASK, VOCABULARY, seed=1).chosen(rows), chosen)
    assert not torch.equal(objective.chosen(rows | {"sample_ids": torch.arange(8, 16)}), chosen)
