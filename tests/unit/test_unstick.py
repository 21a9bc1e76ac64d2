"""legacyhost unstick: what it takes away and leaves alone, with a program that mounts a tmpfs in place of sshfs."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from fakes import WAIT
from namespace import in_own_namespace

from legacyhost.cli import main
from legacyhost.config import Paths
from legacyhost.deadline import Deadline
from legacyhost.errors import Refused
from legacyhost.mounts import SOURCE, MountCommand
from legacyhost.mounts.mountpoints import HostMountpoints
from legacyhost.mounts.processes import ProcessMounter
from legacyhost.unstick import unstick

PROGRAM = 'trap "" TERM; mount -t tmpfs "$2" "$1" || exit 1; systemd-notify --ready; exec sleep 60'


@pytest.fixture
def paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """A host with one plugin, ``foo``."""
    for name in ("etc", "state", "run"):
        (tmp_path / name).mkdir()
        monkeypatch.setenv(f"LEGACYHOST_{name.upper()}", str(tmp_path / name))
    (tmp_path / "etc" / "foo.toml").touch()
    return Paths.from_environment()


def mounted(paths: Paths) -> HostMountpoints:
    """The volume ``data``, mounted by a program that goes only when it is killed."""
    points = HostMountpoints(paths.run / "foo")
    points.prepare("data")
    argv = ["sh", "-c", PROGRAM, "sh", str(points.path("data")), SOURCE]
    command = MountCommand(argv, "a test")
    ProcessMounter(paths.run / "foo").mount("data", points.path("data"), command, Deadline.after(WAIT))
    assert points.is_mounted("data")
    return points


@in_own_namespace
def test_a_mount_that_answers_is_left_alone_unless_asked_for(paths: Paths, capfd: pytest.CaptureFixture[str]) -> None:
    """A name mistyped must not take a volume away from its containers."""
    points = mounted(paths)
    assert main(["unstick", "data"]) == 1
    assert capfd.readouterr().err == (
        "legacyhost: volume data answers, nothing is stuck in it; --force takes its mount away all the same\n"
    )
    assert points.is_mounted("data")
    assert main(["unstick", "--force", "data"]) == 0
    assert "the mount of volume data is gone" in capfd.readouterr().out
    assert not points.is_mounted("data")


class Unanswered:
    """A question put to a mount that does not answer."""

    def wait(self, seconds: float | None) -> bool | None:
        return None

    def give_up(self) -> None:
        return


@in_own_namespace
def test_a_mount_that_is_at_work_is_left_alone(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not answer because much is being written, which would be torn. One that nothing moves in is dead."""
    points = mounted(paths)
    serial = (points.source("data") or "").rpartition(":")[2]
    monkeypatch.setattr(HostMountpoints, "ask", lambda *_: Unanswered())
    record = paths.run / "foo" / "volumes" / "data" / f"connection.{serial}"
    record.write_text("connections=1\n")
    os.utime(record, (time.time() + 5, time.time() + 5))
    with pytest.raises(Refused, match="volume data is busy"):
        unstick("foo", "data", paths, force=False)
    assert points.is_mounted("data")
    os.utime(record, (1, 1))
    assert "the mount of volume data is gone" in unstick("foo", "data", paths, force=False)
    assert not points.is_mounted("data")


@in_own_namespace
def test_what_is_not_mounted_is_said(paths: Paths, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is done, and that is no error: it may have been done by somebody else just now."""
    assert main(["unstick", "data"]) == 0
    assert capfd.readouterr().out == "volume data is not mounted, and nothing waits for it\n"


@in_own_namespace
def test_whoever_has_it_in_a_container_is_named(paths: Paths) -> None:
    """Those have to be restarted; also where the host does not see the mount any more."""
    points = mounted(paths)
    inside = paths.run / "inside"
    inside.mkdir()
    script = 'mount --make-rprivate / && mount --bind "$1" "$2" && umount "$1" && echo ready && exec sleep 60'
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", str(points.path("data")), str(inside)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as container:
        try:
            assert container.stdout is not None
            assert container.stdout.readline() == b"ready\n"
            done = unstick("foo", "data", paths, force=True)
            assert f"to be restarted: process {container.pid} (sleep)" in done
            assert f"process {container.pid}" in unstick("foo", "data", paths, force=False)
        finally:
            container.kill()
    assert "not mounted" in unstick("foo", "data", paths, force=False)


@in_own_namespace
def test_what_somebody_else_has_mounted_is_not_ours_to_take(paths: Paths) -> None:
    """Not with --force either."""
    points = mounted(paths)
    subprocess.run(["mount", "-t", "tmpfs", "by-hand", points.path("data")], check=True)
    for force in (False, True):
        with pytest.raises(Refused, match="undo it: umount"):
            unstick("foo", "data", paths, force=force)
    assert points.source("data") == "by-hand"


@pytest.mark.parametrize("name", ["../../etc", "", "a b", "x" * 256, "-x"])
@pytest.mark.usefixtures("paths")
def test_names_that_are_none(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    """One sentence, wrong usage."""
    assert main(["unstick", "--", name]) == 2
    assert capfd.readouterr().err.count("\n") == 1


@in_own_namespace
@pytest.mark.usefixtures("paths")
def test_it_is_for_root(capfd: pytest.CaptureFixture[str]) -> None:
    """Mounts are root's; whoever is not gets told so, and nothing is tried."""
    os.seteuid(65534)
    assert main(["unstick", "--plugin", "foo", "data"]) == 1
    assert "try sudo" in capfd.readouterr().err
