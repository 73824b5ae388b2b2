"""Marian, the original Transformer with a published folder, against `transformers`: random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ingot.errors import ArtifactError
from ingot.models import encoder_decoder_folder as folder
from ingot.models.encoder_decoder_writing import write
from ingot.models.families import marian

transformers = pytest.importorskip("transformers")

SIZES: dict[str, Any] = {
    "vocab_size": 53,
    "d_model": 24,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 3,
    "decoder_attention_heads": 3,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 64,
    "pad_token_id": 52,
    "decoder_start_token_id": 52,
    "eos_token_id": 0,
    "forced_eos_token_id": None,
}


def theirs(**changes: Any) -> nn.Module:
    """A model of theirs with weights that are far from where training starts."""
    model = transformers.MarianMTModel(transformers.MarianConfig(**SIZES, **changes))
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "embed_positions" in name:
            continue
        if parameter.dim() == 2:
            nn.init.normal_(parameter, std=0.3)
        else:
            nn.init.normal_(parameter, mean=float(name.endswith("norm.weight")), std=0.2)
    model.final_logits_bias.normal_()
    return model.eval()


def texts() -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(2)
    source, tokens = torch.randint(1, 52, (3, 17)), torch.randint(1, 52, (3, 11))
    source[1, 9:], source[2, 1:] = 52, 52
    return source, source != 52, tokens


@pytest.mark.parametrize(
    "changes",
    [
        {"activation_function": "relu", "scale_embedding": True},
        {"activation_function": "swish"},
        {"activation_function": "gelu"},
    ],
)
@torch.no_grad()
def test_logits_and_texts_are_theirs_and_weights_walk_both_ways(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    model = theirs(**changes)
    model.save_pretrained(tmp_path / "theirs")
    source, mask, tokens = texts()
    expected = model(source, attention_mask=mask.long(), decoder_input_ids=tokens).logits
    loaded = folder.load(tmp_path / "theirs")
    assert float(expected.std()) > 0.5
    assert (loaded(source, tokens).logits - expected).abs().max() <= 1e-4
    asking = {"attention_mask": mask.long(), "do_sample": False, "num_beams": 1, "max_new_tokens": 40}
    assert torch.equal(write(loaded, source, 40), model.generate(source, **asking)[:, 1:])

    back = tmp_path / "ours"
    back.mkdir()
    folder.save(back, loaded)
    again, told = type(model).from_pretrained(back, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    ones, others = model.state_dict(), again.state_dict()
    assert ones.keys() == others.keys()
    assert all(torch.equal(ones[name], others[name]) for name in ones)
    assert torch.equal(again.eval().generate(source, **asking), model.generate(source, **asking))
    assert folder.read_config(back)[0] == loaded.config


def test_a_transformer_of_ours_with_its_parts_is_loaded_there(tmp_path: Path) -> None:
    sizes = {"vocabulary": 30, "width": 16, "encoder_layers": 1, "decoder_layers": 2, "heads": 2}
    config = marian.EncoderDecoderConfig.parse(
        {**marian.PARTS, **sizes, "head_width": 8, "feed_forward": 32, "embedding_scale": 4.0}
    )
    model = config.build(1).eval()
    nn.init.normal_(model.embedding.weight)
    folder.save(tmp_path, model)
    assert folder.load(tmp_path).config == config
    source, tokens = torch.randint(2, 30, (2, 7)), torch.randint(2, 30, (2, 5))
    hf = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path).eval()
    with torch.no_grad():
        theirs_say = hf(source, decoder_input_ids=tokens).logits
        assert (model(source, tokens).logits - theirs_say).abs().max() <= 1e-4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"share_encoder_decoder_embeddings": False},
            "share_encoder_decoder_embeddings False is not supported",
        ),
        ({"decoder_ffn_dim": 41}, "decoder_ffn_dim 41 is not supported"),
        ({"activation_function": "tanh"}, "activation_function 'tanh' is not supported"),
        ({"d_model": "wide"}, "cannot be used"),
    ],
)
def test_parts_that_are_not_built_are_named(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    raw = {"architectures": ["MarianMTModel"], "model_type": "marian", **SIZES, "dropout": 0.1, **changes}
    (tmp_path / "config.json").write_text(json.dumps(raw))
    with pytest.raises(ArtifactError, match=words):
        folder.read_config(tmp_path)
