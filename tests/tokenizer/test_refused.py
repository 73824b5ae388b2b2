"""What `docs/tokenizers.md` says is refused or ignored is just that, of all that the library can write."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from tokenizers import decoders, normalizers, pre_tokenizers, processors

from ingot.errors import ArtifactError
from ingot.tokenizer import Tokenizer

DOCS = Path(__file__).parents[2] / "docs" / "tokenizers.md"
PARTS = "model|normalizer|pre_tokenizer|decoder|post_processor"
ROWS = dict(re.findall(rf"^\| ({PARTS}) \| (.*?) \|", DOCS.read_text(encoding="utf-8"), re.M))

MAKERS: dict[str, tuple[ModuleType, type]] = {
    "normalizer": (normalizers, normalizers.Normalizer),
    "pre_tokenizer": (pre_tokenizers, pre_tokenizers.PreTokenizer),
    "decoder": (decoders, decoders.Decoder),
    "post_processor": (processors, processors.PostProcessor),
}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A tokenizer's folder, and what its `tokenizer.json` holds."""
    Tokenizer.train(["a river runs under a bridge " * 9], 300).save(tmp_path)
    return tmp_path, json.loads((tmp_path / "tokenizer.json").read_text())


def load(folder: Path, fields: dict[str, Any]) -> Tokenizer:
    (folder / "tokenizer.json").write_text(json.dumps(fields))
    return Tokenizer.load(folder)


@pytest.mark.parametrize("part", sorted(MAKERS))
def test_every_part_of_the_library_is_read_or_in_the_table(
    files: tuple[Path, dict[str, Any]], part: str
) -> None:
    folder, fields = files
    module, base = MAKERS[part]
    kinds = [name for name, one in vars(module).items() if inspect.isclass(one) and issubclass(one, base)]
    refused = set()
    for kind in set(kinds) - {base.__name__}:
        try:
            load(folder, fields | {part: {"type": kind}})
        except ArtifactError as error:  # a field that is missing, or the kind itself
            if f"'{kind}' is not supported" in str(error):
                refused.add(kind)
    assert refused == set(re.findall(r"`(\w+)`", ROWS[part]))


def test_models_that_are_refused(files: tuple[Path, dict[str, Any]]) -> None:
    folder, fields = files
    assert set(re.findall(r"`(\w+)`", ROWS["model"])) == {"WordLevel", "dropout"}
    with pytest.raises(ArtifactError, match="the model 'WordLevel' is not supported"):
        load(folder, fields | {"model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "a"}})
    with pytest.raises(ArtifactError, match="dropout"):
        load(folder, fields | {"model": fields["model"] | {"dropout": 0.1}})


def test_truncation_and_padding_are_left_out(files: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder, fields = files
    plain = load(folder, fields)
    cut = {"direction": "Right", "max_length": 3, "strategy": "LongestFirst", "stride": 0}
    filled = {
        **{"strategy": {"Fixed": 64}, "direction": "Left", "pad_to_multiple_of": None},
        **{"pad_id": 0, "pad_type_id": 0, "pad_token": "<|pad|>"},
    }
    batched = load(folder, fields | {"truncation": cut, "padding": filled})
    text = "a river runs under a bridge"
    assert batched.encode(text) == plain.encode(text) and len(plain.encode(text)) > 3
    batched.save(tmp_path / "again")
    written = json.loads((tmp_path / "again" / "tokenizer.json").read_text())
    assert written["truncation"] is None and written["padding"] is None
