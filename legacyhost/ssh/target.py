"""What names a remote directory, the account and the host key behind it; knows no network and no paramiko."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

DEFAULT_PORT = 22

_SHORT_KINDS = {
    "ssh-ed25519": "ED25519",
    "ssh-rsa": "RSA",
    "ssh-dss": "DSA",
    "sk-ssh-ed25519@openssh.com": "ED25519-SK",
    "sk-ecdsa-sha2-nistp256@openssh.com": "ECDSA-SK",
}


class Secret:
    """A string that shows itself only when asked: ``str``, ``repr`` and ``format`` give ``***``; not picklable."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(_octets(self._value), _octets(other._value))

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is not written down")


@dataclass(frozen=True)
class Target:
    """A directory of an account on a host, and what opens it.

    ``path`` is absolute or relative to the account's home directory, ``""`` is the home directory itself.
    ``password`` also serves as the passphrase of an encrypted identity file. ``key`` is a private key in OpenSSH's
    form without passphrase, kept with its ``certificate`` (a line as in ``-cert.pub``) under the name ``credential``;
    ``agent`` is the socket of an agent. ``host_key`` (``SHA256:…``, as ``ssh-keygen -lf`` prints it) is the only
    host key accepted; without it the known hosts decide. ``jump`` is the host by way of which this one is reached;
    its path means nothing.
    """

    host: str
    user: str
    path: str = ""
    port: int = DEFAULT_PORT
    identity_files: tuple[str, ...] = ()
    password: Secret | None = None
    host_key: str | None = None
    key: Secret | None = None
    certificate: str = ""
    credential: str = ""
    agent: str = ""
    jump: Target | None = None

    @property
    def names_a_login(self) -> bool:
        """Whether it says what to log in with; otherwise the default key files are tried."""
        return bool(self.identity_files or self.password is not None or self.key is not None or self.agent)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        at_port = "" if self.port == DEFAULT_PORT else f" (port {self.port})"
        by_way_of = "" if self.jump is None else f" by way of {self.jump.host}"
        return f"{self.user}@{host}:{self.path}{at_port}{by_way_of}"


@dataclass(frozen=True)
class HostKey:
    """The public key of a host: ``kind`` as in known_hosts (``ssh-ed25519``), ``blob`` in base64."""

    kind: str
    blob: str

    @classmethod
    def parse(cls, kind: str, blob: str) -> HostKey | None:
        """The key of two fields of a known_hosts line; None where the blob is no key of that kind."""
        try:
            raw = base64.b64decode(blob, validate=True)
        except (binascii.Error, ValueError):
            return None
        length = int.from_bytes(raw[:4], "big")
        if len(raw) <= 4 + length or raw[4 : 4 + length] != kind.encode("utf-8", "replace"):
            return None
        # ssh takes neither more padding than there has to be nor bits of no byte; Python does.
        return cls(kind, blob) if base64.b64encode(raw).decode("ascii") == blob else None

    @property
    def fingerprint(self) -> str:
        """As OpenSSH prints it: ``SHA256:`` and base64 without padding."""
        digest = hashlib.sha256(base64.b64decode(self.blob)).digest()
        return "SHA256:" + base64.b64encode(digest).decode("ascii").rstrip("=")

    @property
    def short_kind(self) -> str:
        """As OpenSSH names it to people: ``ED25519``, ``RSA``, ``ECDSA``."""
        return "ECDSA" if self.kind.startswith("ecdsa-") else _SHORT_KINDS.get(self.kind, self.kind)

    def line(self, host: str, port: int) -> str:
        """The known_hosts line that trusts this key for that host, without a line break."""
        return f"{known_hosts_name(host, port)} {self.kind} {self.blob}"

    def __str__(self) -> str:
        return f"{self.short_kind} {self.fingerprint}"


def known_hosts_name(host: str, port: int) -> str:
    """The name known_hosts has for a host: ``name``, or ``[name]:port`` off port 22 (sshd(8)); lower case."""
    return host.lower() if port == DEFAULT_PORT else f"[{host.lower()}]:{port}"


def default_identity_files(home: Path | None = None) -> tuple[str, ...]:
    """The key files that exist where ``ssh`` looks when it is given none, in the order in which they are tried.

    ``home``: of the account this process runs as, from the user database as ssh does (not ``$HOME``). The data
    path (sshfs) must name the same files. Used only where neither a password nor an identity file is given.
    """
    directory = (home or Path(pwd.getpwuid(os.geteuid()).pw_dir)) / ".ssh"
    names = ("id_ed25519", "id_ecdsa", "id_rsa")
    return tuple(str(directory / name) for name in names if (directory / name).is_file())


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
