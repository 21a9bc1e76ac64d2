"""Private keys as text: read, brought into one form, made anew (with cryptography, as paramiko does).

The one form is OpenSSH's, without a passphrase: ssh, and every version of paramiko, reads it.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from legacyhost.errors import Failed
from legacyhost.ssh.keyfiles import OPENSSH, is_encrypted
from legacyhost.ssh.target import HostKey, Secret

#: How a file begins that is a public key, where a private one was meant.
PUBLIC = (b"ssh-", b"ecdsa-", b"sk-")
_READERS = (
    (ed25519.Ed25519PrivateKey, paramiko.Ed25519Key),
    (ec.EllipticCurvePrivateKey, paramiko.ECDSAKey),
    (rsa.RSAPrivateKey, paramiko.RSAKey),
)


@dataclass(frozen=True)
class PrivateKey:
    """A private key in the one form, and its public half."""

    text: Secret
    public: HostKey

    def line(self, comment: str) -> str:
        """The line for authorized_keys."""
        return f"{self.public.kind} {self.public.blob} {comment}"


def read(data: bytes, passphrase: Secret | None, shown: str) -> PrivateKey:
    """The key in a file's content; ``shown`` is what messages call it. Raises Failed."""
    if data.startswith(PUBLIC):
        raise Failed(f"{shown} is a public key; the private key is needed (usually the name without .pub)")
    encrypted = is_encrypted(data)
    if encrypted and passphrase is None:
        raise Failed(f"{shown} needs a passphrase")
    password = passphrase.reveal().encode() if encrypted and passphrase is not None else None
    load = serialization.load_ssh_private_key if OPENSSH in data else serialization.load_pem_private_key
    try:
        key = load(data, password)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if encrypted:
            raise Failed(f"the passphrase given does not open {shown}") from error
        raise Failed(f"{shown} is not a private key that can be used (Ed25519, ECDSA or RSA)") from error
    return of_text(_text(key, shown))


def generate() -> PrivateKey:
    """A new Ed25519 key."""
    return of_text(_text(ed25519.Ed25519PrivateKey.generate(), "the new key"))


def of_text(text: Secret) -> PrivateKey:
    """A key that is in the one form. Raises Failed where it is none."""
    public = for_paramiko(text)
    return PrivateKey(text, HostKey(public.get_name(), public.get_base64()))


def for_paramiko(text: Secret) -> Any:
    """The paramiko.PKey of a key in the one form. Raises Failed where it is none."""
    try:
        key: Any = serialization.load_ssh_private_key(text.reveal().encode(), None)
        for kind, reader in _READERS:
            if isinstance(key, kind):
                return reader.from_private_key(io.StringIO(text.reveal()))
    except (ValueError, TypeError, UnsupportedAlgorithm, paramiko.SSHException, AssertionError) as error:
        # The last one is paramiko's word for a public half that is not the private one's.
        raise Failed("a private key that was kept cannot be read") from error
    raise Failed("a private key that was kept is of a kind that cannot be used")


def certified(text: Secret, certificate: str, shown: str) -> Any:
    """The paramiko.PKey of a key with its certificate, a line as in a ``-cert.pub`` file. Raises Failed."""
    key = for_paramiko(text)
    try:
        key.load_certificate(certificate.strip())
        # The certificate names the key it is for; a server would only say no.
        if not _is_for(key, key.public_blob.key_blob):
            raise ValueError
    except (paramiko.SSHException, ValueError, OSError, IndexError, AttributeError) as error:
        raise Failed(f"{shown} is not a certificate for that key") from error
    return key


def _is_for(key: Any, blob: bytes) -> bool:
    """Whether a certificate has the key in it: its fields stand right behind the nonce (PROTOCOL.certkeys)."""
    plain: bytes = key.asbytes()
    kind_length = int.from_bytes(plain[:4], "big")
    fields = plain[4 + kind_length :]
    at = 4 + int.from_bytes(blob[:4], "big")
    at += 4 + int.from_bytes(blob[at : at + 4], "big")
    return blob[at : at + len(fields)] == fields


def _text(key: Any, shown: str) -> Secret:
    if not isinstance(key, tuple(kind for kind, _ in _READERS)):
        raise Failed(f"{shown} is not a private key that can be used (Ed25519, ECDSA or RSA)")
    plain: bytes = key.private_bytes(  # type: ignore[attr-defined]
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    return Secret(plain.decode("ascii"))
