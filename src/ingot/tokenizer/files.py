"""Tokenizer files: `tokenizer.json` and `tokenizer_config.json`, as `transformers` and vLLM read them.

The class is declared as `PreTrainedTokenizerFast`, which takes `tokenizer.json` as it is; a model's own
tokenizer class would rebuild it by its own rules and give other ids. No BOS is added to a text: documents
and the chat template bring their own.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ingot.atomic import write_atomic
from ingot.errors import ArtifactError
from ingot.tokenizer.bytes import BYTE_ORDER, printable, unprintable
from ingot.tokenizer.chat import TEMPLATE
from ingot.tokenizer.split import PATTERN

TOKENIZER = "tokenizer.json"
SETTINGS = "tokenizer_config.json"


def write(
    folder: Path, tokens: Sequence[bytes], merges: Sequence[tuple[int, int]], special: Mapping[str, int]
) -> None:
    """Writes both files.

    Args:
        folder: where to; made if missing.
        tokens: the bytes of every ordinary token, by id.
        merges: pairs of ids.
        special: control token -> id: BOS, start, end and pad, in this order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / TOKENIZER, json.dumps(_tokenizer(tokens, merges, special), ensure_ascii=False))
    write_atomic(folder / SETTINGS, json.dumps(_settings(special), indent=2, ensure_ascii=False) + "\n")


def read_merges(folder: Path, specials: Sequence[str]) -> list[tuple[int, int]]:
    """Reads the merges back from `tokenizer.json`.

    Args:
        folder: where it lies.
        specials: the control tokens that must follow the ordinary ones.

    Raises:
        ArtifactError: the file is missing, damaged, or a tokenizer of another kind.
    """
    path = folder / TOKENIZER
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
        raise ArtifactError(what, where=path, fix="give a folder that holds a tokenizer") from None
    except ValueError:
        raise ArtifactError("is damaged: not JSON", where=path, fix="make the tokenizer again") from None
    try:
        return _parse(content, specials)
    except (KeyError, TypeError, ValueError, AttributeError):
        what = "is not a byte-level BPE tokenizer of ours"
        raise ArtifactError(what, where=path, fix="use a folder that ingot made") from None


def _parse(content: dict[str, Any], specials: Sequence[str]) -> list[tuple[int, int]]:
    """The merges of a parsed `tokenizer.json`; any surprise is a KeyError or ValueError."""
    vocabulary: dict[str, int] = content["model"]["vocab"]
    ids = {unprintable(text): token for text, token in vocabulary.items()}
    pairs = [(unprintable(left), unprintable(right)) for left, right in content["model"]["merges"]]
    tokens = [bytes([byte]) for byte in BYTE_ORDER] + [left + right for left, right in pairs]
    added = [(entry["content"], entry["id"]) for entry in content["added_tokens"]]
    pattern = content["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"]
    same = (
        pattern == PATTERN
        and [ids[token] for token in tokens] == list(range(len(ids)))
        and added == [(name, len(ids) + index) for index, name in enumerate(specials)]
    )
    if not same:
        raise ValueError
    return [(ids[left], ids[right]) for left, right in pairs]


def _tokenizer(
    tokens: Sequence[bytes], merges: Sequence[tuple[int, int]], special: Mapping[str, int]
) -> dict[str, Any]:
    """What `tokenizer.json` holds: split, bytes, merges, and back."""
    texts = [printable(token) for token in tokens]
    split = {"type": "Split", "pattern": {"Regex": PATTERN}, "behavior": "Isolated", "invert": False}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": token, **_control(name)} for name, token in special.items()],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {text: token for token, text in enumerate(texts)},
            "merges": [[texts[left], texts[right]] for left, right in merges],
        },
    }


def _settings(special: Mapping[str, int]) -> dict[str, Any]:
    """What `tokenizer_config.json` holds: the class, the control tokens' roles, the chat template."""
    bos, _, end, pad = special
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "added_tokens_decoder": {str(token): _control(name) for name, token in special.items()},
        "bos_token": bos,
        "eos_token": end,
        "pad_token": pad,
        "unk_token": None,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1_000_000_000,
        "padding_side": "left",
        "chat_template": TEMPLATE,
    }


def _control(name: str) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"content": name, **flags}
