"""The token viewer: its spans are the text byte by byte, and nothing in text or names can act in it."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from devtools import Tab, browse, find_browser
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.errors import DataError
from ingot.report.tokens import render
from ingot.tokenizer import Tokenizer
from ingot.tokenizer.training import TokenizerConfig

BROWSER = find_browser()
BOMB = "</span></script><script>document.title='gone'</script><img src=x onerror=\"document.title='gone'\">"
TEXT = (
    f"To be, or not to be:\r\n\tthat is 12345 ☕️ 👩‍👩‍👧 né \u202eevil\u202c \x00\x85 {BOMB} <|endoftext|>\n\n"
)
CORPUS = ["to be or not to be that is the question of all questions"] * 20


class Page(HTMLParser):
    """What is in the page: every start tag with its attributes."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def columns(self) -> list[tuple[bytes, list[int]]]:
        """The bytes and the ids of each tokenizer's spans."""
        found: list[tuple[bytes, list[int]]] = []
        for tag, attributes in self.tags:
            if attributes.get("data-name") is not None:
                found.append((b"", []))
            elif tag == "span" and "data-h" in attributes:
                data, ids = found[-1]
                ids += map(int, str(attributes["data-i"]).split())
                found[-1] = (data + bytes.fromhex(str(attributes["data-h"])), ids)
        return found


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenizer]:
    kinds = ("bpe", "unigram", "wordpiece", "characters")
    return {
        kind: Tokenizer.train(CORPUS, 320, config=TokenizerConfig.parse({"kind": kind})) for kind in kinds
    }


def test_spans_rebuild_text_and_ids_of_every_tokenizer(tokenizers: dict[str, Tokenizer]) -> None:
    columns = Page(render(tokenizers, TEXT, "text")).columns()
    assert len(columns) == 4
    for tokenizer, (data, ids) in zip(tokenizers.values(), columns, strict=True):
        assert data == TEXT.encode()
        assert ids == tokenizer.encode(TEXT)


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_any_text_can_be_rebuilt(text: str, tokenizers: dict[str, Tokenizer]) -> None:
    page = Page(render(tokenizers, text, text))
    assert [data for data, _ in page.columns()] == [text.encode()] * 4


def test_the_page_holds_one_script_which_its_policy_names(tokenizers: dict[str, Tokenizer]) -> None:
    page = render({BOMB: tokenizers["bpe"]}, TEXT, BOMB)
    tags = Page(page).tags
    assert [tag for tag, _ in tags].count("script") == 1
    assert not [tag for tag, _ in tags if tag in ("img", "iframe", "link", "object", "a", "base")]
    assert not [name for _, attributes in tags for name in attributes if name.startswith("on")]
    policy = next(str(a["content"]) for _, a in tags if a.get("http-equiv") == "Content-Security-Policy")
    script = re.search(r"<script>(.*?)</script>", page, re.DOTALL)
    assert script is not None
    digest = base64.b64encode(hashlib.sha256(script[1].encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy and "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "\u202e" not in page and "\x00" not in page


def test_hover_says_id_and_bytes_without_the_script(tokenizers: dict[str, Tokenizer]) -> None:
    tokenizer = tokenizers["bpe"]
    titles = [a["title"] for _, a in Page(render({"b": tokenizer}, "é q", "t")).tags if "data-h" in a]
    first, second = tokenizer.encode("é")
    assert titles[0] == f"{first}  c3  “\\xc3”\n{second}  a9  “\\xa9”"
    parsed = render({"b": tokenizer}, "a<|endoftext|>", "t", specials="parse")
    assert f"{tokenizer.bos_id}  control token &lt;|endoftext|&gt;" in parsed


def test_what_is_left_out_is_said_and_nothing_is_refused(tokenizers: dict[str, Tokenizer]) -> None:
    assert "1,234 more characters" in render(tokenizers, "ab", "t", whole=1236)
    with pytest.raises(DataError, match="nothing to show"):
        render(tokenizers, "", "t")
    with pytest.raises(DataError, match="nothing to show"):
        render({}, "text", "t")


@pytest.fixture(scope="module")
def tab() -> Iterator[Tab]:
    if BROWSER is None:
        pytest.skip("no Chromium on this machine")
    with browse(BROWSER) as opened:
        yield opened


BYTES = "[...document.querySelectorAll('.text')].map((t) => [...t.children].map((s) => s.dataset.h).join(''))"
CONTRAST = """
(() => {
  const light = (text) => {
    const parts = text.match(/[\\d.]+/g).slice(0, 3).map((part) => {
      const value = part / 255;
      return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    });
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  let least = 21;
  for (const node of document.querySelectorAll('.text span:not(.lost):not(.gap)')) {
    const style = getComputedStyle(node);
    const pair = [light(style.color), light(style.backgroundColor)].sort((a, b) => b - a);
    least = Math.min(least, (pair[0] + 0.05) / (pair[1] + 0.05));
  }
  return least;
})()
"""


@pytest.mark.parametrize(("width", "dark"), [(1300, False), (1300, True), (380, False)])
def test_the_page_in_a_browser(
    tab: Tab, tokenizers: dict[str, Tokenizer], tmp_path: Path, width: int, dark: bool
) -> None:
    page = tmp_path / "tokens.html"
    page.write_text(render(tokenizers, TEXT, BOMB), encoding="utf-8", newline="")
    tab.open(page, width, dark)
    requested = [event["request"]["url"] for event in tab.heard("Network.requestWillBeSent")]
    assert requested == [page.as_uri()]
    assert tab.heard("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded") == []
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.evaluate("document.title").startswith("Tokens of </span>")
    assert tab.evaluate(BYTES) == [TEXT.encode().hex()] * 4
    assert tab.evaluate(CONTRAST) >= 4.5  # WCAG 2.2, success criterion 1.4.3


def test_arrow_keys_walk_and_mark_the_same_place_elsewhere(
    tab: Tab, tokenizers: dict[str, Tokenizer], tmp_path: Path
) -> None:
    page = tmp_path / "tokens.html"
    page.write_text(render(tokenizers, TEXT, "text"), encoding="utf-8", newline="")
    tab.open(page, 1300)
    assert tab.evaluate("document.getElementById('told').hidden") is True
    tab.evaluate("document.querySelector('.text').focus()")
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"):
        tab.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key)
    here = tab.evaluate("[...document.querySelectorAll('.here')].map((s) => s.index)")
    assert here == [1]
    start = tab.evaluate("document.querySelector('.text').children[0].dataset.h.length / 2")
    overlap = """
    [...document.querySelectorAll('.also')].map((span) => {
      let before = 0;
      for (let s = span.previousSibling; s; s = s.previousSibling) before += s.dataset.h.length / 2;
      return [before, before + span.dataset.h.length / 2];
    })
    """
    places = tab.evaluate(overlap)
    stop = start + tab.evaluate("document.querySelector('.here').dataset.h.length / 2")
    assert len(places) >= 3
    assert all(first < stop and last > start for first, last in places)
    told = tab.evaluate("document.getElementById('told').innerText")
    first = tokenizers["bpe"].encode(TEXT)[1]
    assert "bpe: 2 of" in told and str(first) in told
    tab.call("Input.dispatchKeyEvent", type="keyDown", key="Escape", code="Escape")
    assert tab.evaluate("document.getElementById('told').hidden") is True
