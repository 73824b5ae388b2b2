"""What a model costs, in one piece of plain data: parameters, FLOPs, memory."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from ingot.config import Config, override
from ingot.errors import ArtifactError, ConfigError, did_you_mean
from ingot.models import (
    describe,
    encoder_decoder_folder,
    encoder_folder,
    flow,
    huggingface,
    linear_folder,
)
from ingot.models.decoder import DecoderConfig
from ingot.models.families.presets import CLOSED, PRESETS, config_of
from ingot.report.architecture import draw
from ingot.report.words import count, size
from ingot.train.memory import update_memory
from ingot.train.planner import DEPTHS, shape

LADDER = {f"depth-{depth}": depth for depth in DEPTHS}
"""The planner's ladder of sizes, by name."""

_VOCABULARY, _CONTEXT = 32_768, 2048
_TRACED = 23  # tokens: rarely the size of anything else
_STATES = {
    "muon": "Muon for the blocks' matrices, Adam for the rest",
    "adam": "Adam for all",
    "lion": "Lion for all",
}


class Described(NamedTuple):
    """A model without numbers, and all that is known of it.

    Args:
        name: what it was called.
        config: its sizes and parts.
        model: without numbers.
        root: its parts.
        cost: of a token.
        memory: bytes of training, row by row of a micro-batch: optimizer -> precision -> part -> bytes.
        note: what the figures do not say, or None.
    """

    name: str
    config: Config
    model: nn.Module
    root: describe.Part
    cost: describe.Cost
    memory: dict[str, dict[str, dict[str, int]]]
    note: str | None

    def plain(self) -> dict[str, Any]:
        """Returns it as plain data."""
        cost = self.cost
        return {
            "name": self.name,
            "parameters": self.root.total,
            "config": self.config.plain(),
            "context": cost.context,
            "flops_per_token": {
                "forward": cost.forward,
                "forward_backward": cost.training,
                "attention_forward": cost.attention,
            },
            "kv_bytes_per_token": {
                "fp32": cost.kv_bytes(torch.float32),
                "bf16": cost.kv_bytes(torch.bfloat16),
            },
            "training_memory_bytes": self.memory,
            "tree": self.root.plain(),
            **({"note": self.note} if self.note else {}),
        }

    def drawing(self) -> str:
        """Returns the architecture as SVG."""
        tokens = min(_TRACED, self.cost.context)
        facts = [
            f"{self.root.total:,} parameters",
            f"{count(self.cost.forward)}FLOPs per token",
            f"context {self.cost.context:,}",
        ]
        bytes_kept = self.cost.kv_bytes()
        if bytes_kept is not None:
            facts.append(f"{size(bytes_kept)} of keys and values per token in bf16")
        return draw(self.root, flow.trace(self.model, tokens), self.name, facts, tokens)


def read(name: str, changes: list[str]) -> tuple[Config, str, str | None]:
    """Returns a configuration, what to call it, and a note.

    Args:
        name: a preset ("depth-12", "llama-3-8b"), a model's folder or a run folder.
        changes: `key=value` texts for a preset's configuration (vocabulary=50000 context=4096 ...).

    Raises:
        ConfigError: no such preset or folder, or a change that a folder's model cannot have.
    """
    if name in LADDER or name in PRESETS:
        start = shape(LADDER[name], _VOCABULARY, _CONTEXT) if name in LADDER else config_of(name)
        note = None if name in LADDER else f"{PRESETS[name].parameters:,} published: {PRESETS[name].source}"
        return DecoderConfig.parse(override(start.model_dump(), changes), where=name), name, note
    if name.lower() in CLOSED:
        what = f"the sizes of '{name}' were never published: nobody outside can make one like it"
        raise ConfigError(what, where="model", fix="name an open model, such as llama-3-8b or deepseek-v3")
    if not Path(name).exists():
        fix = did_you_mean(name, [*LADDER, *PRESETS])
        raise ConfigError(f"no preset and no folder '{name}'", where="model", fix=fix)
    if changes:
        raise ConfigError("cannot be changed: it is made", where=name, fix="change a preset instead")
    from ingot.inference.locate import locate

    folder = locate(name)
    config, raw = _of_folder(folder)
    quantized = "quantization_config" in raw
    note = (
        "stored quantized; the figures are those of the dense model that it stands for" if quantized else None
    )
    return config, str(folder), note


def _of_folder(folder: Path) -> tuple[Config, dict[str, Any]]:
    """What a folder holds, and its `config.json`; what is of no other kind is a decoder, or refused."""
    for door in (encoder_folder, linear_folder, encoder_decoder_folder):
        with suppress(ArtifactError):
            config, *_, raw = door.read_config(folder)
            return config, raw
    return huggingface.read_config(folder)


def describe_model(name: str, changes: list[str]) -> Described:
    """Returns what a preset or a folder's model is made of and what it costs. See `read`."""
    config, called, note = read(name, changes)
    model = describe.blank(config)
    cost = describe.cost(model, getattr(config, "context", None) or _CONTEXT)
    memory = training_memory(config) if isinstance(config, DecoderConfig) else {}
    return Described(called, config, model, describe.tree(model), cost, memory, note)


def training_memory(config: DecoderConfig, rows: int = 1) -> dict[str, dict[str, dict[str, int]]]:
    """Returns the bytes of an update: optimizer -> precision -> part -> bytes.

    Args:
        config: of the model.
        rows: sequences of the model's context in a micro-batch.
    """
    found: dict[str, dict[str, dict[str, int]]] = {}
    for optimizer in _STATES:
        for precision in ("fp32", "bf16"):
            needed = update_memory(config, rows, precision, matrices_to_muon=optimizer == "muon")
            if optimizer == "lion":  # one number per weight where Adam keeps two
                needed = needed._replace(optimizer=needed.optimizer // 2)
            parts = {**needed._asdict(), "total": needed.total}
            found.setdefault(optimizer, {})[precision] = parts
    return found


def lines(described: Described) -> list[str]:
    """Returns the tree and the figures as lines of text."""
    shown = [
        ("  " * depth + _called(part), _shapes(part), f"{part.total:,}" if part.total else "")
        for depth, part in described.root.walk()
        if part.total or part.weights
    ]
    widths = [max(len(row[column]) for row in shown) for column in range(3)]
    text = [f"{a.ljust(widths[0])}  {b.ljust(widths[1])}  {c.rjust(widths[2])}".rstrip() for a, b, c in shown]
    cost = described.cost
    text += ["", f"parameters        {described.root.total:,} (shared ones once)"]
    text.append(
        f"FLOPs per token   {count(cost.forward)} forward, {count(cost.training)} forward and backward, in a "
        f"text of {cost.context:,} tokens; {100 * cost.attention / cost.forward:.0f} % of it attention"
    )
    if cost.kv_numbers is not None:
        kept = cost.kv_bytes() or 0
        text.append(
            f"keys and values   {kept:,} bytes per token in bf16, {cost.kv_bytes(torch.float32):,} in fp32; "
            f"{size(kept * cost.context)} for a whole context in bf16"
        )
    if described.memory:
        text.append("training memory   one row of the context at a time; weights and optimizer in fp32:")
    for optimizer, by in described.memory.items():
        totals = ", ".join(f"{size(parts['total'])} in {precision}" for precision, parts in by.items())
        text.append(f"  {optimizer:<6} {totals}  ({_STATES[optimizer]})")
    return [line.replace("\N{NO-BREAK SPACE}", " ") for line in [*text, *_noted(described)]]


def _noted(described: Described) -> list[str]:
    return [f"note: {described.note}"] if described.note else []


def _called(part: describe.Part) -> str:
    times = f" x {part.times}" if part.times > 1 else ""
    return f"{part.name}{times}  {part.kind}" if part.name else part.kind


def _shapes(part: describe.Part) -> str:
    """What stands in the second column: shapes of its own weights, and whose they are."""
    if part.times > 1 and not part.weights:
        return f"{part.each:,} each, below is one"
    return ", ".join(
        f"{' x '.join(map(str, weight.shape))}" + (f" = {weight.shared_with}" if weight.shared_with else "")
        for weight in part.weights
    )
