"""Reading text and code: encodings that lie, languages, licences, separators, limits, files that move."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.data import sources
from ingot.data.document import Document, Dropped, is_code
from ingot.data.readers.licences import identify, is_licence, licence_of
from ingot.data.sources import Found, Reading, Source, find, open_place, read
from ingot.errors import ConfigError, DataError

Item = Document | Dropped


def items(path: Path, **settings: object) -> list[Item]:
    return list(read(Source(path, path.name), Reading(**settings)))  # type: ignore[arg-type]


def one(path: Path, content: bytes, **settings: object) -> Item:
    path.write_bytes(content)
    (item,) = items(path, **settings)
    return item


def reason(item: Item) -> str:
    assert isinstance(item, Dropped), item
    return item.reason


def text(item: Item) -> str:
    assert isinstance(item, Document), item
    return item.text


def pack_zstd(data: bytes) -> bytes:
    import pyarrow

    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue())


PACK = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress, ".zst": pack_zstd}


# Encodings


@pytest.mark.parametrize("order", ["le", "be"])
def test_utf16_without_its_mark_is_named_and_read_where_stated(tmp_path: Path, order: str) -> None:
    content = "A plain sentence of English.".encode(f"utf-16-{order}")
    item = one(tmp_path / "a.txt", content)
    assert reason(item) == "encoding"
    assert f"utf-16-{order}" in item.detail  # type: ignore[union-attr]
    stated = one(tmp_path / "a.txt", content, encoding=f"utf-16-{order}")
    assert text(stated) == "A plain sentence of English."


def test_a_stated_encoding_is_for_what_is_not_utf8(tmp_path: Path) -> None:
    assert text(one(tmp_path / "a.txt", "café".encode("latin-1"), encoding="latin-1")) == "café"
    assert text(one(tmp_path / "b.txt", "café".encode(), encoding="latin-1")) == "café"
    assert text(one(tmp_path / "c.py", b"x = 'caf\xe9'", encoding="latin-1")) == "x = 'café'"
    assert reason(one(tmp_path / "d.txt", b"ab\0cd", encoding="latin-1")) == "binary"
    assert reason(one(tmp_path / "e.txt", b"\x81\xff", encoding="ascii")) == "encoding"
    with pytest.raises(ConfigError, match="encoding"):
        Reading.parse({"encoding": "nonsense"})


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_text_exactly_or_named(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    item = one(path, content)
    if isinstance(item, Document):
        assert (
            item.text.encode("utf-8") == content
            or item.text.encode("utf-16-le") in content
            or (item.text.encode("utf-16-be") in content)
        )
    else:
        assert item.reason in ("binary", "encoding")


# Packed files


@pytest.mark.parametrize("suffix", PACK)
def test_packed_text_is_unpacked(tmp_path: Path, suffix: str) -> None:
    content = "".join(f"line {index} of é\n" for index in range(30_000))
    item = one(tmp_path / f"a.md{suffix}", PACK[suffix](content.encode()))
    assert item == Document(f"a.md{suffix}", f"a.md{suffix}", content, "markdown")


@pytest.mark.parametrize("suffix", PACK)
def test_packed_files_that_break_off_are_named(tmp_path: Path, suffix: str) -> None:
    packed = PACK[suffix](os.urandom(400_000).hex().encode())
    assert reason(one(tmp_path / f"a.txt{suffix}", packed[: len(packed) // 2])) == "damaged"
    assert reason(one(tmp_path / f"b.txt{suffix}", b"\x01" * 100)) == "damaged"


@pytest.mark.parametrize("suffix", PACK)
def test_a_bomb_is_broken_off_early(tmp_path: Path, suffix: str) -> None:
    packed = PACK[suffix](bytes(40_000_000))
    item = one(tmp_path / f"a.txt{suffix}", packed)
    assert reason(item) == "zip bomb"
    assert item.value > item.threshold > 1  # type: ignore[union-attr,operator]
    assert "times its" in item.detail  # type: ignore[union-attr]


# Limits


def test_a_huge_file_is_refused_without_being_read(tmp_path: Path) -> None:
    """Two gigabytes in one line, as a sparse file, in a process that may take 800 MB of memory."""
    for name in ("line.txt", "line.jsonl", "line.csv"):
        with open(tmp_path / name, "wb") as file:
            file.write(b"text\n" if name.endswith("csv") else b"")
            file.seek(2**31)
            file.write(b"x\n")
    code = (
        "import resource, sys, pathlib\n"
        "from ingot.data.sources import Source, Reading, read\n"
        "resource.setrlimit(resource.RLIMIT_AS, (800 * 2**20,) * 2)\n"
        "for name in sys.argv[1:]:\n"
        "    path = pathlib.Path(name)\n"
        "    found = list(read(Source(path, path.name), Reading(max_document_bytes=50 * 2**20)))\n"
        "    print(path.name, [one.reason for one in found])\n"
    )
    paths = [str(tmp_path / name) for name in ("line.txt", "line.jsonl", "line.csv")]
    done = subprocess.run([sys.executable, "-c", code, *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "line.txt ['too large']",
        "line.jsonl ['too large']",
        "line.csv ['too large']",
    ]


def test_the_limit_is_a_limit(tmp_path: Path) -> None:
    assert text(one(tmp_path / "a.txt", b"x" * 100, max_document_bytes=100)) == "x" * 100
    item = one(tmp_path / "a.txt", b"x" * 101, max_document_bytes=100)
    assert (reason(item), item.value, item.threshold) == ("too large", 101, 100)  # type: ignore[union-attr]
    assert (
        reason(one(tmp_path / "a.txt.gz", gzip.compress(b"x" * 101), max_document_bytes=100)) == "too large"
    )


def test_a_separator_makes_documents_of_one_file(tmp_path: Path) -> None:
    mark = "<|endoftext|>"
    path = tmp_path / "a.txt"
    pieces = [f"story {index} " * (index % 7 + 1) for index in range(200_000 // 20)]
    path.write_text(f"\n{mark}\n".join(pieces) + mark)
    found = items(path, separator=mark)
    assert [text(item) for item in found] == [piece.strip() for piece in pieces]
    assert found[0].id == "a.txt:1"  # type: ignore[union-attr]
    path.write_text(f"short{mark}{'x' * 3_000_000}{mark}last")
    short, dropped, last = items(path, separator=mark, max_document_bytes=1000)
    assert (text(short), reason(dropped), text(last)) == ("short", "too large", "last")
    assert dropped.value == 3_000_000  # type: ignore[union-attr]
    code = tmp_path / "a.py"
    code.write_text(f"x = '{mark}'")
    assert len(items(code, separator=mark)) == 1


# Files that move


def test_files_that_vanish_or_change_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    assert [reason(item) for item in items(path)] == ["vanished"]
    path.write_text("one")
    read_bytes = Path.read_bytes

    def written_to(self: Path) -> bytes:
        data = read_bytes(self)
        with open(self, "ab") as file:
            file.write(b" more")
        return data

    monkeypatch.setattr(Path, "read_bytes", written_to)
    assert [reason(item) for item in items(path)] == ["changed"]
    lines = tmp_path / "a.jsonl"
    lines.write_text('{"text": "one"}\n')
    found = read(Source(lines, "a.jsonl"))
    assert text(next(found)) == "one"
    with open(lines, "a") as file:
        file.write('{"text": "two"}\n')
    assert reason(list(found)[-1]) == "changed"


# Finding


def test_loops_pipes_and_broken_links_are_left_alone_and_counted(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    (tmp_path / "self.txt").symlink_to(tmp_path / "self.txt")
    (tmp_path / "up").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.txt")
    for name in ("node_modules", "site-packages", "env/lib"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "b.txt").write_text("x")
    (tmp_path / "env" / "pyvenv.cfg").write_text("")
    found = find(tmp_path)
    assert [source.name for source in found.sources] == ["a.txt"]
    assert found.skipped == {
        "broken link": 1,
        "no regular file": 1,
        "link to a folder": 1,
        "vendored folder": 3,
    }


def test_very_many_empty_files(tmp_path: Path) -> None:
    for index in range(1000):
        (tmp_path / f"{index}.txt").touch()
    found = find(tmp_path)
    assert len(found.sources) == 1000
    assert all(text(item) == "" for source in found.sources for item in read(source))


def test_names_that_are_no_utf8_can_be_written(tmp_path: Path) -> None:
    Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9.txt")).write_text("x")
    (source,) = find(tmp_path).sources
    assert source.name == "caf\\xe9.txt"
    assert text(next(read(source))) == "x"


def test_globs_give_what_they_match(tmp_path: Path) -> None:
    for name in ("a/x.md", "a/b/y.md", "a/b/z.txt", "c.md", "a/image.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert names(open_place(f"{tmp_path}/a/**/*.md")) == ["b/y.md", "x.md"]
    assert open_place(f"{tmp_path}/a/*").others == {".png": 1}
    with pytest.raises(DataError, match="matches"):
        open_place(f"{tmp_path}/a/*.png")
    odd = tmp_path / "a[1]"
    odd.mkdir()
    (odd / "x.md").write_text("x")
    assert names(open_place(str(odd))) == ["x.md"]


def names(found: Found) -> list[str]:
    return [source.name for source in found.sources]


def test_languages_are_told_by_suffix_and_name() -> None:
    kinds = {name: format.read.keywords["kind"] for name, format in sources._BY_NAME.items()}  # type: ignore[attr-defined]
    assert kinds["makefile"] == "makefile"
    assert kinds["cmakelists.txt"] == "cmake"
    assert len(set(sources.LANGUAGES.values())) >= 60
    assert all(is_code(kind) for kind in sources.LANGUAGES.values())
    assert {sources.PLAIN[suffix] for suffix in (".js", ".rs", ".hpp", ".md")} == {
        "javascript",
        "rust",
        "c++",
        "markdown",
    }


# Licences

LICENCES = {
    "MIT": "MIT License\n\nCopyright (c) 2024 A\n\nPermission is hereby granted, free of charge, to a"
    "ny person obtaining a copy\nof this software ...\nThe above copyright notice and this p"
    "ermission notice shall be included in all\ncopies",
    "Apache-2.0": "   Apache License\n   Version 2.0, January 2004\n\n   TERMS AND CONDITIONS FOR USE, REPR"
    "ODUCTION, AND DISTRIBUTION",
    "BSD-2-Clause": "Redistribution and use in source and binary forms, with or without\n1. ...\n2. Redistri"
    "butions in binary form must reproduce the above",
    "BSD-3-Clause": "Redistribution and use in source and binary forms, with\n * Redistributions in\n * bina"
    "ry form must reproduce\n3. Neither the name may be used to endorse\n   or promote produ"
    "cts",
    "GPL-2.0": "GNU GENERAL PUBLIC LICENSE\n   Version 2, June 1991",
    "GPL-3.0": "GNU GENERAL PUBLIC LICENSE\n   Version 3, 29 June 2007",
    "LGPL-2.1": "GNU LESSER GENERAL PUBLIC LICENSE\n Version 2.1, February 1999",
    "LGPL-3.0": "GNU LESSER GENERAL PUBLIC LICENSE\n Version 3, 29 June 2007\n incorporates version 3 of"
    " the GNU General Public License",
    "AGPL-3.0": "GNU AFFERO GENERAL PUBLIC LICENSE\n   Version 3, 19 November 2007",
    "MPL-2.0": "Mozilla Public License Version 2.0\n=====\n means either the GNU General Public License"
    ", Version 2.0, the GNU Lesser General Public License, Version 2.1",
    "PSF-2.0": "PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2\n------",
    "CC-BY-4.0": "# Attribution 4.0 International\n",
    "CC-BY-SA-4.0": "Attribution-ShareAlike 4.0 International\n",
    "CC0-1.0": "Creative Commons Legal Code\n\nCC0 1.0 Universal",
    "Unlicense": "This is free and unencumbered software released into the public domain.",
}


@pytest.mark.parametrize(("name", "content"), LICENCES.items())
def test_licences_are_told_by_their_text(name: str, content: str) -> None:
    assert identify(content) == name


def test_unknown_licences_stay_unknown() -> None:
    for content in (
        "",
        "All rights reserved.",
        "Attribution-NonCommercial 4.0 International",
        "see LICENSE.txt",
    ):
        assert identify(content) is None


@pytest.mark.skipif(not Path("/usr/share/common-licenses").is_dir(), reason="a folder of Debian")
def test_full_texts_of_licences() -> None:
    folder = Path("/usr/share/common-licenses")
    known = {"Apache-2.0", "GPL-2", "GPL-3", "LGPL-2", "LGPL-2.1", "LGPL-3", "MPL-2.0", "CC0-1.0"}
    found = {name: identify((folder / name).read_text()) for name in known if (folder / name).exists()}
    assert all(value in (name, f"{name}.0") for name, value in found.items()), found


def test_the_nearest_licence_file_counts(tmp_path: Path) -> None:
    for name in ("LICENSE", "COPYING.txt", "LICENCE.md", "UNLICENSE", "license-apache"):
        assert is_licence(name), name
    for name in ("licensing.py", "LICENSES", "copyingx", "a.txt"):
        assert not is_licence(name), name
    for name, content in {
        "LICENSE": LICENCES["MIT"],
        "a.py": "x = 1",
        "inner/b.py": "x = 1",
        "apache/LICENSE.txt": LICENCES["Apache-2.0"],
        "apache/deep/c.py": "# SPDX-License-Identifier: BSD-3-Clause OR MIT\nx = 1",
        "apache/deep/d.py": "x = 1",
        "odd/COPYING": "ask me",
        "odd/e.py": "x = 1",
        "both/LICENSE-MIT": LICENCES["MIT"],
        "both/LICENSE-APACHE": LICENCES["Apache-2.0"],
        "both/f.py": "x = 1",
        "gnu/COPYING": LICENCES["GPL-3.0"],
        "gnu/COPYING.LESSER": LICENCES["LGPL-3.0"],
        "gnu/g.py": "x = 1",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    documents = [item for source in find(tmp_path).sources for item in read(source)]
    licences = {
        item.id: item.licence for item in documents if isinstance(item, Document) and item.kind == "python"
    }
    assert licences == {
        "a.py": "MIT",
        "inner/b.py": "MIT",
        "apache/deep/c.py": "BSD-3-Clause OR MIT",
        "apache/deep/d.py": "Apache-2.0",
        "odd/e.py": None,
        "both/f.py": "Apache-2.0 AND MIT",
        "gnu/g.py": "LGPL-3.0",
    }
    (source,) = find(tmp_path / "apache" / "LICENSE.txt").sources
    assert source.licence == "Apache-2.0"
    assert licence_of([]) is None
