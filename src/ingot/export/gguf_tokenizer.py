"""A tokenizer as llama.cpp wants it: names by id, what kind each is, merges, and the name of its split.

llama.cpp has each split compiled in, under the name of the model family that brought it; a tokenizer with
any other split would be cut otherwise there than here, without a word, so it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from ingot.errors import ArtifactError
from ingot.tokenizer.bpe_model import BPE
from ingot.tokenizer.parts import Parts
from ingot.tokenizer.pretokenise import single_pattern
from ingot.tokenizer.split import PATTERNS, with_digits

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""Kinds of tokens (llama.h, `llama_token_type`)."""

SPLITS = {
    PATTERNS["qwen2"]: "qwen2",
    with_digits("llama3", "1"): "qwen2",  # the same cut as Qwen's own files spell it
    PATTERNS["gpt2"]: "gpt-2",
    PATTERNS["llama3"]: "dbrx",
}
"""Our pattern -> llama.cpp's name for it. "dbrx" is Llama 3's split without Llama 3's other habits."""

WHOLE_PIECES = {PATTERNS["llama3"]: "llama-bpe"}
"""The same for tokenizers that look a whole piece up before they merge, which llama.cpp ties to the name."""

_ELSEWHERE = "train a tokenizer with split qwen2, gpt2 or llama3, or keep to the Hugging Face folder"


@dataclass(frozen=True)
class Vocabulary:
    """What a GGUF file says of a tokenizer.

    Args:
        pre: llama.cpp's name of the split.
        names: of every token, by id, bytes written as printable characters.
        kinds: of every token, by id.
        merges: "left right", first to be merged first.
        wrapped: whether a text gets the BOS token put before it.
    """

    pre: str
    names: list[str]
    kinds: list[int]
    merges: list[str]
    wrapped: bool


def vocabulary(parts: Parts, size: int) -> Vocabulary:
    """Returns what llama.cpp has to know of a tokenizer.

    Args:
        parts: of the tokenizer.
        size: rows of the model's embedding; those past the tokenizer's last id are named as unused.

    Raises:
        ArtifactError: no byte-level BPE, or one that llama.cpp would not do in the same way.
    """
    model = parts.model
    pattern = single_pattern(parts.pretokeniser)
    if not isinstance(model, BPE) or pattern is None or model.prefix or model.suffix or model.byte_fallback:
        raise ArtifactError("the tokenizer is no byte-level BPE", where=parts.where, fix=_ELSEWHERE)
    # Qwen's files ask for NFC, which llama.cpp does not do; its own converter passes over it, too.
    if parts.normaliser not in (None, {"type": "NFC"}):
        what = f"llama.cpp does not normalise text ({parts.normaliser.get('type')})"
        raise ArtifactError(what, where=parts.where, fix=_ELSEWHERE)
    known = WHOLE_PIECES if model.whole_pieces else SPLITS
    if pattern not in known:
        what = f"llama.cpp has no split {pattern!r}"
        raise ArtifactError(what, where=parts.where, fix=_ELSEWHERE)
    names = parts.names()
    kinds = [NORMAL] * len(names)
    for token in parts.added:
        kinds[token.id] = CONTROL if token.special else USER_DEFINED
    unused = range(len(names), size)
    return Vocabulary(
        known[pattern],
        names + [f"[UNUSED{token}]" for token in unused],
        kinds + [UNUSED] * len(unused),
        [f"{names[left]} {names[right]}" for left, right, _ in model.merges],
        parts.template is not None,
    )
