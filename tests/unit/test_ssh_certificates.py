"""Host certificates: read as ssh-keygen reads them, and no byte of one can be changed."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sshd import fingerprint, keygen

from legacyhost.ssh.blobs import string
from legacyhost.ssh.certificates import Certificate

KINDS = {"ed25519": ("ed25519",), "rsa": ("rsa",)} | {
    f"ecdsa{bits}": ("ecdsa", "-b", bits) for bits in ("256", "384", "521")
}
NOW = 1_700_000_000
#: Of PROTOCOL.u2f: what the token adds to a signature, presence and a counter.
PRESENT = b"\1\0\0\0\5"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    directory = tmp_path_factory.mktemp("keys")
    return {name: keygen(directory / name, kind, "", *more) for name, (kind, *more) in KINDS.items()}


def certify(authority: Path, key: Path, *options: str) -> bytes:
    """The certificate that ssh-keygen makes of the key."""
    subprocess.run(["ssh-keygen", "-q", "-s", str(authority), "-I", "an id", *options, f"{key}.pub"], check=True)
    return base64.b64decode(Path(f"{key}-cert.pub").read_text().split()[1])


def test_what_is_in_it(keys: dict[str, Path]) -> None:
    """Every field that counts, of a certificate that has them all."""
    options = ["-h", "-n", "nas,nas.example.org", "-V", "20200101000000Z:20300101000000Z", "-z", "7"]
    options += ["-O", "critical:x@y=1", "-O", "extension:z@y=2"]
    found = Certificate.parse(certify(keys["rsa"], keys["ed25519"], *options))
    assert found.key.fingerprint == fingerprint(keys["ed25519"])
    assert found.authority.fingerprint == fingerprint(keys["rsa"])
    assert found.algorithm == "rsa-sha2-512"
    assert found.is_for_hosts
    assert found.names == ("nas", "nas.example.org")
    assert (found.valid_from, found.valid_until) == (1577836800, 1893456000)
    assert found.critical_options == ("x@y",)


@pytest.mark.parametrize("authority", KINDS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_certified_by_every_kind(keys: dict[str, Path], kind: str, authority: str) -> None:
    """Of keys and of authorities."""
    found = Certificate.parse(certify(keys[authority], keys[kind], "-h", "-n", "nas"))
    assert (found.key.fingerprint, found.authority.fingerprint) == (
        fingerprint(keys[kind]),
        fingerprint(keys[authority]),
    )
    assert found.objection("nas", NOW) == ""


@pytest.mark.parametrize("kind", ["ed25519", "rsa", "ecdsa256"])
def test_no_byte_of_it_can_be_changed(keys: dict[str, Path], kind: str) -> None:
    """Neither in what is signed nor in the signature; nothing is missing at the end, nothing is added."""
    blob = certify(keys[kind], keys["ed25519" if kind == "rsa" else "rsa"], "-h", "-n", "nas")
    Certificate.parse(blob)
    for place in range(len(blob)):
        with pytest.raises(ValueError, match=r"^.+$"):
            Certificate.parse(blob[:place] + bytes([blob[place] ^ 0x20]) + blob[place + 1 :])
        with pytest.raises(ValueError, match=r"^.+$"):
            Certificate.parse(blob[:place])
    with pytest.raises(ValueError, match="none of"):
        Certificate.parse(blob + b"\0")


@pytest.mark.parametrize("length", [0, 4, 40])
def test_what_is_none(length: int) -> None:
    """A plain key, and nothing in particular."""
    with pytest.raises(ValueError, match=r"^.+$"):
        Certificate.parse(b"\0" * length)
    with pytest.raises(ValueError, match="no certificate"):
        Certificate.parse(string(b"ssh-ed25519") + string(b"\0" * 32))


@pytest.mark.parametrize(
    ("moment", "said"),
    [
        (NOW, ""),
        (1577836800, ""),
        (1577836799, "is not valid before 2020-01-01 00:00 UTC (is this machine's clock right?)"),
        (1893455999, ""),
        (1893456000, "has expired on 2030-01-01 00:00 UTC"),
    ],
)
def test_the_end_is_excluded(keys: dict[str, Path], moment: int, said: str) -> None:
    """The beginning is not."""
    options = ["-h", "-n", "nas", "-V", "20200101000000Z:20300101000000Z"]
    assert Certificate.parse(certify(keys["rsa"], keys["ed25519"], *options)).objection("NAS", moment) == said


def test_what_is_said_is_printable_and_short(keys: dict[str, Path]) -> None:
    """Names are the authority's: control characters and a hundred of them do no harm."""
    names = ",".join(["\x1b[31mred", *(f"host{number}" for number in range(100))])
    said = Certificate.parse(certify(keys["rsa"], keys["ed25519"], "-h", "-n", names)).objection("nas", NOW)
    assert said == "is for [31mred, host0, host1, host2, …, not for nas"


@pytest.mark.parametrize(
    ("version", "accepted"),
    [
        ("OpenSSH_9.2p1 Debian-2", {"", "nas.example.org"}),
        ("OpenSSH_10.0p2", {"", "nas.example.org"}),
        ("OpenSSH_10.3p1", {"*.org", "n?s*", "nas.example.org"}),
        ("OpenSSH_11.0", {"*.org", "n?s*", "nas.example.org"}),
        ("something else", {"nas.example.org"}),
    ],
)
def test_names_are_what_they_are_for_the_ssh_that_is_installed(
    keys: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, accepted: set[str]
) -> None:
    """Patterns since 10.3; no name is every host's before, and nobody's since then."""
    host = "nas.example.org"
    ssh = tmp_path / "ssh"
    ssh.write_text(f"#!/bin/sh\necho '{version}' >&2\n")
    ssh.chmod(0o755)
    found = {
        names: Certificate.parse(certify(keys["rsa"], keys["ed25519"], "-h", *(["-n", names] if names else [])))
        for names in ("", "*.org", "n?s*", host, "nas", "*.org.*")
    }
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert {names for names, certificate in found.items() if not certificate.objection(host, NOW)} == accepted


@pytest.mark.parametrize("kind", ["sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"])
def test_an_authority_on_a_token(keys: dict[str, Path], tmp_path: Path, kind: str) -> None:
    """ssh-keygen, which checks the signature, reads it too; a signature by a token for something else is none."""
    sign, public = token_of(kind)
    for application, is_right in ((b"ssh:", True), (b"other:", False)):
        blob = signed_by_token(keys["ed25519"], public, partial(sign, application))
        file = tmp_path / "cert.pub"
        file.write_text(f"ssh-ed25519-cert-v01@openssh.com {base64.b64encode(blob).decode()}\n")
        run = subprocess.run(["ssh-keygen", "-Lf", str(file)], capture_output=True, text=True)
        assert (run.returncode == 0) == is_right, run
        if is_right:
            found = Certificate.parse(blob)
            assert (found.authority.kind, found.algorithm, found.names) == (kind, kind, ("nas",))
            assert found.objection("nas", NOW) == ""
        else:
            with pytest.raises(ValueError, match="signature is wrong"):
                Certificate.parse(blob)


def token_of(kind: str) -> tuple[Callable[[bytes, bytes], bytes], bytes]:
    """What signs (application, data) as a security key does, and its public half; PROTOCOL.u2f."""
    if "ed25519" in kind:
        edwards = ed25519.Ed25519PrivateKey.generate()
        raw = edwards.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        public = string(kind.encode()) + string(raw) + string(b"ssh:")

        def prove(data: bytes) -> bytes:
            return edwards.sign(data)

    else:
        curve = ec.generate_private_key(ec.SECP256R1())
        point = curve.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        public = string(kind.encode()) + string(b"nistp256") + string(point) + string(b"ssh:")

        def prove(data: bytes) -> bytes:
            numbers = utils.decode_dss_signature(curve.sign(data, ec.ECDSA(hashes.SHA256())))
            return b"".join(string(number.to_bytes(number.bit_length() // 8 + 1, "big")) for number in numbers)

    def sign(application: bytes, data: bytes) -> bytes:
        proof = prove(hashlib.sha256(application).digest() + PRESENT + hashlib.sha256(data).digest())
        return string(kind.encode()) + string(proof) + PRESENT

    return sign, public


def signed_by_token(key: Path, authority: bytes, sign: Callable[[bytes], bytes]) -> bytes:
    """A host certificate for the name nas; PROTOCOL.certkeys."""
    plain = base64.b64decode(Path(f"{key}.pub").read_text().split()[1])
    data = string(b"ssh-ed25519-cert-v01@openssh.com") + string(b"nonce") + plain[-36:]
    data += bytes(8) + b"\0\0\0\2" + string(b"an id") + string(string(b"nas")) + bytes(8) + b"\xff" * 8
    data += 3 * string(b"") + string(authority)
    return data + string(sign(data))
