"""Masked language modelling: hide some tokens, predict them from both sides."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ingot.objectives.keyed import uniform
from ingot.objectives.objective import Batch, Loss


class MaskedLM:
    """Cross-entropy of hidden tokens, in nats: of 15 % of the tokens, chosen anew for every sample id.

    Of the chosen tokens 80 % become the mask token, 10 % a random token, 10 % stay what they are. Which
    ones depends on the seed and the sample's id alone, not on rank or micro-batch; a stream whose ids do
    not come again (windows) masks every epoch differently, as RoBERTa does.

    Batch: `inputs` [b, t] int64, the text itself; `sample_ids` [b] int64. The model has a masked `head`.

    Args:
        mask_id: the token that hides others.
        vocabulary: v, of random tokens.
        special_ids: tokens that are never chosen (padding, beginning, end).
        share: of tokens that are chosen.
        seed: of the choice.

    Source: Devlin et al. 2019, arXiv 1810.04805, section 3.1; masking anew: Liu et al. 2019 (RoBERTa),
    arXiv 1907.11692, section 4.1.
    """

    def __init__(
        self,
        mask_id: int,
        vocabulary: int,
        *,
        special_ids: Sequence[int] = (),
        share: float = 0.15,
        seed: int = 0,
    ) -> None:
        self.mask_id = mask_id
        self.vocabulary = vocabulary
        self.special_ids = tuple(special_ids)
        self.share = share
        self.seed = seed

    def weight(self, batch: Batch) -> float:
        """Returns the number of hidden tokens."""
        return float(self.chosen(batch).sum())

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Returns the summed negative log-likelihood of the hidden tokens, n of them.

        The head, a large part of a small model, works on the hidden tokens only.
        """
        chosen = self.chosen(batch)  # [b, t]
        hidden = model(self.hidden(batch, chosen), logits=False).hidden[chosen]  # [n, d]
        logits = model.get_submodule("head")(hidden).float()  # [n, v]
        right = batch["inputs"][chosen]  # [n]
        correct = (logits.detach().argmax(-1) == right).float().sum()
        return Loss(cross_entropy(logits, right, reduction="sum"), {"accuracy": correct})

    def chosen(self, batch: Batch) -> Tensor:
        """Returns which tokens are to be predicted, [b, t] bool."""
        inputs = batch["inputs"]
        chosen = uniform(self.seed, batch["sample_ids"], "mask", inputs.shape[1:]) < self.share
        for token in self.special_ids:
            chosen &= inputs != token
        return chosen

    def hidden(self, batch: Batch, chosen: Tensor) -> Tensor:
        """Returns what the model sees, [b, t] int64."""
        inputs, ids = batch["inputs"], batch["sample_ids"]
        fate = uniform(self.seed, ids, "fate", inputs.shape[1:])
        other = uniform(self.seed, ids, "token", inputs.shape[1:]) * self.vocabulary
        seen = torch.where(chosen & (fate < 0.8), self.mask_id, inputs)
        return torch.where(chosen & (fate >= 0.9), other.long(), seen)
