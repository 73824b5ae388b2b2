"""BERT, RoBERTa and ModernBERT against `transformers`, with random weights, both ways."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ingot.errors import ArtifactError
from ingot.models import encoder_folder
from ingot.models.encoder import EncoderConfig
from ingot.models.heads import HeadConfig

transformers = pytest.importorskip("transformers")

SIZES: dict[str, Any] = {
    "vocab_size": 61,
    "hidden_size": 24,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 40,
    "max_position_embeddings": 34,
}
OWN: dict[str, dict[str, Any]] = {
    "Bert": {"pad_token_id": 0},
    "Roberta": {"pad_token_id": 3, "type_vocab_size": 1, "bos_token_id": 0, "eos_token_id": 2},
    "ModernBert": {
        "pad_token_id": 0,
        "local_attention": 8,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "cls_token_id": 1,
        "sep_token_id": 2,
        "classifier_pooling": "mean",
    },
}
TASKS = ("MaskedLM", "SequenceClassification", "TokenClassification", "QuestionAnswering")
ROWS, PLACES = 3, 23


def theirs(family: str, task: str, **changes: Any) -> nn.Module:
    """A model of theirs with weights that are far from where training starts."""
    labels = {} if task in ("MaskedLM", "QuestionAnswering") else {"num_labels": 5}
    config = getattr(transformers, f"{family}Config")(**{**SIZES, **OWN[family], **labels, **changes})
    torch.manual_seed(1)
    model = getattr(transformers, f"{family}For{task}")(config)
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            nn.init.normal_(parameter, std=0.25)
        elif name.endswith("bias"):
            nn.init.normal_(parameter, std=0.2)
        else:
            nn.init.normal_(parameter, mean=1.0, std=0.1)
    return model.eval()


def texts(family: str) -> tuple[Tensor, Tensor, Tensor]:
    """Tokens, mask and segments of three padded texts."""
    torch.manual_seed(2)
    padding = OWN[family]["pad_token_id"]
    tokens = torch.randint(4, SIZES["vocab_size"], (ROWS, PLACES))
    mask = torch.arange(PLACES) < torch.tensor([PLACES, 14, 2])[:, None]
    kinds = OWN[family].get("type_vocab_size", 2)
    segments = (torch.arange(PLACES) > 6).long().expand(ROWS, PLACES) % kinds
    return torch.where(mask, tokens, padding), mask, segments


def asked(model: nn.Module, family: str) -> Tensor:
    """What their model says, in the form of ours."""
    tokens, mask, segments = texts(family)
    more = {} if family == "ModernBert" else {"token_type_ids": segments}
    with torch.no_grad():
        said = model(tokens, attention_mask=mask.long(), **more)
    if "start_logits" in said:
        return torch.stack([said.start_logits, said.end_logits], -1)
    return said.logits


def answered(folder: Path, family: str, dtype: torch.dtype = torch.float32) -> Tensor:
    """What ours says, loaded from a folder."""
    tokens, mask, segments = texts(family)
    model = encoder_folder.load(folder, dtype)
    with torch.no_grad():
        said = model(tokens, mask, None if family == "ModernBert" else segments)
    assert said.logits is not None and bool(said.hidden.isfinite().all())
    return said.logits


def largest(one: Tensor, other: Tensor, family: str) -> float:
    """The largest difference where tokens are; of whole texts everywhere."""
    difference = (one - other).abs()
    return float(difference[texts(family)[1]].max() if one.shape[:2] == (ROWS, PLACES) else difference.max())


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("family", OWN)
def test_logits_are_theirs_and_weights_walk_both_ways(family: str, task: str, tmp_path: Path) -> None:
    model = theirs(family, task)
    expected = asked(model, family)
    model.save_pretrained(tmp_path / "theirs")
    assert float(expected.std()) > 0.1
    assert largest(answered(tmp_path / "theirs", family), expected, family) <= 1e-4

    back = tmp_path / "ours"
    back.mkdir()
    encoder_folder.save(back, encoder_folder.load(tmp_path / "theirs"))
    again, told = type(model).from_pretrained(back, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"] and not told["mismatched_keys"]
    ones, others = model.state_dict(), again.state_dict()
    assert ones.keys() == others.keys()
    assert all(torch.equal(ones[name], others[name]) for name in ones)
    assert torch.equal(asked(again.eval(), family), expected)

    again.save_pretrained(tmp_path / "third")
    first, last = (encoder_folder.load(path).state_dict() for path in (back, tmp_path / "third"))
    assert all(torch.equal(first[name], last[name]) for name in first)
    assert encoder_folder.read_config(back)[0] == encoder_folder.read_config(tmp_path / "third")[0]


@pytest.mark.parametrize("family", OWN)
def test_an_untied_head_keeps_its_own_weight(family: str, tmp_path: Path) -> None:
    model = theirs(family, "MaskedLM", tie_word_embeddings=False)
    expected = asked(model, family)
    model.save_pretrained(tmp_path)
    loaded = encoder_folder.load(tmp_path)
    assert not torch.equal(loaded.embedding.weight, loaded.get_parameter("head.output.weight"))
    assert largest(answered(tmp_path, family), expected, family) <= 1e-4
    encoder_folder.save(tmp_path, loaded)
    again = type(model).from_pretrained(tmp_path).eval()
    assert torch.equal(asked(again, family), expected)


@pytest.mark.parametrize("family", OWN)
def test_weights_in_several_files(family: str, tmp_path: Path) -> None:
    model = theirs(family, "MaskedLM")
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert largest(answered(tmp_path, family), asked(model, family), family) <= 1e-4


@pytest.mark.parametrize("family", OWN)
def test_short_numbers(family: str, tmp_path: Path) -> None:
    model = theirs(family, "MaskedLM")
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.data.mul_(0.3)
    model = model.to(torch.bfloat16)
    model.save_pretrained(tmp_path)
    short = encoder_folder.load(tmp_path, torch.bfloat16)
    assert short.embedding.weight.dtype == torch.bfloat16
    whole = asked(type(model).from_pretrained(tmp_path, dtype=torch.float32).eval(), family)
    said = answered(tmp_path, family, torch.bfloat16).float()
    theirs_off = largest(asked(model, family).float(), whole, family)
    assert largest(said, whole, family) <= max(2e-2, 1.5 * theirs_off)


@pytest.mark.parametrize("family", OWN)
def test_a_bare_model_gives_hidden_states_and_sentence_embeddings(family: str, tmp_path: Path) -> None:
    whole = theirs(family, "TokenClassification")
    body = whole.base_model
    body.save_pretrained(tmp_path)
    tokens, mask, _ = texts(family)
    with torch.no_grad():
        expected = body(tokens, attention_mask=mask.long()).last_hidden_state
        loaded = encoder_folder.load(tmp_path)
        found = loaded(tokens, mask)
        embedding = encoder_folder.load(tmp_path, head=HeadConfig(task="embedding", pooling="mean"))
        vectors = embedding(tokens, mask).logits
    assert found.logits is None and largest(found.hidden, expected, family) <= 1e-4
    means = torch.stack([row[seen].mean(0) for row, seen in zip(expected, mask, strict=True)])
    assert torch.allclose(vectors, means / means.norm(dim=1, keepdim=True), atol=1e-5)
    encoder_folder.save(tmp_path, embedding)
    again = type(body).from_pretrained(tmp_path).eval()
    with torch.no_grad():
        same = again(tokens, attention_mask=mask.long()).last_hidden_state
    assert largest(same, expected, family) == 0.0


def test_left_padding_moves_no_position_of_roberta(tmp_path: Path) -> None:
    model = theirs("Roberta", "MaskedLM")
    model.save_pretrained(tmp_path)
    tokens = torch.tensor([[3, 3, 0, 9, 8, 2], [0, 9, 8, 2, 3, 3]])
    mask = tokens != 3
    with torch.no_grad():
        expected = model(tokens, attention_mask=mask.long()).logits
        found = encoder_folder.load(tmp_path)(tokens).logits  # its mask is read from the padding token
    assert torch.allclose(found[mask], expected[mask], atol=1e-4)
    assert torch.allclose(found[0, 2:], found[1, :4], atol=1e-5)


def test_a_new_head_on_a_trained_body(tmp_path: Path) -> None:
    model = theirs("Bert", "MaskedLM")
    model.save_pretrained(tmp_path)
    head = HeadConfig(task="sequence", labels=3, transform="tanh", names=("bad", "so", "good"))
    loaded = encoder_folder.load(tmp_path, head=head)
    assert torch.equal(loaded.embedding.weight, model.bert.embeddings.word_embeddings.weight)
    assert not loaded.get_parameter("head.output.weight").any()
    encoder_folder.save(tmp_path, loaded)
    again = transformers.BertForSequenceClassification.from_pretrained(tmp_path)
    assert again.config.id2label == {0: "bad", 1: "so", 2: "good"}
    assert encoder_folder.read_config(tmp_path)[0].head.names == ("bad", "so", "good")


def test_published_sizes() -> None:
    """Parameters of bert-base-uncased, roberta-base and ModernBERT-base with their masked heads."""
    rest = {"width": 768, "layers": 12, "heads": 12, "feed_forward": 3072}
    masked = HeadConfig(task="masked", transform="gelu_norm")
    bert = EncoderConfig(vocabulary=30522, context=512, **rest, head=masked)
    raw = transformers.ModernBertConfig().to_dict()
    with torch.device("meta"):
        assert bert_count(bert) == 109_514_298
        roberta = encoder_folder.roberta.read(
            transformers.RobertaConfig(
                vocab_size=50265, max_position_embeddings=514, type_vocab_size=1
            ).to_dict(),
            "masked",
        )
        assert bert_count(roberta) == 124_697_433
        assert bert_count(encoder_folder.modernbert.read(raw, "masked")) == 149_655_232


def bert_count(config: EncoderConfig) -> int:
    from ingot.models.encoder import Encoder

    return Encoder(config).parameter_count()


def damaged(folder: Path, **changes: Any) -> Path:
    path = folder / "config.json"
    raw = json.loads(path.read_text())
    path.write_text(json.dumps({**raw, **changes}))
    return folder


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = theirs("Bert", "SequenceClassification")
    model.save_pretrained(tmp_path)
    kept = (tmp_path / "config.json").read_text()
    for changes, words in (
        ({"architectures": ["BertForNextSentencePrediction"]}, "not a known encoder"),
        ({"hidden_act": "relu"}, "hidden_act 'relu' is not supported"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "code of its own"),
        ({"hidden_size": 32}, "config.json says"),
        ({"num_attention_heads": 5}, "multiple of heads"),
        ({"num_hidden_layers": 5}, "weights are missing: blocks.4"),
        ({"num_hidden_layers": 3}, "weights of no part: bert.encoder.layer.3"),
    ):
        with pytest.raises(ArtifactError, match=words):
            encoder_folder.load(damaged(tmp_path, **changes))
        (tmp_path / "config.json").write_text(kept)
    weights = load_file(tmp_path / "model.safetensors")
    weights["classifier.bias"][0] = float("nan")
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ArtifactError, match="NaN or infinity"):
        encoder_folder.load(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / "pytorch_model.bin")
    with pytest.raises(ArtifactError, match="pickled: refused"):
        encoder_folder.load(tmp_path)


def test_parts_of_no_family_are_not_saved(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {
        "vocabulary": 9,
        "width": 8,
        "layers": 1,
        "heads": 2,
        "feed_forward": 8,
        "context": 8,
    }
    with pytest.raises(ArtifactError, match=r"what differs: bert .*norm.*; modernbert"):
        encoder_folder.save(tmp_path, EncoderConfig(**sizes, norm="pre").build())
