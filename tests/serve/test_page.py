"""The chat page in a real browser: it asks, and the answer stands in the document."""

import html
import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path
from urllib.parse import quote

import pytest

BROWSER = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))),
    None,
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--virtual-time-budget=8000",
]


def dump(url: str, profile: Path) -> str:
    assert BROWSER is not None
    command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", "--dump-dom", url]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_a_question_in_the_address_is_answered_on_the_page(server, tmp_path: Path) -> None:
    question = "Hello <b>you</b>, `code` & more"
    dom = dump(f"{server.url}/?ask={quote(question)}", tmp_path)
    assert "aligned@1" in dom
    assert re.search(r"[\d,.]+ parameters", dom) or re.search(r"[\d.]+ million parameters", dom)
    assert "context 512 tokens" in dom
    said = re.search(r'<article class="message user">.*?<p>(.*?)</p>', dom, re.DOTALL)
    assert said is not None
    assert html.unescape(said[1].replace("<code>", "`").replace("</code>", "`")) == question
    assert "Regenerate" in dom
    assert re.search(r"\d+ tokens", dom.split("Regenerate")[1])
    assert 'class="trouble"' not in dom


def test_every_control_has_a_name() -> None:
    page = resources.files("ingot.serve").joinpath("page", "index.html").read_text()
    labels = set(re.findall(r'<label[^>]* for="([\w-]+)"', page))
    fields = set(re.findall(r'<(?:textarea|input)[^>]* id="([\w-]+)"', page))
    assert fields == labels
    for inner in re.findall(r"<button[^>]*>(.*?)</button>", page, re.DOTALL):
        assert re.sub(r"<[^>]+>", "", inner).strip()
