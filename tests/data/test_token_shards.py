"""Token shards: what was written comes back, in any number of files, killed or not, small or enormous."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.data import shards
from ingot.data.document import Document
from ingot.data.origins import Origin
from ingot.data.shards import Encoded, Tokens, write_encoded, write_shards
from ingot.data.stored import Chosen, Stored
from ingot.errors import ArtifactError, DataError


class Letters:
    """A tokenizer whose ids are code points."""

    vocab_size, bos_id = 500, 499

    def __init__(self, compiled: bool = True) -> None:
        self.compiled = compiled

    def encode(self, text: str) -> list[int]:
        return [ord(letter) % 400 for letter in text]


def documents(count: int = 50) -> list[Document]:
    licences = (None, "MIT")
    return [
        Document(
            f"d{i}", f"folder/{i % 3}.txt", "xyz"[i % 3] * (i * 7 % 90 + 1), "text", licences[i % 2], "en"
        )
        for i in range(count)
    ]


def content(folder: Path) -> dict[str, str]:
    """Every file below a folder, and its hash."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_TOKENS", 300)
    monkeypatch.setattr(shards, "_BATCH_DOCUMENTS", 3)
    monkeypatch.setattr(shards, "GROUP", 4)
    monkeypatch.setattr("ingot.data.origins.GROUP", 4)


def check(tokens: Tokens, made_of: list[Document]) -> None:
    assert len(tokens.offsets) == len(made_of) + 1 and tokens.offsets.dtype == np.int64
    assert tokens.origins is not None and len(tokens.origins) == len(made_of)
    for index, document in enumerate(made_of):
        assert tokens.document(index).tolist() == [499, *Letters().encode(document.text)]
        origin, digest = (
            tokens.origins[index],
            hashlib.blake2b(document.text.encode(), digest_size=16).digest(),
        )
        wanted = [getattr(document, name) for name in ("id", "source", "kind", "licence", "language")]
        assert list(origin) == [*wanted, digest]
        first, last = int(tokens.offsets[index]), int(tokens.offsets[index + 1]) - 1
        assert tokens.at(first) == tokens.at(last) == index


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("workers", [1, 2])
def test_several_files_are_one_row(tmp_path: Path, workers: int) -> None:
    tokens = write_shards(tmp_path, documents(), Letters(), workers=workers)
    check(tokens, documents())
    files = sorted((tmp_path / "tokens").glob("*.bin"))
    assert len(files) > 5 and not (tmp_path / "tokens" / "parts").exists()
    index = json.loads((tmp_path / "tokens" / "index.json").read_text())
    assert sum(one["tokens"] for one in index["shards"]) == index["tokens"] == len(tokens)
    whole = np.concatenate([tokens.document(i) for i in range(50)])
    assert np.array_equal(np.asarray(tokens.tokens), whole)
    assert tokens.origins is not None
    assert [one for some in tokens.origins.column("id") for one in some] == [d.id for d in documents()]


@pytest.mark.usefixtures("small_shards")
def test_the_number_of_workers_changes_no_byte(tmp_path: Path) -> None:
    for name, workers in (("one", 1), ("three", 3)):
        write_shards(tmp_path / name, iter(documents()), Letters(), workers=workers)
    assert content(tmp_path / "one") == content(tmp_path / "three")


def test_a_tokenizer_that_holds_the_lock_is_shared_by_processes(tmp_path: Path) -> None:
    tokens = write_shards(tmp_path, iter(documents(9)), Letters(compiled=False), workers=2)
    check(tokens, documents(9))


@pytest.mark.usefixtures("small_shards")
def test_finished_shards_are_kept(tmp_path: Path) -> None:
    """An end in the middle, then the same again: what was finished is not encoded a second time."""

    def interrupted() -> Iterator[Document]:
        yield from documents()[:30]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(tmp_path / "a", interrupted(), Letters(), made_by="x", workers=1)
    kept = content(tmp_path / "a")
    with pytest.raises(ArtifactError):
        Tokens.open(tmp_path / "a")
    seen: list[str] = []

    class Watched(Letters):
        def encode(self, text: str) -> list[int]:
            seen.append(text)
            return super().encode(text)

    check(write_shards(tmp_path / "a", documents(), Watched(), made_by="x", workers=1), documents())
    write_shards(tmp_path / "b", documents(), Letters(), made_by="x")
    assert content(tmp_path / "a") == content(tmp_path / "b")
    finished = sum(name.endswith("about.json") for name in kept)
    assert finished >= 3 and 20 <= len(seen) < 50 - finished


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("again", ["other name", "other text"])
def test_token_shards_of_something_else_are_not_kept(tmp_path: Path, again: str) -> None:
    def interrupted() -> Iterator[Document]:
        yield from documents()[:30]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shards(tmp_path, interrupted(), Letters(), made_by="x")
    if again == "other name":
        check(write_shards(tmp_path, documents(), Letters(), made_by="y"), documents())
        return
    changed = documents()
    changed[2] = dataclasses.replace(changed[2], text="other")
    with pytest.raises(ArtifactError, match="document 2 is not the one"):
        write_shards(tmp_path, changed, Letters(), made_by="x")


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from ingot.data import shards
from test_token_shards import Letters, documents
shards.SHARD_TOKENS, shards._BATCH_DOCUMENTS = 300, 3
def some():
    for number, one in enumerate(documents()):
        if number == {at}:
            os.kill(os.getpid(), signal.SIGKILL)
        yield one
shards.write_shards(Path({folder!r}), some(), Letters(), made_by="x", workers=1)
"""


def test_a_kill_loses_nothing_that_was_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for at in (10, 35):
        code = KILLED.format(tests=str(Path(__file__).parent), folder=str(tmp_path), at=at)
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=dict(os.environ))
        assert done.returncode == -signal.SIGKILL, done.stderr
    finished = content(tmp_path)
    monkeypatch.setattr(shards, "SHARD_TOKENS", 300)
    check(write_shards(tmp_path, documents(), Letters(), made_by="x"), documents())
    hashes = set(content(tmp_path).values())
    assert sum(name.endswith("/bin") for name in finished if ".tmp-" not in name) >= 3
    assert all(
        hash in hashes for name, hash in finished.items() if name.endswith("/bin") and ".tmp" not in name
    )


@pytest.mark.usefixtures("small_shards")
def test_a_kill_while_files_get_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shards, "write_atomic", killed)
        with pytest.raises(KeyboardInterrupt):
            write_shards(tmp_path, documents(), Letters(), made_by="x")
    check(write_shards(tmp_path, documents(), Letters(), made_by="x"), documents())


@pytest.mark.usefixtures("small_shards")
@pytest.mark.parametrize("made_by", [None, "y"])
def test_nothing_stays_of_what_was_there_before(tmp_path: Path, made_by: str | None) -> None:
    write_shards(tmp_path, documents(), Letters(), made_by="x")
    check(write_shards(tmp_path, documents(3), Letters(), made_by=made_by), documents(3))
    names = {"train.bin", "train.parquet", "train.offsets.bin", "index.json"}
    assert {path.name for path in (tmp_path / "tokens").iterdir()} == names


def test_no_documents_are_an_empty_row(tmp_path: Path) -> None:
    tokens = write_shards(tmp_path, [], Letters())
    assert len(tokens) == 0 and tokens.offsets.tolist() == [0] and len(tokens.origins or []) == 0


def encoded(masked: bool = True) -> list[Encoded]:
    ids = [np.arange(n, dtype=np.uint16) for n in (5, 1, 40)]
    return [
        Encoded(one, Origin(f"d{i}", "s", "text", None, None, bytes(16)), one % 2 == 1 if masked else None)
        for i, one in enumerate(ids)
    ]


@pytest.mark.usefixtures("small_shards")
def test_loss_masks_come_back(tmp_path: Path) -> None:
    tokens = write_encoded(tmp_path, encoded() * 10, vocabulary=100)
    assert tokens.taught is not None and len(tokens.taught) == len(tokens)
    assert np.array_equal(np.asarray(tokens.taught), np.asarray(tokens.tokens) % 2)
    assert write_encoded(tmp_path / "b", encoded(False), vocabulary=70_000).taught is None
    (tmp_path / "tokens" / "train.mask.bin").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"train\.mask\.bin"):
        Tokens.open(tmp_path)


def test_masks_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="others none"):
        write_encoded(tmp_path, [*encoded(), *encoded(False)], vocabulary=100)
    short = encoded()[0]._replace(taught=np.ones(3, dtype=bool))
    with pytest.raises(DataError, match="a mask of 3 for 5 tokens"):
        write_encoded(tmp_path, [short], vocabulary=100)


def old_folder(folder: Path, dtype: str = "uint16") -> None:
    """A folder as the first format had it."""
    (folder / "tokens").mkdir(parents=True)
    np.arange(10, dtype=dtype).tofile(folder / "tokens" / "train.bin")
    np.array([0, 4, 10], dtype="<i8").tofile(folder / "tokens" / "train.offsets.bin")
    index = {"dtype": dtype, "tokens": 10, "documents": 2}
    (folder / "tokens" / "index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("dtype", ["uint16", "uint32"])
def test_folders_of_the_first_format_are_read(tmp_path: Path, dtype: str) -> None:
    old_folder(tmp_path, dtype)
    tokens = Tokens.open(tmp_path)
    assert tokens.tokens.dtype == np.dtype(dtype) and tokens.origins is None and tokens.taught is None
    assert tokens.document(1).tolist() == [4, 5, 6, 7, 8, 9]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": 3}, "is of format 3"),
        ({"dtype": "object"}, "is damaged"),
        ({"tokens": "many"}, "is damaged"),
        ({"shards": 7}, "is damaged"),
        ({"format": 2, "shards": [{"tokens": 9, "documents": 2}]}, "holds 20 bytes where 18 belong"),
        ({"documents": 3}, "does not fit the tokens"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(tmp_path: Path, change: dict[str, object], says: str) -> None:
    old_folder(tmp_path)
    path = tmp_path / "tokens" / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ArtifactError, match=says):
        Tokens.open(tmp_path)


def test_an_index_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    old_folder(tmp_path)
    (tmp_path / "tokens" / "index.json").write_text("[1]")
    with pytest.raises(ArtifactError, match="is damaged"):
        Tokens.open(tmp_path)


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(st.integers(0, 9), min_size=1, max_size=6), data=st.data())
def test_a_stored_row_is_cut_like_an_array(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], data: st.DataObject
) -> None:
    """Mapped or read by place."""
    folder = tmp_path_factory.mktemp("stored")
    array, paths = np.arange(sum(sizes), dtype="<u2"), []
    for number, (size, end) in enumerate(zip(sizes, np.cumsum(sizes), strict=True)):
        paths.append(folder / str(number))
        array[end - size : end].tofile(paths[-1])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ingot.data.stored.MAPPED", data.draw(st.sampled_from([0, 100])))
        row = Stored(paths, "<u2")
    assert len(row) == len(array) and row.shape == array.shape and np.array_equal(np.asarray(row), array)
    bounds = st.one_of(st.none(), st.integers(-60, 60))
    cut = slice(data.draw(bounds), data.draw(bounds), data.draw(st.sampled_from([None, 1, 2, -1])))
    assert row[cut].dtype == array.dtype and np.array_equal(row[cut], array[cut])
    assert np.array_equal(pickle.loads(pickle.dumps(row))[cut], array[cut])
    if len(array):
        place = data.draw(st.integers(-len(array), len(array) - 1))
        assert row[place] == array[place]
    with pytest.raises(IndexError):
        row[len(array)]


@settings(deadline=None)
@given(
    stretches=st.lists(st.tuples(st.integers(0, 80), st.integers(0, 20)), max_size=8),
    cut=st.tuples(st.integers(0, 170), st.integers(0, 170)),
)
def test_chosen_stretches_are_a_row(stretches: list[tuple[int, int]], cut: tuple[int, int]) -> None:
    row = np.arange(100, dtype=np.uint16)
    starts, lengths = (np.array([one[i] for one in stretches], dtype=np.int64) for i in (0, 1))
    wanted = np.concatenate([row[:0], *(row[a : a + n] for a, n in stretches)])
    chosen = Chosen(row, starts, lengths)
    assert len(chosen) == len(wanted)
    assert np.array_equal(chosen[cut[0] : cut[1]], wanted[cut[0] : cut[1]])


def test_a_row_of_a_trillion_tokens_is_indexed(tmp_path: Path) -> None:
    """Sparse files of two terabytes: every count and place needs 64 bits."""
    from ingot.data.stream import WindowStream  # with torch, which the processes of other tests do without

    count, documents = 10**12, 5
    folder = tmp_path / "tokens"
    folder.mkdir()
    sizes = [2**39 + 7, count - 2**39 - 7]
    marks = {0: 11, 2**39 + 6: 12, 2**39 + 7: 13, count - 1: 14}
    try:
        for number, size in enumerate(sizes):
            with open(folder / ("train.bin", "train-00001.bin")[number], "wb") as file:
                file.truncate(2 * size)
                for place, value in marks.items():
                    at = place - number * sizes[0]
                    if 0 <= at < size:
                        file.seek(2 * at)
                        file.write(np.uint16(value).tobytes())
        shares = [{"tokens": sizes[0], "documents": 2}, {"tokens": sizes[1], "documents": 3}]
        index = {"dtype": "uint16", "tokens": count, "documents": documents, "shards": shares}
        (folder / "index.json").write_text(json.dumps(index))
        ends = [0, 2**33, sizes[0], 2**39 + 10, count - 1000, count]
        np.array(ends, dtype="<i8").tofile(folder / "train.offsets.bin")
        tokens = Tokens.open(tmp_path)
    except OSError as error:
        pytest.skip(f"no sparse files of this size here: {error}")
    assert len(tokens) == count
    assert {place: int(tokens.tokens[place]) for place in marks} == marks
    assert tokens.tokens[2**39 + 5 : 2**39 + 9].tolist() == [0, 12, 13, 0]
    assert [tokens.at(place) for place in (0, 2**33, 2**39 + 6, 2**39 + 7, count - 1)] == [0, 1, 1, 2, 4]
    assert tokens.document(4)[-1] == 14 and len(tokens.document(4)) == 1000
    stream = WindowStream(tokens.tokens, 1024, 4, seed=0)
    assert stream.windows == 10**12 // 1024 - 1
    late = stream.batch(stream.windows // 4 + 10**9)
    assert late["sample_ids"].min() > 2**32 and late["inputs"].shape == (4, 1024)


def test_a_file_that_became_shorter_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ingot.data.stored.MAPPED", 0)
    np.arange(100, dtype="<u2").tofile(tmp_path / "row")
    row = Stored([tmp_path / "row"], "<u2")
    os.truncate(tmp_path / "row", 60)
    assert row[:30].tolist() == list(range(30))
    with pytest.raises(ArtifactError, match="ends at byte 60"):
        row[20:40]


def test_looking_at_a_long_row_does_not_keep_it_in_memory(tmp_path: Path) -> None:
    """In a process of its own, since the peak of memory is of all that was ever done."""
    with open(tmp_path / "row", "wb") as file:
        file.truncate(1 << 30)
    code = (
        "import resource, sys; from pathlib import Path; from ingot.data.stored import Stored\n"
        f"row = Stored([Path({str(tmp_path / 'row')!r})], '<u2')\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "before, step = peak(), 1 << 16\n"
        "total = sum(int(row[at:at + step].sum()) for at in range(0, len(row), step))\n"
        "assert total == 0 and len(row) == 1 << 29\n"
        "print((peak() - before) // (1 if sys.platform == 'darwin' else 1024))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 20  # MiB of 1,024
