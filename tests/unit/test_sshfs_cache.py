"""What is kept of what was read, with a real sshd and a real sshfs: what each value of ``cache`` promises."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
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


def change(remote: Remote, name: str, content: str, moment: int) -> None:
    """Somebody else writes it, on the server."""
    (remote.data / name).write_text(content)
    os.utime(remote.data / name, (moment, moment))
    shutil.chown(remote.data / name, remote.server.user)


@pytest.mark.parametrize("pause", [0, 1.5, 4.2])
@in_own_namespace
def test_what_others_write_is_seen(readable: Path, pause: float) -> None:
    """The default: whenever a file is opened, its time or size says whether what was read may be used again.

    Names, sizes and times this host has looked at less than four seconds ago may be of that age: three of sshfs's, one
    of the kernel's.
    """
    remote = Remote.new(readable)
    with remote.server, mounted(readable, remote) as here:
        for name in ("one", "two", "three"):
            change(remote, name, "first", 1000)
            assert (here.top / name).read_text() == "first"
        assert {path.name for path in here.top.iterdir()} == {"one", "two", "three"}
        (remote.data / "new").touch()
        change(remote, "one", "other", 1000)
        change(remote, "two", "other", 1001)
        change(remote, "three", "longer than before", 1000)
        time.sleep(pause)
        assert (here.top / "one").read_text() == "first", "nothing is kept, then"
        assert (here.top / "two").read_text() == "other"
        longer = (here.top / "three").read_text()
        names = {path.name for path in here.top.iterdir()}
        assert longer == "longer than before" or (pause < 4 and longer == "longe")
        assert names - {"new"} == {"one", "two", "three"}
        assert "new" in names or pause < 4
        (here.top / "three").write_text("written here")
        assert (here.top / "three").read_text() == (remote.data / "three").read_text() == "written here"


@in_own_namespace
def test_nothing_is_kept(readable: Path) -> None:
    """Each look is a question to the server: content, sizes, times, names."""
    remote = Remote.new(readable)
    with remote.server, mounted(readable, remote, cache="none") as here:
        change(remote, "file", "first", 1000)
        assert (here.top / "file").read_text() == "first"
        change(remote, "file", "other", 1000)
        assert (here.top / "file").read_text() == "other"
        assert [path.name for path in here.top.iterdir()] == ["file"]
        (remote.data / "file").write_text("longer than before")
        assert (here.top / "file").stat().st_size == len("longer than before")
        (remote.data / "second").touch()
        assert {path.name for path in here.top.iterdir()} == {"file", "second"}
        (remote.data / "file").unlink()
        assert not (here.top / "file").exists()
