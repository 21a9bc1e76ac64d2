"""Mounts by detached processes, for machines where systemd is not PID 1 (and for development).

Each mount's program runs in a session of its own, so it outlives the service. What is known of it stands in
the runtime directory: process ID and start time, which together name a process for good (proc_pid_stat(5)).
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from legacyhost.deadline import Deadline
from legacyhost.errors import Failed
from legacyhost.mounts import PROGRAM, Companion, MountCommand, MountFailed, User
from legacyhost.mounts.tools import (
    ENVIRONMENT,
    SCRIPT,
    SHELL,
    copied,
    is_prepared,
    run,
    search,
    source_of,
    users_in,
    wait_until_gone,
)

PATIENCE = 10.0
#: A file that says that the mount has answered once.
ANSWERED = "answered"
#: Seconds between two looks at a program that is to mount; bytes of what it says; struct ucred (unix(7)).
LOOK, SAID, UCRED = 0.02, 4096, struct.Struct("3i")


class ProcessMounter:
    """Mounts of one plugin; ``directory`` is its runtime directory, with a folder per volume."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def where_to_look(self, volume: str) -> str:
        return f"cat {self._log(volume)}"

    def mount(self, volume: str, mountpoint: Path, command: MountCommand, deadline: Deadline) -> None:
        if not is_prepared(self._directory):
            prepared = run([SHELL, str(SCRIPT), "prepare", str(self._directory)], deadline.left())
            if prepared.returncode != 0:
                raise MountFailed(prepared.stderr.strip())
        folder = self._directory / "volumes" / volume
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        source = self._source(volume) + secrets.token_hex(4)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
            variables = {**command.variables(source), "NOTIFY_SOCKET": _listen(listener)}
            try:
                program = copied(command.package, self._directory) if command.package else None
                process = self._start(volume, command.words(source, program), variables)
            except OSError as error:
                raise MountFailed(f"{command.argv[0]}: {error.strerror}") from error
            (folder / "process").write_text(f"{process.pid} {_start_time(process.pid)}")
            if _is_ready(listener, process, deadline):
                (folder / ANSWERED).touch()
                return
        _signal(process.pid, signal.SIGKILL)
        process.wait()
        self._detach(mountpoint)
        lines = self._log(volume).read_text(errors="replace").strip().splitlines()
        raise MountFailed(lines[-1] if lines else "")

    def accompany(self, companion: Companion) -> None:
        with (companion.folder / "output").open("ab") as output:
            argv = [word.replace(PROGRAM, str(copied(companion.package, self._directory))) for word in companion.argv]
            _detached(argv, companion.environment, output)

    def is_ours(self, volume: str, source: str) -> bool:
        return source.startswith(self._source(volume))

    def settle(self, volume: str, mountpoint: Path, deadline: Deadline) -> None:
        process = self._process(volume)
        if process is not None and (self._directory / "volumes" / volume / ANSWERED).exists():
            return
        # The program is gone, or whoever waited for its first answer is, and the mount was given to nobody.
        if process is not None:
            _signal(process, signal.SIGKILL)
        self._detach(mountpoint)

    def unmount(self, volume: str, mountpoint: Path, deadline: Deadline) -> None:
        process = self._process(volume)
        if process is None:
            self._detach(mountpoint)
        else:
            _signal(process, signal.SIGTERM)
        if not wait_until_gone(mountpoint, Deadline.after(deadline.at_most(PATIENCE))):
            self.unstick(volume, mountpoint, deadline)

    def unstick(self, volume: str, mountpoint: Path, deadline: Deadline) -> None:
        process = self._process(volume)
        if process is not None:
            _signal(process, signal.SIGKILL)
        self._detach(mountpoint)
        if not wait_until_gone(mountpoint, Deadline.after(deadline.at_most(PATIENCE))):
            raise Failed(f"volume {volume} cannot be unmounted from {mountpoint}: it stays mounted")

    def users(self) -> list[User]:
        source, mountpoints = f"legacyhost:{self._directory.name}:", self._directory / "mounts"
        ran = run(search(source, mountpoints), PATIENCE)
        users = users_in(ran.stdout, source, mountpoints)
        if users is None:
            raise Failed(f"it cannot be found out who uses the volumes in {mountpoints}: the search was cut off")
        return users

    def _start(self, volume: str, argv: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
        (self._directory / "volumes" / volume / ANSWERED).unlink(missing_ok=True)
        self._log(volume).unlink(missing_ok=True)
        with self._log(volume).open("ab") as output:  # not the only one that writes there
            return _detached(argv, environment, output)

    def _source(self, volume: str) -> str:
        """What the sources of the volume's mounts begin with."""
        return f"legacyhost:{self._directory.name}:{volume}:"

    def _detach(self, mountpoint: Path) -> None:
        if source_of(mountpoint) is not None:
            run(["umount", "--lazy", "--", str(mountpoint)], PATIENCE)

    def _log(self, volume: str) -> Path:
        return self._directory / "volumes" / volume / "output"

    def _process(self, volume: str) -> int | None:
        """The process ID of the volume's program, if it is still that process."""
        try:
            number, start = (self._directory / "volumes" / volume / "process").read_text().split()
            pid = int(number)
        except (OSError, ValueError):
            return None
        return pid if _start_time(pid) == start else None


def _listen(listener: socket.socket) -> str:
    """At an address of its own; returns it as sd_notify(3) has it. A path would be too long for some names."""
    address = f"legacyhost-{secrets.token_hex(16)}"
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    listener.bind(f"\0{address}")
    return f"@{address}"


def _is_ready(listener: socket.socket, process: subprocess.Popen[bytes], deadline: Deadline) -> bool:
    """Whether it says so before the deadline, or its end. Anybody may send something there; this user's words count."""
    listener.settimeout(LOOK)
    while process.poll() is None and not deadline.is_over():
        try:
            said, (*_, credentials), *_ = listener.recvmsg(SAID, socket.CMSG_SPACE(UCRED.size))
        except TimeoutError:
            continue
        if b"READY=1" in said.split(b"\n") and UCRED.unpack(credentials[2])[1] == os.getuid():
            return process.poll() is None
    return False


def _detached(argv: Sequence[str], environment: Mapping[str, str], output: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        env={**ENVIRONMENT, **environment},
        cwd="/",
        start_new_session=True,
    )


def _start_time(pid: int) -> str:
    """Clock ticks between boot and the start of the process; empty when there is none or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return  # it has ended by itself
