"""Several adapters in one engine: each request as if it were alone with its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from ingot.compress import quantize
from ingot.errors import RequestError
from ingot.inference.choosing.sampling import Sampling
from ingot.inference.computing.paged_attention import TorchRunner
from ingot.inference.computing.pages import Pages
from ingot.inference.computing.passes import Pass
from ingot.inference.engine import Engine
from ingot.inference.guessing.prompt_lookup import PromptLookup
from ingot.models import huggingface
from ingot.models.decoder import Decoder
from ingot.tokenizer import Tokenizer

PROMPT = list(range(40))
ALL = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def written(folder: Path, model: Decoder, seed: int, rank: int = 4, targets: tuple[str, ...] = ALL) -> Path:
    """An adapter's folder with random factors, as PEFT lays it out."""
    generator = torch.Generator().manual_seed(seed)
    factors = {}
    for name, weight in model.named_parameters():
        theirs = huggingface.weight_names(model.config).get(name, "").removesuffix(".weight")
        if theirs.endswith(targets):
            for side, shape in (("A", (rank, weight.shape[1])), ("B", (weight.shape[0], rank))):
                factors[f"base_model.model.{theirs}.lora_{side}.weight"] = (
                    torch.randn(shape, generator=generator) * 0.15
                )
    folder.mkdir()
    save_file(factors, folder / "adapter_model.safetensors")
    keys = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": list(targets)}
    (folder / "adapter_config.json").write_text(json.dumps(keys))
    return folder


def merged(model: Decoder, engine: Engine, name: str) -> Decoder:
    """The model that an adapter stands for, with weights of its own."""
    whole = Decoder(model.config).eval()
    whole.load_state_dict(model.state_dict())
    with torch.no_grad():
        for module, change in engine.adapters[name].changes.items():
            whole.get_submodule(module).get_parameter("weight").add_(change.dense())
    return whole


@pytest.fixture
def folders(model: Decoder, tmp_path: Path) -> dict[str, Path]:
    return {
        "a": written(tmp_path / "a", model, seed=1),
        "b": written(tmp_path / "b", model, seed=2, rank=7, targets=("q_proj", "down_proj")),
        "c": written(tmp_path / "c", model, seed=3, rank=1),
    }


@pytest.fixture
def loaded(model: Decoder, tokenizer: Tokenizer, folders: dict[str, Path]):
    engine = Engine(model, tokenizer, slots=6)
    for name, folder in folders.items():
        engine.load_adapter(name, folder)
    yield engine
    engine.reset()
    for name in list(engine.adapters):
        engine.drop_adapter(name)


def run(engine: Engine) -> None:
    while engine.active or engine.waiting:
        engine.step()


def test_a_mixed_batch_equals_merged_models_alone(
    model: Decoder, tokenizer: Tokenizer, loaded: Engine
) -> None:
    names = [None, "a", "b", None, "a", "c", "b", "a", None, "c"]
    prompts = [PROMPT[: 5 + 4 * i] for i in range(10)]
    choices = [Sampling(temperature=i % 3 / 2, seed=i, max_new_tokens=12 + i) for i in range(10)]
    requests = [
        loaded.submit(prompt, sampling, adapter=name)
        for prompt, sampling, name in zip(prompts, choices, names, strict=True)
    ]
    run(loaded)
    alone = {name: Engine(merged(model, loaded, name), tokenizer, slots=1) for name in ("a", "b", "c")}
    for request, prompt, sampling, name in zip(requests, prompts, choices, names, strict=True):
        engine = alone[name] if name else Engine(model, tokenizer, slots=1)
        expected = engine.generate([prompt], sampling)[0]
        assert request.tokens == expected.tokens
        assert request.logprobs == pytest.approx(expected.logprobs, abs=1e-3)


def test_prefixes_are_each_adapters_own(model: Decoder, tokenizer: Tokenizer, loaded: Engine) -> None:
    """The same long prompt: pages that another adapter computed must not be read."""
    prompt = PROMPT * 2
    greedy = Sampling(temperature=0, max_new_tokens=8)
    for name in ("a", None, "b", "a", None):
        request = loaded.submit(prompt, greedy, adapter=name)
        run(loaded)
        whole = merged(model, loaded, name) if name else model
        assert request.tokens == Engine(whole, tokenizer).generate([prompt], greedy)[0].tokens
    assert loaded.usage().prefix_hits == 2 * 64


def test_another_adapter_of_the_same_name(model: Decoder, tokenizer: Tokenizer, folders) -> None:
    engine = Engine(model, tokenizer)
    prompt, greedy = PROMPT * 2, Sampling(temperature=0, max_new_tokens=8)
    made = []
    for folder in (folders["a"], folders["b"]):
        engine.load_adapter("x", folder)
        request = engine.submit(prompt, greedy, adapter="x")
        run(engine)
        made.append(request.tokens)
        assert (
            request.tokens
            == Engine(merged(model, engine, "x"), tokenizer).generate([prompt], greedy)[0].tokens
        )
        engine.drop_adapter("x")
    assert made[0] != made[1]


def test_loaded_and_dropped_while_others_run(model: Decoder, tokenizer: Tokenizer, folders) -> None:
    engine = Engine(model, tokenizer)
    greedy = Sampling(temperature=0, max_new_tokens=30)
    expected = engine.generate([PROMPT], greedy)[0].tokens
    base = engine.submit(PROMPT, greedy)
    for _ in range(5):
        engine.step()
    engine.load_adapter("a", folders["a"])
    adapted = engine.submit(PROMPT, greedy, adapter="a")
    for _ in range(5):
        engine.step()
    with pytest.raises(RequestError, match="'a' is used by 1 of"):
        engine.drop_adapter("a")
    engine.cancel(adapted)
    assert len(adapted.tokens) > 2
    engine.drop_adapter("a")
    run(engine)
    assert base.tokens == expected
    with pytest.raises(RequestError, match="no adapter 'a'"):
        engine.submit(PROMPT, greedy, adapter="a")
    with pytest.raises(RequestError, match="no adapter 'a'"):
        engine.drop_adapter("a")
    assert not any(module._forward_hooks for module in model.modules())


class Ignorant:
    """A runner that knows no adapters, and notes what it was given."""

    def __init__(self, model: Decoder) -> None:
        self.inner = TorchRunner(model)
        self.tokens: list[int] = []

    def __call__(self, pass_: Pass, pages: Pages) -> torch.Tensor:
        self.tokens += pass_.tokens.tolist()
        return self.inner(pass_, pages)


def test_a_runner_without_adapters_gets_the_others(model: Decoder, tokenizer: Tokenizer, folders) -> None:
    runner = Ignorant(model)
    engine = Engine(model, tokenizer, runner=runner)
    engine.load_adapter("a", folders["a"])
    greedy = Sampling(temperature=0, max_new_tokens=10)
    mine, other = engine.submit([250, 251, 252], greedy, adapter="a"), engine.submit([1, 2, 3], greedy)
    run(engine)
    assert runner.tokens == [1, 2, 3, *other.tokens[:-1]]
    assert other.tokens == Engine(model, tokenizer).generate([[1, 2, 3]], greedy)[0].tokens
    whole = merged(model, engine, "a")
    assert mine.tokens == Engine(whole, tokenizer).generate([[250, 251, 252]], greedy)[0].tokens
    engine.drop_adapter("a")


def test_guesses_and_adapters_together(model: Decoder, tokenizer: Tokenizer, folders) -> None:
    engine = Engine(model, tokenizer, speculate=PromptLookup(shortest=1, free_rows=100))
    engine.load_adapter("a", folders["a"])
    greedy = Sampling(temperature=0, max_new_tokens=30)
    prompts = [[7, 8, 9] * 5, [4, 5] * 6]
    requests = [engine.submit(p, greedy, adapter=name) for p in prompts for name in ("a", None)]
    run(engine)
    whole = merged(model, engine, "a")
    for i, prompt in enumerate(prompts):
        expected = [Engine(one, tokenizer).generate([prompt], greedy)[0].tokens for one in (whole, model)]
        assert [one.tokens for one in requests[2 * i : 2 * i + 2]] == expected
    assert engine.usage().drafted > 0
    engine.drop_adapter("a")


def test_bf16_and_int8_bases(model: Decoder, tokenizer: Tokenizer, folders) -> None:
    """Adapters take the base's number type; on an int8 base they stay exact."""
    half = Decoder(model.config).eval()
    half.load_state_dict(model.state_dict())
    half = half.to(torch.bfloat16)
    for base in (half, quantize(model)):
        engine = Engine(base, tokenizer)
        engine.load_adapter("a", folders["a"])
        change = engine.adapters["a"].changes["blocks.0.attention.query"]
        assert change.up.dtype == base.norm.get_parameter("weight").dtype
        request = engine.submit(PROMPT, Sampling(temperature=0, max_new_tokens=6), adapter="a")
        plain = engine.submit(PROMPT, Sampling(temperature=0, max_new_tokens=6))
        run(engine)
        whole = torch.tensor([PROMPT + request.tokens])
        with torch.inference_mode():
            logprobs = merged(model, engine, "a")(whole).logits[0].log_softmax(-1)
        expected = logprobs[len(PROMPT) - 1 : -1].gather(1, whole[0, len(PROMPT) :, None])[:, 0]
        torch.testing.assert_close(torch.tensor(request.logprobs), expected, atol=0.6, rtol=0)
        assert plain.logprobs != request.logprobs
