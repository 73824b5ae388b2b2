"""Public corpora by name: where they are, under which licence, how large; opened as `name@`.

Sizes are of the download, in bytes, rounded as their pages give them. Licences are what those pages say of
the collection; of texts gathered on the web, the rights of their authors remain.
"""

from __future__ import annotations

from dataclasses import dataclass

from ingot.errors import DataError, did_you_mean


@dataclass(frozen=True)
class Entry:
    """One public corpus.

    Args:
        name: what to call it.
        what: what it holds, in one line.
        place: a URL, an `hf://` address or a generator; None where nobody distributes it.
        licence: an SPDX name, or what its page says; None where it says nothing.
        size: bytes of the download, about; None is unknown.
        note: what to know before using it.
    """

    name: str
    what: str
    place: str | None
    licence: str | None
    size: int | None
    note: str = ""

    def place_to_open(self) -> str:
        """Returns the place, for `open_place`.

        Raises:
            DataError: it is not distributed any more.
        """
        if self.place is None:
            raise DataError(f"'{self.name}' cannot be downloaded", where="catalogue", fix=self.note)
        return self.place


_GB = 10**9
_MB = 10**6

ENTRIES = (
    Entry(
        "stories",
        "synthetic short stories in simple words, made on this machine: a stand-in for TinyStories",
        "stories://made?count=20000&seed=0",
        "CC0-1.0",
        0,
        "needs no network; for trying things out, not for its literary merit",
    ),
    Entry(
        "tinyshakespeare",
        "40,000 lines of Shakespeare's plays, one file",
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
        "#sha256=86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
        "public domain",
        1_115_394,
    ),
    Entry(
        "tinystories",
        "2 million short stories in the words of a small child, written by large language models",
        "hf://roneneldan/TinyStories?split=train&text=text",
        "CDLA-Sharing-1.0",
        1 * _GB,
        "offline, stories@ stands in for it",
    ),
    Entry(
        "wikitext-2",
        "good and featured articles of the English Wikipedia, 2 million words",
        "hf://Salesforce/wikitext?config=wikitext-2-raw-v1&split=train&text=text",
        "CC-BY-SA-3.0",
        8 * _MB,
        "its rows are lines of articles, not articles",
    ),
    Entry(
        "wikitext-103",
        "good and featured articles of the English Wikipedia, 103 million words",
        "hf://Salesforce/wikitext?config=wikitext-103-raw-v1&split=train&text=text",
        "CC-BY-SA-3.0",
        310 * _MB,
        "its rows are lines of articles, not articles",
    ),
    Entry(
        "wikipedia-en",
        "the English Wikipedia of November 2023 as plain text, 6.4 million articles",
        "hf://wikimedia/wikipedia?config=20231101.en&split=train&text=text",
        "CC-BY-SA-3.0",
        11_600 * _MB,
        "other languages: hf://wikimedia/wikipedia?config=20231101.de and so on",
    ),
    Entry(
        "wikipedia-simple",
        "the newest dump of the Wikipedia in simple English",
        "https://dumps.wikimedia.org/simplewiki/latest/simplewiki-latest-pages-articles.xml.bz2",
        "CC-BY-SA-4.0",
        350 * _MB,
        "a new dump every month, so no checksum is stated here",
    ),
    Entry(
        "fineweb-edu-10bt",
        "educational web pages, a sample of 10 billion tokens",
        "hf://HuggingFaceFW/fineweb-edu?config=sample-10BT&split=train&text=text",
        "ODC-By-1.0",
        28 * _GB,
    ),
    Entry(
        "fineweb-edu-100bt",
        "educational web pages, a sample of 100 billion tokens",
        "hf://HuggingFaceFW/fineweb-edu?config=sample-100BT&split=train&text=text",
        "ODC-By-1.0",
        280 * _GB,
    ),
    Entry(
        "fineweb-10bt",
        "filtered web pages of Common Crawl, a sample of 10 billion tokens",
        "hf://HuggingFaceFW/fineweb?config=sample-10BT&split=train&text=text",
        "ODC-By-1.0",
        28 * _GB,
    ),
    Entry(
        "openwebtext",
        "8 million web pages that Reddit linked to, made after GPT-2's corpus",
        "hf://Skylion007/openwebtext?split=train&text=text",
        "CC0-1.0",
        13_500 * _MB,
        "CC0 is said of the collection only",
    ),
    Entry(
        "c4",
        "the Colossal Clean Crawled Corpus, English, 365 million web pages",
        "hf://allenai/c4?config=en&split=train&text=text",
        "ODC-By-1.0",
        305 * _GB,
    ),
    Entry(
        "c4-news",
        "the part of C4 that is like news articles",
        "hf://allenai/c4?config=realnewslike&split=train&text=text",
        "ODC-By-1.0",
        15 * _GB,
    ),
    Entry(
        "pile",
        "825 GiB of 22 English collections (EleutherAI, 2020)",
        None,
        None,
        None,
        "its host took it down in 2023 over books under copyright; pile-uncopyrighted@ is what is left",
    ),
    Entry(
        "pile-uncopyrighted",
        "the Pile without its collections of books, subtitles and web pages whose use was not allowed",
        "hf://monology/pile-uncopyrighted?split=train&text=text",
        None,
        330 * _GB,
        "a copy by a third party, which says what it left out and why",
    ),
    Entry(
        "oscar",
        "web pages of Common Crawl in 151 languages (OSCAR 23.01)",
        "hf://oscar-corpus/OSCAR-2301?config=en&split=train&text=content",
        "CC0-1.0",
        None,
        "gated: ask for access on its page, then `hf auth login`; CC0 is said of the packaging only",
    ),
    Entry(
        "txt360",
        "99 crawls and 14 curated collections, deduplicated together: 5 trillion tokens",
        "hf://LLM360/TxT360?split=train&text=text",
        "ODC-By-1.0",
        None,
        "many terabytes: stream a sample with max_documents",
    ),
)
"""All entries."""

CATALOGUE = {entry.name: entry for entry in ENTRIES}
"""The same, by name."""


def look_up(name: str) -> Entry:
    """Returns an entry by its name, without the '@'.

    Raises:
        DataError: no such name; names the nearest.

    Example:
        >>> look_up("tinyshakespeare").size
        1115394
    """
    if name not in CATALOGUE:
        raise DataError(f"no corpus '{name}@'", where="catalogue", fix=did_you_mean(name, CATALOGUE))
    return CATALOGUE[name]
