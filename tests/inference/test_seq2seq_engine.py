"""Requests to encoder-decoders, many at once, and beam search: what `transformers` generates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from ingot.errors import RequestError
from ingot.inference.choosing.sampling import Sampling
from ingot.inference.request import Request
from ingot.inference.rows import row_engine
from ingot.inference.rows import seq2seq as doors
from ingot.inference.rows.seq2seq import banned_tokens, search, seq2seq_engine
from ingot.inference.searching.beams import Beams
from ingot.models import encoder_decoder_folder as folder
from ingot.models.encoder_decoder import EncoderDecoder
from ingot.models.encoder_decoder_writing import write
from ingot.tokenizer import Tokenizer

transformers = pytest.importorskip("transformers")

VOCABULARY = 300
T5: dict[str, Any] = {
    "d_model": 24,
    "d_kv": 5,
    "d_ff": 40,
    "num_layers": 3,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "relative_attention_num_buckets": 12,
    "relative_attention_max_distance": 25,
    "decoder_start_token_id": 0,
    "pad_token_id": 0,
    "eos_token_id": 1,
}
MARIAN: dict[str, Any] = {
    "d_model": 24,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 3,
    "decoder_attention_heads": 3,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "decoder_start_token_id": 0,
    "eos_token_id": 1,
    "forced_eos_token_id": None,
    "scale_embedding": True,
}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "T5": ("T5ForConditionalGeneration", {**T5, "feed_forward_proj": "relu"}),
    "T5 1.1": (
        "T5ForConditionalGeneration",
        {**T5, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    ),
    "Marian": ("MarianMTModel", MARIAN),
}
LENGTHS = [1, 5, 30, 12, 12, 44, 3]
FEW = [5, 30, 12, 1]


def drawn(name: str) -> nn.Module:
    """A model of theirs with weights that are far from where training starts, whose texts do end."""
    kind, sizes = MODELS[name]
    config = getattr(
        transformers, kind.replace("ForConditionalGeneration", "").replace("MTModel", "") + "Config"
    )
    model = getattr(transformers, kind)(config(vocab_size=VOCABULARY, **sizes))
    torch.manual_seed(1)
    if not sizes.get("tie_word_embeddings", True):
        model.lm_head.weight = nn.Parameter(torch.empty_like(model.shared.weight))
    for parameter_name, parameter in model.named_parameters():
        if "embed_positions" in parameter_name:
            continue
        if parameter.dim() == 2:
            nn.init.normal_(parameter, std=0.4)
        else:
            nn.init.normal_(
                parameter, mean=float("norm" in parameter_name and "weight" in parameter_name), std=0.1
            )
    return model.eval()


@pytest.fixture(scope="module", params=MODELS)
def pair(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, EncoderDecoder]:
    """Theirs and ours with the same weights."""
    place = tmp_path_factory.mktemp("model")
    model = drawn(request.param)
    model.save_pretrained(place)
    return model, folder.load(place)


def sources(lengths: list[int] = LENGTHS) -> list[list[int]]:
    random = torch.Generator().manual_seed(3)
    return [torch.randint(2, VOCABULARY, (length,), generator=random).tolist() for length in lengths]


def theirs(model: nn.Module, source: list[int], new: int, **asked: Any) -> Any:
    settings = {"do_sample": False, "num_beams": 1, "max_new_tokens": new, **asked}
    return model.generate(
        torch.tensor([source]), attention_mask=torch.ones(1, len(source)).long(), **settings
    )


@pytest.mark.parametrize("slots", [2, 32])
def test_greedy_texts_are_theirs(
    pair: tuple[nn.Module, EncoderDecoder], slots: int, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_engine, "READ_AT_ONCE", 40)
    hf, model = pair
    engine = seq2seq_engine(model, tokenizer, slots=slots)
    counts = [40, 7, 30, 25, 9, 40, 1]
    asked = [Sampling(max_new_tokens=count, temperature=0) for count in counts]
    made = engine.generate(sources(), asked, stop_ids=[1])
    for source, count, completion in zip(sources(), counts, made, strict=True):
        expected = theirs(hf, source, count)[0, 1:].tolist()
        assert completion.tokens == expected
        assert completion.finish_reason == ("stop" if expected[-1] == 1 else "length")
        assert completion.prompt_tokens == len(source)
    assert len({tuple(one.tokens[:3]) for one in made}) > 1


@pytest.mark.parametrize(("width", "penalty"), [(1, 1.0), (3, 1.0), (4, 0.0), (5, 2.0)])
def test_beams_are_theirs(
    pair: tuple[nn.Module, EncoderDecoder], width: int, penalty: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "READ_AT_ONCE", 300)
    hf, model = pair
    found = search(model, sources(FEW), width, 16, length_penalty=penalty)
    for source, ours in zip(sources(FEW), found, strict=True):
        asked = {"num_beams": width, "num_return_sequences": width, "length_penalty": penalty}
        told = theirs(hf, source, 16, **asked, return_dict_in_generate=True, output_scores=True)
        if width == 1:
            assert ours[0].tokens == told.sequences[0, 1:].tolist()
            continue
        assert [one.tokens for one in ours] == [_cut(row[1:].tolist()) for row in told.sequences]
        assert [one.score for one in ours] == pytest.approx(told.sequences_scores.tolist(), abs=1e-4)


def _cut(tokens: list[int]) -> list[int]:
    """Without the padding behind the end."""
    return tokens[: tokens.index(1) + 1] if 1 in tokens else tokens


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("sxc"), st.integers(1, 40), st.integers(1, 9)), max_size=25))
def test_whatever_comes_and_goes_texts_are_the_same(
    pair: tuple[nn.Module, EncoderDecoder], tokenizer: Tokenizer, events: list[tuple[str, int, int]]
) -> None:
    _, model = pair
    engine = seq2seq_engine(model, tokenizer, slots=3)
    asked: list[Request] = []
    for kind, length, count in events:
        if kind == "s":
            sampling = Sampling(max_new_tokens=count, temperature=0)
            asked.append(engine.submit(sources([length])[0], sampling, [1]))
        elif kind == "x":
            engine.step()
        elif asked:
            engine.cancel(asked[length % len(asked)])
    while engine.active or engine.waiting:
        engine.step()
    for request in asked:
        alone = write(model, torch.tensor([request.prompt]), 9, torch.ones(1, len(request.prompt)).bool())
        assert request.finish_reason in ("stop", "length", "cancelled")
        assert request.tokens == alone[0, : len(request.tokens)].tolist()


def test_seeds_decide_and_equal_sources_are_read_once(
    pair: tuple[nn.Module, EncoderDecoder], tokenizer: Tokenizer
) -> None:
    engine = seq2seq_engine(pair[1], tokenizer)
    source = sources([20])[0]
    seeds = [Sampling(max_new_tokens=8, temperature=1.0, seed=seed) for seed in (1, 2, 1, 3)]
    together = [one.tokens for one in engine.generate([source] * 4, seeds)]
    assert together[0] == together[2] and together[0] != together[1]
    assert [engine.generate([source], one)[0].tokens for one in seeds] == together


def test_what_is_too_long_is_refused(pair: tuple[nn.Module, EncoderDecoder], tokenizer: Tokenizer) -> None:
    model = pair[1]
    engine, most = seq2seq_engine(model, tokenizer), model.config.context
    assert engine.submit([5] * most).limit == min(256, most)
    with pytest.raises(RequestError, match=rf"{most + 1} tokens.*{most}"):
        engine.submit([5] * (most + 1))
    with pytest.raises(RequestError, match=rf"{most + 1} tokens.*{most}"):
        search(model, [[5]], 2, most + 1)
    with pytest.raises(RequestError, match="no tokens"):
        search(model, [[5], []], 2, 4)
    with pytest.raises(RequestError, match=r"0 beams.*1 to 64"):
        search(model, [[5]], 0, 4)
    with pytest.raises(RequestError, match="limit of 0"):
        Beams(2, 0)
    assert search(model, [], 2, 4) == []


def test_forbidden_tokens_are_never_written(tmp_path: Path, tokenizer: Tokenizer) -> None:
    hf = drawn("Marian")
    hf.generation_config.bad_words_ids = [[0], [4], [7, 8]]
    hf.save_pretrained(tmp_path)
    model, banned = folder.load(tmp_path), banned_tokens(tmp_path)
    assert banned == {0, 4}
    plain = seq2seq_engine(model, tokenizer).generate(
        [sources()[3]], Sampling(max_new_tokens=9, temperature=0)
    )
    (tmp_path / "generation_config.json").write_text(json.dumps({"bad_words_ids": [[plain[0].tokens[2]]]}))
    banned = banned_tokens(tmp_path)
    asked = Sampling(max_new_tokens=9, temperature=0)
    other = seq2seq_engine(model, tokenizer, banned=banned).generate([sources()[3]], asked)
    assert other[0].tokens != plain[0].tokens and not banned & set(other[0].tokens)
    assert (
        other[0].tokens
        == theirs(hf, sources()[3], 9, bad_words_ids=[[one] for one in banned])[0, 1:].tolist()
    )
    found = search(model, [sources()[3]], 3, 9, banned=banned)[0]
    assert all(not banned & set(one.tokens) for one in found)
