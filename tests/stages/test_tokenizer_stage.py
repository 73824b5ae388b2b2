"""The tokenizer stage: fair vocabularies, what counting cost, and when its tasks begin."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ingot.artifact import read
from ingot.errors import ConfigError, DataError
from ingot.pipeline import Pipeline
from ingot.progress import Progress, Task
from ingot.stages import tokenizer as stage
from ingot.stages.prepare import Prepare, PrepareConfig
from ingot.stages.tokenizer import TrainTokenizer, TrainTokenizerConfig
from ingot.tokenizer import Tokenizer
from ingot.tokenizer.counting import count

LATIN, GREEK = "the river runs under a bridge of stone", "ο ποταμός κυλά κάτω από μια πέτρινη γέφυρα"


def prose(words: list[str], seed: int, count: int) -> str:
    source = random.Random(seed)
    made = [source.choice(words) + source.choice(words) for _ in range(400)]
    return "\n".join(" ".join(source.choices(made, k=10)) for _ in range(count // 10)) + "\n"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Much text in one script, little in another."""
    root = tmp_path_factory.mktemp("text")
    for name, words, size in (("english", LATIN, 900), ("greek", GREEK, 120)):
        (root / name).mkdir()
        for index in range(30):
            (root / name / f"{index:02d}.txt").write_text(prose(words.split(), index, size))
    return root


def made(
    text: Path, run: Path, config: TrainTokenizerConfig, progress: Progress | None = None, named: bool = True
) -> Path:
    places = {name: {"path": str(text / name)} for name in ("english", "greek")}
    settings = {"sources": places} if named else {"data": str(text)}
    stages = [Prepare(PrepareConfig.parse({**settings, "near_duplicates": None})), TrainTokenizer(config)]
    Pipeline(stages, run).run(progress or Progress())
    return run / "tokenizer@1"


def test_a_fair_vocabulary_serves_the_smaller_language(text: Path, tmp_path: Path) -> None:
    sample = prose(GREEK.split(), 999, 200)
    usual = made(text, tmp_path / "usual", TrainTokenizerConfig(vocabulary=330))
    fair = made(text, tmp_path / "fair", TrainTokenizerConfig(vocabulary=330, fair="source"))
    tokens = {place: len(Tokenizer.load(place).encode(sample)) for place in (usual, fair)}
    assert tokens[fair] < 0.95 * tokens[usual]
    assert Tokenizer.load(fair).vocab_size == 330
    assert any("worst compressed" in note and "greek" in note for note in read(fair).record.notes)
    assert read(fair).record.config["fair"] == "source"


def test_languages_that_nobody_told_apart_cannot_be_treated_alike(text: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="0 known languages") as caught:
        made(text, tmp_path / "run", TrainTokenizerConfig(vocabulary=600, fair="language"))
    assert "prepare.cleaning.language" in str(caught.value.fix)
    with pytest.raises(DataError, match="0 known sources"):
        made(text, tmp_path / "other", TrainTokenizerConfig(vocabulary=600, fair="source"), named=False)
    with pytest.raises(ConfigError, match="leave out base or fair"):
        TrainTokenizerConfig.parse({"fair": "source", "base": "somewhere"})


class Recorded(Progress):
    """Notes which tasks are opened, and what they are told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    @contextmanager
    def task(self, what: str, total: float | None = None, unit: str = "") -> Iterator[Task]:
        self.told.append(f"open {what}")
        recorder = self

        class Told(Task):
            def advance(self, amount: float = 1, numbers: str = "") -> None:
                if recorder.told[-1] != what:
                    recorder.told.append(what)

        yield Told()
        self.told.append(f"close {what}")


def test_merging_begins_when_counting_has_ended(text: Path, tmp_path: Path) -> None:
    progress = Recorded()
    path = made(text, tmp_path / "run", TrainTokenizerConfig(vocabulary=400), progress)
    whats = [one for one in progress.told if "counting" in one or "vocabulary" in one]
    assert whats == [
        *("open counting pieces", "counting pieces", "close counting pieces"),
        *("open learning the vocabulary", "learning the vocabulary", "close learning the vocabulary"),
    ]
    assert read(path).record.metrics["counting_error"] == 0


def test_the_record_keeps_what_the_memory_limit_cost(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stage, "count", functools.partial(count, memory_mb=0.02))
    record = read(made(text, tmp_path / "run", TrainTokenizerConfig(vocabulary=300))).record
    assert record.metrics["counting_error"] > 0 and record.metrics["counting_dropped"] > 0
    assert any("no count is more than" in note for note in record.notes)
