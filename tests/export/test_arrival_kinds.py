"""Encoders, encoder-decoders and linear-time decoders come in, compared with `transformers`, and go out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_stub import Hub, running
from torch import nn

from ingot.artifact import verify
from ingot.bench.published import PUBLISHED, Published, write
from ingot.cli.hub import card_of
from ingot.errors import ArtifactError
from ingot.export import hub as doors
from ingot.export import likeness
from ingot.export.arrival import arrive
from ingot.inference.embedding import Embedder
from ingot.models.kinds import kind_of
from ingot.models.pooling import PoolingConfig, read_pooling, write_pooling
from ingot.record import read

transformers = pytest.importorskip("transformers")

OTHERS = [one for one in PUBLISHED if one.kind != "decoder"]
KINDS = {"encoder": "encoder", "encoder-decoder": "encoder_decoder", "linear": "linear_decoder"}
HEADS = ("Model", "ForSequenceClassification", "ForTokenClassification", "ForQuestionAnswering")


@pytest.mark.parametrize("one", OTHERS, ids=[one.name for one in OTHERS])
def test_every_kind_is_compared_and_recorded(one: Published, tmp_path: Path) -> None:
    write(one, tmp_path / "theirs")
    arrived = arrive(tmp_path / "theirs", tmp_path / "ours", check=True)
    assert arrived.difference is not None and 0 <= arrived.difference <= 1e-3
    record = read(tmp_path / "ours").record
    assert record.kind == KINDS[one.kind] == kind_of(tmp_path / "ours")[0].artifact
    assert record.metrics["difference"] == arrived.difference
    again = arrive(tmp_path / "ours", tmp_path / "short", dtype="bf16", check=True)
    assert again.difference is not None


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", ["Bert", "Roberta", "ModernBert"])
def test_every_head_of_an_encoder_is_compared(family: str, head: str, tmp_path: Path) -> None:
    published = next(one for one in OTHERS if one.model == f"{family}ForMaskedLM")
    base = write(published, tmp_path / "masked")
    model: Any = getattr(transformers, f"{family}{head}")(base.config)
    torch.manual_seed(3)
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=0.5 if parameter.dim() == 1 else 0.0, std=0.2)
    model.save_pretrained(tmp_path / "theirs")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "theirs" / name).write_bytes((tmp_path / "masked" / name).read_bytes())
    arrived = arrive(tmp_path / "theirs", tmp_path / "ours", check=True)
    assert arrived.difference is not None and arrived.difference <= 1e-3


def test_a_weight_that_differs_is_noticed(tmp_path: Path) -> None:
    for one in OTHERS:
        if one.name in ("BERT", "T5") or one.kind == "linear":
            folder = tmp_path / one.model
            write(one, folder / "theirs")
            write(one, folder / "other", spread=0.11)
            arrive(folder / "other", folder / "ours")
            with pytest.raises(ArtifactError, match="logits differ by"):
                likeness.difference(folder / "theirs", folder / "ours", torch.float32)


def test_how_vectors_are_made_comes_along(tmp_path: Path) -> None:
    published = next(one for one in OTHERS if one.name == "BERT")
    base = write(published, tmp_path / "theirs")
    base.bert.save_pretrained(tmp_path / "theirs")
    config = PoolingConfig(pooling="first", normalised=False)
    write_pooling(tmp_path / "theirs", config, 64)
    (tmp_path / "theirs" / "sentence_bert_config.json").write_text('{"max_seq_length": 20}')
    arrive(tmp_path / "theirs", tmp_path / "ours")
    assert read_pooling(tmp_path / "ours") == config
    assert "1_Pooling/config.json" in read(tmp_path / "ours").record.files
    ours, theirs = Embedder(tmp_path / "ours"), Embedder(tmp_path / "theirs")
    assert ours.context == 20
    assert torch.equal(ours.embed([[5, 6, 7]]), theirs.embed([[5, 6, 7]]))


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub that this process talks to, with somebody logged in."""
    import huggingface_hub
    from huggingface_hub import constants

    with running() as server:
        template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        real, token = huggingface_hub.HfApi, server.token
        monkeypatch.setattr(
            huggingface_hub, "HfApi", lambda **given: real(endpoint=server.address, token=token, **given)
        )
        yield server


@pytest.mark.parametrize("model", ["Qwen3ForCausalLM", "BertForMaskedLM", "T5ForConditionalGeneration"])
def test_what_came_in_can_be_pushed_and_pulled_with_its_own_card(
    model: str, hub: Hub, tmp_path: Path
) -> None:
    one = next(one for one in PUBLISHED if one.model == model)
    write(one, tmp_path / "theirs")
    (tmp_path / "theirs" / "README.md").write_text("# As its makers say\n")
    (tmp_path / "theirs" / "LICENSE").write_text("free\n")
    write_pooling(tmp_path / "theirs", PoolingConfig(), 64)
    arrive(tmp_path / "theirs", tmp_path / "ours")
    card = card_of(tmp_path / "ours")
    assert card is None
    doors.push(tmp_path / "ours", "ada/low", card)
    sent = hub.repositories["ada/low"]
    assert sent["README.md"] == b"# As its makers say\n" and sent["LICENSE"] == b"free\n"
    assert "1_Pooling/config.json" in sent
    pulled = doors.pull("ada/low", tmp_path / "again")
    assert verify(pulled.folder) == [] and pulled.left == []
    assert read(pulled.folder).record.kind == kind_of(tmp_path / "theirs")[0].artifact
    del sent["artifact.json"]
    fresh = doors.pull("ada/low", tmp_path / "fresh")
    assert read(fresh.folder).record.kind == kind_of(tmp_path / "theirs")[0].artifact


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("Qwen3ForCausalLM", ("text-generation", "AutoModelForCausalLM", "ingot chat")),
        ("BertForMaskedLM", ("feature-extraction", "BertForMaskedLM.from_pretrained", "ingot embed")),
        ("T5ForConditionalGeneration", ("text2text-generation", "AutoModelForSeq2SeqLM", "ingot generate")),
    ],
)
def test_a_card_names_what_loads_the_model(model: str, words: tuple[str, ...], tmp_path: Path) -> None:
    one = next(one for one in PUBLISHED if one.model == model)
    write(one, tmp_path / "theirs")
    arrive(tmp_path / "theirs", tmp_path / "ours")
    card = card_of(tmp_path / "ours")
    assert card is not None and all(word in card for word in words)
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["architectures"] == [model]
