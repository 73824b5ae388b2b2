"""The cache grows as it is needed, and what it holds survives growing and moving."""

import torch

from ingot.inference.cache import PLACES, Cache, Prefill, Step


def test_memory_is_taken_as_needed_and_kept_within_its_bounds() -> None:
    cache = Cache(rows=8, context=300)
    like = torch.zeros(1, 2, 1, 4)
    assert cache.bytes() == 0
    for rows, places, expected in [
        (1, 10, (1, 64)),
        (2, 65, (2, 128)),
        (3, 128, (4, 128)),
        (8, 200, (8, 256)),
        (8, 300, (8, 320)),
    ]:
        keys, values = cache.reserve(0, like, rows, places)
        assert keys.shape == values.shape == (expected[0], 2, expected[1], 4)
        assert keys.shape[2] % PLACES == 0


def test_growing_keeps_what_is_stored() -> None:
    cache = Cache(rows=4, context=256)
    key = torch.randn(1, 2, 50, 4)
    Prefill(cache, 0, torch.tensor([0]))(0, torch.randn(1, 4, 50, 4), key, -key)
    cache.reserve(0, key, 4, 256)
    assert torch.equal(cache.keys[0][0, :, :50], key[0])
    assert torch.equal(cache.values[0][0, :, :50], -key[0])
    assert not cache.keys[0][1:].any()


def test_a_step_over_the_cache_equals_attention_over_the_whole_row() -> None:
    """Brute force: each row by itself, each query head against its own group's keys."""
    cache = Cache(rows=3, context=128)
    lengths = [7, 100, 63]
    keys = [torch.randn(1, 2, length + 1, 4) for length in lengths]
    values = [torch.randn(1, 2, length + 1, 4) for length in lengths]
    for row, length in enumerate(lengths):
        prefill = Prefill(cache, row, torch.tensor([0]))
        prefill(0, torch.randn(1, 6, length, 4), keys[row][:, :, :length], values[row][:, :, :length])
    query = torch.randn(3, 6, 1, 4)
    newest_key, newest_value = (torch.cat([one[:, :, -1:] for one in kept]) for kept in (keys, values))
    mixed = Step(cache, torch.tensor(lengths), max(lengths))(0, query, newest_key, newest_value)
    for row in range(3):
        for head in range(6):
            k, v = keys[row][0, head // 3], values[row][0, head // 3]
            weights = (k @ query[row, head, 0] / 2).softmax(0)  # 2 is the root of the head width
            torch.testing.assert_close(mixed[row, head, 0], weights @ v)


def test_moving_a_row_copies_all_of_it() -> None:
    cache = Cache(rows=2, context=64)
    key = torch.randn(2, 1, 9, 4)
    for layer in range(2):
        Prefill(cache, 0, torch.tensor([0, 1]))(layer, torch.randn(2, 1, 9, 4), key, key * 2)
    cache.move(1, 0)
    for layer in range(2):
        assert torch.equal(cache.keys[layer][0, :, :9], key[1])
        assert torch.equal(cache.values[layer][0, :, :9], key[1] * 2)
