"""Foreign token files: bytes laid out here by hand as their formats are published."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.data.formats import open_megatron, open_nanogpt, write_megatron, write_nanogpt
from ingot.data.pack import PackedStream
from ingot.data.tokens import Tokens
from ingot.errors import DataError


def megatron(
    folder: Path,
    sequences: list[list[int]],
    documents: list[int],
    code: int = 8,
    kind: str = "H",
    modes: bool = False,
) -> Path:
    """A data set written byte by byte, as indexed_dataset.py has it."""
    base = folder / "data"
    flat = [token for one in sequences for token in one]
    Path(f"{base}.bin").write_bytes(struct.pack(f"<{len(flat)}{kind}", *flat))
    pointers, at = [], 0
    for one in sequences:
        pointers.append(at)
        at += len(one) * struct.calcsize(kind)
    index = b"MMIDIDX\x00\x00" + struct.pack("<Q", 1) + struct.pack("<B", code)
    index += struct.pack("<Q", len(sequences)) + struct.pack("<Q", len(documents))
    index += struct.pack(f"<{len(sequences)}i", *map(len, sequences))
    index += struct.pack(f"<{len(pointers)}q", *pointers)
    index += struct.pack(f"<{len(documents)}q", *documents)
    index += bytes(len(sequences)) if modes else b""
    Path(f"{base}.idx").write_bytes(index)
    return base


SEQUENCES = [[1, 2, 3], [4], [5, 6, 7, 8], []]


@pytest.mark.parametrize("modes", [False, True])
@pytest.mark.parametrize(
    ("code", "kind", "name"), [(1, "B", "uint8"), (8, "H", "uint16"), (4, "i", "int32"), (5, "q", "int64")]
)
def test_megatron_s_files_are_read(tmp_path: Path, code: int, kind: str, name: str, modes: bool) -> None:
    base = megatron(tmp_path, SEQUENCES, [0, 2, 3, 4], code, kind, modes)
    for path in (base, f"{base}.bin", f"{base}.idx"):
        tokens = open_megatron(path)
        assert tokens.tokens.dtype.name == name and len(tokens) == 8
        assert [tokens.document(i).tolist() for i in range(3)] == [[1, 2, 3, 4], [5, 6, 7, 8], []]
    assert sorted(PackedStream(tokens, 8, 1, 0).batch(0)["inputs"][0].tolist()) == [1, 2, 3, 4, 5, 6, 7, 8]


def changed(base: Path, at: int, new: bytes) -> None:
    path = Path(f"{base}.idx")
    data = bytearray(path.read_bytes())
    data[at : at + len(new)] = new
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("at", "new", "says"),
    [
        (0, b"TNTIDX\x00\x00\x00", r"begins with b'TNTIDX"),
        (9, struct.pack("<Q", 2), "is of version 2"),
        (17, b"\x09", "has type code 9"),
        (17, b"\x07", "ids of float32"),
        (17, b"\x02", "ids of int8"),
        (18, struct.pack("<Q", 5), "where 5 sequences and 4 documents need"),
        (18, struct.pack("<Q", 2**60), "sequences and 4 documents need"),
        (34, struct.pack("<i", -3), "do not lie one after another"),
        (50, struct.pack("<q", 2), "do not lie one after another"),
        (17, b"\x04", "do not lie one after another"),
        (82, struct.pack("<q", 1), "do not go through all sequences"),
        (90, struct.pack("<q", 4), "do not go through all sequences"),
        (106, struct.pack("<q", 3), "do not go through all sequences"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(tmp_path: Path, at: int, new: bytes, says: str) -> None:
    base = megatron(tmp_path, SEQUENCES, [0, 2, 3, 4])
    changed(base, at, new)
    with pytest.raises(DataError, match=says):
        open_megatron(base)


def test_cut_files_are_refused(tmp_path: Path) -> None:
    base = megatron(tmp_path, SEQUENCES, [0, 2, 3, 4])
    whole, ids = Path(f"{base}.idx").read_bytes(), Path(f"{base}.bin").read_bytes()
    for size in (0, 5, 9, 20, 33, 34, 60, len(whole) - 1):
        Path(f"{base}.idx").write_bytes(whole[:size])
        with pytest.raises(DataError, match=r"data\.idx"):
            open_megatron(base)
    Path(f"{base}.idx").write_bytes(whole)
    Path(f"{base}.bin").write_bytes(ids[:-2])
    with pytest.raises(DataError, match="holds 14 bytes where its index has 16"):
        open_megatron(base)
    with pytest.raises(DataError, match="cannot be read"):
        open_megatron(tmp_path / "other")


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=120))
def test_any_bytes_as_an_index_are_refused_by_name(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    folder = tmp_path_factory.mktemp("any")
    (folder / "a.bin").write_bytes(b"\x01\x00")
    (folder / "a.idx").write_bytes(b"MMIDIDX\x00\x00" + data)
    with pytest.raises(DataError, match=r"a\.(idx|bin)"):
        open_megatron(folder / "a")


def ours(kind: Any) -> Tokens:
    return Tokens(np.arange(10, dtype=kind), np.array([0, 4, 4, 10], dtype=np.int64))


@pytest.mark.parametrize(("kind", "back"), [("u1", "uint8"), ("<u2", "uint16"), ("<u4", "int32")])
def test_megatron_there_and_back(tmp_path: Path, kind: str, back: str) -> None:
    write_megatron(ours(kind), tmp_path / "x.bin")
    tokens = open_megatron(tmp_path / "x")
    assert tokens.tokens.dtype.name == back
    assert np.array_equal(tokens.tokens, np.arange(10)) and tokens.offsets.tolist() == [0, 4, 4, 10]


def test_what_is_written_is_the_published_layout(tmp_path: Path) -> None:
    base = megatron(tmp_path, [[1, 2, 3, 4], [5, 6]], [0, 1, 2])
    (tmp_path / "ours").mkdir()
    tokens = Tokens(np.arange(1, 7, dtype=np.uint16), np.array([0, 4, 6], dtype=np.int64))
    write_megatron(tokens, tmp_path / "ours" / "data")
    for end in ("bin", "idx"):
        assert (tmp_path / "ours" / f"data.{end}").read_bytes() == Path(f"{base}.{end}").read_bytes()


def test_ids_beyond_the_format_are_refused(tmp_path: Path) -> None:
    large = Tokens(np.array([2**31], dtype=np.uint32), np.array([0, 1], dtype=np.int64))
    with pytest.raises(DataError, match="id 2147483648 does not fit into int32"):
        write_megatron(large, tmp_path / "x")
    with pytest.raises(DataError, match="do not fit into nanoGPT's uint16"):
        write_nanogpt(large, tmp_path / "x.bin")


def test_nanogpt_s_files_are_read_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "train.bin"
    path.write_bytes(struct.pack("<8H", 5, 6, 50256, 7, 50256, 50256, 8, 9))
    assert open_nanogpt(path).offsets.tolist() == [0, 8]
    for chunk in (1, 3, 100):
        monkeypatch.setattr("ingot.data.formats._CHUNK", chunk)
        tokens = open_nanogpt(path, end_id=50256)
        assert [tokens.document(i).tolist() for i in range(4)] == [[5, 6, 50256], [7, 50256], [50256], [8, 9]]
        write_nanogpt(tokens, tmp_path / "again.bin")
        assert (tmp_path / "again.bin").read_bytes() == path.read_bytes()
    path.write_bytes(struct.pack("<2H", 5, 50256))
    assert open_nanogpt(path, end_id=50256).offsets.tolist() == [0, 2]
    path.write_bytes(b"")
    assert open_nanogpt(path, end_id=1).offsets.tolist() == [0]


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"abc", "holds 3 bytes, which no row of uint16 has"),
        (struct.pack("<2i", 20240520, 1) + bytes(1016), "header of llm.c .*version 1"),
        (b"MMIDIDX\x00\x00\x00", "is an index of Megatron's"),
        (None, "cannot be read"),
    ],
)
def test_what_is_no_file_of_nanogpt_is_refused(tmp_path: Path, data: bytes | None, says: str) -> None:
    if data is not None:
        (tmp_path / "a.bin").write_bytes(data)
    with pytest.raises(DataError, match=says):
        open_nanogpt(tmp_path / "a.bin")
