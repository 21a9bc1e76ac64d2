"""Directories on a server: there and usable, made if asked, how much room; never deletes anything."""

from __future__ import annotations

import posixpath
import stat
from dataclasses import dataclass

from legacyhost.errors import Failed, InvalidRequest
from legacyhost.ssh.sftp import FileSystem, Sftp, is_forbidden, is_missing
from legacyhost.ssh.wording import clean, reason

#: Bytes; where that is too many, OpenSSH's server says "Bad message".
_LONGEST_NAME = 255


@dataclass(frozen=True)
class Space:
    """Room on a file system as an unprivileged user has it, in bytes."""

    total_bytes: int
    free_bytes: int


class Directories:
    """The directories of one account on one server; ``where`` and ``user`` are for the messages."""

    def __init__(self, sftp: Sftp, where: str, user: str) -> None:
        self._sftp = sftp
        self._where = where
        self._user = user

    def ensure(self, path: str, *, create: bool) -> None:
        """See that ``path`` is a directory, making it and its missing parents if ``create``. Raises Failed.

        One that was not to be made has to be readable too: nobody can use it otherwise.
        """
        if self._is_directory(path):
            if not create:
                self._see_into(path)
            return
        if not create:
            hints = {
                "~": " (~ is taken literally; paths begin in the home directory)",
                "/": " (where accounts are confined, ChrootDirectory, paths begin there)",
            }
            hint = hints.get(path[:1], "")
            raise Failed(
                f"{self._where} has no directory {clean(path)}{hint}:"
                " make it there (with create=true that is done when a volume is created)"
            )
        missing = [path.rstrip("/")]
        while not self._is_directory(parent := posixpath.dirname(missing[-1])):
            missing.append(parent.rstrip("/"))
        for directory in reversed(missing):
            self._make(directory)

    def space(self, path: str) -> Space | None:
        """Room below ``path``; None where the server cannot tell. Raises Failed."""
        try:
            found = self._sftp.file_system(octets(path))
        except OSError as error:
            raise self._failed("look at", path, error) from error
        return None if found is None else Space(found.total_bytes, found.free_bytes)

    def is_writable(self, path: str, probe: str) -> bool:
        """Whether the account may make an entry in ``path``: makes the directory ``probe`` and removes it again.

        Raises Failed where that fails for another reason: there is no room, or a quota is used up.
        """
        entry = octets(posixpath.join(path, probe))
        try:
            self._sftp.mkdir(entry)
        except OSError as error:
            if is_forbidden(error):
                return False
            if is_missing(error):
                raise self._failed("write to", path, error) from error
            # SSH_FX_FAILURE says nothing, and of quotas statvfs says nothing either.
            why = self._why_no_room(path) or f"the server says only {reason(error)}; perhaps a quota is used up"
            shown = clean(path) or "the home directory"
            raise Failed(f"cannot write to {shown} on {self._where}: {why}") from error
        try:
            self._sftp.rmdir(entry)
        except OSError as error:
            raise self._failed("clean up after a test in", path, error) from error
        return True

    def _see_into(self, path: str) -> None:
        """Raises Failed unless it can be listed, and what is in it be reached."""
        try:
            self._sftp.list_some(octets(path))
            self._sftp.stat(octets(posixpath.join(path, ".")))
        except OSError as error:
            raise self._failed("read", path, error) from error

    def _is_directory(self, path: str) -> bool:
        """False if there is nothing. Raises Failed if there is something else, or if it cannot be told."""
        try:
            mode = self._sftp.stat(octets(path))
        except OSError as error:
            if not is_missing(error):
                raise self._failed("look at", path, error) from error
            if self._is_dangling_link(path):
                raise Failed(f"{clean(path)} on {self._where} is a symbolic link that leads nowhere") from error
            if posixpath.dirname(path) == path or not path:
                raise self._failed("look at", path, error) from error
            return False
        if mode is not None and not stat.S_ISDIR(mode):
            raise Failed(f"{clean(path)} on {self._where} is not a directory")
        return True

    def _is_dangling_link(self, path: str) -> bool:
        try:
            mode = self._sftp.lstat(octets(path.rstrip("/")))
        except OSError:
            return False
        return mode is not None and stat.S_ISLNK(mode)

    def _make(self, path: str) -> None:
        try:
            self._sftp.mkdir(octets(path))
        except OSError as error:
            if is_forbidden(error):
                parent = posixpath.dirname(path) or "the home directory"
                raise Failed(
                    f"{self._user} may not make {clean(path)} on {self._where}: "
                    f"no permission to write in {clean(parent)}"
                ) from error
            # SSH_FX_FAILURE says nothing: somebody else may have made it meanwhile, or the disk be full.
            if self._is_directory(path):
                return
            full = self._why_no_room(posixpath.dirname(path))
            if full:
                raise Failed(f"cannot make {clean(path)} on {self._where}: {full}") from error
            raise self._failed("make", path, error) from error

    def _why_no_room(self, parent: str) -> str:
        try:
            found: FileSystem | None = self._sftp.file_system(octets(parent))
        except OSError:
            return ""
        if found is None:
            return ""
        if found.is_read_only:
            return "the file system there is read-only"
        if found.free_bytes == 0 or not found.has_free_inodes:
            return "no space left there"
        return ""

    def _failed(self, doing: str, path: str, error: OSError) -> Failed:
        shown = clean(path) or "the home directory"
        if is_missing(error):
            return Failed(f"cannot {doing} {shown} on {self._where}: it does not exist")
        if is_forbidden(error):
            above = " by a directory above it" if doing == "look at" else ""
            return Failed(f"{self._user} may not {doing} {shown} on {self._where}: permission denied{above}")
        is_too_long = any(len(name) > _LONGEST_NAME for name in octets(path).split(b"/"))
        why = f"a name in it has more than {_LONGEST_NAME} bytes" if is_too_long else reason(error)
        return Failed(f"cannot {doing} {shown} on {self._where}: {why}")


def octets(path: str) -> bytes:
    """A path as it goes to the server; ``""`` is the directory a session begins in, the home directory."""
    try:
        return path.encode() or b"."
    except UnicodeEncodeError as error:
        raise InvalidRequest(f'"{clean(path)}" is no path: it has half a character in it') from error
