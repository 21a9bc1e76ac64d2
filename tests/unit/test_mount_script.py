"""mount-unit.sh, run for real: the read-only view of the bare directories, and waiting for a mount that answers."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
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


def await_argv(path: Path) -> list[str]:
    return ["sh", str(SCRIPT), "await", str(path), "its:own"]


@contextmanager
def program(command: str, *arguments: object) -> Iterator[subprocess.Popen[bytes]]:
    """A program in the background, killed afterwards."""
    process = subprocess.Popen(["sh", "-c", command, "sh", *map(str, arguments)])
    try:
        yield process
    finally:
        process.kill()
        process.wait()


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


@pytest.mark.parametrize("name", ["data", "x" * 255, "a b\tc\\d\\040e%s$HOME", "é☃"])
@in_own_namespace
def test_await_returns_once_the_mount_is_there(tmp_path: Path, name: str) -> None:
    """It waits while the program is alive and has not mounted, and is content with any path that can be."""
    where = tmp_path / name
    where.mkdir()
    with program("sleep 60") as alive:
        waiting = subprocess.Popen(await_argv(where), env={"PATH": os.environ["PATH"], "MAINPID": str(alive.pid)})
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(0.1)
        subprocess.run(["mount", "-t", "tmpfs", "somebody:else", str(where)], check=True)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(0.1)
        subprocess.run(["mount", "-t", "tmpfs", "its:own", str(where)], check=True)
        assert waiting.wait(WAIT) == 0


@in_own_namespace
def test_await_says_that_the_read_ahead_cannot_be_set(tmp_path: Path) -> None:
    """A mount without such a setting, or where /sys is read-only, is slower and no failure."""
    subprocess.run(["mount", "-t", "tmpfs", "its:own", str(tmp_path)], check=True)
    with program("sleep 60") as alive:
        ran = run("await", tmp_path, "its:own", MAINPID=str(alive.pid))
    device = mountinfo.read()[-1].device
    assert ran.returncode == 0
    text = f"the kernel reads no more than ? KiB ahead: /sys/class/bdi/{device}/read_ahead_kb cannot be written\n"
    assert ran.stderr == text


@in_own_namespace
def test_await_fails_when_the_program_ends_without_a_mount(tmp_path: Path) -> None:
    """A program that has ended will not mount any more."""
    with program("exit 1") as ended:
        ended.wait(WAIT)
        assert run("await", tmp_path, "its:own", MAINPID=str(ended.pid)).returncode == 1


@in_own_namespace
def test_await_is_not_content_with_another_mount(tmp_path: Path) -> None:
    """Neither one above, nor one below, nor one whose path only begins alike."""
    for name in ("data", "data2", "data/inner"):
        (tmp_path / name).mkdir()
    for name in ("data2", "data/inner"):
        subprocess.run(["mount", "-t", "tmpfs", "its:own", str(tmp_path / name)], check=True)
    with program("exit 0") as ended:
        ended.wait(WAIT)
        assert run("await", tmp_path / "data", "its:own", MAINPID=str(ended.pid)).returncode == 1


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
