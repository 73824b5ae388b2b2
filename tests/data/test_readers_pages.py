"""Reading pages and books: html, pdf, docx, epub, and files of their suffixes that are something else."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.data.document import Document, Dropped
from ingot.data.readers.markup import all_text
from ingot.data.sources import Reading, Source, read

pytest.importorskip("trafilatura")
pytest.importorskip("pypdf")
pytest.importorskip("docx")

Item = Document | Dropped


def one(path: Path, content: bytes, **settings: Any) -> Item:
    path.write_bytes(content)
    (item,) = read(Source(path, path.name), Reading(**settings))
    return item


def text(item: Item) -> str:
    assert isinstance(item, Document), item
    return item.text


def reason(item: Item) -> str:
    assert isinstance(item, Dropped), item
    return item.reason


# HTML

SENTENCES = [f"Paragraph {index} tells of a river that runs under an old stone bridge." for index in range(6)]
PAGE = (
    "<html><head><title>Rivers</title><style>p {{}}</style><script>alert('x')</script></head><body>"
    "<nav><ul><li><a href='/'>Home</a></li><li><a href='/about'>About us</a></li></ul></nav>"
    "<article><h1>Rivers</h1>{}</article><footer>Copyright 2024 Someone</footer></body></html>"
).format("".join(f"<p>{sentence}</p>" for sentence in SENTENCES))


def test_the_main_text_of_a_page(tmp_path: Path) -> None:
    item = one(tmp_path / "a.html", PAGE.encode())
    assert text(item).splitlines() == ["Rivers", *SENTENCES]
    assert (item.kind, item.id) == ("html", "a.html")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [("iso-8859-1", "cp1252"), ("windows-1251", "cp1251"), ("utf-8", "utf-8"), ("Shift_JIS", "shift_jis")],
)
def test_pages_are_in_the_encoding_that_they_declare(tmp_path: Path, declared: str, encoding: str) -> None:
    word = {"cp1252": "“café”", "cp1251": "река", "utf-8": "河ñ", "shift_jis": "橋の下"}[encoding]
    page = PAGE.replace("<head>", f"<head><meta charset='{declared}'>").replace("bridge", word)
    assert word in text(one(tmp_path / "a.html", page.encode(encoding)))


def test_pages_whose_encoding_lies_are_dropped(tmp_path: Path) -> None:
    page = PAGE.replace("<head>", "<head><meta charset=utf-8>").replace("bridge", "café").encode("latin-1")
    item = one(tmp_path / "a.html", page)
    assert reason(item) == "encoding"
    assert "declared as utf-8" in item.detail  # type: ignore[union-attr]
    assert reason(one(tmp_path / "b.html", page.replace(b"utf-8", b"nonsense"))) == "encoding"
    undeclared = PAGE.replace("bridge", "café").encode("latin-1")
    assert reason(one(tmp_path / "c.html", undeclared)) == "encoding"
    assert "café" in text(one(tmp_path / "c.html", undeclared, encoding="latin-1"))
    assert reason(one(tmp_path / "d.html", PAGE.encode("utf-16-le"))) == "binary"
    assert "Rivers" in text(one(tmp_path / "e.html", PAGE.encode("utf-16")))


def test_pages_without_text_or_nested_without_end_are_named(tmp_path: Path) -> None:
    assert reason(one(tmp_path / "a.html", b"")) == "no text"
    assert reason(one(tmp_path / "b.html", b"<html><body></body></html>")) == "no text"
    deep = b"<html><body>" + b"<div>" * 30_000 + b"deep" + b"</div>" * 30_000
    item = one(tmp_path / "c.html", deep)
    assert isinstance(item, Document) or item.reason in ("no text", "damaged")


def test_all_text_of_a_page() -> None:
    page = (
        "<html><head><title>no</title></head><body>  <h1>Head</h1><p>One <b>bold</b>\n word<br>next</p>"
        "<!-- no --><ul><li>first</li><li>second</li></ul><script>no()</script>"
        "<table><tr><td>a</td><td>b</td></tr><tr><td>c</td><td></td></tr></table>"
        "<pre>  x = 1\n\n  y</pre>tail</body>"
    )
    assert all_text(page) == (
        "Head\n\nOne bold word\nnext\n\nfirst\nsecond\n\na\tb\nc\n\n  x = 1\n\n  y\n\ntail"
    )
    assert all_text("") == all_text("<!-- only -->") == ""


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300) | st.text(alphabet="<>/!-abp \n\t&;", max_size=300))
def test_any_markup_has_a_text(markup: str) -> None:
    assert isinstance(all_text(markup), str)


# PDF


def pdf(pages: list[str], extra: str = "") -> bytes:
    """A small PDF with a line of text per page, and a table of where its objects lie."""
    kids = " ".join(f"{4 + 2 * index} 0 R" for index in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for index, line in enumerate(pages):
        content = f"BT /F1 12 Tf 72 720 Td ({line}) Tj ET" if line else "0 0 10 10 re f"
        objects += [
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * index} 0 R "
            "/Resources << /Font << /F1 3 0 R >> >> >>",
            f"<< /Length {len(content)} >>\nstream\n{content}\nendstream",
        ]
    out = b"%PDF-1.4\n"
    offsets = []
    for number, body in enumerate(objects, start=1):
        offsets.append(len(out))
        out += f"{number} 0 obj\n{body}\nendobj\n".encode()
    start = len(out)
    out += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n".encode()
    out += "".join(f"{offset:010d} 00000 n \n" for offset in offsets).encode()
    out += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R {extra}>>\nstartxref\n{start}\n%%EOF\n".encode()
    return out


def test_the_text_of_a_pdf(tmp_path: Path) -> None:
    item = one(tmp_path / "a.pdf", pdf(["The first page.", "", "The third page."]))
    assert item == Document("a.pdf", "a.pdf", "The first page.\n\nThe third page.", "pdf")


def test_pdfs_without_text_are_named(tmp_path: Path) -> None:
    from pypdf import PdfReader, PdfWriter

    item = one(tmp_path / "scanned.pdf", pdf(["", ""]))
    assert (reason(item), item.detail) == ("no text", "2 pages without text: scanned, or drawn")  # type: ignore[union-attr]
    writer = PdfWriter(PdfReader(io.BytesIO(pdf(["secret"]))))
    writer.encrypt("password", algorithm="RC4-128")
    sink = io.BytesIO()
    writer.write(sink)
    assert reason(one(tmp_path / "locked.pdf", sink.getvalue())) == "encrypted"
    open_writer = PdfWriter(PdfReader(io.BytesIO(pdf(["not secret"]))))
    open_writer.encrypt("", "owner", algorithm="RC4-128")
    sink = io.BytesIO()
    open_writer.write(sink)
    assert text(one(tmp_path / "open.pdf", sink.getvalue())) == "not secret"


def test_a_damaged_pdf_never_ends_the_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pdf(["Some words on a page."] * 3)
    for content in (b"", b"%PDF-1.7", b"no pdf", whole[: len(whole) // 2], os.urandom(5000)):
        assert reason(one(tmp_path / "a.pdf", content)) in ("damaged", "no text")
    for position in range(0, len(whole), 37):
        broken = bytearray(whole)
        broken[position] = 0x39
        item = one(tmp_path / "a.pdf", bytes(broken))
        assert isinstance(item, Document) or item.reason in ("damaged", "no text", "encrypted")

    import pypdf

    for error in (
        KeyError("/Root"),
        RecursionError("too deep"),
        AttributeError("x"),
        MemoryError(),
        OSError("odd"),
    ):

        def fail(self: object, *rest: object, error: Exception = error, **more: object) -> None:
            raise error

        monkeypatch.setattr(pypdf.PdfReader, "__init__", fail)
        item = one(tmp_path / "a.pdf", whole)
        assert reason(item) == "damaged"
        assert item.detail.startswith("pypdf: ")  # type: ignore[union-attr]


# Word


def word(path: Path) -> None:
    import docx

    document = docx.Document()
    document.add_heading("A title", level=1)
    document.add_paragraph("The first paragraph.")
    table = document.add_table(rows=2, cols=2)
    for index, word in enumerate(("name", "size", "oak", "large\nand old")):
        table.rows[index // 2].cells[index % 2].text = word
    document.add_paragraph("")
    document.add_paragraph("After the table.")
    wide = document.add_table(rows=1, cols=3)
    wide.cell(0, 0).merge(wide.cell(0, 1)).text = "wide"
    wide.cell(0, 2).text = "narrow"
    document.save(str(path))


def test_the_text_of_a_word_document(tmp_path: Path) -> None:
    path = tmp_path / "a.docx"
    word(path)
    (item,) = read(Source(path, "a.docx"))
    assert text(item) == (
        "A title\n\nThe first paragraph.\n\nname\tsize\noak\tlarge and old\n\n"
        "After the table.\n\nwide\tnarrow"
    )


def archive(members: dict[str, bytes]) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in members.items():
            out.writestr(name, content)
    return sink.getvalue()


def billion_laughs(root: str, inside: str) -> bytes:
    entities = "".join(f'<!ENTITY e{level} "{f"&e{level - 1};" * 10}">' for level in range(1, 10))
    return (
        f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e0 "ha">{entities}]><{root}>{inside}</{root}>'.encode()
    )


def test_hostile_word_documents_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.docx"
    word(path)
    with zipfile.ZipFile(path) as whole:
        members = {name: whole.read(name) for name in whole.namelist()}
    for content in (b"", b"PK\x03\x04 nonsense", archive({"a.txt": b"x"}), path.read_bytes()[:2000]):
        assert reason(one(tmp_path / "b.docx", content)) == "damaged"
    bomb = archive(members | {"word/media/image.bin": bytes(30_000_000)})
    item = one(tmp_path / "c.docx", bomb)
    assert (reason(item), item.value > 30_000_000) == ("zip bomb", True)  # type: ignore[union-attr,operator]
    body = members["word/document.xml"]
    laughing = billion_laughs("w:x", "").replace(b"<w:x></w:x>", b"") + body.partition(b"?>")[2]
    laughing = laughing.replace(b"The first paragraph.", b"&e9;")
    item = one(tmp_path / "d.docx", archive(members | {"word/document.xml": laughing}))
    assert isinstance(item, Dropped) or len(item.text) < 1000
    deep = body.replace(b"<w:body>", b"<w:body>" + b"<w:p>" * 20_000).replace(
        b"</w:body>", b"</w:p>" * 20_000 + b"</w:body>"
    )
    item = one(tmp_path / "e.docx", archive(members | {"word/document.xml": deep}))
    assert isinstance(item, Document) or item.reason in ("damaged", "no text")


# Books

CONTAINER = b"""<?xml version="1.0"?><container xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
<rootfiles><rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles>
</container>"""
PACKAGE = b"""<?xml version="1.0"?><package xmlns="http://www.idpf.org/2007/opf" version="3.0"><manifest>
<item id="b" href="second%20one.xhtml" media-type="application/xhtml+xml"/>
<item id="a" href="text/first.xhtml" media-type="application/xhtml+xml"/>
<item id="i" href="cover.png" media-type="image/png"/></manifest>
<spine><itemref idref="i"/><itemref idref="a"/><itemref idref="b"/><itemref idref="gone"/></spine>
</package>"""
BOOK = {
    "mimetype": b"application/epub+zip",
    "META-INF/container.xml": CONTAINER,
    "OEBPS/book.opf": PACKAGE,
    "OEBPS/second one.xhtml": b"<html><body><h1>Two</h1><p>The end of <i>it</i>.</p></body></html>",
    "OEBPS/text/first.xhtml": "<?xml version='1.0' encoding='utf-8'?><html xmlns='http://www.w3.org/1999/xhtml'><head>"
    "<title>no</title></head><body><h1>One</h1><p>The caf\u00e9 opens.</p></body></html>".encode(),
    "OEBPS/cover.png": b"\x89PNG",
}


def test_the_chapters_of_a_book_in_reading_order(tmp_path: Path) -> None:
    item = one(tmp_path / "a.epub", archive(BOOK))
    assert item == Document("a.epub", "a.epub", "One\n\nThe café opens.\n\nTwo\n\nThe end of it.", "epub")


def test_hostile_books_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.epub"
    encryption = b"""<encryption xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><EncryptedData
    xmlns="http://www.w3.org/2001/04/xmlenc#"><CipherData>
    <CipherReference URI="OEBPS/text/first.xhtml"/></CipherData>
    </EncryptedData></encryption>"""
    locked = BOOK | {"META-INF/encryption.xml": encryption}
    assert reason(one(path, archive(locked))) == "encrypted"
    fonts = BOOK | {
        "META-INF/encryption.xml": encryption.replace(b"OEBPS/text/first.xhtml", b"OEBPS/font.otf")
    }
    assert text(one(path, archive(fonts))).startswith("One")
    for broken in (
        {"META-INF/container.xml": b"<container/>"},
        {"META-INF/container.xml": b"nonsense"},
        {"META-INF/container.xml": billion_laughs("container", "&e9;")},
        {"OEBPS/book.opf": PACKAGE.replace(b"first", b"../../../etc/passwd")},
        {"OEBPS/book.opf": b"<a>" * 50_000},
    ):
        assert reason(one(path, archive(BOOK | broken))) == "damaged", broken
    assert (
        reason(one(path, archive(BOOK | {"OEBPS/text/first.xhtml": b"<?xml encoding='utf-8'?>\xff"})))
        == "encoding"
    )
    assert reason(one(path, archive(BOOK | {"x": bytes(30_000_000)}))) == "zip bomb"
    assert reason(one(path, archive(BOOK), max_unpacked_bytes=500)) == "zip bomb"
    assert reason(one(path, archive(BOOK), max_document_bytes=100)) == "too large"
    empty = dict.fromkeys(("OEBPS/text/first.xhtml", "OEBPS/second one.xhtml"), b"<html/>")
    assert reason(one(path, archive(BOOK | empty))) == "no text"
    laughing = billion_laughs("html", "<body>&e9;</body>")
    item = one(path, archive(BOOK | {"OEBPS/text/first.xhtml": laughing}))
    assert len(text(item)) < 2000
