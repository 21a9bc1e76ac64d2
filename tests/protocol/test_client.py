"""The client of these tests itself: that it sends what the engines send, and reads replies as they do.

The requests and the table of replies were recorded with Docker 20.10.24 and a plugin that only writes down what it
is asked; podman's are from its source (libpod/plugin/volume_api.go).
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .dialect import DIALECTS, DOCKER, PODMAN, Dialect, Engine, go_json
from .gate import Gate
from .judge import docker_sees, is_rfc3339, podman_sees, universal
from .rawhttp import Closed, Connection, Reply

GET = "VolumeDriver.Get"
CREATE = "VolumeDriver.Create"


def reply(status: int, body: bytes) -> Reply:
    return Reply("HTTP/1.1", status, (), body)


REQUESTS = {
    "docker-1.7": (
        b"POST /Plugin.Activate HTTP/1.1\r\nHost: /p.sock\r\nUser-Agent: Go-http-client/1.1\r\n"
        b"Content-Length: 5\r\nAccept: application/vnd.docker.plugins.v1+json\r\n\r\nnull\n"
    ),
    "docker-1.9": (
        b"POST /Plugin.Activate HTTP/1.1\r\nHost: /p.sock\r\nUser-Agent: Go-http-client/1.1\r\n"
        b"Content-Length: 5\r\nAccept: application/vnd.docker.plugins.v1.1+json\r\n\r\nnull\n"
    ),
    "docker-20.10": (
        b"POST /Plugin.Activate HTTP/1.1\r\nHost: \r\nUser-Agent: Go-http-client/1.1\r\n"
        b"Content-Length: 0\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\n\r\n"
    ),
    "docker-29": (
        b"POST /Plugin.Activate HTTP/1.1\r\nHost: plugin.moby.localhost\r\nUser-Agent: Go-http-client/1.1\r\n"
        b"Content-Length: 0\r\nAccept: application/vnd.docker.plugins.v1.2+json\r\n\r\n"
    ),
    "podman": (
        b"POST /Plugin.Activate HTTP/1.1\r\nHost: plugin\r\nUser-Agent: Go-http-client/1.1\r\n"
        b"Content-Length: 0\r\nContent-Type: application/vnd.docker.plugins.v1.1+json\r\n\r\n"
    ),
}


@pytest.mark.parametrize("name", REQUESTS)
def test_the_handshake_byte_for_byte(name: str) -> None:
    """Host, Accept, Content-Type and body of Plugin.Activate are what tells the engines apart."""
    dialect = next(each for each in DIALECTS if each.name == name)
    assert dialect.request(Path("/p.sock"), "Plugin.Activate", dialect.activate_body) == REQUESTS[name]


def test_json_as_go_writes_it() -> None:
    """Compact, with a line feed, & < > escaped, other characters as they are (encoding/json)."""
    value = {"Name": "a&b<c>é", "Opts": None}
    assert go_json(value) == b'{"Name":"a\\u0026b\\u003cc\\u003e\xc3\xa9","Opts":null}\n'


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, b'{"Err":""}', None),
        (200, b"{}", None),
        (200, b"null", None),
        (200, b'{"Err":null}', None),
        (200, b"{} trailing garbage", None),
        (200, b'{"Err":"msg"}', "msg"),
        (200, b'{"err":"msg"}', "msg"),
        (200, b'{"ERR":"msg","Mountpoint":"/x"}', "msg"),
        (200, b"", "EOF"),
        (200, b"[]", "cannot unmarshal"),
        (200, b'{"Err":123}', "cannot unmarshal"),
        (200, b"<html>", "Expecting value"),
        (201, b"{}", "VolumeDriver.Create: {}"),
        (204, b"", "VolumeDriver.Create: "),
        (403, b'{"Err":"msg"}', "VolumeDriver.Create: msg"),
        (500, b'{"Err":"msg"}', "VolumeDriver.Create: msg"),
        (500, b'{"Err":""}', 'VolumeDriver.Create: {"Err":""}'),
        (500, b"plain text", "VolumeDriver.Create: plain text"),
        (500, b'{"title":"Internal Server Error"}', 'VolumeDriver.Create: {"title":"Internal Server Error"}'),
    ],
)
def test_what_docker_makes_of_a_reply(status: int, body: bytes, error: str | None) -> None:
    """Exactly 200 is success; then Err decides, whatever its case; any other status is an error."""
    seen = docker_sees(CREATE, reply(status, body))
    assert seen.ok is (error is None)
    assert error is None or error in str(seen.error)


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (200, b'{"Err":"msg"}', None),
        (200, b"", None),
        (500, b'{"Err":"msg"}', "msg"),
        (404, b"plain text", "unmarshalling"),
        (400, b"", "unmarshalling"),
    ],
)
def test_what_podman_makes_of_a_reply(status: int, body: bytes, error: str | None) -> None:
    """Only the status counts, and an error has to be JSON."""
    seen = podman_sees(CREATE, reply(status, body))
    assert seen.ok is (error is None)
    assert error is None or error in str(seen.error)


def test_podman_reads_the_body_of_get_only_as_json() -> None:
    """Where there is a value to be read, an empty body or something after the JSON is an error."""
    assert podman_sees(GET, reply(200, b'{"Volume":{"Name":"v","CreatedAt":"yesterday"}}')).ok
    assert not podman_sees(GET, reply(200, b"")).ok
    assert not podman_sees(GET, reply(200, b"{} x")).ok


def test_docker_1_7_wants_no_err_at_all() -> None:
    """Its Err is a Go error, which no string can be decoded into; null and absent are fine."""
    for body, ok in ((b'{"Err":""}', False), (b'{"Err":null}', True), (b"{}", True)):
        assert docker_sees(CREATE, reply(200, body), (1, 7)).ok is ok
        assert docker_sees(CREATE, reply(200, body), (1, 8)).ok


def test_docker_up_to_1_9_shows_the_raw_body_of_an_error() -> None:
    """The error key of a reply that is not 200 is read since 1.10."""
    assert docker_sees(CREATE, reply(500, b'{"Err":"msg"}'), (1, 9)).error == 'VolumeDriver.Create: {"Err":"msg"}'
    assert docker_sees(CREATE, reply(500, b'{"Err":"msg"}'), (1, 10)).error == "VolumeDriver.Create: msg"


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        ("2024-02-29T12:00:00Z", True),
        ("2024-02-29T12:00:00.123456789Z", True),
        ("2024-02-29T12:00:00+01:00", True),
        ("2024-02-29T12:00:00+0100", False),
        ("2024-02-29T12:00:00", False),
        ("2024-02-29 12:00:00Z", False),
        ("2023-02-29T12:00:00Z", False),
        ("2024-02-29", False),
        ("", False),
    ],
)
def test_dates_that_go_reads(text: str, valid: bool) -> None:
    """time.Time is RFC 3339 in its strict form."""
    assert is_rfc3339(text) is valid
    body = go_json({"Volume": {"Name": "v", "CreatedAt": text}})
    assert docker_sees(GET, reply(200, body)).ok is valid
    assert docker_sees(GET, reply(200, body), (17, 6)).ok, "CreatedAt is read since 17.07"


def test_docker_wants_status_to_be_an_object() -> None:
    """A list there fails the whole Get; null is fine; before 1.12 nobody looks."""
    for status, ok in (([], False), ("x", False), (None, True), ({}, True)):
        body = go_json({"Volume": {"Name": "v", "Status": status}})
        assert docker_sees(GET, reply(200, body)).ok is ok
        assert docker_sees(GET, reply(200, body), (1, 11)).ok


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, b""), (200, b"[]"), (200, b"text"), (200, b'{"Err":"msg"}'), (204, b"{}"), (302, b'{"Err":"x"}'),
        (500, b"{}"), (500, b"null"), (500, b'{"Err":""}'), (500, b'{"Err":"a\\nb"}'), (500, b'{"Err":"\\u001b[31m"}'),
        (500, b'{"Err":5}'), (404, b"404 page not found\n"), (500, b'{"Err":"\xff"}'),
    ],
)  # fmt: skip
def test_what_no_reply_may_be(status: int, body: bytes) -> None:
    """The rules for every reply, each broken once."""
    with pytest.raises(AssertionError):
        universal(reply(status, body))


@contextmanager
def canned(path: Path, *answers: bytes) -> Iterator[list[bytes]]:
    """A server that gives these answers, one per connection, and keeps what it was sent."""
    received: list[bytes] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            for answer in answers:
                connection, _ = listener.accept()
                with connection:
                    received.append(connection.recv(65536))
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield received
        thread.join(10)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1;x=y\r\n}\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n{}",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    ],
)
def test_replies_of_every_form_are_read(tmp_path: Path, answer: bytes) -> None:
    """With a length, in chunks, up to the end of the connection, after a 100."""
    with canned(tmp_path / "s", answer) as received, Connection(tmp_path / "s", 10) as connection:
        assert connection.exchange(b"request").body == b"{}"
    assert received == [b"request"]


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}", b"HTTP/1.1 200"])
def test_a_reply_that_breaks_off_is_noticed(tmp_path: Path, answer: bytes) -> None:
    """Less than a whole reply is none."""
    with canned(tmp_path / "s", answer), Connection(tmp_path / "s", 10) as connection, pytest.raises(Closed):
        connection.exchange(b"request")


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
def test_the_bodies_of_each_engine(tmp_path: Path, dialect: Dialect) -> None:
    """Opts since 1.9, ID since 1.12; podman leaves out empty options and always has the same ID."""
    engine = Engine(dialect, tmp_path / "s")
    fine = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
    with canned(tmp_path / "s", *[fine] * 3) as received:
        engine.create("v")
        engine.create("v", {"b": "2", "a": "1"})
        engine.mount("v", "x")
    bodies = [request.partition(b"\r\n\r\n")[2] for request in received]
    without = b'{"Name":"v"}\n'
    opts = b'{"Name":"v","Opts":{"a":"1","b":"2"}}\n'
    if dialect is PODMAN:
        assert bodies[:2] == [without, opts]
        assert b'"ID":"2f73349c' in bodies[2]
    elif dialect is DOCKER:
        assert bodies == [b'{"Name":"v","Opts":null}\n', opts, b'{"Name":"v","ID":"x"}\n']
    elif dialect.name == "docker-1.7":
        assert bodies == [without] * 3


def test_a_gate_holds_back_and_lets_through() -> None:
    """Shut, it accepts and says nothing; what was sent meanwhile arrives when it opens."""
    with (
        socket.create_server(("127.0.0.1", 0)) as target,
        Gate(target.getsockname()[1]) as gate,
        socket.create_connection(("127.0.0.1", gate.port), 10) as near,
        target.accept()[0] as far,
    ):
        gate.shut()
        near.sendall(b"hello")
        gate.wait_until_touched()
        far.setblocking(False)
        with pytest.raises(BlockingIOError):
            far.recv(10)
        far.settimeout(10)
        gate.open()
        assert far.recv(10) == b"hello"
