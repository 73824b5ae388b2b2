"""Prompts, answers through the real engine, outcomes, samples and speed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ingot.data.conversations import mine_code
from ingot.data.document import Document
from ingot.errors import ArtifactError, DataError
from ingot.evaluate.bits_per_byte import Bits
from ingot.evaluate.folder import evaluate_folder
from ingot.evaluate.instruction import answer, chat_prompt, choose, outcomes
from ingot.evaluate.measured import Measured, measure, parameter_count
from ingot.evaluate.samples import choose_samples, table
from ingot.evaluate.speed import decode_tokens_per_second
from ingot.inference.choosing.sampling import Sampling
from ingot.inference.engine import Engine
from ingot.models import huggingface
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.tokenizer.chat import render
from ingot.tokenizer.tokenizer import Tokenizer

CODE = "\n\n".join(
    f'def function_{n}(value, size={n}):\n    """Return value number {n} of size."""\n    return value * {n}'
    for n in range(30)
)
DOCUMENTS = [Document("a", "a.py", CODE, "python"), Document("b", "b.txt", "Some prose. ☃ " * 40, "text")]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([CODE], 360)


@pytest.fixture(scope="module")
def model(tokenizer: Tokenizer) -> Decoder:
    sizes = {"vocabulary": tokenizer.vocab_size, "width": 32, "layers": 2, "heads": 2, "kv_heads": 1}
    config = DecoderConfig(**sizes, head_width=16, feed_forward=64, context=128)
    built = config.build(3)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in built.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return built.eval()


@pytest.fixture
def folder(tmp_path: Path, model: Decoder, tokenizer: Tokenizer) -> Path:
    path = tmp_path / "base@1"
    path.mkdir()
    huggingface.save(path, model)
    tokenizer.save(path)
    return path


def test_prompts_are_chosen_by_seed_and_fit(tokenizer: Tokenizer) -> None:
    every = mine_code(DOCUMENTS)
    assert len(every) == 30
    chosen = choose(DOCUMENTS, tokenizer, most=10, room=100, seed=1)
    assert chosen == choose(DOCUMENTS[:1], tokenizer, most=10, room=100, seed=1)
    assert chosen != choose(DOCUMENTS, tokenizer, most=10, room=100, seed=2)
    assert len({one.id for one in chosen}) == 10
    lengths = [len(chat_prompt(tokenizer, one.prompt).tokens) for one in every]
    assert choose(DOCUMENTS, tokenizer, most=99, room=min(lengths) - 1) == []
    assert len(choose(DOCUMENTS, tokenizer, most=99, room=max(lengths))) == 30


def test_a_prompt_is_the_chat_that_the_template_renders(tokenizer: Tokenizer) -> None:
    prompt = chat_prompt(tokenizer, "Write <|im_end|> it")
    message = [{"role": "user", "content": "Write <|im_end|> it"}]
    assert tokenizer.decode(prompt.tokens) == render(message, add_generation_prompt=True)
    assert prompt.tokens.count(tokenizer.special["<|im_end|>"]) == 1


def test_answers_do_not_depend_on_company(tokenizer: Tokenizer, model: Decoder) -> None:
    prompts = [chat_prompt(tokenizer, one.prompt) for one in choose(DOCUMENTS, tokenizer, 6, 100)]
    for temperature in (0.0, 0.9):
        sampling = Sampling(max_new_tokens=12, temperature=temperature)
        together = answer(Engine(model, tokenizer, slots=6), tokenizer, prompts, sampling)
        alone = [answer(Engine(model, tokenizer, 1), tokenizer, [one], sampling)[0] for one in prompts]
        assert together == alone
    assert len(set(together)) > 1


def test_outcomes_are_judged_in_order() -> None:
    examples = mine_code(DOCUMENTS)[:3]
    found = outcomes(examples, [examples[0].answer, examples[0].answer, "no"])
    assert [one.success for one in found] == [True, False, False]
    assert [one.parses for one in found] == [True, True, False]
    assert [one.prompt for one in found] == [one.id for one in examples]


def test_samples_are_questions_and_beginnings(tokenizer: Tokenizer) -> None:
    examples = choose(DOCUMENTS, tokenizer, 10, 100)
    shown = choose_samples(DOCUMENTS, examples, tokenizer, 100)
    assert [one.text for one in shown[:4]] == [one.prompt for one in examples[:4]]
    assert len(shown) == 5
    assert shown[4].text
    assert any(document.text.startswith(shown[4].text) for document in DOCUMENTS)
    prose = choose_samples(DOCUMENTS[1:] * 7, [], tokenizer, 20)
    assert len(prose) == 5
    assert all(len(one.tokens) <= 20 and one.tokens[0] == tokenizer.bos_id for one in prose)
    lines = "".join(f"Line {n} of a novel.\n" for n in range(300))
    novel = choose_samples([Document("d", "d.txt", lines, "text")], [], tokenizer, 100)
    first = [int(one.text.split()[1]) for one in novel]
    assert first == pytest.approx([0, 60, 120, 180, 240], abs=5)
    assert all(one.text.startswith("Line ") for one in novel)
    headings = Document("c", "c.md", "# One\n\n" + "Words about it. " * 10, "markdown")
    assert choose_samples([headings], [], tokenizer, 100)[0].text == 'Write the section "One" of "One".'
    assert table(shown[:1], {"base": ["x"], "int8": ["y"]}) == [
        {"prompt": shown[0].text, "answers": {"base": "x", "int8": "y"}}
    ]


def test_speed_is_positive_and_fits_the_context(tokenizer: Tokenizer, model: Decoder) -> None:
    assert decode_tokens_per_second(model, tokenizer, tokens=10**6, repeats=1) > 0


def test_measured_survives_being_kept(folder: Path, tokenizer: Tokenizer, tmp_path: Path) -> None:
    examples = choose(DOCUMENTS, tokenizer, 3, 100)
    shown = choose_samples(DOCUMENTS, examples, tokenizer, 100)
    texts = [document.text for document in DOCUMENTS]
    sampling = Sampling(max_new_tokens=8, temperature=0)
    found = measure(folder, texts, examples, shown, sampling=sampling)
    assert (len(found.outcomes), len(found.shown)) == (3, 5)
    found.save(tmp_path / "kept.json")
    again = Measured.load(tmp_path / "kept.json")
    assert again.summary() == found.summary()
    assert (again.outcomes, again.shown) == (found.outcomes, found.shown)
    assert (again.bits.nats == found.bits.nats).all()


def test_a_folder_is_evaluated_on_texts(folder: Path, model: Decoder) -> None:
    found = evaluate_folder(folder, [CODE, "", "prose"])
    size = len(CODE.encode()) + 5
    assert found["heldout"]["documents"] == 2
    assert found["heldout"]["bytes"] == size
    assert 1 < found["bits_per_byte"] < 10
    assert found["bits_per_byte_interval"] is None  # of two documents there is no saying
    assert found["parameters"] == model.parameter_count() == parameter_count(model.config)
    assert "success" not in found
    assert json.loads(json.dumps(found)) == found
    many = evaluate_folder(folder, [f"line {n}\n" * 9 for n in range(6)])
    low, high = many["bits_per_byte_interval"]
    assert low <= many["bits_per_byte"] <= high


def test_nothing_to_read_or_no_model_is_one_line(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no text"):
        evaluate_folder(folder, [""])
    with pytest.raises(ArtifactError):
        evaluate_folder(tmp_path, ["text"])


def test_bits_of_documents_add_up() -> None:
    import numpy as np

    bits = Bits(np.array([np.log(2) * 8, 0.0]), np.array([1, 3]), 2)
    assert bits.bits_per_byte == pytest.approx(2.0)
