"""Cleaning: a labelled fixture for every rule, repair, order, presets, and what never happens to code."""

from __future__ import annotations

import pickle
import random
import sys
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ingot.data import repair
from ingot.data.clean import clean, objection
from ingot.data.cleaning import PRESETS, Cleaned, Cleaning
from ingot.data.document import Document, Dropped
from ingot.data.language import Language
from ingot.data.preprocess import Preprocess
from ingot.data.privacy import Privacy
from ingot.data.repair import Repair
from ingot.data.rules.c4 import C4
from ingot.data.rules.fineweb import FineWeb
from ingot.data.rules.gopher import GopherQuality
from ingot.data.rules.repetition import GopherRepetition
from ingot.errors import ConfigError, ResourceError

pytest.importorskip("ftfy")
pytest.importorskip("py3langid")


def document(text: str, kind: str = "web") -> Document:
    return Document("folder/a", "folder/a", text, kind)


SUBJECTS = ("The river", "A farmer", "Every student", "The old bridge", "My neighbour", "The committee")
VERBS = ("crosses", "remembers", "changed", "will describe", "has followed", "could improve", "watched")
OBJECTS = ("the valley", "a long road", "the town's story", "that quiet morning", "the price of bread")
ENDS = ("with great care", "before the winter", "and nobody was surprised", "of the year", "to be sure")


def good(source: random.Random) -> str:
    """Prose of many words: what it says again is kept apart by words that it never says again."""
    count = source.randint(9, 20)
    sentences = []
    for _ in range(count):
        names = ["".join(source.choices("bdfgklmnprstvaeiou", k=source.randint(4, 8))) for _ in range(4)]
        phrases = [source.choice(phrases) for phrases in (SUBJECTS, VERBS, OBJECTS, ENDS)]
        words = [word for pair in zip(phrases, names, strict=True) for word in pair]
        sentences.append(" ".join(words) + ".")
    return "\n\n".join(" ".join(sentences[i : i + 4]) for i in range(0, count, 4))


def numbers(source: random.Random) -> str:
    return " ".join(f"{source.random():.3f}" for _ in range(200)) + " the of and with."


def shuffled(source: random.Random, letters: int) -> str:
    return " ".join("".join(source.choices("bcdfgaeiou", k=letters)) for _ in range(90)) + " the of."


Maker = Callable[[random.Random], str]
BAD: dict[str, list[Maker]] = {
    "quality": [
        lambda s: " ".join(good(s).split()[: s.randint(3, 40)]) + ".",
        numbers,
        lambda s: shuffled(s, 14),
        lambda s: " ".join("".join(s.choices("abcdefgh", k=1)) for _ in range(200)),
        lambda s: good(s) + " #" * 80,
        lambda s: "\n".join(f"- {line}" for line in good(s).replace(". ", ".\n").split("\n") if line),
        lambda s: "\n".join(f"{line[:60]}..." for line in good(s).replace(". ", ".\n").split("\n") if line),
        lambda s: shuffled(s, 5).replace("the of", "bobobo"),
    ],
    "repetition": [
        lambda s: "\n".join([good(s).split(".")[0] + "."] * s.randint(8, 30)),
        lambda s: good(s) + "\n\n" + "\n\n".join([good(s)] * 4),
        lambda s: "Buy now and save. " * s.randint(30, 60),
        lambda s: good(s).replace(".", ". Click here to read more about this topic and subscribe today."),
    ],
    "c4": [
        lambda s: good(s) + "\nfunction f() { return 1; } is what runs here.",
        lambda s: good(s) + "\nLorem ipsum dolor sit amet and so on.",
        lambda s: "\n".join(s.choice(["Home", "About us", "Log in", "Next page"]) for _ in range(80)),
        lambda s: "\n".join("Please enable JavaScript to see this page." for _ in range(20)),
        lambda s: "\n".join(f"Item {i}, our privacy policy holds here." for i in range(20)),
    ],
    "fineweb": [
        lambda s: "\n".join(line.rstrip(".") + ";" for line in good(s).replace(". ", ".\n").split("\n")),
        lambda s: good(s).replace(" ", "\n"),
        lambda s: good(s) + "\n" + "\n".join([good(s).split("\n")[0]] * 2),
        lambda s: "\n".join(good(s)[i : i + 26] for i in range(0, 600, 26)),
    ],
}
RULES: dict[str, Cleaning] = {
    "quality": Cleaning(quality=GopherQuality()),
    "repetition": Cleaning(repetition=GopherRepetition()),
    "c4": Cleaning(c4=C4(terminal_punctuation=False)),
    "fineweb": Cleaning(fineweb=FineWeb()),
}


def fixture(name: str) -> Iterator[tuple[str, bool]]:
    """Two hundred documents and whether each is good, by how it was made."""
    source = random.Random(name)
    for index in range(200):
        is_good = index % 2 == 0
        yield (good if is_good else source.choice(BAD[name]))(source), is_good


@pytest.mark.parametrize("name", BAD)
def test_each_rule_set_tells_good_from_bad(name: str) -> None:
    """Precision and recall of dropping, each at least 0.9."""
    cleaner = RULES[name].build()
    hits = wrong = missed = 0
    for text, is_good in fixture(name):
        dropped = isinstance(cleaner.clean(document(text)), Dropped)
        hits += dropped and not is_good
        wrong += dropped and is_good
        missed += not dropped and not is_good
    assert hits / (hits + wrong) >= 0.9, (hits, wrong, missed)
    assert hits / (hits + missed) >= 0.9, (hits, wrong, missed)


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("name", BAD)
def test_cleaning_twice_is_cleaning_once(name: str, preset: str) -> None:
    cleaner = Cleaning.parse({"preset": preset, "language": None}).build()  # half of the words are made up
    kept = 0
    for text, _ in fixture(name):
        once = cleaner.clean(document(text + " Write to me@example.com, naÃ¯ve e\u0301!\r\n"))
        if isinstance(once, Document):
            kept += 1
            assert cleaner.clean(once) == once
    assert kept >= 90


@settings(deadline=None)
@given(st.text() | st.text("Ã¶â€™œ\x9d ab\u0301é1@.\n\r"), st.integers(1, 20))
def test_the_own_preset_is_idempotent_on_any_text(text: str, times: int) -> None:
    cleaner = Cleaning.parse({"preset": "own", "min_judged_words": 3}).build()
    once = cleaner.clean(document(text * times))
    if isinstance(once, Document):
        assert cleaner.clean(once) == once


@given(
    st.text() | st.text("\r\n\0\ufeff\ud800a"), st.sampled_from(["web", "python", "text"]), st.integers(1, 9)
)
def test_with_everything_off_it_is_clean_and_objection(text: str, kind: str, least: int) -> None:
    cleaned, wrong = clean(text), objection(clean(text), least)
    found = Cleaning(min_bytes=least).build().clean(document(text, kind))
    if wrong is None:
        assert found == document(cleaned, kind)
    else:
        assert found == Dropped("folder/a", *wrong, text=cleaned)


@settings(deadline=None)
@given(st.text() | st.text("Ã¶â€™“”œÂ\x80\x9d\xa0 a\u0301é—вЂ\n"))
@example("“é“é“é")
@example("œ" * 70_000)
def test_repair_is_idempotent(text: str) -> None:
    once = Repair().apply(text)
    assert Repair().apply(once) == once


def test_repair_mends_what_wrong_decoding_did() -> None:
    right = "Größe – “schön” naïve café, l’été… Привет, 你好 and — done"
    for encoding in ("cp1252", "latin-1"):
        broken = "\n".join(w.encode().decode(encoding, "ignore") for w in ["Größe", "naïve café", "l’été"])
        assert Repair().apply(f"{broken}\n{right}").split("\n")[0] == "Größe", encoding
    assert Repair().apply(right) == right
    assert Repair().apply("e\u0301") == "é"
    assert Repair(normalise=None).apply("e\u0301") == "e\u0301"
    assert Repair(normalise="NFKC").apply("\ufb01ne\u00b2") == "fine2"
    assert Repair(mojibake=False).apply("schÃ¶n") == "schÃ¶n"


def test_the_cheap_check_misses_nothing_that_ftfy_calls_bad() -> None:
    import re

    from ftfy.badness import MOJIBAKE_CATEGORIES, is_bad

    letters = [
        sign
        for sign in map(chr, range(0x80, 0x10000))
        if any(re.match(f"[{group}]", sign) for group in MOJIBAKE_CATEGORIES.values())
    ]
    source = random.Random(0)
    count = 0
    for _ in range(60_000):
        text = "".join(source.choice([source.choice(letters), source.choice("a .A$")]) for _ in range(4))
        if is_bad(text):
            count += 1
            assert repair._SUSPECT.search(text), ascii(text)
    assert count > 5_000
    for text in ("вЂ", "ГўВЂВ.a", "β€™", "ā€", "Â ", " Â£", "à²", "√±", "œ1", "a Ã "):
        assert not is_bad(text) or repair._SUSPECT.search(text), text


def test_code_is_left_alone_but_for_its_keys() -> None:
    text = "x = 'schÃ¶n e\u0301 me@example.com'  # 8.8.8.8\n" * 30
    token = "ghp_" + "a1B2" * 9
    for preset in PRESETS:
        cleaner = Cleaning.parse({"preset": preset}).build()
        assert cleaner.clean(document(text, "python")) == document(text, "python")
        assert cleaner.clean(document(text + token, "c")) == document(text + "[KEY]", "c")


def test_a_dropped_document_says_which_rule_with_its_numbers_and_keeps_no_secret() -> None:
    text = "Write to ann@example.com now. " * 30
    treated = Cleaning.parse({"preset": "own"}).build().treat(document(text))
    dropped = treated.result
    assert isinstance(dropped, Dropped)
    assert (dropped.path, dropped.reason) == ("folder/a", "gopher.repeated_10_words")
    assert dropped.threshold == 0.5 and dropped.value is not None and dropped.value > 0.5
    assert "0.5" in dropped.detail
    assert "ann@" not in dropped.text and "[EMAIL]" in dropped.text
    assert treated.changes["privacy.email"] == 30


def test_changes_are_counted() -> None:
    cleaner = Cleaning.parse({"preset": "web", "language": {"keep": None}}).build()
    text = good(random.Random(1)) + " A rÃ©sumÃ© of the river."
    lines = "\nHome\nThis page uses cookies and more.\n"
    treated = cleaner.treat(document(text + lines))
    assert isinstance(treated, Cleaned) and isinstance(treated.result, Document)
    assert "A résumé of" in treated.result.text
    assert treated.changes["repair"] == 1
    assert treated.changes["c4.line"] >= 2
    assert "cookies" not in treated.result.text


def test_short_documents_of_ones_own_are_not_judged() -> None:
    cleaner = Cleaning.parse({"preset": "own"}).build()
    for text in ("Buy milk.", "12 34 56", "- a\n- b", "no no no no no"):
        assert isinstance(cleaner.clean(document(text)), Document)
    assert isinstance(cleaner.clean(document("no " * 60)), Dropped)


def test_the_order_is_that_of_fineweb() -> None:
    everything_wrong = "{ # " * 300
    reasons = []
    config: dict[str, object] = {"preset": "web"}
    for rule in ("language", "repetition", "quality", "c4", "fineweb"):
        found = Cleaning.parse(config).build().clean(document(everything_wrong))
        assert isinstance(found, Dropped)
        reasons.append(found.reason.split(".")[0] if rule != "quality" else found.reason)
        config[rule] = None
    assert reasons == ["language", "gopher", "gopher.min_words", "c4", "fineweb"]
    assert isinstance(Cleaning.parse(config).build().clean(document(everything_wrong)), Document)


def test_presets_can_be_overridden_and_come_back_as_they_were() -> None:
    config = Cleaning.parse(
        {"preset": "web", "c4": {"curly_braces": False}, "quality": {"min_words": 7}, "language": None}
    )
    assert config.c4 is not None and not config.c4.curly_braces and not config.c4.terminal_punctuation
    assert config.quality is not None and (config.quality.min_words, config.quality.max_words) == (7, 100_000)
    assert config.language is None and config.fineweb == FineWeb()
    assert Cleaning.parse(config.plain()) == config
    assert Cleaning() == Cleaning.parse({}) and Cleaning().quality is None
    with pytest.raises(ConfigError, match="wbe"):
        Cleaning.parse({"preset": "wbe"})
    with pytest.raises(ConfigError, match="unknown key 'min_wrds'"):
        Cleaning.parse({"preset": "web", "quality": {"min_wrds": 1}})


def test_a_cleaner_travels() -> None:
    text = good(random.Random(3))
    for preset in PRESETS:
        cleaner = Cleaning.parse({"preset": preset}).build()
        assert pickle.loads(pickle.dumps(cleaner)).clean(document(text)) == cleaner.clean(document(text))


def test_rules_look_at_the_first_part_of_a_huge_document() -> None:
    text = good(random.Random(4)) + "\nspam" * 5_000
    config = Cleaning(repetition=GopherRepetition())
    assert isinstance(config.build().clean(document(text)), Dropped)
    first = config.model_copy(update={"max_judged": 500})
    assert first.build().clean(document(text)) == document(text)


def test_preprocessing_comes_last() -> None:
    cleaner = Cleaning(privacy=Privacy(), preprocess=Preprocess(stop_words="own", stem="porter")).build()
    found = cleaner.clean(document("The ponies wrote to me@example.com."))
    assert isinstance(found, Document) and found.text == "poni wrote email"
    code = cleaner.clean(document("The ponies = 1", "python"))
    assert isinstance(code, Document) and code.text == "The ponies = 1"


def test_a_language_from_the_reader_is_kept_where_none_is_told() -> None:
    known = Document("a", "a", "1 2 3", "wiki", language="fr")
    assert Cleaning(language=Language()).build().clean(known) == known
    assert Cleaning().build().clean(known) == known


def test_missing_packages_are_named_before_the_work_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    repair._ftfy.cache_clear()
    monkeypatch.setitem(sys.modules, "ftfy", None)
    with pytest.raises(ResourceError, match="the package 'ftfy' is missing"):
        Cleaning(repair=Repair()).build()
    assert Cleaning(repair=Repair(mojibake=False)).build().clean(document("é")) == document("é")
