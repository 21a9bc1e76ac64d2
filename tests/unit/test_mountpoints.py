"""The directories volumes are mounted on: what is mounted, and that nothing is written where nothing is mounted."""

from __future__ import annotations

import errno
import subprocess
from pathlib import Path

import pytest
from namespace import in_own_namespace

from legacyhost.errors import Failed
from legacyhost.mounts.mountpoints import HostMountpoints
from legacyhost.mounts.tools import SCRIPT

LONGEST = "x" * 255


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    return tmp_path / "run" / "sshfs"


def mount(where: Path) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(where)], check=True)


def script(runtime: Path) -> None:
    """What the unit of each mount does first."""
    subprocess.run(["sh", str(SCRIPT), "prepare", str(runtime)], check=True)


def test_set_up_makes_private_directories(runtime: Path) -> None:
    """Only root looks in; doing it again changes nothing."""
    points = HostMountpoints(runtime)
    for _ in range(2):
        points.set_up()
        assert sorted(path.name for path in runtime.iterdir()) == ["bare", "mounts"]
        assert {path.stat().st_mode & 0o777 for path in runtime.iterdir()} == {0o700}


def test_a_volume_has_one_path_whatever_is_mounted(runtime: Path) -> None:
    """The path is a matter of the name alone: it is promised to Docker before anything is there."""
    points = HostMountpoints(runtime)
    assert points.path("data") == runtime / "mounts" / "data"
    assert points.is_mounted("data") is False
    assert points.mounted() == {}


def test_prepare_makes_the_directory_and_remove_removes_it(runtime: Path) -> None:
    """Made in the bare directory, where it is writable; twice is no error, nor is removing what is not there."""
    points = HostMountpoints(runtime)
    for name in ("data", LONGEST):
        for _ in range(2):
            points.prepare(name)
            assert (runtime / "bare" / name).stat().st_mode & 0o777 == 0o700
        for _ in range(2):
            points.remove(name)
            assert not (runtime / "bare" / name).exists()


def test_what_cannot_be_made_is_a_sentence(runtime: Path) -> None:
    """A file in the way, a runtime directory that is none."""
    runtime.mkdir(parents=True)
    (runtime / "bare").write_text("in the way")
    with pytest.raises(Failed, match="the mountpoint of volume data cannot be made"):
        HostMountpoints(runtime).prepare("data")


def test_a_directory_with_something_in_it_stays(runtime: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is there is somebody's: it is never deleted, which is no reason for a call to fail, but one to say so."""
    points = HostMountpoints(runtime)
    points.prepare("data")
    (runtime / "bare" / "data" / "file").write_text("precious")
    points.remove("data")
    assert (runtime / "bare" / "data" / "file").read_text() == "precious"
    assert caplog.messages == [f"the empty mountpoint {runtime}/bare/data stays: Directory not empty"]


@in_own_namespace
def test_what_is_mounted_is_seen_without_being_touched(runtime: Path) -> None:
    """Exactly the volumes with a mount on their own path: not one in a volume, not one of another plugin."""
    points, other = HostMountpoints(runtime), HostMountpoints(runtime.with_name("sshfs2"))
    for each in (points, other):
        each.set_up()
    script(runtime)
    script(runtime.with_name("sshfs2"))
    for name in ("data", "a.b", LONGEST):
        points.prepare(name)
        mount(points.path(name))
    (points.path("data") / "inner").mkdir()
    mount(points.path("data") / "inner")
    other.prepare("theirs")
    mount(other.path("theirs"))
    assert set(points.mounted()) == {"data", "a.b", LONGEST}
    assert set(other.mounted()) == {"theirs"}
    assert points.is_mounted("data")
    assert not points.is_mounted("a")
    assert not points.is_mounted("inner")
    assert not points.is_mounted("theirs")


@in_own_namespace
def test_nothing_is_written_where_nothing_is_mounted(runtime: Path) -> None:
    """A program that still has the path of a lost mount gets an error instead of filling the local disk, even root."""
    points = HostMountpoints(runtime)
    points.set_up()
    script(runtime)
    points.prepare("data")
    for name in ("data", "."):
        with pytest.raises(OSError, match="Read-only file system") as caught:
            (points.path(name) / "file").write_text("lost")
        assert caught.value.errno == errno.EROFS
    mount(points.path("data"))
    (points.path("data") / "file").write_text("kept")
    assert list((runtime / "bare" / "data").iterdir()) == []


@in_own_namespace
def test_the_directory_of_a_mounted_volume_is_not_removed(runtime: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the directory nor the mount: only what is bare goes. It is not even tried."""
    points = HostMountpoints(runtime)
    points.set_up()
    script(runtime)
    points.prepare("data")
    mount(points.path("data"))
    (points.path("data") / "file").write_text("kept")
    points.remove("data")
    assert (points.path("data") / "file").read_text() == "kept"
    assert caplog.messages == []
    subprocess.run(["umount", str(points.path("data"))], check=True)
    points.remove("data")
    assert not points.path("data").exists()
