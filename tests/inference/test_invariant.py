"""Batch invariance, bit for bit: company, order, chunks, cached beginnings, preemption, guesses."""

import random
import re
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.errors import RequestError
from ingot.inference.choosing.sampling import Sampling
from ingot.inference.computing.invariant import BLOCK, Invariance, TiledRunner, steady_rows
from ingot.inference.computing.native import runner as native_runner
from ingot.inference.computing.pages import PAGE, Layout
from ingot.inference.engine import Engine
from ingot.inference.request import Request
from ingot.models.decoder import Decoder, DecoderConfig

BASE: dict[str, Any] = {
    "vocabulary": 61, "width": 32, "layers": 2, "heads": 4, "kv_heads": 2, "head_width": 8,
    "feed_forward": 48, "context": 400,
}  # fmt: skip
LATENT = {"key_value_rank": 12, "rotary_width": 4, "plain_width": 4, "value_width": 6, "query_rank": 10}
EXPERTS = {"count": 4, "chosen": 2, "width": 24}
KINDS: dict[str, dict[str, Any]] = {
    "grouped": {},
    "one for all": {"kv_heads": 1},
    "window": {"window": 40, "local_layers": [0]},
    "cap": {"score_cap": 5.0},
    "distances": {"positions": "alibi"},
    "sinks": {"sinks": True, "window": 300, "local_layers": [1]},
    "latent": {"latent": LATENT, "kv_heads": 4},
}


class Letters:
    def token_bytes(self, token: int) -> bytes:
        return bytes([97 + token % 26])


def model_of(**changes: Any) -> Decoder:
    built = DecoderConfig.parse(BASE | changes).build(seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in built.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 0.3, generator=generator)
            else:
                parameter.uniform_(0.5, 1.5, generator=generator)
    return built.eval().requires_grad_(False)


MODELS = {kind: model_of(**changes) for kind, changes in KINDS.items()}
TILED = Invariance(compiled=False)


def text_of(length: int, seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(61) for _ in range(length)]


def alone(model: Decoder, invariant: Invariance, prompt: list[int], sampling: Sampling) -> Request:
    engine = Engine(model, Letters(), slots=1, invariant=invariant)
    request = engine.submit(prompt, sampling)
    while request.finish_reason is None:
        engine.step()
    return request


def check_any_schedule(model: Decoder, invariant: Invariance, data: st.DataObject) -> None:
    """Requests join and leave as it comes, with shared beginnings, small chunks and little memory."""
    beginnings = [text_of(length, length) for length in (0, 35, 70, 290)]
    engine = Engine(
        model, Letters(), slots=data.draw(st.integers(1, 5)), invariant=invariant,
        chunk=data.draw(st.sampled_from([1, 33, 64, 512])),
        memory=data.draw(st.integers(13, 40)) * Layout.of(model.config).page_bytes(torch.float32),
    )  # fmt: skip
    requests: list[tuple[Request, list[int], Sampling]] = []
    for i in range(data.draw(st.integers(2, 6))):
        prompt = data.draw(st.sampled_from(beginnings)) + text_of(data.draw(st.integers(1, 20)), seed=i)
        sampling = Sampling(
            temperature=data.draw(st.sampled_from([0, 1])),
            seed=i,
            top_p=data.draw(st.sampled_from([0.9, 1])),
            top_logprobs=data.draw(st.sampled_from([0, 3])),
            max_new_tokens=data.draw(st.integers(1, 12)),
        )
        requests.append((engine.submit(prompt, sampling), prompt, sampling))
        for _ in range(data.draw(st.integers(0, 4))):
            engine.step()
            for entry in engine._schedule.running:
                if len(entry.tokens) - entry.stored == 1 and data.draw(st.booleans()):
                    entry.guesses = text_of(2, seed=len(entry.tokens))[: entry.request.limit - 1]
    while engine.active or engine.waiting:
        engine.step()
    for request, prompt, sampling in requests:
        expected = alone(model, invariant, prompt, sampling)
        assert request.tokens == expected.tokens
        assert request.logprobs == expected.logprobs  # every bit
        assert request.alternatives == expected.alternatives


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=3, deadline=None)
def test_tiles_give_the_same_bytes_in_any_schedule(kind: str, data: st.DataObject) -> None:
    check_any_schedule(MODELS[kind], TILED, data)


@given(data=st.data())
@settings(max_examples=10, deadline=None)
def test_the_default_gives_the_same_bytes_in_any_schedule(data: st.DataObject) -> None:
    check_any_schedule(MODELS["grouped"], Invariance(), data)


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_tiles_compute_what_the_plain_forward_does(kind: str) -> None:
    model = MODELS[kind]
    prompt = text_of(330, seed=3)  # more than one block
    assert len(prompt) > BLOCK * PAGE
    asked = Sampling(temperature=0, max_new_tokens=2, prompt_logprobs=True)
    request = alone(model, TILED, prompt, asked)
    whole = torch.tensor([prompt + request.tokens])
    chances = model(whole).logits[0, :-1].log_softmax(-1).gather(1, whole[0, 1:, None])[:, 0]
    made = torch.tensor([*request.prompt_logprobs[1:], *request.logprobs])
    torch.testing.assert_close(made, chances, atol=2e-4, rtol=1e-4)


def test_experts_are_asked_token_by_token() -> None:
    model = model_of(experts=EXPERTS)
    assert TiledRunner(model, 8).rows == 1
    together = Engine(model, Letters(), slots=3, invariant=TILED)
    prompts = [text_of(length, length) for length in (5, 40, 41)]
    sampling = Sampling(temperature=1, seed=3, max_new_tokens=6)
    requests = [together.submit(prompt, sampling) for prompt in prompts]
    while together.active or together.waiting:
        together.step()
    for request, prompt in zip(requests, prompts, strict=True):
        expected = alone(model, TILED, prompt, sampling)
        assert (request.tokens, request.logprobs) == (expected.tokens, expected.logprobs)


def test_rows_are_halved_until_all_are_computed_alike() -> None:
    class Uneven(torch.nn.Linear):
        """Its last row is another one where there are more than three."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made = super().forward(x)
            made[:, 3:4] *= 1.0001
            return made

    assert steady_rows(torch.nn.Sequential(torch.nn.Linear(8, 8), Uneven(8, 8)), 16) <= 2
    assert steady_rows(torch.nn.Sequential(torch.nn.LayerNorm(8)), 16) == 16


def test_the_compiled_step_is_preferred() -> None:
    model = MODELS["grouped"]
    native = native_runner(model)
    made = Invariance().build(model)
    assert type(made) is (TiledRunner if native is None else type(native))
    assert isinstance(TILED.build(model), TiledRunner)


def test_adapters_are_refused_by_name() -> None:
    engine = Engine(MODELS["grouped"], Letters(), invariant=Invariance())
    with pytest.raises(RequestError, match=re.escape("adapter")):
        engine.submit([1], adapter="mine")
