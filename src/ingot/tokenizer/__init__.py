"""Tokenizer: text to token ids and back. Read in this order: split, bpe, tokenizer, files, chat, measure."""

from ingot.tokenizer.tokenizer import Tokenizer

__all__ = ["Tokenizer"]
