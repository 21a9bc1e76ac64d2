"""The worker that gives each connection a thread: no more connections to be had, and what is sent when."""

from __future__ import annotations

import errno
import itertools
import os
import socket
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fakes import WAIT, Gate
from gunicorn.glogging import Logger
from gunicorn.http.message import Request
from workers import request, running, short, worker

from legacyhost import log
from legacyhost.rpc import Reply, plain_error
from legacyhost.web import NotServingPlugin, create_app
from legacyhost.wire import BODY_LIMIT


@dataclass
class Listener:
    """A listening socket whose next connection cannot be taken."""

    number: int

    def accept(self) -> None:
        raise OSError(self.number, os.strerror(self.number))


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_a_lack_of_descriptors_ends_no_call_in_flight(number: int) -> None:
    """The connection waits in the kernel until a descriptor is free; the worker, and the calls in it, go on."""
    worker(None).accept(Listener(number))


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EBADF])
def test_other_errors_are_for_the_loop_that_accepts(number: int) -> None:
    """It knows what to do about a connection that has gone, and that a socket that is none is the end."""
    with pytest.raises(OSError, match=os.strerror(number)):
        worker(None).accept(Listener(number))


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


def exchange(
    *sent: bytes, replies: int, alive: bool = True, app: Any = STARTING, is_cut: bool = False
) -> tuple[list[bytes], bytes]:
    """The replies on one connection, each as it was sent, and what came behind them: nothing, at the end.

    ``is_cut``: the client ends it with what it sends, not with the last reply.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    made = worker(app)
    made.alive = alive
    thread = threading.Thread(target=made.handle, args=(theirs, theirs, ""), daemon=True)
    with ours, theirs:
        ours.settimeout(WAIT)
        thread.start()
        for part in sent:
            ours.sendall(part)
        if is_cut:
            ours.shutdown(socket.SHUT_WR)
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


class Content:
    """Stands in for a plugin that is content with everything."""

    name = "test"

    def call(self, _rpc: str, _body: bytes) -> Reply:
        return {}

    def activated(self, *, is_here: bool = True) -> None:
        """Nothing follows."""

    def error(self, _rpc: str, message: str) -> Reply:
        return plain_error(message)

    def body_limit(self, _rpc: str) -> int:
        return BODY_LIMIT

    def is_quiet(self, _rpc: str) -> bool:
        return False


#: Bodies in chunks, and whether the connection ends there.
BROKEN = {
    "no size": (b"zz\r\n", False),
    "an empty size": (b"\r\n", False),
    "a negative size": (b"-1\r\n", False),
    "no end of a chunk": (b"3\r\none!!0\r\n\r\n", False),
    "no trailer": (b"3\r\none\r\n0\r\nnonsense\r\n\r\n", False),
    "cut before the first": (b"", True),
    "cut in a size": (b"3", True),
    "cut behind a size": (b"3\r\n", True),
    "cut in a chunk": (b"3\r\non", True),
    "cut behind a chunk": (b"3\r\none", True),
    "cut in the end of a chunk": (b"3\r\none\r", True),
    "cut between two": (b"3\r\none\r\n", True),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_chunk_is_the_clients_error_and_the_end(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Where the next request would begin is not known; and no defect of ours is found in what somebody else sent."""
    defects: list[object] = []
    for logger in (Logger, log):
        monkeypatch.setattr(logger, "exception", lambda *said, **_: defects.append(said))
    app = create_app(Content)
    body, is_cut = BROKEN[kind]
    for before in ([], [REQUESTS["chunked"]], [REQUESTS["one"]]):
        sent = [*before, CHUNKED + body + (b"" if is_cut else ASKED)]
        replies, rest = exchange(*sent, replies=len(sent), app=app, is_cut=is_cut)
        assert [reply.split()[1] for reply in replies[:-1]] == [b"200"] * len(before)
        assert replies[-1].startswith(b"HTTP/1.1 4")
        assert b"\r\nconnection: close\r\n" in replies[-1].lower()
        assert b"defect" not in replies[-1]
        assert rest == b""
    assert defects == []


LARGE = b"x" * (1 << 22)


def large(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Replies with more than a connection takes before somebody reads it."""
    start_response("200 OK", [("Content-Length", str(len(LARGE)))])
    return [LARGE]


@pytest.mark.parametrize("name", ["one", "something else in it"])
def test_a_large_reply_arrives_whole(name: str) -> None:
    """And the connection goes on; whoever reads the request."""
    replies, rest = exchange(REQUESTS[name] * 2, replies=2, app=large)
    assert _bodies(replies) == [LARGE, LARGE]
    assert rest == b""


@pytest.mark.parametrize("name", ["one", "something else in it"])
@pytest.mark.parametrize(("app", "number"), [(large, 1), (echo, 20_000)], ids=["one large", "many small"])
def test_nobody_waits_for_long_for_a_client_that_does_not_read(
    monkeypatch: pytest.MonkeyPatch, name: str, app: Any, number: int
) -> None:
    """The thread goes on to others, and no call is at work; one reply may be too much, or all that are not read."""
    monkeypatch.setattr("legacyhost.connections.PATIENCE", 0.1)
    ours, theirs = socket.socketpair()
    made = worker(app)

    def send() -> None:
        with suppress(OSError):  # the end may come before all is sent
            ours.sendall(REQUESTS[name] * number)

    threads = [threading.Thread(target=send), threading.Thread(target=made.handle, args=(theirs, theirs, ""))]
    with ours, theirs:
        for thread in threads:
            thread.daemon = True
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        assert not any(thread.is_alive() for thread in threads)
    assert not made._at_work


class Gated:
    """An application. A call of a path that has a gate is at work until that opens."""

    def __init__(self, *paths: str) -> None:
        self.gates = {path: Gate() for path in paths}

    def __call__(self, environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["PATH_INFO"] in self.gates:
            self.gates[environ["PATH_INFO"]].pass_through()
        start_response("200 OK", [("Content-Length", "0")])
        return [b""]


EXPECTING = b"POST /a HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\n"


@pytest.mark.parametrize(
    "begun",
    [EXPECTING + b"Content-Length: 100\r\n\r\n{", EXPECTING + b"Transfer-Encoding: chunked\r\n\r\n5\r\n{"],
    ids=["of a length", "in chunks"],
)
def test_a_stop_does_not_wait_for_a_body_that_does_not_come(tmp_path: Path, begun: bytes) -> None:
    """Who has sent half a request is silent like who has sent none: nothing has been begun that could be cut off."""
    with running(tmp_path, echo) as made, made.asked(begun) as client:
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 100 "), "the body is waited for"
        made.stop()
        assert made.has_ended()


@pytest.mark.parametrize("name", ["one", "something else in it"])
def test_a_stop_does_not_wait_for_a_reply_that_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Not longer than any thread does."""
    monkeypatch.setattr("legacyhost.connections.PATIENCE", 0.1)
    with running(tmp_path, large) as made, made.asked(REQUESTS[name]) as client:
        assert client.recv(1) == b"H", "it is being sent"
        made.stop()
        assert made.has_ended()


def test_a_stop_serves_others_as_long_as_it_waits(tmp_path: Path) -> None:
    """Also for a call that began after the signal, when the calls from before it are done."""
    app = Gated("/first", "/second")
    first, second = app.gates.values()
    with running(tmp_path, app) as made, first, second, made.asked(short(b"/first")) as before:
        first.wait_until_reached()
        made.stop()
        with made.asked(short(b"/second")) as after:
            second.wait_until_reached()
            first.open()
            assert before.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
            for _ in range(5):
                assert made.call(b"/other").startswith(b"HTTP/1.1 200 ")
            second.open()
            assert after.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        assert made.has_ended()


def test_a_stop_ends_however_many_ask(tmp_path: Path) -> None:
    """Calls that are short and follow each other, each at work until the next one is, do not keep it from ending."""
    answered, begun = threading.Semaphore(0), [threading.Event()]

    def app(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        next_one = threading.Event()
        begun.append(next_one)
        begun[-2].set()
        next_one.wait(0.1)  # a short call ends also where no other comes
        start_response("200 OK", [("Content-Length", "0")])
        return [b""]

    def ask_on_and_on() -> None:
        with suppress(OSError):  # at the end there is nobody who answers
            while made.call(b"/a"):
                answered.release()

    with running(tmp_path, app) as made:
        clients = [threading.Thread(target=ask_on_and_on, daemon=True) for _ in range(6)]
        for client in clients:
            client.start()
        for _ in range(20):
            assert answered.acquire(timeout=WAIT)
        made.stop()
        assert made.has_ended()
    for client in clients:
        client.join(WAIT)
        assert not client.is_alive()
