"""Mounts by detached processes, for machines without systemd: with a program that mounts a tmpfs in place of FUSE."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes import WAIT
from namespace import in_own_namespace

from legacyhost.deadline import Deadline
from legacyhost.errors import Failed
from legacyhost.mounts import SOURCE, MountCommand, MountFailed, mountinfo
from legacyhost.mounts.mountpoints import HostMountpoints
from legacyhost.mounts.processes import ProcessMounter

#: Mounts, and unmounts on SIGTERM, as sshfs does.
GOOD = 'mount -t tmpfs "$2" "$1" || exit 1; trap "umount \\"$1\\"; exit" TERM; systemd-notify --ready; sleep 60 & wait'
#: Mounts, and does not listen.
STUBBORN = 'trap "" TERM; mount -t tmpfs "$2" "$1" || exit 1; systemd-notify --ready; exec sleep 60'


@dataclass
class Place:
    """A runtime directory with one volume, and all that belongs to it."""

    directory: Path
    mounter: ProcessMounter
    points: HostMountpoints
    name: str = "data"
    #: The process ID of the last program that mounted, as it was before any test touched the record.
    program: int = 0

    @property
    def mountpoint(self) -> Path:
        return self.points.path(self.name)

    @property
    def folder(self) -> Path:
        return self.directory / "volumes" / self.name

    def mount(self, program: str, seconds: float = WAIT, **environment: str) -> None:
        argv = ["sh", "-c", program, "sh", str(self.mountpoint), SOURCE]
        command = MountCommand(argv, "a test", environment)
        self.mounter.mount(self.name, self.mountpoint, command, Deadline.after(seconds))
        self.program = int((self.folder / "process").read_text().split()[0])

    def unmount(self, seconds: float = WAIT) -> None:
        self.mounter.unmount(self.name, self.mountpoint, Deadline.after(seconds))

    def end(self) -> None:
        """Kill the program, and what it has started: by its own process group, checked to be that and nothing else."""
        with suppress(ProcessLookupError):
            if self.program > 1 and os.getpgid(self.program) == self.program != os.getpgrp():
                os.killpg(self.program, signal.SIGKILL)


@contextmanager
def place(directory: Path, name: str = "data") -> Iterator[Place]:
    points = HostMountpoints(directory)
    points.prepare(name)
    found = Place(directory, ProcessMounter(directory), points, name)
    try:
        yield found
    finally:
        found.end()


def is_running(pid: int) -> bool:
    """Whether the process is there and no zombie: detached ones are children of this process as well."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    return Path(f"/proc/{pid}").exists()


def has_ended(pid: int) -> bool:
    """Whether the process has ended, or does so soon: SIGKILL takes its time on a busy machine."""
    end = time.monotonic() + WAIT
    while is_running(pid) and time.monotonic() < end:
        time.sleep(0.005)
    return not is_running(pid)


@pytest.mark.parametrize("name", ["data", "x" * 255, "a.b-c_d"])
@in_own_namespace
def test_a_volume_is_mounted_and_unmounted(tmp_path: Path, name: str) -> None:
    """Mounted when the call returns, writable where the bare directory is not; unmounted when that call returns."""
    with place(tmp_path, name) as here:
        here.mount(GOOD)
        assert set(here.points.mounted()) == {name}
        (here.mountpoint / "file").touch()
        here.unmount()
        assert here.points.mounted() == {}
        os.waitpid(here.program, 0)


@in_own_namespace
def test_the_program_is_detached_and_gets_only_its_own_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session of its own, so that it outlives the service; nothing of the service's environment but PATH."""
    monkeypatch.setenv("SECRET_OF_THE_SERVICE", "hunter2")
    with place(tmp_path) as here:
        here.mount(f'env >"{tmp_path}/environment"; {GOOD}', GIVEN="this")
        assert os.getsid(here.program) == here.program
        lines = (tmp_path / "environment").read_text().splitlines()
        assert "GIVEN=this" in lines
        names = {line.split("=")[0] for line in lines}
        assert names <= {"GIVEN", "NOTIFY_SOCKET", "PATH", "LC_ALL", "PWD", "OLDPWD", "SHLVL", "_"}
        here.unmount()


@in_own_namespace
def test_the_program_is_told_the_source_of_its_mount(tmp_path: Path) -> None:
    """In its arguments and in its environment, wherever there is room left for it; each mount has its own."""
    with place(tmp_path) as here:
        seen = []
        for _ in range(2):
            here.mount(f'echo "$RECORD" >"{tmp_path}/record"; {GOOD}', RECORD=f"/run/{SOURCE}.txt")
            (source,) = (m.source for m in mountinfo.read() if m.mountpoint == str(here.mountpoint))
            assert (tmp_path / "record").read_text() == f"/run/{source}.txt\n"
            seen.append(source)
            here.unmount()
        assert len(set(seen)) == 2


@in_own_namespace
def test_another_service_can_unmount_what_the_one_before_mounted(tmp_path: Path) -> None:
    """All that is known of the program is in the runtime directory."""
    with place(tmp_path) as here:
        here.mount(GOOD)
        ProcessMounter(tmp_path).unmount("data", here.mountpoint, Deadline.after(WAIT))
        assert here.points.mounted() == {}


@pytest.mark.parametrize(
    ("program", "detail"),
    [
        ("echo first >&2; echo 'no such host' >&2; exit 1", "no such host"),
        ("exit 0", ""),
        ("kill -KILL $$", ""),
    ],
)
@in_own_namespace
def test_a_program_that_ends_is_a_failed_mount(tmp_path: Path, program: str, detail: str) -> None:
    """With what it said last; nothing is mounted then."""
    with place(tmp_path) as here:
        with pytest.raises(MountFailed) as caught:
            here.mount(program)
        assert caught.value.detail == detail
        assert here.points.mounted() == {}
        assert here.mounter.where_to_look("data") == f"cat {here.folder / 'output'}"


@in_own_namespace
def test_a_program_there_is_not_is_a_failed_mount(tmp_path: Path) -> None:
    """Where sshfs is not installed, that is the message, not a defect."""
    with place(tmp_path) as here, pytest.raises(MountFailed, match="no-such-program: No such file"):
        command = MountCommand(["no-such-program"], "a test", {})
        here.mounter.mount("data", here.mountpoint, command, Deadline.after(WAIT))


@in_own_namespace
def test_a_program_that_does_not_mount_in_time_is_killed(tmp_path: Path) -> None:
    """By the deadline of the call; it cannot mount afterwards."""
    with place(tmp_path) as here:
        with pytest.raises(MountFailed):
            here.mount("exec sleep 60", seconds=2)
        assert has_ended(int((here.folder / "process").read_text().split()[0]))
        assert here.points.mounted() == {}


@in_own_namespace
def test_only_this_user_can_say_that_a_mount_answers(tmp_path: Path) -> None:
    """Anybody can send to the address, and read it: what others say, or in other words, is not listened to."""
    other = "os.setuid(65534)"
    script = (
        "import os,socket; {0}; s=socket.socket(1,2); s.connect(chr(0)+os.environ['NOTIFY_SOCKET'][1:]); s.send({1})"
    )
    lies = [script.format(other, "b'READY=1'"), script.format("", "b'READY=0'"), script.format("", "b'NOT_READY=1'")]
    program = "; ".join(f'/usr/bin/python3 -I -c "{lie}"' for lie in lies)
    with place(tmp_path) as here:
        with pytest.raises(MountFailed):
            here.mount(f"{program}; echo told >{tmp_path}/told; exec sleep 60", seconds=3)
        assert (tmp_path / "told").exists()


@in_own_namespace
def test_a_runtime_directory_that_cannot_be_prepared_is_a_failed_mount(tmp_path: Path) -> None:
    """The program is not even started."""
    with place(tmp_path) as here:
        (tmp_path / "bare" / "data").rmdir()
        (tmp_path / "bare").rmdir()
        with pytest.raises(MountFailed, match="bare"):
            here.mount(f"touch {tmp_path}/started; {GOOD}")
        assert not (tmp_path / "started").exists()


@in_own_namespace
def test_a_program_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    """And what it leaves mounted is detached."""
    with place(tmp_path) as here:
        here.mount(STUBBORN)
        here.unmount(seconds=0.1)
        assert here.points.mounted() == {}
        assert has_ended(here.program)


@in_own_namespace
def test_a_program_that_was_stopped_is_no_obstacle(tmp_path: Path) -> None:
    """It hears no signal but one: unsticking waits for nothing that could be ignored."""
    with place(tmp_path) as here:
        here.mount(STUBBORN)
        os.kill(here.program, signal.SIGSTOP)
        here.mounter.unstick("data", here.mountpoint, Deadline.after(WAIT))
        assert here.points.mounted() == {}
        assert has_ended(here.program)
        here.mounter.unstick("data", here.mountpoint, Deadline.after(WAIT))


@in_own_namespace
def test_a_mount_whose_program_died_is_detached(tmp_path: Path) -> None:
    """There is nobody to send a signal to, and nobody else is sent one."""
    with place(tmp_path) as here, subprocess.Popen(["sleep", "60"]) as stranger:
        here.mount(STUBBORN)
        here.end()
        os.waitpid(here.program, 0)
        (here.folder / "process").write_text(f"{stranger.pid} 1")  # its number is somebody else's by now
        here.unmount()
        assert here.points.mounted() == {}
        assert stranger.poll() is None
        stranger.kill()


@pytest.mark.parametrize("content", ["", "garbage", "99999999", "x 1", "5 6 7"])
@in_own_namespace
def test_a_lost_record_of_the_process_is_no_obstacle(tmp_path: Path, content: str) -> None:
    """Whatever stands there: the mount is detached, nobody is sent a signal by mistake."""
    with place(tmp_path) as here:
        here.mount(GOOD)
        (here.folder / "process").write_text(content)
        here.unmount()
        assert here.points.mounted() == {}
        assert is_running(here.program)


@in_own_namespace
def test_a_mount_an_earlier_process_left_without_an_answer_is_taken_away(tmp_path: Path) -> None:
    """Whoever waited for the answer is gone, and it was given to nobody; one that was answered is left alone."""
    with place(tmp_path) as here:
        here.mount(STUBBORN)
        ProcessMounter(tmp_path).settle("data", here.mountpoint, Deadline.after(WAIT))
        assert set(here.points.mounted()) == {"data"}
        assert is_running(here.program)
        (here.folder / "answered").unlink()
        ProcessMounter(tmp_path).settle("data", here.mountpoint, Deadline.after(WAIT))
        assert here.points.mounted() == {}
        assert has_ended(here.program)


@in_own_namespace
def test_a_new_mount_is_not_taken_for_one_that_was_answered(tmp_path: Path) -> None:
    """What is known of the mount before says nothing about the next one."""
    with place(tmp_path) as here:
        here.mount(GOOD)
        here.unmount()
        assert (here.folder / "answered").exists()
        with pytest.raises(MountFailed):
            here.mount("exit 1")
        assert not (here.folder / "answered").exists()


@in_own_namespace
def test_a_mount_that_stays_is_an_error(tmp_path: Path) -> None:
    """Mounted again by somebody as soon as it is gone: the call fails, so that the hold stays."""
    with place(tmp_path) as here:
        here.mount(STUBBORN)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(here.mountpoint)], check=True)
        with pytest.raises(Failed, match=f"^volume data cannot be unmounted from {here.mountpoint}"):
            here.unmount(seconds=0)
        assert len([m for m in mountinfo.read() if m.mountpoint == str(here.mountpoint)]) == 1


@in_own_namespace
def test_a_mount_whose_program_is_gone_is_taken_away_before_it_is_used_again(tmp_path: Path) -> None:
    """mountinfo shows a dead mount until it is detached."""
    with place(tmp_path) as here:
        here.mount(GOOD)
        here.mounter.settle("data", here.mountpoint, Deadline.after(WAIT))
        assert here.points.is_mounted("data"), "alive, and answered once"
        (here.folder / "answered").unlink()
        here.mounter.settle("data", here.mountpoint, Deadline.after(WAIT))
        assert not here.points.is_mounted("data"), "whoever waited for its answer is gone"
        here.mount('mount -t tmpfs "$2" "$1"; systemd-notify --ready; exec sleep 60')
        os.kill(here.program, signal.SIGKILL)
        while ") Z " not in Path(f"/proc/{here.program}/stat").read_text():
            time.sleep(0.01)
        here.mounter.settle("data", here.mountpoint, Deadline.after(WAIT))
        assert not here.points.is_mounted("data"), "its program was killed"
