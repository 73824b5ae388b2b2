"""The tokenizer against `tokenizers` and `transformers`, which read the files that it writes."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import tokenizers
from fuzzing import HARD, corpus, strings
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from ingot.errors import ArtifactError, ConfigError
from ingot.tokenizer import Tokenizer
from ingot.tokenizer.measure import measure
from ingot.tokenizer.tokenizer import SPECIALS


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(corpus(), vocabulary=1024)


@pytest.fixture(scope="module")
def folder(tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer")
    tokenizer.save(path)
    return path


@pytest.fixture(scope="module")
def reference(folder: Path) -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def without_control_names(text: str) -> str:
    """The library turns their names into control tokens; we never do, so there the ids differ on purpose."""
    return text.replace("<|", "<")


def test_ten_thousand_fuzzed_texts_come_back_byte_for_byte(tokenizer: Tokenizer) -> None:
    control = set(tokenizer.special.values())
    for text in strings(10_000, names=SPECIALS):
        ids = tokenizer.encode(text)
        assert tokenizer.decode_bytes(ids) == text.encode()
        assert tokenizer.decode(ids) == text
        assert not control & set(ids)


@settings(max_examples=300, deadline=None)
@given(text=st.text().map(without_control_names))
def test_ids_equal_the_reference_library(text: str, tokenizer: Tokenizer, reference: object) -> None:
    assert tokenizer.encode(text) == reference.encode(text, add_special_tokens=False).ids  # type: ignore[attr-defined]


def test_transformers_gives_the_same_ids_and_adds_no_bos(tokenizer: Tokenizer, folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert len(theirs) == tokenizer.vocab_size
    fuzzed = map(without_control_names, strings(200, seed=5))
    for text in [HARD, "plain text", *corpus()[:2], *fuzzed]:
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


@pytest.mark.parametrize("change", ["swap merges", "other pattern", "other specials"])
def test_a_tokenizer_made_elsewhere_encodes_as_its_file_says(
    folder: Path, tmp_path: Path, change: str
) -> None:
    content = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    if change == "swap merges":
        merges = content["model"]["merges"]
        merges[0], merges[1], merges[5], merges[300] = merges[1], merges[0], merges[300], merges[5]
    elif change == "other pattern":
        content["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = r"\S+|\s+"
    else:
        content["added_tokens"].pop()
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    ours = Tokenizer.load(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in [*corpus(), *strings(300, seed=6)]:
        assert ours.encode(text) == theirs.encode(text, add_special_tokens=False).ids


def test_a_merge_that_never_happens_is_left_to_nobody(tmp_path: Path) -> None:
    """(b,c), (a,b), (ab,c) on "abc": by the ranks of all three abc, by the list a, bc."""
    a, b, c = 64, 65, 66
    tokenizer = Tokenizer([(b, c), (a, b), (257, c)])
    assert tokenizer.encode("abc") == [a, 256]
    tokenizer.save(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in ["abc", "abcabc", "aabbcc", "bcab", "abab c"]:
        assert tokenizer.encode(text) == theirs.encode(text).ids
    assert Tokenizer([(b, c), (a, 256), (a, b)]).encode("abc") == [257]


def test_a_list_that_ranks_cannot_say_is_encoded_by_the_loop(tmp_path: Path) -> None:
    """A merge before the merge of its part: "abc" is made in the end, but after bd."""
    tokenizer = Tokenizer([(64, 65), (256, 66), (66, 67)])  # ab, abc, cd
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["model"]["merges"] = [["ab", "c"], ["c", "d"], ["a", "b"]]
    path.write_text(json.dumps(content), encoding="utf-8")
    ours, theirs = Tokenizer.load(tmp_path), tokenizers.Tokenizer.from_file(str(path))
    assert tokenizer.compiled and not ours.compiled
    assert tokenizer.encode("abcd") == [257, 67]
    assert ours.encode("abcd") == [256, 258]
    for text in ["abcd", "abc", "abcdabc cd", "ab" * 300 + "cd"]:
        assert ours.encode(text) == theirs.encode(text).ids


def test_a_batch_is_what_its_texts_are(tokenizer: Tokenizer) -> None:
    texts = [*strings(400, names=SPECIALS), "", *corpus(), "x" * 200_000]
    alone = [tokenizer.encode(text) for text in texts]
    assert tokenizer.encode_batch(texts, workers=1) == alone
    assert tokenizer.encode_batch(texts, workers=3) == alone
    assert tokenizer.encode_batch([], workers=2) == []
    obeyed = tokenizer.encode_batch(texts, workers=2, specials="parse")
    assert obeyed == [tokenizer.encode(text, specials="parse") for text in texts]


def test_threads_with_encoders_of_their_own_give_the_same_ids() -> None:
    tokenizer = Tokenizer.train(corpus(), 300)
    few = corpus()[:1]
    much = [*strings(200), *corpus() * (200 * tokenizer.vocab_size // len("".join(corpus())) + 1)]
    alone = [tokenizer.encode(text) for text in much]
    assert tokenizer._fast is not None
    assert tokenizer.encode_batch(few, workers=2) == [tokenizer.encode(text) for text in few]
    assert not tokenizer._fast._crews  # made for much text only, and kept then
    assert tokenizer.encode_batch(much, workers=2) == alone
    crew = tokenizer._fast._crews[2]
    assert tokenizer.encode_batch([*much, "\ud800"], workers=2) == [*alone, tokenizer.encode("\ufffd")]
    assert tokenizer._fast._crews[2] is crew
    crew.process = 0  # as after a fork, which threads do not survive
    assert tokenizer.encode_batch(much, workers=2) == alone
    assert tokenizer._fast._crews[2] is not crew


@given(data=st.binary() | st.text().map(str.encode))
def test_any_bytes_come_back(data: bytes, tokenizer: Tokenizer) -> None:
    assert tokenizer.decode_bytes(tokenizer.encode_bytes(data)) == data


def test_dropout_is_keyed_and_keeps_the_text(tokenizer: Tokenizer) -> None:
    text = corpus()[0][:2000]
    plain = tokenizer.encode(text)
    one, two = tokenizer.sample(text, (0, "a")), tokenizer.sample(text, (0, "b"))
    assert one == tokenizer.sample(text, (0, "a")) != two
    assert tokenizer.sample(text, (1, "a")) not in (one, two)
    assert tokenizer.sample(text, (0, 0), rate=0) == plain
    assert tokenizer.sample(text, (0, 0), rate=1) == [
        tokenizer.encode_bytes(bytes([b]))[0] for b in text.encode()
    ]
    for ids in (one, two):
        assert tokenizer.decode(ids) == text
        assert len(plain) < len(ids) < 2 * len(plain)


def test_dropout_passes_over_a_merge_as_often_as_it_should() -> None:
    tokenizer = Tokenizer([(64, 65)])  # "ab"
    kept = sum(len(tokenizer.sample("ab", (0, index), rate=0.3)) == 1 for index in range(2000))
    assert stats.binomtest(kept, 2000, 0.7).pvalue > 1e-4


def test_a_tokenizer_travels_to_other_processes(tokenizer: Tokenizer) -> None:
    tokenizer.encode("some text that is remembered")
    for one in (tokenizer, Tokenizer([(65, 66), (64, 65), (257, 66)])):
        travelled = pickle.loads(pickle.dumps(one))
        assert travelled.encode(corpus()[1]) == one.encode(corpus()[1])
        assert travelled.special == one.special


def test_roles_are_found_and_missed_by_name(tokenizer: Tokenizer) -> None:
    ids = [tokenizer.role_id(role) for role in ("bos", "eos", "pad", "start", "end")]
    assert ids == [1020, 1022, 1023, 1021, 1022]
    assert (tokenizer.bos_id, tokenizer.eos_id, tokenizer.pad_id) == (1020, 1022, 1023)
    with pytest.raises(ArtifactError, match="no token for 'mask'"):
        tokenizer.role_id("mask")
    with pytest.raises(ConfigError, match="'yes' is no way"):
        tokenizer.encode("text", specials="yes")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="rate of 2"):
        tokenizer.sample("text", (0, 0), rate=2)


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
