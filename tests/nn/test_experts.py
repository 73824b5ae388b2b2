"""Experts: no token is lost, nothing differs from a plain loop, and all of them are kept busy."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.functional import silu
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from ingot.nn.experts import Experts, ExpertsConfig
from ingot.nn.feed_forward import GatedFeedForward
from ingot.nn.grouped_product import grouped_product
from ingot.nn.routing import auxiliary, balance_loss, z_loss

WIDTH = 12


def layer(seed: int = 0, **keys: Any) -> Experts:
    torch.manual_seed(seed)
    made = Experts(WIDTH, ExpertsConfig.parse({"count": 6, "chosen": 2, "width": 10, **keys}))
    if made.router.bias is not None:
        nn.init.normal_(made.router.bias, std=0.1)
    return made


def by_loop(made: Experts, x: Tensor) -> Tensor:
    """Token by token, expert by expert."""
    rows = x.reshape(-1, WIDTH)
    routing = made.router(rows)
    stack, results = made.experts, []
    for row, experts, weights in zip(rows, routing.experts, routing.weights, strict=True):
        result = torch.zeros(WIDTH) if made.shared is None else made.shared(row)
        for expert, weight in zip(experts.tolist(), weights, strict=True):
            inner = silu(stack.gate.weight[expert] @ row) * (stack.up.weight[expert] @ row)
            result = result + weight * (stack.down.weight[expert] @ inner)
        results.append(result)
    return torch.stack(results).view_as(x)


@settings(max_examples=25, deadline=None)
@given(
    count=st.sampled_from([1, 2, 4, 8]),
    data=st.data(),
    tokens=st.integers(1, 20),
    scoring=st.sampled_from(["softmax", "sigmoid"]),
    normalised=st.booleans(),
    shared=st.sampled_from([None, 7]),
    bias=st.sampled_from([None, 0.01]),
    seed=st.integers(0, 1000),
)
def test_equals_a_loop_with_its_gradients(
    count: int,
    data: st.DataObject,
    tokens: int,
    scoring: str,
    normalised: bool,
    shared: int | None,
    bias: float | None,
    seed: int,
) -> None:
    keys = {"scoring": scoring, "normalised": normalised, "shared": shared, "balance_bias": bias}
    chosen = data.draw(st.integers(1, count))
    made = layer(seed, count=count, chosen=chosen, scale=1.5, **keys)
    x = torch.randn(1, tokens, WIDTH, requires_grad=True)
    given_back = torch.randn(1, tokens, WIDTH)
    wanted = [x, *made.parameters()]
    ours, loop = made(x), by_loop(made, x)
    assert (ours - loop).abs().max() <= 1e-5
    pairs = zip(
        torch.autograd.grad(ours, wanted, given_back),
        torch.autograd.grad(loop, wanted, given_back, materialize_grads=True),
        strict=True,
    )
    for one, other in pairs:
        assert (one - other).abs().max() <= 1e-5 * max(1.0, float(other.abs().max()))
    with torch.no_grad():
        assert (made(x) - loop).abs().max() <= 1e-5  # the short way of inference


def test_one_expert_is_the_dense_layer_exactly() -> None:
    made = layer(count=1, chosen=1)
    dense = GatedFeedForward(WIDTH, 10, silu)
    dense.load_state_dict({f"{n}.weight": getattr(made.experts, n).weight[0] for n in ("gate", "up", "down")})
    x = torch.randn(3, 5, WIDTH)
    assert torch.equal(made(x), dense(x))


@settings(max_examples=30, deadline=None)
@given(
    groups=st.sampled_from([1, 2, 3]),
    scoring=st.sampled_from(["softmax", "sigmoid"]),
    seed=st.integers(0, 99),
)
def test_tokens_are_conserved(groups: int, scoring: str, seed: int) -> None:
    made = layer(seed, groups=groups, chosen_groups=max(1, groups - 1), scoring=scoring, scale=2.5)
    routing = made.router(torch.randn(17, WIDTH))
    assert routing.counts.sum() == 17 * 2
    assert torch.equal(routing.counts, routing.experts.flatten().bincount(minlength=6))
    assert (routing.experts[:, 0] != routing.experts[:, 1]).all()
    assert torch.allclose(routing.weights.sum(1), torch.full((17,), 2.5))
    chosen_groups = [len({int(e) * groups // 6 for e in row}) for row in routing.experts]
    assert max(chosen_groups) <= max(1, groups - 1)


def test_no_token_is_dropped_where_all_want_the_same_experts() -> None:
    made = layer()
    with torch.no_grad():
        made.router.weight.zero_()
    x = torch.randn(2, 30, WIDTH)
    assert made.router(x.view(-1, WIDTH)).counts.max() == 60
    assert (made(x) - by_loop(made, x)).abs().max() <= 1e-5


@pytest.mark.parametrize("shared", [None, 12])
def test_a_single_token_is_a_row_of_many(shared: int | None) -> None:
    torch.manual_seed(3)
    layer = Experts(8, ExpertsConfig(count=6, chosen=3, width=5, shared=shared)).eval()
    x = torch.randn(7, 8)
    with torch.no_grad():
        alone = torch.stack([layer(row[None, None])[0, 0] for row in x])
        assert (alone - layer(x)).abs().max() <= 1e-6


def test_shapes_that_cannot_be() -> None:
    for keys, what in (
        ({"chosen": 7}, "more than the 6 experts"),
        ({"groups": 4}, "multiple of groups"),
        ({"groups": 2, "chosen_groups": 3}, "more than groups"),
        ({"groups": 3, "chosen_groups": 1, "chosen": 3}, "more than the 2 experts"),
    ):
        with pytest.raises(ValidationError, match=what):
            ExpertsConfig(**{"count": 6, "chosen": 2, "width": 4, **keys})


def test_no_tokens_at_all() -> None:
    assert layer()(torch.zeros(1, 0, WIDTH)).shape == (1, 0, WIDTH)


# ---- against the published implementations


@pytest.mark.parametrize("version", [2, 3])
def test_groups_and_sigmoids_equal_deepseek(version: int) -> None:
    transformers = pytest.importorskip("transformers")
    shape = {
        "hidden_size": WIDTH, "num_attention_heads": 2, "moe_intermediate_size": 10, "n_routed_experts": 12,
        "num_experts_per_tok": 4, "n_group": 4, "topk_group": 2, "n_shared_experts": 1,
        "routed_scaling_factor": 2.5,
    }  # fmt: skip
    if version == 2:
        from transformers.models.deepseek_v2.modeling_deepseek_v2 import DeepseekV2Moe as Theirs

        config = transformers.DeepseekV2Config(**shape, topk_method="group_limited_greedy")
        keys: dict[str, Any] = {"normalised": False}
    else:
        from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE as Theirs

        config = transformers.DeepseekV3Config(**shape)
        keys = {"scoring": "sigmoid", "balance_bias": 0.001}
    made = layer(count=12, chosen=4, groups=4, chosen_groups=2, shared=10, scale=2.5, **keys)
    block = Theirs(config)
    with torch.no_grad():
        block.gate.weight.copy_(made.router.weight)
        if made.router.bias is not None:
            block.gate.e_score_correction_bias.copy_(made.router.bias)
        both = torch.cat([made.experts.gate.weight, made.experts.up.weight], 1)
        block.experts.gate_up_proj.copy_(both)
        block.experts.down_proj.copy_(made.experts.down.weight)
        for part in ("gate", "up", "down"):
            getattr(block.shared_experts, f"{part}_proj").weight.copy_(getattr(made.shared, part).weight)
    x = torch.randn(2, 40, WIDTH)
    _, weights, experts = block.gate(x)
    routing = made.router(x.view(-1, WIDTH))
    assert torch.equal(routing.experts.sort().values, experts.sort().values)
    assert torch.allclose(routing.weights.sort().values, weights.sort().values, atol=1e-6)
    assert (made(x) - block(x)).abs().max() <= 1e-5


def test_the_balance_loss_is_the_published_one() -> None:
    pytest.importorskip("transformers")
    from transformers.models.mixtral.modeling_mixtral import load_balancing_loss_func

    logits = torch.randn(50, 6)
    scores = logits.softmax(-1)
    counts = scores.topk(2).indices.flatten().bincount(minlength=6)
    theirs = load_balancing_loss_func((logits,), num_experts=6, top_k=2)
    assert float(balance_loss(scores, counts)) == pytest.approx(float(theirs) / 2, rel=1e-5)


def test_the_balance_loss_goes_from_one_to_the_number_of_experts() -> None:
    even, one = torch.full((8, 4), 0.25), torch.eye(4)[[2] * 8]
    assert float(balance_loss(even, torch.full((4,), 4))) == 1
    assert float(balance_loss(one, torch.tensor([0, 0, 8, 0]))) == 4


def test_the_z_loss_is_the_squared_normaliser() -> None:
    logits = torch.tensor([[0.0, 0.0], [1.0, 2.0]], dtype=torch.float64)
    by_hand = (logits.exp().sum(-1).log() ** 2).mean()
    assert float(z_loss(logits)) == pytest.approx(float(by_hand), rel=1e-12)


# ---- what is added to the loss


def test_terms_are_there_in_training_only_and_taken_once() -> None:
    model = nn.Sequential(layer(balance_loss=0.5), layer(1, router_z=0.1), layer(2))
    x = torch.randn(9, WIDTH)
    middle = model[0](x)
    scores = (x @ model[0].router.weight.T).softmax(-1)
    counts = scores.topk(2).indices.flatten().bincount(minlength=6)
    expected = 0.5 * balance_loss(scores, counts) + 0.1 * z_loss(middle @ model[1].router.weight.T)
    model(x)
    terms = auxiliary(model)
    assert terms is not None
    torch.testing.assert_close(terms, expected)
    assert auxiliary(model) is None
    model.eval()(x)
    assert auxiliary(model) is None
    with torch.no_grad():
        model.train()(x)
    assert auxiliary(model) is None


def test_the_gradient_of_the_balance_lifts_the_idle() -> None:
    made = layer(balance_loss=1.0, count=4, chosen=1)
    x = torch.randn(64, WIDTH) + 1
    before = made.router(x).counts.max()
    optimizer = torch.optim.SGD([made.router.weight], lr=0.5)
    for _ in range(50):
        optimizer.zero_grad()
        made.router(x)
        made.router.taken().backward()
        optimizer.step()
    assert before >= 30  # of 64: badly out of balance
    assert made.router(x).counts.max() <= 20


def test_terms_survive_recomputing_and_copying() -> None:
    made = layer(balance_loss=1.0, router_z=0.1)
    x = torch.randn(8, WIDTH, requires_grad=True)
    gradients = []
    for forward in (made, lambda x: checkpoint(made, x, use_reentrant=False)):
        made.zero_grad()
        (forward(x).sum() + auxiliary(made)).backward()
        gradients.append([p.grad.clone() for p in made.parameters()])
    for one, other in zip(*gradients, strict=True):
        assert torch.equal(one, other)
    assert made.router.auxiliary is not None  # left over from the second time
    assert copy.deepcopy(made).router.auxiliary is None


# ---- the bias


def test_a_bias_balances_a_router_that_nobody_trains() -> None:
    router = layer(balance_bias=0.02, count=8).router
    x = torch.randn(512, WIDTH) + 0.7
    before = router(x)
    assert before.counts.max() / before.counts.float().mean() > 1.8
    for _ in range(200):
        router.load.zero_()
        router(x)
        router.shift(router.load)
    after = router(x)
    assert after.counts.max() / after.counts.float().mean() <= 1.3
    assert router.weight.grad is None


def test_a_bias_changes_who_is_chosen_and_not_how_much_he_counts() -> None:
    router = layer(balance_bias=0.02, scoring="sigmoid", normalised=False).router
    x = torch.randn(20, WIDTH)
    assert router.bias is not None
    router.bias.copy_(torch.tensor([9.0, 9, 0, 0, 0, 0]))
    routing = router(x)
    assert (routing.experts.sort().values == torch.tensor([0, 1])).all()
    scores = (x @ router.weight.T).sigmoid().gather(1, routing.experts)
    assert torch.allclose(routing.weights, scores)


def test_load_and_bias_stay_in_float32_and_only_the_bias_is_kept() -> None:
    router = layer(balance_bias=0.02).router.to(torch.bfloat16)
    assert router.bias is not None
    assert (router.weight.dtype, router.load.dtype, router.bias.dtype) == (
        torch.bfloat16,
        *[torch.float32] * 2,
    )
    assert set(router.state_dict()) == {"weight", "bias"}
    assert set(layer().router.state_dict()) == {"weight"}


def test_load_is_counted_in_training_only() -> None:
    router = layer().router
    router(torch.randn(5, WIDTH))
    router.eval()(torch.randn(5, WIDTH))
    assert router.load.sum() == 10


# ---- the product


def test_the_gradient_of_the_grouped_product() -> None:
    x = torch.randn(7, 3, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, 2, 3, dtype=torch.float64, requires_grad=True)
    counts = torch.tensor([3, 0, 4, 0])
    assert torch.autograd.gradcheck(lambda x, w: grouped_product(x, w, counts), (x, weight))


def test_short_rows_and_long_matrices() -> None:
    x, weight = torch.randn(6, 32, dtype=torch.bfloat16), torch.randn(2, 16, 32, requires_grad=True)
    counts = torch.tensor([2, 4])
    y = grouped_product(x, weight, counts)
    assert y.dtype == torch.bfloat16
    y.float().sum().backward()
    assert weight.grad is not None and weight.grad.dtype == torch.float32
    exact = torch.stack([part.float().sum(0).expand(16, -1) for part in x.split([2, 4])])
    assert (weight.grad - exact).abs().max() <= 0.02 * exact.abs().max()


def test_all_of_it_is_one_graph() -> None:
    made = layer(balance_loss=0.1, shared=8)
    x = torch.randn(2, 9, WIDTH, requires_grad=True)
    # aot_eager traces forwards and backwards as the default does, and generates no code.
    traced = torch.compile(made, backend="aot_eager", fullgraph=True)
    wanted = [x, *made.parameters()]
    results = []
    for run in (made, traced):
        made.router.load.zero_()
        y = run(x)
        results.append([y, *torch.autograd.grad(y.square().sum(), wanted), made.router.load.clone()])
    for one, other in zip(*results, strict=True):
        assert torch.allclose(one, other, atol=1e-5)


def test_only_the_chosen_cost_anything() -> None:
    made = layer()
    x = torch.randn(11, WIDTH, requires_grad=True)
    with FlopCounterMode(display=False) as counted:
        y = made(x)
    router, experts = 2 * 11 * WIDTH * 6, 2 * 11 * 2 * 3 * WIDTH * 10
    assert counted.get_total_flops() == router + experts
    with FlopCounterMode(display=False) as counted:
        y.sum().backward()
    assert counted.get_total_flops() == 2 * (router + experts)
