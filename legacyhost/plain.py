"""A request as engines send them, and its reply: what most calls need of HTTP, and what costs least.

What a head means is gunicorn's to say, once for each that is different: a head that is the same to the byte means the
same. What is not plain is left to gunicorn altogether.
"""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from typing import Any

from gunicorn import SERVER, http
from gunicorn.http import wsgi

#: What is between a head and its body.
END = b"\r\n\r\n"
#: A head without what is read differently here and there: lines of printable ASCII, none a continuation.
_LINES = re.compile(rb"(?:[!-~][ -~]*\r\n)+\r\n")
#: Headers that say nothing of how the request is to be read, and those that do so in one way only.
HEADERS = frozenset(("HOST", "USER-AGENT", "ACCEPT", "ACCEPT-ENCODING", "CONNECTION", "CONTENT-LENGTH", "CONTENT-TYPE"))
#: Bytes of a head, and how many heads are remembered: an engine's differ in the method and the length of the body.
LONGEST, MOST = 1024, 128
#: What belongs to one request in the environment that gunicorn makes.
OF_ONE = ("wsgi.input", "wsgi.early_hints", "gunicorn.socket")


@dataclass(frozen=True)
class Head:
    """What a head means: the WSGI environment, the length of the body, whether the connection is to be kept."""

    environ: Mapping[str, Any]
    length: int
    asks_to_be_kept: bool


@dataclass(frozen=True)
class Request:
    """A whole one, and what came behind it."""

    head: Head
    body: bytes
    rest: bytes


def whole(cfg: Any, data: bytes, server: Any) -> Request | None:
    """The plain request that ``data`` begins with; None where it is another, or not all of it is there."""
    end = data.find(END, 0, LONGEST) + len(END)
    if end < len(END):
        return None
    head = _understood(cfg, data[:end], server)
    if head is None or len(data) < end + head.length:
        return None
    return Request(head, data[end : end + head.length], data[end + head.length :])


def reply(app: Callable[..., Iterable[bytes]], request: Request, *, is_kept: bool) -> bytes:
    """All that is to be sent. Raises what ``app`` does."""
    begun: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], _: object = None) -> None:
        begun[:] = [(status, headers)]

    content = b"".join(app({**request.head.environ, "wsgi.input": io.BytesIO(request.body)}, start_response))
    ((status, headers),) = begun
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers if name.lower() != "content-length")
    return (
        f"HTTP/1.1 {status}\r\nServer: {SERVER}\r\nDate: {_date(int(time.time()))}\r\n"
        f"Connection: {'keep-alive' if is_kept else 'close'}\r\n{fields}Content-Length: {len(content)}\r\n\r\n"
    ).encode("latin-1") + content


@lru_cache(maxsize=MOST)
def _understood(cfg: Any, head: bytes, server: Any) -> Head | None:
    if not _LINES.fullmatch(head):
        return None
    parser = http.RequestParser(cfg, iter([head]), "")
    try:
        request = next(parser)
    except Exception:  # noqa: BLE001 - gunicorn will find it again, and say what is wrong
        return None
    headers = dict(request.headers)
    length = headers.get("CONTENT-LENGTH", "")
    is_plain = request.method == "POST" and request.version == (1, 1) and headers.keys() <= HEADERS
    # Each line once, none that gunicorn has left out, and nothing behind what it has read.
    is_all = len(headers) == head.count(b"\r\n") - 2 and not parser.unreader.read()
    if not is_plain or not is_all or not length.isdecimal():
        return None
    _, environ = wsgi.create(request, None, "", server, cfg)
    for name in OF_ONE:
        environ.pop(name, None)
    return Head(environ, int(length), asks_to_be_kept(request))


def asks_to_be_kept(request: Any) -> bool:
    """Whether a request, as gunicorn has parsed it, asks by name for its connection to be kept."""
    return any(name == "CONNECTION" and value.strip().lower() == "keep-alive" for name, value in request.headers)


@lru_cache(maxsize=1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
