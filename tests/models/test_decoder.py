"""The decoder against `transformers` and against its own promises."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

from ingot.errors import ArtifactError, ConfigError
from ingot.models import huggingface
from ingot.models.decoder import Decoder, DecoderConfig

TINY = {
    "vocabulary": 97,
    "width": 32,
    "layers": 2,
    "heads": 4,
    "kv_heads": 2,
    "head_width": 8,
    "feed_forward": 48,
    "context": 64,
}


def shaken(config: DecoderConfig) -> Decoder:
    """A model none of whose weights is zero or one, so that no part can hide."""
    model = config.build(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


@pytest.mark.parametrize("changes", [{}, {"tied": True}, {"kv_heads": 4}, {"kv_heads": 1, "rope_theta": 1e6}])
def test_transformers_loads_the_folder_and_agrees(tmp_path: Path, changes: dict[str, object]) -> None:
    model = shaken(DecoderConfig.parse({**TINY, **changes}))
    huggingface.save(tmp_path, model)
    theirs, report = AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, output_loading_info=True
    )
    assert type(theirs).__name__ == "Qwen3ForCausalLM"
    assert not report["missing_keys"] and not report["unexpected_keys"]
    tokens = torch.randint(0, 97, (3, 64), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        assert (theirs(tokens).logits - model(tokens).logits).abs().max() <= 1e-4


def test_their_weights_come_back_bit_for_bit(tmp_path: Path) -> None:
    model = shaken(DecoderConfig.parse(TINY))
    huggingface.save(tmp_path, model)
    again = huggingface.load(tmp_path)
    for (name, mine), (_, back) in zip(model.named_parameters(), again.named_parameters(), strict=True):
        assert torch.equal(mine, back), name
    AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).save_pretrained(tmp_path / "theirs")
    theirs = huggingface.load(tmp_path / "theirs")
    for (name, mine), (_, back) in zip(model.named_parameters(), theirs.named_parameters(), strict=True):
        assert torch.equal(mine, back), name


@settings(max_examples=15, deadline=None)
@given(changed=st.integers(1, 30))
def test_no_logit_knows_a_later_token(changed: int) -> None:
    model = shaken(DecoderConfig.parse(TINY))
    tokens = torch.arange(31).unsqueeze(0) % 97
    other = tokens.clone()
    other[0, changed] = (other[0, changed] + 1) % 97
    with torch.no_grad():
        one, two = model(tokens).logits, model(other).logits
    assert torch.equal(one[:, :changed], two[:, :changed])
    assert not torch.equal(one[:, changed], two[:, changed])


def test_shifted_positions_change_nothing() -> None:
    """Rotary attention knows distances only."""
    model = shaken(DecoderConfig.parse(TINY))
    tokens = torch.arange(20).unsqueeze(0)
    with torch.no_grad():
        near, far = model(tokens).logits, model(tokens, positions=torch.arange(30, 50)).logits
    assert (near - far).abs().max() < 1e-4


def test_bf16_keeps_the_rotation_tables_exact() -> None:
    model = DecoderConfig.parse(TINY).build()
    before = model.rotary.cosine.clone()
    model.to(torch.bfloat16)
    assert model.head.weight.dtype == torch.bfloat16
    assert torch.equal(model.rotary.cosine, before)


def test_a_fresh_model_predicts_evenly_and_is_repeatable() -> None:
    config = DecoderConfig.parse(TINY)
    tokens = torch.arange(10).unsqueeze(0)
    assert config.build(3)(tokens).logits.abs().max() == 0
    for mine, again in zip(config.build(3).parameters(), config.build(3).parameters(), strict=True):
        assert torch.equal(mine, again)


def test_a_tied_embedding_does_not_start_at_the_head_s_zero() -> None:
    model = DecoderConfig(
        vocabulary=64,
        width=32,
        layers=1,
        heads=2,
        kv_heads=2,
        head_width=16,
        feed_forward=64,
        context=8,
        tied=True,
    ).build()
    assert float(model.embedding.weight.detach().std()) == pytest.approx(32**-0.5, rel=0.1)


def test_damaged_folders_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"config\.json"):
        huggingface.load(tmp_path)
    huggingface.save(tmp_path, DecoderConfig.parse(TINY).build())
    weights = tmp_path / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ArtifactError, match="truncated"):
        huggingface.load(tmp_path)
    weights.write_bytes(whole)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"hidden_size": 64}))
    with pytest.raises(ArtifactError, match=r"config\.json says"):
        huggingface.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"architectures": ["GPT2LMHeadModel"]}))
    with pytest.raises(ArtifactError, match="GPT2LMHeadModel"):
        huggingface.load(tmp_path)


def test_impossible_shapes_name_both_numbers() -> None:
    with pytest.raises(ConfigError, match=r"heads \(4\) must be a multiple of kv_heads \(3\)"):
        DecoderConfig.parse({**TINY, "kv_heads": 3})


def test_gpt2_s_shape_is_transformers_gpt2(tmp_path: Path) -> None:
    """LayerNorm, learned positions, GELU and a tied head; their biases are set to zero."""
    config = DecoderConfig(
        vocabulary=65,
        width=32,
        layers=2,
        heads=4,
        kv_heads=4,
        head_width=8,
        feed_forward=128,
        context=16,
        norm="layer",
        norm_epsilon=1e-5,
        head_norm=None,
        positions="learned",
        activation="gelu",
        tied=True,
    )
    ours = config.build(seed=1)
    theirs = GPT2LMHeadModel(
        GPT2Config(vocab_size=65, n_positions=16, n_embd=32, n_layer=2, n_head=4, activation_function="gelu")
    ).eval()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
        for parameter in theirs.parameters():
            parameter.zero_()
        theirs.transformer.wte.weight.copy_(ours.embedding.weight)
        theirs.transformer.wpe.weight.copy_(ours.positions.weight)
        theirs.transformer.ln_f.weight.copy_(ours.norm.weight)
        for mine, block in zip(ours.blocks, theirs.transformer.h, strict=True):
            block.ln_1.weight.copy_(mine.attention_norm.weight)
            block.ln_2.weight.copy_(mine.feed_forward_norm.weight)
            parts = (mine.attention.query, mine.attention.key, mine.attention.value)
            block.attn.c_attn.weight.copy_(torch.cat([part.weight for part in parts]).T)
            block.attn.c_proj.weight.copy_(mine.attention.output.weight.T)
            block.mlp.c_fc.weight.copy_(mine.feed_forward.up.weight.T)
            block.mlp.c_proj.weight.copy_(mine.feed_forward.down.weight.T)
    tokens = torch.randint(0, 65, (2, 16), generator=generator)
    with torch.no_grad():
        assert torch.allclose(ours(tokens).logits, theirs(tokens).logits, atol=1e-4, rtol=1e-4)
    with pytest.raises(ArtifactError, match="positions learned"):
        huggingface.save(tmp_path, ours)
