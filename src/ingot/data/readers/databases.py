"""Databases: one document per row of a table or a query; SQLite by itself, others by SQLAlchemy.

    sqlite:///posts.db?table=posts&text=body        a column of a table
    sqlite:////srv/posts.db?query=SELECT+body+FROM+posts+WHERE+score>3
    postgresql://reader@host/forum?table=posts&text=body

`text` may be left out where the column has one of the usual names, `table` where every table is wanted.
Everything else after the question mark is the driver's.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from ingot.data.document import Document, Dropped
from ingot.data.readers.guard import missing
from ingot.data.readers.reading import Reading
from ingot.data.readers.source import Refused, Source, first_line
from ingot.data.readers.tables import text_column
from ingot.errors import DataError

if TYPE_CHECKING:
    import sqlalchemy

_OURS = ("table", "text", "query")
_ROWS = 1000


@dataclass(frozen=True)
class _Asked:
    """What a URL asks for: the database, and table, column or query."""

    database: str
    table: str | None = None
    text: str | None = None
    query: str | None = None


def open_database(url: str) -> Source:
    """Makes the source for a database URL.

    Raises:
        DataError: no such file, or a URL that asks for a table and a query at once.
    """
    asked = _asked(url)
    if asked.query and (asked.table or asked.text):
        fix = "name a table (and its text column), or write a query"
        raise DataError("asks for a table and a query", where=_masked(url), fix=fix)
    parts = urlsplit(url)
    if parts.scheme != "sqlite":
        place = Path(parts.scheme, parts.hostname or "", parts.path.strip("/"))
        return Source(place, f"{place.name}:{asked.table or 'query'}", url=url)
    path = Path(asked.database)
    if not path.is_file():
        fix = "write sqlite:///relative/path.db or sqlite:////absolute/path.db"
        raise DataError("no such file", where=path, fix=fix)
    return Source(path, path.name, url=url)


def read_database(source: Source, reading: Reading) -> Iterator[Document | Dropped]:
    """Reads the rows that a source's URL asks for, or all tables of an SQLite file; ids are `name:table:row`.

    Raises:
        Refused: damaged, no SQLite file, or without a column of texts.
        DataError: no such table or column, or a query that the database does not take.
        ResourceError: SQLAlchemy, which other databases need, is not installed.
    """
    url = source.url
    if url is None or urlsplit(url).scheme == "sqlite":
        asked = _Asked(str(source.path)) if url is None else _asked(url)
        yield from _read_sqlite(asked, source, reading)
    else:
        yield from _read_other(_asked(url), source, reading)


def _asked(url: str) -> _Asked:
    parts = urlsplit(url)
    options = parse_qsl(parts.query, keep_blank_values=True)
    ours = {key: value for key, value in options if key in _OURS and value}
    rest = urlencode([(key, value) for key, value in options if key not in _OURS])
    if parts.scheme == "sqlite":
        return _Asked(parts.path.removeprefix("/"), **ours)
    head = url.partition("?")[0]
    return _Asked(f"{head}?{rest}" if rest else head, **ours)


def _masked(url: str) -> str:
    """The URL without its password, for messages."""
    parts = urlsplit(url)
    return url if parts.password is None else url.replace(f":{parts.password}@", ":***@", 1)


# SQLite


def _read_sqlite(asked: _Asked, source: Source, reading: Reading) -> Iterator[Document | Dropped]:
    os.stat(source.path)  # a file that is gone is the system's error
    address = f"file:{quote(str(Path(asked.database).absolute()))}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True)) as base:
            base.text_factory = bytes  # decoded here, so that one bad text does not end the table
            base.execute("PRAGMA trusted_schema = OFF")
            base.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, reading.max_document_bytes)
            if asked.query is not None:
                yield from _query(base, asked.query, source)
            else:
                yield from _tables(base, asked, source, reading)
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # even its words may be damaged
        raise Refused("damaged", f"SQLite: {first_line(error)}") from None


def _query(base: sqlite3.Connection, query: str, source: Source) -> Iterator[Document | Dropped]:
    try:
        rows = base.execute(query)
    except (sqlite3.OperationalError, sqlite3.ProgrammingError) as error:
        fix = "the first column of its rows is taken as the text"
        raise DataError(f"the query fails ({error})", where=source.name, fix=fix) from None
    values = ((None, row[0]) for row in rows)
    yield from _documents(values, "query", source)


def _tables(
    base: sqlite3.Connection, asked: _Asked, source: Source, reading: Reading
) -> Iterator[Document | Dropped]:
    found = base.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    names = sorted(name.decode("utf-8", "replace") for (name,) in found)
    if asked.table is not None and asked.table not in names:
        raise _unknown("table", asked.table, source, names)
    if not names:
        raise Refused("no text", "a database without tables")
    for table in names if asked.table is None else [asked.table]:
        info = base.execute("SELECT name FROM pragma_table_info(?)", (table,))
        columns = [name.decode("utf-8", "replace") for (name,) in info]
        try:
            column = _column(columns, asked, source, reading)
        except Refused as refused:
            yield Dropped(f"{source.name}:{table}", refused.reason, refused.detail)
            continue
        # NOT INDEXED keeps the order of the table itself, which is the same each time.
        text, place = _quoted(column), _quoted(table)
        rows = base.execute(f"SELECT typeof({text}), {text} FROM {place} NOT INDEXED")
        yield from _documents(rows, table, source)


def _column(columns: list[str], asked: _Asked, source: Source, reading: Reading) -> str:
    if asked.text is None:
        return text_column(columns, reading)
    if asked.text not in columns:
        raise _unknown("column", asked.text, source, columns)
    return asked.text


def _unknown(what: str, name: str, source: Source, known: Iterable[str]) -> DataError:
    return DataError(f"no {what} '{name}'", where=source.name, fix=f"it has {', '.join(known) or 'none'}")


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _documents(rows: Iterable[tuple[Any, Any]], table: str, source: Source) -> Iterator[Document | Dropped]:
    """Documents of (type, value) rows; the type is None where the database does not say it."""
    for number, (kind, value) in enumerate(rows, start=1):
        id = f"{source.name}:{table}:{number}"
        if kind not in (None, b"text") or not isinstance(value, (str, bytes)):
            yield Dropped(id, "bad line", f"no text but {kind.decode() if kind else type(value).__name__}")
            continue
        try:
            text = value.decode("utf-8") if isinstance(value, bytes) else value
        except UnicodeDecodeError as error:
            yield Dropped(id, "encoding", f"not utf-8 ({error})")
        else:
            yield Document(id, source.name, text, "text", source.licence)


# Others


def _read_other(asked: _Asked, source: Source, reading: Reading) -> Iterator[Document | Dropped]:
    try:
        import sqlalchemy
        import sqlalchemy.exc
    except ImportError:
        raise missing("SQLAlchemy", source.name) from None
    where = _masked(asked.database)
    try:
        engine = sqlalchemy.create_engine(asked.database)
        with engine.connect().execution_options(stream_results=True, yield_per=_ROWS) as base:
            queries: Mapping[str, sqlalchemy.Executable]
            if asked.query is not None:
                queries = {"query": sqlalchemy.text(asked.query)}
            else:
                queries = _selects(base, asked, source, reading)
            for table, query in queries.items():
                values = ((None, row[0]) for row in base.execute(query))
                yield from _documents(values, table, source)
    except ImportError as error:
        raise missing(error.name or "of the database's driver", where) from None
    except sqlalchemy.exc.SQLAlchemyError as error:
        what = f"the database refuses ({type(error).__name__}: {first_line(error)})"
        raise DataError(what, where=where, fix="check the address, the names and your rights") from None


def _selects(
    base: sqlalchemy.Connection, asked: _Asked, source: Source, reading: Reading
) -> dict[str, sqlalchemy.Select[Any]]:
    """A query per table, in the order of its primary key, so that it is the same each time."""
    import sqlalchemy

    inspector = sqlalchemy.inspect(base)
    names = sorted(inspector.get_table_names())
    if asked.table is not None and asked.table not in names:
        raise _unknown("table", asked.table, source, names)
    queries = {}
    for name in names if asked.table is None else [asked.table]:
        table = sqlalchemy.Table(name, sqlalchemy.MetaData(), autoload_with=base)
        column = _column([column.name for column in table.columns], asked, source, reading)
        queries[name] = sqlalchemy.select(table.c[column]).order_by(*table.primary_key.columns)
    return queries
