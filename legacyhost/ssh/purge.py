"""Emptying a remote directory: the one place of this software that deletes data, only inside what was named.

SFTP version 3 has no way to open a directory without following links. So each directory is looked at (lstat,
realpath) before it is listed and again before anything of that list is deleted; someone who swaps a directory for
a link on the server in the instant after that is not stopped by it.
"""

from __future__ import annotations

import posixpath
import stat
from dataclasses import dataclass

from legacyhost.errors import Failed, InvalidRequest
from legacyhost.ssh.directories import octets
from legacyhost.ssh.sftp import Sftp, is_forbidden, is_missing
from legacyhost.ssh.wording import clean, reason


@dataclass
class Tally:
    """How many entries are known to be deleted; read by others when the work had to be left."""

    deleted: int = 0

    def __str__(self) -> str:
        return "1 entry" if self.deleted == 1 else f"{self.deleted} entries"


def purge(sftp: Sftp, path: str, where: str, tally: Tally) -> None:
    """Delete all that ``path`` contains, not itself; nothing at all if it does not exist.

    Raises InvalidRequest for a path that is never emptied (home directory, ``/``, anything above home), Failed
    for what cannot be deleted: the rest is then left alone, nothing is skipped in silence.
    """
    top = _checked_top(sftp, path, where)
    if top is None:
        return
    _Purge(sftp, where, tally).empty(top)


def _checked_top(sftp: Sftp, path: str, where: str) -> bytes | None:
    """The real path of a directory that may be emptied; None where there is nothing of that name."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if not parts or ".." in parts:
        raise InvalidRequest(
            f'"{clean(path)}" on {where} is not purged: only a directory of its own below another one is'
        )
    name = octets(("/" if path.startswith("/") else "") + "/".join(parts))
    shown = clean(path)
    try:
        mode = sftp.lstat(name)
        home, real = sftp.realpath(b"."), sftp.realpath(name)
    except OSError as error:
        if is_missing(error):
            return None
        raise Failed(f"cannot purge {shown} on {where}: {_why(error)}") from error
    if mode is None or not (home.startswith(b"/") and real.startswith(b"/")):
        raise Failed(f"{shown} on {where} is not purged: the server does not say enough of what it is")
    if stat.S_ISLNK(mode):
        raise Failed(f"{shown} on {where} is a symbolic link, which is not purged: name the directory itself")
    if not stat.S_ISDIR(mode):
        raise Failed(f"{shown} on {where} is not a directory, it is not purged")
    if posixpath.join(home, b"").startswith(posixpath.join(real, b"")):
        raise InvalidRequest(f"{shown} on {where} is not purged: it is the home directory, or contains it")
    return real


class _Purge:
    def __init__(self, sftp: Sftp, where: str, tally: Tally) -> None:
        self._sftp = sftp
        self._where = where
        self._tally = tally

    def empty(self, top: bytes) -> None:
        """Depth first with a stack of its own: a tree may be deeper than Python's."""
        stack = [top]
        emptied: bytes | None = None
        while stack:
            directory = stack[-1]
            if not self._is_itself(directory):
                stack.pop()
                self._remove_what_took_its_place(directory, top)
                continue
            below = self._empty_once(directory)
            if below is not None:
                stack += below
                continue
            stack.pop()
            if directory != top and not self._remove_directory(directory, has_failed=directory == emptied):
                stack.append(directory)
                emptied = directory

    def _empty_once(self, directory: bytes) -> list[bytes] | None:
        """Delete what is listed now but directories, which are returned; None if it is empty."""
        try:
            listed = self._sftp.list_some(directory)
        except OSError as error:
            if is_missing(error):
                return []
            raise self._stopped("list", directory, error) from error
        if not listed:
            return None
        if not self._is_itself(directory):
            return []
        prefix = posixpath.join(directory, b"")
        self._remove_all([prefix + entry.name for entry in listed if not entry.is_directory])
        return [prefix + entry.name for entry in listed if entry.is_directory]

    def _is_itself(self, directory: bytes) -> bool:
        """Whether a path still is a directory, and no link is on the way to it."""
        try:
            mode = self._sftp.lstat(directory)
            real = self._sftp.realpath(directory)
        except OSError as error:
            if is_missing(error):
                return False
            raise self._stopped("look at", directory, error) from error
        if mode is not None and stat.S_ISDIR(mode) and real != directory:
            raise Failed(f"{clean(directory)} on {self._where} is reached through a link now; stopped there")
        return mode is not None and stat.S_ISDIR(mode)

    def _remove_what_took_its_place(self, path: bytes, top: bytes) -> None:
        """A link, or nothing any more, where a directory was listed. A link that is the top stays."""
        if path == top:
            raise Failed(f"{clean(path)} on {self._where} is not the directory any more that it was; stopped there")
        self._remove_all([path])

    def _remove_all(self, paths: list[bytes]) -> None:
        for path, error in self._sftp.remove_all(paths):
            if error is None:
                self._tally.deleted += 1
            elif not is_missing(error):
                raise self._stopped("delete", path, error) from error

    def _remove_directory(self, directory: bytes, *, has_failed: bool) -> bool:
        """False if it may not have been empty, for another look; the second time that is an error."""
        try:
            self._sftp.rmdir(directory)
        except OSError as error:
            if is_missing(error):
                return True
            if has_failed or is_forbidden(error):
                raise self._stopped("delete", directory, error) from error
            return False
        self._tally.deleted += 1
        return True

    def _stopped(self, doing: str, path: bytes, error: OSError) -> Failed:
        return Failed(f"cannot {doing} {clean(path)} on {self._where}: {_why(error)}")


def _why(error: OSError) -> str:
    return "permission denied" if is_forbidden(error) else reason(error)
