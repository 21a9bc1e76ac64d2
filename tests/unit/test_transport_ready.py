"""When a mount counts, for real: what is waited for, and what is said then."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from fakes import WAIT
from namespace import in_own_namespace

from legacyhost.mounts import mountinfo
from legacyhost.transport import ready

SOURCE = "its:own"


def mount(where: Path, source: str = SOURCE) -> None:
    subprocess.run(["mount", "-t", "tmpfs", source, str(where)], check=True)


class Told:
    """Whoever has started the mount's program."""

    def __init__(self, where: Path, *, is_abstract: bool = True) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        name = f"test-{os.urandom(8).hex()}"
        self.socket.bind(f"\0{name}" if is_abstract else f"/run/{name}")
        arguments = str(where), SOURCE, f"@{name}" if is_abstract else f"/run/{name}", os.getpid()
        threading.Thread(target=ready.ask, args=arguments, daemon=True).start()

    def within(self, seconds: float) -> bytes:
        """What is said, empty if nothing is in that time."""
        self.socket.settimeout(seconds)
        try:
            return self.socket.recv(100)
        except TimeoutError:
            return b""


@pytest.mark.parametrize("name", ["data", "x" * 255, "a b\tc\\d\\040e%s$HOME", "line\nbreak", "é☃"])
@pytest.mark.parametrize("is_first", [False, True])
@in_own_namespace
def test_it_is_said_once_the_mount_is_there(tmp_path: Path, name: str, is_first: bool) -> None:
    """Whichever comes first; it is content with any path that can be, not with what somebody else has mounted there."""
    where = tmp_path / name
    where.mkdir()
    if is_first:
        mount(where)
        told = Told(where)
    else:
        told = Told(where)
        assert told.within(0.2) == b""
        mount(where, "somebody:else")
        assert told.within(0.2) == b""
        mount(where)
    assert told.within(WAIT) == b"READY=1"
    assert told.within(0.2) == b"", "once"


@in_own_namespace
def test_it_is_said_in_the_name_of_who_made_the_pair_of_sockets(tmp_path: Path) -> None:
    """That is sshfs: systemd takes the word of a unit's main process. Who says it may have ended when it is read."""
    mount(tmp_path)
    ours, theirs = socket.socketpair()
    with (
        ours,
        theirs,
        subprocess.Popen(["sleep", "60"]) as main,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as line,
    ):
        assert ready._maker(theirs.fileno()) == os.getpid()
        line.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        line.bind("\0said")
        ready.ask(str(tmp_path), SOURCE, "@said", main.pid)
        said, ((_, _, credentials),), *_ = line.recvmsg(100, 100)
        assert (said, ready.CREDENTIALS.unpack(credentials)[0]) == (b"READY=1", main.pid)
        main.kill()


@in_own_namespace
def test_it_is_said_at_a_path_too(tmp_path: Path) -> None:
    """As systemd has it; others have an address without one."""
    mount(tmp_path)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    assert Told(tmp_path, is_abstract=False).within(WAIT) == b"READY=1"


@in_own_namespace
def test_no_other_mount_counts(tmp_path: Path) -> None:
    """Neither one below, nor one whose path only begins alike, nor one that is covered."""
    for name in ("data", "data2", "data/inner"):
        (tmp_path / name).mkdir()
    for name in ("data2", "data/inner"):
        mount(tmp_path / name)
    told = Told(tmp_path / "data")
    assert told.within(0.3) == b""
    mount(tmp_path / "data2", "somebody:else")
    covered = Told(tmp_path / "data2")
    assert covered.within(0.3) == b""
    mount(tmp_path / "data")
    assert told.within(WAIT) == b"READY=1"


@in_own_namespace
def test_an_error_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked again: the connection may have been lost just then, and is made again."""
    mount(tmp_path)
    left, stat = [3], os.stat

    def failing(path: str) -> object:
        if path == str(tmp_path) and left[0]:
            left[0] -= 1
            raise ConnectionAbortedError
        return stat(path)

    monkeypatch.setattr("legacyhost.transport.ready.os.stat", failing)
    told = Told(tmp_path)
    assert told.within(WAIT) == b"READY=1"
    assert left == [0]


@in_own_namespace
def test_that_the_read_ahead_cannot_be_set_is_said(tmp_path: Path) -> None:
    """A mount without such a setting, or where /sys is read-only, is slower and no failure."""
    mount(tmp_path)
    device = mountinfo.read()[-1].device
    with (tmp_path / "journal").open("wb") as journal:
        os.dup2(journal.fileno(), 2)
    assert Told(tmp_path).within(WAIT) == b"READY=1"
    text = f"the kernel reads no more than ? KiB ahead: /sys/class/bdi/{device}/read_ahead_kb cannot be written\n"
    assert (tmp_path / "journal").read_text() == text


@in_own_namespace
def test_the_read_ahead_is_set_before_it_is_said(tmp_path: Path) -> None:
    """Whoever reads first reads with it; only then does the kernel not change it any more."""
    mount(tmp_path)
    device = mountinfo.read()[-1].device
    mount(Path("/sys/class/bdi"), "settings")
    Path("/sys/class/bdi", device).mkdir()
    assert Told(tmp_path).within(WAIT) == b"READY=1"
    assert Path("/sys/class/bdi", device, "read_ahead_kb").read_text() == "2048\n"


@in_own_namespace
def test_where_nobody_listens_that_is_said(tmp_path: Path) -> None:
    """The mount will be given up then, and its log has the reason."""
    mount(tmp_path)
    with (tmp_path / "journal").open("wb") as journal:
        os.dup2(journal.fileno(), 2)
    ready.ask(str(tmp_path), SOURCE, "@nobody-is-here", os.getpid())
    assert "nobody can be told that the mount answers: Connection refused" in (tmp_path / "journal").read_text()
