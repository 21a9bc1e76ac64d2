"""Room on the disk that is kept for the moment when there is no other."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from legacyhost import log

FILE = "volumes.reserve"
#: Bytes. Removing a volume writes a few pages of 4096 to the record's log, and as many to the backup's.
SIZE = 256 * 1024


class Reserve:
    """A file without meaning, which can be deleted when something more important has to be written."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
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
        with contextlib.suppress(OSError):  # then there is no room, as before
            self._path.unlink()
            return True
        return False
