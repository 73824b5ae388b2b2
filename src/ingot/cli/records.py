"""`ingot data convert` and `ingot data mine`: instruction data of other formats, and out of a corpus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ingot.cli.options import Json, show_json, show_table
from ingot.cli.terminal import standard_progress

if TYPE_CHECKING:
    from ingot.data.document import Document
    from ingot.progress import Task

_TO = "Format to write: messages, alpaca, sharegpt, prompt-completion, preference, ...  [default: only check]"


def convert(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="JSON lines or a JSON array.")],
    to: Annotated[str | None, typer.Option("--to", help=_TO)] = None,
    source: Annotated[
        str | None, typer.Option("--from", help="Format of the file.  [default: told from its rows]")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The file to write.  [default: FILE.FORMAT.jsonl]")
    ] = None,
    skip_wrong: Annotated[
        bool, typer.Option("--skip-wrong", help="Write the good rows though others are wrong.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Check instruction or preference data, and write it in another format.

    \b
    Example: ingot data convert sharegpt.json --to messages --out chats.jsonl
             ingot data convert answers.jsonl
    """
    from ingot.data.records.convert import convert_file
    from ingot.data.records.validate import check

    if to is None:
        format, problems = check(path, source)
        if problems.count and not skip_wrong:
            raise problems.error(path)
        told = {"format": format.name, "rows": problems.rows, "wrong": problems.count}
        show_json(told) if as_json else print(
            f"{path}: {problems.rows:,} rows of '{format.name}' ({format.about}), {problems.count:,} wrong"
        )
        return
    out = path.with_suffix(f".{to}.jsonl") if out is None else out
    done = convert_file(path, out, to, source, skip_wrong)
    left_out = {what: count for what, count in done.left_out.items() if count}
    if as_json:
        show_json(
            {
                "format": done.source.name,
                "rows": done.problems.rows,
                "written": done.written,
                "file": str(out),
                "wrong": [str(one) for one in done.problems.first],
                "wrong_count": done.problems.count,
                "left_out": left_out,
            }
        )
        return
    print(f"{out}: {done.written:,} rows of '{to}' from {done.problems.rows:,} of '{done.source.name}'")
    for what, count in left_out.items():
        print(f"  without {count:,} {what}, for which '{to}' has no place")
    for one in done.problems.first:
        print(f"  left out: {one}")
    if done.problems.count > len(done.problems.first):
        print(f"  left out: {done.problems.count - len(done.problems.first):,} more")


def mine(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="A run folder (runs/demo) or a corpus in one.")
    ],
    out: Annotated[Path, typer.Option("--out", help="The file to write.")] = Path("mined.jsonl"),
    miner: Annotated[
        list[str] | None,
        typer.Option(
            help="functions, comments, explanations, questions, sections, dialogues.  [default: all]"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find conversations that a corpus already holds: functions, sections, questions, dialogues.

    Only training documents are read: what is held out stays apart.

    Example: ingot data mine runs/notes --out chats.jsonl --miner questions --miner dialogues
    """
    from ingot.data.corpus import iterate_documents
    from ingot.data.lineage import corpus_of
    from ingot.data.mining.harvest import MINERS, Harvest, harvest, to_row
    from ingot.data.records.rows import write_rows

    counts = Harvest()
    corpus = corpus_of(folder)
    with standard_progress().task("mining", unit="documents") as task:
        documents = _told(iterate_documents(corpus, "train"), task)
        written = write_rows(out, (to_row(one) for one in harvest(documents, counts, miner or list(MINERS))))
    if as_json:
        skipped = [
            {"miner": m, "reason": why, "count": count} for (m, why), count in counts.skipped.most_common()
        ]
        told = {"file": str(out), "documents": counts.documents, "written": written}
        show_json(told | {"found": dict(counts.found), "skipped": skipped})
        return
    print(f"{out}: {written:,} conversations from {counts.documents:,} documents")
    lines = [[name, f"{count:,}", ""] for name, count in counts.found.most_common()]
    lines += [[name, f"{count:,}", f"skipped: {why}"] for (name, why), count in counts.skipped.most_common()]
    if lines:
        show_table(lines, ["miner", "count", ""])


def _told(documents: Iterator[Document], task: Task) -> Iterator[Document]:
    for document in documents:
        yield document
        task.advance()
