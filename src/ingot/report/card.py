"""The card of a model: a README.md that says what it is, how it was made, how good it is, and what for.

A card is Markdown with a YAML head, as model hubs read it, so that a folder can be given away as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingot.config import write_yaml
from ingot.report.words import METRICS, SPACE, clock, count, figure, interval, number, span

if TYPE_CHECKING:
    from ingot.artifact import Artifact

MODEL_CARD = "README.md"

_ABOUT = {
    "base": "It continues text. It was pretrained from random weights and follows no instructions.",
    "finetuned": "It answers in conversations. It was tuned on examples mined from its own corpus.",
    "aligned": "It answers in conversations. After tuning it was trained on a reward that can be checked: "
    "the answer is one block of code that parses and defines what was asked for.",
    "int8": "It is another model of the same run with its weights rounded to eight bits, one scale a row.",
}


def model_card(artifact: Artifact, evaluation: Mapping[str, Any] | None = None) -> str:
    """Returns the card of one model.

    Args:
        artifact: the model's folder and record.
        evaluation: what evaluation.json holds; None where nothing was measured.

    Returns:
        Markdown, with sections for provenance, figures, intended use, and limits and risks.
    """
    name = artifact.name
    sections = [
        _head(artifact),
        f"# {artifact.address}",
        _ABOUT.get(name, "It is a model made by ingot."),
        _figures(name, evaluation or {}),
        _use(artifact),
        _origin(artifact),
        _limits(name),
    ]
    return "\n\n".join(section for section in sections if section).replace(SPACE, " ") + "\n"


def write_cards(
    models: Mapping[str, Artifact], folder: Path, evaluation: Mapping[str, Any] | None = None
) -> list[Path]:
    """Writes the card of every model that was made, as `<name>.md`, and returns the files."""
    written = []
    for artifact in models.values():
        if artifact.record.kind == "model" and artifact.record.left_out is None:
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{artifact.name}.md"
            path.write_text(model_card(artifact, evaluation), encoding="utf-8")
            written.append(path)
    return written


_PIPELINES = {"encoder": "feature-extraction", "encoder_decoder": "text2text-generation"}
_CLASSES = {
    "model": "AutoModelForCausalLM",
    "linear_decoder": "AutoModelForCausalLM",
    "encoder_decoder": "AutoModelForSeq2SeqLM",
}
_VERBS = {
    "encoder": "`ingot embed this/folder` makes vectors with it",
    "encoder_decoder": "`ingot generate this/folder` rewrites a text with it",
}


def _head(artifact: Artifact) -> str:
    tags = ["ingot", *(["conversational"] if artifact.name in ("finetuned", "aligned") else [])]
    pipeline = _PIPELINES.get(artifact.record.kind, "text-generation")
    head = {"library_name": "transformers", "pipeline_tag": pipeline, "tags": tags}
    return f"---\n{write_yaml(head)}---"


def _class(artifact: Artifact) -> str:
    """The class of `transformers` that loads it; an encoder's is its own, which knows its head."""
    if artifact.record.kind in _CLASSES:
        return _CLASSES[artifact.record.kind]
    try:
        named = json.loads((artifact.path / "config.json").read_text(encoding="utf-8"))["architectures"][0]
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return "AutoModel"
    return str(named)


def _figures(name: str, evaluation: Mapping[str, Any]) -> str:
    models = evaluation.get("models")
    judged = models.get(name) if isinstance(models, dict) else None
    if not isinstance(judged, dict):
        return "## Figures\n\nNothing was measured."
    rows = ["| what | value | 95 % interval |", "|---|---|---|"]
    for metric, (title, _) in METRICS.items():
        value, bounds = number(judged.get(metric)), interval(judged.get(f"{metric}_interval"))
        if value is not None:
            rows.append(f"| {title} | {figure(metric, value)} | {span(metric, bounds) if bounds else '-'} |")
    if len(rows) == 2:
        return "## Figures\n\nNothing was measured."
    return "## Figures\n\nOn text that it was not trained on:\n\n" + "\n".join(rows)


def _use(artifact: Artifact) -> str:
    name, loader = artifact.name, _class(artifact)
    verb = _VERBS.get(artifact.record.kind, "`ingot chat this/folder` talks to it")
    loading = (
        "```python\n"
        f"from transformers import {', '.join(sorted((loader, 'AutoTokenizer')))}\n\n"
        'tokenizer = AutoTokenizer.from_pretrained("this/folder")\n'
        f'model = {loader}.from_pretrained("this/folder")\n'
        "```"
    )
    extra = " (`transformers` needs the package `compressed-tensors` for it)" if name == "int8" else ""
    return (
        "## Use\n\nIt is meant for learning how such models are made, for experiments, and for text of "
        f"the kind that it was made from{extra}. {verb}.\n\n{loading}"
    )


def _origin(artifact: Artifact) -> str:
    record = artifact.record
    parents = ", ".join(f"`{parent['address']}`" for parent in record.parents.values()) or "nothing"
    lines = [f"- made from {parents}, in {clock(record.seconds)}, with seed {record.seed}"]
    for key, unit in (("parameters", "weights"), ("tokens", "tokens read")):
        if (value := number(record.metrics.get(key))) is not None:
            lines.append(f"- {count(value)} {unit}")
    versions = {"ingot": record.code.get("ingot"), **record.environment}
    lines.append("- " + ", ".join(f"{key} {value}" for key, value in versions.items() if value))
    lines.append(f"- fingerprint `{record.fingerprint}`")
    lines += [f"- {' '.join(note.split())}" for note in record.notes]
    settings = write_yaml(record.config).rstrip()
    return "## How it was made\n\n" + "\n".join(lines) + f"\n\n```yaml\n{settings}\n```"


def _limits(name: str) -> str:
    spoken = "answers" if name in ("finetuned", "aligned", "int8") else "text"
    return (
        f"## Limits and risks\n\nIt is small, and its {spoken} may look right and be wrong. It knows only "
        "its corpus, whose mistakes, views and personal data it may repeat. Code that it writes was never "
        "run when it was made, and should not be run unread. It was not tested for safety, and is not fit "
        "for decisions about people."
    )
