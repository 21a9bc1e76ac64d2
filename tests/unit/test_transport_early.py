"""The begin of a mount over a connection shared with others, and the change to its own."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import pytest
from fakes import WAIT
from fakessh import REFUSE, FakeSsh, Line, Start, hosts, until

from legacyhost.drivers.sshfs import TRANSPORT
from legacyhost.mounts.tools import copied
from legacyhost.transport.early import ANSWERED, OVER, Early

#: Of OpenSSH, without ssh: what the host has behind the login.
SERVER = "/usr/lib/openssh/sftp-server"
#: What both connections do unless a test says otherwise: the one of a mount has a record.
OWN = f'login; tee -a "$here/own" | {SERVER}'
SHARED = f'login; tee -a "$here/shared" | {SERVER}'
INIT = struct.pack(">IBI", 5, 1, 3)
VERSION, STATUS, ATTRS, HANDLE = 2, 101, 105, 102
LSTAT, STAT, REALPATH, READLINK, MKDIR, OPENDIR = 7, 17, 16, 19, 14, 11


def plan(shared: str = SHARED, own: str = OWN) -> str:
    return f'if [ -z "${{LEGACYHOST_RECORD:-}}" ]; then {shared}; else {own}; fi'


def frame(kind: int, number: int, *texts: bytes, more: bytes = b"") -> bytes:
    body = struct.pack(">BI", kind, number) + b"".join(struct.pack(">I", len(text)) + text for text in texts) + more
    return struct.pack(">I", len(body)) + body


def answer(line: Line | socket.socket) -> tuple[int, int]:
    """Type and number of the next frame."""
    sock = line.socket if isinstance(line, Line) else line
    sock.settimeout(WAIT)
    got = b""
    while len(got) < 4 or len(got) < 4 + struct.unpack_from(">I", got)[0]:
        more = sock.recv(1 if len(got) >= 4 else 4 - len(got))
        if not more:
            raise EOFError
        got += more
    kind, number = struct.unpack_from(">BI", got, 4)
    return kind, number


def ask(line: Line | socket.socket, *frames: bytes) -> list[tuple[int, int]]:
    sock = line.socket if isinstance(line, Line) else line
    sock.sendall(b"".join(frames))
    return [answer(line) for _ in frames]


def heard(ssh: FakeSsh, which: str) -> bytes:
    """What the host has been sent over the connection(s) of that kind."""
    path = ssh.directory / which
    return path.read_bytes() if path.exists() else b""


def is_heard(ssh: FakeSsh, which: str, data: bytes) -> bool:
    """The same, soon: what the host answers may be here before what it has been sent is there."""
    until(lambda: data in heard(ssh, which), f"{which} has not been sent {data!r}")
    return True


def connected(folder: Path) -> socket.socket:
    """To the shared connection's process, as a mount is."""
    until((folder / "socket").exists, "it listens")
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(WAIT)
    sock.connect(str(folder / "socket"))
    return sock


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with hosts(tmp_path) as made:
        yield made


def test_a_mount_begins_over_the_shared_connection(start: Start) -> None:
    """What only asks goes there, all else over the mount's own; sshfs notices nothing of the change."""
    ssh = start(plan())
    line = ssh.line(LEGACYHOST_SHARED=str(ssh.share()))
    made = os.fsencode(ssh.directory / "made")
    first = frame(LSTAT, 7, b"/first")
    assert ask(line, INIT) == [(VERSION, 3)]
    assert ask(line, first) == [(STATUS, 7)]
    assert is_heard(ssh, "shared", first[9:]), "the same question, under another number"
    assert ask(line, frame(MKDIR, 8, made, more=b"\0\0\0\0")) == [(STATUS, 8)]
    assert Path(os.fsdecode(made)).is_dir()
    assert made not in heard(ssh, "shared")
    assert is_heard(ssh, "own", INIT)
    assert first not in heard(ssh, "own")
    assert ask(line, frame(LSTAT, 9, made)) == [(ATTRS, 9)]
    assert made not in heard(ssh, "shared"), "there is one change"
    record = ssh.record()
    assert (record.connections, record.reconnects, record.lost, record.error) == (2, 0, 0, "")
    assert 0 < record.took < WAIT, "how long the own one took: the shared one says nothing about that"
    assert ssh.said() == []


def test_order_is_kept(start: Start) -> None:
    """sshfs sends the request that opens a new file and asks for its size without waiting in between."""
    ssh = start(plan())
    line = ssh.line(LEGACYHOST_SHARED=str(ssh.share()))
    ask(line, INIT)
    made = os.fsencode(ssh.directory / "made")
    assert ask(line, frame(MKDIR, 1, made, more=b"\0\0\0\0"), frame(LSTAT, 2, made)) == [(STATUS, 1), (ATTRS, 2)]


@pytest.mark.parametrize("is_third_open", [False, True])
def test_sshfs_is_greeted_once_for_each_time_it_minds(start: Start, is_third_open: bool) -> None:
    """The greeting of the mount's own connection looks like the answer to request 3: it goes through when that has one.

    Then ssh speaks to sshfs itself; or else for as long as the connection lasts through a pipe, without the greeting.
    """
    ssh = start(plan(own=f'to=$(readlink /proc/$$/fd/1); echo $to >"$here/stdout"; {OWN}'))
    line = ssh.line(LEGACYHOST_SHARED=str(ssh.share()))
    ask(line, INIT)
    ask(line, *(frame(LSTAT, number, b"/") for number in range(3)))
    made = os.fsencode(ssh.directory / "made")
    line.socket.sendall(b"" if is_third_open else frame(LSTAT, 3, b"/") + frame(LSTAT, 4, b"/"))
    expected = [] if is_third_open else [(ATTRS, 3), (ATTRS, 4)]
    assert [answer(line) for _ in expected] == expected
    line.socket.sendall(frame(MKDIR, 3 if is_third_open else 5, made, more=b"\0\0\0\0"))
    expected = [(STATUS, 3)] if is_third_open else [(VERSION, 3), (STATUS, 5)]
    assert [answer(line) for _ in expected] == expected
    assert Path(os.fsdecode(made)).is_dir()
    assert (ssh.directory / "stdout").read_text().startswith("pipe:" if is_third_open else "socket:")
    big = os.fsencode(ssh.directory / "big")
    Path(os.fsdecode(big)).symlink_to("x" * 4000)
    assert ask(line, *(frame(READLINK, number, big) for number in range(10, 200))) == [
        (104, number) for number in range(10, 200)
    ]


def test_what_is_not_answered_is_never_taken_for_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even while it is only just being taken: the greeting would be the answer to it."""
    sshfs, theirs = socket.socketpair()
    host, shared = socket.socketpair()
    with sshfs, theirs, host, shared:
        monkeypatch.setattr("legacyhost.transport.early.SOCKET", theirs.fileno())
        early = Early(shared.fileno())
        sshfs.sendall(INIT)
        host.sendall(frame(VERSION, 3))
        assert (answer(sshfs), early.wait(WAIT)) == ((VERSION, 3), ANSWERED)
        os.set_blocking(early._tell, False)
        with suppress(BlockingIOError):  # its thread waits where it says that more is wanted
            while True:
                os.write(early._tell, OVER)
        os.set_blocking(early._tell, True)
        sshfs.sendall(frame(MKDIR, 3, b"/made", more=b"\0\0\0\0"))
        until(lambda: bool(early._numbers), "it takes the request")
        assert not early.is_greeting_nobodys()
        os.read(early._told, 1 << 16)
        assert early.stop() == frame(MKDIR, 3, b"/made", more=b"\0\0\0\0")


def test_its_own_comes_by_itself(start: Start) -> None:
    """So that a loss is noticed, and whoever comes later does not wait."""
    ssh = start(plan())
    line = ssh.line(LEGACYHOST_SHARED=str(ssh.share()))
    ask(line, INIT)
    until(lambda: heard(ssh, "own") == INIT, "nobody has asked for it")


def test_what_has_no_answer_is_asked_again(start: Start) -> None:
    """A server that hangs for one volume hangs for no other; an answer that comes after all is nobody's."""
    ssh = start(plan(f'login; echo $$ >"$here/server"; exec {SERVER}'))
    line = ssh.line(LEGACYHOST_SHARED=str(ssh.share()))
    ask(line, INIT)
    server = int((ssh.directory / "server").read_text())
    os.kill(server, signal.SIGSTOP)
    assert ask(line, frame(LSTAT, 1, b"/"), frame(STAT, 2, b"/nowhere")) == [(ATTRS, 1), (STATUS, 2)]
    os.kill(server, signal.SIGCONT)
    assert ask(line, frame(OPENDIR, 3, b"/"), frame(LSTAT, 4, b"/")) == [(HANDLE, 3), (ATTRS, 4)]


def test_a_shared_connection_that_is_lost_costs_nothing(start: Start) -> None:
    """The mount's own is made, and what was asked in between is asked there."""
    ssh = start(plan(f'login; echo $$ >"$here/server"; exec {SERVER}'))
    folder = ssh.share()
    line = ssh.line(LEGACYHOST_SHARED=str(folder))
    ask(line, INIT)
    os.kill(int((ssh.directory / "server").read_text()), signal.SIGKILL)
    assert ask(line, frame(LSTAT, 1, b"/")) == [(ATTRS, 1)]
    assert ssh.sharing().wait(WAIT) == 0
    assert not folder.exists()
    assert ssh.record().reconnects == 0


@pytest.mark.parametrize("nobody", ["no folder", "killed", "empty"])
def test_without_a_shared_connection_the_mount_has_its_own_at_once(start: Start, nobody: str) -> None:
    """Whether it has ended, was killed or never began."""
    ssh = start(plan())
    folder = ssh.share()
    if nobody == "empty":
        ssh.sharing().kill()
        folder = ssh.directory / "empty"
        folder.mkdir()
    else:
        connected(folder).close()
        ssh.sharing().kill()
        ssh.sharing().wait()
    line = ssh.line(LEGACYHOST_SHARED=str(folder if nobody != "no folder" else folder / "gone"))
    assert ask(line, INIT, frame(LSTAT, 1, b"/")) == [(VERSION, 3), (ATTRS, 1)]
    assert is_heard(ssh, "own", INIT)
    assert ssh.record().connections == 1


def test_why_the_shared_one_could_not_be_made_is_why_the_mount_fails(start: Start) -> None:
    """A wrong password is not tried twice: the server may lock the account."""
    ssh = start(plan("sleep 0.5; echo 'anna@nas: Permission denied (password).' >&2; exit 255"))
    folder = ssh.share()
    line = ssh.line(LEGACYHOST_SHARED=str(folder))
    line.socket.sendall(INIT)
    assert line.status() == 255
    assert len(ssh.started()) == 1
    record = ssh.record()
    assert (record.connections, record.error) == (0, "anna@nas: Permission denied (password).")
    assert ssh.sharing().wait(WAIT) == 1
    assert not folder.exists()


def test_a_mount_whose_own_connection_is_refused_waits_for_it(start: Start) -> None:
    """A server that takes a few logins at a time only; what has been sent meanwhile is not lost."""
    ssh = start(plan(own=f"[ $attempt -gt 4 ] || {{ {REFUSE}; }}; {OWN}"))
    line = ssh.line(LEGACYHOST_SHARED=str(ssh.share()))
    ask(line, INIT)
    made = os.fsencode(ssh.directory / "made")
    assert ask(line, frame(MKDIR, 8, made, more=b"\0\0\0\0")) == [(STATUS, 8)]
    assert Path(os.fsdecode(made)).is_dir()
    assert len(ssh.started()) == 5


def test_a_connection_made_again_is_the_mounts_own(start: Start) -> None:
    """The shared one is for the begin: whatever has ended the mount's own has ended it too, perhaps unnoticed."""
    ssh = start(plan())
    folder = ssh.share()
    ssh.recorded(connections=2, took=0.1, lost=time.monotonic(), lost_at=time.time())
    line = ssh.line(LEGACYHOST_SHARED=str(folder))
    assert ask(line, INIT, frame(LSTAT, 1, b"/")) == [(VERSION, 3), (ATTRS, 1)]
    assert is_heard(ssh, "own", INIT)


def test_who_asks_gets_the_answer(start: Start) -> None:
    """Many mounts at once, whose questions have the same numbers; over one connection."""
    ssh = start(plan(own="sleep 60"))
    folder = ssh.share()

    def begin(number: int) -> list[tuple[int, int]]:
        line = ssh.line(LEGACYHOST_SHARED=str(folder), LEGACYHOST_RECORD=f"{ssh.path}.{number}")
        missing = frame(LSTAT, 2, b"/nowhere" * number)
        return ask(line, INIT) + ask(line, frame(LSTAT, 1, b"/"), missing, frame(STAT, 3, b"/"))

    with ThreadPoolExecutor(20) as pool:
        for got in pool.map(begin, range(1, 21)):
            assert got == [(VERSION, 3), (ATTRS, 1), (STATUS, 2), (ATTRS, 3)]
    assert is_heard(ssh, "shared", INIT)
    assert heard(ssh, "shared").count(INIT) == 1


@pytest.mark.parametrize("kind", [kind for kind in range(256) if kind not in (1, 7, 16, 17, 19)])
def test_nothing_but_questions_is_passed_on(shared: tuple[FakeSsh, Path, socket.socket], kind: int) -> None:
    """Whoever sends anything else is left; the others are served."""
    ssh, folder, other = shared
    with closing(connected(folder)) as line:
        assert ask(line, INIT) == [(VERSION, 3)]
        line.sendall(frame(kind, 1, b"/only-here"))
        with pytest.raises((EOFError, ConnectionResetError)):
            answer(line)
    assert ask(other, frame(LSTAT, 5, b"/")) == [(ATTRS, 5)]
    assert b"/only-here" not in heard(ssh, "shared")


@pytest.mark.parametrize(
    "data",
    [
        b"\xff" * 20,
        b"\0" * 20,
        b"\0\0\0\1\7",
        frame(200, 1, b"posix-rename@openssh.com", b"/a", b"/b"),
        b"\1" * 300_000,
    ],
    ids=lambda data: f"{len(data)} bytes",
)
def test_nonsense_is_answered_by_the_end(shared: tuple[FakeSsh, Path, socket.socket], data: bytes) -> None:
    """Of that client's connection alone."""
    _, folder, other = shared
    with closing(connected(folder)) as line:
        ask(line, INIT)
        with pytest.raises((EOFError, ConnectionResetError, BrokenPipeError)):
            line.sendall(data)
            line.shutdown(socket.SHUT_WR)
            answer(line)
    assert ask(other, frame(STAT, 5, b"/")) == [(ATTRS, 5)]


def test_who_does_not_listen_is_left_alone(shared: tuple[FakeSsh, Path, socket.socket]) -> None:
    """A mount that is stopped holds up nobody."""
    _, folder, other = shared
    question = frame(READLINK, 1, b"/proc/self/exe") * 1000
    with closing(connected(folder)) as line:
        ask(line, INIT)
        line.settimeout(1)
        with pytest.raises((TimeoutError, ConnectionResetError, BrokenPipeError)):
            for _ in range(1000):
                line.sendall(question)
        for number in range(20):
            assert ask(other, frame(STAT, number, b"/")) == [(ATTRS, number)]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[FakeSsh, Path, socket.socket]]:
    """A connection, and one who uses it already."""
    with hosts(tmp_path_factory.mktemp("host")) as made:
        ssh = made(plan())
        folder = ssh.share()
        with closing(connected(folder)) as line:
            assert ask(line, INIT) == [(VERSION, 3)]
            yield ssh, folder, line


@pytest.mark.parametrize("said", ["cat /dev/zero", "cat /dev/urandom", "exit 0"])
def test_a_server_that_talks_nonsense_is_left(start: Start, said: str) -> None:
    """And the mount has its own connection; its folder is gone."""
    ssh = start(plan(f"login; {said}"))
    folder = ssh.share()
    ssh.sharing().wait(WAIT)
    assert not folder.exists()
    line = ssh.line(LEGACYHOST_SHARED=str(folder))
    assert ask(line, INIT, frame(LSTAT, 1, b"/")) == [(VERSION, 3), (ATTRS, 1)]


def test_secrets_go_when_they_are_not_needed_any_more(start: Start) -> None:
    """It logs in but once; what it is found by stays."""
    ssh = start(plan("until [ -e $here/go ]; do sleep 0.01; done; " + SHARED))
    folder = ssh.share()
    for name in ("secret", "jump_identity", "ssh_config", "digest"):
        (folder / name).write_text("hunter2")
    line = ssh.line(LEGACYHOST_SHARED=str(folder))
    assert (folder / "secret").exists()
    (ssh.directory / "go").touch()
    ask(line, INIT)
    assert {path.name for path in folder.iterdir()} == {"digest", "socket"}


def test_it_ends_when_nobody_uses_it(start: Start) -> None:
    """Not before: a mount that has its own connection uses it still, because others of the account may come."""
    ssh = start(plan())
    folder = ssh.share(IDLE=0.5)
    line = ssh.line(LEGACYHOST_SHARED=str(folder))
    ask(line, INIT)
    ask(line, frame(OPENDIR, 3, b"/"))
    time.sleep(1.5)
    assert ssh.sharing().poll() is None
    line.close()
    assert ssh.sharing().wait(WAIT) == 0
    assert not folder.exists()
    assert ssh.running() == []


def test_a_login_that_is_refused_at_once_is_said_and_no_defect(tmp_path: Path) -> None:
    """ssh may have ended before it has been greeted."""
    (tmp_path / "ssh").write_text("#!/bin/sh\necho 'nas: Connection refused' >&2\nexit 255\n")
    (tmp_path / "ssh").chmod(0o755)
    (tmp_path / "folder").mkdir()
    program = f"""
import select, sys
sys.path.insert(0, {str(copied(TRANSPORT, tmp_path).parent)!r})
from legacyhost.transport import shared
class Ended(shared.Ssh):
    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        select.select([self.ended], [], [])
shared.Ssh = Ended
sys.exit(shared.main({str(tmp_path / "folder")!r}, ["nas"]))
"""
    argv = [sys.executable, "-I", "-S", "-c", program]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=WAIT, env={"PATH": f"{tmp_path}:{os.defpath}"})
    assert (ran.returncode, ran.stderr) == (1, "nas: Connection refused\n")
    assert not (tmp_path / "folder").exists()
