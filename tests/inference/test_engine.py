"""The engine against transformers, against full passes without a cache, and against itself alone."""

import random

import pytest
import torch

from ingot.errors import ArtifactError, RequestError
from ingot.inference.choosing.sampling import Sampling
from ingot.inference.engine import Engine
from ingot.models import huggingface
from ingot.models.decoder import Decoder

GREEDY = Sampling(temperature=0, max_new_tokens=24)


def prompts_of(lengths: list[int], vocabulary: int, seed: int = 0) -> list[list[int]]:
    rng = random.Random(seed)
    return [[rng.randrange(vocabulary) for _ in range(length)] for length in lengths]


def test_greedy_equals_transformers(model: Decoder, engine: Engine, tmp_path) -> None:
    transformers = pytest.importorskip("transformers")
    huggingface.save(tmp_path, model)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    prompts = prompts_of([1, 3, 40, 63, 64, 65, 100], model.config.vocabulary)
    ours = engine.generate(prompts, GREEDY)
    for prompt, completion in zip(prompts, ours, strict=True):
        tokens = torch.tensor([prompt])
        mask = torch.ones_like(tokens)  # without it they take token 0 for padding
        expected = theirs.generate(
            tokens, attention_mask=mask, do_sample=False, max_new_tokens=24, eos_token_id=None, pad_token_id=0
        )
        assert completion.tokens == expected[0, len(prompt) :].tolist()
        assert completion.finish_reason == "length"


def test_logprobs_are_those_of_a_full_pass_at_temperature_one(model: Decoder, engine: Engine) -> None:
    prompts = prompts_of([5, 30, 62], model.config.vocabulary)
    sampling = Sampling(temperature=0.7, top_k=20, top_p=0.9, seed=3, max_new_tokens=40)
    for prompt, completion in zip(prompts, engine.generate(prompts, sampling), strict=True):
        whole = torch.tensor([prompt + completion.tokens])
        with torch.inference_mode():
            logprobs = model(whole).logits[0].log_softmax(-1)
        expected = logprobs[len(prompt) - 1 : -1].gather(1, whole[0, len(prompt) :, None])[:, 0]
        torch.testing.assert_close(torch.tensor(completion.logprobs), expected, atol=2e-4, rtol=1e-4)


def test_a_request_does_not_depend_on_its_company(model: Decoder, tokenizer) -> None:
    """Ragged prompts, more of them than slots, several ending at different times."""
    prompts = prompts_of([2, 90, 17, 64, 5, 5, 33, 128, 1], model.config.vocabulary, seed=5)
    prompts[5] = prompts[4]  # the same prompt twice is read once
    choices = [
        Sampling(temperature=t, top_k=k, top_p=p, seed=i, max_new_tokens=8 + 7 * i)
        for i, (t, k, p) in enumerate([(0, 0, 1), (1, 0, 1), (0.8, 5, 1), (1.2, 0, 0.8), (0.6, 30, 0.9)] * 2)
    ][: len(prompts)]
    together = Engine(model, tokenizer, slots=4).generate(prompts, choices)
    for prompt, sampling, completion in zip(prompts, choices, together, strict=True):
        alone = Engine(model, tokenizer, slots=1).generate([prompt], sampling)[0]
        assert completion.tokens == alone.tokens
        assert completion.text == alone.text
        assert completion.logprobs == pytest.approx(alone.logprobs, abs=1e-4)


def test_what_an_engine_did_before_changes_nothing(model: Decoder, tokenizer) -> None:
    """Bit for bit: a resumed alignment run has a fresh engine, and must go on as if never stopped."""
    prompts = prompts_of([30, 7, 64, 64], model.config.vocabulary, seed=8)
    sampling = Sampling(temperature=1, seed=5, max_new_tokens=30)
    used = Engine(model, tokenizer, slots=4)
    used.generate(prompts_of([150, 3, 90, 20, 61], model.config.vocabulary), Sampling(max_new_tokens=40))
    for mine, other in zip(
        used.generate(prompts, sampling),
        Engine(model, tokenizer, slots=4).generate(prompts, sampling),
        strict=True,
    ):
        assert mine.tokens == other.tokens
        assert mine.logprobs == other.logprobs


def test_seeds_decide(engine: Engine) -> None:
    def text(seed: int | None) -> str:
        return engine.generate([[1, 2, 3]], Sampling(temperature=1, seed=seed, max_new_tokens=30))[0].text

    assert text(1) == text(1)
    assert len({text(seed) for seed in range(4)}) == 4
    assert text(None) != text(None)


def test_equal_prompts_are_read_once_but_sampled_apart(model: Decoder, tokenizer) -> None:
    read: list[int] = []
    hook = model.embedding.register_forward_hook(lambda module, inputs, output: read.append(len(inputs[0])))
    try:
        choices = [Sampling(temperature=1, seed=seed, max_new_tokens=1) for seed in range(8)]
        completions = Engine(model, tokenizer, slots=8).generate([[7, 8, 9]] * 8, choices)
    finally:
        hook.remove()
    assert read == [1]
    assert len({completion.tokens[0] for completion in completions}) > 1


def test_stop_tokens_end_the_answer_and_are_kept_as_tokens(engine: Engine) -> None:
    free = engine.generate([[1, 2]], GREEDY)[0]
    stop = free.tokens[5]
    first = free.tokens.index(stop)
    stopped = engine.generate([[1, 2]], GREEDY, stop_ids=[stop])[0]
    assert stopped.finish_reason == "stop"
    assert stopped.tokens == free.tokens[: first + 1]
    assert stopped.text == engine.tokenizer.decode(free.tokens[:first])


def test_stop_texts_are_found_across_tokens_and_cut(engine: Engine) -> None:
    free = engine.generate([[1, 2]], GREEDY)[0]
    stop = free.text[6:9]
    at = free.text.index(stop)
    stopped = engine.generate([[1, 2]], GREEDY.model_copy(update={"stop": (stop,)}))[0]
    assert stopped.finish_reason == "stop"
    assert stopped.text == free.text[:at]
    assert len(stopped.tokens) < len(free.tokens)


def test_streamed_pieces_make_the_same_text(engine: Engine) -> None:
    sampling = Sampling(temperature=1.5, seed=11, max_new_tokens=60)
    pieces = list(engine.stream([4, 5, 6], sampling))
    assert len(pieces) > 10
    assert "".join(pieces) == engine.generate([[4, 5, 6]], sampling)[0].text


def test_the_context_ends_an_answer(engine: Engine) -> None:
    completion = engine.generate([[3] * 150], Sampling(temperature=0, max_new_tokens=500))[0]
    assert completion.finish_reason == "length"
    assert len(completion.tokens) == engine.context - 150


@pytest.mark.parametrize("length", [160, 161, 5000])
def test_a_prompt_that_fills_the_context_is_refused_with_both_numbers(engine: Engine, length: int) -> None:
    with pytest.raises(RequestError, match=rf"{length} tokens.*160"):
        engine.generate([[1], [1] * length], GREEDY)
    assert not engine.waiting
    assert not engine.active


def test_an_empty_prompt_is_refused(engine: Engine) -> None:
    with pytest.raises(RequestError, match="no tokens"):
        engine.submit([])


def test_cancelling_frees_the_row_and_leaves_the_others_alone(engine: Engine) -> None:
    prompts = prompts_of([10, 20, 30, 40, 50], engine.model.config.vocabulary)
    expected = [completion.tokens for completion in engine.generate(prompts, GREEDY)]
    requests = [engine.submit(prompt, GREEDY) for prompt in prompts]
    while len(requests[1].tokens) < 5:
        engine.step()
    engine.cancel(requests[1])  # active
    engine.cancel(requests[4])  # waiting
    assert requests[1].finish_reason == requests[4].finish_reason == "cancelled"
    while engine.active or engine.waiting:
        engine.step()
    for i in (0, 2, 3):
        assert requests[i].tokens == expected[i]
    assert requests[1].tokens == expected[1][: len(requests[1].tokens)]


def test_closing_a_stream_cancels_it(engine: Engine) -> None:
    stream = engine.stream([1, 2, 3], GREEDY)
    next(stream)
    stream.close()
    assert not engine.active


def test_many_requests_all_finish_in_order(engine: Engine) -> None:
    prompts = prompts_of([random.Random(i).randrange(1, 100) for i in range(40)], 300, seed=9)
    choices = [Sampling(temperature=0, max_new_tokens=1 + i % 9) for i in range(40)]
    completions = engine.generate(prompts, choices)
    assert [len(completion.tokens) for completion in completions] == [1 + i % 9 for i in range(40)]
    assert [completion.prompt_tokens for completion in completions] == [len(prompt) for prompt in prompts]
    assert not engine.active


def test_bfloat16_works_and_follows_float32(model: Decoder, tokenizer) -> None:
    config = model.config
    half = Decoder(config).eval()
    half.load_state_dict(model.state_dict())
    half = half.to(torch.bfloat16)
    completion = Engine(half, tokenizer).generate([[1, 2, 3]], Sampling(temperature=0, max_new_tokens=20))[0]
    whole = torch.tensor([[1, 2, 3, *completion.tokens]])
    with torch.inference_mode():
        logprobs = model(whole).logits[0].log_softmax(-1)
    expected = logprobs[2:-1].gather(1, whole[0, 3:, None])[:, 0]
    torch.testing.assert_close(torch.tensor(completion.logprobs), expected, atol=0.5, rtol=0)


def test_a_broken_model_says_so_and_the_engine_can_go_on(model: Decoder, tokenizer) -> None:
    broken = Decoder(model.config).eval()
    broken.load_state_dict(model.state_dict())
    engine = Engine(broken, tokenizer)
    with torch.no_grad():
        broken.head.weight.fill_(float("nan"))
    with pytest.raises(ArtifactError, match="finite"):
        engine.generate([[1, 2]], GREEDY)
    with torch.no_grad():
        broken.head.weight.copy_(model.head.weight)
    assert len(engine.generate([[1, 2]], GREEDY)[0].tokens) == 24
