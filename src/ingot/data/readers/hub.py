"""Data sets of the Hugging Face hub, streamed: `hf://owner/name?config=...&split=train&text=text&revision=...`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl, urlencode, urlsplit

from ingot.data.document import Document, Dropped
from ingot.data.readers.guard import missing
from ingot.data.readers.reading import Reading
from ingot.data.readers.source import Source, first_line
from ingot.errors import DataError, ResourceError, did_you_mean

_OPTIONS = ("config", "split", "text", "revision")


@dataclass(frozen=True)
class _Asked:
    name: str
    config: str | None = None
    split: str = "train"
    text: str | None = None
    revision: str | None = None


def open_hub(url: str) -> Source:
    """Makes the source for a data set of the hub, pinned to the revision that it has now.

    Raises:
        DataError: the address is not of the form hf://owner/name?split=train&text=text.
        ResourceError: the hub cannot be reached, or gives no such data set.
    """
    import huggingface_hub

    asked = _asked(url)
    try:
        info = huggingface_hub.HfApi().dataset_info(asked.name, revision=asked.revision)
    except Exception as error:  # of any HTTP library, and of the hub's own
        raise _refusal(url, error) from None
    options = {"config": asked.config, "split": asked.split, "text": asked.text, "revision": info.sha}
    pinned = urlencode({key: value for key, value in options.items() if value is not None})
    licence = getattr(info.card_data, "license", None)
    name = ":".join(part for part in (asked.name, asked.config, asked.split) if part)
    return Source(
        Path("hf:", asked.name),
        name,
        licence if isinstance(licence, str) and licence not in ("other", "unknown") else None,
        f"hf://{asked.name}?{pinned}",
    )


def read_hub(source: Source, reading: Reading) -> Iterator[Document | Dropped]:
    """Reads a data set row by row, without keeping it; ids are `name:row`.

    No code of the data set is run: those that need their own script are refused by the library.

    Raises:
        DataError: no such column.
        ResourceError: `datasets` is not installed, or the hub does not give the rows.
    """
    try:
        import datasets
    except ImportError:
        raise missing("datasets", source.name) from None
    url = source.url or ""
    asked = _asked(url)
    try:
        rows = iter(
            datasets.load_dataset(
                asked.name, asked.config, split=asked.split, revision=asked.revision, streaming=True
            )
        )
    except Exception as error:
        raise _refusal(url, error) from None
    number = 0
    while True:
        number += 1
        try:
            row = next(rows, None)
        except Exception as error:
            raise _refusal(f"{url}, row {number:,}", error) from None
        if row is None:
            return
        key = asked.text or next((key for key in reading.text_keys if key in row), None)
        if key not in row:
            what = f"no column '{key}'" if key else "no column of texts"
            raise DataError(what, where=url, fix=f"name it with text=...; there are {', '.join(row)}")
        id, text = f"{source.name}:{number}", row[key]
        if isinstance(text, str):
            yield Document(id, source.name, text, "text", source.licence)
        else:
            yield Dropped(id, "bad line", f"no text under {key}")


def _asked(url: str) -> _Asked:
    parts = urlsplit(url)
    name = f"{parts.netloc}{parts.path}".strip("/")
    options = dict(parse_qsl(parts.query))
    fix = "write hf://owner/name?split=train&text=text"
    if name.count("/") > 1 or not name:
        raise DataError(f"'{name}' is no data set's name", where=url, fix=fix)
    for key in options:
        if key not in _OPTIONS:
            raise DataError(f"unknown option '{key}'", where=url, fix=did_you_mean(key, _OPTIONS))
    return _Asked(name, **options)


def _refusal(where: str, error: Exception) -> ResourceError:
    what = f"the hub does not give it ({type(error).__name__}: {first_line(error)})"
    return ResourceError(
        what, where=where, fix="check the name and the network, or give a folder that you have"
    )
