"""Documents that share a row see nothing of one another: rows against the documents run by themselves."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from ingot.models.decoder import Decoder, DecoderConfig
from ingot.nn import blocked_attention, document_attention
from ingot.nn.attention import WithinDocuments, causal, document_starts
from ingot.nn.kernels import attention as tiles
from ingot.objectives.causal import CausalLM
from ingot.parallel.recompute import recompute

ROWS = [[5, 1, 9, 2], [17], [1] * 17, [16, 1], [3, 14]]  # lengths of documents, 17 tokens in all


@pytest.fixture
def attend(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tensor]:
    """Attention in blocks, also without documents: the kernel for tiles knows none."""
    monkeypatch.setattr(tiles, "suits", lambda query: False)
    return blocked_attention.attend


def numbered(rows: list[list[int]]) -> Tensor:
    """Document numbers of rows that hold documents of these lengths, [b, t]."""
    return torch.tensor([[n for n, length in enumerate(row) for _ in range(length)] for row in rows])


@settings(deadline=None)
@given(st.lists(st.integers(1, 6), min_size=1, max_size=8), st.integers(-3, 3))
def test_starts_are_where_documents_begin(lengths: list[int], first: int) -> None:
    wanted = [sum(lengths[:n]) for n, length in enumerate(lengths) for _ in range(length)]
    starts = document_starts(numbered([lengths]) * 5 + first)
    assert starts.tolist() == [wanted] and starts.dtype == torch.int32


def model(**changes: object) -> Decoder:
    sizes = {
        "vocabulary": 50,
        "width": 32,
        "layers": 2,
        "heads": 4,
        "kv_heads": 2,
        "head_width": 8,
        "feed_forward": 48,
        "context": 17,
    }
    made = DecoderConfig(**(sizes | changes)).build(seed=3)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():  # also those that a fresh model has as zeros
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return made


@pytest.mark.parametrize(
    "changes", [{}, {"positions": "learned", "norm": "layer"}], ids=["rotary", "learned"]
)
@pytest.mark.parametrize("way", ["plain", "recompute", "compiled"])
def test_a_packed_row_is_its_documents_run_separately(changes: dict[str, object], way: str) -> None:
    """Logits and gradients, in fp32, to 1e-5."""
    packed, alone = model(**changes), model(**changes)
    tokens = torch.randint(0, 50, (len(ROWS), 17), generator=torch.Generator().manual_seed(1))
    run: nn.Module | Callable[..., object] = packed
    if way == "recompute":
        recompute(packed, "selective", [(f"blocks.{i}", block) for i, block in enumerate(packed.blocks)])
    elif way == "compiled":
        run = torch.compile(packed, backend="aot_eager", fullgraph=True)
    logits = run(tokens, documents=numbered(ROWS)).logits  # type: ignore[attr-defined, operator]
    weights = torch.randn(logits.shape, generator=torch.Generator().manual_seed(2))
    (logits * weights).sum().backward()
    for row, lengths in enumerate(ROWS):
        at = 0
        for length in lengths:
            document = slice(at, at + length)
            mine = alone(tokens[row : row + 1, document]).logits[0]
            assert (mine - logits[row, document]).abs().max() <= 1e-5
            (mine * weights[row, document]).sum().backward()
            at += length
    for (name, ours), theirs in zip(packed.named_parameters(), alone.parameters(), strict=True):
        assert ours.grad is not None and theirs.grad is not None
        assert (ours.grad - theirs.grad).abs().max() <= 1e-5 * max(1.0, float(theirs.grad.abs().max())), name


def test_no_gradient_flows_from_one_document_to_another() -> None:
    packed = model()
    tokens = torch.randint(0, 50, (1, 17))
    hidden = packed.embedding(tokens).detach().requires_grad_()
    packed.embedding = Given(hidden)  # type: ignore[assignment]
    packed(tokens, documents=numbered([[6, 11]])).logits[0, 6:].sum().backward()
    assert hidden.grad is not None
    assert (hidden.grad[0, :6] == 0).all() and (hidden.grad[0, 6:].abs().sum(-1) > 0).all()


class Given(nn.Module):
    """An embedding that is already looked up."""

    def __init__(self, hidden: Tensor) -> None:
        super().__init__()
        self.hidden = hidden

    def forward(self, tokens: Tensor) -> Tensor:
        return self.hidden


def test_without_documents_no_bit_changes() -> None:
    packed = model()
    tokens = torch.randint(0, 50, (2, 17))
    plain = packed(tokens).logits
    assert torch.equal(plain, packed(tokens, None, causal).logits)
    one = packed(tokens, documents=torch.zeros_like(tokens)).logits
    assert (plain - one).abs().max() <= 1e-5


def test_the_objective_hands_documents_to_the_model() -> None:
    """Packed batches carry positions and documents; the loss must be that of the documents by themselves."""
    packed, objective = model(), CausalLM()
    tokens = torch.randint(0, 50, (len(ROWS), 17))
    targets = torch.randint(0, 50, (len(ROWS), 17))
    documents = numbered(ROWS)
    positions = torch.arange(17) - document_starts(documents)
    batch = {"inputs": tokens, "targets": targets, "documents": documents, "positions": positions}
    total = float(objective.loss(packed, batch).sum.detach())
    alone = 0.0
    for row, lengths in enumerate(ROWS):
        for at, length in zip([sum(lengths[:n]) for n in range(len(lengths))], lengths, strict=True):
            part = {name: batch[name][row : row + 1, at : at + length] for name in ("inputs", "targets")}
            alone += float(objective.loss(packed, part).sum.detach())
    assert total == pytest.approx(alone, rel=1e-5)


def inputs(b: int, h: int, k: int, t: int, e: int) -> list[Tensor]:
    """Query, key, value and the gradient of the output, laid out as projections make them."""
    generator = torch.Generator().manual_seed(h * t + e)
    made = [torch.randn(b, t, n, e, generator=generator).bfloat16().transpose(1, 2) for n in (h, k, k, h)]
    return [(made[0] * 2).detach().requires_grad_(), *(x.requires_grad_() for x in made[1:3]), made[3]]


def written_out(query: Tensor, key: Tensor, value: Tensor, starts: Tensor) -> Tensor:
    t, shared = query.shape[2], query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(shared, 1), value.repeat_interleave(shared, 1)
    scores = query @ key.mT / query.shape[-1] ** 0.5
    places = torch.arange(t)
    hidden = (places > places[:, None]) | (places < starts[..., None])
    return scores.masked_fill(hidden[:, None], float("-inf")).softmax(-1) @ value


def far(ours: Tensor, theirs: Tensor) -> float:
    """The distance, as a share of what it should be."""
    return ((ours.double() - theirs).norm() / theirs.norm().clamp(min=1e-9)).item()


def drawn_starts(b: int, t: int, mean: int) -> Tensor:
    """Starts of documents of random lengths, and in the last row of one document."""
    generator = torch.Generator().manual_seed(mean)
    begins = torch.rand(b, t, generator=generator) < 1 / mean
    begins[:, 0], begins[-1, 1:] = True, False
    return document_starts(begins.cumsum(1))


@pytest.mark.parametrize("t", [1, 33, 128, 300, 520])
@pytest.mark.parametrize(("h", "k", "e"), [(2, 2, 32), (4, 2, 64)])
@pytest.mark.parametrize("mean", [3, 40, 170])
def test_masked_attention_in_bf16_is_the_one_written_out(
    attend: Callable[..., Tensor], h: int, k: int, t: int, e: int, mean: int
) -> None:
    *qkv, given = inputs(3, h, k, t, e)
    starts = drawn_starts(3, t, mean)
    exact = [x.detach().double().requires_grad_() for x in qkv]
    output, wanted = attend(*qkv, starts), written_out(*exact, starts)
    assert output.dtype == torch.bfloat16 and output.isfinite().all()
    assert far(output, wanted) < 0.006
    ours = torch.autograd.grad(output, qkv, given)
    theirs = torch.autograd.grad(wanted, exact, given.double())
    for got, expected, name in zip(ours, theirs, ("query", "key", "value"), strict=True):
        assert got.isfinite().all()
        if expected.norm() > 1e-6:  # of one token, query and key have no gradient
            assert far(got, expected) < 0.012, name
        else:
            assert got.abs().max() < 0.02, name


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_large_scores_of_other_documents_do_no_harm(data: st.DataObject) -> None:
    """Also where they would overflow: a key that a query does not see could score anything."""
    lengths = data.draw(st.lists(st.integers(1, 90), min_size=2, max_size=6))
    t, others = sum(lengths), slice(lengths[0], None)
    query, key, value, given = inputs(1, 1, 1, t, 32)
    with torch.no_grad():
        key[:, :, : lengths[0]] *= 200.0
    starts = document_starts(numbered([lengths]))
    exact = [x.detach().double().requires_grad_() for x in (query, key, value)]
    output, wanted = blocked_attention.attend(query, key, value, starts), written_out(*exact, starts)
    assert far(output[:, :, others], wanted[:, :, others]) < 0.006
    ours = torch.autograd.grad(output, (query, key, value), given)
    theirs = torch.autograd.grad(wanted, exact, given.double())
    assert all(x.isfinite().all() for x in ours)
    assert far(ours[2][:, :, others], theirs[2][:, :, others]) < 0.012


def test_a_start_of_zero_everywhere_is_plain_attention(attend: Callable[..., Tensor]) -> None:
    *qkv, given = inputs(2, 4, 2, 199, 64)
    plain, masked = attend(*qkv), attend(*qkv, torch.zeros(2, 199, dtype=torch.int32))
    assert torch.equal(plain, masked)
    for x, y in zip(
        torch.autograd.grad(plain, qkv, given), torch.autograd.grad(masked, qkv, given), strict=True
    ):
        assert torch.equal(x, y)


def test_pytorch_s_own_check_of_the_operations() -> None:
    *qkv, _ = inputs(2, 4, 2, 40, 32)
    starts = drawn_starts(2, 40, 7)
    torch.library.opcheck(blocked_attention._attend, (*qkv, starts))
    same = [qkv[0], qkv[0].detach().requires_grad_(), qkv[0].detach().requires_grad_()]
    torch.library.opcheck(document_attention._attend, (*same, starts))


@pytest.mark.parametrize(("h", "k"), [(2, 2), (4, 2)])
@pytest.mark.parametrize("mean", [1, 9, 200])
def test_document_after_document_is_the_attention_written_out(h: int, k: int, mean: int) -> None:
    """In fp32, also where every token is a document."""
    *qkv, given = (x.detach().float().requires_grad_() for x in inputs(3, h, k, 130, 32))
    starts = drawn_starts(3, 130, mean)
    exact = [x.detach().double().requires_grad_() for x in qkv]
    output, wanted = document_attention.attend(*qkv, starts), written_out(*exact, starts)
    assert (output - wanted).abs().max() < 1e-5
    ours = torch.autograd.grad(output, qkv, given)
    for x, y in zip(ours, torch.autograd.grad(wanted, exact, given.double()), strict=True):
        assert (x - y).abs().max() < 2e-5


@pytest.mark.parametrize("t", [40, 600])
def test_all_ways_of_the_model_give_the_same(t: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In pieces or on tiles (short rows in bf16), document after document, and with a mask (elsewhere)."""
    *qkv, _ = inputs(2, 4, 2, t, 32)
    within = WithinDocuments(drawn_starts(2, t, 30))
    ways = [blocked_attention.attend(*qkv, within.starts), within(0, *qkv)]
    monkeypatch.setattr(blocked_attention, "suits", lambda query: False)
    ways.append(within(0, *qkv))
    ways.append(scaled_dot_product_attention(*qkv, attn_mask=within.mask(t), enable_gqa=True))
    for one in ways[1:]:
        assert far(one, ways[0].double()) < 0.006
