"""The stage that tells: a page about the run and a card for each of its models."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ingot.artifact import write_atomic
from ingot.config import Config
from ingot.device import peak_memory

if TYPE_CHECKING:
    from ingot.pipeline import Context


class ReportConfig(Config):
    """The report has no settings: it shows what there is."""


class Report:
    """Writes `report.html` and `cards/<model>.md`, and lays the page on top of the run folder.

    Args:
        config: its settings.
    """

    name = "report"
    artifact = "report"
    kind = "report"
    needs = ("prepare", "tokenizer", "pretrain", "finetune", "align", "compress", "evaluate")

    def __init__(self, config: ReportConfig) -> None:
        self.config = config

    def run(self, context: Context) -> None:
        """Makes the page from what the other stages left behind."""
        from ingot.report.card import write_cards
        from ingot.report.facts import gather
        from ingot.report.report import render

        run = context.parents["prepare"].path.parent
        with context.progress.task("writing the report", total=2, unit="parts") as task:
            facts = gather(context.parents, run, peak_memory())
            page = render(facts)
            write_atomic(context.folder / "report.html", page)
            write_atomic(run / "report.html", page)
            task.advance(1, f"{len(page) / 1e3:.0f} kB")
            cards = write_cards(context.parents, context.folder / "cards", facts.evaluation)
            task.advance(1, f"{len(cards)} cards")
        context.metrics |= {"bytes": len(page.encode()), "cards": len(cards)}
