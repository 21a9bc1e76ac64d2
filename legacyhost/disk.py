"""The disk under a directory: who may change something, what is durable, what is wrong, room for an emergency."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from legacyhost import log

#: Seconds to wait for another process that changes the same directory.
PATIENCE = 5.0
RESERVE = "volumes.reserve"
#: Bytes. Removing a volume writes a few pages of 4096 to the record's log, and as many to the backup's.
SIZE = 256 * 1024


def identity(path: Path) -> tuple[int, int]:
    """Which file it is, whatever its name. Raises OSError."""
    status = path.stat()
    return status.st_dev, status.st_ino


def changed(path: Path) -> tuple[int, int]:
    """When the file was last changed, in ns since the epoch, and its size; zeros where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return 0, 0
    return status.st_mtime_ns, status.st_size


def sync(directory: Path) -> None:
    """Make new names in it durable. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read(path: Path, limit: int = -1) -> bytes:
    """A file, or so many bytes of it. What is none is not waited for: a pipe, a device. Raises OSError."""
    with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise OSError(errno.EINVAL, "it is not a file")
        return file.read(limit)


def write(path: Path, data: bytes) -> None:
    """Put a file of root's own in place, durably: it is the old one or the new one, never half. Raises OSError."""
    draft = path.with_name(f".{path.name}.new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)  # half of it, on a disk that may be full
    sync(path.parent)


@contextmanager
def lock(directory: Path) -> Iterator[None]:
    """Be the only one that changes files in it, among processes and threads. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.005)
        yield
    finally:
        os.close(descriptor)


def is_full(error: BaseException) -> bool:
    """Whether it, or what it was raised from, was for want of room."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    if error.__cause__ is not None:
        return is_full(error.__cause__)
    return getattr(error, "sqlite_errorcode", 0) in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_SHMSIZE)


def reason(error: BaseException) -> str:
    """In words for whoever has to mend it."""
    if is_full(error):
        return "the disk is full"
    if isinstance(error, BlockingIOError):
        return "another process is changing it"
    if isinstance(error, UnicodeError) or str(error).startswith("Could not decode"):
        return "a text in it is not UTF-8"  # SQLite would show it, whatever it is
    said = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return "".join(c if c.isprintable() else " " for c in said)


def is_read_only(directory: Path) -> bool:
    """Whether nothing on it can be changed."""
    try:
        return bool(os.statvfs(directory).f_flag & os.ST_RDONLY)
    except OSError:
        return False


class Reserve:
    """A file without meaning, which can be deleted when something more important has to be written."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / RESERVE
        self._is_kept = False
        self._is_missed = False

    def keep(self) -> None:
        """Have it from now on, if there is room; that there is none is logged once."""
        if self._is_kept:
            return
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, SIZE)
            finally:
                os.close(descriptor)
        except OSError as error:
            if not self._is_missed:
                log.event(log.WARNING, f"no room can be kept free in {self._path.parent}: {error.strerror}")
            self._is_missed = True
            self.give_up()
        else:
            self._is_kept, self._is_missed = True, False

    def give_up(self) -> bool:
        """Delete it; whether that has made room."""
        self._is_kept = False
        with suppress(OSError):  # then there is no room, as before
            self._path.unlink()
            return True
        return False
