"""mount-unit.sh, run for real: the read-only view of the bare directories, and what is done when a mount ends."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from fakes import WAIT
from namespace import in_own_namespace

from legacyhost.mounts import mountinfo
from legacyhost.mounts.tools import SCRIPT


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(SCRIPT), *map(str, arguments)],
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        timeout=WAIT,
    )


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    for name in ("bare", "mounts"):
        (tmp_path / "run time" / name).mkdir(parents=True)
    return tmp_path / "run time"


def mounts_at(path: Path) -> int:
    return sum(mount.mountpoint == str(path) for mount in mountinfo.read())


def test_wrong_usage_is_told() -> None:
    """Anything but its steps is status 2 and a line that says what there is."""
    for arguments in (["nonsense"], ["prepared", "/x"]):
        ran = run(*arguments)
        assert ran.returncode == 2
        assert ran.stderr.startswith("usage: mount-unit.sh prepare")


@in_own_namespace
def test_prepare_shows_bare_read_only(runtime: Path) -> None:
    """A directory made in bare is seen in mounts, where nothing can be written."""
    ran = run("prepare", runtime)
    assert (ran.returncode, ran.stderr) == (0, "")
    (runtime / "bare" / "data").mkdir()
    assert (runtime / "mounts" / "data").is_dir()
    with pytest.raises(OSError, match="Read-only"):
        (runtime / "mounts" / "data" / "file").touch()


@in_own_namespace
def test_prepare_is_done_once_however_often_it_is_run(runtime: Path) -> None:
    """Every mount begins with it, many at once too: there is one mount each all the same."""
    running = [subprocess.Popen(["sh", str(SCRIPT), "prepare", str(runtime)]) for _ in range(8)]
    assert [process.wait(WAIT) for process in running] == [0] * 8
    assert run("prepare", runtime).returncode == 0
    assert (mounts_at(runtime / "mounts"), mounts_at(runtime / "bare")) == (1, 1)


@in_own_namespace
def test_what_is_mounted_below_mounts_is_not_below_bare(runtime: Path) -> None:
    """bare is private, also where the runtime directory is on a shared mount, as /run is under systemd."""
    subprocess.run(["mount", "--bind", str(runtime), str(runtime)], check=True)
    subprocess.run(["mount", "--make-shared", str(runtime)], check=True)
    assert run("prepare", runtime).returncode == 0
    (runtime / "bare" / "data").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(runtime / "mounts" / "data")], check=True)
    assert mounts_at(runtime / "mounts" / "data") == 1
    assert mounts_at(runtime / "bare" / "data") == 0
    (runtime / "mounts" / "data" / "file").touch()
    assert list((runtime / "bare" / "data").iterdir()) == []


@pytest.mark.parametrize("missing", ["bare", "mounts", ""])
@in_own_namespace
def test_prepare_fails_where_there_is_nothing_to_prepare(runtime: Path, missing: str) -> None:
    """A status other than 0 and a reason, and nothing half done on the view."""
    gone = runtime / missing
    if missing:
        gone.rmdir()
    ran = run("prepare", runtime if missing else "/nowhere")
    assert ran.returncode != 0
    assert ran.stderr
    assert mounts_at(runtime / "mounts") == 0


@pytest.mark.parametrize("name", ["data", "a b\tc\\d\\040e%s$HOME"])
@in_own_namespace
def test_release_detaches_its_own_mount_only(tmp_path: Path, name: str) -> None:
    """The unit of one mount may end when the next one is there already: that stays, and so does nothing at all."""
    where = tmp_path / name
    where.mkdir()
    assert run("release", where, "its:own").returncode == 0
    subprocess.run(["mount", "-t", "tmpfs", "the:next", str(where)], check=True)
    assert run("release", where, "its:own").returncode == 0
    assert mounts_at(where) == 1
    subprocess.run(["mount", "-t", "tmpfs", "its:own", str(where)], check=True)
    assert run("release", where, "its:own").returncode == 0
    assert mounts_at(where) == 1
    assert mountinfo.read()[-1].source == "the:next"
