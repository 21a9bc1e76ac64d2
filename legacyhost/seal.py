"""What was found in order at a clean stop need not be looked through at the next start, if nothing has touched it.

A file beside record and backup says what both are, to the byte, when they have been checked and nobody has them open.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path

from legacyhost import __version__, disk
from legacyhost.record import BESIDE

FILE = "volumes.checked"
#: Bytes of it that are read.
LONGEST = 4096


def take(directory: Path, *names: str) -> bool:
    """Whether those files in it are as they were when they were checked; nothing says so any more then.

    Nobody in this process may have them open: closing what is read here would end the locks of SQLite's connections
    (sqlite.org/howtocorrupt.html). What cannot be read, or not be taken away, says nothing.
    """
    path = directory / FILE
    try:
        said = disk.read(path, LONGEST)
        path.unlink()
    except OSError:
        return False
    return bool(said) and said == _description(directory, names)


def put(directory: Path, check: Callable[[], bool], *names: str) -> None:
    """Say so if they are in order, and the same after the check as before; as take(), nobody may have them open.

    Raises OSError.
    """
    description = _description(directory, names)
    if not description or not check() or description != _description(directory, names):
        return
    disk.write(directory / FILE, description)


def _description(directory: Path, names: tuple[str, ...]) -> bytes:
    """Length and CRC-32 of each; empty where one has a log, which is a part of it, or cannot be read."""
    parts = [__version__]
    for name in names:
        path = Path(os.path.realpath(directory / name))
        try:
            content = disk.read(path)
        except OSError:
            return b""
        if any(os.path.lexists(f"{path}{suffix}") for suffix in BESIDE):
            return b""
        parts.append(f"{name} {len(content)} {zlib.crc32(content):08x}")
    return "\n".join([*parts, ""]).encode()
