"""The chat page in a real browser, driven by keys and pointer, over a server that follows a script."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from importlib import resources
from pathlib import Path

import pytest
from browser import PROGRAM, SHIFT, Browser
from scripted import ANSWER, Script, scripted

TEXT = "".join(part for part, _ in ANSWER)

with_browser = pytest.mark.skipif(PROGRAM is None, reason="no Chromium here")


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture
def script() -> Iterator[Script]:
    with scripted() as script:
        yield script


@pytest.fixture
def page(chromium: Browser, script: Script) -> Iterator[Browser]:
    chromium.look(1000, 700)
    chromium.asked.clear()
    chromium.complaints.clear()
    chromium.open(script.url)
    chromium.until("document.title.startsWith('first')")
    yield chromium
    assert not [words for words in chromium.complaints if "Failed to load resource" not in words]
    assert all(asked.startswith(script.url) for asked in chromium.asked)  # it needs nobody else


def ask(page: Browser, question: str) -> None:
    """Types a question, and waits for the answers' end."""
    page.click("#question")
    page.type(question)
    page.press("Enter")
    page.until("document.querySelector('#stop').hidden && !document.querySelector('.busy')")


@with_browser
def test_a_question_is_answered_and_the_next_one_knows_of_it(page: Browser, script: Script) -> None:
    page.type("Hello <b>you</b>,")  # the field has the focus from the start
    page.press("Enter", SHIFT)
    page.type("`code`")
    ask(page, " & more")
    assert page.text(".user .text") == ["Hello <b>you</b>,\ncode & more"]
    assert page.text(".assistant .text") == [TEXT]
    assert "6 tokens" in page.text(".assistant .below")[0]
    assert page.text("#status") == [f"The answer: {TEXT}".replace("\n", " ")]
    ask(page, "And then?")
    assert script.bodies[-1]["messages"] == [
        {"role": "user", "content": "Hello <b>you</b>,\n`code` & more"},
        {"role": "assistant", "content": TEXT},
        {"role": "user", "content": "And then?"},
    ]
    assert script.bodies[-1]["stream"] is True


@with_browser
def test_escape_stops_an_answer_and_the_server_hears_of_it(page: Browser, script: Script) -> None:
    page.type("slow")
    page.press("Enter")
    page.until("document.querySelector('.assistant .text').innerText.includes('word')")
    assert page.value("document.querySelector('#send').hidden")
    page.press("Escape")
    page.until("!document.querySelector('.busy')")
    assert "stopped" in page.text(".assistant .below")[0]
    assert script.left.wait(5)
    assert 0 < len(page.text(".assistant .text")[0].split()) < 200


@with_browser
def test_an_answer_is_made_anew(page: Browser, script: Script) -> None:
    ask(page, "Hello")
    page.click(".again")
    page.until("document.querySelectorAll('.again').length == 1 && !document.querySelector('.busy')")
    assert [body["messages"] for body in script.bodies] == [[{"role": "user", "content": "Hello"}]] * 2
    assert len(page.text(".assistant .text")) == 1


@with_browser
def test_a_message_is_edited_and_what_followed_it_goes(page: Browser, script: Script) -> None:
    ask(page, "One")
    ask(page, "Two")
    page.click(".turn:first-child .user .below button")
    assert page.value("document.activeElement.value") == "One"
    page.press("Escape")
    assert page.text(".user .text") == ["One", "Two"]
    page.press("Enter")  # the focus is back on Edit
    page.type(" more")
    page.press("Enter")
    page.until("document.querySelectorAll('.turn').length == 1 && document.querySelector('.again')")
    assert page.text(".user .text") == ["One more"]
    assert script.bodies[-1]["messages"] == [{"role": "user", "content": "One more"}]


@with_browser
def test_settings_reach_the_server_and_untouched_ones_do_not(page: Browser, script: Script) -> None:
    ask(page, "Hello")
    plain = set(script.bodies[-1])
    assert plain == {
        *("model", "messages", "temperature", "max_tokens"),
        *("logprobs", "top_logprobs", "stream", "stream_options"),
    }
    page.click("#toggle")
    wanted = {
        "temperature": 0.0,
        "top-p": 0.9,
        "top-k": 5,
        "min-p": 0.05,
        "seed": 7,
        "presence": 0.5,
        "frequency": -0.5,
        "repetition": 1.1,
        "length": 64,
    }
    for name, value in wanted.items():
        page.value(
            f"(() => {{ const one = document.getElementById('{name}'); one.value = {value};"
            "one.dispatchEvent(new Event('input', {bubbles: true})); })()"
        )
    assert page.text("#top-p-shown") == ["0.90"]
    page.click("#system")
    page.type("Be brief.")
    ask(page, "Again")
    body = script.bodies[-1]
    fields = ("temperature", "top_p", "top_k", "min_p", "seed", "presence_penalty", "frequency_penalty")
    got = [body[name] for name in (*fields, "repetition_penalty", "max_tokens")]
    assert got == pytest.approx(list(wanted.values()))
    assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    page.click("#reset")
    ask(page, "Last")
    assert set(script.bodies[-1]) == plain
    assert script.bodies[-1]["messages"][0]["role"] == "user"


@with_browser
def test_tokens_tell_their_probability_to_pointer_and_keys(page: Browser) -> None:
    ask(page, "Hello")
    page.click(".assistant .below button[aria-pressed]")
    assert "".join(page.text(".token")).replace("↵", "") == TEXT
    shares = [float(page.value(f"getComputedStyle({one}).getPropertyValue('--p')")) for one in all_tokens()]
    assert shares == pytest.approx([share for _, share in ANSWER], abs=1e-4)
    page.point(".token:nth-child(5)")
    assert page.value("!document.querySelector('#tip').hidden")
    assert re.sub(r"\s+", " ", page.text("#tip")[0]).strip() == "Rome 1.0 % other 99.0 %"
    page.point("#question")
    page.until("document.querySelector('#tip').hidden")
    page.value("document.querySelector('.token').focus()")
    page.press("ArrowRight")
    page.press("ArrowRight")
    assert "25.0 %" in page.text("#tip")[0]
    assert page.value("document.activeElement.getAttribute('aria-describedby')") == "tip"
    top = page.value("document.querySelector('#tip').getBoundingClientRect().top")
    page.value("document.querySelector('#conversation').style.paddingTop = '9rem'")
    page.value("document.querySelector('#conversation').dispatchEvent(new Event('scroll'))")
    assert page.value("document.querySelector('#tip').getBoundingClientRect().top") > top  # it follows
    page.press("Escape")
    assert page.value("document.querySelector('#tip').hidden")
    page.click(".assistant .below button[aria-pressed]")
    assert page.text(".assistant .text") == [TEXT]


@with_browser
def test_tokens_that_are_parts_of_one_character_are_shown_as_one(page: Browser) -> None:
    parts = [[65], [0xE2, 0x82], [0xAC], [0x98], [0xF0, 0x9F], [66], [0xF0]]
    tokens = [{"token": "?", "logprob": -1, "bytes": part} for part in parts]
    found = page.value(
        f"import('/tokens.js').then(({{ pieces }}) => pieces({json.dumps(tokens)})"
        ".map((piece) => [piece.text, piece.tokens.length]))"
    )
    assert found == [["A", 1], ["€", 2], ["\ufffd", 1], ["\ufffdB", 2], ["\ufffd", 1]]


def all_tokens() -> list[str]:
    return [f"document.querySelector('.token:nth-child({number + 1})')" for number in range(len(ANSWER))]


@with_browser
def test_two_models_answer_one_question_and_read_their_own_answers(page: Browser, script: Script) -> None:
    ask(page, "Alone")
    page.click("#compare")
    assert page.text(".who") == ["first", "first"]  # the second goes on from what the first has said
    ask(page, "Both")
    assert [body["model"] for body in script.bodies[-2:]] == ["first", "second"]
    assert page.text(".turn:last-child .who") == ["first", "second"]
    left, right = page.value(
        "[...document.querySelectorAll('.turn:last-child .assistant')]"
        ".map(one => one.getBoundingClientRect().x)"
    )
    assert right > left + 200
    page.click(".turn:last-child .assistant:nth-child(2) .again")
    page.until("!document.querySelector('.busy') && document.querySelectorAll('.again').length == 2")
    assert script.bodies[-1]["model"] == "second"
    assert [message["content"] for message in script.bodies[-1]["messages"]] == ["Alone", TEXT, "Both"]
    page.click("#compare")
    assert page.text(".who") == ["first", "first"]
    assert page.value("document.querySelector('#second').hidden")


@with_browser
@pytest.mark.parametrize(
    ("question", "words"),
    [("refuse", "The field 'seed' is no seed."), ("break", "The connection ended before the answer did.")],
)
def test_errors_are_words_with_a_way_on(page: Browser, script: Script, question: str, words: str) -> None:
    ask(page, question)
    assert page.text(".trouble") == [f"{words} Try again"]
    page.click(".trouble button")
    page.until("!document.querySelector('.busy')")
    assert len(script.bodies) == 2
    assert len(page.text(".trouble")) == 1
    ask(page, "Hello")
    assert page.text(".turn:last-child .assistant .text") == [TEXT]


@with_browser
def test_a_server_that_is_gone_is_said_in_words(chromium: Browser) -> None:
    with scripted() as script:
        chromium.open(script.url)
        chromium.until("document.title.startsWith('first')")
    ask(chromium, "Hello")
    assert chromium.text(".trouble") == ["The server cannot be reached. Try again"]


@with_browser
def test_a_conversation_that_outgrows_the_context_loses_its_oldest_questions(
    page: Browser, script: Script
) -> None:
    ask(page, "One")
    ask(page, "Two")
    ask(page, "outgrown")
    assert [len(body["messages"]) for body in script.bodies] == [1, 3, 5, 3, 1]
    assert page.text(".note") == [
        "The conversation has outgrown the model's context: its first 2 questions are no longer read."
    ]


@with_browser
def test_a_key_is_asked_for(page: Browser, script: Script) -> None:
    script.key = "sesame"
    page.open(script.url)
    page.until("!document.querySelector('#key-field').hidden")
    assert page.value("document.activeElement.id") == "key"
    page.type("sesame")
    page.press("Enter")
    page.click("#question")
    page.until("document.querySelector('#model').innerText.startsWith('first')")
    ask(page, "Hello")
    assert page.text(".assistant .text") == [TEXT]
    page.value("sessionStorage.clear()")


@with_browser
def test_a_conversation_is_exported_as_json(page: Browser) -> None:
    ask(page, "Hello")
    page.value(
        "URL.createObjectURL = (blob) => { window.saved = blob; return 'data:,'; };"
        "HTMLAnchorElement.prototype.click = function () { window.name = this.download; };"
    )
    page.click("#export")
    saved = page.value("window.saved.text().then(JSON.parse)")
    assert page.value("window.name") == "conversation.json"
    assert saved["messages"] == [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": TEXT},
    ]
    [answer] = saved["turns"][0]["answers"]
    assert (answer["model"], answer["text"], answer["finish_reason"]) == ("first", TEXT, "stop")
    assert len(answer["tokens"]) == len(ANSWER)
    assert saved["settings"] == {"temperature": 0.8, "max_tokens": 256}


@with_browser
def test_tab_goes_through_all_controls_in_order_and_shows_where_it_is(page: Browser) -> None:
    ask(page, "Hello")
    page.value("document.querySelector('.skip').focus()")
    seen = []
    for _ in range(12):
        seen.append(page.value("document.activeElement.id || document.activeElement.innerText"))
        assert page.value(MARKED), seen[-1]
        page.press("Tab")
    assert seen == [
        *("Skip to the message field", "choice", "compare", "export", "clear", "toggle"),
        *("Edit", "Copy", "Regenerate", "Copy", "Probabilities", "question"),
    ]


MARKED = """(() => {
  const one = document.activeElement, box = one.closest('.box');
  const accent = getComputedStyle(document.querySelector('.field output')).color;
  const { outlineStyle, outlineColor } = getComputedStyle(one);
  if (box) return getComputedStyle(box).borderColor === accent;
  return outlineStyle === 'solid' && outlineColor === accent;
})()"""


@with_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_its_paper(page: Browser, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: at least 4.5 : 1 for all that is read."""
    page.look(1000, 700, scheme)
    ask(page, "Hello")
    for name in ("--ink", "--soft", "--accent", "--bad"):
        paper = page.value(LUMINANCE.format(name="--paper"))
        light, dark = sorted((page.value(LUMINANCE.format(name=name)), paper), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, name
    page.look(1000, 700)


LUMINANCE = """(() => {{
  const hex = getComputedStyle(document.documentElement).getPropertyValue('{name}').trim();
  const [r, g, b] = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255)
    .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}})()"""


@with_browser
def test_nothing_is_cut_off_on_a_narrow_screen(page: Browser) -> None:
    page.look(360, 700)
    page.click("#compare")
    page.click("#toggle")
    ask(page, "A word that is long: " + "x" * 200)
    assert page.value("document.documentElement.scrollWidth") == 360
    first, second = page.value(
        "[...document.querySelectorAll('.assistant')].map(one => one.getBoundingClientRect().y)"
    )
    assert second > first
    page.look(1000, 700)


@with_browser
def test_a_question_in_the_address_is_answered_by_the_real_server(chromium: Browser, server) -> None:
    chromium.complaints.clear()
    chromium.open(f"{server.url}/?ask=Hello%20%60you%60")
    chromium.until("document.querySelector('.again')", 60)
    assert re.search(r"aligned@1 · [\d,]+ parameters · context 512 tokens", chromium.text("#model")[0])
    assert chromium.text(".user .text") == ["Hello you"]
    assert re.search(r"\d+ tokens", chromium.text(".assistant .below")[0])
    assert chromium.text(".trouble") == []
    ask(chromium, "And streamed?")
    assert len(chromium.text(".assistant .below")) == 2
    chromium.click(".turn:last-child .assistant .below button[aria-pressed]")
    chromium.point(".token")
    assert chromium.value("document.querySelectorAll('#tip tr').length") >= 5, chromium.text("#tip")
    assert chromium.complaints == []  # the content security policy among them


def test_every_control_has_a_name() -> None:
    page = resources.files("ingot.serve").joinpath("page", "index.html").read_text()
    labels = set(re.findall(r'<label[^>]* for="([\w-]+)"', page))
    fields = set(re.findall(r'<(?:textarea|input|select)[^>]* id="([\w-]+)"', page))
    assert fields == labels
    for inner in re.findall(r"<button[^>]*>(.*?)</button>", page, re.DOTALL):
        assert re.sub(r"<[^>]+>", "", inner).strip()


def test_the_page_asks_for_nothing_from_elsewhere() -> None:
    for file in resources.files("ingot.serve").joinpath("page").iterdir():
        text = file.read_text()
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), file.name
        assert "innerHTML" not in text
        assert len(text.splitlines()) < 300
        for name in re.findall(r'(?:from|src=|href=) ?"(?:\./)?([\w.]+)"', text):
            assert Path(str(file)).with_name(name).is_file(), name
