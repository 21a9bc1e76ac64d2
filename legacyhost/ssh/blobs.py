"""SSH's binary form of keys, field by field (RFC 4251, 5; RFC 8709; RFC 5656; PROTOCOL.u2f)."""

from __future__ import annotations

#: Length of an uncompressed point, by the name of its curve.
_POINTS = {b"nistp256": 65, b"nistp384": 97, b"nistp521": 133}
_LEAST_RSA_BITS = 1024


class Fields:
    """What is left of a blob to be read. Every method raises ValueError where the blob ends first."""

    def __init__(self, blob: bytes) -> None:
        self._blob = blob
        self.offset = 0

    def __bool__(self) -> bool:
        return self.offset < len(self._blob)

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        end = self.offset + count
        if end > len(self._blob):
            raise ValueError("it ends too early")
        taken = self._blob[self.offset : end]
        self.offset = end
        return taken

    def number(self, size: int) -> int:
        """An unsigned number of ``size`` bytes."""
        return int.from_bytes(self.take(size), "big")

    def string(self) -> bytes:
        """Length and content; mpints are read this way, too."""
        return self.take(self.number(4))

    def strings(self) -> list[bytes]:
        """All that is left, as strings."""
        found = []
        while self:
            found.append(self.string())
        return found


def string(content: bytes) -> bytes:
    """``content`` with its length in front."""
    return len(content).to_bytes(4, "big") + content


def public_parts(kind: str, fields: Fields) -> list[bytes]:
    """The numbers of a public key of that kind. Raises ValueError where it is none, or of a kind there is not."""
    if kind == "ssh-ed25519":
        return [_of_length(fields.string(), 32)]
    if kind == "ssh-rsa":
        exponent, modulus = fields.string(), fields.string()
        if int.from_bytes(modulus, "big").bit_length() < _LEAST_RSA_BITS:
            raise ValueError("it is too short")
        return [exponent, modulus]
    if kind.startswith("ecdsa-sha2-"):
        return _curve_and_point(fields, kind.removeprefix("ecdsa-sha2-").encode())
    if kind == "ssh-dss":
        return [fields.string() for _ in range(4)]
    if kind == "sk-ssh-ed25519@openssh.com":
        return [_of_length(fields.string(), 32), fields.string()]
    if kind == "sk-ecdsa-sha2-nistp256@openssh.com":
        return [*_curve_and_point(fields, b"nistp256"), fields.string()]
    raise ValueError("there is no such kind")


def is_public_key(kind: str, blob: bytes) -> bool:
    """Whether ``blob`` is a public key of that kind, and nothing else."""
    fields = Fields(blob)
    try:
        if fields.string() != kind.encode():
            return False
        public_parts(kind, fields)
    except ValueError:
        return False
    return not fields


def _curve_and_point(fields: Fields, curve: bytes) -> list[bytes]:
    if fields.string() != curve or curve not in _POINTS:
        raise ValueError("it is of another curve")
    point = _of_length(fields.string(), _POINTS[curve])
    if not point.startswith(b"\4"):
        raise ValueError("its point is not one")
    return [curve, point]


def _of_length(content: bytes, length: int) -> bytes:
    if len(content) != length:
        raise ValueError("it has the wrong length")
    return content
