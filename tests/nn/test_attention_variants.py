"""Windows, caps, slopes and sinks against sums written out, and against `transformers`' own functions."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.models.gemma2.modeling_gemma2 import eager_attention_forward as gemma2
from transformers.models.gpt_oss.modeling_gpt_oss import eager_attention_forward as gpt_oss

from ingot.nn import scoring
from ingot.nn.attention import Attention, WithinDocuments, causal, document_starts
from ingot.nn.capped import CappedLinear
from ingot.nn.norms import AllHeadsRMSNorm, RMSNormFromOne
from ingot.nn.positions import Alibi
from ingot.nn.scoring import Scored

E = 8


def some(h: int, k: int, t: int, seed: int = 0, width: int = E) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    sizes = ((h, E), (k, E), (k, width))
    query, key, value = (torch.randn(2, n, t, e, generator=generator) * 2 for n, e in sizes)
    return query, key, value


def by_hand(
    query: Tensor, key: Tensor, value: Tensor, scored: Scored, documents: Tensor | None = None
) -> Tensor:
    """One query at a time, one key at a time, in float64."""
    b, h, t, e = query.shape
    shared = h // key.shape[1]
    mixed = torch.zeros(b, h, t, value.shape[3], dtype=torch.float64)
    for row in range(b):
        for head in range(h):
            for i in range(t):
                first = 0 if scored.window is None else max(0, i - scored.window + 1)
                seen = [
                    j
                    for j in range(first, i + 1)
                    if documents is None or bool((documents[row, j : i + 1] == documents[row, i]).all())
                ]
                scores = []
                for j in seen:
                    score = float(query[row, head, i].double() @ key[row, head // shared, j].double())
                    score /= math.sqrt(e)
                    if scored.cap is not None:
                        score = scored.cap * math.tanh(score / scored.cap)
                    if scored.slopes is not None:
                        score -= float(scored.slopes[head]) * (i - j)
                    scores.append(math.exp(score))
                total = sum(scores) + (0 if scored.sinks is None else math.exp(float(scored.sinks[head])))
                for j, score in zip(seen, scores, strict=True):
                    mixed[row, head, i] += score / total * value[row, head // shared, j].double()
    return mixed


@settings(max_examples=40, deadline=None)
@given(
    heads=st.sampled_from([(4, 4), (4, 2), (4, 1), (3, 1)]),
    t=st.integers(1, 11),
    window=st.one_of(st.none(), st.integers(1, 12)),
    cap=st.sampled_from([None, 2.0]),
    slopes=st.booleans(),
    sinks=st.booleans(),
    documents=st.one_of(st.none(), st.lists(st.integers(0, 1), min_size=11, max_size=11)),
    width=st.sampled_from([E, 5]),
    seed=st.integers(0, 99),
)
def test_all_together_by_hand(
    heads: tuple[int, int],
    t: int,
    window: int | None,
    cap: float | None,
    slopes: bool,
    sinks: bool,
    documents: list[int] | None,
    width: int,
    seed: int,
) -> None:
    query, key, value = some(*heads, t, seed, width)
    scored = Scored(
        window=window,
        cap=cap,
        slopes=Alibi(heads[0]).slopes if slopes else None,
        sinks=torch.linspace(-1, 3, heads[0]) if sinks else None,
    )
    rows = None if documents is None else torch.tensor([documents[:t], documents[:t][::-1]])
    attend = causal if rows is None else WithinDocuments(document_starts(rows))
    wanted = by_hand(query, key, value, scored, rows)
    assert (attend(0, query, key, value, scored) - wanted).abs().max() < 1e-5


@pytest.mark.parametrize(
    "scored",
    [
        Scored(window=5),
        Scored(cap=3.0),
        Scored(slopes=Alibi(4).slopes),
        Scored(sinks=torch.tensor([1.0, -1.0, 0.5, 2.0])),
        Scored(4, 3.0, Alibi(4).slopes, torch.zeros(4)),
    ],
)
def test_gradients_are_those_of_what_is_written_out(scored: Scored) -> None:
    given_ = [x.double().requires_grad_() for x in some(4, 2, 9)]
    distance = torch.arange(9)[:, None] - torch.arange(9)
    visible = (distance >= 0) & (distance < (scored.window or 9))
    ours = causal(0, *given_, scored)
    plain = scoring._written_out(*given_, distance, visible, scored)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for mine, other in zip(
        torch.autograd.grad((ours * weights).sum(), given_),
        torch.autograd.grad((plain * weights).sum(), given_),
        strict=True,
    ):
        assert (mine - other).abs().max() < 1e-5


def _their_mask(t: int, window: int | None) -> Tensor:
    place = torch.arange(t)
    seen = (place <= place[:, None]) & (place > place[:, None] - (window or t))
    return torch.zeros(1, 1, t, t).masked_fill(~seen, torch.finfo(torch.float32).min)


def test_a_cap_is_gemma2_s() -> None:
    query, key, value = some(4, 2, 13)
    module: Any = SimpleNamespace(num_key_value_groups=2, training=False)
    theirs, _ = gemma2(module, query, key, value, _their_mask(13, 4), scaling=E**-0.5, softcap=2.5)
    assert (
        causal(0, query, key, value, Scored(window=4, cap=2.5)) - theirs.transpose(1, 2)
    ).abs().max() < 1e-5


@pytest.mark.parametrize("window", [None, 4])
def test_sinks_are_gpt_oss_s(window: int | None) -> None:
    query, key, value = some(4, 2, 13)
    sinks = torch.tensor([0.5, -2.0, 3.0, 0.0])
    module: Any = SimpleNamespace(num_key_value_groups=2, training=False, sinks=sinks)
    theirs, _ = gpt_oss(module, query, key, value, _their_mask(13, window), scaling=E**-0.5)
    ours = causal(0, query, key, value, Scored(window=window, sinks=sinks))
    assert (ours - theirs.transpose(1, 2)).abs().max() < 1e-5


@settings(deadline=None)
@given(t=st.integers(1, 12), window=st.integers(1, 20))
def test_a_wide_window_is_none(t: int, window: int) -> None:
    left = Scored(window=window).within(t)
    assert left == (None if window >= t else Scored(window=window))
    if window >= t:
        query, key, value = some(4, 2, t)
        assert torch.equal(causal(0, query, key, value, Scored(window=window)), causal(0, query, key, value))


@pytest.mark.parametrize("cap", [None, 3.0])
def test_a_long_text_in_blocks_is_the_whole(cap: float | None) -> None:
    """300 tokens are three blocks; gradients flow through all of them."""
    scored = Scored(7, cap, Alibi(4).slopes, torch.linspace(-1, 1, 4))
    rows = torch.tensor([[0] * 100 + [1] * 200, [0] * 131 + [1] * 3 + [2] * 166])
    place = torch.arange(300)
    for starts in (None, document_starts(rows)):
        given_ = [x.requires_grad_() for x in some(4, 2, 300)]
        seen = None if starts is None else place >= starts[:, None, :, None]
        whole = scoring.attend(*given_, place[:, None] - place, seen, scored)
        ours = scoring.causal(*given_, scored, starts)
        assert (ours - whole).abs().max() < 1e-5
        pairs = zip(*(torch.autograd.grad((x**2).sum(), given_) for x in (ours, whole)), strict=True)
        assert all((mine - other).abs().max() < 1e-4 for mine, other in pairs)


def test_a_sink_that_nobody_looks_at_changes_nothing() -> None:
    query, key, value = some(4, 2, 9)
    silent = causal(0, query, key, value, Scored(sinks=torch.full((4,), -1e4)))
    assert torch.allclose(silent, causal(0, query, key, value), atol=1e-6)


def test_far_distances_keep_their_order_in_bfloat16() -> None:
    """Distances are counted in float32: in bf16 neighbours far away would be as far as one another."""
    query, key = torch.zeros(1, 2, 600, E), torch.zeros(1, 2, 600, E)
    value = torch.zeros(1, 2, 600, E)
    value[:, :, 299, 0] = 1
    scored = Scored(slopes=torch.tensor([1 / 256, 1.0]))
    exact = causal(0, query, key, value, scored)[0, 0, -1, 0]
    short = causal(0, *(x.bfloat16() for x in (query, key, value)), scored)[0, 0, -1, 0]
    assert float(short) == pytest.approx(float(exact), rel=1e-2)


def _layer(**parts: Any) -> Attention:
    plain: dict[str, Any] = {"query_norm": None, "key_norm": None}
    return Attention(width=16, heads=4, kv_heads=2, head_width=E, **plain | parts)


def test_biases_stand_where_they_are_asked_for() -> None:
    layer = _layer(biases=("query", "output"))
    assert {name for name, _ in layer.named_parameters() if name.endswith("bias")} == {
        "query.bias",
        "output.bias",
    }


def test_another_scale_is_the_query_s() -> None:
    x = torch.randn(2, 7, 16)
    scaled, plain = _layer(score_scale=0.1), _layer()
    plain.load_state_dict(scaled.state_dict())
    with torch.no_grad():
        plain.query.weight *= 0.1 * math.sqrt(E)
        assert torch.allclose(scaled(x, None, 0, causal), plain(x, None, 0, causal), atol=1e-6)


def test_norms_from_one_and_over_all_heads() -> None:
    x = torch.randn(2, 5, 4, E)
    one, plain = RMSNormFromOne(E), nn.RMSNorm(E, 1e-6)
    with torch.no_grad():
        one.weight.uniform_(-0.5, 0.5)
        plain.weight.copy_(1 + one.weight)
    assert torch.allclose(one(x), plain(x), atol=1e-5)
    assert one(x.bfloat16()).dtype == torch.bfloat16
    whole, plain = AllHeadsRMSNorm(4 * E), nn.RMSNorm(4 * E, 1e-6)
    with torch.no_grad():
        whole.weight.uniform_(0.5, 1.5)
        plain.weight.copy_(whole.weight)
    assert torch.allclose(whole(x), plain(x.flatten(2)).view_as(x), atol=1e-5)


def test_a_capped_head() -> None:
    head, x = CappedLinear(4, 6, cap=2.0), torch.randn(3, 4) * 9
    assert float(head(x).detach().abs().max()) <= 2  # tanh rounds to 1 far out
    assert torch.allclose(head(x), 2 * torch.tanh((x @ head.weight.T) / 2))
