"""Reading archives: WARC and WET, Wikipedia's dumps, mail."""

from __future__ import annotations

import bz2
import gzip
import io
import mailbox
import zlib
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingot.data.document import Document, Dropped
from ingot.data.readers.wikitext import plain_text
from ingot.data.sources import Reading, Source, read

pytest.importorskip("warcio")
pytest.importorskip("trafilatura")

Item = Document | Dropped


def items(path: Path, **settings: Any) -> list[Item]:
    return list(read(Source(path, path.name), Reading(**settings)))


def good(found: list[Item]) -> dict[str, str]:
    return {item.id: item.text for item in found if isinstance(item, Document)}


def bad(found: list[Item]) -> dict[str, str]:
    return {item.path: item.reason for item in found if isinstance(item, Dropped)}


# Web archives

SENTENCES = [f"Paragraph {index} tells of a river that runs under an old stone bridge." for index in range(6)]
PAGE = "<html><head><title>R</title></head><body><article>{}</article></body></html>".format(
    "".join(f"<p>{one}</p>" for one in SENTENCES)
)
HTML = [("Content-Type", "text/html; charset=utf-8")]


def warc(
    records: list[tuple[str, str, bytes, str, list[tuple[str, str]] | None]], packed: bool = True
) -> bytes:
    """An archive of (type, URL, body, status line, headers of HTTP) records, written by warcio."""
    from warcio.statusandheaders import StatusAndHeaders
    from warcio.warcwriter import WARCWriter

    sink = io.BytesIO()
    writer = WARCWriter(sink, gzip=packed)
    writer.write_record(writer.create_warcinfo_record("a.warc.gz", {"software": "test"}))
    for kind, url, body, status, headers in records:
        http = None if headers is None else StatusAndHeaders(status, headers, protocol="HTTP/1.1")
        more = {} if http else {"warc_content_type": "text/plain"}
        writer.write_record(
            writer.create_warc_record(url, kind, payload=io.BytesIO(body), http_headers=http, **more)
        )
    return sink.getvalue()


@pytest.mark.parametrize("packed", [True, False])
def test_pages_of_an_archive(tmp_path: Path, packed: bool) -> None:
    latin = PAGE.replace("bridge", "pont du café").encode("cp1252")
    squeezed = gzip.compress(PAGE.replace("stone", "iron").encode())
    content = warc(
        [
            ("request", "http://a.org/", b"", "GET / HTTP/1.1", [("Host", "a.org")]),
            ("response", "http://a.org/", PAGE.encode(), "200 OK", HTML),
            (
                "response",
                "http://a.org/latin",
                latin,
                "200 OK",
                [("Content-Type", "text/html; charset=ISO-8859-1")],
            ),
            ("response", "http://a.org/gone", b"", "404 Not Found", HTML),
            ("response", "http://a.org/i.png", b"\x89PNG", "200 OK", [("Content-Type", "image/png")]),
            ("response", "http://a.org/lie", latin, "200 OK", HTML),
            ("response", "http://a.org/gz", squeezed, "200 OK", [*HTML, ("Content-Encoding", "gzip")]),
            ("response", "http://a.org/empty", b"<html></html>", "200 OK", HTML),
        ],
        packed,
    )
    path = tmp_path / ("a.warc.gz" if packed else "a.warc")
    path.write_bytes(content)
    found = items(path)
    name, text = path.name, "\n".join(SENTENCES)
    assert good(found) == {
        f"{name}:1:http://a.org/": text,
        f"{name}:2:http://a.org/latin": text.replace("bridge", "pont du café"),
        f"{name}:6:http://a.org/gz": text.replace("stone", "iron"),
    }
    assert bad(found) == {
        f"{name}:3:http://a.org/gone": "status",
        f"{name}:4:http://a.org/i.png": "not text",
        f"{name}:5:http://a.org/lie": "encoding",
        f"{name}:7:http://a.org/empty": "no text",
    }
    assert {item.kind for item in found if isinstance(item, Document)} == {"web"}


def test_texts_of_a_wet_file(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.wet.gz"
    texts = {f"http://a.org/{index}": f"Text number {index}.\nWith é." for index in range(5)}
    path.write_bytes(warc([("conversion", url, text.encode(), "", None) for url, text in texts.items()]))
    found = items(path)
    assert [item.text for item in found if isinstance(item, Document)] == list(texts.values())
    assert list(good(found))[2] == "a.warc.wet.gz:3:http://a.org/2"


def test_hostile_archives_are_named(tmp_path: Path) -> None:
    path = tmp_path / "a.warc.gz"
    whole = warc(
        [("response", f"http://a.org/{index}", PAGE.encode(), "200 OK", HTML) for index in range(20)]
    )
    path.write_bytes(whole[: len(whole) // 2])
    *documents, last = items(path)
    assert 3 < len(documents) < 12
    assert all(isinstance(item, Document) for item in documents)
    assert isinstance(last, Dropped) and last.reason == "damaged"
    bomb = zlib.compress(bytes(30_000_000))
    headers = [*HTML, ("Content-Encoding", "deflate")]
    path.write_bytes(warc([("response", "http://a.org/", bomb, "200 OK", headers)] * 2))
    assert list(bad(items(path, max_document_bytes=1_000_000)).values()) == ["too large"] * 2
    for content in (b"no archive at all\r\n\r\n", gzip.compress(b"WARC/1.0\r\nContent-Length: x\r\n\r\n")):
        path.write_bytes(content)
        assert list(bad(items(path)).values()) == ["damaged"], content
    path = tmp_path / "a.warc"
    texts = [("conversion", f"http://a.org/{index}", b"words " * 100, "", None) for index in range(20)]
    path.write_bytes(warc(texts, packed=False)[:-300])
    found = items(path)
    assert len(good(found)) == 19
    assert list(bad(found).values()) == ["damaged"]
    path.write_bytes(b"no archive at all\r\n\r\n")
    assert list(bad(items(path)).values()) == ["damaged"]


# Wikipedia

PAGES = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="en">
<siteinfo><sitename>Wikipedia</sitename><base>https://en.wikipedia.org/wiki/Main_Page</base></siteinfo>
<page><title>Oak</title><ns>0</ns><id>1</id><revision><id>9</id><text xml:space="preserve">{{Infobox
| name = Oak
}}
'''Oak''' is a [[tree|large tree]] of the genus ''[[Quercus]]''.&lt;ref&gt;A book&lt;/ref&gt;

== Wood ==
* hard
* &quot;heavy&quot; &amp;amp; old
[[Category:Trees]]</text></revision></page>
<page><title>Oaks</title><ns>0</ns><id>2</id><redirect title="Oak" />
<revision><text>#REDIRECT [[Oak]]</text></revision></page>
<page><title>Talk:Oak</title><ns>1</ns><id>3</id><revision><text>chat</text></revision></page>
<page><title>Empty</title><ns>0</ns><id>4</id><revision><text>{{stub}}</text></revision></page>
<page><title>Elm &amp; Ash</title><ns>0</ns><id>5</id><revision><text>Two trees.</text></revision></page>
</mediawiki>
"""


@pytest.mark.parametrize(
    ("name", "pack"), [("w.xml.bz2", bz2.compress), ("w.xml", bytes), ("w.xml.gz", gzip.compress)]
)
def test_articles_of_a_dump(tmp_path: Path, name: str, pack: Any) -> None:
    pytest.importorskip("lxml")
    path = tmp_path / name
    path.write_bytes(pack(PAGES.encode()))
    found = items(path)
    assert good(found) == {
        f"{name}:Oak": 'Oak\n\nOak is a large tree of the genus Quercus.\n\nWood\n\nhard\n"heavy" & old',
        f"{name}:Elm & Ash": "Elm & Ash\n\nTwo trees.",
    }
    assert bad(found) == {
        f"{name}:Oaks": "redirect",
        f"{name}:Talk:Oak": "namespace",
        f"{name}:Empty": "no text",
    }
    assert {(item.kind, item.licence) for item in found if isinstance(item, Document)} == {
        ("wiki", "CC-BY-SA-4.0")
    }


def test_hostile_dumps_are_named(tmp_path: Path) -> None:
    path = tmp_path / "w.xml"
    entities = "".join(f'<!ENTITY e{level} "{f"&e{level - 1};" * 10}">' for level in range(1, 10))
    page = "<page><title>A</title><ns>0</ns><revision><text>{}</text></revision></page>"
    laughing = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY e0 "ha">{entities}]>'
    path.write_text(f"{laughing}<mediawiki>{page.format('&e9;')}</mediawiki>")
    assert bad(items(path)) == {"w.xml": "damaged"}
    outside = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
    path.write_text(f"{outside}<mediawiki>{page.format('see &e;.')}</mediawiki>")
    assert "root:" not in str(items(path))
    path.write_text("<mediawiki>" + "<a>" * 100_000)
    assert bad(items(path)) == {"w.xml": "damaged"}
    path.write_text("<rss><item>news</item></rss>")
    assert bad(items(path)) == {"w.xml": "no text"}
    packed = tmp_path / "w.xml.bz2"
    many = "<mediawiki>" + "".join(
        f"<page><title>A{n}</title><ns>0</ns><revision><text>Text {hash(str(n))}.</text></revision></page>"
        for n in range(30_000)
    )
    packed.write_bytes(bz2.compress(many.encode())[:-100_000])
    *documents, last = items(packed)
    assert len(documents) > 1000
    assert isinstance(last, Dropped) and last.reason == "damaged"


WIKITEXT = {
    "[http://a.org/x?y a page] and [[File:a.png|thumb|left|A [[link]] inside]]text": "a page and text",
    "{{lang|fr|''bonjour''}} {{convert|5|km|mi}} {{cite|a=[[b|c]]}}end": "bonjour 5 km end",
    "a {| class=x\n|-\n| cell {{t|{{u}}}}\n|}b": "a b",
    "<!-- no -->x<ref name=a />y<ref>{{cite}}</ref>z<br/>w<math>x</math>": "xyz\nw",
    "text <ref>never closed": "text never closed",
    "=== Head ===\n# one\n#* two\n----\n: three": "Head\n\none\ntwo\n\nthree",
    "[[de:Eiche]][[:Category:Trees]] [[a b_c]] [[x|]]": "Category:Trees a b c",
    "{{open [[x|y]] and": "",
    "'''''a''''' it's '' b": "a it's b",
    "Paris ({{IPA|x}}) is old.": "Paris is old.",
}


@pytest.mark.parametrize(("markup", "expected"), WIKITEXT.items())
def test_wikitext_is_what_a_reader_sees(markup: str, expected: str) -> None:
    assert plain_text(markup) == expected


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.sampled_from(["{{", "}}", "[[", "]]", "{|", "|}", "|", "a", " ", "\n", "=", "<ref>", "</ref>"])
    )
)
def test_any_markup_comes_to_an_end(pieces: list[str]) -> None:
    text = plain_text("".join(pieces))
    assert not any(mark in text for mark in ("{{", "[[", "<ref>"))


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "piece",
    [
        "{{",
        "[[",
        "{|",
        "<ref>",
        "<!--",
        "[//a",
        "= ",
        "[[a|",
        "{{a|[[",
        "<ref>[[",
        "'",
        "(",
        "<br",
        " ",
        "\t=",
    ],
)
def test_the_work_grows_with_the_length_only(piece: str) -> None:
    """A quadratic pass would take longer than any test may."""
    text = plain_text(piece * (2_000_000 // len(piece)))
    assert len(text) <= 2_000_000


# Mail


def message(subject: str, body: str, page: str | None = None, attachment: str | None = None) -> EmailMessage:
    made = EmailMessage()
    made["From"], made["To"], made["Subject"] = "someone@example.org", "list@example.org", subject
    made.set_content(body)
    if page is not None:
        made.add_alternative(page, subtype="html")
    if attachment is not None:
        made.add_attachment(attachment, filename="notes.txt")
    return made


def test_messages_of_an_archive(tmp_path: Path) -> None:
    path = tmp_path / "list.mbox"
    box = mailbox.mbox(str(path))
    page = EmailMessage()
    page["Subject"] = "Page"
    page.set_content("<p>Only <b>HTML</b></p>", subtype="html")
    empty = EmailMessage()
    empty["Subject"] = "Picture"
    empty.set_content(b"png", maintype="image", subtype="png")
    for one in (
        message("Grüße", "Hello,\n\nFrom here on é.\n"),
        message("Two", "plain", page="<p>rich</p>", attachment="not this"),
        page,
        empty,
    ):
        box.add(one)
    box.flush()
    found = items(path)
    assert good(found) == {
        "list.mbox:1": "Subject: Grüße\n\nHello,\n\nFrom here on é.",
        "list.mbox:2": "Subject: Two\n\nplain",
        "list.mbox:3": "Subject: Page\n\nOnly HTML",
    }
    assert bad(found) == {"list.mbox:4": "no text"}
    assert "example.org" not in str(good(found))
    single = tmp_path / "one.eml"
    single.write_bytes(message("Alone", "One message.").as_bytes())
    assert good(items(single)) == {"one.eml": "Subject: Alone\n\nOne message."}


def test_bad_mail_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.mbox"
    head = b"From someone Thu Jan  1 00:00:00 2024\n"
    lying = (
        b"Subject: x\nContent-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\ncaf\xe9\n\n"
    )
    unknown = b"Subject: x\nContent-Type: text/plain; charset=nonsense\n\nx\n\n"
    fine = b"Subject: y\n\nfine\n\n"
    large = b"Subject: z\n\n" + b"x" * 5000 + b"\n\n"
    path.write_bytes(head + lying + head + unknown + head + large + head + fine)
    found = items(path, max_document_bytes=1000)
    assert good(found) == {"a.mbox:4": "Subject: y\n\nfine"}
    assert bad(found) == {"a.mbox:1": "encoding", "a.mbox:2": "encoding", "a.mbox:3": "too large"}
    path.write_bytes(b"no mail")
    assert bad(items(path)) == {"a.mbox": "damaged"}
    path.write_bytes(b"")
    assert items(path) == []


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_mail_or_named(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.mbox"
    path.write_bytes(b"From x\nContent-Type: multipart/mixed; boundary=a\n" + content)
    for item in items(path):
        assert isinstance(item, Document) or item.reason in ("no text", "encoding", "damaged", "binary")
