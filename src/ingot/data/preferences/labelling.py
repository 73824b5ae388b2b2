"""A page on which to judge pairs: served on this machine only, one file, usable by keyboard alone.

Which answer stands on the left is drawn anew for each annotator and pair, and goes into the judgement, so
that a liking for one side can be told from a liking for one answer.
"""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import threading
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from ingot.data.preferences.judgements import Choice, Judgement, append, now, read_judgements
from ingot.data.preferences.pairs import Pair, messages_of
from ingot.errors import BusyError, DataError

HOST = "127.0.0.1"
LONGEST_BODY = 16_384
LONGEST_NAME = 60
SHOWN = ("left", "right", "tie", "skip")

_PAGE = Path(__file__).parent / "page" / "label.html"


class Refusal(Exception):
    """A request that cannot be served, with its HTTP status."""

    def __init__(self, status: HTTPStatus, what: str) -> None:
        self.status, self.what = status, what
        super().__init__(what)


class Labelling:
    """The pairs to judge and what was said of them, for any number of annotators at once.

    Args:
        pairs: in the order in which they are shown.
        path: the file of judgements, which may hold earlier ones; every new one is appended to it.
        name: what to call the set of pairs.
        seed: another seed, other sides.
    """

    def __init__(self, pairs: Sequence[Pair], path: Path, name: str = "", seed: int = 0) -> None:
        self.pairs = {pair.id: pair for pair in pairs}
        self.path = path
        self.name = name
        self.seed = seed
        self._lock = threading.Lock()
        self._said = {(one.annotator, one.pair): one for one in read_judgements(path)}

    def show(self, annotator: str, pair_id: str | None = None) -> dict[str, Any]:
        """Returns a pair as the page shows it: the one named, or the next that this annotator has not judged.

        Raises:
            Refusal: no such pair, or no name of an annotator.
        """
        who = self._checked(annotator)
        with self._lock:
            done = [pair for pair in self.pairs if (who, pair) in self._said]
        state = {"name": self.name, "done": len(done), "total": len(self.pairs), "pair": None}
        if pair_id is None:
            judged = set(done)
            pair_id = next((pair for pair in self.pairs if pair not in judged), None)
            if pair_id is None:
                return state
        pair = self._pair(pair_id)
        left, right = (pair.a, pair.b) if self.first(who, pair.id) == "a" else (pair.b, pair.a)
        return state | {
            "pair": pair.id,
            "place": list(self.pairs).index(pair.id) + 1,
            "prompt": messages_of(pair.prompt, "user"),
            "left": messages_of(left, "assistant"),
            "right": messages_of(right, "assistant"),
            "said": self._shown(who, pair.id),
        }

    def judge(self, annotator: str, pair_id: str, side: str) -> Judgement:
        """Writes down what an annotator said.

        Args:
            annotator: who.
            pair_id: of which pair.
            side: "left", "right", "tie" or "skip".

        Raises:
            Refusal: no such pair or side, or no name of an annotator.
        """
        who, pair = self._checked(annotator), self._pair(pair_id)
        if side not in SHOWN:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"the choice is '{side}', not one of {', '.join(SHOWN)}")
        first = self.first(who, pair.id)
        sides = {"left": first, "right": "b" if first == "a" else "a"}
        judgement = Judgement(pair.id, who, cast(Choice, sides.get(side, side)), first, now())
        with self._lock:
            append(self.path, judgement)
            self._said[who, pair.id] = judgement
        return judgement

    def first(self, annotator: str, pair_id: str) -> str:
        """Returns which answer, "a" or "b", this annotator sees on the left: a pure function of both."""
        drawn = hashlib.sha256(f"{self.seed}\0{pair_id}\0{annotator}".encode()).digest()
        return "ab"[drawn[0] & 1]

    def _shown(self, who: str, pair_id: str) -> str | None:
        said = self._said.get((who, pair_id))
        if said is None or said.choice in ("tie", "skip"):
            return said.choice if said else None
        return "left" if said.choice == self.first(who, pair_id) else "right"

    def _pair(self, pair_id: str) -> Pair:
        if pair_id not in self.pairs:
            raise Refusal(HTTPStatus.NOT_FOUND, f"no pair is called '{pair_id[:40]}'")
        return self.pairs[pair_id]

    def _checked(self, annotator: str) -> str:
        name = " ".join(annotator.split())
        if not name or len(name) > LONGEST_NAME or not name.isprintable():
            raise Refusal(HTTPStatus.BAD_REQUEST, f"give a name of 1 to {LONGEST_NAME} signs")
        return name


def page(annotator: str = "") -> tuple[bytes, str]:
    """Returns the page and the content policy that lets nothing run in it but its own script.

    Args:
        annotator: a name to begin with; without one the page asks.
    """
    name = json.dumps(annotator).replace("<", "\\u003c")
    text = _PAGE.read_text(encoding="utf-8").replace('"{{ annotator }}"', name)
    script = text.partition("<script>")[2].partition("</script>")[0]
    style = text.partition("<style>")[2].partition("</style>")[0]
    policy = (
        f"default-src 'none'; script-src '{_hash(script)}'; style-src '{_hash(style)}'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return text.encode(), policy


def server(labelling: Labelling, port: int = 0, annotator: str = "") -> ThreadingHTTPServer:
    """Opens the server, listening on loopback only; `serve_forever` runs it and `shutdown` ends it.

    Args:
        labelling: what is judged.
        port: 0 takes a free one.
        annotator: a name to begin with.

    Raises:
        BusyError: the port is in use.
        DataError: a port that does not exist.
    """
    content, policy = page(annotator)

    class Handler(_Handler):
        pass

    Handler.labelling, Handler.content, Handler.policy = labelling, content, policy
    try:
        return _Server((HOST, port), Handler)
    except OverflowError:
        raise DataError(f"port {port} does not exist", fix="use one from 1024 to 65535") from None
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        fix = "end what listens there, or choose another port"
        raise BusyError("the port is in use", where=f"{HOST}:{port}", fix=fix) from None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True


class _Handler(BaseHTTPRequestHandler):
    labelling: Labelling
    content: bytes
    policy: str
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, format: str, *args: Any) -> None:
        """Says nothing: whoever labels watches the page."""

    def version_string(self) -> str:
        return "ingot"

    def _answer(self, act: Any) -> None:
        try:
            self._check_host()
            status, kind, body = act()
        except Refusal as refusal:
            status, kind = refusal.status, "application/json"
            body = json.dumps({"error": refusal.what}).encode()
            self.close_connection = True  # what follows in the body was not read
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.send_header("cache-control", "no-store")
        self.send_header("content-security-policy", self.policy)
        self.send_header("x-content-type-options", "nosniff")
        self.send_header("referrer-policy", "no-referrer")
        self.end_headers()
        self.wfile.write(body)

    def _get(self) -> tuple[int, str, bytes]:
        url = urlsplit(self.path)
        if url.path == "/":
            return HTTPStatus.OK, "text/html; charset=utf-8", self.content
        if url.path == "/api/pair":
            asked = parse_qs(url.query)
            shown = self.labelling.show(asked.get("annotator", [""])[0], asked.get("id", [None])[0])
            return HTTPStatus.OK, "application/json", json.dumps(shown).encode()
        raise Refusal(HTTPStatus.NOT_FOUND, "there is nothing here")

    def _post(self) -> tuple[int, str, bytes]:
        if urlsplit(self.path).path != "/api/judge":
            raise Refusal(HTTPStatus.NOT_FOUND, "there is nothing here")
        given = self._body()
        parts = [given.get(name) for name in ("annotator", "pair", "choice")]
        if not all(isinstance(part, str) for part in parts):
            raise Refusal(HTTPStatus.BAD_REQUEST, "send 'annotator', 'pair' and 'choice' as text")
        annotator, pair, choice = (str(part) for part in parts)
        self.labelling.judge(annotator, pair, choice)
        return HTTPStatus.OK, "application/json", json.dumps(self.labelling.show(annotator)).encode()

    def _body(self) -> dict[str, Any]:
        if self.headers.get_content_type() != "application/json":
            # Browsers let any web page send the other types here without asking first.
            raise Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "send 'content-type: application/json'")
        length = self.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > LONGEST_BODY:
            raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"send at most {LONGEST_BODY} bytes")
        try:
            value = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise Refusal(HTTPStatus.BAD_REQUEST, "the body is no JSON object")
        return value

    def _check_host(self) -> None:
        """A page elsewhere whose name leads here must not be served: its name would be in this header."""
        port = cast(ThreadingHTTPServer, self.server).server_port
        if self.headers.get("host") not in (f"{HOST}:{port}", f"localhost:{port}"):
            raise Refusal(HTTPStatus.FORBIDDEN, f"call this server http://{HOST}:{port}")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
