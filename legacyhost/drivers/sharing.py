"""Which connection volumes share: that of the same account, on the same host, opened and checked in the same way.

Each has a folder with its files, of a random name, root only. A digest of them is among them, so that a service that
has been started anew finds what is there. The connection's process removes the folder when it ends.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from legacyhost.drivers.ssh_files import write

DIGEST, SOCKET = "digest", "socket"
#: Seconds in which a process has to be there once its folder is.
START = 10.0

T = TypeVar("T")


class SharedConnections:
    """Of one plugin."""

    def __init__(self) -> None:
        self._choosing = threading.Lock()

    def folder(self, root: Path, account: str, fill: Callable[[Path], T]) -> tuple[Path, T | None]:
        """The folder in ``root`` with what ``fill`` writes for that account; with its result if the folder is new.

        Raises what fill raises, OSError.
        """
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = fresh = root / secrets.token_hex(4)
        fresh.mkdir(mode=0o700)
        try:
            filled = fill(fresh)
            with self._choosing:
                folder = _settled(fresh, _digest(account, fresh))
        except BaseException:
            remove(fresh)
            raise
        if folder == fresh:
            return fresh, filled
        remove(fresh)
        return folder, None


def remove(folder: Path) -> None:
    """What is in it, and itself; whoever else does so meanwhile is not in the way."""
    try:
        for path in folder.iterdir():
            path.unlink(missing_ok=True)
        folder.rmdir()
    except FileNotFoundError:
        return


def _digest(account: str, folder: Path) -> str:
    """Of all that a connection is made with. It stands beside the secrets themselves, and nowhere else."""
    whole = hashlib.sha256(account.encode())
    for path in sorted(folder.iterdir()):
        content = path.read_bytes().replace(os.fsencode(folder), b"")
        whole.update(f"{path.name} {len(content)} ".encode() + content)
    return whole.hexdigest()


def _settled(fresh: Path, digest: str) -> Path:
    """That of another process with the same digest, or else the fresh one. What nobody has any more is removed."""
    found = fresh
    for other in fresh.parent.iterdir():
        if other != fresh and not _is_there(other):
            remove(other)
        elif other != fresh and _recorded(other) == digest:
            found = other
    if found == fresh:
        write(fresh / DIGEST, digest)
    return found


def _recorded(folder: Path) -> str:
    """Its digest; empty where it is not written yet, or gone by now."""
    try:
        return (folder / DIGEST).read_text("ascii")
    except FileNotFoundError:
        return ""


def _is_there(folder: Path) -> bool:
    """Whether somebody listens there, or will."""
    try:
        place = os.open(folder, os.O_PATH)
    except OSError:
        return False
    try:
        with socket.socket(socket.AF_UNIX) as line:
            line.setblocking(False)
            line.connect(f"/proc/self/fd/{place}/{SOCKET}")  # a path of a socket has 107 bytes at most
        return True
    except BlockingIOError:  # many are there before
        return True
    except FileNotFoundError:
        return time.time() - os.fstat(place).st_mtime < START
    except OSError:
        return False
    finally:
        os.close(place)
