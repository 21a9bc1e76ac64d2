"""What a private key's file looks like from outside: no key is loaded here, and paramiko is not needed."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path

#: Bytes of a key file that are looked at.
LARGEST = 64 * 1024
OPENSSH = b"BEGIN OPENSSH PRIVATE KEY"
_MAGIC = b"openssh-key-v1\0"


def is_encrypted(data: bytes) -> bool:
    """In OpenSSH's form the name of the cipher comes right after the magic (PROTOCOL.key), else PEM says it."""
    if OPENSSH not in data:
        return b"ENCRYPTED" in data
    body = b"".join(data.partition(OPENSSH)[2].split(b"-----")[1:2]).translate(None, b"\r\n\t ")
    try:
        content = base64.b64decode(body)
    except binascii.Error:
        return False
    return content.startswith(_MAGIC) and not content.startswith(_MAGIC + b"\0\0\0\x04none")


def is_encrypted_file(path: str) -> bool:
    """The same of a file; False where it cannot be read, which whoever uses the key finds out and says."""
    try:
        with Path(path).open("rb") as file:
            return is_encrypted(file.read(LARGEST))
    except OSError:
        return False
