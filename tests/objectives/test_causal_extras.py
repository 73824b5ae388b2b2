"""What pretraining may add to the next token's loss: the z-loss, and further tokens."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ingot.models import huggingface
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.models.foresight import Foresight
from ingot.objectives.causal import CausalLM
from ingot.objectives.future import FutureTokens, shifted
from ingot.objectives.objective import Batch, Objective
from ingot.optim.joint import OptimizerConfig
from ingot.parallel.apply import ParallelConfig, parallelize
from ingot.parallel.ranks import ALONE
from ingot.progress import Progress
from ingot.train.step import Gradients, loss_function
from ingot.train.trainer import TrainConfig, Trainer

SIZES = {
    "vocabulary": 37,
    "width": 16,
    "layers": 3,
    "heads": 2,
    "kv_heads": 1,
    "head_width": 8,
    "feed_forward": 24,
    "context": 16,
}


def decoder(**changes: object) -> Decoder:
    """A small model that predicts something, with weights that are nowhere zero."""
    model = DecoderConfig.parse(SIZES | changes).build(0)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator), alpha=0.3)
    return model


def batch(rows: int = 4) -> Batch:
    """Rows of which the first targets of some are not learnt."""
    tokens = torch.randint(0, 37, (rows, 13), generator=torch.Generator().manual_seed(1))
    targets = tokens[:, 1:].clone()
    for row in range(rows):
        targets[row, : 2 * row] = -100
    return {"inputs": tokens[:, :-1], "targets": targets}


def packed() -> Batch:
    tokens = torch.randint(0, 37, (2, 13), generator=torch.Generator().manual_seed(2))
    documents = torch.tensor([[0] * 5 + [1] * 7, [0] * 12])
    return {"inputs": tokens[:, :-1], "targets": tokens[:, 1:].contiguous(), "documents": documents}


def gradients(
    model: torch.nn.Module, objective: Objective, micro_batch: int | None
) -> tuple[dict[str, Tensor], float]:
    forward = loss_function(model, objective, torch.float32, False, "cpu")
    parameters = [p for p in model.parameters() if p.requires_grad]
    for parameter in parameters:
        parameter.grad = None
    found = Gradients(objective, forward, parameters, micro_batch).compute(batch())
    named = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    return named, found.loss


def test_z_loss_is_the_squared_log_of_the_normaliser_and_nothing_without_it() -> None:
    model, made = decoder(), batch()
    logits = model(made["inputs"]).logits.double()
    kept = made["targets"] != -100
    z = torch.exp(logits).sum(-1).log()
    expected = 0.01 * (z[kept] ** 2).sum()
    plain, added = CausalLM().loss(model, made), CausalLM(z_loss=0.01).loss(model, made)
    assert plain.metrics == {}
    torch.testing.assert_close(added.sum.double() - plain.sum.double(), expected, rtol=1e-4, atol=1e-4)
    assert float(added.metrics["next_token"]) == float(plain.sum.detach())
    assert float(added.metrics["z_square"]) == pytest.approx(float((z[kept] ** 2).sum()), rel=1e-5)


def test_z_loss_draws_the_normaliser_towards_one() -> None:
    sizes = []
    for weight in (0.0, 1.0):
        logits = torch.nn.Parameter(torch.full((8, 5), 4.0))
        targets = torch.arange(8) % 5
        optimizer = torch.optim.Adam([logits], lr=0.05)
        for _ in range(200):
            outputs = type("Outputs", (), {"logits": logits[None]})()
            optimizer.zero_grad()
            CausalLM(z_loss=weight).from_outputs(outputs, {"targets": targets[None]}).sum.backward()
            optimizer.step()
        sizes.append(float(torch.logsumexp(logits, -1).abs().mean()))
    assert sizes[1] < 0.5 < sizes[0]


@pytest.mark.parametrize("heads", [None, "parallel", "sequential"])
def test_micro_batches_change_nothing(heads: str | None) -> None:
    model: torch.nn.Module = decoder()
    objective: Objective = CausalLM(z_loss=0.1)
    if heads is not None:
        model, objective = Foresight(model, 3, heads), FutureTokens(CausalLM(z_loss=0.1), 0.5)  # type: ignore[arg-type]
    whole, loss = gradients(model, objective, None)
    for rows in (1, 3):
        parts, again = gradients(model, objective, rows)
        assert again == pytest.approx(loss, rel=1e-5)
        assert parts.keys() == whole.keys()
        for name, gradient in whole.items():
            torch.testing.assert_close(parts[name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def test_targets_of_further_tokens_stay_in_their_row_and_document() -> None:
    made = packed()
    for distance in (1, 2, 3):
        found = shifted(made, distance)
        for row in range(2):
            for place in range(12):
                there = place + distance
                same = there < 12 and made["documents"][row, there] == made["documents"][row, place]
                assert found[row, place] == (made["targets"][row, there] if same else -100)


def test_parallel_heads_are_last_blocks_beside_the_last_block() -> None:
    """Gloeckle et al., equation 2: one trunk, a layer for each further token, one unembedding."""
    inner = decoder()
    model = Foresight(inner, 3, "parallel")
    seen = model(batch()["inputs"], ahead=True)
    torch.testing.assert_close(seen.logits, inner(batch()["inputs"]).logits, rtol=0, atol=0)
    other = decoder()
    for number, head in enumerate(model.future):
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.add_(0.05 * (number + 1))
        other.blocks[-1].load_state_dict(head.state_dict())
        expected = other(batch()["inputs"]).logits
        ahead = model(batch()["inputs"], ahead=True).ahead[number]
        torch.testing.assert_close(ahead, expected)


def test_sequential_heads_read_the_tokens_in_between_and_nothing_later() -> None:
    """DeepSeek-V3, section 2.2: the head for token i + 2 has seen tokens up to i + 1."""
    model = Foresight(decoder(), 3, "sequential")
    with torch.no_grad():
        for name, parameter in model.future.named_parameters():
            if name.endswith("merge.weight"):
                parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
    tokens = batch(1)["inputs"]
    before = model(tokens, ahead=True).ahead
    for changed in range(tokens.shape[1]):
        other = tokens.clone()
        other[0, changed] = (other[0, changed] + 1) % 37
        after = model(other, ahead=True).ahead
        for distance, (one, two) in enumerate(zip(before, after, strict=True), 1):
            end = tokens.shape[1] - distance
            differ = (one != two).any(-1)[0, :end]
            first = changed - distance
            assert not differ[: max(0, first)].any(), (changed, distance)
            if 0 <= first < end:
                assert bool(differ[first]), (changed, distance)


@pytest.mark.parametrize("heads", ["parallel", "sequential"])
def test_documents_of_one_row_know_nothing_of_each_other(heads: str) -> None:
    model, made = Foresight(decoder(), 3, heads), packed()  # type: ignore[arg-type]
    with torch.no_grad():
        for name, parameter in model.future.named_parameters():
            if name.endswith("merge.weight"):
                parameter.normal_(0, 0.3, generator=torch.Generator().manual_seed(0))
    whole = FutureTokens(CausalLM()).loss(model, made)
    apart = torch.zeros(())
    for row, part in ((0, slice(0, 5)), (0, slice(5, 12)), (1, slice(0, 12))):
        alone = {name: value[row : row + 1, part] for name, value in made.items() if name != "documents"}
        apart = apart + FutureTokens(CausalLM()).loss(model, alone).sum
    torch.testing.assert_close(whole.sum, apart, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("heads", ["parallel", "sequential"])
def test_heads_begin_with_what_the_model_knows_and_share_its_names(heads: str) -> None:
    inner = decoder()
    names = [name for name, _ in inner.named_parameters()]
    model = Foresight(inner, 2, heads)  # type: ignore[arg-type]
    found = [name for name, _ in model.named_parameters()]
    assert found[: len(names)] == names
    assert all(name.startswith("future.0.") for name in found[len(names) :])
    assert model.parameter_count() == inner.parameter_count()
    groups = {one.name: one.role for one in OptimizerConfig().assignments(model)}
    assert groups["embedding.weight"] == "embedding" and groups["head.weight"] == "head"
    copied = copy.deepcopy(model)
    assert copied.decoder.embedding is copied.embedding and copied.embedding is not model.embedding


@pytest.mark.parametrize("recompute", ["full", "selective"])
def test_recomputed_layers_teach_the_same(recompute: str) -> None:
    objective = FutureTokens(CausalLM())
    plain, loss = gradients(Foresight(decoder(), 2), objective, None)
    model = Foresight(decoder(), 2)
    parallelize(model, ParallelConfig(), ALONE, recompute=recompute)  # type: ignore[arg-type]
    again, same = gradients(model, objective, None)
    assert same == loss
    for name, gradient in plain.items():
        torch.testing.assert_close(again[name], gradient, rtol=0, atol=0)


class Fixed:
    """A stream of the same rows over and over."""

    batch_size = 4

    def batch(self, step: int, salt: int = 0, part: object = None) -> Batch:
        return batch() | {"sample_ids": torch.arange(4)}


@pytest.mark.parametrize("heads", ["parallel", "sequential"])
def test_the_trainer_teaches_all_tokens_and_only_the_model_is_saved(tmp_path: Path, heads: str) -> None:
    model = Foresight(DecoderConfig.parse(SIZES).build(0), 3, heads)  # type: ignore[arg-type]
    trainer = Trainer(
        model,
        FutureTokens(CausalLM(z_loss=1e-4)),
        Fixed(),  # type: ignore[arg-type]
        OptimizerConfig(name="adamw", rate=0.02).build(model),
        TrainConfig(steps=60),
        tmp_path / "work",
    )
    log = trainer.fit(Progress(), "training")
    for name in ("next_token", "token_2", "token_3"):
        assert log[-1][name] < 0.5 * log[0][name], name
    parts = sum(log[0][name] for name in ("next_token", "token_2", "token_3"))
    assert log[0]["loss"] == pytest.approx(parts + 1e-4 * log[0]["z_square"], rel=1e-5)
    huggingface.save(tmp_path, model.decoder)
    loaded = huggingface.load(tmp_path)
    torch.testing.assert_close(loaded(batch()["inputs"]).logits, model(batch()["inputs"]).logits)


def test_a_killed_run_goes_on_with_its_further_heads(tmp_path: Path) -> None:
    def trainer(steps: int, work: Path) -> Trainer:
        model = Foresight(DecoderConfig.parse(SIZES).build(0), 2)
        config = TrainConfig(steps=steps, checkpoint_every=3)
        return Trainer(model, FutureTokens(CausalLM()), Fixed(), OptimizerConfig().build(model), config, work)  # type: ignore[arg-type]

    whole = trainer(6, tmp_path / "whole").fit(Progress(), "")
    first = trainer(6, tmp_path / "killed")
    first.hooks = (_Stop(),)  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        first.fit(Progress(), "")
    rest = trainer(6, tmp_path / "killed").fit(Progress(), "")
    assert [line["loss"] for line in rest] == [line["loss"] for line in whole]


class _Stop:
    """Ends the process, as Ctrl-C would, in the fifth step."""

    def start(self, run: object, step: int) -> None: ...

    def step(self, line: dict[str, object]) -> None:
        if line["step"] == 5:
            raise KeyboardInterrupt

    def checkpoint(self, *_: object) -> None: ...

    def error(self, *_: object) -> None: ...

    def close(self, *_: object) -> None: ...


def test_looking_ahead_at_one_token_is_refused() -> None:
    with pytest.raises(ValueError, match="2 tokens or more"):
        Foresight(decoder(), 1)
