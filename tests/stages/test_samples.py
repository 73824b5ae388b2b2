"""A training sample leads back to its tokens, documents and sources, however rows are made."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from ingot.artifact import read
from ingot.cli import main
from ingot.data.corpus import read_documents
from ingot.data.tokens import Tokens
from ingot.errors import ArtifactError
from ingot.pipeline import Pipeline
from ingot.progress import Progress
from ingot.stages.prepare import Prepare, PrepareConfig
from ingot.stages.pretrain import Pretrain, PretrainConfig
from ingot.stages.samples import Samples
from ingot.stages.tokenizer import TrainTokenizer, TrainTokenizerConfig
from ingot.tokenizer.tokenizer import Tokenizer

MIXTURE = {"weights": {"one": 3, "two": 1}}
CONTEXT, ROWS = 128, 2


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of short texts, all different, one of them under a licence."""
    root = tmp_path_factory.mktemp("text")
    for folder, words in (("one", "alpha beta gamma delta"), ("two", "uno due tre quattro")):
        (root / folder).mkdir()
        for number in range(90):
            body = " ".join(f"{word} {number * step}" for step, word in enumerate(words.split() * 5, 3))
            (root / folder / f"{number:02d}.txt").write_text(f"{body}.\n")
    notice = "This is free and unencumbered software released into the public domain.\n"
    (root / "one" / "LICENSE").write_text(notice)
    return root


def trained(text: Path, run: Path, **changes: object) -> PretrainConfig:
    config = PretrainConfig.parse(
        {"minutes": 0.05, "depth": 1, "context": CONTEXT, "batch_size": ROWS, "compile": False, **changes}
    )
    stages = [
        Prepare(PrepareConfig(data=str(text), near_duplicates=1.0)),
        TrainTokenizer(TrainTokenizerConfig(vocabulary=300)),
        Pretrain(config),
    ]
    Pipeline(stages, run).run(Progress(), seed=5)
    return config


@pytest.mark.usefixtures("known_speed")
@pytest.mark.parametrize("packing", ["windows", "best_fit"])
@pytest.mark.parametrize("mixture", [None, MIXTURE])
def test_a_sample_is_rebuilt_from_its_documents(
    text: Path, tmp_path: Path, packing: str, mixture: dict[str, object] | None
) -> None:
    run = tmp_path / "run"
    config = trained(text, run, packing=packing, mixture=mixture)
    tokens, tokenizer = Tokens.open(run / "tokenizer@1"), Tokenizer.load(run / "tokenizer@1")
    documents = read_documents(run / "corpus@1", "train")
    batch = config.stream(tokens, CONTEXT, ROWS, 5, tokenizer.bos_id).batch(6, salt=1)
    samples = Samples(run)
    assert samples.of_step(7, salt=1) == batch["sample_ids"].tolist()
    for row, id in enumerate(batch["sample_ids"].tolist()):
        found = samples.trace(id, salt=1)
        rebuilt = np.concatenate(
            [tokens.document(part.span.document)[part.span.first : part.span.end] for part in found.parts]
        )
        inputs = batch["inputs"][row].numpy()
        if packing == "windows":  # with the last target
            assert (rebuilt == [*inputs, int(batch["targets"][row, -1])]).all()
        else:
            assert (rebuilt == inputs[: len(rebuilt)]).all()
            assert (inputs[len(rebuilt) :] == tokenizer.bos_id).all()
        for part in found.parts:
            document = part.location.document
            assert document == documents[part.span.document]
            assert part.text in (text / document.source).read_text()
            assert document.licence == ("Unlicense" if document.source.startswith("one/") else None)
        if mixture is not None:
            assert len({part.location.document.source.split("/")[0] for part in found.parts}) == 1
        json.dumps(found.plain())


@pytest.mark.usefixtures("known_speed")
def test_samples_of_a_run_that_has_not_ended(
    text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    config = trained(text, run, packing="best_fit")
    ended = Samples(run).trace(3).plain()
    plan = (run / "base@1" / "plan.json").read_bytes()
    shutil.rmtree(run / "base@1")
    with pytest.raises(ArtifactError, match="no model was trained here"):
        Samples(run)
    (run / "work" / "pretrain-0123456789ab").mkdir(parents=True)
    (run / "work" / "pretrain-0123456789ab" / "plan.json").write_bytes(plan)
    recipe = {"name": "x", "seed": 5, "stages": {"pretrain": config.plain()}}
    (run / "recipe.yaml").write_text(json.dumps(recipe))  # JSON is YAML
    assert Samples(run).trace(3).plain() == ended
    with pytest.raises(ArtifactError, match="no sample -1"):
        Samples(run).trace(-1)

    def ingot(*words: object) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as left:
            main([str(word) for word in ("data", "trace", run, *words)])
        told = capsys.readouterr()
        return int(left.value.code or 0), told.out, told.err

    status, told, _ = ingot("--sample", 3, "--json")
    assert status == 0 and json.loads(told) == ended
    status, told, _ = ingot("--sample", 3)
    source = ended["documents"][0]["source"]
    assert status == 0 and "sample 3: " in told and source in told
    status, told, _ = ingot("--step", 2, "--json")
    assert len(json.loads(told)["samples"]) == ROWS
    assert ingot("--step", 0)[0] == 2
    status, _, log = ingot("3", "--sample", 3)
    assert status == 2 and "one thing can be traced at a time" in log
    assert ingot()[0] == 2
    assert read(run / "corpus@1").address == "corpus@1"
