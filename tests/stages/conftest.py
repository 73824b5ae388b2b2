"""A machine whose speed is known: tests of plans that no busy neighbour can change."""

from __future__ import annotations

import pytest

from ingot.stages import pretrain
from ingot.stages.measuring import Speed
from ingot.train.planner import Proposal, shape


@pytest.fixture
def known_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has pretraining find that one layer suits, and that 3 seconds suffice for about 60 steps."""

    def offer(config: pretrain.PretrainConfig, tokens: int, vocabulary: int, *where: object) -> object:
        return Proposal(shape(1, vocabulary, config.context), tokens, 1.0, 2.0), 1e9

    monkeypatch.setattr(pretrain, "offer", offer)
    monkeypatch.setattr(pretrain.Trial, "seconds_per_step", lambda self, compiled: Speed(compiled, 0.05))
