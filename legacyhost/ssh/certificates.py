"""Host certificates of OpenSSH: read (PROTOCOL.certkeys), their signature checked, and why ssh would refuse one.

Neither paramiko nor the oldest supported cryptography can do that.
"""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa, utils

from legacyhost.ssh.blobs import Fields, is_public_key, public_parts, string
from legacyhost.ssh.patterns import is_match
from legacyhost.ssh.target import HostKey
from legacyhost.ssh.wording import clean

#: What a kind of key is called in a certificate: the kind and this.
SUFFIX = "-cert-v01@openssh.com"
_HOST = 2
_MOST_NAMES = 256
_HASHES: dict[str, hashes.HashAlgorithm] = {
    "rsa-sha2-256": hashes.SHA256(),
    "rsa-sha2-512": hashes.SHA512(),
    "ecdsa-sha2-nistp256": hashes.SHA256(),
    "ecdsa-sha2-nistp384": hashes.SHA384(),
    "ecdsa-sha2-nistp521": hashes.SHA512(),
    "sk-ecdsa-sha2-nistp256@openssh.com": hashes.SHA256(),
}
_CURVES: dict[bytes, ec.EllipticCurve] = {
    b"nistp256": ec.SECP256R1(),
    b"nistp384": ec.SECP384R1(),
    b"nistp521": ec.SECP521R1(),
}
#: Signed with SHA-1: neither checked here nor accepted by ssh (CASignatureAlgorithms).
_OUT_OF_DATE = ("ssh-rsa", "ssh-dss")
#: Since then (its release notes) a certificate without names is for no host, and its names may be patterns.
_NAMES_ARE_PATTERNS = (10, 3)


@dataclass(frozen=True)
class Certificate:
    """A public key, and what its authority says of it; the signature is right.

    ``algorithm`` is the signature's, ``valid_from`` and ``valid_until`` are seconds since 1970, the end excluded.
    """

    key: HostKey
    authority: HostKey
    algorithm: str
    is_for_hosts: bool
    names: tuple[str, ...]
    valid_from: int
    valid_until: int
    critical_options: tuple[str, ...]

    @classmethod
    def parse(cls, blob: bytes) -> Certificate:
        """Raises ValueError where this is no certificate, or its signature is not its authority's."""
        fields = Fields(blob)
        kind = fields.string().decode("ascii", "replace")
        plain = kind.removesuffix(SUFFIX)
        if plain == kind:
            raise ValueError("it is no certificate")
        fields.string()  # a nonce
        parts = public_parts(plain, fields)
        fields.number(8)  # a serial number
        certified = fields.number(4)
        fields.string()  # what the authority calls it
        names = Fields(fields.string()).strings()
        valid_from, valid_until = fields.number(8), fields.number(8)
        critical = Fields(fields.string()).strings()
        extensions = Fields(fields.string()).strings()
        fields.string()  # reserved
        authority = _key(fields.string())
        signed = blob[: fields.offset]
        signature = fields.string()
        if fields or certified not in (1, _HOST) or len(names) > _MOST_NAMES:
            raise ValueError("it is none of a host or a user")
        if len(critical) % 2 or len(extensions) % 2:
            raise ValueError("an option has no value")
        return cls(
            key=_key(b"".join(map(string, [plain.encode(), *parts]))),
            authority=authority,
            algorithm=_verified(authority, Fields(signature), signed),
            is_for_hosts=certified == _HOST,
            names=tuple(name.decode("utf-8", "replace") for name in names),
            valid_from=valid_from,
            valid_until=valid_until,
            critical_options=tuple(name.decode("utf-8", "replace") for name in critical[::2]),
        )

    def objection(self, host: str, now: float) -> str:
        """Why ssh does not take it for ``host``, whoever has signed it; empty where it does. ``now``: since 1970.

        What is said goes on from "the certificate of HOST": "has expired …".
        """
        if not self.is_for_hosts:
            return "is a user's, not a host's"
        if now < self.valid_from:
            return f"is not valid before {_moment(self.valid_from)} (is this machine's clock right?)"
        if now >= self.valid_until:
            return f"has expired on {_moment(self.valid_until)}"
        if not self._is_for(host.lower()):
            names = ", ".join(clean(name, 60) for name in self.names[:4]) + (", …" if self.names[4:] else "")
            return f"is for {names or 'no host'}, not for {clean(host)}"
        if self.critical_options:
            return f'has the critical option "{clean(self.critical_options[0], 60)}", which no host can have'
        if self.algorithm in _OUT_OF_DATE:
            return f"is signed with {self.algorithm}, which is out of date"
        return ""

    def _is_for(self, host: str) -> bool:
        if host in self.names:
            return True
        if self.names and not any(set("*?") & set(name) for name in self.names):
            return False
        version = _version_of_ssh()
        if version < _NAMES_ARE_PATTERNS:
            return not self.names and bool(version)
        return any(is_match(host.encode(), name.encode()) for name in self.names)


def _version_of_ssh() -> tuple[int, ...]:
    """Of the ssh that carries the data, which has to agree; ``()`` where that cannot be found out."""
    try:
        run = subprocess.run(["ssh", "-V"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    found = re.search(rb"OpenSSH_(\d+)\.(\d+)", run.stderr)
    return tuple(map(int, found.groups())) if found else ()


def _moment(seconds: int) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M} UTC"
    except (OverflowError, ValueError, OSError):  # a year of five digits
        return "the end of time"


def _key(blob: bytes) -> HostKey:
    kind = Fields(blob).string().decode("ascii", "replace")
    if not is_public_key(kind, blob):
        raise ValueError("a key in it is none")
    return HostKey(kind, base64.b64encode(blob).decode("ascii"))


def _verified(authority: HostKey, signature: Fields, data: bytes) -> str:
    """The algorithm of the authority's signature of ``data``. Raises ValueError where it is not right."""
    algorithm = signature.string().decode("ascii", "replace")
    if algorithm in _OUT_OF_DATE:
        return algorithm
    if algorithm != authority.kind and (authority.kind, algorithm[:9]) != ("ssh-rsa", "rsa-sha2-"):
        raise ValueError("its signature is of another kind than its authority")
    fields = Fields(base64.b64decode(authority.blob))
    fields.string()
    parts = public_parts(authority.kind, fields)
    proof = signature.string()
    if algorithm.startswith("sk-"):  # PROTOCOL.u2f: the token signs more than the data
        data = hashlib.sha256(parts.pop()).digest() + signature.take(5) + hashlib.sha256(data).digest()
    if signature:
        raise ValueError("its signature has an appendix")
    try:
        _check(algorithm, parts)(proof, data)
    except InvalidSignature as error:
        raise ValueError("its signature is wrong") from error
    return algorithm


def _check(algorithm: str, parts: list[bytes]) -> Callable[[bytes, bytes], None]:
    """What checks signatures (proof, data) with that algorithm by the key that has these parts."""
    if algorithm.endswith(("ssh-ed25519", "ssh-ed25519@openssh.com")):
        return ed25519.Ed25519PublicKey.from_public_bytes(parts[0]).verify
    chosen = _HASHES.get(algorithm)
    if chosen is None:
        raise ValueError("its signature is of a kind there is not")
    if algorithm.startswith("rsa-"):
        exponent, modulus = (int.from_bytes(part, "big") for part in parts)
        key = rsa.RSAPublicNumbers(exponent, modulus).public_key()
        return lambda proof, data: key.verify(proof, data, padding.PKCS1v15(), chosen)
    curve = ec.EllipticCurvePublicKey.from_encoded_point(_CURVES[parts[0]], parts[1])

    def check(proof: bytes, data: bytes) -> None:
        numbers = [int.from_bytes(number, "big") for number in Fields(proof).strings()]
        if len(numbers) != 2:
            raise InvalidSignature
        curve.verify(utils.encode_dss_signature(*numbers), data, ec.ECDSA(chosen))

    return check
