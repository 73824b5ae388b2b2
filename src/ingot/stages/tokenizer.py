"""Stage tokenizer: learn a vocabulary from the training split, and write that split as tokens."""

from __future__ import annotations

from pydantic import Field, field_validator

from ingot.config import Config
from ingot.data.corpus import read_documents
from ingot.data.shards import write_shards
from ingot.pipeline import Context
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
        """Writes `tokenizer.json`, `tokenizer_config.json` and `tokens/` to `context.folder`."""
        corpus = context.parents["prepare"].path
        documents = read_documents(corpus, "train")
        texts = (document.text for document in documents)
        merges = self.config.vocabulary - FIXED
        with context.progress.task("learning the vocabulary", merges, "merges") as task:
            tokenizer = Tokenizer.train(texts, self.config.vocabulary, task)
        tokenizer.save(context.folder)
        shards = write_shards(context.folder, documents, tokenizer, context.progress)
        if tokenizer.vocab_size < self.config.vocabulary:
            wanted = f"{self.config.vocabulary:,} were asked for; no pair of tokens occurs twice after that"
            context.notes.append(f"The vocabulary has {tokenizer.vocab_size:,} entries: {wanted}.")
        heldout = measure(tokenizer, (document.text for document in read_documents(corpus, "heldout")))
        size = sum(len(document.text.encode("utf-8")) for document in documents)
        context.metrics |= {
            "vocabulary": tokenizer.vocab_size,
            "documents": len(documents),
            "tokens": len(shards),
            "bytes_per_token": round(size / (len(shards) - len(documents)), 4),
            "heldout_bytes_per_token": round(heldout.bytes_per_token, 4),
        }
