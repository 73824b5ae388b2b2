"""Multi-token prediction: every place predicts the next token, and those that come after it.

```
place          0   1   2   3   4
next token     t1  t2  t3  t4  t5     the loss of CausalLM
one further    t2  t3  t4  t5  -      from the model's first further head, and so on
```

The model is one that looks ahead (`ingot.models.foresight`). Its further heads teach while it trains and are
not part of what is made.

Source: Gloeckle et al. 2024, arXiv 2404.19737, section 2; DeepSeek-V3, arXiv 2412.19437, section 2.2.
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from ingot.config import Config
from ingot.objectives.causal import CausalLM, nats, places, with_balance
from ingot.objectives.objective import IGNORED, Batch, Loss


class FutureConfig(Config):
    """How many tokens are predicted at once.

    Args:
        tokens: that every place predicts, the next one counted.
        heads: `parallel`: each further head is a last block of its own beside the model's last block
            (Gloeckle et al.). `sequential`: each reads what the one before it made and the token that came
            in between (DeepSeek-V3).
        weight: of a further token's loss beside the next one's. Gloeckle et al. take 1; DeepSeek-V3 divides
            0.3, later 0.1, by the number of further tokens.
    """

    tokens: int = Field(default=2, ge=2, le=8)
    heads: Literal["parallel", "sequential"] = "parallel"
    weight: float = Field(default=1.0, gt=0)


class FutureTokens:
    """The loss of the next token plus `weight` times that of each further one.

    All are divided by the number of next tokens, which is known beforehand: so the loss does not know how a
    batch was cut into micro-batches. Rows end before some further tokens come; those places count as zero.
    Nothing is predicted across the border of two documents in one row, or where the target is ignored.

    The metric `next_token` is the next token's loss alone, `token_2`, `token_3` ... those of further ones.

    Args:
        next_token: the loss of the next token.
        weight: of each further token's loss.
    """

    def __init__(self, next_token: CausalLM, weight: float = 1.0) -> None:
        self.next_token = next_token
        self.further = weight

    def weight(self, batch: Batch) -> float:
        """Returns the number of next tokens that are targets."""
        return self.next_token.weight(batch)

    def loss(self, model: nn.Module, batch: Batch) -> Loss:
        """Returns the summed loss of all tokens that the model predicts."""
        outputs = model(batch["inputs"], **places(batch), ahead=True)
        loss, metrics = self.next_token.from_outputs(outputs, batch)
        metrics = {"next_token": loss.detach(), **metrics}
        for distance, logits in enumerate(outputs.ahead, 1):
            further = nats(logits.float().flatten(0, 1), shifted(batch, distance).flatten())
            metrics[f"token_{distance + 1}"] = further.detach()
            loss = loss + self.further * further
        return with_balance(Loss(loss, metrics), model, batch)


def shifted(batch: Batch, distance: int) -> Tensor:
    """Returns the targets [b, t] of the head that looks so many tokens beyond the next one.

    Args:
        batch: with `targets`, and `documents` where a row holds several.
        distance: 1 for the token after the next one.

    Example:
        >>> shifted({"targets": torch.tensor([[5, 6, 7]])}, 1).tolist()
        [[6, 7, -100]]
    """
    targets = batch["targets"]
    ahead = torch.full_like(targets, IGNORED)
    ahead[:, :-distance] = targets[:, distance:]
    if "documents" in batch:
        documents = batch["documents"]
        same = documents[:, distance:] == documents[:, :-distance]
        ahead[:, :-distance] = torch.where(same, ahead[:, :-distance], IGNORED)
    return ahead
