"""The report stage in a real pipeline: its page lies in its own folder and on top of the run folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import yaml

from ingot.artifact import Artifact, latest, read, verify
from ingot.config import Config
from ingot.pipeline import Context, LeftOut, Pipeline
from ingot.progress import Progress
from ingot.report.card import model_card
from ingot.stages.report import Report, ReportConfig

MakeRun = Callable[..., tuple[Path, dict[str, Artifact]]]


class Made:
    """A stage that makes an artifact with one file, or leaves it out."""

    def __init__(self, name: str, artifact: str, kind: str, reason: str | None = None) -> None:
        self.name, self.artifact, self.kind, self.reason = name, artifact, kind, reason
        self.needs: tuple[str, ...] = ()
        self.config = Config()

    def run(self, context: Context) -> None:
        if self.reason:
            raise LeftOut(self.reason)
        (context.folder / "config.json").write_text("{}")


def test_the_stage_writes_its_page_twice_and_verifies(tmp_path: Path) -> None:
    stages = [
        Made("prepare", "corpus", "corpus"),
        Made("tokenizer", "tokenizer", "tokenizer"),
        Made("pretrain", "base", "model"),
        Made("finetune", "finetuned", "model", "no questions with answers can be mined"),
        Made("align", "aligned", "model", "there is nothing to align"),
        Made("compress", "int8", "model"),
        Made("evaluate", "evaluation", "evaluation"),
        Report(ReportConfig()),
    ]
    run = tmp_path / "run"
    Pipeline(stages, run).run(Progress())
    made = latest(run, "report")
    assert made is not None
    page = (made.path / "report.html").read_text(encoding="utf-8")
    assert (run / "report.html").read_text(encoding="utf-8") == page
    assert "no questions with answers can be mined" in page
    assert sorted(made.record.files) == ["cards/base.md", "cards/int8.md", "report.html"]
    assert made.record.metrics == {"bytes": len(page.encode()), "cards": 2}
    assert verify(run) == []
    assert [one for one in run.iterdir() if one.name.startswith(".")] == []


def test_a_card_is_markdown_with_a_head_and_says_what_must_be_said(make_run: MakeRun) -> None:
    run, made = make_run()
    evaluation = json.loads((run / "evaluation@1" / "evaluation.json").read_text())
    card = model_card(made["align"], evaluation)
    _, head, body = card.split("---\n", 2)
    assert yaml.safe_load(head)["library_name"] == "transformers"
    for phrase in (
        "# aligned@1",
        "## Figures",
        "| instruction success | 80 % | 76 to 85 % |",
        "## Use",
        "## Limits and risks",
        "## How it was made",
        "`finetuned@1`",
        read(run / "aligned@1").record.fingerprint,
    ):
        assert phrase in body, phrase
    assert "Nothing was measured." in model_card(made["align"])
    assert "compressed-tensors" in model_card(made["compress"], evaluation)
