"""The preparing engine: workers, kills and changing files leave the same corpus, or say what they left."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ingot.data import signatures, tables, treating, units
from ingot.data.cleaning import Cleaning
from ingot.data.corpus import read_counts, read_documents, read_ledger
from ingot.data.document import Document, Dropped
from ingot.data.prepare import Order, prepare
from ingot.data.readers.reading import Reading
from ingot.data.sources import Source, open_place
from ingot.data.treatment import Treatment
from ingot.data.units import Group, Large, Piece, Seen, plan
from ingot.data.verdicts import Deduplication
from ingot.data.workers import Death, carry_out
from ingot.pipeline import Context
from ingot.progress import Progress
from ingot.stages.prepare import Prepare, PrepareConfig, _seen

TEXT = (
    "the a river runs under old stone bridge where light falls on green water and birds sing in rain "
    "while small boats carry grain from hill farms down to harbour towns that wake before dawn"
)
WORDS = TEXT.split()


def prose(seed: int, words: int) -> str:
    source = random.Random(seed)
    return "\n".join(" ".join(source.choices(WORDS, k=12)) + "." for _ in range(words // 12)) + "\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Some files, some copies, one file that is large, and two that cannot be read."""
    data = tmp_path / "data"
    (data / "pages").mkdir(parents=True)
    for index in range(60):
        (data / "pages" / f"{index:02d}.md").write_text(prose(index, 300))
    (data / "pages" / "copy.md").write_text(prose(7, 300))
    (data / "pages" / "nearly.md").write_text(prose(8, 300).replace("harbour", "market", 1))
    (data / "broken.txt").write_bytes(b"\xff\xfe\0")
    (data / "short.txt").write_text("too short")
    rows = [json.dumps({"text": prose(1000 + index, 120)}) for index in range(400)]
    rows[17] = "{not json"
    (data / "rows.jsonl").write_text("\n".join(rows) + "\n")
    return data


@pytest.fixture
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Units so small that a small corpus has many."""
    for module, values in SMALL.items():
        for name, value in values.items():
            monkeypatch.setattr(sys.modules[module], name, value)


SMALL = {
    "ingot.data.units": {"FEWEST": 8_000, "LARGE": 50_000},
    "ingot.data.treatment": {"PIECE": 20_000},
    "ingot.data.treating": {"WORTH_A_POOL": 0},
    "ingot.data.signatures": {"WORTH_A_POOL": 0},
    "ingot.data.writing": {"SHARD": 40_000},
}


def run(data: Path, out: Path, **settings: object) -> Context:
    config = PrepareConfig.parse({"data": str(data), **settings})
    work = out.with_name(f"{out.name}-work")
    for one in (out, work):
        one.mkdir(exist_ok=True)
    context = Context(folder=out, work=work, parents={}, progress=Progress(), seed=1, device="cpu")
    Prepare(config).run(context)
    return context


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}


@pytest.mark.usefixtures("small_units")
def test_the_corpus_does_not_depend_on_the_workers(folder: Path, tmp_path: Path) -> None:
    extra = {"paragraphs": 60, "substrings": 200}
    one = run(folder, tmp_path / "one", workers=1, **extra)
    three = run(folder, tmp_path / "three", workers=3, **extra)
    assert contents(tmp_path / "one") == contents(tmp_path / "three")
    assert (one.notes, one.metrics) == (three.notes, three.metrics)
    names = sorted(path.name for path in (tmp_path / "one-work" / "units").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "three-work" / "units").iterdir())
    assert len(names) > 15


def test_units_are_nothing_that_a_reader_sees(folder: Path, tmp_path: Path) -> None:
    run(folder, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        for module in ("ingot.data.units", "ingot.data.treatment"):
            for name, value in SMALL[module].items():
                patch.setattr(sys.modules[module], name, value)
        run(folder, tmp_path / "pieces")
    assert read_ledger(tmp_path / "whole") == read_ledger(tmp_path / "pieces")
    for side in ("train", "heldout"):
        assert read_documents(tmp_path / "whole", side) == read_documents(tmp_path / "pieces", side)


SCRIPT = """
import sys, time
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_preparing as here
for module, values in here.SMALL.items():
    for name, value in values.items():
        setattr(sys.modules[module], name, value)
rename = Path.rename
def held(self, target):
    units = Path(target).parent
    while units.name == "units" and here.finished_units(units) >= int(sys.argv[4]):
        time.sleep(0.01)
    return rename(self, target)
Path.rename = held
if __name__ == "__main__":
    here.run(Path(sys.argv[1]), Path(sys.argv[2]), workers=int(sys.argv[3]))
"""


def finished_units(folder: Path) -> int:
    return sum(path.is_dir() for path in folder.glob("0*"))


def command(script: Path, folder: Path, out: Path, workers: int, most: int = 1000) -> list[str]:
    """A run that waits once it has `most` units, so that who wants to kill it before cannot come too late."""
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent)))
    return [sys.executable, str(script), str(folder), str(out), str(workers), str(most)]


def start(*words: Path | int) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command(*words))  # type: ignore[arg-type]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_run_goes_on(folder: Path, tmp_path: Path, workers: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        for module, values in SMALL.items():
            for name, value in values.items():
                patch.setattr(sys.modules[module], name, value)
        run(folder, tmp_path / "whole", workers=1)
    finished: dict[str, int] = {}
    work = tmp_path / "killed-work" / "units"
    for wanted in (3, 9):
        process = start(tmp_path / "script.py", folder, tmp_path / "killed", workers, wanted + 3)
        deadline = time.monotonic() + 300
        while process.poll() is None and time.monotonic() < deadline and finished_units(work) < wanted:
            time.sleep(0.001)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        for path in work.glob("0*"):
            finished.setdefault(path.name, path.stat().st_ino)
    assert 9 <= len(finished) < 30
    assert start(tmp_path / "script.py", folder, tmp_path / "killed", workers).wait() == 0
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    redone = [name for name, inode in finished.items() if (work / name).stat().st_ino != inode]
    assert redone == []


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import test_preparing as here
for module, values in here.SMALL.items():
    for name, value in values.items():
        setattr(sys.modules[module], name, value)
rename, left = Path.rename, int(sys.argv[4])
def killed(self, target):
    global left
    left -= Path(target).parent.name == sys.argv[3]
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return rename(self, target)
Path.rename = killed
here.run(Path(sys.argv[1]), Path(sys.argv[2]), **here.PASSAGES)
"""

PASSAGES = {"workers": 1, "paragraphs": 60, "substrings": 120}


def test_passages_and_the_final_writing_go_on_after_kills(folder: Path, tmp_path: Path) -> None:
    notice = "All rights of this page are reserved by its author, who may be asked for them in writing."
    for index, path in enumerate(sorted((folder / "pages").iterdir())):
        path.write_text(f"{path.read_text()}\n\n{notice if index % 3 else notice.upper()}\n")
        if index % 4 == 0:
            path.write_text(f"{index} {prose(77, 60)} {index} {path.read_text()}")
    with pytest.MonkeyPatch.context() as patch:
        for module, values in SMALL.items():
            for name, value in values.items():
                patch.setattr(sys.modules[module], name, value)
        run(folder, tmp_path / "whole", **PASSAGES)
    script, work = tmp_path / "script.py", tmp_path / "killed-work"
    script.write_text(KILLED.format(tests=str(Path(__file__).parent)))
    finished: dict[str, int] = {}
    killed = 0
    for place, count in (("killed-work", 1), ("paragraphs", 6), ("substrings", 3)):
        killed += die(script, folder, tmp_path / "killed", place, count, finished)
    for _ in range(2):  # each start finishes one part of the corpus, and is killed at the next
        killed += die(script, folder, tmp_path / "killed", "corpus", 2, finished)
    assert killed == 5
    kinds = {Path(name).parent.name for name in finished}
    assert kinds == {"units", "paragraphs", "substrings", "corpus", "killed-work"}
    assert sum("paragraphs" in name for name in finished) > 5
    assert sum("corpus" in name for name in finished) == 2
    assert not die(script, folder, tmp_path / "killed", "nowhere", 1, {})
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    assert {"repeated paragraph", "repeated passage"} <= {
        one.reason for one in read_ledger(tmp_path / "killed")
    }
    assert len(list((tmp_path / "killed" / "documents").glob("train-*"))) > 2
    assert [name for name, inode in finished.items() if (work.parent / name).stat().st_ino != inode] == []


def die(script: Path, folder: Path, out: Path, place: str, count: int, finished: dict[str, int]) -> bool:
    """Has a run kill itself as it finishes its n-th thing in a folder; notes all that is finished."""
    command = [sys.executable, str(script), str(folder), str(out), place, str(count)]
    status = subprocess.run(command, check=False).returncode
    work = out.with_name(f"{out.name}-work")
    for path in (*work.glob("*/*"), work / "verdicts"):
        if path.is_dir() and not path.name.startswith("."):
            finished.setdefault(path.relative_to(work.parent).as_posix(), path.stat().st_ino)
    assert status in (0, -signal.SIGKILL)
    return status != 0


def test_ctrl_c_leaves_whole_units_and_no_process(folder: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    words = command(script, folder, tmp_path / "out", 2, 4)
    process = subprocess.Popen(words, start_new_session=True, stderr=subprocess.PIPE, text=True)
    work = tmp_path / "out-work" / "units"
    deadline = time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline and not any(work.glob("0*")):
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGINT)
    _, told = process.communicate(timeout=300)
    assert process.returncode != 0
    assert told.count("\nKeyboardInterrupt") == 1  # one process speaks, not three
    assert all((path / "unit.json").is_file() for path in work.glob("0*") if path.is_dir())
    while time.monotonic() < deadline and group_is_alive(process.pid):
        time.sleep(0.05)
    assert not group_is_alive(process.pid)
    assert start(script, folder, tmp_path / "out", 2).wait() == 0


def test_workers_end_with_the_process_that_started_them(folder: Path, tmp_path: Path) -> None:
    process = start(tmp_path / "script.py", folder, tmp_path / "out", 2, 4)
    deadline = time.monotonic() + 300
    children: list[int] = []
    while len(children) < 2 and process.poll() is None and time.monotonic() < deadline:
        listed = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        if not listed.exists():
            process.kill()
            pytest.skip("needs /proc")
        children = [int(pid) for pid in listed.read_text().split()]
        time.sleep(0.01)
    process.kill()
    process.wait()
    while time.monotonic() < deadline and any(alive(pid) for pid in children):
        time.sleep(0.05)
    assert children
    assert not any(alive(pid) for pid in children)


def group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


@pytest.mark.usefixtures("small_units")
def test_a_full_disk_leaves_no_half_unit(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(folder, tmp_path / "whole", workers=1)
    flush, calls = tables.Table._flush, 0

    def full(table: tables.Table) -> None:
        nonlocal calls
        calls += 1
        if calls == 12:
            raise OSError(errno.ENOSPC, "No space left on device")
        flush(table)

    monkeypatch.setattr(tables.Table, "_flush", full)
    with pytest.raises(OSError, match="No space left"):
        run(folder, tmp_path / "full", workers=1)
    left = list((tmp_path / "full-work" / "units").iterdir())
    assert all((path / "unit.json").is_file() for path in left)
    assert 1 <= len(left) < 12
    run(folder, tmp_path / "full", workers=1)
    assert contents(tmp_path / "full") == contents(tmp_path / "whole")


def test_files_that_change_before_they_are_read_are_named(folder: Path, tmp_path: Path) -> None:
    stage = Prepare(PrepareConfig(data=str(folder)))
    stage.identity()  # this is when their content is hashed
    (folder / "pages" / "03.md").write_text(prose(99, 240))
    (folder / "pages" / "04.md").unlink()
    os.utime(folder / "pages" / "05.md", (1, 1))  # touched, but the same
    for name in ("out", "work"):
        (tmp_path / name).mkdir()
    context = Context(tmp_path / "out", tmp_path / "work", {}, Progress(), 1, "cpu")
    stage.run(context)
    sources = {d.source for side in ("train", "heldout") for d in read_documents(tmp_path / "out", side)}
    assert sources.isdisjoint({"pages/03.md", "pages/04.md"})
    assert "pages/05.md" in sources
    reasons = {one.path: one.reason for one in read_ledger(tmp_path / "out")}
    assert reasons["pages/03.md"] == reasons["pages/04.md"] == "changed"
    assert any("pages/03.md" in note and "changed" in note for note in context.notes)


def test_repeated_passages_are_taken_out_and_told(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    notice = "All rights of this page are reserved by its author, who may be asked for them in writing."
    for index in range(30):
        (data / f"{index:02d}.md").write_text(f"{prose(index, 200)}\n\n{notice}\n")
    (data / "99.md").write_text(notice + "\n\n" + notice)
    run(data, tmp_path / "out", paragraphs=60, near_duplicates=None)
    everything = [d for side in ("train", "heldout") for d in read_documents(tmp_path / "out", side)]
    assert sum(d.text.count(notice) for d in everything) == 1
    assert len(everything) == 30
    ledger = read_ledger(tmp_path / "out")
    assert sum(one.reason == "repeated paragraph" for one in ledger) == 31
    assert [one.path for one in ledger if one.reason == "emptied"] == ["99.md"]
    kept = {d.id: d.text for d in everything}
    assert kept["05.md"].strip() == prose(5, 200).strip()
    counts = read_counts(tmp_path / "out")
    assert sum(counts["bytes"].values()) == sum(len(d.text.encode()) for d in everything)


def test_contaminated_documents_are_dropped_and_say_with_what(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    question = "Which of the seven bridges of the old harbour town was built before the stone wall fell down?"
    for index in range(30):
        (data / f"{index}.md").write_text(prose(index, 200))
    (data / "leak.md").write_text(prose(50, 60) + question.upper() + "\n" + prose(51, 60))
    items = tmp_path / "riddles.jsonl"
    items.write_text(json.dumps({"question": question, "answer": "The third."}) + "\n")
    settings = {"decontaminate": [str(items)]}
    run(data, tmp_path / "out", **settings)
    (found,) = [one for one in read_ledger(tmp_path / "out") if one.reason == "contaminated"]
    assert found.path == "leak.md"
    assert "riddles.jsonl" in found.detail
    assert found.text
    with_items = Prepare(PrepareConfig.parse({"data": str(data), **settings})).identity()
    items.write_text(json.dumps({"question": question + " Truly?"}) + "\n")
    assert with_items != Prepare(PrepareConfig.parse({"data": str(data), **settings})).identity()
    run(data, tmp_path / "off", decontaminate=None)
    assert read_counts(tmp_path / "off")["dropped"] == {}


def test_named_sources_have_their_own_licence(tmp_path: Path) -> None:
    for name, seed in (("wiki", 0), ("notes", 100)):
        (tmp_path / name).mkdir()
        for index in range(15):
            (tmp_path / name / f"{index}.md").write_text(prose(seed + index, 300))
    sources = {"w": {"path": str(tmp_path / "wiki"), "licence": "CC-BY-SA-4.0", "weight": 3}}
    sources["n"] = str(tmp_path / "notes")  # type: ignore[assignment]
    config = PrepareConfig.parse({"sources": sources})
    for name in ("out", "work"):
        (tmp_path / name).mkdir()
    Prepare(config).run(Context(tmp_path / "out", tmp_path / "work", {}, Progress(), 1, "cpu"))
    documents = [d for side in ("train", "heldout") for d in read_documents(tmp_path / "out", side)]
    assert {d.source.partition("/")[0]: d.licence for d in documents} == {"w": "CC-BY-SA-4.0", "n": None}
    counts = read_counts(tmp_path / "out")
    assert counts["licences"] == {"CC-BY-SA-4.0": 15, "unknown": 15}
    assert counts["named_sources"]["w"]["weight"] == 3
    card = (tmp_path / "out" / "README.md").read_text()
    assert "CC-BY-SA-4.0" in card and str(tmp_path / "wiki") in card


def seen(sizes: list[int]) -> list[Seen]:
    return [
        Seen(f"/{index}", f"{index:04d}.txt", size=size, digest=b"hash") for index, size in enumerate(sizes)
    ]


@pytest.mark.parametrize("seed", range(20))
def test_units_hold_every_source_once_in_order(seed: int) -> None:
    source = random.Random(seed)
    sizes = [int(10 ** source.uniform(0, 8)) for _ in range(source.randint(1, 4000))]
    planned = plan(seen(sizes))
    names = [
        one.name for unit in planned for one in (unit.sources if isinstance(unit, Group) else (unit.seen,))
    ]
    assert names == sorted(names) == [f"{index:04d}.txt" for index in range(len(sizes))]
    assert [unit.name for unit in planned] == sorted(unit.name for unit in planned)
    for unit in planned:
        if isinstance(unit, Group):
            size = sum(one.size for one in unit.sources)
            assert len(unit.sources) <= units.FILES
            assert size <= units.MOST or len(unit.sources) == 1
        else:
            assert isinstance(unit, Large) and unit.seen.size >= units.LARGE


def double(task: int) -> Iterator[int]:
    if task == 3 and not Path(os.environ["INGOT_TEST_MARK"]).exists():
        Path(os.environ["INGOT_TEST_MARK"]).touch()
        os._exit(7)
    if task == 100:
        raise ValueError("a hundred is too much")
    yield task
    yield 2 * task


def test_a_worker_that_dies_is_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INGOT_TEST_MARK", str(tmp_path / "mark"))
    deaths: list[Death[int]] = []

    def again(death: Death[int]) -> int:
        deaths.append(death)
        return death.task

    said = list(carry_out(iter(range(8)), double, 2, again))
    assert sorted(said) == sorted((task, value) for task in range(8) for value in (task, 2 * task))
    assert deaths == [Death(3, 7)]
    assert deaths[0].words() == "exit code 7"
    with pytest.raises(ValueError, match="a hundred") as caught:
        list(carry_out([1, 100], double, 2))
    assert "in a worker process" in caught.value.__notes__[0]


def test_a_file_that_ends_its_worker_twice_is_left_out() -> None:
    watch = treating._Watch(Path())
    group = Group("00001", tuple(seen([1, 2])))
    watch.at(group, "0001.txt")
    assert watch.died(Death(group, -11)) == group
    watch.at(group, "0001.txt")
    retried = watch.died(Death(group, -11))
    assert isinstance(retried, Group) and retried.avoid == {"0001.txt"}
    piece = Piece("00002-00000", seen([9])[0], ())
    assert watch.died(Death(piece, -9)) == piece
    with pytest.raises(Exception, match="ended twice") as caught:
        watch.died(Death(piece, -9))
    assert "signal 9" in str(caught.value)


@dataclass(frozen=True)
class Slow(Treatment):
    """Reads like the usual one, but some files for ever."""

    def read(self, source: Source) -> Iterator[Document | Dropped]:
        for number, one in enumerate(super().read(source)):
            if "endless" in source.name and number == (300 if source.name.endswith("jsonl") else 0):
                time.sleep(1000)
            yield one


def order(data: Path, limit: float | None, workers: int) -> Order:
    reading = Reading(max_seconds=limit)
    treatment = Slow(Path(), Cleaning().build(), reading=reading)
    sources = [_seen(source) for source in open_place(str(data)).sources]
    return Order("test", sources, {}, treatment, Deduplication(), 0.1, workers=workers)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_reader_that_never_ends_loses_its_file(
    folder: Path, tmp_path: Path, workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pages" / "a-endless.md").write_text(prose(500, 120))
    (folder / "rows.jsonl").rename(folder / "endless.jsonl")
    monkeypatch.setattr(units, "LARGE", 50_000)  # of which endless.jsonl is one
    monkeypatch.setattr(treating, "is_foreign", lambda name: True)
    endless = {"pages/a-endless.md", "endless.jsonl"}
    for limit in (4.0, 20.0, 100.0):
        out, work = tmp_path / f"out-{limit:g}", tmp_path / f"work-{limit:g}"
        for path in (out, work):
            path.mkdir()
        made = prepare(order(folder, limit, workers), out, work, Progress())
        entries = {one.path: one for one in read_ledger(out) if one.reason == "took too long"}
        if set(entries) == endless:
            break  # on a crowded machine an innocent file may take as long as 4 seconds, too
    assert set(entries) == endless
    assert all((one.value or 0) >= one.threshold == limit for one in entries.values())
    kept = {d.source for side in ("train", "heldout") for d in read_documents(out, side)}
    assert "pages/00.md" in kept and "pages/59.md" in kept
    assert not [source for source in kept if "endless" in source]
    assert any("2 took too long" in note for note in made.notes)
    shutil.rmtree(out)
    for unit in work.glob("units/*/"):
        shutil.rmtree(unit)  # begun again after a kill: nobody waits for these files twice
    out.mkdir()
    prepare(order(folder, 1000.0, workers), out, work, Progress())
    assert {one.path for one in read_ledger(out) if one.reason == "took too long"} == set(entries)


def test_small_text_is_read_without_another_process(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit costs a process only where there is something to be afraid of."""
    calls = []

    def noted(tasks: object, work: object, workers: int, died: object, patience: object) -> Iterator[object]:
        calls.append((workers, patience is not None))
        yield from ()

    monkeypatch.setattr(treating, "carry_out", noted)
    monkeypatch.setattr(units, "gather", lambda planned, folder: planned)
    for name, limit in (("plain.txt", 600.0), ("page.html", 600.0), ("page.html", None)):
        (folder / name).write_text("<p>some text</p>")
        one = order(folder, limit, 2)
        treating.treat_all(one.sources, one.treatment, 2, folder, Progress())
    assert calls == [(1, False), (1, True), (1, False)]


def test_exact_copies_name_the_first_of_each() -> None:
    from ingot.data.verdicts import exact_copies

    source = np.random.default_rng(0)
    hashes = source.integers(0, 3, (400, 2)).astype(np.uint64)
    among = source.random(400) < 0.7
    first: dict[tuple[int, ...], int] = {}
    expected = []
    for number in np.flatnonzero(among).tolist():
        original = first.setdefault(tuple(hashes[number].tolist()), number)
        if original != number:
            expected.append((number, original))
    assert exact_copies(hashes, among) == expected


def test_signatures_of_an_earlier_start_are_taken_up(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_units: None
) -> None:
    run(folder, tmp_path / "out", workers=1)
    before = contents(tmp_path / "out")

    def refuse(self: object, part: object) -> Iterator[int]:
        raise AssertionError("made again")

    monkeypatch.setattr(signatures._Sign, "__call__", refuse)
    run(folder, tmp_path / "out", workers=1)
    assert contents(tmp_path / "out") == before


FUNCTION = '''
def {name}(width, height):
    """Return the area of a field with {extra} rows of grain."""
    rows = width * height + {extra}
    return rows if rows > 0 else -rows
'''


def test_answers_to_held_out_questions_are_not_trained_on(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for index in range(60):
        others = "".join(f"# {line}\n" for line in prose(index, 120).splitlines())
        code = FUNCTION.format(name=f"field{index}", extra=index)
        (data / f"{index:02d}.py").write_text(others + code)
    run(data, tmp_path / "before")
    heldout = {one.source for one in read_documents(tmp_path / "before", "heldout")}
    asked, other = sorted(heldout)[0], next(f"{i:02d}.py" for i in range(60) if f"{i:02d}.py" not in heldout)
    number = int(asked[:2])
    copied = FUNCTION.format(name=f"field{number}", extra=number).replace("return rows", "return  rows")
    with open(data / other, "a") as file:
        file.write(copied)
    alike = next(f"{i:02d}.py" for i in range(59, 0, -1) if f"{i:02d}.py" not in heldout)
    with open(data / alike, "a") as file:  # the same question, another answer
        file.write(FUNCTION.format(name=f"field{number}", extra=number).replace("rows > 0", "rows > 1000"))
    run(data, tmp_path / "out")
    (found,) = [one for one in read_ledger(tmp_path / "out") if one.reason == "contaminated"]
    assert found.path == other and f"`field{number}(width, height)`" in found.detail
    assert found.text == (data / other).read_text()
    train = {one.source for one in read_documents(tmp_path / "out", "train")}
    assert other not in train and alike in train
    assert heldout == {one.source for one in read_documents(tmp_path / "out", "heldout")}
    counts = read_counts(tmp_path / "out")
    assert counts["evaluation_sets"] == {"held-out functions": len(heldout)}
    assert counts["documents"]["train"] == 60 - len(heldout) - 1
    run(data, tmp_path / "off", decontaminate=None)
    assert read_counts(tmp_path / "off")["dropped"] == {}
