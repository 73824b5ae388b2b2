"""Stage tokenizer: learn a vocabulary from the training split, and write that split as tokens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pydantic import Field, field_validator

from ingot.atomic import publish
from ingot.config import Config
from ingot.data.corpus import iterate_documents, read_counts
from ingot.data.document import Document
from ingot.data.shards import TOKENS, write_shards
from ingot.pipeline import Context
from ingot.record import file_hash
from ingot.tokenizer.hugging_face import TOKENIZER
from ingot.tokenizer.measure import measure
from ingot.tokenizer.tokenizer import FIXED, SMALLEST_VOCABULARY, Tokenizer


class TrainTokenizerConfig(Config):
    """How large the vocabulary is to be.

    Args:
        vocabulary: entries in all: the 256 bytes, the merges and four control tokens.
    """

    vocabulary: int = Field(default=4096)

    @field_validator("vocabulary")
    @classmethod
    def _enough(cls, value: int) -> int:
        if value < SMALLEST_VOCABULARY:
            raise ValueError(f"a vocabulary has {SMALLEST_VOCABULARY} entries or more")
        return value


class TrainTokenizer:
    """Makes the tokenizer artifact: the tokenizer's files, and the training split's tokens."""

    name = "tokenizer"
    artifact = "tokenizer"
    kind = "tokenizer"
    needs = ("prepare",)

    def __init__(self, config: TrainTokenizerConfig) -> None:
        self.config = config

    def run(self, context: Context) -> None:
        """Writes `tokenizer.json`, `tokenizer_config.json` and `tokens/` to `context.folder`.

        What a kill leaves, the tokenizer and the shards that were finished, is not made again.
        """
        corpus = context.parents["prepare"].path
        tokenizer = self._learnt(context, corpus)
        tokenizer.save(context.folder)
        if tokenizer.vocab_size < self.config.vocabulary:
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

    def _learnt(self, context: Context, corpus: Path) -> Tokenizer:
        """The tokenizer: that of an earlier start where it was finished, else a new one."""
        kept = context.work / "tokenizer"
        if not kept.exists():
            merges = self.config.vocabulary - FIXED
            texts = (document.text for document in iterate_documents(corpus, "train"))
            with context.progress.task("learning the vocabulary", merges, "merges") as task:
                tokenizer = Tokenizer.train(texts, self.config.vocabulary, task)
            with publish(kept) as folder:
                tokenizer.save(folder)
        return Tokenizer.load(kept)


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
