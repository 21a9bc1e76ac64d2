"""What is mounted, from /proc/self/mountinfo, without touching any mount (proc_pid_mountinfo(5))."""

from __future__ import annotations

import re
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


def read(path: Path = MOUNTINFO) -> list[Mount]:
    return parse(path.read_bytes().decode(errors="surrogateescape"))


def escape(path: Path) -> str:
    """A path as mountinfo writes it."""
    return re.sub(r"[ \t\n\\]", lambda found: f"\\{ord(found[0]):03o}", str(path))


def _mount(line: str) -> Mount:
    left, _, right = line.partition(" - ")
    _, _, device, _, mountpoint, *_ = left.split(" ")
    kind, source, *_ = right.split(" ")
    return Mount(_unescape(mountpoint), device, kind, _unescape(source))


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)
