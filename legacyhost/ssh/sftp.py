"""SFTP requests over paramiko with names as bytes, replies checked, deletions in flight together.

paramiko.SFTPClient decodes every name as UTF-8 and fails on others, does not know statvfs@openssh.com, and waits
for each deletion's reply; so this uses its request layer (``_request``, ``_async_request``), the same from 2.12
to 5.1. Errors are OSError with ENOENT or EACCES, or without errno and with the server's text (SSH_FX_FAILURE).
"""

from __future__ import annotations

import errno
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import paramiko
from paramiko import sftp as codes

_MOST_IN_FLIGHT = 64
_MOST_LISTED = 4096
#: Bytes, and seconds.
_MOST_HEARD, _A_MOMENT = 512, 0.5
#: Bytes: the least an extension of attributes has, two empty strings.
_EXTENSION = 8


@dataclass(frozen=True)
class Listed:
    """An entry of a directory; ``is_directory`` is False for a link to one, and where the server says nothing."""

    name: bytes
    is_directory: bool


@dataclass(frozen=True)
class FileSystem:
    """The reply to statvfs@openssh.com (PROTOCOL, 4.4), as far as it is of use; sizes in bytes."""

    total_bytes: int
    free_bytes: int
    has_free_inodes: bool
    is_read_only: bool


class Nonsense(Exception):
    """A reply that no honest server gives; the text says what was wrong with it."""


class NoSftp(Exception):
    """What was started is not SFTP: ``words`` is what it said, not made harmless; empty where it only ended."""

    def __init__(self, words: bytes) -> None:
        super().__init__("no SFTP")
        self.words = words


class Sftp:
    """One SFTP session on an authenticated transport. Raises NoSftp; EOFError where the connection is gone."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        heard = _Heard(channel)
        try:
            self._client = paramiko.SFTPClient(heard)
        except (paramiko.SSHException, codes.SFTPError, OSError) as error:
            raise NoSftp(heard.words()) from error
        self._client.sock = channel

    def stat(self, path: bytes) -> int | None:
        """The mode of what the path leads to, None where the server gives none."""
        return self._mode_by(codes.CMD_STAT, path)

    def lstat(self, path: bytes) -> int | None:
        """The mode of the entry itself, links not followed; None where the server gives none."""
        return self._mode_by(codes.CMD_LSTAT, path)

    def mkdir(self, path: bytes) -> None:
        attributes = paramiko.SFTPAttributes()
        attributes.st_mode = 0o777  # less the umask of the account
        self._ask(codes.CMD_MKDIR, path, attributes)

    def rmdir(self, path: bytes) -> None:
        self._ask(codes.CMD_RMDIR, path)

    def realpath(self, path: bytes) -> bytes:
        """The absolute path as the server sees it; OpenSSH resolves links in it."""
        kind, reply = self._ask(codes.CMD_REALPATH, path)
        if kind != codes.CMD_NAME or reply.get_int() != 1:
            raise Nonsense("its answer to realpath is no single name")
        return bytes(reply.get_binary())

    def read(self, path: bytes, limit: int) -> bytes:
        """The first bytes of a file. Raises OSError, EOFError where the session is over."""
        try:
            with self._client.open(path, "rb") as file:
                return bytes(file.read(limit))
        except OSError as error:
            if self._channel.closed:
                raise EOFError from error
            raise

    def list_some(self, path: bytes) -> list[Listed]:
        """The entries of a directory but ``.`` and ``..``: all, or the first few thousand."""
        kind, reply = self._ask(codes.CMD_OPENDIR, path)
        if kind != codes.CMD_HANDLE:
            raise Nonsense("its answer to opendir is no handle")
        handle = reply.get_binary()
        found: list[Listed] = []
        try:
            while len(found) < _MOST_LISTED:
                found += self._read_directory(handle)
        except EOFError:
            pass
        self._ask(codes.CMD_CLOSE, handle)
        return found

    def remove_all(self, paths: Sequence[bytes]) -> Iterator[tuple[bytes, OSError | None]]:
        """Delete what is not a directory, many requests in flight; one result for each path."""
        for start in range(0, len(paths), _MOST_IN_FLIGHT):
            yield from self._remove_together(paths[start : start + _MOST_IN_FLIGHT])

    def file_system(self, path: bytes) -> FileSystem | None:
        """What statvfs says of the file system of a path; None where the server does not know that request."""
        try:
            kind, reply = self._ask(codes.CMD_EXTENDED, b"statvfs@openssh.com", path)
        except OSError as error:
            if error.errno is not None:
                raise
            return None
        if kind != codes.CMD_EXTENDED_REPLY:
            return None
        names = ("bsize", "frsize", "blocks", "bfree", "bavail", "files", "ffree", "favail", "fsid", "flag")
        value = {name: reply.get_int64() for name in names}
        if value["frsize"] == 0:
            return None
        return FileSystem(
            total_bytes=value["blocks"] * value["frsize"],
            free_bytes=value["bavail"] * value["frsize"],
            has_free_inodes=value["files"] == 0 or value["favail"] > 0,
            is_read_only=bool(value["flag"] & 1),
        )

    def _ask(self, request: int, *arguments: Any) -> tuple[int, Any]:
        """The kind and content of the reply. Raises OSError for a refusal, EOFError where the session is over."""
        try:
            kind, reply = self._client._request(request, *arguments)
        except OSError as error:
            if self._channel.closed:
                raise EOFError from error
            raise
        return kind, reply

    def _mode_by(self, request: int, path: bytes) -> int | None:
        kind, reply = self._ask(request, path)
        if kind != codes.CMD_ATTRS:
            raise Nonsense("its answer to stat is no attributes")
        return _mode(reply)

    def _read_directory(self, handle: bytes) -> list[Listed]:
        """One reply's worth of entries. Raises EOFError at the end."""
        kind, reply = self._ask(codes.CMD_READDIR, handle)
        if kind != codes.CMD_NAME:
            raise Nonsense("its answer to readdir is no list of names")
        found = []
        for _ in range(reply.get_int()):
            name = bytes(reply.get_binary())
            reply.get_binary()  # the line as "ls -l" has it
            mode = _mode(reply)
            if name in (b".", b".."):
                continue
            if not name or b"/" in name or b"\0" in name:
                raise Nonsense("it lists a name that no directory entry can have")
            found.append(Listed(name, mode is not None and stat.S_ISDIR(mode)))
        return found

    def _remove_together(self, paths: Sequence[bytes]) -> Iterator[tuple[bytes, OSError | None]]:
        replies = _Replies()
        numbers = [self._client._async_request(replies, codes.CMD_REMOVE, path) for path in paths]
        while not replies.have_all(numbers):
            self._client._read_response()
        for number, path in zip(numbers, paths, strict=True):
            try:
                self._client._convert_status(replies.arrived[number])
            except OSError as error:
                yield path, error
            except EOFError:
                raise Nonsense("its answer to a deletion is an end of file") from None
            else:
                yield path, None


class _Heard:
    """A channel that keeps how it began, for the case that what speaks there is no SFTP server."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._channel, name)

    def recv(self, count: int) -> bytes:
        data = bytes(self._channel.recv(count))
        self._head = (self._head + data)[:_MOST_HEARD]
        return data

    def words(self) -> bytes:
        """What it has said so far, up to the first byte of SFTP's; waits a moment for more of it."""
        self._channel.settimeout(_A_MOMENT)
        said = self._head
        with suppress(OSError):
            said += self._channel.recv(_MOST_HEARD)
        return said.partition(b"\0")[0]


class _Replies:
    """Takes replies in whatever order they come; paramiko calls it where it would call an open file."""

    def __init__(self) -> None:
        self.arrived: dict[int, Any] = {}

    def _async_response(self, kind: int, reply: Any, number: int) -> None:
        if kind != codes.CMD_STATUS:
            raise Nonsense("its answer to a deletion is no status")
        self.arrived[number] = reply

    def have_all(self, numbers: Sequence[int]) -> bool:
        return len(self.arrived) >= len(numbers)


def is_missing(error: OSError) -> bool:
    return error.errno == errno.ENOENT


def is_forbidden(error: OSError) -> bool:
    return error.errno == errno.EACCES


def _mode(reply: Any) -> int | None:
    """The mode in the attributes that come next, which are read to their end (draft-ietf-secsh-filexfer-02, 5).

    paramiko would go on for hours about four billion extensions that are not there.
    """
    flags = reply.get_int()
    if flags & paramiko.SFTPAttributes.FLAG_SIZE:
        reply.get_int64()
    if flags & paramiko.SFTPAttributes.FLAG_UIDGID:
        reply.get_int64()  # two of 32 bits
    mode = reply.get_int() if flags & paramiko.SFTPAttributes.FLAG_PERMISSIONS else None
    if flags & paramiko.SFTPAttributes.FLAG_AMTIME:
        reply.get_int64()
    if flags & paramiko.SFTPAttributes.FLAG_EXTENDED:
        count = reply.get_int()
        if count > len(reply.asbytes()) // _EXTENSION:
            raise Nonsense("it announces more than it sends")
        for _ in range(2 * count):
            reply.get_binary()
    return mode
