"""T5 against `transformers`, with random weights, both ways; its table of distances; four tasks at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ingot.errors import ArtifactError
from ingot.models import encoder_decoder_folder as folder
from ingot.models.encoder_decoder import EncoderDecoder
from ingot.models.encoder_decoder_writing import write
from ingot.models.families import t5
from ingot.nn.relative import RelativeBias, bucket

transformers = pytest.importorskip("transformers")

SIZES: dict[str, Any] = {
    "vocab_size": 53,
    "d_model": 24,
    "d_kv": 5,
    "d_ff": 40,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 12,
    "relative_attention_max_distance": 25,
    "decoder_start_token_id": 0,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "t5": {"feed_forward_proj": "relu"},
    "t5-1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "ul2": {"feed_forward_proj": "gated-silu", "tie_word_embeddings": False},
}
BOTH = pytest.mark.parametrize("variant", VARIANTS)


def theirs(variant: str, kind: str = "T5", **changes: Any) -> nn.Module:
    """A model of theirs with weights that are far from where training starts."""
    settings = {**SIZES, **VARIANTS[variant], **changes}
    config = getattr(transformers, f"{kind}Config")(**settings)
    model = getattr(transformers, f"{kind}ForConditionalGeneration")(config)
    torch.manual_seed(1)
    if not settings.get("tie_word_embeddings", True):
        model.lm_head.weight = nn.Parameter(torch.empty_like(model.shared.weight))
    for parameter in model.parameters():
        if parameter.dim() == 2:
            nn.init.normal_(parameter, std=0.5)
        else:
            nn.init.normal_(parameter, mean=1.0, std=0.1)
    return model.eval()


def texts() -> tuple[Tensor, Tensor, Tensor]:
    """Sources, padded on the right and on the left, their mask, and targets: past the furthest bucket."""
    torch.manual_seed(2)
    source, tokens = torch.randint(2, 53, (4, 37)), torch.randint(0, 53, (4, 41))
    source[1, 9:], source[2, :20], source[3, 1:] = 0, 0, 0
    return source, source != 0, tokens


@torch.no_grad()
def asked(model: nn.Module) -> Tensor:
    source, mask, tokens = texts()
    return model(source, attention_mask=mask.long(), decoder_input_ids=tokens).logits


@torch.no_grad()
def answered(model: EncoderDecoder) -> Tensor:
    source, mask, tokens = texts()
    logits = model(source, tokens, mask).logits
    assert logits is not None and torch.equal(model(source, tokens).logits, logits)
    return logits


def test_buckets_are_theirs() -> None:
    from transformers.models.t5.modeling_t5 import T5Attention

    offsets = torch.arange(-3000, 3001)
    for buckets, furthest in ((32, 128), (12, 25), (8, 20), (64, 1000)):
        for both in (True, False):
            expected = T5Attention._relative_position_bucket(offsets, both, buckets, furthest)
            assert torch.equal(bucket(offsets, buckets, furthest, both), expected)
    far = bucket(torch.tensor([0, -7, -8, -11, -12, -90, -91, -(10**6)]), 32, 128, both_sides=True)
    assert far.tolist() == [0, 7, 8, 8, 9, 14, 15, 15]


@pytest.mark.parametrize("both", [True, False])
def test_a_bias_is_looked_up_by_distance(both: bool) -> None:
    """Against one lookup for every pair; a window of queries is a part of the whole, gradients included."""
    torch.manual_seed(0)
    relative = RelativeBias(3, 8, 20, both)
    t = 30
    offsets = torch.arange(t) - torch.arange(t)[:, None]
    pairs = relative.table(bucket(offsets, 8, 20, both)).permute(2, 0, 1)
    assert torch.equal(relative(t, t), pairs)
    assert torch.equal(relative(4, t, first=11), pairs[:, 11:15])
    assert torch.equal(relative(4, 15, first=11), pairs[:, 11:15, :15])
    given = torch.randn(3, t, t)
    (one,) = torch.autograd.grad((pairs * given).sum(), relative.table.weight)
    (two,) = torch.autograd.grad((relative(t, t) * given).sum(), relative.table.weight)
    assert torch.allclose(one, two, atol=1e-4)


@BOTH
def test_logits_are_theirs_and_weights_walk_both_ways(variant: str, tmp_path: Path) -> None:
    model = theirs(variant)
    expected = asked(model)
    model.save_pretrained(tmp_path / "theirs")
    loaded = folder.load(tmp_path / "theirs")
    assert float(expected.std()) > 0.4
    assert (answered(loaded) - expected).abs().max() <= 1e-4
    assert loaded.config.tied == (variant == "t5")

    back = tmp_path / "ours"
    back.mkdir()
    folder.save(back, loaded)
    again, told = type(model).from_pretrained(back, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    ones, others = model.state_dict(), again.state_dict()
    assert ones.keys() == others.keys()
    assert all(torch.equal(ones[name], others[name]) for name in ones)
    assert torch.equal(asked(again.eval()), expected)

    again.save_pretrained(tmp_path / "third")
    first, last = (folder.load(path) for path in (back, tmp_path / "third"))
    assert first.config.model_copy(update={"context": 512}) == last.config
    mine, yours = first.state_dict(), last.state_dict()
    assert mine.keys() == yours.keys() and all(torch.equal(mine[name], yours[name]) for name in mine)


@BOTH
def test_gradients_are_theirs(variant: str, tmp_path: Path) -> None:
    """Of every weight, the tables of distances among them: what trains here trains as it does there."""
    model = theirs(variant, dropout_rate=0.0)
    model.save_pretrained(tmp_path)
    ours = folder.load(tmp_path).train()
    source, mask, tokens = texts()
    targets = tokens.roll(-1, 1).masked_fill(torch.arange(41) > torch.tensor([40, 12, 30, 1])[:, None], -100)
    logits = ours(source, tokens, mask).logits
    assert logits is not None
    nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten()).backward()
    model.train()(
        source, attention_mask=mask.long(), decoder_input_ids=tokens, labels=targets
    ).loss.backward()
    for rule in t5.mapping(ours.config):
        (one,), (other,) = rule.ours, rule.theirs
        mine, yours = ours.get_parameter(one).grad, model.get_parameter(other).grad
        assert mine is not None and yours is not None
        assert (mine - yours).norm() <= 1e-4 * yours.norm() > 0, one


@BOTH
def test_greedy_writing_is_theirs_token_for_token(variant: str, tmp_path: Path) -> None:
    """Until each text ends, past the furthest bucket; their cache is as long as the encoder has layers."""
    model = theirs(variant, num_decoder_layers=3)
    source, mask, _ = texts()
    asking = {"attention_mask": mask.long(), "do_sample": False, "num_beams": 1}
    first = model.generate(source, **asking, max_new_tokens=4)[:, 1:]
    for end in (52, int(first[0, 3])):
        model.config.eos_token_id = model.generation_config.eos_token_id = end
        model.save_pretrained(tmp_path)
        expected = model.generate(source, **asking, max_new_tokens=90)[:, 1:]
        made = write(folder.load(tmp_path), source, 90, mask)
        assert torch.equal(made, expected)
    assert int(made[0, 3]) == end and not made[0, 4:].any() and made.shape[1] > 4


def test_a_trained_model_of_ours_writes_the_same_there(tmp_path: Path) -> None:
    """Made here, changed by a step of training, saved in bf16."""
    parts = {"vocabulary": 40, "width": 16, "encoder_layers": 2, "decoder_layers": 2, "heads": 2}
    config = t5.EncoderDecoderConfig.parse(
        {**t5.PARTS, **parts, "head_width": 8, "feed_forward": 32, "activation": "geglu_tanh", "tied": False}
    )
    model = config.build(4)
    source, tokens = torch.randint(2, 40, (3, 9)), torch.randint(2, 40, (3, 5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.3)
    for _ in range(3):
        optimizer.zero_grad()
        logits = model(source, tokens).logits
        nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten()).backward()
        optimizer.step()
    folder.save(tmp_path, model.eval(), torch.bfloat16)
    again = folder.load(tmp_path)
    hf = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    expected = hf.generate(source, max_new_tokens=20, do_sample=False, num_beams=1)[:, 1:]
    assert torch.equal(write(again, source, 20), expected)
    assert again.config == config
    assert all(
        torch.equal(mine.bfloat16().float(), yours)
        for mine, yours in zip(model.parameters(), again.parameters(), strict=True)
    )


@BOTH
def test_short_numbers(variant: str, tmp_path: Path) -> None:
    model = theirs(variant)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.data.mul_(0.3)
    whole = asked(model)
    model.to(torch.bfloat16).save_pretrained(tmp_path)
    short = folder.load(tmp_path, torch.bfloat16)
    assert short.embedding.weight.dtype == torch.bfloat16
    off = (asked(model).float() - whole).abs().max()
    assert (answered(short).float() - whole).abs().max() <= max(2e-2, 1.5 * float(off))


def test_mt5_and_older_folders_are_read(tmp_path: Path) -> None:
    model = theirs("t5-1.1", "MT5")
    model.save_pretrained(tmp_path)
    loaded = folder.load(tmp_path)
    assert (answered(loaded) - asked(model)).abs().max() <= 1e-4
    older = theirs("t5-1.1")
    older.save_pretrained(tmp_path)
    raw = json.loads((tmp_path / "config.json").read_text())
    del raw["scale_decoder_outputs"], raw["num_decoder_layers"]
    raw |= {"tie_word_embeddings": False, "num_layers": 3, "n_positions": 99}
    config = t5.read(raw)
    assert not config.tied and config.head_scale == 1 and config.decoder_layers == 3 and config.context == 99
    assert t5.read(raw | {"tie_word_embeddings": True}).head_scale == 24**-0.5


def test_weights_in_several_files(tmp_path: Path) -> None:
    model = theirs("t5-1.1")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 2
    assert (answered(folder.load(tmp_path)) - asked(model)).abs().max() <= 1e-4


def test_embeddings_that_are_stored_again_are_not_minded(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = theirs("t5")
    model.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    again = dict.fromkeys(
        ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"),
        weights["shared.weight"],
    )
    save_file(weights | {name: one.clone() for name, one in again.items()}, path, metadata={"format": "pt"})
    loaded = folder.load(tmp_path)
    assert loaded.config.tied and loaded.head.weight is loaded.embedding.weight
    assert (answered(loaded) - asked(model)).abs().max() <= 1e-4


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("t5-small", 60_506_624),
        ("t5-base", 222_903_552),
        ("flan-t5-small", 76_961_152),
        ("mt5-small", 300_176_768),
    ],
)
def test_published_sizes(name: str, count: int) -> None:
    """Parameters of models with a head, from the sizes in their published config.json."""
    gated = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False, "d_kv": 64, "d_model": 512}
    raw: dict[str, Any] = {
        "t5-small": {"d_model": 512, "d_kv": 64, "d_ff": 2048, "num_layers": 6, "num_heads": 8},
        "t5-base": {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12},
        "flan-t5-small": {**gated, "d_ff": 1024, "num_layers": 8, "num_heads": 6},
        "mt5-small": {**gated, "d_ff": 1024, "num_layers": 8, "num_heads": 6, "vocab_size": 250_112},
    }[name]
    with torch.device("meta"):
        model = EncoderDecoder(t5.read({"vocab_size": 32_128, **raw}))
    assert model.parameter_count() == count


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    with pytest.raises(ArtifactError, match=r"no config\.json"):
        folder.load(tmp_path)
    theirs("t5").save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    kept = path.read_text()
    for changes, words in (
        ({"architectures": ["T5EncoderModel"]}, "not a known encoder-decoder"),
        ({"feed_forward_proj": "gelu"}, "feed_forward_proj 'gelu' is not supported"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "code of its own"),
        ({"d_model": 32}, "config.json says"),
        ({"d_model": 0}, "cannot be used"),
        ({"num_layers": 4}, r"weights are missing: encoder\.block\.3"),
        ({"num_layers": 2}, r"weights of no part: encoder\.block\.2"),
    ):
        path.write_text(json.dumps({**json.loads(kept), **changes}))
        with pytest.raises(ArtifactError, match=words):
            folder.load(tmp_path)
    path.write_text(json.dumps({key: value for key, value in json.loads(kept).items() if key != "d_kv"}))
    with pytest.raises(ArtifactError, match="key 'd_kv' is missing"):
        folder.load(tmp_path)
    path.write_text("[]")
    with pytest.raises(ArtifactError, match="holds no keys"):
        folder.load(tmp_path)
    path.write_text("{")
    with pytest.raises(ArtifactError, match="not readable as JSON"):
        folder.load(tmp_path)
    path.write_text(kept)
    weights = load_file(tmp_path / "model.safetensors")
    weights["encoder.final_layer_norm.weight"][0] = float("nan")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match="NaN or infinity"):
        folder.load(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match="is pickled, which can run code"):
        folder.load(tmp_path)
