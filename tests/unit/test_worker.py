"""The worker that gives each connection a thread: no more connections to be had, and what is sent when."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pytest
from fakes import WAIT
from gunicorn.config import Config
from gunicorn.glogging import Logger
from gunicorn.http.message import Request

from legacyhost.web import NotServingPlugin, create_app
from legacyhost.wire import BODY_LIMIT
from legacyhost.worker import ThreadPerConnection


@dataclass
class Listener:
    """A listening socket whose next connection cannot be taken."""

    number: int

    def accept(self) -> None:
        raise OSError(self.number, os.strerror(self.number))


def worker(app: Any) -> ThreadPerConnection:
    """As far as handling one connection needs it."""
    made = object.__new__(ThreadPerConnection)
    made.cfg, made.wsgi, made.log = Config(), app, Logger(Config())
    made.nr, made.max_requests, made.alive = 0, sys.maxsize, True
    made._accepted, made._at_work, made._changed = set(), set(), threading.Condition()
    return made


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_lack_of_descriptors_ends_no_call_in_flight(number: int) -> None:
    """The connection waits in the kernel until a descriptor is free; the worker, and the calls in it, go on."""
    ThreadPerConnection.accept(object.__new__(ThreadPerConnection), Listener(number))


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EBADF])
def test_other_errors_are_for_the_loop_that_accepts(number: int) -> None:
    """It knows what to do about a connection that has gone, and that a socket that is none is the end."""
    with pytest.raises(OSError, match=os.strerror(number)):
        ThreadPerConnection.accept(object.__new__(ThreadPerConnection), Listener(number))


def test_a_reply_is_sent_whole_or_not_at_all() -> None:
    """By one system call: a kill between a status and its body would be an answer, by which Docker forgets a volume."""
    app = create_app(lambda: NotServingPlugin("foo", "it is starting"))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)  # what is sent apart arrives apart
    with ours, theirs:
        ours.settimeout(WAIT)
        ours.sendall(b"POST /Plugin.Activate HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        worker(app).handle(theirs, theirs, "")
        reply = ours.recv(1 << 16)
        assert reply.startswith(b"HTTP/1.1 500 ")
        assert reply.endswith(b'{"Err":"plugin foo is not serving: it is starting"}\n')
        assert ours.recv(1 << 16) == b""


def test_what_is_not_answered_is_not_begun() -> None:
    """Of a call that ends without a reply nothing has been sent."""
    app = create_app(lambda: NotServingPlugin("foo", "it is starting"))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(WAIT)
        ours.sendall(b"POST /VolumeDriver.List HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}")
        worker(app).handle(theirs, theirs, "")
        assert ours.recv(1 << 16) == b""


ASKED = b"POST /Plugin.Activate HTTP/1.1\r\nHost: x\r\nConnection: Keep-Alive\r\nContent-Length: 2\r\n\r\n{}"


STARTING = create_app(lambda: NotServingPlugin("foo", "it is starting"))


def exchange(*sent: bytes, replies: int, alive: bool = True, app: Any = STARTING) -> tuple[list[bytes], bytes]:
    """The replies on one connection, each as it was sent, and what came behind them: nothing, at the end."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    made = worker(app)
    made.alive = alive
    thread = threading.Thread(target=made.handle, args=(theirs, theirs, ""))
    with ours, theirs:
        ours.settimeout(WAIT)
        thread.start()
        for part in sent:
            ours.sendall(part)
        found = []
        with ours.makefile("rb") as reader:
            for _ in range(replies):
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    line = reader.readline()
                    assert line, "the connection has ended"
                    head += line
                length = int(head.lower().partition(b"content-length: ")[2].split()[0])
                found.append(head + reader.read(length))
            ours.shutdown(socket.SHUT_WR)
            rest = reader.read()
        thread.join(WAIT)
        assert not thread.is_alive()
    assert not made._at_work, "nothing is at work any more"
    assert not made._accepted
    return found, rest


def test_a_connection_is_kept_for_who_asks_for_it_by_name() -> None:
    """Whatever comes of it in one piece or in several; each reply says that it is kept."""
    for parts in ([ASKED] * 3, [ASKED * 3], [ASKED + ASKED[:30], ASKED[30:] + ASKED]):
        replies, rest = exchange(*parts, replies=3)
        assert rest == b""
        for reply in replies:
            assert b"\r\nConnection: keep-alive\r\n" in reply
            assert reply.endswith(b'{"Err":"plugin foo is not serving: it is starting"}\n')


@pytest.mark.parametrize("header", [b"X: y", b"Connection: close", b"Connection: upgrade"])
def test_others_get_the_end_of_the_connection_with_the_reply(header: bytes) -> None:
    """Docker does not ask, and must never meet a restart on a connection that it has used before."""
    replies, rest = exchange(ASKED.replace(b"Connection: Keep-Alive", header) + ASKED, replies=1)
    assert b"\r\nConnection: close\r\n" in replies[0]
    assert rest == b""


def test_the_last_of_several_ends_it() -> None:
    """When the client says so, or the worker is about to stop."""
    replies, rest = exchange(ASKED, ASKED.replace(b"Keep-Alive", b"close"), replies=2)
    assert b"\r\nConnection: close\r\n" in replies[1]
    assert rest == b""
    replies, _ = exchange(ASKED, replies=1, alive=False)
    assert b"\r\nConnection: close\r\n" in replies[0]


def test_what_is_no_request_ends_a_connection_that_was_kept() -> None:
    """With an error, as it does at the beginning."""
    replies, _ = exchange(ASKED, b"nonsense\r\n\r\n", replies=2)
    assert replies[1].startswith(b"HTTP/1.1 400 ")


def test_a_body_that_was_not_read_is_no_request() -> None:
    """What is left of one that is too long; the connection is not kept, whoever asks."""
    body = b'{"a":"' + b"x" * BODY_LIMIT + b'"}' + ASKED
    request = ASKED[:-2].replace(b"Content-Length: 2", b"Content-Length: %d" % len(body)) + body
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(WAIT)

        def send() -> None:
            with suppress(BrokenPipeError):  # the end may come before all is sent
                ours.sendall(request)

        thread = threading.Thread(target=send)
        thread.start()
        worker(create_app(lambda: NotServingPlugin("foo", "it is starting"))).handle(theirs, theirs, "")
        thread.join(WAIT)
        reply = ours.recv(1 << 16)
    assert reply.startswith(b"HTTP/1.1 413 ")
    assert b"\r\nConnection: close\r\n" in reply
    assert reply.count(b"HTTP/1.1") == 1


def test_a_body_that_nobody_wanted_is_no_request() -> None:
    """Of the first request on a connection, as of any other."""
    unwanted = ASKED[:-2].replace(b"POST /Plugin.Activate", b"GET /health").replace(b": 2", b": %d" % len(ASKED))
    for parts, statuses in (
        ([unwanted + ASKED, ASKED], [b"503", b"500"]),
        ([unwanted, ASKED, ASKED], [b"503", b"500"]),
        ([ASKED, unwanted + ASKED, ASKED], [b"500", b"503", b"500"]),
    ):
        replies, rest = exchange(*parts, replies=len(statuses))
        assert [reply.split()[1] for reply in replies] == statuses
        assert rest == b""


def echo(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Replies with the request, as it was understood; with what its body is, unless nobody shall want that."""
    seen = {key: value for key, value in environ.items() if key.startswith("HTTP_") or key.isupper()}
    body = b"" if environ["PATH_INFO"] == "/unread" else environ["wsgi.input"].read()
    reply = repr((sorted(seen.items()), body[:100], len(body))).encode()
    start_response("200 OK", [("Content-Length", str(len(reply)))])
    return [reply]


def request(path: bytes, body: bytes, *headers: bytes) -> bytes:
    lines = [b"POST %s HTTP/1.1" % path, b"Host: x", b"Connection: keep-alive", *headers]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])


CHUNKED = b"POST /a HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n"
#: Plain ones and others; each leaves the connection open.
REQUESTS = {
    "one": request(b"/a", b"one"),
    "two": request(b"/a", b"two"),
    "with an end of a head in it": request(b"/a", b"\r\n\r\nx" * 3),
    "empty": request(b"/a", b""),
    "elsewhere": request(b"/b", b"one"),
    "unread": request(b"/unread", b"POST /a HTTP/1.1\r\n\r\n"),
    "unread, long": request(b"/unread", b"z" * 100_000),
    "long": request(b"/a", b"z" * 100_000),
    "just longer than a piece": request(b"/a", b"z" * 8193),
    "something else in it": request(b"/a", b"one", b"X-Number: 1"),
    "chunked": CHUNKED + b"3\r\none\r\n0\r\n\r\n",
    "without a body": b"GET /a HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\n\r\n",
    "1.0": b"POST /a HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 3\r\n\r\none",
}


def _bodies(replies: list[bytes]) -> list[bytes]:
    return [reply.partition(b"\r\n\r\n")[2] for reply in replies]


@pytest.mark.parametrize("cut", [0, 1, 30, 90, None], ids=str)
def test_requests_on_one_connection_are_understood_as_each_on_its_own(cut: int | None) -> None:
    """In any order, in whatever pieces they come: all at once, each whole, each in two."""
    alone = {name: _bodies(exchange(sent, replies=1, app=echo)[0])[0] for name, sent in REQUESTS.items()}
    for first, second in itertools.product(REQUESTS, repeat=2):
        names = [first, first, second, second, first]
        sent = [REQUESTS[name] for name in names]
        parts = [b"".join(sent)] if cut is None else [part for one in sent for part in (one[:cut], one[cut:]) if part]
        replies, rest = exchange(*parts, replies=len(names), app=echo)
        assert _bodies(replies) == [alone[name] for name in names], (first, second)
        assert rest == b""


def test_what_was_seen_before_is_not_parsed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """gunicorn says what a head means; on whichever connection it comes again, it means the same."""
    parsed: list[object] = []
    parse = Request.parse

    def counted(self: Request, *arguments: Any) -> Any:
        parsed.append(self)
        return parse(self, *arguments)

    monkeypatch.setattr(Request, "parse", counted)
    made, body = worker(echo), b"{}"
    for _ in range(5):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.settimeout(WAIT)
            ours.sendall(request(b"/a", body).replace(b"keep-alive", b"close"))
            ours.shutdown(socket.SHUT_WR)
            made.handle(theirs, theirs, "")
            assert ours.recv(1 << 16).startswith(b"HTTP/1.1 200 OK\r\n")
    assert len(parsed) == 1 + 5, "the head, once; and what gunicorn is given at the end of each connection: nothing"


def test_a_connection_may_end_in_the_middle_of_a_request() -> None:
    """After others like it: what was cut off is never taken for the whole, and nothing hangs."""
    for length in range(1, len(REQUESTS["one"])):
        replies, rest = exchange(*[REQUESTS["one"]] * 3, REQUESTS["one"][:length], replies=3, app=echo)
        assert len(replies) == 3
        assert b"200 OK" not in rest or b"b'one'" not in rest, length


@pytest.mark.parametrize("name", ["one", "something else in it"])
def test_a_defect_is_an_answer_and_the_end_of_the_connection(name: str) -> None:
    """Whoever reads the request."""

    def broken(*_: object) -> list[bytes]:
        raise ValueError("a defect")

    replies, rest = exchange(REQUESTS[name] * 2, replies=1, app=broken)
    assert replies[0].startswith(b"HTTP/1.1 500 ")
    assert rest == b""
