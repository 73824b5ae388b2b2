"""The linear-time decoder: equal to Qwen3-Next, goes on from its state, recalls what it read."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ingot.data.stream import WHOLE, Part
from ingot.errors import ArtifactError, ConfigError
from ingot.models import linear_folder
from ingot.models.describe import tree
from ingot.models.families import qwen3_next
from ingot.models.linear_config import FullAttentionConfig, LinearDecoderConfig
from ingot.models.linear_decoder import LinearDecoder
from ingot.nn.attention import causal
from ingot.nn.delta import DeltaConfig
from ingot.objectives.causal import CausalLM
from ingot.objectives.objective import Batch
from ingot.optim.joint import OptimizerConfig
from ingot.progress import Progress
from ingot.train.trainer import TrainConfig, Trainer

VOCABULARY, TOKENS = 61, 90
THEIRS: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "intermediate_size": 48,
    "max_position_embeddings": 256,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 6,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "num_experts": 0,
    "bos_token_id": None,
    "eos_token_id": None,
}
EXPERTS: dict[str, Any] = {
    "num_experts": 5,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 8,
    "shared_expert_intermediate_size": 12,
}
OTHERS: dict[str, dict[str, Any]] = {
    "usual": {},
    "tied, every second": {
        "tie_word_embeddings": True,
        "layer_types": ["linear_attention", "full_attention"] * 2,
    },
    "one value head each": {"linear_num_value_heads": 2, "linear_conv_kernel_dim": 3},
    "dense by name": {"num_experts": 4, "mlp_only_layers": [0, 1, 2, 3]},
    "experts": {**EXPERTS, "mlp_only_layers": [1]},
}
DELTA = DeltaConfig(key_heads=2, value_heads=4, key_width=8, value_width=6)
FULL = FullAttentionConfig(every=2, heads=4, kv_heads=2, head_width=8)


def drawn(model: nn.Module) -> nn.Module:
    """The model with weights that are far from where training starts."""
    random = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=0.15, generator=random)
        elif "A_log" not in name and "rate" not in name:
            nn.init.normal_(parameter, mean=float(parameter.detach().mean()), std=0.2, generator=random)
    return model.eval()


def theirs(**changes: Any) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    return drawn(transformers.Qwen3NextForCausalLM(transformers.Qwen3NextConfig(**{**THEIRS, **changes})))


def ours(attention: FullAttentionConfig | None = FULL, **changes: Any) -> LinearDecoder:
    sizes = {
        "vocabulary": VOCABULARY,
        "width": 32,
        "layers": 4,
        "feed_forward": 48,
        "context": 128,
        **changes,
    }
    config = LinearDecoderConfig(**sizes, delta=DELTA, attention=attention)
    model = drawn(config.build())
    assert isinstance(model, LinearDecoder)
    return model


def texts(rows: int = 2, tokens: int = TOKENS, seed: int = 2) -> Tensor:
    return torch.randint(0, VOCABULARY, (rows, tokens), generator=torch.Generator().manual_seed(seed))


def far(one: Tensor, other: Tensor) -> float:
    return float((one - other).detach().abs().max())


@pytest.mark.parametrize("changes", OTHERS.values(), ids=OTHERS)
def test_their_folder_gives_their_logits_and_goes_back_bit_for_bit(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    model = theirs(**changes)
    model.save_pretrained(tmp_path / "theirs")
    mine = linear_folder.load(tmp_path / "theirs")
    with torch.no_grad():
        said = model(texts()).logits
        assert far(mine(texts()).logits, said) <= 1e-4 and float(said.abs().max()) > 1
    (tmp_path / "ours").mkdir()
    linear_folder.save(tmp_path / "ours", mine)
    before = load_file(tmp_path / "theirs" / "model.safetensors")
    after = load_file(tmp_path / "ours" / "model.safetensors")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    model.save_pretrained(tmp_path / "sharded", max_shard_size="40KB")
    assert len(list((tmp_path / "sharded").glob("*.safetensors"))) > 1
    state = mine.state_dict()
    parts = linear_folder.load(tmp_path / "sharded").state_dict()
    assert all(torch.equal(one, state[name]) for name, one in parts.items())


def test_in_bf16_logits_are_theirs_too(tmp_path: Path) -> None:
    model = theirs()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:  # with larger weights their own logits are further from those in fp32
                parameter.mul_(1 / 3)
        model.save_pretrained(tmp_path)
        narrow = linear_folder.load(tmp_path, dtype=torch.bfloat16)
        said, rounded = model(texts()).logits, model.bfloat16()(texts()).logits.float()
        mine = narrow(texts()).logits.float()
    assert far(mine, rounded) <= 2e-2
    assert float((mine - rounded).abs().mean()) <= float((said - rounded).abs().mean())


def test_transformers_loads_our_folder_and_writes_the_same_text(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = ours()
    linear_folder.save(tmp_path, model, special={"eos_token_id": 60, "pad_token_id": 60})
    other = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    assert type(other).__name__ == "Qwen3NextForCausalLM"
    prompt = texts(1, 30)
    with torch.no_grad():
        assert far(other(prompt).logits, model(prompt).logits) <= 1e-4
        made = other.generate(prompt, max_new_tokens=25, do_sample=False, eos_token_id=None, pad_token_id=60)
        assert torch.equal(made[:, 30:], greedy(model, prompt, 25))
    assert linear_folder.read_config(tmp_path)[0] == model.config


def greedy(model: LinearDecoder, tokens: Tensor, new: int) -> Tensor:
    """Tokens by way of the state."""
    out, made = model(tokens), []
    for _ in range(new):
        made.append(out.logits[:, -1].argmax(-1))
        out = model(made[-1][:, None], out.state)
    return torch.stack(made, 1)


@pytest.mark.parametrize("attention", [FULL, None], ids=["hybrid", "linear"])
def test_a_folder_of_ours_is_the_model(attention: FullAttentionConfig | None, tmp_path: Path) -> None:
    model = ours(attention)
    linear_folder.save(tmp_path, model)
    again = linear_folder.load(tmp_path)
    assert again.config == model.config
    state = model.state_dict()
    assert all(torch.equal(one, state[name]) for name, one in again.state_dict().items())


@pytest.mark.parametrize("attention", [FULL, None], ids=["hybrid", "linear"])
def test_generation_is_the_full_pass_token_by_token(attention: FullAttentionConfig | None) -> None:
    model, tokens = ours(attention), texts()
    with torch.no_grad():
        whole = model(tokens)
        for cuts in (tuple(range(TOKENS + 1)), (0, 5, 6, 70, TOKENS)):
            state, pieces, sizes = None, [], []
            for a, b in itertools.pairwise(cuts):
                out = model(tokens[:, a:b], state)
                state = out.state
                pieces.append(out.logits)
                sizes.append(state.bytes())
            assert far(torch.cat(pieces, 1), whole.logits) <= 1e-4
            assert state.length == TOKENS
    if attention is None:
        assert len(set(sizes)) == 1  # constant memory
    else:
        assert (
            sizes[-1] - sizes[0] == 2 * 2 * 2 * (TOKENS - 5) * 2 * 8 * 4
        )  # layers, sides, rows, tokens, k, e


def test_documents_in_a_row_are_texts_of_their_own() -> None:
    model, tokens = ours(), texts()
    lengths = [3, 1, 40, 46]
    numbers = torch.repeat_interleave(torch.arange(4), torch.tensor(lengths)).expand(2, -1)
    with torch.no_grad():
        packed = model(tokens, documents=numbers)
        alone = torch.cat([model(one).logits for one in tokens.split(lengths, 1)], 1)
    assert far(packed.logits, alone) <= 1e-4 and packed.state is None


def test_no_logit_knows_a_later_token() -> None:
    model, tokens = ours(), texts(1)
    other = tokens.clone()
    other[0, 50] = (other[0, 50] + 1) % VOCABULARY
    with torch.no_grad():
        one, two = model(tokens).logits, model(other).logits
    assert far(one[:, :50], two[:, :50]) <= 1e-5 and far(one[:, 50:], two[:, 50:]) > 1e-2


def test_attention_by_somebody_else_is_used_and_leaves_no_state() -> None:
    model, tokens = ours(), texts()
    asked = []

    def attend(layer: int, *given: Any) -> Tensor:
        asked.append(layer)
        return causal(layer, *given)

    out = model(tokens, attend=attend)
    assert asked == [1, 3] and out.state is None
    assert torch.equal(out.logits, model(tokens).logits)


def test_parameters_are_counted_and_shown() -> None:
    model = ours(tied=True)
    part = tree(model)
    assert part.total == model.parameter_count() == sum(p.numel() for p in set(model.parameters()))
    shown = {one.path for _, one in part.walk()}
    assert {"blocks.0.delta.key_convolution", "blocks.1.attention.query"} <= shown


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="no layer would attend"):
        LinearDecoderConfig.parse({**ours().config.plain(), "layers": 1})
    with pytest.raises(ConfigError, match="3 coordinates"):
        FullAttentionConfig.parse({"heads": 2, "kv_heads": 1, "head_width": 12})
    with pytest.raises(ConfigError, match=r"heads \(3\) must be a multiple"):
        FullAttentionConfig.parse({"heads": 3, "kv_heads": 2, "head_width": 8})


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"architectures": ["Qwen4NextForCausalLM"]}, "not a known linear-time decoder"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "auto_map"),
        ({**EXPERTS, "mlp_only_layers": [0]}, "experts.0.down_proj"),
        ({**EXPERTS, "num_experts_per_tok": 6, "mlp_only_layers": [0]}, "is more than the 5 experts"),
        ({"layer_types": ["full_attention", *["linear_attention"] * 3]}, "has no period"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' is not supported"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_type 'yarn' is not supported"),
        ({"hidden_size": None}, "width"),
        ({"linear_num_value_heads": 3}, "value_heads"),
        ({"vocab_size": 62}, "model.embed_tokens.weight"),
        ({"num_hidden_layers": 2, "layer_types": None, "full_attention_interval": 2}, "knows nothing of"),
        ({"layer_types": ["linear_attention"] * 4}, "weights are missing"),
    ],
)
def test_damaged_folders_are_refused(changes: dict[str, Any], said: str, tmp_path: Path) -> None:
    linear_folder.save(tmp_path, ours())
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ArtifactError, match=said):
        linear_folder.load(tmp_path)


def test_numbers_that_are_none_and_missing_keys_are_refused(tmp_path: Path) -> None:
    linear_folder.save(tmp_path, ours())
    weights = load_file(tmp_path / "model.safetensors")
    weights["model.layers.0.linear_attn.A_log"][0] = torch.nan
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(ArtifactError, match="A_log' holds NaN"):
        linear_folder.load(tmp_path)
    raw = qwen3_next.describe(ours().config)
    del raw["linear_num_key_heads"]
    (tmp_path / "config.json").write_text(json.dumps(raw))
    with pytest.raises(ArtifactError, match="linear_num_key_heads"):
        linear_folder.load(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ArtifactError, match="JSON"):
        linear_folder.load(tmp_path)


class Recall:
    """Rows of keys and values side by side, and then the keys again, whose values are to be said."""

    fingerprint = "recall"
    batch_size = 32
    pairs = 4

    def batch(self, step: int, salt: int = 0, part: Part = WHOLE) -> Batch:
        random = torch.Generator().manual_seed(step)
        draw = torch.rand(self.batch_size, 16, generator=random)
        keys = draw.argsort(1)[:, : self.pairs]
        values = torch.randint(16, 32, keys.shape, generator=random)
        order = torch.rand(keys.shape, generator=random).argsort(1)
        asked, answers = keys.gather(1, order), values.gather(1, order)
        inputs = torch.cat([torch.stack([keys, values], 2).flatten(1), asked], 1)
        targets = torch.cat([torch.full((self.batch_size, 2 * self.pairs), -100), answers], 1)
        return {"inputs": inputs, "targets": targets, "sample_ids": self.sample_ids(step)}

    def sample_ids(self, step: int, salt: int = 0) -> Tensor:
        return torch.arange(self.batch_size) + step * self.batch_size


@pytest.mark.parametrize(
    "attention", [None, FULL.model_copy(update={"head_width": 16})], ids=["linear", "hybrid"]
)
def test_it_learns_to_recall(attention: FullAttentionConfig | None, tmp_path: Path) -> None:
    sizes = DeltaConfig(key_heads=2, value_heads=2, key_width=16, value_width=16)
    config = LinearDecoderConfig(
        vocabulary=32, width=32, layers=2, feed_forward=64, context=32, delta=sizes, attention=attention
    )
    model = config.build()
    optimizer = OptimizerConfig().build(model)
    plan = TrainConfig.parse({"steps": 200, "checkpoint_every": 200, "guard": {"sigmas": None}})
    Trainer(model, CausalLM(), Recall(), optimizer, plan, tmp_path).fit(Progress(), "recall")
    batch = Recall().batch(10_000)
    asked = batch["targets"] != -100
    right = (model.eval()(batch["inputs"]).logits.argmax(-1) == batch["targets"])[asked].float().mean()
    assert float(right) > 0.95  # chance is 1/16, or 1/4 for one who only knows which values there were
