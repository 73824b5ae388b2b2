"""Two texts in one row: what we write is what `tokenizers` joins, and what our own joining does."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer as Peer

from ingot.tokenizer import Tokenizer
from ingot.tokenizer.pairs import Pairs
from ingot.tokenizer.training import TokenizerConfig

TEXTS = ["a question of some words", "the passage that answers it"]


def trained(folder: Path, specials: tuple[str, ...]) -> tuple[Tokenizer, Peer]:
    config = TokenizerConfig(kind="wordpiece", specials=specials, workers=1)
    tokenizer = Tokenizer.train([" ".join(TEXTS) * 20], 330, config=config)
    tokenizer.save(folder)
    return tokenizer, Peer.from_file(str(folder / "tokenizer.json"))


def test_the_separator_stands_between_them(tmp_path: Path) -> None:
    ours, peer = trained(tmp_path, ("[UNK]", "[CLS]", "[SEP]", "[PAD]"))
    first, second = (ours.encode(text) for text in TEXTS)
    cls, sep = ours.role_id("cls"), ours.role_id("sep")
    joined = peer.encode(*TEXTS)
    assert joined.ids == [cls, *first, sep, *second, sep]
    assert joined.type_ids == [0] * (len(first) + 2) + [1] * (len(second) + 1)
    assert Pairs(ours).join(first, second) == (joined.ids, joined.type_ids)


@pytest.mark.parametrize("text", TEXTS)
def test_one_text_stays_as_it_was(text: str, tmp_path: Path) -> None:
    ours, peer = trained(tmp_path, ("[UNK]", "[CLS]", "[SEP]", "[PAD]"))
    assert peer.encode(text).ids == [ours.role_id("cls"), *ours.encode(text), ours.role_id("sep")]
