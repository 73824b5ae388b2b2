"""The Hugging Face folder, both ways: our native format on disk.

A folder written here is what `transformers` calls a `Qwen3ForCausalLM`: `config.json`,
`model.safetensors`, `generation_config.json` (the tokenizer writes its own files beside them).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ingot.errors import ArtifactError, ConfigError, IngotError
from ingot.models.decoder import Decoder, DecoderConfig

ARCHITECTURE = "Qwen3ForCausalLM"
WEIGHTS = "model.safetensors"

_BLOCK_NAMES = {
    "attention_norm.weight": "input_layernorm.weight",
    "attention.query.weight": "self_attn.q_proj.weight",
    "attention.key.weight": "self_attn.k_proj.weight",
    "attention.value.weight": "self_attn.v_proj.weight",
    "attention.output.weight": "self_attn.o_proj.weight",
    "attention.query_norm.weight": "self_attn.q_norm.weight",
    "attention.key_norm.weight": "self_attn.k_norm.weight",
    "feed_forward_norm.weight": "post_attention_layernorm.weight",
    "feed_forward.gate.weight": "mlp.gate_proj.weight",
    "feed_forward.up.weight": "mlp.up_proj.weight",
    "feed_forward.down.weight": "mlp.down_proj.weight",
}


def weight_names(config: DecoderConfig) -> dict[str, str]:
    """Returns our weight name -> theirs, for every weight that is stored (a tied head is not)."""
    names = {"embedding.weight": "model.embed_tokens.weight", "norm.weight": "model.norm.weight"}
    for layer in range(config.layers):
        for ours, theirs in _BLOCK_NAMES.items():
            names[f"blocks.{layer}.{ours}"] = f"model.layers.{layer}.{theirs}"
    if not config.tied:
        names["head.weight"] = "lm_head.weight"
    return names


def describe(
    config: DecoderConfig, dtype: torch.dtype, special: dict[str, int] | None = None
) -> dict[str, Any]:
    """Returns the content of `config.json`.

    Args:
        config: the model's sizes.
        dtype: of the stored weights.
        special: token ids by role (`bos_token_id`, `eos_token_id`, `pad_token_id`), where known.

    Raises:
        ArtifactError: the model is made of parts that Qwen3 does not have.
    """
    parts = {"norm": "rms", "head_norm": "rms", "positions": "rotary", "activation": "swiglu"}
    other = [
        f"{name} {getattr(config, name)}" for name, ours in parts.items() if getattr(config, name) != ours
    ]
    if other:
        raise ArtifactError(
            f"a model with {', '.join(other)} has no published folder format yet",
            where="saving the model",
            fix="keep the decoder's own parts, or save its weights yourself with safetensors",
        )
    return {
        "architectures": [ARCHITECTURE],
        "model_type": "qwen3",
        "vocab_size": config.vocabulary,
        "hidden_size": config.width,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "num_key_value_heads": config.kv_heads,
        "head_dim": config.head_width,
        "intermediate_size": config.feed_forward,
        "max_position_embeddings": config.context,
        # Older readers look for rope_theta at the top, newer ones in rope_parameters.
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "rms_norm_eps": config.norm_epsilon,
        "tie_word_embeddings": config.tied,
        "hidden_act": "silu",
        "attention_bias": False,
        "attention_dropout": 0.0,
        "use_cache": True,
        "use_sliding_window": False,
        "dtype": str(dtype).removeprefix("torch."),
        **(special or {}),
    }


def save(
    folder: Path, model: Decoder, dtype: torch.dtype = torch.float32, special: dict[str, int] | None = None
) -> None:
    """Writes the model into a folder that exists.

    Args:
        folder: where to; files of the same names are replaced.
        model: any dtype and device.
        dtype: of the stored weights.
        special: token ids by role for `config.json` and `generation_config.json`.

    Raises:
        ArtifactError: no published format holds a model of these parts.
    """
    config = describe(model.config, dtype, special)
    state = model.state_dict()
    weights = {
        theirs: state[ours].detach().to("cpu", dtype).contiguous().clone()
        for ours, theirs in weight_names(model.config).items()
    }
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    write_configs(folder, config, special)


def write_configs(folder: Path, config: dict[str, Any], special: dict[str, int] | None) -> None:
    """Writes `config.json` and `generation_config.json`."""
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    generation = {**(special or {}), "do_sample": True, "temperature": 0.8, "top_p": 0.95}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n", encoding="utf-8")


def read_config(folder: Path) -> tuple[DecoderConfig, dict[str, Any]]:
    """Reads the sizes of a folder's model.

    Returns:
        Our configuration, and everything that `config.json` says.

    Raises:
        ArtifactError: no readable `config.json`, or a model of another architecture.
    """
    path = folder / "config.json"
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ArtifactError(
            "no config.json: not a model folder", where=folder, fix="name a model folder"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise ArtifactError("not readable as JSON", where=path, fix="make the model anew") from None
    if ARCHITECTURE not in raw.get("architectures", []):
        raise ArtifactError(
            f"architecture {raw.get('architectures')} is not known", where=path, fix=f"known: {ARCHITECTURE}"
        )
    rope = raw.get("rope_parameters") or {}
    try:
        config = DecoderConfig.parse(
            {
                "vocabulary": raw["vocab_size"],
                "width": raw["hidden_size"],
                "layers": raw["num_hidden_layers"],
                "heads": raw["num_attention_heads"],
                "kv_heads": raw["num_key_value_heads"],
                "head_width": raw.get("head_dim") or raw["hidden_size"] // raw["num_attention_heads"],
                "feed_forward": raw["intermediate_size"],
                "context": raw["max_position_embeddings"],
                "rope_theta": rope.get("rope_theta", raw.get("rope_theta", 10_000.0)),
                "norm_epsilon": raw["rms_norm_eps"],
                "tied": raw.get("tie_word_embeddings", False),
            },
            where=path,
        )
    except KeyError as missing:
        raise ArtifactError(f"key {missing} is missing", where=path, fix="make the model anew") from None
    except ConfigError as error:
        raise ArtifactError(error.what, where=error.where, fix="make the model anew") from None
    return config, raw


def load(folder: Path, dtype: torch.dtype = torch.float32, device: str = "cpu") -> Decoder:
    """Loads the model of a folder.

    Args:
        folder: with `config.json` and `model.safetensors`.
        dtype: to hold the weights in.
        device: where to hold them.

    Raises:
        ArtifactError: files that are missing, truncated or do not fit together.
    """
    config, _ = read_config(folder)
    model = Decoder(config).to(device, dtype)
    tensors = read_weights(folder / WEIGHTS)
    state: dict[str, Tensor] = {}
    for ours, theirs in weight_names(config).items():
        if theirs not in tensors:
            raise ArtifactError(
                f"weight '{theirs}' is missing", where=folder / WEIGHTS, fix="make the model anew"
            )
        expected = model.get_parameter(ours).shape
        if tensors[theirs].shape != expected:
            raise ArtifactError(
                f"weight '{theirs}' is {list(tensors[theirs].shape)}, config.json says {list(expected)}",
                where=folder / WEIGHTS,
                fix="make the model anew",
            )
        state[ours] = tensors[theirs].to(device, dtype)
    if config.tied:
        state["head.weight"] = state["embedding.weight"]
    model.load_state_dict(state)
    return model.eval()


def read_weights(path: Path) -> dict[str, Tensor]:
    """Reads every tensor of a safetensors file.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except FileNotFoundError:
        raise ArtifactError("no such weight file", where=path, fix="make the model anew") from None
    except IngotError:
        raise
    except (SafetensorError, OSError, ValueError) as error:
        raise ArtifactError(
            f"damaged or truncated ({error})", where=path, fix="copy or make it anew"
        ) from None
