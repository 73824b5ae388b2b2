"""What the artifacts of a run say, gathered and given one shape; nothing is computed anew here.

Every file may be absent, since stages may be left out and evaluations may lack parts. One that is there
but cannot be read does not cost the user the report: it is named among the problems.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from ingot.data.corpus import iterate_ledger
from ingot.errors import ArtifactError
from ingot.report.words import number

if TYPE_CHECKING:
    from ingot.artifact import Artifact

ORDER = ("prepare", "tokenizer", "pretrain", "finetune", "align", "compress", "evaluate")
TRAINING = ("pretrain", "finetune", "align")
MODELS = ("base", "finetuned", "aligned", "int8")


@dataclass(frozen=True)
class StageFacts:
    """What one stage made.

    Args:
        name: the stage ("pretrain").
        artifact: its artifact ("base").
        address: name and version ("base@1").
        path: the artifact's folder.
        seconds: wall time of the work.
        left_out: why nothing was made, or None.
        metrics, config, parents, notes: as the record holds them; parents as stage name -> address.
        plan: what the planner chose and measured; empty where there is none.
        steps: the lines of metrics.jsonl, oldest first.
    """

    name: str
    artifact: str
    address: str
    path: Path
    seconds: float
    left_out: str | None
    metrics: dict[str, Any]
    config: dict[str, Any]
    parents: dict[str, str]
    notes: list[str]
    plan: dict[str, Any] = field(default_factory=dict)
    steps: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Dropped:
    """The files of the corpus that were dropped for one reason, with the first few of them."""

    reason: str
    files: int
    examples: list[tuple[str, str]]


@dataclass(frozen=True)
class Facts:
    """All that a report shows, in the order of the road.

    Args:
        run: the run folder.
        recipe: the resolved recipe; empty where it was not kept.
        stages: by stage name, in order.
        source_files, source_bytes: what the corpus was read from; None where it was not recorded.
        counts: counts.json of the corpus.
        dropped: what the corpus does not hold and why, the largest group first.
        evaluation: evaluation.json; empty where there is none.
        samples: the same prompts answered by every stage.
        machine: versions and hardware.
        code: which ingot.
        seed: of the run.
        peak_memory: bytes, or None.
        problems: files that could not be read.
    """

    run: Path
    recipe: dict[str, Any]
    stages: dict[str, StageFacts]
    source_files: int | None
    source_bytes: int | None
    counts: dict[str, Any]
    dropped: list[Dropped]
    evaluation: dict[str, Any]
    samples: list[dict[str, Any]]
    machine: dict[str, Any]
    code: dict[str, Any]
    seed: int | None
    peak_memory: int | None
    problems: list[str]

    @property
    def seconds(self) -> float:
        """Wall time of all stages together."""
        return sum(stage.seconds for stage in self.stages.values())

    @property
    def best(self) -> str | None:
        """The model that `ingot chat` takes: the newest aligned one, else finetuned, else base."""
        made = {stage.artifact for stage in self.stages.values() if stage.left_out is None}
        return next((name for name in ("aligned", "finetuned", "base") if name in made), None)

    @property
    def xz(self) -> dict[str, Any]:
        """What the evaluation says of xz on the same bytes; empty where it says nothing."""
        return _dict(self.evaluation.get("xz"))

    @property
    def ngram(self) -> dict[str, Any]:
        """What the evaluation says of an n-gram model of the training text; empty where it says nothing."""
        return _dict(self.evaluation.get("ngram"))

    def model(self, name: str) -> dict[str, Any]:
        """Returns what the evaluation says of one model; empty where it says nothing or it was left out."""
        stage = self.of(name)
        if stage is not None and stage.left_out is not None:
            return {}
        return _dict(_dict(self.evaluation.get("models")).get(name))

    def of(self, artifact: str) -> StageFacts | None:
        """Returns the stage that made `artifact`, or None."""
        return next((stage for stage in self.stages.values() if stage.artifact == artifact), None)


def gather(artifacts: Mapping[str, Artifact], run: Path, peak_memory: int | None = None) -> Facts:
    """Reads what the stages of a run left behind.

    Args:
        artifacts: by stage name; stages may be missing.
        run: the run folder, for its recipe.
        peak_memory: bytes that this process has held at most.
    """
    problems: list[str] = []
    names = [name for name in ORDER if name in artifacts] + [name for name in artifacts if name not in ORDER]
    stages = {name: _stage(name, artifacts[name], problems) for name in names}
    corpus = artifacts["prepare"].path if "prepare" in artifacts else None
    evaluation = artifacts["evaluate"].path if "evaluate" in artifacts else None
    counts = _mapping(corpus / "counts.json", problems) if corpus else {}
    files, read = number(counts.get("files")), number(counts.get("bytes_read"))
    judged = _mapping(evaluation / "evaluation.json", problems) if evaluation else {}
    records = [one.record for one in artifacts.values()]
    machine: dict[str, Any] = dict(records[-1].environment) if records else {}
    machine |= {key: value for key, value in _dict(judged.get("machine")).items() if value is not None}
    peaks = [number(record.metrics.get("peak_memory")) or 0.0 for record in records]
    return Facts(
        run=run,
        recipe=_recipe(run / "recipe.yaml"),
        stages=stages,
        source_files=None if files is None else int(files),
        source_bytes=None if read is None else int(read),
        counts=counts,
        dropped=_dropped(corpus, problems) if corpus else [],
        evaluation=judged,
        samples=_samples(evaluation / "samples.json", problems) if evaluation else [],
        machine=machine,
        code=dict(records[-1].code) if records else {},
        seed=records[-1].seed if records else None,
        peak_memory=int(max(peak_memory or 0, *peaks, 0)) or None,
        problems=problems,
    )


def _stage(name: str, artifact: Artifact, problems: list[str]) -> StageFacts:
    record = artifact.record
    return StageFacts(
        name=name,
        artifact=record.name,
        address=artifact.address,
        path=artifact.path,
        seconds=record.seconds,
        left_out=record.left_out,
        metrics=dict(record.metrics),
        config=dict(record.config),
        parents={stage: parent.get("address", "") for stage, parent in record.parents.items()},
        notes=[str(note) for note in record.notes],
        plan=_mapping(artifact.path / "plan.json", problems),
        steps=list(_lines(artifact.path / "metrics.jsonl", problems)),
    )


def _dropped(corpus: Path, problems: list[str], shown: int = 3) -> list[Dropped]:
    groups: dict[str, Dropped] = {}
    try:
        for one in iterate_ledger(corpus):
            group = groups.get(one.reason, Dropped(one.reason, 0, []))
            if len(group.examples) < shown:
                group.examples.append((one.path, one.detail))
            groups[one.reason] = Dropped(one.reason, group.files + 1, group.examples)
    except ArtifactError as error:
        problems.append(str(error))
    return sorted(groups.values(), key=lambda group: (-group.files, group.reason))


def _samples(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    value = _json(path, problems)
    samples = value if isinstance(value, list) else []
    return [one for one in samples if isinstance(one, dict) and isinstance(one.get("answers"), dict)]


def _recipe(path: Path) -> dict[str, Any]:
    try:
        return _dict(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, yaml.YAMLError):
        return {}


def _lines(path: Path, problems: list[str]) -> Iterator[dict[str, Any]]:
    """The objects of a JSON lines file; a line that is none is skipped and the file named."""
    if not path.is_file():
        return
    unreadable = 0
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                value = json.loads(line) if line.strip() else {}
            except ValueError:
                value = None
            if isinstance(value, dict) and value:
                yield value
            unreadable += not isinstance(value, dict)
    if unreadable:
        problems.append(f"{_place(path)}: {unreadable} lines could not be read")


def _mapping(path: Path, problems: list[str]) -> dict[str, Any]:
    return _dict(_json(path, problems))


def _json(path: Path, problems: list[str]) -> Any:
    if not path.is_file():
        return None
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        problems.append(f"{_place(path)} could not be read ({error})")
        return None


def _place(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"


def _dict(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
