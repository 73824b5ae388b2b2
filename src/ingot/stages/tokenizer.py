"""Stage tokenizer: learn a vocabulary from the training split, and write that split as tokens."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from ingot.atomic import publish
from ingot.config import Config
from ingot.data.corpus import iterate_documents, read_counts
from ingot.data.document import Document
from ingot.data.shards import TOKENS, write_shards
from ingot.errors import DataError
from ingot.pipeline import Context
from ingot.progress import Task
from ingot.record import file_hash
from ingot.tokenizer import bpe
from ingot.tokenizer.counting import PieceCounts, count
from ingot.tokenizer.fair_training import count_fairly, learn_fairly
from ingot.tokenizer.hugging_face import TOKENIZER
from ingot.tokenizer.measure import measure
from ingot.tokenizer.tokenizer import FIXED, SMALLEST_VOCABULARY, Tokenizer
from ingot.tokenizer.training import TokenizerConfig, room

Group = Callable[[Document], str | None]
"""What a document is treated as; None is left out."""

_KEPT, _COUNTING = "tokenizer", "counting.json"


class TrainTokenizerConfig(Config):
    """How large the vocabulary is to be, or whose it is.

    Args:
        vocabulary: entries in all: the 256 bytes, the merges and four control tokens.
        base: folder of a model whose tokenizer is taken instead of learning one, to train that model further
            (`pretrain.base`); or None.
        fair: what each merge is to treat alike, going to the worst compressed (parity-aware BPE): "language",
            as `prepare.cleaning` found documents to be in one; "source", as `prepare.sources` names them.
            None merges what is most frequent in all text.
    """

    vocabulary: int = Field(default=4096)
    base: str | None = None
    fair: Literal["language", "source"] | None = None

    @field_validator("vocabulary")
    @classmethod
    def _enough(cls, value: int) -> int:
        if value < SMALLEST_VOCABULARY:
            raise ValueError(f"a vocabulary has {SMALLEST_VOCABULARY} entries or more")
        return value

    @model_validator(mode="after")
    def _learnt_or_taken(self) -> Self:
        if self.base is not None and self.fair is not None:
            raise ValueError("the tokenizer of a base is taken as it is: leave out base or fair")
        return self


class TrainTokenizer:
    """Makes the tokenizer artifact: the tokenizer's files, and the training split's tokens."""

    name = "tokenizer"
    artifact = "tokenizer"
    kind = "tokenizer"
    needs = ("prepare",)

    def __init__(self, config: TrainTokenizerConfig) -> None:
        self.config = config

    def identity(self) -> dict[str, Any]:
        """Returns the hashes of the tokenizer that is taken: another one makes another artifact."""
        if self.config.base is None:
            return {}
        from ingot.stages import base  # needs torch

        return {"base": base.tokenizer_hashes(self.config.base)}

    def run(self, context: Context) -> None:
        """Writes `tokenizer.json`, `tokenizer_config.json` and `tokens/` to `context.folder`.

        What a kill leaves, the tokenizer and the shards that were finished, is not made again.
        """
        corpus = context.parents["prepare"].path
        tokenizer = self._learnt(context, corpus)
        tokenizer.save(context.folder)
        if self.config.base is not None:
            context.notes.append(f"The tokenizer is that of {self.config.base}.")
        elif tokenizer.vocab_size < self.config.vocabulary:
            wanted = f"{self.config.vocabulary:,} were asked for; no pair of tokens occurs twice after that"
            context.notes.append(f"The vocabulary has {tokenizer.vocab_size:,} entries: {wanted}.")
        measured = _Measured(iterate_documents(corpus, "train"))
        shards = write_shards(
            context.work,
            measured,
            tokenizer,
            context.progress,
            made_by=file_hash(context.folder / TOKENIZER),
            total=read_counts(corpus)["documents"]["train"],
        )
        (context.work / TOKENS).rename(context.folder / TOKENS)
        heldout = measure(tokenizer, (document.text for document in iterate_documents(corpus, "heldout")))
        context.metrics |= {
            "vocabulary": tokenizer.vocab_size,
            "documents": measured.documents,
            "tokens": len(shards),
            "bytes_per_token": round(measured.bytes / (len(shards) - measured.documents), 4),
            "heldout_bytes_per_token": round(heldout.bytes_per_token, 4),
        }
        self._tell_counting(context)

    def _learnt(self, context: Context, corpus: Path) -> Tokenizer:
        """The tokenizer: that of a base, or of an earlier start where it was finished, else a new one."""
        if self.config.base is not None:
            from ingot.stages import base

            return base.tokenizer(self.config.base)
        kept = context.work / _KEPT
        if not kept.exists():
            learn = self._most_frequent if self.config.fair is None else self._fairly
            tokenizer, counts = learn(context, corpus)
            with publish(kept) as folder:
                tokenizer.save(folder)
                bound = {name: max(one.bound[name] for one in counts) for name in counts[0].bound}
                (folder / _COUNTING).write_text(json.dumps(bound) + "\n", encoding="utf-8")
        return Tokenizer.load(kept)

    def _most_frequent(self, context: Context, corpus: Path) -> tuple[Tokenizer, list[PieceCounts]]:
        """Learns from all text alike."""
        total = read_counts(corpus)["documents"]["train"]
        with context.progress.task("counting pieces", total, "documents") as task:
            counts = count(_passing(corpus, task))
        merges = self.config.vocabulary - FIXED
        with context.progress.task("learning the vocabulary", merges, "merges") as task:
            return Tokenizer(bpe.train(counts, merges, task)), [counts]

    def _fairly(self, context: Context, corpus: Path) -> tuple[Tokenizer, list[PieceCounts]]:
        """Learns merges that treat languages, or sources, alike."""
        group = self._groups(corpus)
        names = _alike(corpus, group, str(self.config.fair))
        config = TokenizerConfig()
        room(self.config.vocabulary, config)
        total = len(names) * read_counts(corpus)["documents"]["train"]
        with context.progress.task("counting pieces", total, "documents") as task:
            texts = {name: _passing(corpus, task, group, name) for name in names}
            languages = count_fairly(texts, config)
        merges = self.config.vocabulary - FIXED
        with context.progress.task("learning the vocabulary", merges, "merges") as task:
            parts, learned = learn_fairly(languages, self.config.vocabulary, config, task)
        costs = ", ".join(f"{name} {cost:.3f}" for name, cost in sorted(learned.cost.items()))
        context.notes.append(f"Merges went to the worst compressed; tokens per character are now {costs}.")
        return Tokenizer(parts), [one.pieces for one in languages.values()]  # type: ignore[misc]

    def _groups(self, corpus: Path) -> Group:
        """What documents are to be treated as."""
        if self.config.fair == "language":
            return lambda document: document.language
        named = read_counts(corpus).get("named_sources", {})

        def source(document: Document) -> str | None:
            first = document.source.partition("/")[0]
            return first if first in named else None

        return source

    def _tell_counting(self, context: Context) -> None:
        """Records what the memory limit of counting cost."""
        path = context.work / _KEPT / _COUNTING
        if path.exists():
            bound = json.loads(path.read_text(encoding="utf-8"))
            context.metrics |= {"counting_error": bound["error"], "counting_dropped": bound["dropped"]}
            if bound["prunings"]:
                context.notes.append(
                    f"Pieces were counted in bounded memory: {bound['dropped']:,} rare ones were dropped; "
                    f"no count is more than {bound['error']:,} too low."
                )


def _alike(corpus: Path, group: Group, what: str) -> list[str]:
    """The languages or sources of the training split, those with text.

    Raises:
        DataError: fewer than two.
    """
    found = {group(document) for document in iterate_documents(corpus, "train")}
    named = sorted(name for name in found if name is not None)
    if len(named) < 2:
        fix = "name two or more in prepare.sources"
        if what == "language":
            fix = "set prepare.cleaning.language, which says what languages documents are in"
        told = f"the training text is of {len(named)} known {what}s; two or more can be treated alike"
        raise DataError(told, where="tokenizer.fair", fix=fix)
    return named


def _passing(
    corpus: Path, task: Task, group: Group = lambda document: None, wanted: str | None = None
) -> Iterator[str]:
    """The texts of the training split, or of some documents of it; the task is told of every document."""
    for document in iterate_documents(corpus, "train"):
        if group(document) == wanted:
            yield document.text
        task.advance()


class _Measured:
    """Documents that are counted as they go by."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self._rest = documents
        self.documents = self.bytes = 0

    def __iter__(self) -> Iterator[Document]:
        for document in self._rest:
            self.documents += 1
            self.bytes += len(document.text.encode("utf-8"))
            yield document
