"""The page: everything the artifacts say is on it, nothing they say can act on it, nothing may be missing."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ingot.artifact import Artifact
from ingot.report.facts import gather
from ingot.report.report import render
from ingot.report.samples import MOST_CHARACTERS, answer, parts
from ingot.report.words import MINUS, SPACE

MakeRun = Callable[..., tuple[Path, dict[str, Artifact]]]
HOSTILE = '<script>alert(1)</script><img src=x onerror="alert(2)">\'"&</code></pre>\x1b[31m\x00‮'
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Reads a page strictly: what was opened is closed in order; keeps tags, attributes and text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace(SPACE, " ").replace(MINUS, "-").split())

    def is_inert(self) -> bool:
        """Whether it holds no script, no handler, and no reference to anything outside itself."""
        handlers = [name for name, _ in self.attributes if name.startswith("on")]
        references = [
            v for n, v in self.attributes if n in ("src", "href", "srcset", "action", "data", "poster")
        ]
        outside = [value for value in references if value != "data:,"]
        return not {"script", "iframe", "img", "object", "embed", "base"} & set(self.tags) | set(
            handlers + outside
        )


def page_of(made: dict[str, Artifact], run: Path) -> tuple[Page, str]:
    text = render(gather(made, run, 2_000_000_000), datetime(2026, 11, 21, 9, 30, tzinfo=UTC))
    return Page(text), text


def test_the_page_says_what_was_made_and_how_well(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run, made = make_run()
    monkeypatch.chdir(run.parents[1])
    page, text = page_of(made, run)
    for phrase in (
        "A language model of 6.3 M weights, made from the source of Python 3.11’s standard library, 11.9 MB",
        "of text, in 13.3 minutes",
        "2 cores of an Intel Xeon Platinum 8481C CPU",
        "1.353 to 1.423",  # the interval of the base model's bits per byte
        "xz -9e on the same bytes: 1.796",
        "26 % of its size in fp32",
        "1,004 files",
        "41 held-out files, 612 kB · 320 prompts",
        "914 to train on",
        "7.1 M tokens",
        "6,120 examples mined",
        "near duplicate",
        "similarity 0.930 with encodings/cp1250.py",
        "aligned against finetuned: instruction success +16.2 points (95 % interval +10.8 to +21.7 points):",
        "int8 against aligned: instruction success -0.3 points (95 % interval -1.5 to +0.9 points), ",
        "4 of 5 targets were met and 1 was not.",
        "width 256, 6 layers, 8 heads on 4 for keys and values, context 512",
        "torch.compile was left off",
        "2.1 GB of memory at most",
        "21 November 2026, 09:30 UTC",
        "ingot chat runs/demo",
        "ingot serve runs/demo",
        "ingot run runs/demo/recipe.yaml --out runs/demo-again",
    ):
        assert phrase in page.text, phrase
    assert page.is_inert()
    assert text.count("<svg") == 1 + 2 + 2 + 5  # mark, lineage twice, intervals, curves
    assert len(text) < 400_000


def test_the_same_run_gives_the_same_page(make_run: MakeRun) -> None:
    run, made = make_run()
    assert page_of(made, run)[1] == page_of(made, run)[1]


def test_the_page_loads_nothing_and_says_so_to_the_browser(make_run: MakeRun) -> None:
    run, made = make_run()
    _, text = page_of(made, run)
    assert "default-src 'none'" in text
    assert not re.search(r"url\(|@import|https?://", text)
    assert "prefers-color-scheme: dark" in text
    assert "@media print" in text


def test_what_comes_from_outside_is_escaped_everywhere(make_run: MakeRun) -> None:
    clean_run, clean = make_run({"align": "no reward"}, name="clean")
    expected = page_of(clean, clean_run)[0].tags
    evaluation = {
        "models": {"base": {"bits_per_byte": 1.4, "success": 0.1, "folder": HOSTILE}},
        "xz": {"bits_per_byte": 1.8, "command": HOSTILE},
        "comparisons": [
            {"from": HOSTILE, "to": HOSTILE, "metric": HOSTILE, "difference": 1, "interval": [1, 2]}
        ],
        "targets": [{"name": HOSTILE, "value": 1, "met": False}],
        "machine": {"cpu": HOSTILE, "python": HOSTILE, HOSTILE: HOSTILE, "gpu": HOSTILE},
    }
    samples = [
        {"prompt": HOSTILE, "answers": {"base": f"{HOSTILE}\n```python\n{HOSTILE}\n```", HOSTILE: HOSTILE}}
    ]
    ledger = [{"path": f"{HOSTILE}.py", "reason": HOSTILE, "detail": HOSTILE}]
    name = "<b>'demo'\"&"
    run, made = make_run({"align": HOSTILE}, evaluation=evaluation, samples=samples, ledger=ledger, name=name)
    page, text = page_of(made, run)
    assert page.is_inert()
    assert "<script" not in text.lower()
    assert "onerror=" not in re.sub(r"onerror=(&#34;|&quot;)", "", text)
    assert set(page.tags) <= set(expected)
    assert HOSTILE.split("\x1b")[0] in "".join(page.words)  # all of it is there, as text
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f‮]", text)


@pytest.mark.parametrize(
    "gone",
    [
        {"align": "no reward can be checked: the corpus holds no code"},
        {"finetune": "no questions with answers can be mined from this corpus", "align": "nothing to align"},
        {"pretrain": "a", "finetune": "b", "align": "c", "compress": "d"},
        {"evaluate": "nothing held out"},
        {"tokenizer": "a", "pretrain": "b", "finetune": "c", "align": "d", "compress": "e", "evaluate": "f"},
    ],
)
def test_what_was_left_out_is_shown_with_its_reason(make_run: MakeRun, gone: dict[str, str]) -> None:
    run, made = make_run(gone)
    page, _ = page_of(made, run)
    for stage, reason in gone.items():
        assert f"{made[stage].name} was left out: {reason}." in re.sub(r" (?=[:.])", "", page.text)
    assert page.text.count("(left out)") == len(gone)
    assert page.is_inert()


@pytest.mark.parametrize(
    "evaluation",
    [
        {},
        [],
        "text",
        {"models": None, "xz": None, "comparisons": None, "targets": None, "machine": None},
        {"models": {"base": {"bits_per_byte": 1.4, "bits_per_byte_interval": None, "success": None}}},
        {"models": {"base": "broken"}, "comparisons": [1, {}], "targets": [None, {}], "prompts": "many"},
        {"models": {"int8": {"of": "finetuned", "bytes": 7}}, "xz": {"bits_per_byte": float("nan")}},
    ],
)
def test_an_evaluation_that_lacks_parts_still_makes_a_page(make_run: MakeRun, evaluation: Any) -> None:
    run, made = make_run(evaluation=evaluation, samples=[{"prompt": 1}, 2, {"answers": {"base": None}}])
    page, _ = page_of(made, run)
    assert "What was made from what" in page.text
    assert "nan" not in page.text.lower().split()
    assert page.is_inert()


def test_damaged_files_are_named_and_cost_nothing_else(make_run: MakeRun) -> None:
    run, made = make_run()
    (run / "base@1" / "metrics.jsonl").write_text('{"step": 1, "loss": 3.0}\n{"step": 2, "lo')
    (run / "evaluation@1" / "samples.json").write_text("[")
    (run / "recipe.yaml").unlink()
    page, _ = page_of(made, run)
    assert "base@1/metrics.jsonl: 1 lines could not be read" in page.text
    assert "evaluation@1/samples.json could not be read" in page.text


def test_a_run_of_a_few_stages_and_an_empty_one_make_pages(make_run: MakeRun) -> None:
    run, made = make_run()
    for names in (["prepare", "tokenizer", "pretrain"], ["prepare"], []):
        page, _ = page_of({name: made[name] for name in names}, run)
        assert page.is_inert()


def test_the_lineage_follows_the_records(make_run: MakeRun) -> None:
    from ingot.report.lineage import trace

    run, made = make_run({"finetune": "none to mine", "align": "no reward"})
    edges = {(edge.origin, edge.target) for edge in trace(gather(made, run)).edges}
    chain = {("source", "corpus"), ("corpus", "tokenizer"), ("tokenizer", "base"), ("base", "int8")}
    assert edges == chain


def test_answers_are_split_at_fences_and_cut() -> None:
    assert [(p.is_code, p.text) for p in parts("Here:\n```python\nx = 1\n```\nDone.")] == [
        (False, "Here:"),
        (True, "x = 1"),
        (False, "Done."),
    ]
    assert [(p.is_code, p.text) for p in parts("```\nnever closed")] == [(True, "never closed")]
    long = answer("base", "x" * (MOST_CHARACTERS + 7))
    assert long.cut == 7
    assert sum(len(part.text) for part in long.parts) == MOST_CHARACTERS
    assert answer("base", None).parts == []
