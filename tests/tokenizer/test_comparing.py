"""Tokenizers side by side, spans, parallel text, conversions, and parity-aware training as a whole."""

from __future__ import annotations

from pathlib import Path

import pytest
from five_scripts import SENTENCES
from fuzzing import corpus, strings
from layouts import LAYOUTS

from ingot.errors import ArtifactError, ConfigError, DataError
from ingot.tokenizer import Tokenizer
from ingot.tokenizer.compare import compare, embedding_share
from ingot.tokenizer.conversion import PROBES, convert
from ingot.tokenizer.fair_training import count_fairly, learn_fairly
from ingot.tokenizer.overview import overview
from ingot.tokenizer.parallel import read_parallel
from ingot.tokenizer.spans import spans, written
from ingot.tokenizer.training import TokenizerConfig

KINDS = ("bpe", "characters", "unigram", "wordpiece")
SIZES = (600, 700, 800)


def learned(kind: str, vocabulary: int = 600) -> Tokenizer:
    return Tokenizer.train(corpus(), vocabulary, config=TokenizerConfig.parse({"kind": kind, "alphabet": 60}))


@pytest.fixture(scope="module")
def trained() -> dict[str, Tokenizer]:
    return {f"{kind}-{size}": learned(kind, size) for kind in KINDS for size in SIZES}


def test_four_kinds_at_three_sizes_give_one_table(trained: dict[str, Tokenizer]) -> None:
    texts = ["to be, or not to be: that is the question", "  def area(x):\n", "Ünïcode ☕️"]
    rows = compare(trained, texts, width=64, layers=2, parallel=SENTENCES, base="English")
    assert [row.name for row in rows] == list(trained)
    for row in rows:
        tokenizer = trained[row.name]
        ids = [token for text in texts for token in tokenizer.encode(text)]
        size = sum(len(text.encode()) for text in texts)
        assert row.fit.bytes_per_token == size / len(ids)
        assert row.fit.fertility == len(ids) / sum(len(text.split()) for text in texts)
        weights = tokenizer.vocab_size * 64
        assert row.embedding_share == pytest.approx(weights / (weights + 2 * 12 * 64 * 64))
        assert row.premiums is not None and row.premiums.base == "English"
        russian = sum(len(tokenizer.encode(one)) for one in SENTENCES["Russian"])
        english = sum(len(tokenizer.encode(one)) for one in SENTENCES["English"])
        assert row.premiums.by_language["Russian"] == pytest.approx(russian / english)
        assert row.lossless == all(
            tokenizer.decode(tokenizer.encode(text)) == text
            for text in [*texts, *(one for column in SENTENCES.values() for one in column)]
        )
        assert row.plain()["premiums"]["worst_to_best"] >= 1
    by_name = {row.name: row for row in rows}
    assert by_name["wordpiece-800"].unknown > 0 and not by_name["wordpiece-800"].lossless
    assert by_name["bpe-800"].unknown == 0 and by_name["bpe-800"].lossless
    assert by_name["bpe-800"].fit.tokens < by_name["bpe-600"].fit.tokens


def test_embedding_share_is_that_of_gpt2() -> None:
    # Radford et al. 2019: 124 M weights in all, 50,257 x 768 of them in the embedding, 786,432 positions.
    assert embedding_share(50257, 768, 12) == pytest.approx(50257 * 768 / (124.44e6 - 1024 * 768), rel=2e-3)
    with pytest.raises(ConfigError, match="width 0"):
        embedding_share(10, 0, 1)


@pytest.mark.parametrize("layout", ["gpt2", "qwen", "roberta", "llama2", "bert_cased", "clip"])
def test_spans_of_every_layout_hold_the_text_and_its_ids(layout: str, tmp_path: Path) -> None:
    LAYOUTS[layout]().save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path)
    texts = [*strings(60, seed=3, names=("<s>", "<mask>", "<tool>")), " two  blanks ", "", "\n"]
    for text in texts:
        for specials in ("text", "parse"):
            found = spans(tokenizer, text, specials)  # type: ignore[arg-type]
            assert "".join(span.text for span in found) == text
            assert [token for span in found for token in span.ids] == tokenizer.encode(text, specials)  # type: ignore[arg-type]


def test_spans_are_as_short_as_whole_characters_allow() -> None:
    tokenizer = Tokenizer([])
    found = spans(tokenizer, "né☕")
    assert [span.text for span in found] == ["n", "é", "☕"]
    assert [len(span.ids) for span in found] == [1, 2, 3]


def test_spans_of_a_lossy_tokenizer_stand_where_the_words_are(trained: dict[str, Tokenizer]) -> None:
    tokenizer = trained["wordpiece-800"]
    text = "The  THE thé"
    found = [(span.text, len(span.ids)) for span in spans(tokenizer, text)]
    joined = "".join(text if count else "|" * len(text) for text, count in found)
    assert joined == "The||THE|thé"
    assert [count for text, count in found if text.isspace()] == [0, 0]


def test_written_escapes_what_does_not_print() -> None:
    assert written(b"a\xc3\xa9\xff\n\\") == "aé\\xff\\n\\\\"
    assert written("\x85\u202e\t") == "\\x85\\u202e\\t"


def test_overview_tells_what_was_asked_for() -> None:
    config = TokenizerConfig.parse(
        {"split": "gpt2", "digits": "1-3", "specials": ("<a>", "<b>"), "roles": {"bos": "<a>"}}
    )
    tokenizer = Tokenizer.train(corpus(), 400, config=config)
    told = overview(tokenizer, longest=3)
    assert (told.kind, told.vocabulary, told.byte_tokens) == ("byte-level BPE", 400, 256)
    assert told.merges == 400 - 256 - 2
    assert told.split == "gpt2, digits 1-3"
    assert [(one.name, one.roles) for one in told.control] == [("<a>", ["bos"]), ("<b>", [])]
    sizes = [len(tokenizer.token_bytes(token)) for token in range(398)]
    assert [sizes[token] for token, _ in told.longest] == sorted(sizes, reverse=True)[:3]
    assert overview(learned("wordpiece")).split == "BertPreTokenizer"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "names 0 languages"),
        ("English\nHello\n", "names 1 languages"),
        ("a\ta\nx\ty\n", "names 1 languages"),
        ("a\tb\nx\ty\nonly one\n", "line 3: 1 sentences for 2"),
        ("a\tb\nx\t \n", "line 2: 1 sentences for 2"),
        ("a\tb\n", "no sentence"),
    ],
)
def test_a_parallel_text_with_a_gap_is_refused_by_its_line(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "both.tsv"
    path.write_text(text)
    with pytest.raises(DataError, match=says):
        read_parallel(path)


def test_a_parallel_text_is_read_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "both.tsv"
    path.write_text('\ufeffen\tde\r\nA day.\u2028\tEin "Tag".\r\n\r\nTwo.\tZwei.\r\n', newline="")
    assert read_parallel(path) == {"en": ["A day.", "Two."], "de": ['Ein "Tag".', "Zwei."]}
    path.write_bytes(b"a\tb\n\xff\tx\n")
    with pytest.raises(DataError, match="not UTF-8"):
        read_parallel(path)


def test_fair_training_brings_five_scripts_near_each_other() -> None:
    # English has five times the text of the others.
    texts = {name: column * (10 if name == "English" else 2) for name, column in SENTENCES.items()}
    config = TokenizerConfig.parse({"specials": ("<x>", "<|endoftext|>")})
    vocabulary = 900
    parts, learned = learn_fairly(count_fairly(texts, config, SENTENCES), vocabulary, config)
    fair = Tokenizer(parts)
    plain = Tokenizer.train([one for column in texts.values() for one in column], vocabulary, config=config)
    (fair_row, plain_row) = compare({"fair": fair, "plain": plain}, ["x"], parallel=SENTENCES)
    assert fair_row.premiums is not None and plain_row.premiums is not None
    assert fair_row.premiums.spread <= 1.5 < plain_row.premiums.spread
    assert fair.special == {"<x>": fair.vocab_size - 2, "<|endoftext|>": fair.vocab_size - 1}
    assert len(learned.merges) == fair.vocab_size - 258
    for column in SENTENCES.values():
        assert all(fair.decode(fair.encode(one)) == one for one in column)


def test_fair_training_refuses_what_it_cannot_do() -> None:
    texts = {"a": ["aa aa"], "b": ["bb bb"]}
    for settings in ({"kind": "unigram"}, {"max_token_length": 4}):
        with pytest.raises(ConfigError, match="is not there"):
            count_fairly(texts, TokenizerConfig.parse(settings))
    with pytest.raises(DataError, match="nobody to be fair to"):
        count_fairly({"a": ["aa"]}, TokenizerConfig())
    with pytest.raises(DataError, match="lacks b"):
        count_fairly(texts, TokenizerConfig(), {"a": ["a"]})


@pytest.mark.parametrize(
    ("kind", "form", "lost"),
    [
        ("bpe", "huggingface", 0),
        ("bpe", "tiktoken", 3),
        ("bpe", "gpt2", 3),
        ("unigram", "sentencepiece", 1),
        ("characters", "sentencepiece", 1),
        ("wordpiece", "huggingface", 0),
    ],
)
def test_converted_tokenizers_have_the_same_ids_and_say_what_is_lost(
    kind: str, form: str, lost: int, tmp_path: Path
) -> None:
    done = convert(learned(kind), tmp_path / "out.model", form)
    assert (done.probes, done.same) == (len(PROBES), len(PROBES))
    assert len(done.lost) == lost


def test_a_format_that_cannot_hold_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"tokenizer\.json instead"):
        convert(learned("wordpiece"), tmp_path / "out.model", "sentencepiece")
