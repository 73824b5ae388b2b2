"""Ids and texts are equal to those of `tokenizers`, for every layout that published models use.

Where libraries have Unicode tables of different age they differ on the characters that the older lacks.
Byte-level BPE is not concerned: tiktoken and `tokenizers` agree on every code point, for every published
split. `NEWER` lists the others.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
import regex
import tokenizers
from fuzzing import RUNS, corpus, strings
from hypothesis import given, settings
from hypothesis import strategies as st
from layouts import COMPILED, LAYOUTS, Peer
from tokenizers import AddedToken, normalizers, pre_tokenizers

from ingot.tokenizer import Tokenizer, normalise, pretokenise
from ingot.tokenizer.parts import Parts
from ingot.tokenizer.reading import Fields
from ingot.tokenizer.split import PATTERNS

NAMES = ("<s>", "<mask>", "[MASK]", "<tool>", "<|im_start|>", "[CLS]")

NEWER = {
    "BertNormalizer": 500,  # marks and format characters since Unicode 9, and what they are lower case of
    "StripAccents": 320,  # marks since Unicode 9
    "Lowercase": 60,  # letters since Unicode 15
    "NFC": 0,
    "NFD": 1,  # U+11938
    "NFKC": 80,  # compatibility characters since Unicode 12.1
    "NFKD": 80,
    "BertPreTokenizer": 110,  # signs since Unicode 9
    "Punctuation": 110,
    "Digits": 330,  # numbers since Unicode 16
    "WhitespaceSplit": 0,
}
"""How many code points at most the libraries treat differently. All of them came with newer Unicode versions
than 8: none is in `OLD`."""

OLD = regex.compile(
    r"[\p{Block=BasicLatin}\p{Block=Latin1}\p{Block=LatinExtA}\p{Block=LatinExtB}\p{Block=Greek}]"
)
"""Scripts that no new version has added to in a way that matters."""


class Pair:
    """The same tokenizer in both libraries, ours read from theirs."""

    def __init__(self, name: str, folder: Path) -> None:
        self.folder = folder
        LAYOUTS[name]().save(str(folder / "tokenizer.json"))
        self.theirs = Peer.from_file(str(folder / "tokenizer.json"))
        self.ours = Tokenizer.load(folder)


@pytest.fixture(scope="module")
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    return Pair(request.param, tmp_path_factory.mktemp(request.param))


every_layout = pytest.mark.parametrize("pair", LAYOUTS, indirect=True)


def cases() -> list[str]:
    """Fuzzed strings of characters on which libraries agree (see `NEWER`), and a corpus."""
    made = (_without_newer(text) for text in strings(700, names=NAMES))
    return [*made, *corpus()]


def _without_newer(text: str) -> str:
    return "".join(c for c in text if c.isascii() or _is_settled(c))


def _is_settled(character: str) -> bool:
    """Neither unassigned in Python's older table nor a mark or sign of the last years."""
    category = unicodedata.category(character)
    return category not in ("Cn", "Mn", "Mc", "Me", "Cf", "Co") and (
        category[0] != "P" or character < "\u0600"
    )


@every_layout
def test_ids_texts_and_templates_equal_the_library(pair: Pair) -> None:
    texts = cases()
    theirs, ours = pair.theirs, pair.ours
    theirs.encode_special_tokens = False
    found = theirs.encode_batch(texts, add_special_tokens=False)
    wrapped = theirs.encode_batch(texts, add_special_tokens=True)
    for text, expected, around in zip(texts, found, wrapped, strict=True):
        assert ours.encode(text, specials="parse") == expected.ids, text[:80]
        assert ours.wrap(expected.ids) == around.ids
        assert ours.decode(expected.ids) == theirs.decode(expected.ids, skip_special_tokens=False)


@every_layout
def test_control_tokens_in_a_text_stay_text_unless_asked(pair: Pair) -> None:
    control = set(pair.ours.special.values())
    unknown = pair.ours.parts.model.unknown
    control -= {pair.ours.special.get(unknown or "", -1)}
    for text in strings(300, seed=1, names=NAMES):
        assert not control & set(pair.ours.encode(text))
    for name in pair.ours.special:
        assert pair.ours.special[name] in pair.ours.encode(f"a{name}b", specials="parse")


@every_layout
def test_what_is_written_gives_the_library_the_same_ids(pair: Pair, tmp_path: Path) -> None:
    pair.ours.save(tmp_path)
    back = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    again = Tokenizer.load(tmp_path)
    texts = cases()
    expected = [encoding.ids for encoding in pair.theirs.encode_batch(texts)]
    assert [encoding.ids for encoding in back.encode_batch(texts)] == expected
    assert [again.wrap(again.encode(text, "parse")) for text in texts] == expected
    assert again.special == pair.ours.special
    assert [back.id_to_token(token) for token in range(again.vocab_size)] == again.parts.names()


@every_layout
def test_tiktoken_encodes_what_its_ranks_can_say(pair: Pair, request: pytest.FixtureRequest) -> None:
    assert pair.ours.compiled == (request.node.callspec.params["pair"] in COMPILED)


@pytest.mark.parametrize("pair", ["gpt2", "qwen", "llama2", "bert", "t5", "roberta"], indirect=True)
def test_transformers_gives_the_same_ids(pair: Pair, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pair.ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert len(theirs) == pair.ours.vocab_size
    for text in [*cases()[:60], corpus()[3]]:
        assert theirs(text)["input_ids"] == pair.ours.wrap(pair.ours.encode(text, "parse"))
    for role in pair.ours.parts.roles.keys() - {"start", "end"}:
        assert getattr(theirs, f"{role}_token_id") == pair.ours.role_id(role)


@pytest.mark.parametrize("pair", ["gpt2", "llama3", "starcoder", "falcon"], indirect=True)
@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=60) | st.text(max_size=20).map(str.encode))
def test_any_bytes_come_back(pair: Pair, data: bytes) -> None:
    assert pair.ours.decode_bytes(pair.ours.encode_bytes(data)) == data


@pytest.mark.parametrize(
    ("name", "count"), [(name, 10_000 if name in ("qwen2", "gpt2") else 1000) for name in PATTERNS]
)
def test_ten_thousand_strings_equal_both_peers(name: str, count: int, tmp_path: Path) -> None:
    import tiktoken

    from ingot.tokenizer.training import TokenizerConfig

    ours = Tokenizer.train(corpus(), 700, config=TokenizerConfig(split=name, workers=1))
    ours.save(tmp_path)
    theirs = Peer.from_file(str(tmp_path / "tokenizer.json"))
    ranks = {ours.token_bytes(token): token for token in range(ours.vocab_size) if ours.token_bytes(token)}
    specials = dict(ours.special)
    third = tiktoken.Encoding("x", pat_str=ours_pattern(ours), mergeable_ranks=ranks, special_tokens=specials)
    texts = [*strings(count, seed=2, names=tuple(specials)), *corpus(), *RUNS]
    assert ours.compiled
    for text, expected in zip(texts, theirs.encode_batch(texts), strict=True):
        ids = ours.encode(text, specials="parse")
        assert ids == expected.ids, text[:80]
        assert ids == third.encode(text, allowed_special="all")
        assert ours.decode(ids) == text
    for text in texts[:2000]:
        assert ours.encode(text) == third.encode_ordinary(text)


def ours_pattern(tokenizer: Tokenizer) -> str:
    pattern = pretokenise.single_pattern(tokenizer.parts.pretokeniser)
    assert pattern is not None
    return pattern


@pytest.mark.parametrize(
    ("name", "step"),
    [("o200k", 29), ("own", 31), *(pytest.param(name, 1, marks=pytest.mark.slow) for name in PATTERNS)],
)
def test_both_peers_agree_on_every_code_point(name: str, step: int, tmp_path: Path) -> None:
    """With every pair of bytes as a token, the ids show where a text was cut."""
    pattern = PATTERNS.get(name, r"[a-z]+|\p{Lu}")
    merges = [(left, right) for left in range(256) for right in range(256)]
    ours = Tokenizer(Parts.of_merges(merges, pattern))
    ours.save(tmp_path)
    theirs = Peer.from_file(str(tmp_path / "tokenizer.json"))
    points = [chr(point) for point in range(0, 0x110000, step) if not 0xD800 <= point < 0xE000]
    rows = (points[start : start + 64] for start in range(0, len(points), 64))
    texts = ["".join(f"a{c} {c}1{c}{c}b" for c in row if c != "<") for row in rows]
    assert ours.compiled
    for text, expected in zip(texts, theirs.encode_batch(texts), strict=True):
        assert ours.encode(text) == expected.ids


def test_added_tokens_are_found_as_in_the_library(tmp_path: Path) -> None:
    """Every combination of their flags, next to text, blanks and each other."""
    peer = LAYOUTS["gpt2"]()
    peer.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    flags = itertools.product([False, True], repeat=5)
    for number, (special, single_word, lstrip, rstrip, normalized) in enumerate(flags):
        token = AddedToken(
            f"<{number:02}>" if number % 2 else f"Tok{number:02}",
            single_word=single_word,
            lstrip=lstrip,
            rstrip=rstrip,
            normalized=normalized,
            special=special,
        )
        (peer.add_special_tokens if special else peer.add_tokens)([token])
    peer.save(str(tmp_path / "tokenizer.json"))
    ours, theirs = Tokenizer.load(tmp_path), Peer.from_file(str(tmp_path / "tokenizer.json"))
    names = [token.text for token in ours.parts.added]
    source = random.Random(11)
    between = ["", "", " ", "  ", "\n", "\u3000", "x", "É", ".", "1", "_", "tok", "<", "9>"]
    for _ in range(4000):
        chosen = (source.choice(names) + source.choice(between) for _ in range(source.randint(1, 4)))
        text = source.choice(between) + "".join(chosen)
        text = text.lower() if source.random() < 0.2 else text
        for obey, mode in ((True, "parse"), (False, "text")):
            theirs.encode_special_tokens = not obey
            assert ours.encode(text, specials=mode) == theirs.encode(text).ids, text


STEPS: list[tuple[str, Callable[[], object]]] = [
    ("NFC", normalizers.NFC),
    ("NFD", normalizers.NFD),
    ("NFKC", normalizers.NFKC),
    ("NFKD", normalizers.NFKD),
    ("Lowercase", normalizers.Lowercase),
    ("StripAccents", normalizers.StripAccents),
    ("BertNormalizer", normalizers.BertNormalizer),
    ("BertPreTokenizer", pre_tokenizers.BertPreTokenizer),
    ("Punctuation", pre_tokenizers.Punctuation),
    ("Digits", pre_tokenizers.Digits),
    ("WhitespaceSplit", pre_tokenizers.WhitespaceSplit),
]


@pytest.mark.parametrize(("kind", "make"), STEPS)
def test_steps_differ_from_the_library_only_on_new_characters(kind: str, make: Callable[[], object]) -> None:
    theirs = make()
    texts = {c: f"a{c}b" for c in map(chr, range(1, 0x20000)) if not "\ud800" <= c <= "\udfff"}
    if hasattr(theirs, "normalize_str"):
        ours = normalise.build(Fields({"type": kind}, "step"))
        differ = [c for c, text in texts.items() if ours(text) != theirs.normalize_str(text)]
    else:
        cut = pretokenise.build(Fields({"type": kind}, "step"))
        pieces = {c: [piece for piece, _ in theirs.pre_tokenize_str(text)] for c, text in texts.items()}  # type: ignore[attr-defined]
        differ = [c for c, text in texts.items() if cut([text], True) != pieces[c]]
    assert len(differ) <= NEWER[kind]
    assert not OLD.search("".join(differ))


def test_decoders_equal_the_library_on_any_names() -> None:
    names = [
        "a",
        "##b",
        "▁c",
        " d",
        "<0xE2>",
        "<0x82>",
        "<0xAC>",
        "<0xFF>",
        "e</w>",
        ".",
        "'s",
        "Ġf",
        "n't",
        "▁",
    ]
    descriptions = [
        {"type": "WordPiece", "prefix": "##", "cleanup": True},
        {"type": "WordPiece", "prefix": "##", "cleanup": False},
        {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True},
        {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": True},
        {"type": "BPEDecoder", "suffix": "</w>"},
        {"type": "ByteFallback"},
        {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        {
            "type": "Sequence",
            "decoders": [{"type": "Fuse"}, {"type": "Strip", "content": "a", "start": 1, "stop": 0}],
        },
        {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
    ]
    from ingot.tokenizer import decoders

    source = random.Random(3)
    vocabulary = {name: token for token, name in enumerate(names)}
    for description in descriptions:
        model = {"type": "WordLevel", "vocab": vocabulary, "unk_token": "a"}
        peer = Peer.from_str(json.dumps({"model": model, "decoder": description, "added_tokens": []}))
        ours = decoders.build(Fields(description, "decoder"))
        for _ in range(300):
            ids = [source.randrange(len(names)) for _ in range(source.randint(1, 7))]
            assert "".join(ours([names[token] for token in ids])) == peer.decode(ids)


@pytest.mark.parametrize(
    "behavior", ["removed", "isolated", "merged_with_previous", "merged_with_next", "contiguous"]
)
@pytest.mark.parametrize("invert", [False, True])
@pytest.mark.parametrize("pattern", [r"\d", r"[ab]+", r"(?=[A-Z])", r" ?x"])
def test_split_behaviours_equal_the_library(behavior: str, invert: bool, pattern: str) -> None:
    theirs = pre_tokenizers.Split(tokenizers.Regex(pattern), behavior, invert)
    named = re.sub(r"(?:^|_)(\w)", lambda match: match[1].upper(), behavior)
    description = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": named, "invert": invert}
    cut = pretokenise.build(Fields(description, "split"))
    for text in ["ab12c3", "xx aXbYY9", "1", "", "aaa", " x x1x", "ABC"]:
        assert cut([text] if text else [], True) == [piece for piece, _ in theirs.pre_tokenize_str(text)]
