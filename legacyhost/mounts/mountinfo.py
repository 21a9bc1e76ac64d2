"""What is mounted, from /proc/self/mountinfo, without touching any mount (proc_pid_mountinfo(5))."""

from __future__ import annotations

import os
import re
import select
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MOUNTINFO = Path("/proc/self/mountinfo")


@dataclass(frozen=True)
class Mount:
    """One line: where it is mounted, "major:minor" of st_dev, file-system type, source."""

    mountpoint: str
    device: str
    kind: str
    source: str


def parse(text: str) -> list[Mount]:
    """All mounts, in the order of the file: of two on one mountpoint the later covers the earlier.

    Only ``\\n`` ends a line: anybody who may mount can have the other characters of str.splitlines() in a path.
    """
    return [_mount(line) for line in text.split("\n") if " - " in line]


def read(path: Path = MOUNTINFO) -> Sequence[Mount]:
    """All mounts now, in the order of the file."""
    return _WATCHED.mounts() if path == MOUNTINFO else _parse_bytes(path.read_bytes())


def top(mountpoint: Path | str) -> Mount | None:
    """The mount on top there now, None where nothing is mounted."""
    return _WATCHED.tops().get(str(mountpoint))


def escape(path: Path) -> str:
    """A path as mountinfo writes it."""
    return re.sub(r"[ \t\n\\]", lambda found: f"\\{ord(found[0]):03o}", str(path))


class _Watched:
    """The mounts of this process, read again when the kernel says that they have changed.

    poll(2) tells that of an open mountinfo (proc_pid_mountinfo(5)), and does before mount(2) or umount(2) returns,
    whoever called it: what was mounted before a question is in the answer. Each open file is told once, so a process
    has its own; it shows the mount namespace in which it was opened, which no process here ever leaves.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of = 0
        self._mounts: Sequence[Mount] = ()
        self._tops: Mapping[str, Mount] = {}

    def mounts(self) -> Sequence[Mount]:
        with self._lock:
            self._look()
            return self._mounts

    def tops(self) -> Mapping[str, Mount]:
        with self._lock:
            self._look()
            return self._tops

    def _look(self) -> None:
        own = os.getpid()
        if own != self._of:
            self._file = MOUNTINFO.open("rb", buffering=0)
            self._changed = select.poll()
            self._changed.register(self._file, select.POLLPRI)
        elif not self._changed.poll(0):
            return
        self._of = 0  # if it cannot be read now, begin anew
        self._file.seek(0)
        self._mounts = _parse_bytes(self._file.read())
        self._tops = {mount.mountpoint: mount for mount in self._mounts}
        self._of = own


_WATCHED = _Watched()


def _parse_bytes(text: bytes) -> Sequence[Mount]:
    return parse(text.decode(errors="surrogateescape"))


def _mount(line: str) -> Mount:
    left, _, right = line.partition(" - ")
    _, _, device, _, mountpoint, *_ = left.split(" ")
    kind, source, *_ = right.split(" ")
    return Mount(_unescape(mountpoint), device, kind, _unescape(source))


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
