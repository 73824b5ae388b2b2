"""Programs that other people wrote for OpenAI's interface, unchanged, against our server.

The official client's own shapes are tested in test_openai_client.py; here it runs as many at once.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from servers import Running, running

from ingot.models import huggingface

CONVERSATION = [{"role": "user", "content": "Hello, how are you?"}]
MODEL = "aligned@1"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, folder: Path) -> Path:
    """The tiny model with weights that make some tokens likelier than others."""
    path = tmp_path_factory.mktemp("sharp") / MODEL
    shutil.copytree(folder, path)
    model = huggingface.load(path)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.normal_(std=0.3, generator=generator)
    huggingface.save(path, model)
    return path


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Running]:
    """Serves it in float32, so that its numbers can be compared."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ingot.device.best_dtype", lambda device: torch.float32)
        with running(folder) as started:
            assert next(started.ingot.model.parameters()).dtype == torch.float32
            yield started


def greedy(server: Running, prompt: str | list[dict[str, str]], tokens: int) -> str:
    """What the model itself continues with, found by plain forward passes."""
    ingot = server.ingot
    ids = list(ingot.encode(prompt))
    made: list[int] = []
    while len(made) < tokens:
        best = int(logits_of(server, ids + made)[-1].argmax())
        if best in ingot.stop_ids:
            break
        made.append(best)
    return ingot.tokenizer.decode(made)


def logits_of(server: Running, ids: list[int]) -> torch.Tensor:
    """The model's logits after every token, [t, v]."""
    with torch.inference_mode():
        return server.ingot.model(torch.tensor([ids])).logits[0].float()


@pytest.fixture(scope="module")
def address(server: Running) -> str:
    return f"{server.url}/v1"


def test_the_asynchronous_client_asks_many_things_at_once(address: str) -> None:
    import openai

    async def run() -> None:
        async with openai.AsyncOpenAI(base_url=address, api_key="none", max_retries=0) as client:

            async def whole(seed: int) -> str:
                answer = await client.chat.completions.create(
                    model=MODEL, messages=CONVERSATION, max_tokens=12, seed=seed
                )
                return answer.choices[0].message.content or ""

            async def streamed(seed: int) -> str:
                text = ""
                async for chunk in await client.chat.completions.create(
                    model=MODEL, messages=CONVERSATION, max_tokens=12, seed=seed, stream=True
                ):
                    text += chunk.choices[0].delta.content or ""
                return text

            both = await asyncio.gather(*(one(seed) for seed in range(8) for one in (whole, streamed)))
            assert both[::2] == both[1::2]
            assert len(set(both)) > 4

    asyncio.run(run())


def test_langchain_chats_streams_and_binds_to_a_schema(address: str) -> None:
    chat_models = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
    from pydantic import BaseModel, Field

    class Place(BaseModel):
        """Where something is."""

        row: int = Field(ge=0, le=9)
        name: str = Field(max_length=3)

    chat = chat_models.ChatOpenAI(
        model=MODEL, base_url=address, api_key="none", max_tokens=12, seed=3, temperature=0.7, max_retries=0
    )
    answer = chat.invoke("Hello, how are you?")
    assert answer.content
    assert answer.usage_metadata is not None
    assert answer.usage_metadata["output_tokens"] <= 12
    parts = list(chat.stream("Hello, how are you?"))
    assert "".join(str(part.content) for part in parts) == answer.content
    assert len(parts) > 2
    bound = chat.model_copy(update={"max_tokens": 80}).with_structured_output(Place, method="json_schema")
    place = bound.invoke("Where?")
    assert isinstance(place, Place)
    several = chat.batch(["One", "Two", "Three"])
    assert len({one.id for one in several}) == 3


def test_langchain_completes(address: str, server: Running) -> None:
    models = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
    model = models.OpenAI(model=MODEL, base_url=address, api_key="none", max_tokens=10, temperature=0)
    assert model.invoke("def add") == greedy(server, "def add", 10)


def llm(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Runs the `llm` command with a home of its own."""
    environment = {**os.environ, "LLM_USER_PATH": str(folder)}
    command = [sys.executable, "-m", "llm", *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=300, env=environment, stdin=subprocess.DEVNULL
    )


def test_the_llm_command_line_talks_to_it(address: str, server: Running, tmp_path: Path) -> None:
    pytest.importorskip("llm", reason="llm is not installed")
    entry = f"- model_id: ours\n  model_name: {MODEL}\n  api_base: {address}\n  supports_schema: true\n"
    (tmp_path / "extra-openai-models.yaml").write_text(entry)
    options = ("-m", "ours", "--key", "none", "-o", "max_tokens", "12", "-o", "temperature", "0")
    streamed = llm(tmp_path, "prompt", "Hello", *options)
    assert streamed.returncode == 0, streamed.stderr
    answer = greedy(server, [{"role": "user", "content": "Hello"}], 12)
    assert streamed.stdout == answer + "\n"
    schema = json.dumps(
        {
            "type": "object",
            "properties": {"n": {"enum": [1, 2]}},
            "required": ["n"],
            "additionalProperties": False,
        }
    )
    bound = llm(tmp_path, "prompt", "Hello", *options[:4], "--schema", schema)
    assert bound.returncode == 0, bound.stderr
    assert json.loads(bound.stdout)["n"] in (1, 2)


PAIRS = [
    ("def add(a, b):", "\n    return a + b"),
    ("Hello, how are", " you?"),
    ("Grüße! ", "日本語"),
    ("Hello", " how how how"),
]


@pytest.fixture
def harness(address: str, folder: Path):
    """lm-eval's client of completion servers, which sends token ids."""
    completions = pytest.importorskip("lm_eval.models.openai_completions", reason="lm-eval is not installed")
    return completions.LocalCompletionsAPI(
        model=MODEL,
        base_url=f"{address}/completions",
        tokenizer_backend="huggingface",
        tokenizer=str(folder),
        batch_size=2,
        max_retries=1,
        max_length=512,
    )


def instances(kind: str, arguments: list[tuple[object, ...]]) -> list[object]:
    from lm_eval.api.instance import Instance

    return [Instance(request_type=kind, doc={}, arguments=one, idx=i) for i, one in enumerate(arguments)]


def test_lm_eval_gets_the_loglikelihoods_that_the_model_has_in_process(harness, server: Running) -> None:
    over_http = harness.loglikelihood(instances("loglikelihood", list(PAIRS)))
    for (context, continuation), (total, is_greedy) in zip(PAIRS, over_http, strict=True):
        before, after = harness._encode_pair(context, continuation)  # how it cuts is its own affair
        whole, split = before + after, len(before)
        logprobs = logits_of(server, whole).log_softmax(-1)
        steps = range(split, len(whole))
        expected = sum(float(logprobs[place - 1, whole[place]]) for place in steps)
        assert total == pytest.approx(expected, abs=1e-4)
        assert is_greedy == all(int(logprobs[place - 1].argmax()) == whole[place] for place in steps)


def test_lm_eval_gets_what_its_own_class_computes_in_process(harness, folder: Path) -> None:
    huggingface = pytest.importorskip("lm_eval.models.huggingface", reason="lm-eval is not installed")
    in_process = huggingface.HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=2)
    requests = instances("loglikelihood", list(PAIRS))
    over_http, here = harness.loglikelihood(requests), in_process.loglikelihood(requests)
    assert [one[0] for one in over_http] == pytest.approx([one[0] for one in here], abs=1e-4)
    assert [one[1] for one in over_http] == [one[1] for one in here]
    rolling = instances("loglikelihood_rolling", [("Hello, how are you? Grüße!",)])
    assert math.isclose(
        harness.loglikelihood_rolling(rolling)[0], in_process.loglikelihood_rolling(rolling)[0], abs_tol=1e-3
    )
    until = {"until": ["\n"], "max_gen_toks": 12, "do_sample": False}
    written = instances("generate_until", [("def add", dict(until)), ("Hello", dict(until))])
    assert harness.generate_until(written) == in_process.generate_until(written)
