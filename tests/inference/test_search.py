"""Searches against transformers (beams), their definition (contrastive) and sampling (best of n)."""

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.errors import RequestError
from ingot.inference.choosing.sampling import Sampling
from ingot.inference.engine import Engine
from ingot.inference.searching.branches import Branches
from ingot.inference.searching.search import beam_search, best_of, contrastive_search
from ingot.models import huggingface
from ingot.models.decoder import Decoder


def prompt_of(length: int, vocabulary: int, seed: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.randrange(vocabulary) for _ in range(length)]


@pytest.fixture(scope="module")
def theirs(model: Decoder, tmp_path_factory: pytest.TempPathFactory):
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("model")
    huggingface.save(folder, model)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.mark.parametrize("beams", [2, 5])
@pytest.mark.parametrize("length_penalty", [1.0, 0.0, -0.5])
@pytest.mark.parametrize("stops", [0, 1, 12])
def test_beams_are_those_of_transformers(
    model: Decoder, theirs, beams: int, length_penalty: float, stops: int
) -> None:
    """With twelve stop tokens answers end at many lengths; with none, only where the budget does."""
    for seed, length in enumerate([1, 31, 40]):
        prompt = prompt_of(length, model.config.vocabulary, seed)
        stop_ids = list(range(20, 20 + stops))
        tokens = torch.tensor([prompt])
        expected = theirs.generate(
            tokens,
            attention_mask=torch.ones_like(tokens),
            num_beams=beams,
            num_return_sequences=beams,
            do_sample=False,
            max_new_tokens=12,
            length_penalty=length_penalty,
            eos_token_id=stop_ids or None,
            pad_token_id=0,
            return_dict_in_generate=True,
            output_scores=True,
        )
        found = beam_search(model, prompt, beams, 12, stop_ids, length_penalty)
        assert len(found) == beams
        for ours, row, score in zip(found, expected.sequences, expected.sequences_scores, strict=True):
            row = row[len(prompt) :].tolist()
            assert ours.tokens == row[: len(ours.tokens)]
            assert set(row[len(ours.tokens) :]) <= {0, 20}  # how they fill up
            assert math.isclose(ours.score, score.item(), abs_tol=1e-4)
            assert (ours.tokens[-1] in stop_ids) == (ours.finish_reason == "stop")


def test_one_beam_is_greedy(model: Decoder, engine: Engine) -> None:
    prompt = prompt_of(20, model.config.vocabulary, 3)
    [greedy] = engine.generate([prompt], Sampling(temperature=0, max_new_tokens=15))
    [found] = beam_search(model, prompt, beams=1, max_new_tokens=15)
    assert found.tokens == greedy.tokens
    assert math.isclose(found.score * 15, sum(greedy.logprobs), abs_tol=1e-3)


def test_a_whole_set_of_beams_is_the_whole_set_of_answers(model: Decoder) -> None:
    """As many beams as there are answers of two tokens from a tiny vocabulary: nothing can be missed."""
    config = model.config.model_copy(update={"vocabulary": 6})
    small = config.build(seed=5).eval()
    with torch.no_grad():
        for parameter in small.parameters():
            parameter.normal_(0, 0.5, generator=torch.Generator().manual_seed(6))
        first = small(torch.tensor([[1, 2]])).logits[0, -1].log_softmax(-1)
        second = small(torch.tensor([[1, 2, token] for token in range(6)])).logits[:, -1].log_softmax(-1)
    expected = sorted(((first[a] + second[a, b]).item(), [a, b]) for a in range(6) for b in range(6))[::-1]
    found = beam_search(small, [1, 2], beams=36, max_new_tokens=2, length_penalty=0)
    assert [one.tokens for one in found] == [tokens for _, tokens in expected]
    assert all(
        math.isclose(one.score, score, abs_tol=1e-4) for one, (score, _) in zip(found, expected, strict=True)
    )


def contrastive_by_hand(
    model: Decoder, prompt: list[int], k: int, alpha: float, count: int, stops: list[int]
) -> list[int]:
    """The published formula, every candidate with a whole pass of its own."""
    text = list(prompt)
    while len(text) < len(prompt) + count:
        probabilities = model(torch.tensor([text])).logits[0, -1].softmax(-1)
        values = {}
        for token in probabilities.topk(k).indices.tolist():
            hidden = model(torch.tensor([[*text, token]])).hidden[0]
            cosine = torch.nn.functional.cosine_similarity(hidden[-1:], hidden[:-1])
            values[token] = (1 - alpha) * probabilities[token] - alpha * cosine.max()
        text.append(max(values, key=lambda token: values[token]))
        if text[-1] in stops:
            break
    return text[len(prompt) :]


@pytest.mark.parametrize(("k", "alpha"), [(4, 0.6), (6, 0.9), (3, 0.0), (1, 0.5)])
def test_contrastive_search_follows_its_formula(model: Decoder, k: int, alpha: float) -> None:
    for seed, length in enumerate([1, 30, 33]):
        prompt = prompt_of(length, model.config.vocabulary, seed)
        with torch.inference_mode():
            expected = contrastive_by_hand(model, prompt, k, alpha, 8, [])
        found = contrastive_search(model, prompt, k, alpha, 8)
        assert found.tokens == expected
        assert found.finish_reason == "length"
        stop = expected[3]
        cut = contrastive_search(model, prompt, k, alpha, 8, [stop])
        assert cut.tokens == expected[: expected.index(stop) + 1]
        assert cut.finish_reason == "stop"


def test_a_penalty_of_nothing_is_greedy(model: Decoder, engine: Engine) -> None:
    prompt = prompt_of(9, model.config.vocabulary, 8)
    [greedy] = engine.generate([prompt], Sampling(temperature=0, max_new_tokens=10))
    found = contrastive_search(model, prompt, penalty=0, max_new_tokens=10)
    assert found.tokens == greedy.tokens
    assert math.isclose(found.score, sum(greedy.logprobs), abs_tol=1e-3)


def test_the_best_of_several_samples_comes_first(model: Decoder, engine: Engine) -> None:
    prompt = prompt_of(6, model.config.vocabulary, 1)
    sampling = Sampling(temperature=1.5, seed=2**63 - 2, max_new_tokens=10)
    found = best_of(engine, prompt, 5, sampling)
    means = [sum(one.logprobs) / len(one.logprobs) for one in found]
    assert means == sorted(means, reverse=True)
    assert len({tuple(one.tokens) for one in found}) == 5
    alone = [
        engine.generate([prompt], sampling.model_copy(update={"seed": seed}))[0].tokens
        for seed in (2**63 - 2, 2**63 - 1, -(2**63), -(2**63) + 1, -(2**63) + 2)
    ]
    assert sorted(alone) == sorted(one.tokens for one in found)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), min_size=1, max_size=8), st.integers(1, 70)
)
def test_branches_are_what_whole_passes_say(model: Decoder, forks: list[list[int]], length: int) -> None:
    """Random forks: every branch's last state equals that of its text read in one piece; no page is lost."""
    prompt = prompt_of(length, model.config.vocabulary, 0)
    rng = random.Random(1)
    with torch.inference_mode():
        branches = Branches(model, prompt, 20, 4)
        branches.read([prompt])
        texts = [prompt]
        for parents in forks:
            parents = [parent % len(texts) for parent in parents]
            branches.fork(parents)
            new = [[rng.randrange(model.config.vocabulary)] for _ in parents]
            texts = [texts[parent] + token for parent, token in zip(parents, new, strict=True)]
            hidden = branches.read(new)[:, -1]
        expected = torch.stack([model(torch.tensor([text])).hidden[0, -1] for text in texts])
    torch.testing.assert_close(hidden, expected, atol=2e-4, rtol=1e-3)
    tables = {page for table in branches._tables for page in table}
    assert branches._pages.used == len(tables)


def test_what_cannot_be_searched_is_refused(model: Decoder, engine: Engine) -> None:
    with pytest.raises(RequestError, match="beams is 0"):
        beam_search(model, [1], beams=0)
    with pytest.raises(RequestError, match="beams is 65"):
        beam_search(model, [1], beams=65)
    with pytest.raises(RequestError, match="has 0 tokens"):
        beam_search(model, [])
    with pytest.raises(RequestError, match=r"160 tokens, the model's context is 160"):
        contrastive_search(model, [1] * 160)
    with pytest.raises(RequestError, match="penalty is 2"):
        contrastive_search(model, [1], penalty=2)
    with pytest.raises(RequestError, match="best_of is 0"):
        best_of(engine, [1], 0)


def test_the_context_ends_a_search(model: Decoder) -> None:
    prompt = [1] * 157
    assert {len(one.tokens) for one in beam_search(model, prompt, 3, 50)} == {3}
    assert len(contrastive_search(model, prompt, 3, max_new_tokens=50).tokens) == 3
