"""Files of every kind, damaged at random: each gives documents and named drops, and never an error."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import random
import sqlite3
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

from ingot.data.document import Document
from ingot.data.sources import Source, read
from ingot.errors import ResourceError

pytest.importorskip("docx")
pytest.importorskip("pypdf")
pytest.importorskip("trafilatura")
pytest.importorskip("warcio")

TEXTS = [f"Text {index} tells of a river that runs under an old bridge." for index in range(60)]
LINES = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode()
PAGE = (
    f"<html><body><article>{''.join(f'<p>{text}</p>' for text in TEXTS[:8])}</article></body></html>".encode()
)
WIKI = "".join(
    f"<page><title>A{index}</title><ns>0</ns><revision><text>'''{text}''' [[b|c]]</text></revision></page>"
    for index, text in enumerate(TEXTS)
)


def sqlite(path: Path) -> None:
    base = sqlite3.connect(path)
    base.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, text TEXT)")
    base.executemany("INSERT INTO t (text) VALUES (?)", [(text,) for text in TEXTS])
    base.commit()
    base.close()


def parquet(path: Path) -> None:
    pyarrow.parquet.write_table(pyarrow.table({"text": TEXTS}), path, compression="zstd")


def word(path: Path) -> None:
    import docx

    document = docx.Document()
    for text in TEXTS:
        document.add_paragraph(text)
    document.save(str(path))


def pdf(path: Path) -> None:
    from pypdf import PdfWriter

    writer = PdfWriter()
    writer.add_blank_page(200, 200)
    writer.write(path)


def book(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as out:
        out.writestr("META-INF/container.xml", '<container><rootfile full-path="b.opf"/></container>')
        item = '<item id="a" href="a.html" media-type="text/html"/>'
        package = f'<package><manifest>{item}</manifest><spine><itemref idref="a"/></spine></package>'
        out.writestr("b.opf", package)
        out.writestr("a.html", PAGE)


def archive(path: Path) -> None:
    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import WARCWriter

    with open(path, "wb") as file:
        writer = WARCWriter(file, gzip=path.suffix == ".gz")
        for index in range(4):
            headers = StatusAndHeaders("200 OK", [("Content-Type", "text/html")], protocol="HTTP/1.1")
            url, body = f"http://a.org/{index}", io.BytesIO(PAGE)
            writer.write_record(
                writer.create_warc_record(url, "response", payload=body, http_headers=headers)
            )


KINDS: dict[str, bytes | Callable[[Path], None]] = {
    "a.txt": "é text\n".encode() * 50,
    "a.py": b"# coding: latin-1\nx = 'caf\xe9'\n" * 5,
    "a.html": PAGE,
    "a.pdf": pdf,
    "a.docx": word,
    "a.epub": book,
    "a.jsonl": LINES,
    "a.jsonl.gz": gzip.compress(LINES),
    "a.jsonl.bz2": bz2.compress(LINES),
    "a.jsonl.xz": lzma.compress(LINES),
    "a.jsonl.zst": pyarrow.compress(LINES, "zstd", asbytes=True),
    "a.json": json.dumps([{"text": text} for text in TEXTS]).encode(),
    "a.csv": b"id,text\n" + "".join(f'{i},"{t}, ""x"""\n' for i, t in enumerate(TEXTS)).encode(),
    "a.parquet": parquet,
    "a.db": sqlite,
    "a.warc": archive,
    "a.warc.gz": archive,
    "a.xml": f"<mediawiki>{WIKI}</mediawiki>".encode(),
    "a.xml.bz2": bz2.compress(f"<mediawiki>{WIKI}</mediawiki>".encode()),
    "a.mbox": b"From a\nSubject: =?utf-8?q?x?=\nContent-Type: text/plain; charset=utf-8\n\nhello\n\n" * 20,
    "a.eml": b"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nhello\n--b--\n",
}


@pytest.mark.parametrize("name", KINDS)
def test_damaged_files_never_end_the_reading(tmp_path: Path, name: str) -> None:
    path, made = tmp_path / name, KINDS[name]
    if callable(made):
        made(path)
        made = path.read_bytes()
    path.write_bytes(made)
    undamaged = list(read(Source(path, name)))
    assert undamaged and all(isinstance(item, Document) for item in undamaged) is (name != "a.pdf")
    source = random.Random(name)
    for _ in range(25):
        path.write_bytes(damaged(made, source))
        for item in read(Source(path, name)):
            assert isinstance(item, Document) or (item.reason and item.detail and "\n" not in item.reason)
            identity = item.id if isinstance(item, Document) else item.path
            assert identity.startswith(name)


def damaged(content: bytes, source: random.Random) -> bytes:
    """The content with its end cut off, bytes changed, pieces taken out or doubled."""
    broken = bytearray(content)
    if source.random() < 0.3:
        del broken[source.randrange(len(broken)) :]
    for _ in range(source.choice((1, 2, 5, 30))):
        if not broken:
            break
        at, act = source.randrange(len(broken)), source.random()
        if act < 0.6:
            broken[at] = source.randrange(256)
        elif act < 0.8:
            del broken[at : at + source.randrange(1, 40)]
        else:
            start = source.randrange(len(broken))
            broken[at:at] = broken[start : start + 40]
    return bytes(broken)


@pytest.mark.parametrize(
    ("name", "package"),
    [
        ("a.html", "trafilatura"),
        ("a.pdf", "pypdf"),
        ("a.docx", "docx"),
        ("a.epub", "lxml"),
        ("a.warc", "warcio"),
        ("a.xml", "lxml"),
    ],
)
def test_a_missing_package_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    path, made = tmp_path / name, KINDS[name]
    if callable(made):
        made(path)
    else:
        path.write_bytes(made)
    for module in [one for one in sys.modules if one.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ResourceError, match=r"the package '.*' is missing") as caught:
        list(read(Source(path, name)))
    assert "pip install 'ingot[data]'" in str(caught.value)


def test_finding_and_reading_text_needs_no_optional_package() -> None:
    code = (
        "import sys, ingot.data.sources, ingot.data.catalogue, ingot.data.download\n"
        "heavy = {'torch', 'trafilatura', 'pypdf', 'docx', 'lxml', 'warcio', 'datasets', 'pyarrow'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
