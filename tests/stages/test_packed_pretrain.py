"""Pretraining on packed rows and on mixtures, and a tokenizer stage that goes on after its end."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import pytest
import torch

from ingot.artifact import read
from ingot.data import shards
from ingot.data.pack import PackedStream
from ingot.data.shards import Tokens
from ingot.errors import ConfigError, DataError
from ingot.models import huggingface
from ingot.objectives.causal import CausalLM
from ingot.pipeline import Pipeline
from ingot.progress import Progress
from ingot.stages.prepare import Prepare, PrepareConfig
from ingot.stages.pretrain import Pretrain, PretrainConfig
from ingot.stages.tokenizer import TrainTokenizer, TrainTokenizerConfig
from ingot.tokenizer.tokenizer import Tokenizer


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Two folders of short texts, all different."""
    for folder, words in (("one", "alpha beta gamma delta"), ("two", "uno due tre quattro")):
        (tmp_path / "text" / folder).mkdir(parents=True)
        for number in range(90):
            text = " ".join(f"{word} {number * step}" for step, word in enumerate(words.split() * 5, 3))
            (tmp_path / "text" / folder / f"{number:02d}.txt").write_text(f"{text}.\n")
    return tmp_path / "text"


def pipeline(corpus: Path, run: Path, **changes: object) -> Pipeline:
    config = {"minutes": 0.05, "depth": 1, "context": 128, "batch_size": 2, "compile": False, **changes}
    return Pipeline(
        [
            Prepare(PrepareConfig(data=str(corpus), near_duplicates=1.0)),
            TrainTokenizer(TrainTokenizerConfig(vocabulary=300)),
            Pretrain(PretrainConfig.parse(config)),
        ],
        run,
    )


@pytest.mark.usefixtures("known_speed")
@pytest.mark.parametrize("packing", ["windows", "best_fit"])
def test_a_mixture_is_trained_on(corpus: Path, tmp_path: Path, packing: str) -> None:
    mixture = {"weights": {"one": 3, "two": 1}, "epochs": {"one": 500}}
    pipeline(corpus, tmp_path / "run", packing=packing, mixture=mixture).run(Progress())
    base = read(tmp_path / "run" / "base@1")
    assert base.record.metrics["steps"] >= 20
    tokens = Tokens.open(tmp_path / "run" / "tokenizer@1")
    tokenizer = Tokenizer.load(tmp_path / "run" / "tokenizer@1")
    config = PretrainConfig.parse({"packing": packing, "mixture": mixture})
    stream = config.stream(tokens, 128, 2, 0, tokenizer.bos_id)
    batches = [stream.batch(step) for step in range(100)]
    assert tokens.origins is not None
    named = [
        tokens.origins[stream.documents_of(sample)[0]].source.split("/")[0]  # type: ignore[attr-defined]
        for batch in batches
        for sample in batch["sample_ids"].tolist()
    ]
    assert named.count("one") == pytest.approx(150, abs=2)


@pytest.mark.usefixtures("known_speed")
def test_packed_rows_are_trained_on_document_by_document(corpus: Path, tmp_path: Path) -> None:
    """The loss of a packed batch is that of its documents alone, by the model that the stage wrote."""
    pipeline(corpus, tmp_path / "run", packing="best_fit", overlap=8).run(Progress())
    model = huggingface.load(tmp_path / "run" / "base@1")
    tokens = Tokens.open(tmp_path / "run" / "tokenizer@1")
    tokenizer = Tokenizer.load(tmp_path / "run" / "tokenizer@1")
    stream = PretrainConfig(packing="best_fit", overlap=8).stream(tokens, 128, 4, 0, tokenizer.bos_id)
    assert isinstance(stream, PackedStream) and stream.padding < 0.2
    batch, objective = stream.batch(3), CausalLM()
    with torch.no_grad():
        total = float(objective.loss(model, batch).sum)
        alone = 0.0
        for row in range(4):
            for number in batch["documents"][row].unique():
                here = batch["documents"][row] == number
                part = {name: batch[name][row, here][None] for name in ("inputs", "targets")}
                if objective.weight(part):
                    alone += float(objective.loss(model, part).sum)
    assert total == pytest.approx(alone, rel=1e-4)


@pytest.mark.usefixtures("known_speed")
def test_the_default_rows_are_those_of_windows(corpus: Path, tmp_path: Path) -> None:
    pipeline(corpus, tmp_path / "run").run(Progress())
    tokens = Tokens.open(tmp_path / "run" / "tokenizer@1")
    default, windows = (PretrainConfig(packing=one).stream(tokens, 64, 2, 0, 1) for one in (None, "windows"))
    assert default.fingerprint == windows.fingerprint
    assert set(default.batch(0)) == {"inputs", "targets", "sample_ids"}


@pytest.mark.usefixtures("known_speed")
def test_a_mixture_of_what_is_not_there_is_refused(corpus: Path, tmp_path: Path) -> None:
    mixture = {"weights": {"three": 1, "others": 1}}
    with pytest.raises(DataError, match="no document's source is 'three'"):
        pipeline(corpus, tmp_path / "run", mixture=mixture).run(Progress())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"overlap": 3}, "needs packing: best_fit"),
        ({"overlap": 512, "packing": "best_fit"}, r"overlap \(512\) must be less than context \(512\)"),
        ({"packing": "worst_fit"}, "'windows' or 'best_fit'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        PretrainConfig.parse(settings)


def test_the_tokenizer_stage_goes_on_where_it_ended(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SHARD_TOKENS", 1500)
    monkeypatch.setattr(shards, "_BATCH_DOCUMENTS", 2)
    stages = pipeline(corpus, tmp_path / "run").stages[:2]
    encoded: list[str] = []
    real = shards._encoded

    def some(tokenizer: object, dtype: object, batch: list[shards.Document]) -> list[shards.Encoded]:
        encoded.extend(one.id for one in batch)
        if len(encoded) > 100:
            raise KeyboardInterrupt
        return real(tokenizer, dtype, batch)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(shards, "_encoded", some)
        with pytest.raises(KeyboardInterrupt):
            Pipeline(stages, tmp_path / "run").run(Progress())
    first = list(encoded)
    monkeypatch.setattr(Tokenizer, "train", None)  # it was learnt before, and is not learnt again
    encoded.clear()
    monkeypatch.setattr(
        shards, "_encoded", lambda *all: (encoded.extend(d.id for d in all[2]), real(*all))[1]
    )
    Pipeline(stages, tmp_path / "run").run(Progress())
    assert len(encoded) < 130 and set(first) | set(encoded) == {
        one.id for one in iterate(tmp_path / "run" / "corpus@1")
    }
    whole = fingerprints(tmp_path / "run" / "tokenizer@1")
    monkeypatch.undo()
    monkeypatch.setattr(shards, "SHARD_TOKENS", 1500)
    Pipeline(stages, tmp_path / "other").run(Progress())
    assert fingerprints(tmp_path / "other" / "tokenizer@1") == whole


def iterate(corpus: Path) -> list[shards.Document]:
    from ingot.data.corpus import read_documents

    return [dataclasses.replace(one) for one in read_documents(corpus, "train")]


def fingerprints(folder: Path) -> dict[str, str]:
    files = [*(folder / "tokens").iterdir(), folder / "tokenizer.json"]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
