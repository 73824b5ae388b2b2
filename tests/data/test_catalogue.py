"""The table of public corpora."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from ingot.data import catalogue
from ingot.data.catalogue import CATALOGUE, ENTRIES, look_up
from ingot.data.document import Document
from ingot.data.readers import hub
from ingot.data.sources import open_place, read
from ingot.errors import DataError, ResourceError


def test_every_entry_can_be_opened_or_says_why_not() -> None:
    assert len(CATALOGUE) == len(ENTRIES) >= 15
    for entry in ENTRIES:
        assert re.fullmatch(r"[a-z0-9-]+", entry.name)
        assert entry.what and "\n" not in entry.what
        if entry.place is None:
            assert entry.note
            continue
        scheme = urlsplit(entry.place).scheme
        assert scheme in ("hf", "https", "stories"), entry
        if scheme == "hf":
            asked = hub._asked(entry.place)
            assert asked.name.count("/") == 1 and asked.text is not None
        assert entry.size is not None or entry.note


def test_what_is_not_distributed_says_so() -> None:
    with pytest.raises(DataError, match="took it down in 2023"):
        open_place("pile@")
    with pytest.raises(DataError, match="did you mean 'tinystories'"):
        look_up("tinystorys")


def test_offline_a_corpus_is_one_clear_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(ResourceError) as caught:  # tests have no hub
        open_place("tinystories@")
    assert "roneneldan/TinyStories" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_entry_gives_its_licence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept = tmp_path / "input.txt"
    kept.write_text("First Citizen")
    asked: list[str] = []

    def download(url: str, cache: Path | None, progress: object) -> Path:
        asked.append(url)
        return kept

    monkeypatch.setattr("ingot.data.download.download", download)
    (source,) = open_place("tinyshakespeare@").sources
    assert list(read(source)) == [
        Document("input.txt", "input.txt", "First Citizen", "text", "public domain")
    ]
    assert asked == [catalogue.look_up("tinyshakespeare").place]
