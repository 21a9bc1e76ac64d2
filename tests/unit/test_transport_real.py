"""A real sshfs over a real sshd, mounted as the driver orders it, for an account that is not root."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from fakes import WAIT
from namespace import in_own_namespace
from realmount import Remote, mounted

if not Path("/dev/fuse").exists():
    pytest.skip("there is no FUSE here", allow_module_level=True)


@pytest.fixture
def readable() -> Iterator[Path]:
    """A directory on the way to which every account may go."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def error_of(action: Callable[[], object]) -> int | None:
    """The errno it fails with, None if it does not."""
    try:
        action()
    except OSError as error:
        return error.errno
    return None


@in_own_namespace
def test_a_change_of_an_owner_does_nothing(readable: Path) -> None:
    """It succeeds for a file, a directory, a link and an open file; everything else about them can be changed."""
    remote = Remote.new(readable)
    with remote.server, mounted(readable, remote) as here:
        here.write("file", "content")
        (here.top / "directory").mkdir()
        (here.top / "link").symlink_to("file")
        before = [(path.lstat().st_uid, path.lstat().st_gid) for path in sorted(remote.data.iterdir())]
        for name in ("file", "directory", "."):
            os.chown(here.top / name, 12345, 54321)
            os.chown(here.top / name, 0, -1)
        os.lchown(here.top / "link", 1, 1)
        with (here.top / "file").open("ab") as file:
            os.fchown(file.fileno(), 12345, 54321)
            file.write(b", more")
            os.fchmod(file.fileno(), 0o640)
        assert [(path.lstat().st_uid, path.lstat().st_gid) for path in sorted(remote.data.iterdir())] == before
        (here.top / "file").chmod(0o604)
        os.utime(here.top / "file", (1, 2))
        os.truncate(here.top / "file", 3)
        os.utime(here.top / "file", (1, 2))
        status = (remote.data / "file").stat()
        assert (status.st_mode & 0o777, status.st_mtime, status.st_size) == (0o604, 2, 3)
        assert here.record().connections == 1


@in_own_namespace
def test_with_strict_the_server_decides(readable: Path) -> None:
    """The refusal is the program's to deal with."""
    remote = Remote.new(readable)
    with remote.server, mounted(readable, remote, chown="strict") as here:
        here.write("file", "content")
        owner = (remote.data / "file").stat().st_uid
        assert error_of(lambda: os.chown(here.top / "file", 12345, 54321)) in (errno.EPERM, errno.EACCES)
        assert (remote.data / "file").stat().st_uid == owner
        assert (here.top / "file").read_text() == "content"


@in_own_namespace
def test_root_changes_owners(readable: Path) -> None:
    """An account that may do it does it, whatever the option says."""
    remote = Remote.new(readable, user="root")
    with remote.server, mounted(readable, remote, chown="ignore") as here:
        here.write("file", "content")
        os.chown(here.top / "file", 12345, 54321)
        status = (remote.data / "file").stat()
        assert (status.st_uid, status.st_gid) == (12345, 54321)


@pytest.mark.parametrize("chown", ["ignore", "strict"])
@in_own_namespace
def test_a_lost_connection_is_made_again_under_the_same_mount(readable: Path, chown: str) -> None:
    """The first operation after the loss works; the record tells of it."""
    remote = Remote.new(readable)
    with remote.server, mounted(readable, remote, chown=chown) as here:
        here.write("before", "content")
        for count in (2, 3):
            remote.sessions(signal.SIGKILL)
            here.until_lost()
            here.write(f"after{count}", "content")
            here.until_connected(count)
            assert here.record().lost == 0
            assert here.record().error
            assert (remote.data / f"after{count}").read_text() == "content"


@in_own_namespace
def test_connections_side_by_side_are_made_again(readable: Path) -> None:
    """With max_conns= each has a process of its own, and all write one record."""
    remote = Remote.new(readable)
    with remote.server, mounted(readable, remote, max_conns="3") as here, ThreadPoolExecutor(6) as pool:
        for turn in range(3):
            names = [f"file{turn}{number}" for number in range(30)]
            list(pool.map(lambda name: here.write(name, "content"), names))
            assert {(remote.data / name).read_text() for name in names} == {"content"}
            remote.sessions(signal.SIGKILL)
            here.until_lost()
        here.write("last", "content")
        assert here.record().lost == 0
        assert "Traceback" not in here.journal()


@in_own_namespace
def test_a_silence_is_waited_for(readable: Path) -> None:
    """One that is shorter than fail_after costs time and nothing else."""
    remote = Remote.new(readable)
    with remote.server, mounted(readable, remote) as here, ThreadPoolExecutor() as pool:
        here.write("before", "content")
        remote.sessions(signal.SIGSTOP)
        waiting = pool.submit(here.write, "new", "content")
        time.sleep(1)
        assert not waiting.done()
        remote.sessions(signal.SIGCONT)
        waiting.result(WAIT)
        assert (remote.data / "new").read_text() == "content"
        assert here.record().connections == 1


@in_own_namespace
def test_a_silence_that_lasts_is_an_error(readable: Path) -> None:
    """For what was waiting, after fail_after; the record says since when; later operations get a new connection."""
    remote = Remote.new(readable)
    with remote.server, mounted(readable, remote, fail_after="3") as here, ThreadPoolExecutor() as pool:
        here.write("before", "content")
        remote.sessions(signal.SIGSTOP)
        waiting = pool.submit(error_of, lambda: here.write("new", "content"))
        here.until_lost()
        assert here.record().lost + 3 <= time.monotonic()
        assert waiting.result(WAIT) == errno.EIO
        assert "Timeout, server 127.0.0.1 not responding." in here.journal()
        here.write("later", "content")
        assert (remote.data / "later").read_text() == "content"
        assert here.record().connections == 2
        remote.sessions(signal.SIGKILL)


@in_own_namespace
def test_operations_wait_for_a_host_that_is_away(readable: Path) -> None:
    """What is begun while it is away is done when it is there again."""
    remote = Remote.new(readable)
    with ThreadPoolExecutor() as pool:
        with remote.server:
            mount = mounted(readable, remote)
            here = mount.__enter__()
            here.write("before", "content")
        here.until_lost()
        waiting: list[Future[str | None]] = []
        waiting += [pool.submit(here.write, f"new{number}", "content") for number in range(3)]
        waiting.append(pool.submit((here.top / "before").read_text))
        end = time.monotonic() + WAIT
        while not here.record().tried:
            assert time.monotonic() < end, "nobody tries"
            time.sleep(0.01)
        assert not any(one.done() for one in waiting)
        with remote.server:
            assert [one.result(WAIT) for one in waiting] == [None, None, None, "content"]
            assert sorted(path.name for path in remote.data.iterdir()) == ["before", "new0", "new1", "new2"]
            assert here.record().connections == 2
            mount.__exit__(None, None, None)


@in_own_namespace
def test_a_host_that_is_away_for_too_long_is_an_error(readable: Path) -> None:
    """For everybody who has waited, after fail_after; later operations fail too, until it is there again."""
    remote = Remote.new(readable)
    with ThreadPoolExecutor() as pool:
        with remote.server:
            mount = mounted(readable, remote, fail_after="2")
            here = mount.__enter__()
            here.write("before", "content")
        here.until_lost()
        waiting = [pool.submit(error_of, partial(here.write, f"new{number}", "content")) for number in range(3)]
        assert [one.result(WAIT) for one in waiting] == [errno.EIO] * 3
        record = here.record()
        assert time.monotonic() > record.lost + 2
        assert "Connection refused" in record.error
        assert pool.submit(error_of, lambda: here.write("later", "content")).result(WAIT) == errno.EIO
        with remote.server:
            end = time.monotonic() + WAIT
            while pool.submit(error_of, lambda: here.write("back", "content")).result(WAIT):
                assert time.monotonic() < end, "it does not recover"
            assert (remote.data / "back").exists()
            assert here.record().lost == 0
            mount.__exit__(None, None, None)


@in_own_namespace
def test_what_several_write_arrives_as_it_is(readable: Path) -> None:
    """Large pieces and odd ones, with changes of owners in between."""
    remote = Remote.new(readable)

    def write(number: int) -> str:
        chance, digest = random.Random(number), hashlib.sha256()
        with (here.top / f"file{number}").open("wb", buffering=0) as file:
            for _ in range(60):
                data = chance.randbytes(chance.choice([1, 9, 4095, 65536, 131072, 200001]))
                digest.update(data)
                file.write(data)
                os.chown(here.top / f"file{number}", number, number)
        return digest.hexdigest()

    with remote.server, mounted(readable, remote) as here:
        with ThreadPoolExecutor(4) as pool:
            written = list(pool.map(write, range(4)))
        arrived = [hashlib.sha256((remote.data / f"file{number}").read_bytes()).hexdigest() for number in range(4)]
        assert arrived == written
        assert [hashlib.sha256((here.top / f"file{n}").read_bytes()).hexdigest() for n in range(4)] == written
        assert here.record().connections == 1
