"""Stage evaluate: every model that was made, measured on text and prompts that none of them has seen."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from ingot import device as machine
from ingot.artifact import Artifact
from ingot.config import Config
from ingot.data.conversations import Example
from ingot.data.corpus import iterate_documents, read_documents
from ingot.evaluate import samples, targets
from ingot.evaluate.baselines import COMMAND, NgramBits, ngram_bits_per_byte, xz_bits_per_byte
from ingot.evaluate.folder import heldout
from ingot.evaluate.instruction import choose
from ingot.evaluate.measured import Measured, measure
from ingot.inference.choosing.sampling import Sampling
from ingot.models import huggingface
from ingot.pipeline import Context, LeftOut
from ingot.tokenizer.tokenizer import Tokenizer

MODELS = ("pretrain", "finetune", "align", "compress")
MEANT_PROMPTS = 300
"""Success rates of fewer prompts have wide intervals, which the report then says."""


class EvaluateConfig(Config):
    """What to measure.

    Args:
        prompts: instructions mined from held-out files, at most.
        max_new_tokens: of each answer.
        temperature: to answer with; 0 is greedy. With another, each prompt has its own fixed seed.
    """

    prompts: int = Field(default=320, ge=0)
    max_new_tokens: int = Field(default=160, ge=1)
    temperature: float = Field(default=0.0, ge=0)


class Evaluate:
    """Writes `evaluation.json`, `outcomes.jsonl` (one line per prompt and model) and `samples.json`."""

    name = "evaluate"
    artifact = "evaluation"
    kind = "evaluation"
    needs = ("prepare", "tokenizer", "pretrain", "finetune", "align", "compress")

    def __init__(self, config: EvaluateConfig) -> None:
        self.config = config

    def run(self, context: Context) -> None:
        """Measures the models one after another; those that are measured stay so over a kill.

        Raises:
            LeftOut: no model was made.
        """
        start = time.monotonic()
        made = {
            context.parents[stage].name: context.parents[stage]
            for stage in MODELS
            if context.parents[stage].record.left_out is None
        }
        if not made:
            raise LeftOut("no model was made")
        machine.prepare_threads()
        documents = read_documents(context.parents["prepare"].path, "heldout")
        texts = [document.text for document in documents]
        tokenizer = Tokenizer.load(context.parents["tokenizer"].path)
        room = self._room(made)
        examples = choose(documents, tokenizer, self.config.prompts, room, context.seed)
        shown = samples.choose_samples(documents, examples, tokenizer, room)
        models: dict[str, Measured] = {}
        for name, artifact in made.items():
            kept = context.work / f"{name}.json"
            if not kept.exists():
                measure(
                    artifact.path,
                    texts,
                    examples,
                    shown,
                    sampling=self._sampling,
                    device=context.device,
                    progress=context.progress,
                    name=name,
                ).save(kept)
            models[name] = Measured.load(kept)
        with context.progress.task("compressing held-out text with xz", total=1, unit="files") as task:
            xz = xz_bits_per_byte(texts)
            task.advance(1, f"{xz:.3f} bits per byte")
        with context.progress.task("predicting held-out text by n-grams", total=1, unit="models") as task:
            learnt = (one.text for one in iterate_documents(context.parents["prepare"].path, "train"))
            ngram = ngram_bits_per_byte(learnt, texts, tokenizer, tokenizer.vocab_size)
            task.advance(1, f"{ngram.bits_per_byte:.3f} bits per byte")
        self._write(context, models, examples, xz, ngram, time.monotonic() - start)
        answers = {name: found.shown for name, found in models.items()}
        _write_json(context, "samples.json", samples.table(shown, answers))

    @property
    def _sampling(self) -> Sampling:
        return Sampling(max_new_tokens=self.config.max_new_tokens, temperature=self.config.temperature)

    def _room(self, made: Mapping[str, Artifact]) -> int:
        """Tokens that a prompt may have: half the context where answers would leave it less."""
        config, _ = huggingface.read_config(next(iter(made.values())).path)
        return max(config.context - self.config.max_new_tokens, config.context // 2)

    def _write(
        self,
        context: Context,
        models: Mapping[str, Measured],
        examples: list[Example],
        xz: float,
        ngram: NgramBits,
        seconds: float,
    ) -> None:
        """Writes figures and outcomes, fills the metrics, and says in words what was missed."""
        of = str(context.parents["compress"].record.metrics.get("of", ""))
        compared = targets.compare(models, of, context.seed)
        held = targets.targets(
            models,
            compared,
            xz,
            default_corpus=context.parents["prepare"].record.config.get("data") is None,
            minutes=_minutes(context, seconds),
            peak_memory=_peak_memory(context),
        )
        summaries = {name: found.summary(context.seed) for name, found in models.items()}
        if "int8" in summaries:
            summaries["int8"]["of"] = of
        text = heldout(next(iter(models.values())).bits)
        evaluation = {
            "heldout": text,
            "xz": {"bits_per_byte": xz, "command": COMMAND},
            "ngram": ngram.plain(),
            "models": summaries,
            "comparisons": [one.plain() for one in compared],
            "prompts": len(examples),
            "sampling": {
                "temperature": self.config.temperature,
                "max_new_tokens": self.config.max_new_tokens,
            },
            "targets": [one._asdict() for one in held],
            "machine": machine.describe(),
        }
        _write_json(context, "evaluation.json", evaluation)
        with (context.folder / "outcomes.jsonl").open("w", encoding="utf-8") as file:
            for name, found in models.items():
                for example, outcome in zip(examples, found.outcomes, strict=True):
                    line = {"model": name, **outcome.plain(), "source": example.source}
                    file.write(json.dumps(line) + "\n")
        context.notes += self._notes(models, examples, text)
        context.notes += [one.words() for one in held if not one.met]
        context.metrics |= {
            **_metrics(models),
            "xz_bits_per_byte": xz,
            "ngram_bits_per_byte": round(ngram.bits_per_byte, 5),
            "prompts": len(examples),
            "peak_memory": machine.peak_memory(),
        }

    def _notes(
        self, models: Mapping[str, Measured], examples: list[Example], text: Mapping[str, int]
    ) -> list[str]:
        precision = next(iter(models.values())).precision
        how = "greedy" if self.config.temperature == 0 else f"at temperature {self.config.temperature:g}"
        notes = [
            f"Bits per byte are of {text['documents']:,} held-out documents with {text['bytes']:,} bytes, in "
            f"windows with stride half the context, computed in {precision}."
        ]
        if not examples:
            return [*notes, "The held-out files hold no functions to ask for, so success was not measured."]
        notes.append(f"Success is of {len(examples):,} prompts mined from held-out files, answered {how}.")
        if len(examples) < min(MEANT_PROMPTS, self.config.prompts):
            notes.append(
                f"That is all there are; {MEANT_PROMPTS} or more were meant: the intervals are wide."
            )
        return notes


def _metrics(models: Mapping[str, Measured]) -> dict[str, float]:
    """The main figures, for the record."""
    found: dict[str, float] = {}
    for name, model in models.items():
        found[f"{name}_bits_per_byte"] = round(model.bits.bits_per_byte, 5)
        if model.outcomes:
            found[f"{name}_success"] = round(sum(model.successes) / len(model.successes), 5)
        found[f"{name}_tokens_per_second"] = model.decode_tokens_per_second
    return found


def _minutes(context: Context, seconds: float) -> float | None:
    """What all stages took so far, where the minutes asked for were the default or fewer."""
    records = [parent.record for parent in context.parents.values()]
    asked = sum(float(record.config.get("minutes", 0)) for record in records)
    if asked > targets.TRAINING_MINUTES:
        return None
    return round((sum(record.seconds for record in records) + seconds) / 60, 2)


def _peak_memory(context: Context) -> int:
    """Of this process and, where they kept it, of the processes that ran the stages before."""
    kept = [parent.record.metrics.get("peak_memory", 0) for parent in context.parents.values()]
    return max(machine.peak_memory(), *(int(value) for value in kept))


def _write_json(context: Context, name: str, value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    (context.folder / name).write_text(text, encoding="utf-8")
