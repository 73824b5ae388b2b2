"""The lineage of a run as a small graph: what was made from what, with the counts that matter.

The edges are those of the artifacts' own records, without the ones that say nothing new: a model that
was made from another model needs no line from the tokenizer that both share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ingot.report.facts import MODELS, TRAINING, Facts, StageFacts
from ingot.report.words import count, figure, number, percent, size

SOURCE = "source"

# For each artifact the stages that it may be made from: the first one that made something is drawn.
_CHAIN = {
    "corpus": (),
    "tokenizer": ("prepare",),
    "base": ("tokenizer", "prepare"),
    "finetuned": ("pretrain",),
    "aligned": ("finetune", "pretrain"),
    "int8": ("align", "finetune", "pretrain"),
}


@dataclass(frozen=True)
class Node:
    """A box: an artifact (or the source files), what it holds, and the reason if it was left out."""

    name: str
    version: str
    lines: tuple[str, ...]
    left_out: str | None = None


@dataclass(frozen=True)
class Edge:
    """An arrow between two boxes, with the amount that went along it (may be empty)."""

    origin: str
    target: str
    label: str


@dataclass(frozen=True)
class Lineage:
    """The graph, in the order of the road; `judge` is the evaluation, which looks at every model."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    judge: Node | None

    def node(self, name: str) -> Node:
        """Returns the box called `name`."""
        return next(node for node in self.nodes if node.name == name)


def trace(facts: Facts) -> Lineage:
    """Makes the lineage of a run from its gathered facts."""
    nodes = [Node(SOURCE, "", _source_lines(facts))]
    edges = [Edge(SOURCE, "corpus", _drop_label(facts))] if facts.of("corpus") else []
    judge = None
    for stage in facts.stages.values():
        version = stage.address.partition("@")[2]
        if stage.artifact == "evaluation":
            judge = Node("evaluation", version, _judge_lines(facts), stage.left_out)
        elif stage.artifact in _CHAIN:
            lines = () if stage.left_out else _lines(facts, stage)
            nodes.append(Node(stage.artifact, version, lines, stage.left_out))
            if stage.left_out is None:
                edges += _edges(facts, stage)
    return Lineage(tuple(nodes), tuple(edges), judge)


def _edges(facts: Facts, stage: StageFacts) -> list[Edge]:
    made = {name: one for name, one in facts.stages.items() if one.left_out is None}
    chain = [name for name in _CHAIN[stage.artifact] if name in stage.parents and name in made]
    if stage.artifact == "int8" and (of := facts.of(str(facts.model("int8").get("of")))) and of.name in chain:
        chain = [of.name]
    edges = [Edge(made[name].artifact, stage.artifact, _along(facts, stage)) for name in chain[:1]]
    if stage.artifact in ("finetuned", "aligned") and "prepare" in stage.parents and "prepare" in made:
        edges.append(Edge("corpus", stage.artifact, _mined(stage)))
    return edges


def _source_lines(facts: Facts) -> tuple[str, ...]:
    lines = []
    if facts.source_files:
        lines.append(f"{facts.source_files:,} files")
    if facts.source_bytes:
        lines.append(size(facts.source_bytes))
    return tuple(lines) or ("text files",)


def _lines(facts: Facts, stage: StageFacts) -> tuple[str, ...]:
    """Two short lines of numbers for a box."""
    lines: list[str] = []
    if stage.artifact == "corpus":
        documents = _part(facts.counts, "documents")
        for split, meaning in (("train", "to train on"), ("heldout", "held out")):
            if (found := number(documents.get(split))) is not None:
                lines.append(f"{found:,.0f} {meaning}")
    elif stage.artifact == "tokenizer":
        entries, density = first(stage.metrics, "vocabulary"), first(stage.metrics, "bytes_per_token")
        lines += [] if entries is None else [f"{entries:,.0f} entries"]
        lines += [] if density is None else [f"{density:.2f} bytes/token"]
    elif stage.artifact in MODELS:
        judged = facts.model(stage.artifact)
        weights, bits = number(judged.get("bytes")), number(judged.get("bits_per_byte"))
        success = number(judged.get("success"))
        parameters = number(judged.get("parameters")) or first(stage.metrics, "parameters")
        if stage.artifact == "int8":
            lines += [] if weights is None else [size(weights)]
        elif stage.artifact == "base":
            lines += [] if parameters is None else [f"{count(parameters)} weights"]
        elif success is not None:
            lines.append(f"{percent(success)} success")
        lines += [] if bits is None else [f"{figure('bits_per_byte', bits)} bpb"]
    return tuple(lines[:2])


def _judge_lines(facts: Facts) -> tuple[str, ...]:
    heldout, parts = _part(facts.evaluation, "heldout"), []
    if (documents := number(heldout.get("documents"))) is not None:
        held = f"{documents:,.0f} held-out files"
        parts.append(f"{held}, {size(number(heldout.get('bytes')) or 0)}")
    if (prompts := number(facts.evaluation.get("prompts"))) is not None:
        parts.append(f"{prompts:,.0f} prompts")
    return tuple(parts)


def _drop_label(facts: Facts) -> str:
    dropped = sum(group.files for group in facts.dropped)
    return f"{dropped:,} dropped" if dropped else ""


def _along(facts: Facts, stage: StageFacts) -> str:
    """What went along the main arrow into a stage."""
    if stage.artifact == "tokenizer":
        read = number(_part(facts.counts, "bytes").get("train"))
        return "" if read is None else size(read)
    if stage.artifact == "base":
        tokens = first(stage.metrics, "tokens")
        return "" if tokens is None else f"{count(tokens)} tokens"
    if stage.name in TRAINING and (steps := steps_of(stage)):
        return f"{steps:,} steps"
    return "rounded" if stage.artifact == "int8" else ""


def _mined(stage: StageFacts) -> str:
    """What a tuning stage took straight from the corpus."""
    kind = "prompts" if stage.artifact == "aligned" else "examples"
    amount = first(stage.metrics, "prompts") if kind == "prompts" else first(stage.metrics, "used", "mined")
    return f"{kind} mined" if amount is None else f"{count(amount)} {kind} mined"


def steps_of(stage: StageFacts) -> int | None:
    """Returns how many updates a training stage made."""
    made = first(stage.metrics, "steps")
    if made is None:
        made = next((number(line.get("step")) for line in reversed(stage.steps) if "step" in line), None)
    if made is None:
        made = planned_steps(stage)
    return None if made is None else int(made)


def planned_steps(stage: StageFacts) -> float | None:
    """Returns how many updates a training stage was to make."""
    planned = first(_part(stage.plan, "train"), "steps")
    return planned if planned is not None else first(stage.plan, "steps")


def first(values: Mapping[str, Any], *keys: str) -> float | None:
    """Returns the first of `keys` that holds a number."""
    return next((found for key in keys if (found := number(values.get(key))) is not None), None)


def _part(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    part = values.get(key)
    return part if isinstance(part, dict) else {}
