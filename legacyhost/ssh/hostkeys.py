"""known_hosts files: which keys they trust or revoke for a host (the format: sshd(8), SSH_KNOWN_HOSTS).

One difference from ssh is deliberate: a key known for ``name`` does not count for ``[name]:2222``.
``@cert-authority`` lines are recognised and trusted for nothing yet.
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from legacyhost.errors import Failed
from legacyhost.ssh.target import HostKey, known_hosts_name
from legacyhost.ssh.wording import place, reason

_MARKERS = ("@cert-authority", "@revoked")


@dataclass(frozen=True)
class Entry:
    """One line that is about the host asked for; ``marker`` is ``""``, ``@revoked`` or ``@cert-authority``."""

    file: Path
    marker: str
    key: HostKey


def remember(path: Path, host: str, port: int, key: HostKey) -> None:
    """Add the key to the file, once; durable before this returns. Raises Failed.

    One write at the end of the file under a file lock, so that two of these lose nothing of each other's. A line
    torn by a crash is ignored by every reader, and the next line begins on a line of its own.
    """
    if key in revoked([path], host, port):
        raise Failed(f"{path} marks that key of {place(host, port)} as revoked ({key}); it is not trusted again")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if key not in look_up([path], host, port):
                _append(descriptor, key.line(host, port))
        finally:
            os.close(descriptor)
        _sync_directory(path.parent)
    except OSError as error:
        raise Failed(f"cannot add a host key to {path}: {reason(error)}") from error


def look_up(paths: Iterable[Path], host: str, port: int) -> list[HostKey]:
    """The keys these files trust for a host, without those any of them revokes; in the files' order.

    Files that are missing or unreadable hold no key, and malformed lines are skipped, as ssh does.
    """
    found = list(entries(paths, host, port))
    bad = {entry.key for entry in found if entry.marker == "@revoked"}
    good = (entry.key for entry in found if entry.marker == "")
    return [key for key in dict.fromkeys(good) if key not in bad]


def revoked(paths: Iterable[Path], host: str, port: int) -> list[HostKey]:
    """The keys these files say must never be accepted for a host."""
    return [entry.key for entry in entries(paths, host, port) if entry.marker == "@revoked"]


def entries(paths: Iterable[Path], host: str, port: int) -> Iterator[Entry]:
    """Every well-formed line about a host, whatever its marker."""
    name = known_hosts_name(host, port)
    for path in paths:
        for line in _lines(path):
            parsed = _parse(line)
            if parsed is None:
                continue
            marker, hosts, key = parsed
            if _is_for(name, hosts):
                yield Entry(path, marker, key)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_bytes().decode("utf-8", "replace").split("\n")
    except OSError:
        return []


def _parse(line: str) -> tuple[str, str, HostKey] | None:
    """Marker, host field and key of a line; None for comments and for what ssh would skip."""
    fields = re.split(r"[ \t]+", line.strip(" \t\r"))
    marker = ""
    if fields[0].startswith("@"):
        marker = fields.pop(0)
        if marker not in _MARKERS:
            return None
    if len(fields) < 3 or fields[0].startswith("#"):
        return None
    key = HostKey.parse(fields[1], fields[2])
    return None if key is None else (marker, fields[0], key)


def _is_for(name: str, hosts: str) -> bool:
    """Whether a host field is about a name: one hash, or patterns of which none negated matches."""
    if hosts.startswith("|"):
        return _is_hash_of(name, hosts)
    matched = False
    for pattern in hosts.lower().split(","):
        if pattern.startswith("!"):
            if _matches(name, pattern[1:]):
                return False
        elif _matches(name, pattern):
            matched = True
    return matched


def _matches(name: str, pattern: str) -> bool:
    parts = {"*": ".*", "?": "."}
    collapsed = re.sub(r"\*+", "*", pattern)
    return re.fullmatch("".join(parts.get(char, re.escape(char)) for char in collapsed), name) is not None


def _is_hash_of(name: str, hosts: str) -> bool:
    """``|1|salt|hash`` with HMAC-SHA1, as ssh-keygen -H writes it."""
    fields = hosts.split("|")
    if len(fields) != 4 or fields[:2] != ["", "1"]:
        return False
    try:
        salt, wanted = (base64.b64decode(field, validate=True) for field in fields[2:])
    except (binascii.Error, ValueError):
        return False
    digest = hmac.new(salt, name.encode("utf-8", "replace"), hashlib.sha1).digest()
    return hmac.compare_digest(digest, wanted)


def _append(descriptor: int, line: str) -> None:
    size = os.fstat(descriptor).st_size
    begins_inside_a_line = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
    data = (("\n" if begins_inside_a_line else "") + line + "\n").encode()
    written = os.write(descriptor, data)
    if written != len(data):
        os.ftruncate(descriptor, size)
        raise OSError(28, "no space left on device")
    os.fsync(descriptor)


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
