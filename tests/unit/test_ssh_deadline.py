"""A server, or the resolver, that falls silent at any stage: the caller is back at the deadline, with a sentence."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from oddsshd import Files, Manners, OddServer, Speaker
from sshd import HOST, time_limit

from legacyhost.deadline import Deadline
from legacyhost.errors import Failed
from legacyhost.ssh.attempt import Attempt, Late
from legacyhost.ssh.remote import Remote, meet
from legacyhost.ssh.target import Secret, Target

SHORT = 1.0  # the deadline of tests that wait for it, in seconds
SLACK = 5.0  # how much later the end may come on a busy machine


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


def test_a_host_that_takes_no_connection_in_time() -> None:
    """A full accept queue drops connection requests like a firewall does: over at the deadline."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex((HOST, port))
            waiting.append(filler)
        time.sleep(0.1)
        said = _ends_in_time(lambda: _failure(HOST, port, SHORT))
        for filler in waiting:
            filler.close()
    assert said == f"{HOST}:{port} did not answer within 1 s (waiting for the TCP connection)"


@pytest.mark.parametrize(
    ("first", "stage"),
    [(b"", "the greeting of an SSH server"), (b"SSH-2.0-Odd\r\n", "the key exchange")],
)
def test_silence_before_the_keys_ends_at_the_deadline(first: bytes, stage: str) -> None:
    """A server that accepts and says nothing, or nothing after its greeting, is left at the deadline."""
    with Speaker(lambda sock: None) as server:

        def speak(sock: socket.socket) -> None:
            sock.sendall(first)
            server.ended.wait(50)

        server._speak = speak
        said = _ends_in_time(lambda: _failure(server.host, server.port, SHORT))
    assert said == f"{server.host}:{server.port} did not answer within 1 s (waiting for {stage})"


def test_a_greeting_drop_by_drop_ends_at_the_deadline() -> None:
    """A byte now and then does not extend the deadline."""

    def speak(sock: socket.socket) -> None:
        while not server.ended.wait(0.1):
            sock.send(b"x")

    with Speaker(speak) as server:
        assert "did not answer within 1 s" in _ends_in_time(lambda: _failure(server.host, server.port, SHORT))


@pytest.mark.parametrize(
    ("hang_at", "stage"),
    [
        ("login", "the login"),
        ("session", "the start of SFTP"),
        ("subsystem", "the start of SFTP"),
    ],
)
def test_silence_after_the_keys_ends_at_the_deadline(tmp_path: Path, hang_at: str, stage: str) -> None:
    """A server that stops in the login or at the start of SFTP is left at the deadline."""
    manners = Manners()
    manners.hang_at = hang_at
    with OddServer(manners) as server:
        said = _ends_in_time(lambda: _login_failure(server, tmp_path, SHORT))
    assert said == f"{server.host}:{server.port} did not answer within 1 s (waiting for {stage})"


def test_silence_in_an_sftp_reply_ends_at_the_deadline(tmp_path: Path) -> None:
    """A request that is never answered ends when the session's deadline comes, and the session is closed."""
    manners = Manners()
    manners.hang_at = "sftp"

    class Silent(Files):
        def stat(self, path: str) -> object:
            manners.hang("sftp")
            return super().stat(path)

    def ask() -> str:
        with _odd_login(server, tmp_path, SHORT) as remote, pytest.raises(Failed) as caught:
            remote.ensure_directory("/tmp", create=False)
        return caught.value.message

    with OddServer(manners, Silent) as server:
        said = _ends_in_time(ask)
    assert said == f"{server.host}:{server.port} did not answer within 1 s (waiting for an SFTP request)"


def test_a_deadline_that_is_over_already() -> None:
    """No connection is even begun."""
    with Speaker(lambda sock: None) as server:
        assert _failure(server.host, server.port, 0) == (
            f"there was no time to ask {server.host}:{server.port} within 0 s: this host is busy, or that is too short"
        )
        assert server.connections == 0


def test_a_resolver_that_hangs_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """getaddrinfo has no time-out of its own; the caller is back at the deadline all the same."""
    answered = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(50) and [])
    said = _ends_in_time(lambda: _failure("nas.example.org", 22, SHORT))
    answered.set()
    assert said == "nas.example.org did not answer within 1 s (waiting for the look-up of its name)"


def test_late_work_closes_what_it_gets_too_late() -> None:
    """A resource that abandoned work acquires after the deadline is closed at once, not leaked."""
    attempt = Attempt(Deadline.after(0.1))
    go_on, closed = threading.Event(), threading.Event()

    class Resource:
        def close(self) -> None:
            closed.set()

    def work() -> None:
        go_on.wait(20)
        attempt.hold(Resource())

    with pytest.raises(Late):
        attempt.run(work)
    assert not closed.is_set()
    go_on.set()
    assert closed.wait(10)


def _failure(host: str, port: int, seconds: float = 20) -> str:
    with pytest.raises(Failed) as caught:
        meet(host, port, [], Deadline.after(seconds))
    return caught.value.message


def _odd_login(server: OddServer, directory: Path, seconds: float) -> Remote:
    known = directory / "known_hosts"
    known.write_text(server.known_hosts_line())
    target = Target(server.host, "anna", port=server.port, password=Secret("right"))
    return Remote.connect(target, [known], Deadline.after(seconds))


def _login_failure(server: OddServer, directory: Path, seconds: float) -> str:
    with pytest.raises(Failed) as caught:
        _odd_login(server, directory, seconds)
    return caught.value.message


def _ends_in_time(act: Callable[[], str]) -> str:
    began = time.monotonic()
    said = act()
    took = time.monotonic() - began
    assert SHORT * 0.9 <= took <= SHORT + SLACK
    return said
