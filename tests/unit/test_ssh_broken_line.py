"""A line between us and a good server that breaks, falls silent or garbles at any byte: always one sentence."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from oddsshd import Speaker
from sshd import Sshd, time_limit

from legacyhost.deadline import Deadline
from legacyhost.errors import Failed
from legacyhost.ssh.remote import Remote
from legacyhost.ssh.target import Target

WHOLE = 7000  # more bytes than a server sends in the session tried here
STEP = 137


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    with time_limit(120):
        yield


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    with Sshd(tmp_path_factory.mktemp("sshd"), kinds=["ed25519"]) as running:
        yield running


def test_a_line_cut_at_any_byte(server: Sshd) -> None:
    """Wherever the server's side ends, there is a sentence or success, within a second or so."""
    outcomes = [_session(server, _cut, at, 30) for at in range(0, WHOLE, STEP)]
    assert outcomes[-1] == "done"
    others = [said for said in outcomes if said != "done" and "closed the connection" not in said]
    assert others == []


def test_a_line_silent_from_any_byte(server: Sshd) -> None:
    """Wherever the server's side falls silent, the deadline ends it, with the stage it was in."""
    threads = threading.active_count()
    with ThreadPoolExecutor(26) as pool:
        began = time.monotonic()
        outcomes = list(pool.map(lambda at: _session(server, _freeze, at, 3), range(0, WHOLE, 2 * STEP)))
        assert time.monotonic() - began < 60
    assert all(outcome == "done" or "did not answer within 3 s" in outcome for outcome in outcomes), outcomes
    stages = {outcome.partition("waiting for ")[2] for outcome in outcomes}
    assert stages >= {"the greeting of an SSH server)", "the key exchange)", "the login)"}
    until = time.monotonic() + 10
    while threading.active_count() > threads and time.monotonic() < until:
        time.sleep(0.05)
    assert threading.active_count() <= threads


def test_a_line_garbled_at_any_byte(server: Sshd) -> None:
    """A flipped bit anywhere is never accepted silently and never an exception of Python's."""
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda at: _session(server, _garble, at, 3), range(0, 4500, 61)))
    assert all(outcome == "done" or outcome.isprintable() for outcome in outcomes)
    early = outcomes[: 1100 // 61]
    assert "done" not in early, early


def _session(server: Sshd, spoil: Callable[[bytes, int, int], tuple[bytes, str]], at: int, seconds: float) -> str:
    """ "done", or the sentence that a short session through a line spoilt at byte ``at`` fails with."""
    with Speaker(lambda sock: None) as line:
        line._speak = lambda sock: _relay(sock, server, line, spoil, at)
        key = server.known_hosts_line().split()
        known = Path(server.directory / f"known_hosts_{line.port}")
        known.write_text(f"[{line.host}]:{line.port} {key[1]} {key[2]}\n")
        files = (str(server.client_key),)
        target = Target(line.host, server.user, port=line.port, identity_files=files)
        try:
            with Remote.connect(target, [known], Deadline.after(seconds)) as remote:
                remote.ensure_directory("made/here", create=True)
                remote.free_space("")
        except Failed as failure:
            return failure.message
        return "done"


def _relay(
    client: socket.socket,
    server: Sshd,
    line: Speaker,
    spoil: Callable[[bytes, int, int], tuple[bytes, str]],
    at: int,
) -> None:
    """Pass bytes on; ``spoil`` sees those of the server, and says "stop" or "hang" when that is to come."""
    with socket.create_connection((server.host, server.port)) as upstream:
        back = threading.Thread(target=_pump, args=(client, upstream), daemon=True)
        back.start()
        passed, then = 0, ""
        while not then and (data := upstream.recv(65536)):
            shown, then = spoil(data, passed, at)
            passed += len(data)
            client.sendall(shown)
        if then == "hang":
            line.ended.wait(60)
        client.shutdown(socket.SHUT_RDWR)
        upstream.shutdown(socket.SHUT_RDWR)
        back.join(5)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


def _cut(data: bytes, passed: int, at: int) -> tuple[bytes, str]:
    return data[: max(0, at - passed)], "stop" if passed + len(data) >= at else ""


def _freeze(data: bytes, passed: int, at: int) -> tuple[bytes, str]:
    return data[: max(0, at - passed)], "hang" if passed + len(data) >= at else ""


def _garble(data: bytes, passed: int, at: int) -> tuple[bytes, str]:
    if not passed <= at < passed + len(data):
        return data, ""
    place = at - passed
    return data[:place] + bytes([data[place] ^ 0x10]) + data[place + 1 :], ""
