"""A cgroup of its own for each test machine, so that machines booted side by side do not share theirs.

Where PID 1 of the host is not systemd, systemd-nspawn boots straight into the caller's cgroups; two machines
would then both have their /system.slice/docker.service in the same place.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

# Joins the cgroups whose cgroup.procs files come before "--", then becomes the command after it.
JOIN = 'while [ "$1" != -- ]; do echo 0 > "$1"; shift; done; shift; exec "$@"'


def joining(directories: Sequence[Path], argv: Sequence[str]) -> list[str]:
    """The command `argv`, run in the cgroups of these directories; it keeps the process id it was started with."""
    return ["/bin/sh", "-c", JOIN, "sh", *(f"{directory}/cgroup.procs" for directory in directories), "--", *argv]


def _hierarchies() -> Iterator[tuple[str, Path, str]]:
    """(controllers, mount point, the part of the hierarchy mounted there); controllers "" is cgroup v2."""
    for line in Path("/proc/self/mountinfo").read_text("utf-8").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        root, mount_point = before.split(" ")[3:5]
        if kind == "cgroup2":
            yield "", Path(mount_point), root
        elif kind == "cgroup":
            yield options, Path(mount_point), root


def directories_of(pid: int | str) -> Iterator[Path]:
    """The directories, one in each mounted hierarchy, of the cgroups a process is in."""
    found = list(_hierarchies())
    for line in Path(f"/proc/{pid}/cgroup").read_text("utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        wanted = set(controllers.split(",")) if controllers else set()
        for options, mount_point, root in found:
            if wanted <= set(options.split(",")) if wanted else not options:
                yield mount_point / os.path.relpath(path, root)
                break


class Cgroup:
    """One cgroup of the same name in every hierarchy: below the caller's own (v1), at the top (v2).

    At the top, because a v2 cgroup that has processes cannot hand controllers to its children.
    """

    def __init__(self, name: str) -> None:
        self.directories: list[Path] = []
        mount_points = {mount_point for controllers, mount_point, _ in _hierarchies() if not controllers}
        for own in directories_of("self"):
            top = next((point for point in mount_points if own.is_relative_to(point)), None)
            parent = top or own
            directory = parent / name
            directory.mkdir(exist_ok=True)
            for setting in ("cpuset.cpus", "cpuset.mems"):  # empty in a new v1 cpuset, which then takes no process
                if top is None and (directory / setting).exists():
                    (directory / setting).write_text((parent / setting).read_text("utf-8"), "utf-8")
            self.directories.append(directory)

    def _tree(self) -> list[Path]:
        """Every cgroup directory from the leaves up."""
        return [Path(path) for top in self.directories for path, _, _ in os.walk(top, topdown=False)]

    def pids(self) -> set[int]:
        """The processes in it, at any depth (host's ids)."""
        found: set[int] = set()
        for directory in self._tree():
            with contextlib.suppress(OSError):
                found.update(int(pid) for pid in (directory / "cgroup.procs").read_text("utf-8").split())
        return found - {0}

    def kill(self, timeout: float = 20.0) -> None:
        """SIGKILL every process in it until none is left. Raises TimeoutError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while pids := self.pids():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                raise TimeoutError(f"processes survived SIGKILL for {timeout} s: {sorted(pids)}")
            time.sleep(0.02)

    def remove(self, timeout: float = 5.0) -> None:
        """Remove the (empty) cgroups; the kernel may need a moment after the last process. Seconds."""
        deadline = time.monotonic() + timeout
        while left := self._tree():
            for directory in left:
                with contextlib.suppress(OSError):
                    directory.rmdir()
            if time.monotonic() > deadline:
                raise TimeoutError(f"cgroups not removed within {timeout} s: {left}")
            time.sleep(0.02)
