"""What is mounted where, from /proc/self/mountinfo alone: a mount that hangs is never touched."""

from __future__ import annotations

import re
from pathlib import Path


def mountpoints() -> list[str]:
    """Every mountpoint, once per mount (proc(5): the fifth field, blanks and backslashes as octal)."""
    lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
    return [_unescaped(line.split(b" ")[4]) for line in lines]


def count(path: str) -> int:
    """How many mounts lie on that path; two is one too many."""
    return mountpoints().count(path)


def below(path: Path) -> list[str]:
    """The mountpoints in that directory, innermost first."""
    return sorted((found for found in mountpoints() if found.startswith(f"{path}/")), reverse=True)


def _unescaped(field: bytes) -> str:
    return re.sub(rb"\\(\d{3})", lambda octal: bytes([int(octal[1], 8)]), field).decode("utf-8", "surrogateescape")
