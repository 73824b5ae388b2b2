"""`ingot tokenizer`: every verb, every command of docs/tokenizers.md, and mistakes in one clear line."""

from __future__ import annotations

import io
import itertools
import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from ingot.tokenizer import Tokenizer

DOCS = Path(__file__).parents[2] / "docs" / "tokenizers.md"
ENGLISH = ["The sun rises in the east.", "We drink tea every morning.", "The river is wide and deep."]
RUSSIAN = ["Солнце встаёт на востоке.", "Мы пьём чай каждое утро.", "Река широкая и глубокая."]
PROSE = "To be, or not to be: that is the question. Whether 'tis nobler in the mind to suffer 1603 arrows.\n"

Run = Callable[..., Any]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with something of everything that the documentation names; the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NO_COLOR", raising=False)
    for name in ("notes", "src"):
        Path(name).mkdir()
    Path("notes/one.txt").write_text(PROSE * 20)
    Path("notes/two.md").write_text("# Rivers\n\nA river is wide, and deep, and old.\n" * 20)
    Path("notes/broken.txt").write_bytes(b"\xff\xfe\x00\x00broken\xff")
    Path("src/code.py").write_text("def area(width, height):\n    return width * height + 12345\n" * 30)
    Path("en.txt").write_text("\n".join(ENGLISH * 30))
    Path("ru.txt").write_text("\n".join(RUSSIAN * 3))
    rows = [f"{left}\t{right}" for left, right in zip(ENGLISH, RUSSIAN, strict=True)]
    Path("both.tsv").write_text("\n".join(["English\tRussian", *rows]) + "\n")
    Path("heldout.txt").write_text("A question of tea: whether to drink 1234 cups of it.\n")
    Path("poem.txt").write_text("To see a world in a grain of sand ☕\n")
    return tmp_path


@pytest.fixture
def mine(place: Path, run: Run) -> Path:
    assert run("tokenizer", "train", "notes", "--out", "mine", "--vocabulary", 320).status == 0
    return place / "mine"


def test_every_command_of_the_documentation_works(place: Path, run: Run) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines()]
    assert len(lines) > 15 and all(line.startswith("ingot tokenizer ") for line in lines)
    for line in lines:
        done = run(*shlex.split(line)[1:])
        assert done.status == 0, (line, done.err)
        assert done.out.strip(), line
    verbs = {line.split()[2] for line in lines}
    assert verbs == {"train", "inspect", "encode", "decode", "view", "compare", "convert"}


def test_train_reports_and_the_library_reads_the_result(place: Path, run: Run) -> None:
    done = run(
        "tokenizer", "train", "notes", "--out", "mine", "--vocabulary", 320, "--special", "<t>", "--json"
    )
    told = json.loads(done.out)
    assert told["vocabulary"] == told["asked"] == 320
    assert told["documents"] == 2 and sum(told["dropped"].values()) == 1
    texts = [Path("notes", name).read_text() for name in ("one.txt", "two.md")]
    assert told["bytes"] == sum(len(text) for text in texts)
    ours = Tokenizer.load(place / "mine")
    assert told["sample"]["tokens"] == sum(len(ours.encode(text)) for text in texts)
    assert "<t>" in ours.special
    theirs = tokenizers.Tokenizer.from_file("mine/tokenizer.json")
    assert theirs.encode(PROSE).ids == ours.encode(PROSE)
    direct = Tokenizer.train(reversed(texts), 319)
    assert set(ours.merges) == set(direct.merges)


def test_train_says_what_a_memory_limit_cost(place: Path, run: Run) -> None:
    words = ["".join(letters) for letters in itertools.product("abcdefghij", repeat=4)]
    for index in range(8):  # batches are added up one by one: pruning comes between them
        Path("src", f"{index}.txt").write_text(
            " ".join(words[index * 600 : index * 600 + 700]) + "\n" + PROSE * 9
        )
    base = ("tokenizer", "train", "src", "--vocabulary", 320)
    exact = json.loads(run(*base, "--out", "exact", "--json").out)
    assert exact["counting"] == {"error": 0, "dropped": 0, "prunings": 0}
    few = json.loads(run(*base, "--out", "few", "--memory-mb", 0.05, "--json").out)
    assert few["counting"]["error"] > 0 and few["counting"]["dropped"] > 0 and few["counting"]["prunings"] > 0
    shown = run(*base, "--out", "shown", "--memory-mb", 0.05).out
    assert f"{few['counting']['dropped']:,} rare pieces were dropped" in shown
    assert f"no count is more than {few['counting']['error']:,} too low" in shown
    assert "rare pieces" not in run(*base, "--out", "more").out


def test_fair_training_reports_premiums_and_whose_merges(place: Path, run: Run) -> None:
    base = ("tokenizer", "train", "--fair", "English=en.txt", "--fair", "Russian=ru.txt", "--vocabulary", 340)
    told = json.loads(run(*base, "--parallel", "both.tsv", "--out", "fair", "--json").out)
    assert set(told["merges_by_language"]) == {"English", "Russian"}
    tokenizer = Tokenizer.load(place / "fair")
    sizes = [sum(len(tokenizer.encode(one)) for one in column) for column in (ENGLISH, RUSSIAN)]
    assert told["premiums"]["worst_to_best"] == pytest.approx(max(sizes) / min(sizes))
    run("tokenizer", "train", "en.txt", "ru.txt", "--vocabulary", 340, "--out", "plain")
    compared = json.loads(
        run("tokenizer", "compare", "fair", "plain", "--parallel", "both.tsv", "--json").out
    )["tokenizers"]
    fair, plain = (row["premiums"]["worst_to_best"] for row in compared)
    assert fair < plain
    shown = run(*base, "--out", "other").out
    assert "tokens per character" in shown and "worst/best" in shown


def test_encode_and_decode_are_inverse_for_any_bytes(
    mine: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b"any \xff\xfe bytes\r\n \x00 \xe2\x98\x95\n"
    Path("data.bin").write_bytes(data)
    ids = run("tokenizer", "encode", mine, "--file", "data.bin", "--ids").out
    written = io.TextIOWrapper(io.BytesIO())
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", written)
        run("tokenizer", "decode", mine, *ids.split())
    assert written.buffer.getvalue() == data  # type: ignore[attr-defined]

    class Standard:
        buffer = io.BytesIO(b"To be")

    monkeypatch.setattr(sys, "stdin", Standard)
    piped = run("tokenizer", "encode", mine, "-", "--ids").out
    assert piped == run("tokenizer", "encode", mine, "--text", "To be", "--ids").out
    monkeypatch.setattr(sys, "stdin", io.StringIO(piped))
    assert run("tokenizer", "decode", mine).out == "To be"


def test_control_tokens_in_a_text_are_text_unless_parsed(mine: Path, run: Run) -> None:
    bos = Tokenizer.load(mine).bos_id
    plain = json.loads(run("tokenizer", "encode", mine, "--text", "<|endoftext|>", "--json").out)
    parsed = json.loads(run("tokenizer", "encode", mine, "--text", "<|endoftext|>", "--parse", "--json").out)
    assert bos not in plain["ids"] and parsed["ids"] == [bos]


def test_inspect_shows_what_it_is_and_a_text_by_token(mine: Path, run: Run) -> None:
    shown = run("tokenizer", "inspect", mine).out
    for word in ("byte-level BPE, 320 entries", "qwen2", "<|im_start|>", "longest tokens"):
        assert word in shown
    assert json.loads(run("tokenizer", "inspect", mine, "--json").out)["merges"] == 60
    text = "To be ☕ or"
    found = json.loads(run("tokenizer", "inspect", mine, "--text", text, "--json").out)
    assert "".join(span["text"] for span in found["spans"]) == text
    shown = run("tokenizer", "inspect", mine, "--text", text).out
    assert shown.splitlines()[0].replace("│", "") == text
    assert f"{found['tokens']} tokens" in shown


def test_inspect_colours_a_terminal(mine: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from ingot.cli import tokens
    from ingot.tokenizer.spans import spans

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(sys, "stdout", screen)
    tokens._show_spans(spans(Tokenizer.load(mine), "to [red]be[/red] \x1b[2J"))
    drawn = screen.getvalue()
    assert "\x1b[" in drawn and "\x1b[2J" not in drawn
    assert re.sub(r"\x1b\[[\d;]*m", "", drawn).strip() == "to [red]be[/red] \\x1b[2J"


def test_view_writes_one_page(mine: Path, run: Run) -> None:
    run("tokenizer", "train", "notes", "--out", "words", "--kind", "wordpiece", "--vocabulary", 200)
    done = run(
        "tokenizer", "view", "mine", "words", "--file", "poem.txt", "--out", "t.html", "--characters", 9
    )
    assert "2 tokenizers, the first 9 of 36 characters" in done.out
    page = Path("t.html").read_text(encoding="utf-8")
    hexed = "".join(re.findall(r'data-h="([0-9a-f]*)"', page))
    assert bytes.fromhex(hexed) == b"To see a " * 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("train --out x", "nothing to learn from"),
        ("train nowhere --out x", "nowhere: no such file or folder"),
        ("train notes --out mine", "is there already"),
        ("train notes --out x --kind bpm", "did you mean 'bpe'"),
        ("train notes --out x --split gpt3", "no such split; did you mean 'gpt2'"),
        ("train notes --out x --split '(['", "no regular expression"),
        ("train notes --out x --digits 4", "digits"),
        ("train notes --out x --vocabulary 10", "10 entries are too few"),
        ("train notes --out x --vocabulary many", "valid integer"),
        ("train notes --out x --workers 0", "workers"),
        ("train notes --out x --kind wordpiece --split gpt2", "has no effect"),
        ("train notes --out x --special '<|pad|>'", "comes twice"),
        ("train notes --out x --fair en=en.txt", "do not go together"),
        ("train --out x --fair en.txt", "no NAME=PATH"),
        ("train --out x --fair a=en.txt --fair a=ru.txt", "comes twice"),
        ("train --out x --fair a=en.txt", "nobody to be fair to"),
        ("train --out x --fair a=en.txt --fair b=ru.txt --parallel both.tsv", "lacks a, b"),
        ("train --out x --fair a=en.txt --fair b=ru.txt --kind unigram", "is not there"),
        ("train notes --out x --parallel none.tsv", "none.tsv: no such file"),
        ("train empty --out x", "no file of a kind"),
        ("train empty.txt --out x", "no text there"),
        ("encode mine", "there is no text"),
        ("encode mine --text ''", "text is empty"),
        ("encode mine --file empty.txt", "text is empty"),
        ("encode mine --file none.txt", "none.txt: no such file"),
        ("encode mine words", "'words' is no option"),
        ("encode mine --text a --file poem.txt", "more than once"),
        ("encode none --text a", "none/tokenizer.json|none"),
        ("encode notes --text a", "give a file or folder that holds a tokenizer"),
        ("encode poem.txt --text a", "is no tokenizer file"),
        ("encode bad.json --text a", "the model 'Word2Vec' is not supported"),
        ("decode mine 99999", "'99999' is no id"),
        ("decode mine abc", "'abc' is no id"),
        ("inspect mine --file binary.txt", "not UTF-8"),
        ("view mine mine --text a", "given twice"),
        ("view mine", "there is no text"),
        ("compare mine", "nothing to compare on"),
        ("compare mine --parallel both.tsv --base French", "no text of 'French'"),
        ("convert mine out --to tiktokens", "did you mean 'tiktoken'"),
        ("convert mine both.tsv --to tiktoken", "is there already"),
        ("convert mine out --to sentencepiece", "tokenizer.json instead"),
    ],
)
def test_a_mistake_is_one_clear_line(mine: Path, run: Run, words: str, says: str) -> None:
    Path("empty").mkdir()
    Path("empty.txt").write_text("")
    Path("binary.txt").write_bytes(b"\xff\xff")
    Path("bad.json").write_text('{"model": {"type": "Word2Vec"}}')
    before = sorted(path.name for path in Path().iterdir())
    done = run("tokenizer", *shlex.split(words))
    assert done.status == 2, done
    assert done.out == ""
    last = done.err.strip().splitlines()[-1]
    assert last.startswith("error: ") and re.search(says, last), last
    assert sorted(path.name for path in Path().iterdir()) == before


def test_every_verb_shows_an_example(run: Run) -> None:
    for verb in ("train", "encode", "decode", "inspect", "view", "compare", "convert"):
        shown = run("tokenizer", verb, "--help")
        assert shown.status == 0 and f"Example: ingot tokenizer {verb}" in shown.out
