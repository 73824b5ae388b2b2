"""The tokenizer against `tokenizers` and `transformers`, which read the files that it writes."""

from __future__ import annotations

import inspect
import json
import random
import unicodedata
from pathlib import Path

import pytest
import tokenizers
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.errors import ArtifactError, ConfigError
from ingot.tokenizer import Tokenizer
from ingot.tokenizer.measure import measure
from ingot.tokenizer.tokenizer import SPECIALS

RUNS = [
    "a" * 50_000,
    " " * 50_000,
    " " * 50_000 + "x",
    "\n" * 50_000,
    " \n" * 20_000,
    "_" * 50_000,
    "中" * 20_000,
]
HARD = "".join(chr(i) for i in (*range(0x20), 0x7F, 0x85, 0xA0, 0xAD, 0x200B, 0x200D, 0x2028, 0x3000, 0xFEFF))
HARD += "e\u0301\u0300\u20e3👩\u200d👩\u200d👧🏽🇩🇪\U0001f1e9 "
HARD += "ſß'S'ſ'll'LL ﷽ 한글 ไทย हिन्दी \U000e0041 \U0010ffff\ufffe"


def texts() -> list[str]:
    return [inspect.getsource(module) for module in (random, json, inspect, inspect.ast)] + [HARD * 3]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(texts(), vocabulary=1024)


@pytest.fixture(scope="module")
def folder(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(path)
    return path


@pytest.fixture(scope="module")
def reference(folder: Path) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def fuzz(seed: int) -> str:
    """A text of everything: all planes, hard characters, code, digits, blanks."""
    source = random.Random(seed)
    pools = (
        lambda: chr(source.randrange(0xD800)),
        lambda: chr(source.randrange(0xE000, 0x110000)),
        lambda: source.choice(HARD),
        lambda: source.choice(" \t\n\r'_.,:;(){}[]0123456789"),
        lambda: source.choice("abcdefghijklmnopqrstuvwxyzABCXYZ"),
        lambda: source.choice(["def ", "return", "    ", "\r\n", "self.", *SPECIALS]),
    )
    return "".join(source.choice(pools)() for _ in range(source.randint(0, 30)))


def without_control_names(text: str) -> str:
    """The library turns their names into control tokens; we never do, so there the ids differ on purpose."""
    return text.replace("<|", "<")


def test_ten_thousand_fuzzed_texts_come_back_byte_for_byte(tokenizer: Tokenizer) -> None:
    for seed in range(10_000):
        text = fuzz(seed)
        ids = tokenizer.encode(text)
        assert tokenizer.decode_bytes(ids) == text.encode()
        assert tokenizer.decode(ids) == text
        assert not set(ids) & set(tokenizer.special.values())


@settings(max_examples=300, deadline=None)
@given(text=st.text().map(without_control_names))
def test_ids_equal_the_reference_library(text: str, tokenizer: Tokenizer, reference: object) -> None:
    assert tokenizer.encode(text) == reference.encode(text, add_special_tokens=False).ids  # type: ignore[attr-defined]


def test_fuzzed_ids_equal_the_reference_library(
    tokenizer: Tokenizer, reference: tokenizers.Tokenizer
) -> None:
    cases = [without_control_names(fuzz(seed)) for seed in range(3_000)] + RUNS + texts()
    for text, expected in zip(cases, reference.encode_batch(cases, add_special_tokens=False), strict=True):
        assert tokenizer.encode(text) == expected.ids, text[:80]


def test_every_code_point_splits_as_in_the_reference_library(
    tokenizer: Tokenizer, reference: tokenizers.Tokenizer
) -> None:
    points = [
        chr(i) for i in range(0x110000) if not 0xD800 <= i < 0xE000 and unicodedata.category(chr(i)) != "Cn"
    ]
    cases = ["".join(f"a{c} {c}1" for c in points[i : i + 2048]) for i in range(0, len(points), 2048)]
    for text in cases:
        assert tokenizer.encode(text) == reference.encode(text, add_special_tokens=False).ids


def test_transformers_gives_the_same_ids_and_adds_no_bos(tokenizer: Tokenizer, folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert len(theirs) == tokenizer.vocab_size
    for text in [
        HARD,
        "plain text",
        *texts()[:2],
        *(without_control_names(fuzz(seed)) for seed in range(200)),
    ]:
        assert theirs(text)["input_ids"] == tokenizer.encode(text)
        ids = [tokenizer.bos_id, *tokenizer.encode(text), tokenizer.pad_id]
        assert theirs.decode(ids) == tokenizer.decode(ids)
        assert theirs.decode(ids, skip_special_tokens=True) == tokenizer.decode(ids, skip_special=True)
    assert theirs.bos_token_id == tokenizer.bos_id
    assert theirs.eos_token_id == tokenizer.special["<|im_end|>"]
    assert theirs.pad_token_id == tokenizer.pad_id


def test_lone_surrogates_are_read_as_replacement_characters(tokenizer: Tokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("a\ud800b\udfff")) == "a\ufffdb\ufffd"


def test_control_tokens_are_the_last_ids_in_order(tokenizer: Tokenizer) -> None:
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
    assert list(tokenizer.special.items()) == list(zip(names, range(1020, 1024), strict=True))
    assert tokenizer.vocab_size == 1024
    assert tokenizer.decode(range(1020, 1024)) == "".join(names)
    assert tokenizer.decode(range(1020, 1024), skip_special=True) == ""
    assert tokenizer.token_bytes(1023) == b""
    for wrong in (-1, 1024):
        with pytest.raises(IndexError, match=str(wrong)):
            tokenizer.token_bytes(wrong)


@given(ids=st.lists(st.integers(0, 1023)))
def test_any_ids_decode_as_in_python(ids: list[int], tokenizer: Tokenizer) -> None:
    exact = b"".join(tokenizer.token_bytes(token) for token in ids)
    assert tokenizer.decode_bytes(ids) == exact
    assert tokenizer.decode(ids, skip_special=True) == exact.decode(errors="replace")


def test_a_loaded_tokenizer_is_the_same(tokenizer: Tokenizer, folder: Path, tmp_path: Path) -> None:
    loaded = Tokenizer.load(folder)
    assert loaded.merges == tokenizer.merges
    loaded.save(tmp_path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        ("{", "not JSON"),
        ("[]", "not a byte-level BPE tokenizer of ours"),
        ('{"model": {"type": "WordPiece"}}', "not a byte-level BPE tokenizer of ours"),
    ],
)
def test_damaged_files_are_named(tmp_path: Path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ArtifactError, match=message) as caught:
        Tokenizer.load(tmp_path)
    assert "tokenizer.json" in str(caught.value)


@pytest.mark.parametrize("change", ["swap merges", "other pattern", "other specials"])
def test_a_tokenizer_that_would_encode_otherwise_is_refused(
    folder: Path, tmp_path: Path, change: str
) -> None:
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    if change == "swap merges":
        merges = content["model"]["merges"]
        merges[0], merges[1] = merges[1], merges[0]
    elif change == "other pattern":
        content["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\S+|\s+"
    else:
        content["added_tokens"].pop()
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ArtifactError, match="not a byte-level BPE tokenizer of ours"):
        Tokenizer.load(tmp_path)


@pytest.mark.parametrize("merges", [[(0, 256)], [(-1, 0)], [(0, 1), (0, 1)]])
def test_merges_of_no_trainer_are_refused(merges: list[tuple[int, int]]) -> None:
    with pytest.raises(ArtifactError, match="merge"):
        Tokenizer(merges)


def test_a_vocabulary_too_small_is_refused() -> None:
    with pytest.raises(ConfigError, match="299 entries are too few"):
        Tokenizer.train(["text"], vocabulary=299)


def test_a_small_text_gives_fewer_entries() -> None:
    assert Tokenizer.train(["abab"], vocabulary=300).vocab_size == 256 + 1 + 4


def test_measure_counts_bytes_and_tokens(tokenizer: Tokenizer) -> None:
    fit = measure(tokenizer, ["def f(x):", "é" * 7])
    assert fit.bytes == 9 + 14
    assert fit.tokens == len(tokenizer.encode("def f(x):")) + len(tokenizer.encode("é" * 7))
    assert fit.bytes_per_token == fit.bytes / fit.tokens
    assert measure(tokenizer, []).bytes_per_token == 0.0
