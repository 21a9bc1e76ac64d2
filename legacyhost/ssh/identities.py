"""Private key files: which can be used for a login, and why one cannot (read with cryptography, as paramiko does)."""

from __future__ import annotations

import io
import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from legacyhost.errors import Failed
from legacyhost.ssh.keyfiles import LARGEST, OPENSSH, is_encrypted
from legacyhost.ssh.target import Secret, Target
from legacyhost.ssh.wording import clean, reason


@dataclass(frozen=True)
class Identity:
    """A private key ready for use and the file it is from; ``key`` is a paramiko.PKey."""

    file: str
    key: Any


@dataclass
class Credentials:
    """What there is to log in with. ``notes`` says which of the default key files could not be used, and why.

    A password that opened an encrypted key is that key's passphrase: ``password`` is then None, for a passphrase
    is never sent to a server.
    """

    identities: list[Identity] = field(default_factory=list)
    password: Secret | None = None
    notes: list[str] = field(default_factory=list)


def credentials_of(target: Target, defaults: Sequence[str]) -> Credentials:
    """The credentials of a target, read from disk. Raises Failed where a file that was named cannot be used.

    ``defaults``: the key files to try where the target has neither identity files nor a password.
    """
    found = Credentials(password=target.password)
    if not target.identity_files and target.password is None:
        for file in defaults:
            try:
                found.identities += _load(file, None)[0]
            except Failed as error:
                found.notes.append(error.message)
    for file in target.identity_files:
        identities, encrypted = _load(file, target.password)
        found.identities += identities
        if encrypted:
            found.password = None
    return found


def _load(file: str, passphrase: Secret | None) -> tuple[list[Identity], bool]:
    """A key, with its certificate first where ``FILE-cert.pub`` exists, and whether the file was encrypted."""
    shown = f"identity file {clean(file)}"
    data = _read(file, shown)
    encrypted = is_encrypted(data)
    if encrypted and passphrase is None:
        raise Failed(f"{shown} needs a passphrase: give it as password=, or use a key without one")
    password = passphrase.reveal().encode() if encrypted and passphrase is not None else None
    try:
        key = _parse(data, password)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if encrypted:
            raise Failed(f"{shown} cannot be opened: password= is not its passphrase") from error
        raise Failed(f"{shown} is not a private key that can be used (Ed25519, ECDSA or RSA)") from error
    identity = Identity(file, _for_paramiko(key, shown))
    certificate = Path(f"{file}-cert.pub")
    if not certificate.is_file():
        return [identity], encrypted
    certified = Identity(str(certificate), _for_paramiko(key, shown))
    try:
        certified.key.load_certificate(str(certificate))
    except (paramiko.SSHException, ValueError, OSError) as error:
        raise Failed(f"{clean(str(certificate))} is not a certificate for {shown}") from error
    return [certified, identity], encrypted


def _read(file: str, shown: str) -> bytes:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not make it wait
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Failed(f"{shown} is not a file")
            data = os.read(descriptor, LARGEST)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise Failed(f"{shown} does not exist on this host") from error
    except (OSError, ValueError) as error:
        why = reason(error) if isinstance(error, OSError) else "that is no file name"
        raise Failed(f"{shown} cannot be read: {why}") from error
    if status.st_uid == os.geteuid() and status.st_mode & 0o077:
        mode = stat.S_IMODE(status.st_mode)
        raise Failed(f"{shown} is open to others (mode {mode:04o}), ssh refuses that: chmod 600 {clean(file)}")
    if data.startswith((b"ssh-", b"ecdsa-", b"sk-")):
        raise Failed(f"{shown} is a public key; the private key is needed (usually the name without .pub)")
    return data


def _parse(data: bytes, password: bytes | None) -> Any:
    if OPENSSH in data:
        return serialization.load_ssh_private_key(data, password)
    return serialization.load_pem_private_key(data, password)


def _for_paramiko(key: Any, shown: str) -> Any:
    """The same key as paramiko wants it; through OpenSSH's format, the only one all of its classes read."""
    for kind, reader in (
        (ed25519.Ed25519PrivateKey, paramiko.Ed25519Key),
        (ec.EllipticCurvePrivateKey, paramiko.ECDSAKey),
        (rsa.RSAPrivateKey, paramiko.RSAKey),
    ):
        if isinstance(key, kind):
            plain = key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.OpenSSH,
                serialization.NoEncryption(),
            )
            return reader.from_private_key(io.StringIO(plain.decode("ascii")))
    raise Failed(f"{shown} is not a private key that can be used (Ed25519, ECDSA or RSA)")
