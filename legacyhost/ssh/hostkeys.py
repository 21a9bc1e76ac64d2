"""known_hosts files: what they say of a host, read as ssh reads them (sshd(8), SSH_KNOWN_HOSTS; hostfile.c)."""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import hmac
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from legacyhost.errors import Failed
from legacyhost.ssh.blobs import is_public_key
from legacyhost.ssh.patterns import is_in_list
from legacyhost.ssh.target import DEFAULT_PORT, HostKey, known_hosts_name
from legacyhost.ssh.wording import place, reason

#: The kinds of host key in use today, in the order of preference, and their signature algorithms.
ALGORITHMS = {
    "ssh-ed25519": ("ssh-ed25519",),
    "ecdsa-sha2-nistp256": ("ecdsa-sha2-nistp256",),
    "ecdsa-sha2-nistp384": ("ecdsa-sha2-nistp384",),
    "ecdsa-sha2-nistp521": ("ecdsa-sha2-nistp521",),
    "ssh-rsa": ("rsa-sha2-512", "rsa-sha2-256"),
}
AUTHORITY = "@cert-authority"
REVOKED = "@revoked"
_MARKERS = (AUTHORITY.encode(), REVOKED.encode())


@dataclass(frozen=True)
class Entry:
    """One line that is about the host asked for; ``marker`` is ``""``, ``@revoked`` or ``@cert-authority``."""

    file: Path
    marker: str
    key: HostKey


class Known:
    """What files say of a host, under one name; ``name`` is that of known_hosts.

    ``without_port`` is what they say of the name alone, which is asked where nothing is known of ``[name]:port``.
    """

    def __init__(self, name: str, entries: Sequence[Entry], without_port: Known | None = None) -> None:
        self.name = name
        self.without_port = without_port
        self.keys = [entry for entry in entries if not entry.marker]
        self.authorities = [entry for entry in entries if entry.marker == AUTHORITY]
        self._revoked = {entry.key: entry for entry in entries if entry.marker == REVOKED}

    @classmethod
    def read(cls, paths: Iterable[Path], host: str, port: int) -> Known:
        """Files that are missing or unreadable say nothing, and malformed lines are skipped, as ssh does."""
        names = list(dict.fromkeys((known_hosts_name(host, port), known_hosts_name(host, DEFAULT_PORT))))
        found: dict[str, list[Entry]] = {name: [] for name in names}
        for path in paths:
            for line in _lines(path):
                for name, entry in _entries(path, line, names):
                    found[name].append(entry)
        alone = cls(names[-1], found[names[-1]])
        return alone if len(names) == 1 else cls(names[0], found[names[0]], alone)

    def revocation(self, *keys: HostKey) -> Entry | None:
        """The line that revokes one of the keys."""
        return next((self._revoked[key] for key in keys if key in self._revoked), None)

    def has_kind(self, kind: str) -> bool:
        """Whether ssh would ask a server for this kind of key first: the first one known is not revoked."""
        first = next((entry.key for entry in self.keys if entry.key.kind == kind), None)
        return first is not None and self.revocation(first) is None


def remember(path: Path, host: str, port: int, key: HostKey) -> None:
    """Add the key to the file, once; durable before this returns. Raises Failed.

    One write at the end of the file under a file lock, so that two of these lose nothing of each other's. A line
    torn by a crash is ignored by every reader, and the next line begins on a line of its own.
    """
    if Known.read([path], host, port).revocation(key) is not None:
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
    """The keys these files have under exactly this name, without those any of them revokes; in the files' order."""
    known = Known.read(paths, host, port)
    keys = dict.fromkeys(entry.key for entry in known.keys)
    return [key for key in keys if known.revocation(key) is None]


def only(key: HostKey, paths: Iterable[Path], host: str, port: int) -> str:
    """The content of a known_hosts file that trusts this key alone, unless the files at ``paths`` revoke it."""
    lines = [key.line(host, port)]
    if Known.read(paths, host, port).revocation(key) is not None:
        lines.append(f"{REVOKED} {lines[0]}")
    return "".join(f"{line}\n" for line in lines)


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\n")
    except OSError:
        return []


def _entries(path: Path, line: bytes, names: Sequence[str]) -> Iterator[tuple[str, Entry]]:
    """What a line says, for each of the names it is about."""
    rest = line.partition(b"\0")[0].lstrip(b" \t")
    marker = b""
    if rest.startswith(b"#"):
        return
    if rest.startswith(b"@"):
        # A marker ends at the first space of the line; only where there is none, at the first tab.
        marker, _, rest = rest.partition(b" " if b" " in rest else b"\t")
        rest = rest.lstrip(b" \t")
        if marker not in _MARKERS or rest.startswith(b"@"):
            return
    hosts, *others = re.split(rb"[ \t]+", rest, maxsplit=3)
    about = [name for name in names if _is_about(hosts, name.encode("utf-8", "replace"))]
    if not about or len(others) < 2:
        return
    kind, blob = (field.decode("ascii", "replace") for field in others[:2])
    key = HostKey.parse(kind, blob.strip("\r\v\f"))
    if key is not None and is_public_key(key.kind, base64.b64decode(key.blob)):
        for name in about:
            yield name, Entry(path, marker.decode(), key)


def _is_about(hosts: bytes, name: bytes) -> bool:
    """Whether a host field is about a name: a list of patterns, or ``|1|salt|hash`` as ssh-keygen -H writes it."""
    if not hosts.startswith(b"|"):
        return is_in_list(name, hosts)
    fields = hosts.split(b"|")
    if len(fields) != 4 or fields[:2] != [b"", b"1"]:
        return False
    try:
        salt, wanted = (base64.b64decode(field, validate=True) for field in fields[2:])
    except binascii.Error:
        return False
    return len(salt) == 20 and hmac.compare_digest(hmac.new(salt, name, hashlib.sha1).digest(), wanted)


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
