"""One model in three systems: nanoGPT's 10.65 M character model, in ingot, in nanoGPT and in transformers.

GPT-2's shape: learned positions, LayerNorm, GELU, tied head, no biases (transformers has biases, at zero
here). All three get the same weights, so that they must give the same loss.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ingot.models.decoder import Decoder, DecoderConfig


class Work(NamedTuple):
    """What is trained: the sizes of the model and of a batch."""

    layers: int = 6
    heads: int = 6
    width: int = 384
    context: int = 256
    vocabulary: int = 65
    rows: int = 16

    @property
    def tokens(self) -> int:
        """Tokens of one step."""
        return self.rows * self.context

    @property
    def flops_per_token(self) -> int:
        """Training FLOPs of a token: six per weight in a product, and causal attention's half.

        Kaplan et al. 2020, arXiv 2001.08361, section 2.1.
        """
        weights = 12 * self.layers * self.width**2 + self.vocabulary * self.width
        return 6 * weights + 6 * self.layers * self.width * self.context


CHARACTERS = Work()
SMOKE = Work(layers=2, heads=2, width=64, context=64, rows=4)
"""For `--quick`: the same shape, small."""

SIZES = {
    "characters": CHARACTERS,
    "smoke": SMOKE,
    "124M": Work(layers=12, heads=12, width=768, context=1024, vocabulary=50304, rows=12),
    "1B": Work(layers=24, heads=14, width=1792, context=1024, vocabulary=50304, rows=16),
}


def ours(work: Work) -> Decoder:
    """Returns the model in ingot, with GPT-2's first weights."""
    config = DecoderConfig(
        vocabulary=work.vocabulary,
        width=work.width,
        layers=work.layers,
        heads=work.heads,
        kv_heads=work.heads,
        head_width=work.width // work.heads,
        feed_forward=4 * work.width,
        context=work.context,
        norm="layer",
        norm_epsilon=1e-5,
        head_norm=None,
        positions="learned",
        activation="gelu",
        tied=True,
    )
    model = Decoder(config)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.02, generator=generator)
    return model


def nanogpt(work: Work, peer: Path) -> nn.Module:
    """Returns the model of a checkout of nanoGPT, with our weights."""
    module = _load(peer / "model.py", "nanogpt_model")
    sizes = {"n_layer": work.layers, "n_head": work.heads, "n_embd": work.width, "dropout": 0.0}
    config = module.GPTConfig(block_size=work.context, vocab_size=work.vocabulary, bias=False, **sizes)
    model: nn.Module = module.GPT(config)
    weights = _gpt2_names(ours(work))
    model.load_state_dict(weights | {"lm_head.weight": weights["transformer.wte.weight"]})
    return model


def transformers(work: Work) -> nn.Module:
    """Returns the model of transformers, with our weights and biases of zero."""
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=work.vocabulary,
        n_positions=work.context,
        n_embd=work.width,
        n_layer=work.layers,
        n_head=work.heads,
        activation_function="gelu",
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        use_cache=False,
        bos_token_id=None,
        eos_token_id=None,
    )
    model: nn.Module = GPT2LMHeadModel(config)
    products = ("c_attn.weight", "c_proj.weight", "c_fc.weight")  # stored the other way round there
    weights = {
        name: value.T.contiguous() if name.endswith(products) else value
        for name, value in _gpt2_names(ours(work)).items()
    }
    missing, unexpected = model.load_state_dict(weights, strict=False)
    wrong = [name for name in missing if not name.endswith(".bias") and name != "lm_head.weight"]
    if wrong or unexpected:
        sys.exit(f"the models differ in shape: {wrong} {unexpected}")
    return model


def losses(work: Work, peer: Path | None) -> dict[str, float]:
    """Returns the loss of every system in float32, on one batch, with the same weights."""
    generator = torch.Generator().manual_seed(1)
    window = torch.randint(work.vocabulary, (4, work.context + 1), generator=generator)
    inputs, targets = window[:, :-1].contiguous(), window[:, 1:].contiguous()
    with torch.no_grad():
        found = {"ingot": _loss(ours(work)(inputs).logits, targets)}
        found["transformers"] = _loss(transformers(work)(inputs).logits, targets)
        if peer is not None:
            found["nanogpt"] = float(nanogpt(work, peer)(inputs, targets)[1])
    return found


def parameters(model: nn.Module) -> int:
    """Returns the number of weights, tied ones once."""
    return sum(parameter.numel() for parameter in model.parameters())


def _loss(logits: Tensor, targets: Tensor) -> float:
    return float(cross_entropy(logits.flatten(0, 1), targets.flatten()))


def _gpt2_names(model: Decoder) -> dict[str, Tensor]:
    """Our weights under GPT-2's names; matrices as nn.Linear has them."""
    state = model.state_dict()
    named = {
        "transformer.wte.weight": state["embedding.weight"],
        "transformer.wpe.weight": state["positions.weight"],
        "transformer.ln_f.weight": state["norm.weight"],
    }
    parts = {
        "ln_1": ("attention_norm",),
        "attn.c_attn": ("attention.query", "attention.key", "attention.value"),
        "attn.c_proj": ("attention.output",),
        "ln_2": ("feed_forward_norm",),
        "mlp.c_fc": ("feed_forward.up",),
        "mlp.c_proj": ("feed_forward.down",),
    }
    for layer in range(model.config.layers):
        for theirs, mine in parts.items():
            values = [state[f"blocks.{layer}.{part}.weight"] for part in mine]
            named[f"transformer.h.{layer}.{theirs}.weight"] = torch.cat(values)
    return named


def _load(path: Path, name: str) -> Any:
    """Imports a file that is no part of a package."""
    specification = importlib.util.spec_from_file_location(name, path)
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module
    specification.loader.exec_module(module)
    return module
