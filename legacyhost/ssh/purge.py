"""Emptying a remote directory: the one place of this software that deletes data, only inside what was named.

SFTP version 3 has no way to open a directory without following links. So each directory is looked at (lstat)
before it is listed, and again (lstat, realpath) before anything of that list is deleted; someone who swaps a
directory for a link on the server in the instant after that is not stopped by it.
"""

from __future__ import annotations

import posixpath
import stat
from dataclasses import dataclass

from legacyhost.errors import Failed, InvalidRequest
from legacyhost.ssh.directories import octets
from legacyhost.ssh.sftp import Listed, Sftp, is_forbidden, is_missing
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
        emptied: set[bytes] = set()  # directories below the top of which all that was listed is deleted
        while stack:
            directory = stack[-1]
            if directory in emptied and self._remove_directory(directory):
                emptied.remove(stack.pop())
                continue
            listed = self._list(directory, is_top=directory == top)
            if listed:
                if self._is_itself(directory):
                    stack += self._delete(directory, listed)
                    emptied |= {directory} - {top}
                continue
            if listed is not None and directory != top:
                self._remove_directory(directory, must=True)
            emptied.discard(stack.pop())

    def _list(self, directory: bytes, *, is_top: bool) -> list[Listed] | None:
        """What is in a directory; None if it is none any more, a link in its place then being deleted."""
        try:
            mode = self._sftp.lstat(directory)
            if mode is not None and stat.S_ISDIR(mode):
                return self._sftp.list_some(directory)
        except OSError as error:
            if is_missing(error):
                return None
            raise self._stopped("list", directory, error) from error
        if is_top:
            raise Failed(f"{clean(directory)} on {self._where} is no directory any more; stopped there")
        self._remove_all([directory])
        return None

    def _is_itself(self, directory: bytes) -> bool:
        """Whether a path still is a directory. Raises Failed where a link is on the way to it."""
        try:
            mode = self._sftp.lstat(directory)
            real = self._sftp.realpath(directory)
        except OSError as error:
            if is_missing(error):
                return False
            raise self._stopped("look at", directory, error) from error
        if mode is None or not stat.S_ISDIR(mode):
            return False
        if real != directory:
            raise Failed(f"{clean(directory)} on {self._where} is reached through a link now; stopped there")
        return True

    def _delete(self, directory: bytes, listed: list[Listed]) -> list[bytes]:
        """Delete the entries that are not directories; returns those that are."""
        prefix = posixpath.join(directory, b"")
        self._remove_all([prefix + entry.name for entry in listed if not entry.is_directory])
        return [prefix + entry.name for entry in listed if entry.is_directory]

    def _remove_all(self, paths: list[bytes]) -> None:
        for path, error in self._sftp.remove_all(paths):
            if error is None:
                self._tally.deleted += 1
            elif not is_missing(error):
                raise self._stopped("delete", path, error) from error

    def _remove_directory(self, directory: bytes, *, must: bool = False) -> bool:
        """Delete an empty directory. False where it may just not be empty, unless it ``must`` be."""
        try:
            self._sftp.rmdir(directory)
        except OSError as error:
            if is_missing(error):
                return True
            if must or is_forbidden(error):
                raise self._stopped("delete", directory, error) from error
            return False
        self._tally.deleted += 1
        return True

    def _stopped(self, doing: str, path: bytes, error: OSError) -> Failed:
        return Failed(f"cannot {doing} {clean(path)} on {self._where}: {_why(error)}")


def _why(error: OSError) -> str:
    return "permission denied" if is_forbidden(error) else reason(error)
