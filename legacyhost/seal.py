"""What was found in order at a clean stop need not be looked through at the next start, if nothing has touched it.

A file beside record and backup says what both are, to the byte, when they have been checked and nobody has them open.
"""

from __future__ import annotations

import errno
import os
import stat
import zlib
from collections.abc import Callable
from pathlib import Path

from legacyhost import __version__
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
        said = _content(path, LONGEST)
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
    draft = directory / f"{FILE}.new"
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(description)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(directory / FILE)


def _description(directory: Path, names: tuple[str, ...]) -> bytes:
    """Length and CRC-32 of each; empty where one has a log, which is a part of it, or cannot be read."""
    parts = [__version__]
    for name in names:
        path = Path(os.path.realpath(directory / name))
        try:
            content = _content(path)
        except OSError:
            return b""
        if any(os.path.lexists(f"{path}{suffix}") for suffix in BESIDE):
            return b""
        parts.append(f"{name} {len(content)} {zlib.crc32(content):08x}")
    return "\n".join([*parts, ""]).encode()


def _content(path: Path, limit: int = -1) -> bytes:
    """Of a file, which is the only thing that is waited for. Raises OSError."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a file")
        return file.read(limit)
