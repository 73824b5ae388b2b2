"""Looking into a model: against weights computed another way, a planted head, and in a real browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from devtools import Tab, browse, find_browser
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ingot.errors import ConfigError
from ingot.models.decoder import Decoder, DecoderConfig
from ingot.report.look import Seen, look
from ingot.report.looking import in_script, payload, read_text, render, shares
from ingot.tokenizer import Tokenizer

BROWSER = find_browser()
TEXT = "The quick brown fox </script><img src=x onerror=alert(1)> \u202e é漢 The quick brown fox\n\tends."


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train([TEXT] * 4, vocabulary=310)


def shaken(vocabulary: int, **changes: Any) -> Decoder:
    """A model none of whose weights is zero."""
    settings: dict[str, Any] = {
        "vocabulary": vocabulary, "width": 32, "layers": 3, "heads": 4, "kv_heads": 2,
        "head_width": 8, "feed_forward": 48, "context": 128,
    }  # fmt: skip
    model = DecoderConfig.parse({**settings, **changes}).build(0)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return model.eval()


class ByHand:
    """Attention written out in float64, with all its weights kept."""

    def __init__(self) -> None:
        self.weights: list[Tensor] = []
        self.tensors: list[tuple[Tensor, Tensor, Tensor]] = []

    def __call__(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        shared, t = query.shape[1] // key.shape[1], query.shape[2]
        keys, values = (x.double().repeat_interleave(shared, 1) for x in (key, value))
        scores = query.double() @ keys.mT / query.shape[3] ** 0.5
        scores = scores.masked_fill(torch.ones(t, t).triu(1).bool(), float("-inf"))
        weights = torch.exp(scores - scores.logsumexp(-1, keepdim=True))
        self.weights.append(weights[0])
        self.tensors.append((query[0], key[0], value[0]))
        return (weights @ values).to(value.dtype)


def ids(count: int, vocabulary: int = 97) -> Tensor:
    return torch.randint(0, vocabulary, (count,), generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize(
    "changes", [{}, {"kv_heads": 1, "tied": True}, {"positions": "learned", "norm": "layer"}]
)
def test_weights_are_those_that_the_model_uses(changes: dict[str, Any]) -> None:
    model, tokens = shaken(97, **changes), ids(40)
    seen, hand = look(model, tokens), ByHand()
    with torch.no_grad():
        logits = model(tokens[None], attend=hand).logits[0]
    by_hand = torch.stack(hand.weights)
    assert seen.maps.shape == (3, 4, 40, 41) and seen.first == 0
    assert (seen.maps[..., 1:] - by_hand).abs().max() <= 1e-6
    assert (seen.maps.sum(-1) - 1).abs().max() <= 1e-6
    steps = seen.steps
    assert steps.layers == (0, 1, 2)
    for layer, (query, key, value) in enumerate(hand.tensors):
        for mine, theirs in ((steps.query, query), (steps.key, key), (steps.value, value)):
            torch.testing.assert_close(mine[layer], theirs[:, :8], rtol=1e-5, atol=1e-5)
        assert (steps.weights[layer] - by_hand[layer, :, :8, :8]).abs().max() <= 1e-6
    assert torch.equal(steps.embedding[0], model.embedding.weight[tokens[0]]) or model.positions is not None
    torch.testing.assert_close(steps.chances, logits[:8].softmax(-1).topk(10).values, rtol=1e-5, atol=1e-6)


def test_the_last_layer_of_the_lens_is_the_model() -> None:
    model, tokens = shaken(97), ids(30)
    seen = look(model, tokens)
    with torch.no_grad():
        logits = model(tokens[None]).logits[0]
    assert (seen.lens.last - logits).abs().max() <= 1e-6
    chances = logits.softmax(-1)
    assert torch.equal(seen.lens.ids[-1], chances.topk(5).indices)
    torch.testing.assert_close(seen.lens.next[-1], chances[torch.arange(29), tokens[1:]])
    bare = model.head(model.norm(model.embedding.weight[tokens])).softmax(-1).topk(5)
    torch.testing.assert_close(seen.lens.chances[0], bare.values.detach())


def test_of_a_long_text_the_end_is_shown_and_rows_still_sum_to_one() -> None:
    model, tokens = shaken(97), ids(100)
    seen, hand = look(model, tokens), ByHand()
    with torch.no_grad():
        model(tokens[None], attend=hand)
    weights = torch.stack(hand.weights).float()
    assert seen.first == 36 and seen.maps.shape == (3, 4, 64, 65)
    assert (seen.maps[..., 1:] - weights[..., 36:, 36:]).abs().max() <= 1e-6
    assert (seen.maps[..., 0] - weights[..., 36:, :36].sum(-1)).abs().max() <= 1e-6


def test_rollout_is_the_product_of_the_layers() -> None:
    model, tokens = shaken(97), ids(20)
    seen, hand = look(model, tokens), ByHand()
    with torch.no_grad():
        model(tokens[None], attend=hand)
    product = np.eye(20)
    for layer, weights in enumerate(hand.weights):
        product = (0.5 * weights.numpy().mean(0) + 0.5 * np.eye(20)) @ product
        np.testing.assert_allclose(seen.rollout[layer, :, 1:].numpy(), product, atol=1e-6)
    np.testing.assert_allclose(seen.rollout.sum(-1).numpy(), 1, atol=1e-5)


def planted() -> Decoder:
    """Two layers made by hand: head 0.0 copies the token before, head 1.0 finds what came next last time."""
    v, p, width = 12, 24, 12 + 24 + 12  # the stream: token, position, token before
    model = DecoderConfig(
        vocabulary=v, width=width, layers=2, heads=2, kv_heads=2, head_width=p, feed_forward=8, context=p,
        norm="layer", head_norm=None, positions="learned", activation="gelu",
    ).build()  # fmt: skip
    token, place, before = range(v), range(v, v + p), range(v + p, width)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" not in name:
                parameter.zero_()
        model.embedding.weight[:, :v] = torch.eye(v)
        assert model.positions is not None
        model.positions.weight[:, v : v + p] = torch.eye(p)
        first, second = (block.attention for block in model.blocks)
        for k in range(p):
            first.query.weight[k, place[k]] = 12.0
            if k:
                first.key.weight[k, place[k - 1]] = 1.0
        for k in range(v):
            first.value.weight[k, token[k]] = 1.0
            first.output.weight[before[k], k] = 1.0
            second.query.weight[k, token[k]] = 12.0
            second.key.weight[k, before[k]] = 1.0
            second.value.weight[k, token[k]] = 1.0
            second.output.weight[token[k], k] = 3.0
            model.head.weight[k, token[k]] = 5.0
    return model.eval()


def test_a_planted_induction_head_is_visible(tokenizer: Tokenizer) -> None:
    tokens = torch.tensor([0, 3, 7, 1, 9, 4, 2, 11, 3, 7, 1, 9, 4, 2])
    seen = look(planted(), tokens)
    induction, previous = seen.heads.induction, seen.heads.previous
    assert int(induction.argmax()) == 2  # layer 1, head 0
    assert induction[1, 0] > 0.9 and induction.flatten().topk(2).values[1] < 0.3
    assert int(previous.argmax()) == 0 and previous[0, 0] > 0.9
    for row in range(8, 14):  # each looks at what followed its token the first time
        assert int(seen.maps[1, 0, row].argmax()) - 1 == row - 6
        assert seen.maps[1, 0, row].max() > 0.9
    assert torch.equal(seen.lens.ids[-1, 8:13, 0], tokens[9:14])  # and so the last layer says it comes again
    shown = payload(seen, tokenizer, "planted")
    assert shown["kinds"]["induction"][1][0] > 0.9
    assert unpacked(shown["maps"], np.uint8).reshape(seen.maps.shape)[1, 0, 13].argmax() == 8


def test_without_a_repeated_token_induction_is_not_a_number() -> None:
    heads = look(shaken(97), torch.arange(10)).heads
    assert heads.induction.isnan().all() and not heads.previous.isnan().any()


@pytest.mark.parametrize("count", [0, 1, 129])
def test_too_few_or_too_many_tokens_are_refused(count: int) -> None:
    with pytest.raises(ConfigError, match=f"{count} tokens"):
        look(shaken(97), ids(count))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=80), st.integers(1, 1000))
def test_bytes_share_255_exactly(values: list[float], seed: int) -> None:
    weights = torch.tensor(values).softmax(-1) if seed % 2 else torch.rand(len(values)) + 1e-3
    weights = weights / weights.sum()
    found = shares(weights).double()
    assert found.sum() == 255
    assert (found / 255 - weights).abs().max() <= 1 / 255 + 1e-6


def unpacked(text: str, kind: Any) -> Any:
    return np.frombuffer(base64.b64decode(text), dtype=kind)


def data_of(page: str) -> dict[str, Any]:
    found = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)
    assert len(found) == 1
    value: dict[str, Any] = json.loads(found[0])
    return value


@pytest.fixture(scope="module")
def made(tokenizer: Tokenizer) -> tuple[Seen, str]:
    model = shaken(tokenizer.vocab_size)
    tokens, left_out = read_text(tokenizer, TEXT, 128)
    assert left_out == 0
    seen = look(model, tokens)
    return seen, render(seen, tokenizer, "runs/<b>demo</b>")


def test_the_page_holds_what_was_seen(made: tuple[Seen, str], tokenizer: Tokenizer) -> None:
    seen, page = made
    data = data_of(page)
    assert data["tokens"] == seen.tokens.tolist()
    maps = unpacked(data["maps"], np.uint8).reshape(seen.maps.shape)
    assert (maps.astype(int).sum(-1) == 255).all()
    assert np.abs(maps / 255 - seen.maps.numpy()).max() <= 1 / 255 + 1e-6
    steps = data["steps"]
    weights = unpacked(steps["weights"], "<f4").reshape(3, 4, 8, 8)
    assert np.abs(weights - torch.stack(seen.steps.weights).numpy()).max() == 0
    query = unpacked(steps["query"], "<f4").reshape(3, 4, 8, 8).astype(float)
    key = unpacked(steps["key"], "<f4").reshape(3, 2, 8, 8).astype(float).repeat(2, 1)
    scores = np.where(np.tri(8) > 0, query @ key.swapaxes(-1, -2) / 8**0.5, -np.inf)
    softmax = np.exp(scores - scores.max(-1, keepdims=True))
    softmax /= softmax.sum(-1, keepdims=True)
    assert np.abs(softmax - weights).max() <= 1e-6
    names = "".join(data["names"][str(token)] for token in data["tokens"])
    assert "</script>" in names and "\u202e" not in names


def test_nothing_in_a_text_can_leave_the_data(made: tuple[Seen, str]) -> None:
    page = made[1]
    assert page.count("</script>") == 2 and "<img" not in page and "<b>demo" not in page
    outside = re.findall(r"(?:src|href)=(?!\"data:,\")|https?://[^\"]*|@import|url\(", page)
    assert outside == ["http://www.w3.org/2000/svg"]  # a name, which nothing loads
    policy = re.search(r'content="(default-src[^"]*)"', page)
    script = page.rsplit("<script>", 1)[1].split("</script>")[0]
    assert policy and base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() in policy[1]
    assert "unsafe" not in policy[1]


@settings(max_examples=40, deadline=None)
@given(
    st.recursive(st.text() | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner))
)
def test_data_in_a_script_is_the_data(value: Any) -> None:
    text = in_script(value)
    assert json.loads(text) == value
    assert not set(text) & set("<>&\u2028\u2029")


def test_a_page_has_a_bounded_size(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingot.report.look._MAP_BYTES", 20_000)
    monkeypatch.setattr("ingot.report.look._STEP_BYTES", 9_000)
    model = shaken(tokenizer.vocab_size, layers=5)
    data = data_of(render(look(model, ids(100, tokenizer.vocab_size)), tokenizer, "many heads"))
    assert data["first"] == 100 - 24  # 32 tokens would take 5 x 4 x 32 x 33 bytes
    assert len(base64.b64decode(data["maps"])) <= 20_000
    assert data["steps"]["layers"] == [0, 4]
    kept = ("query", "key", "value", "weights", "mixed")
    assert sum(len(base64.b64decode(data["steps"][one])) for one in kept) <= 9_000


def test_a_text_of_one_token_is_refused_and_a_long_one_cut(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="it takes two"):
        read_text(tokenizer, "", 64)
    tokens, left_out = read_text(tokenizer, TEXT * 3, 10)
    assert len(tokens) == 10 and left_out == len(tokenizer.encode(TEXT * 3)) - 10


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    if BROWSER is None:
        pytest.skip("no Chromium on this machine")
    with browse(BROWSER) as opened:
        yield opened


@pytest.mark.parametrize(("width", "dark"), [(1200, False), (1000, True), (380, True)])
def test_the_page_works_in_a_browser(
    tab: Tab, made: tuple[Seen, str], tmp_path: Path, width: int, dark: bool
) -> None:
    page = tmp_path / "look.html"
    page.write_text(made[1], encoding="utf-8")
    tab.open(page, width, dark)
    assert tab.evaluate("document.querySelector('h1').textContent") == "A look into runs/<b>demo</b>"
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("document.querySelectorAll('#tokens span').length") == len(made[0].tokens)
    worst = "Math.max(...S.layers.flatMap((_, l) => [...Array(D.heads).keys()].map((h) => "
    assert tab.evaluate(worst + "(sel.layer = l, sel.head = h, apart(used(), softmax(scores()))))))") <= 1e-6
    chosen = tab.evaluate("at.token")
    press = "new KeyboardEvent('keydown', {key: '%s', bubbles: true})"
    tab.evaluate(f"document.getElementById('tokens').dispatchEvent({press % 'ArrowLeft'})")
    assert tab.evaluate("at.token") == chosen - 1
    tab.evaluate(f"document.getElementById('heads').dispatchEvent({press % 'ArrowDown'})")
    assert tab.evaluate("at.layer") == 1
    for step in range(7):
        assert tab.evaluate("document.querySelector('#stage h3').textContent").startswith(f"{step + 1}. ")
        tab.evaluate(f"document.body.dispatchEvent({press % 'n'})")
    tab.evaluate("document.getElementById('m-roll').click()")
    assert "rollout" in tab.evaluate("document.getElementById('told').textContent")
    assert not tab.heard("Runtime.exceptionThrown", "Log.entryAdded")
    asked = {one["request"]["url"] for one in tab.heard("Network.requestWillBeSent")}
    assert all(url.startswith(("file:", "data:")) for url in asked)
