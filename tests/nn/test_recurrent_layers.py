"""Recurrent layers against PyTorch's own."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from ingot.nn.alignment import Additive, Multiplicative
from ingot.nn.recurrent import CELLS, Kind, Recurrent, RecurrentStack, remember

THEIRS = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
KINDS = pytest.mark.parametrize("kind", list(CELLS))


def twins(kind: Kind, inputs: int, width: int, layers: int) -> tuple[RecurrentStack, nn.RNNBase]:
    """Ours and theirs with the same random weights."""
    torch.manual_seed(3)
    theirs = THEIRS[kind](inputs, width, layers, batch_first=True)
    ours = RecurrentStack(kind, inputs, width, layers)
    with torch.no_grad():
        for layer, block in enumerate(ours.blocks):
            assert isinstance(block, Recurrent)
            for part, letters in ((block.input, "ih"), (block.recurrent, "hh")):
                part.weight.copy_(getattr(theirs, f"weight_{letters}_l{layer}"))
                part.bias.copy_(getattr(theirs, f"bias_{letters}_l{layer}"))
    return ours, theirs


def last(theirs: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return theirs if isinstance(theirs, tuple) else (theirs,)


@KINDS
@pytest.mark.parametrize("layers", [1, 3])
def test_outputs_states_and_gradients_are_pytorchs(kind: Kind, layers: int) -> None:
    ours, theirs = twins(kind, 5, 7, layers)
    x = torch.randn(4, 11, 5)
    mine, yours = x.clone().requires_grad_(), x.clone().requires_grad_()
    (out, states), (expected, expected_states) = ours(mine), theirs(yours)
    assert (out - expected).abs().max() <= 1e-6
    for part, tensor in enumerate(last(expected_states)):
        assert (torch.stack([state[part] for state in states]) - tensor).abs().max() <= 1e-6
    for y in (out, expected):
        (y * torch.arange(7)).sum().backward()
    assert mine.grad is not None and yours.grad is not None
    assert torch.allclose(mine.grad, yours.grad, rtol=1e-4, atol=1e-5)
    grad, expected_grad = ours.blocks[0].recurrent.weight.grad, theirs.weight_hh_l0.grad
    assert torch.allclose(grad, expected_grad, rtol=1e-4, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(list(CELLS)), st.integers(1, 9), st.integers(0, 9))
def test_a_state_carried_over_a_cut_changes_nothing(kind: Kind, t: int, cut: int) -> None:
    ours, _ = twins(kind, 5, 7, 2)
    x = torch.randn(2, t, 5, generator=torch.Generator().manual_seed(t))
    whole, end = ours(x)
    cut = min(cut, t)
    parts, state = [], None
    for part in (x[:, :cut], x[:, cut:]):
        if part.shape[1]:
            y, state = ours(part, state)
            parts.append(y)
    assert state is not None
    assert (torch.cat(parts, 1) - whole).abs().max() <= 1e-6
    assert (state[1][0] - end[1][0]).abs().max() <= 1e-6


@KINDS
def test_padding_is_as_if_it_were_not_there(kind: Kind) -> None:
    torch.manual_seed(0)
    layer = Recurrent(kind, 5, 7)
    x = torch.randn(2, 6, 5)
    real = torch.tensor([[True] * 4 + [False] * 2, [True] * 6])
    for backwards in (False, True):
        padded, state = layer(x, real=real, backwards=backwards)
        short, expected = layer(x[:1, :4], backwards=backwards)
        assert (padded[:1, :4] - short).abs().max() <= 1e-6
        assert (state[0][:1] - expected[0]).abs().max() <= 1e-6


@KINDS
def test_backwards_is_forwards_from_the_other_end(kind: Kind) -> None:
    torch.manual_seed(0)
    layer, x = Recurrent(kind, 5, 7), torch.randn(2, 6, 5)
    assert (layer(x, backwards=True)[0] - layer(x.flip(1))[0].flip(1)).abs().max() <= 1e-6


def test_dropout_is_between_layers_only() -> None:
    x = torch.randn(2, 6, 5)
    torch.manual_seed(0)
    one = RecurrentStack("gru", 5, 7, 1, dropout=0.9)
    assert torch.equal(one(x)[0], one.eval()(x)[0])
    two = RecurrentStack("gru", 5, 7, 2, dropout=0.9)
    assert not torch.equal(two(x)[0], two(x)[0])
    assert torch.equal(two.eval()(x)[0], two(x)[0])


def test_only_forget_gates_remember() -> None:
    model = nn.ModuleList([Recurrent("lstm", 2, 3), Recurrent("gru", 2, 3)])
    before = [block.input.bias.clone() for block in model]
    remember(model)
    changed = model[0].input.bias.detach()
    assert (changed[3:6] == 1).all()
    assert torch.equal(torch.cat((changed[:3], changed[6:])), torch.cat((before[0][:3], before[0][6:])))
    assert torch.equal(model[1].input.bias, before[1])


def test_attention_is_its_equation() -> None:
    torch.manual_seed(0)
    query, memory = torch.randn(2, 3), torch.randn(2, 5, 4)
    real = torch.tensor([[True] * 3 + [False] * 2, [True] * 5])
    additive, multiplicative = Additive(3, 4, 6), Multiplicative(3, 4)
    for row in range(2):
        kept = memory[row, : int(real[row].sum())]
        scores = [
            additive.score.weight[0]
            @ (additive.query.weight @ query[row] + additive.key.weight @ one + additive.key.bias).tanh()
            for one in kept
        ]
        products = [query[row] @ multiplicative.key.weight @ one for one in kept]
        for attention, expected in ((additive, scores), (multiplicative, products)):
            mean, weights = attention(query, attention.keys(memory), memory, real)
            right = torch.stack(expected).softmax(0)
            assert torch.allclose(weights[row, : len(kept)], right, atol=1e-6)
            assert (weights[row, len(kept) :] == 0).all()
            assert torch.allclose(mean[row], right @ kept, atol=1e-6)
