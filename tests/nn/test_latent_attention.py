"""Latent attention: the published one, causal, and blind to other documents."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from ingot.nn.attention import WithinDocuments, causal, document_starts
from ingot.nn.latent_attention import LatentAttention, LatentConfig
from ingot.nn.positions import Rotary, rotate

WIDTH, HEADS, TOKENS = 24, 3, 10
SIZES = LatentConfig(query_rank=9, key_value_rank=10, rotary_width=8, plain_width=6, value_width=5)


def made(**keys: Any) -> LatentAttention:
    torch.manual_seed(0)
    sizes = SIZES.model_copy(update=keys.pop("sizes", {}))
    layer = LatentAttention(width=WIDTH, heads=HEADS, latent=sizes, **keys)
    for name, parameter in layer.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    return layer


def by_hand(layer: LatentAttention, x: Tensor) -> Tensor:
    """Equations 37 to 47 of the paper, head by head, without any helper of attention."""
    sizes = layer.sizes

    def norm(v: Tensor, weight: Tensor) -> Tensor:
        return v / (v.square().mean(-1, keepdim=True) + 1e-6).sqrt() * weight

    angles = Rotary(sizes.rotary_width, 10_000.0, TOKENS).angles(None, TOKENS)
    narrow = x
    if sizes.query_rank is not None:
        narrow = norm(x @ layer.query_down.weight.T, layer.query_norm.weight)
    down = x @ layer.key_value_down.weight.T
    latent = norm(down[..., : sizes.key_value_rank], layer.key_value_norm.weight)
    turned = rotate(down[..., sizes.key_value_rank :].unsqueeze(2), angles).squeeze(2)
    mixed = []
    for head in range(HEADS):
        rows = layer.query_up.weight.view(HEADS, -1, narrow.shape[-1])[head]
        query = narrow @ rows.T
        still, moved = query[..., : sizes.plain_width], query[..., sizes.plain_width :]
        moved = rotate(moved.unsqueeze(2), angles).squeeze(2)
        both = latent @ layer.key_value_up.weight.view(HEADS, -1, sizes.key_value_rank)[head].T
        key, value = both[..., : sizes.plain_width], both[..., sizes.plain_width :]
        scores = (still @ key.mT + moved @ turned.mT) / sizes.head_width**0.5
        scores = scores.masked_fill(torch.ones(TOKENS, TOKENS).triu(1).bool(), float("-inf"))
        mixed.append(scores.softmax(-1) @ value)
    return torch.cat(mixed, -1) @ layer.output.weight.T


@pytest.mark.parametrize("rank", [9, None])
def test_equals_the_equations_of_the_paper(rank: int | None) -> None:
    layer = made(sizes={"query_rank": rank})
    x = torch.randn(2, TOKENS, WIDTH)
    angles = Rotary(8, 10_000.0, TOKENS).angles(None, TOKENS)
    assert (layer(x, angles, 0, causal) - by_hand(layer, x)).abs().max() <= 1e-5


@pytest.mark.parametrize("version", [2, 3])
def test_equals_deepseek(version: int) -> None:
    transformers = pytest.importorskip("transformers")
    keys = {
        "hidden_size": WIDTH, "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "q_lora_rank": 9,
        "kv_lora_rank": 10, "qk_rope_head_dim": 8, "qk_nope_head_dim": 6, "v_head_dim": 5,
        "max_position_embeddings": 64,
    }  # fmt: skip
    if version == 2:
        from transformers.models.deepseek_v2 import modeling_deepseek_v2 as source

        config = transformers.DeepseekV2Config(**keys)
        block, turn = source.DeepseekV2Attention(config, 0), source.DeepseekV2RotaryEmbedding(config)
    else:
        from transformers.models.deepseek_v3 import modeling_deepseek_v3 as source

        config = transformers.DeepseekV3Config(**keys)
        block, turn = source.DeepseekV3Attention(config, 0), source.DeepseekV3RotaryEmbedding(config)
    config._attn_implementation = "eager"
    layer = made()
    pairs = [0, 2, 4, 6, 1, 3, 5, 7]  # theirs turns neighbours, ours halves
    with torch.no_grad():
        block.q_a_proj.weight.copy_(layer.query_down.weight)
        block.q_a_layernorm.weight.copy_(layer.query_norm.weight)
        block.kv_a_layernorm.weight.copy_(layer.key_value_norm.weight)
        block.kv_b_proj.weight.copy_(layer.key_value_up.weight)
        block.o_proj.weight.copy_(layer.output.weight)
        block.q_b_proj.weight.copy_(layer.query_up.weight)
        block.kv_a_proj_with_mqa.weight.copy_(layer.key_value_down.weight)
        heads = block.q_b_proj.weight.view(HEADS, 14, 9)
        heads[:, [6 + place for place in pairs]] = layer.query_up.weight.view(HEADS, 14, 9)[:, 6:]
        block.kv_a_proj_with_mqa.weight[[10 + place for place in pairs]] = layer.key_value_down.weight[10:]
    x = torch.randn(2, TOKENS, WIDTH)
    mask = torch.full((TOKENS, TOKENS), float("-inf")).triu(1)[None, None]
    angles = Rotary(8, 10_000.0, TOKENS).angles(None, TOKENS)
    theirs = block(
        x, position_embeddings=turn(x, torch.arange(TOKENS)[None]), attention_mask=mask, past_key_values=None
    )[0]
    assert (layer(x, angles, 0, causal) - theirs).abs().max() <= 1e-5


def test_the_gradient_to_later_tokens_is_exactly_zero() -> None:
    layer = made()
    x = torch.randn(1, TOKENS, WIDTH, requires_grad=True)
    angles = Rotary(8, 10_000.0, TOKENS).angles(None, TOKENS)
    layer(x, angles, 0, causal)[0, 4].sum().backward()
    assert x.grad is not None
    assert (x.grad[0, 5:] == 0).all() and (x.grad[0, :5] != 0).any(-1).all()


def test_documents_do_not_see_one_another() -> None:
    layer = made()
    x = torch.randn(1, TOKENS, WIDTH)
    table = Rotary(8, 10_000.0, TOKENS)
    documents = torch.tensor([[0] * 4 + [1] * 6])
    starts = document_starts(documents)
    places = torch.arange(TOKENS) - starts
    together = layer(x, table.angles(places, TOKENS), 0, WithinDocuments(starts))
    alone = [layer(part, table.angles(None, part.shape[1]), 0, causal) for part in x.split([4, 6], 1)]
    assert (together - torch.cat(alone, 1)).abs().max() <= 1e-6


def test_scores_depend_on_distance_only() -> None:
    layer = made()
    x = torch.randn(1, TOKENS, WIDTH)
    table = Rotary(8, 10_000.0, 64)
    near = layer(x, table.angles(None, TOKENS), 0, causal)
    far = layer(x, table.angles(torch.arange(50, 60), TOKENS), 0, causal)
    assert (near - far).abs().max() <= 1e-5


def test_a_scale_of_scores_is_in_the_queries() -> None:
    x = torch.randn(1, TOKENS, WIDTH)
    usual, same, flat = made(), made(score_scale=14**-0.5), made(score_scale=1e-9)
    assert torch.allclose(usual(x, None, 0, causal), same(x, None, 0, causal), atol=1e-6)
    seen: dict[str, Tensor] = {}

    def watched(layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        seen["value"] = value
        return causal(layer, query, key, value)

    mean = flat(x, None, 0, watched)[0, -1]
    expected = flat.output(seen["value"].mean(2).flatten(1))[0]
    assert (mean - expected).abs().max() <= 1e-6


def test_sizes_that_cannot_be() -> None:
    with pytest.raises(ValidationError, match="rotary_width"):
        LatentConfig(key_value_rank=8, rotary_width=7, plain_width=8, value_width=8)
