"""What can go wrong on the way to a server, each with its own sentence, and all of it over at the deadline."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from oddsshd import Speaker
from sshd import HOST, Sshd, free_port, time_limit

from legacyhost.deadline import Deadline
from legacyhost.errors import Failed
from legacyhost.ssh.remote import Remote, meet
from legacyhost.ssh.target import Target


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    with time_limit():
        yield


@pytest.fixture(autouse=True)
def _no_thread_left() -> Iterator[None]:
    """Nothing that a test started lives on after it."""
    before = set(threading.enumerate())
    yield
    until = time.monotonic() + 5
    while (left := set(threading.enumerate()) - before) and time.monotonic() < until:
        time.sleep(0.02)
    assert not left


def test_a_name_that_does_not_resolve() -> None:
    """A name under .invalid (RFC 6761) is nobody's, whatever else works."""
    assert _failure("nas.invalid", 22).startswith(
        ("there is no host of the name nas.invalid", "the name nas.invalid cannot be looked up now")
    )


@pytest.mark.parametrize("name", ["a" * 70 + ".example", "nas\0", "..", "x" * 300, "\ud800"])
def test_what_is_no_name_is_a_sentence(name: str) -> None:
    """Text that no host can be called fails as such, bounded and without a Python error."""
    said = _failure(name, 22)
    assert "name" in said
    assert len(said) < 300


def test_a_refused_connection() -> None:
    """A closed port is told from a host that is down."""
    port = free_port()
    expected = f"{HOST}:{port} refused the connection: is an SSH server running there, on that port?"
    assert _failure(HOST, port) == expected


def test_no_route() -> None:
    """An address the kernel has no way to is said to be out of reach, not to be silent."""
    said = _failure("255.255.255.255", 22)
    assert said.startswith("255.255.255.255 cannot be reached")


def test_a_server_that_hangs_up_at_once() -> None:
    """Closing without a word gets a sentence of its own."""
    with Speaker(lambda sock: None) as server:
        said = _failure(server.host, server.port)
    assert said.startswith(f"{server.host}:{server.port} closed the connection without a word")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n", '"HTTP/1.1 400 Bad Request Server: x"'),
        (b"220 mail ESMTP\x1b[2J\x07\r\n", '"220 mail ESMTP [2J"'),
        (b"Exceeded MaxStartups\r\n", '"Exceeded MaxStartups"'),
        (b"\xff\xfe\x00\x01binary", "binary"),
        (b"SSH-", '"SSH-"'),
    ],
)
def test_something_else_than_ssh(text: bytes, shown: str) -> None:
    """What another service says is shown, printable and short."""

    def speak(sock: socket.socket) -> None:
        sock.sendall(text)
        sock.shutdown(socket.SHUT_WR)
        sock.recv(1000)

    with Speaker(speak) as server:
        said = _failure(server.host, server.port)
    assert "is not an SSH server" in said
    assert shown in said
    assert said.isprintable()


@pytest.mark.parametrize("line", [b"x" * 1000, b"hello\n" * 100])
def test_an_endless_greeting_is_cut_off(line: bytes) -> None:
    """A server that talks on without ever greeting is left after a few kilobytes, long before the deadline."""
    sent = []

    def speak(sock: socket.socket) -> None:
        while True:
            sent.append(sock.send(line))

    with Speaker(speak) as server:
        said = _failure(server.host, server.port, 40)
    assert "is not an SSH server" in said
    assert sum(sent) < 50_000_000


def test_an_endless_key_exchange_is_cut_off() -> None:
    """A packet announced with a huge length is not read to its end before the server is trusted."""

    def speak(sock: socket.socket) -> None:
        sock.sendall(b"SSH-2.0-Odd\r\n\x7f\xff\xff\xf4")
        while True:
            sock.send(b"\0" * 65536)

    with Speaker(speak) as server:
        assert "it sent far more than one takes" in _failure(server.host, server.port, 40)


def test_a_host_that_was_penalised() -> None:
    """What sshd says after failed logins is no sign of another kind of server."""
    with Speaker(lambda sock: sock.sendall(b"Not allowed at this time\r\n")) as server:
        said = _failure(server.host, server.port)
    assert "accepts no connection from this host for now" in said
    assert "is not an SSH server" not in said


@pytest.mark.parametrize(
    ("speech", "shown"),
    [
        (b"SSH-2.0-Odd\r\n", "closed the connection"),
        (b"SSH-2.0-Odd\r\n" + b"\0\0\0\x0c\x04" + b"\x63" * 40, "sent something that is not SSH"),
        (b"SSH-1.5-Old\r\n", "have no protocol version in common"),
    ],
)
def test_a_key_exchange_that_breaks_off(speech: bytes, shown: str) -> None:
    """Hanging up, nonsense, and protocol version 1 after a good greeting are failures of the key exchange."""

    def speak(sock: socket.socket) -> None:
        sock.sendall(speech)
        sock.shutdown(socket.SHUT_WR)
        sock.recv(10000)

    with Speaker(speak) as server:
        said = _failure(server.host, server.port)
    assert shown in said
    assert "key exchange" in said or "protocol version" in said


def test_an_established_session_that_breaks(tmp_path: Path) -> None:
    """A server that goes away between two requests is said to have closed the connection."""
    with Sshd(tmp_path) as server:
        known = tmp_path / "known_hosts"
        known.write_text(server.known_hosts_line())
        target = Target(server.host, server.user, port=server.port, identity_files=(str(server.client_key),))
        remote = Remote.connect(target, [known], Deadline.after(20))
    with remote, pytest.raises(Failed, match="closed the connection during an SFTP request"):
        remote.ensure_directory("x", create=True)


def test_a_second_address_is_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where the first address of a name refuses, the next one is taken."""
    with Sshd(tmp_path, kinds=["ed25519"]) as server:
        addresses = [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", free_port())),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (server.host, server.port)),
        ]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: addresses)
        assert meet("twofold", server.port, [], Deadline.after(20)).key.short_kind == "ED25519"


def test_connections_leave_no_thread_and_no_descriptor(tmp_path: Path) -> None:
    """After twenty good sessions and twenty refused ones as many descriptors are open as before."""
    with Sshd(tmp_path) as server:
        known = tmp_path / "known_hosts"
        known.write_text(server.known_hosts_line())
        good = Target(server.host, server.user, port=server.port, identity_files=(str(server.client_key),))
        bad = Target(server.host, "nobody-at-all", port=server.port, identity_files=good.identity_files)
        threads, descriptors = threading.active_count(), _descriptors()
        for _ in range(20):
            with Remote.connect(good, [known], Deadline.after(20)) as remote:
                remote.ensure_directory("", create=False)
            with pytest.raises(Failed):
                Remote.connect(bad, [known], Deadline.after(20))
        assert threading.active_count() <= threads
        assert _descriptors() <= descriptors


def _failure(host: str, port: int, seconds: float = 20) -> str:
    with pytest.raises(Failed) as caught:
        meet(host, port, [], Deadline.after(seconds))
    return caught.value.message


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))
