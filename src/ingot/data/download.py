"""Downloads over http(s): resumed where they broke off, tried again with growing pauses, checked by sha256.

    cache/<hash of the URL>/<name>             the file, whole
    cache/<hash of the URL>/<name>.part        a download under way
    cache/<hash of the URL>/origin.json        url, sha256, bytes, validator: what it was when it came

Nothing is fetched twice: a file that is there is used without the network.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

from ingot.atomic import write_atomic
from ingot.errors import DataError, ResourceError
from ingot.lock import lock
from ingot.progress import Progress, Task

ORIGIN = "origin.json"

_BLOCK = 2**18
_TRIES = 6
_LONGEST_PAUSE = 60.0
_TIMEOUT = 60.0
_AGAIN = {408, 425, 429, 500, 502, 503, 504}
_CHECKSUM = re.compile(r"sha256=([0-9a-fA-F]{64})")


def cache_folder() -> Path:
    """Returns where downloads are kept: `ingot` in the user's cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ingot"


def download(
    url: str,
    cache: Path | None = None,
    progress: Progress | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Path:
    """Fetches a file, or finds it where an earlier call left it.

    Args:
        url: http or https; `#sha256=...` at its end is what the content must hash to.
        cache: where to keep it; None is `cache_folder()`.
        progress: is told how far it is.
        sleep: waits between tries.

    Returns:
        The whole file, under the name that it has in the URL.

    Raises:
        DataError: no such URL, no file there, or content of another hash.
        ResourceError: the network or the server fails again and again, or the disk is too small.
        BusyError: another process is fetching the same file.

    Example:
        >>> download("https://example.org/corpus.jsonl.zst#sha256=...")    # doctest: +SKIP
    """
    address, fragment = urldefrag(url)
    expected = _checksum(url, fragment)
    folder = (cache or cache_folder()) / hashlib.sha256(address.encode("utf-8")).hexdigest()[:16]
    target = folder / _name(address)
    origin = _origin(folder)
    if origin is not None and target.is_file() and target.stat().st_size == origin["bytes"]:
        _compare(origin["sha256"], expected, address)
        return target
    folder.mkdir(parents=True, exist_ok=True)
    with lock(folder), (progress or Progress()).task(f"downloading {target.name}", unit="MB") as task:
        fetch = _Fetch(address, target.with_name(target.name + ".part"), folder / (ORIGIN + ".part"), task)
        _with_patience(fetch, sleep)
        found = _hash(fetch.part)
        size = fetch.part.stat().st_size
        try:
            _compare(found, expected, address)
        except DataError:
            fetch.forget()  # whatever it is, going on from it cannot help
            raise
        os.replace(fetch.part, target)
        note = {"url": address, "sha256": found, "bytes": size, "validator": fetch.validator}
        write_atomic(folder / ORIGIN, json.dumps(note, indent=2) + "\n")
        fetch.forget()
    return target


@dataclass
class _Fetch:
    """One file on its way: what is there already, and what proves that the rest belongs to it."""

    address: str
    part: Path
    note: Path
    task: Task
    validator: str | None = None

    def go_on(self) -> None:
        """Fetches what is missing.

        Raises:
            OSError, http.client.HTTPException: the connection fails; what has come is kept.
        """
        have = self.part.stat().st_size if self.part.exists() else 0
        validator = self.note.read_text(encoding="utf-8") if self.note.exists() else None
        request = urllib.request.Request(self.address)
        request.add_header("User-Agent", "ingot")
        request.add_header("Accept-Encoding", "identity")  # the bytes themselves, so that ranges fit
        if have and validator:
            request.add_header("Range", f"bytes={have}-")
            request.add_header("If-Range", validator)
        try:
            answer = _opener().open(request, timeout=_TIMEOUT)
        except urllib.error.HTTPError as error:
            if error.code == 416:  # what is there is not a beginning of what the server has
                self.forget()
                raise ConnectionError("the file has changed on the server") from None
            raise
        with answer:
            goes_on = answer.status == 206 and _start(answer.headers.get("Content-Range")) == have
            if answer.status == 206 and not goes_on:
                self.forget()
                raise ConnectionError("the server sent another range than it was asked for")
            self.validator = _validator(answer.headers)
            write_atomic(self.note, self.validator or "")
            length = answer.headers.get("Content-Length")
            self._receive(answer, have if goes_on else 0, int(length) if length else None)

    def _receive(self, answer: http.client.HTTPResponse, have: int, length: int | None) -> None:
        if length is not None and (free := shutil.disk_usage(self.part.parent).free) < length:
            what = f"{length:,} bytes are to come, {free:,} are free"
            raise ResourceError(what, where=self.part.parent, fix="free some space, or set XDG_CACHE_HOME")
        total = None if length is None else have + length
        with open(self.part, "ab" if have else "wb") as file:
            while block := answer.read(_BLOCK):
                file.write(block)
                have += len(block)
                share = f" of {total / 1e6:,.1f}" if total else ""
                self.task.at(have / 1e6, f"{have / 1e6:,.1f}{share} MB")
            file.flush()
            os.fsync(file.fileno())
        if total is not None and have < total:
            raise ConnectionError(f"broke off after {have:,} of {total:,} bytes")

    def forget(self) -> None:
        for path in (self.part, self.note):
            path.unlink(missing_ok=True)


def _with_patience(fetch: _Fetch, sleep: Callable[[float], None]) -> None:
    """Tries until the file is whole; a try that brought something counts as the first."""
    tries = 0
    while True:
        before = fetch.part.stat().st_size if fetch.part.exists() else 0
        try:
            fetch.go_on()
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code not in _AGAIN:
                what = f"the server answers {error.code} {error.reason}"
                raise DataError(what, where=fetch.address, fix="check the address") from None
            reason, wait = f"{error.code} {error.reason}", _seconds(error.headers.get("Retry-After"))
        except (ConnectionError, TimeoutError, urllib.error.URLError, http.client.HTTPException) as error:
            reason, wait = str(getattr(error, "reason", None) or error or type(error).__name__), None
        after = fetch.part.stat().st_size if fetch.part.exists() else 0
        tries = 1 if after > before else tries + 1
        if tries >= _TRIES:
            what = f"cannot be downloaded ({reason}; {tries} tries)"
            fix = "check the network and run it again: what has come is kept"
            raise ResourceError(what, where=fetch.address, fix=fix)
        sleep(min(_LONGEST_PAUSE, 2.0 ** (tries - 1) if wait is None else wait))


class _WebOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects, but never from https to anything less."""

    def redirect_request(self, req, fp, code, msg, headers, newurl):  # type: ignore[no-untyped-def]
        schemes = ("https",) if req.type == "https" else ("http", "https")
        if urlsplit(newurl).scheme not in schemes:
            raise DataError(f"is redirected to {newurl}", where=req.full_url, fix="give the final address")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _opener() -> urllib.request.OpenerDirector:
    return urllib.request.build_opener(_WebOnly)


def _checksum(url: str, fragment: str) -> str | None:
    if not fragment:
        return None
    match = _CHECKSUM.fullmatch(fragment)
    if match is None:
        raise DataError(f"'#{fragment}' is no checksum", where=url, fix="write #sha256= and 64 hex digits")
    return match[1].lower()


def _compare(found: object, expected: str | None, address: str) -> None:
    if expected is not None and found != expected:
        what = f"its sha256 is {found}, not {expected}"
        raise DataError(what, where=address, fix="ask its source which of them is right")


def _name(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DataError(f"'{parts.scheme}' addresses are not downloaded", where=address, fix="give http(s)")
    name = unquote(parts.path).rpartition("/")[2]
    return re.sub(r"[^\w.+-]", "_", name).lstrip(".")[:150] or "download"


def _origin(folder: Path) -> dict[str, object] | None:
    try:
        return dict(json.loads((folder / ORIGIN).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError):
        return None


def _validator(headers: http.client.HTTPMessage) -> str | None:
    """What names this state of the file: a strong entity tag, or else its date (RFC 9110, section 13.1.5)."""
    tag = headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")


def _start(content_range: str | None) -> int | None:
    match = re.match(r"bytes (\d+)-", content_range or "")
    return int(match[1]) if match else None


def _seconds(retry_after: str | None) -> float | None:
    return float(retry_after) if retry_after and retry_after.isdigit() else None


def _hash(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
