"""Batches of conversations: what is taught, and that batches depend on seed and step alone."""

from __future__ import annotations

import pytest
import torch

from ingot.data.conversations import Example
from ingot.data.examples import IGNORED, Conversation, ConversationStream, encode_examples, pad
from ingot.errors import DataError
from ingot.tokenizer.chat import encode_chat
from ingot.tokenizer.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(["def area(width, height):\n    return width * height\n" * 20], vocabulary=300)


def example(prompt: str, answer: str) -> Example:
    messages = [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]
    return Example("0", "a.py:1", messages)


def stream(count: int = 41, batch: int = 4, seed: int = 0) -> ConversationStream:
    """Conversation n has 5 + n tokens, all of them n."""
    examples = [Conversation([n] * (5 + n), [False, False] + [True] * (3 + n)) for n in range(count)]
    return ConversationStream(examples, context=256, batch_size=batch, seed=seed, pad_id=99)


def test_exactly_the_answer_and_its_end_are_taught(tokenizer: Tokenizer) -> None:
    answer = "```python\ndef area(width, height):\n    return width * height\n```"
    conversation = encode_examples([example("Write `area`.", answer)], tokenizer, 512, 512)[0]
    batch = pad([conversation], 512, tokenizer.pad_id)
    taught = batch["targets"][0] != IGNORED
    assert tokenizer.decode(batch["targets"][0][taught].tolist()) == answer + "<|im_end|>"
    prompt, _ = encode_chat(
        tokenizer, [{"role": "user", "content": "Write `area`."}], add_generation_prompt=True
    )
    first = int(taught.nonzero()[0])
    # What the model is taught to continue is what it is given when asked: the same tokens.
    assert batch["inputs"][0, : first + 1].tolist() == prompt
    assert batch["inputs"].shape[1] % 64 == 0


def test_inputs_and_targets_are_shifted_by_one() -> None:
    batch = pad([Conversation([1, 2, 3, 4], [False, False, True, True])], 64, 9)
    assert batch["inputs"][0, :4].tolist() == [1, 2, 3, 9]
    assert batch["targets"][0, :4].tolist() == [IGNORED, 3, 4, IGNORED]


def test_what_is_too_long_is_left_out(tokenizer: Tokenizer) -> None:
    examples = [example("a", "b"), example("a" * 300, "b"), example("a", "b" * 300)]
    assert len(encode_examples(examples, tokenizer, context=128, answer_tokens=64)) == 1
    assert len(encode_examples(examples, tokenizer, context=512, answer_tokens=64)) == 2
    assert len(encode_examples(examples, tokenizer, context=512, answer_tokens=512)) == 3


def test_batches_are_pure_in_seed_and_step() -> None:
    one, other = stream(), stream()
    other.batch(37)  # another history
    for step in (0, 3, 9, 10, 25):
        for key, value in one.batch(step).items():
            assert torch.equal(value, other.batch(step)[key])
    assert one.fingerprint == other.fingerprint != stream(seed=1).fingerprint
    assert not torch.equal(one.batch(0)["sample_ids"], stream(seed=1).batch(0)["sample_ids"])


def test_an_epoch_shows_nothing_twice_and_epochs_differ() -> None:
    conversations = stream()
    epochs = [
        torch.cat([conversations.batch(10 * epoch + step)["sample_ids"] for step in range(10)])
        for epoch in range(3)
    ]
    assert all(len(epoch.unique()) == 40 for epoch in epochs)
    assert len(torch.cat(epochs).unique()) == 41  # the one left over is another each time
    assert not torch.equal(epochs[0], epochs[1])


def test_places_are_those_of_the_batch() -> None:
    conversations = stream(count=160, batch=8)
    for step in (0, 7, 33):
        assert conversations.places(step) == conversations.batch(step)["inputs"].numel()


def test_batches_hold_similar_lengths() -> None:
    conversations = stream(count=160, batch=8)
    spreads = [
        int(ids.max() - ids.min()) for ids in (conversations.batch(s)["sample_ids"] for s in range(20))
    ]
    assert sum(spreads) / len(spreads) < 30  # unsorted: about 124


def test_too_few_conversations() -> None:
    with pytest.raises(DataError, match="3 conversations are fewer than a batch of 4"):
        stream(count=3)
