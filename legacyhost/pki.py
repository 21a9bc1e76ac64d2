"""An authority for one plugin and the certificates it signs, as files; what stands in a certificate.

P-256, not Ed25519: the oldest engines that look for plugins (Docker 1.8, Go 1.4) know it, and everything since.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from legacyhost import config, disk
from legacyhost.errors import Failed, Refused

#: Of the authority and of what it signs; a certificate ends with its authority at the latest.
AUTHORITY, CERTIFICATE = timedelta(days=3650), timedelta(days=825)
#: By which the clocks of two hosts may differ.
SKEW = timedelta(hours=1)
#: Characters of a common name (RFC 5280, ub-common-name).
LONGEST = 64
CA, CA_KEY, SERVER, SERVER_KEY = config.CA, "ca-key.pem", config.SERVER, config.SERVER_KEY
CLIENTS, CERT, KEY = "clients", "cert.pem", "key.pem"

_CLIENT_AUTH, _SERVER_AUTH = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH


@dataclass(frozen=True)
class Shown:
    """What stands in a certificate: its common name, the hosts it is for, from when until when it is valid."""

    common: str
    hosts: tuple[str, ...]
    begin: datetime
    end: datetime


def shown(path: Path) -> Shown:
    """Raises Failed."""
    return _shown(_certificate(path))


def make(directory: Path, name: str, hosts: Sequence[str], clients: Sequence[str]) -> None:
    """An authority, the certificate of the plugin on these hosts, and one for each client. All or nothing.

    Raises Failed, also where there is something already.
    """
    draft = _draft(directory)
    try:
        key = _new_key()
        authority = _authority(f"legacyhost {name}", key)
        disk.write(draft / CA_KEY, _private(key))
        disk.write(draft / CA, _public(authority))
        server = _new_key()
        disk.write(draft / SERVER_KEY, _private(server))
        disk.write(draft / SERVER, _public(_signed(name, server.public_key(), authority, key, hosts)))
        (draft / CLIENTS).mkdir(mode=0o700)
        for client in clients:
            _add(draft, client, authority, key)
        disk.sync(draft / CLIENTS)
        disk.sync(draft)
        _put(draft, directory)
    except OSError as error:
        raise _failed(directory, error) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def add(directory: Path, client: str) -> None:
    """The certificate of a further client. Raises Failed."""
    try:
        _add(directory, client, *_ours(directory))
    except OSError as error:
        raise _failed(directory, error) from error


def renew(directory: Path, hosts: Sequence[str], clients: Sequence[str]) -> None:
    """New certificates for the keys that are there: the plugin's, and these clients'. Raises Failed.

    Each takes the place of the old one at once, and fits the same key, so that nothing is ever half new.
    """
    authority, key = _ours(directory)
    if _shown(authority).end <= datetime.now(UTC):
        raise Failed(f"the authority {directory / CA} has expired; move {directory} away and make a new one")
    try:
        old = _certificate(directory / SERVER)
        found = _shown(old)
        disk.write(
            directory / SERVER, _public(_signed(found.common, old.public_key(), authority, key, hosts or found.hosts))
        )
        for client in clients:
            path = directory / CLIENTS / client / CERT
            disk.write(path, _public(_signed(client, _certificate(path).public_key(), authority, key)))
    except OSError as error:
        raise _failed(directory, error) from error


def clients(directory: Path) -> list[str]:
    """Those that have a certificate, sorted."""
    return sorted(path.parent.name for path in (directory / CLIENTS).glob(f"[!.]*/{CERT}"))


def _draft(place: Path) -> Path:
    """A directory in which something can be got ready that is to be ``place``."""
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with disk.lock(place.parent):
            for left in place.parent.glob(f".{place.name}.*.new"):
                shutil.rmtree(left)  # by somebody who was interrupted
            draft = place.with_name(f".{place.name}.{secrets.token_hex(8)}.new")
            draft.mkdir(mode=0o700)
    except OSError as error:
        raise _failed(place, error) from error
    return draft


def _put(draft: Path, place: Path) -> None:
    """All of it has its name at once. Raises Failed where that is taken."""
    with disk.lock(place.parent):
        if os.path.lexists(place):
            raise Refused(f"there is a {place} already")
        draft.rename(place)
    disk.sync(place.parent)


def _add(directory: Path, client: str, authority: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    place = directory / CLIENTS / client
    draft = _draft(place)
    try:
        own = _new_key()
        disk.write(draft / KEY, _private(own))
        disk.write(draft / CERT, _public(_signed(client, own.public_key(), authority, key)))
        disk.sync(draft)
        _put(draft, place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _authority(name: str, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:LONGEST])])
    now = datetime.now(UTC)
    begun = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    begun = begun.serial_number(x509.random_serial_number()).not_valid_before(now - SKEW)
    begun = begun.not_valid_after(now + AUTHORITY)
    begun = begun.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    begun = begun.add_extension(_usage(authority=True), critical=True)
    begun = begun.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    return begun.sign(key, hashes.SHA256())


def _signed(
    name: str,
    public: object,
    authority: x509.Certificate,
    key: ec.EllipticCurvePrivateKey,
    hosts: Sequence[str] = (),
) -> x509.Certificate:
    """A server's certificate if there are hosts, otherwise a client's."""
    if not isinstance(public, ec.EllipticCurvePublicKey):
        raise Failed(f"the certificate of {name} is not one that legacyhost has made")
    now = datetime.now(UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:LONGEST])])
    end = min(now + CERTIFICATE, _shown(authority).end)
    begun = x509.CertificateBuilder().subject_name(subject).issuer_name(authority.subject).public_key(public)
    begun = begun.serial_number(x509.random_serial_number()).not_valid_before(now - SKEW).not_valid_after(end)
    begun = begun.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    begun = begun.add_extension(_usage(authority=False), critical=True)
    begun = begun.add_extension(x509.ExtendedKeyUsage([_SERVER_AUTH if hosts else _CLIENT_AUTH]), critical=False)
    begun = begun.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
    begun = begun.add_extension(issuer, critical=False)
    if hosts:
        begun = begun.add_extension(x509.SubjectAlternativeName([_general(host) for host in hosts]), critical=False)
    return begun.sign(key, hashes.SHA256())


def _general(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _ours(directory: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """The authority and its key. Raises Failed."""
    path = directory / CA_KEY
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise _unreadable(path, error) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Failed(f"{path} is not a key that legacyhost has made")
    authority = _certificate(directory / CA)
    form = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if authority.public_key().public_bytes(*form) != key.public_key().public_bytes(*form):
        raise Failed(f"{path} is not the key of {directory / CA}")
    return authority, key


def _certificate(path: Path) -> x509.Certificate:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _shown(certificate: x509.Certificate) -> Shown:
    try:
        begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except AttributeError:  # cryptography before 42
        begin, end = (each.replace(tzinfo=UTC) for each in (certificate.not_valid_before, certificate.not_valid_after))
    common = [str(each.value) for each in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    hosts: list[str] = []
    with suppress(x509.ExtensionNotFound, ValueError):
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        hosts = [str(each.value) for each in found if isinstance(each, x509.DNSName | x509.IPAddress)]
    return Shown(common[0] if common else "", tuple(hosts), begin, end)


def _private(key: ec.EllipticCurvePrivateKey) -> bytes:
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(pem, form, serialization.NoEncryption())


def _public(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _unreadable(path: Path, error: Exception) -> Failed:
    said = error.strerror if isinstance(error, OSError) else "it is not in PEM form, or damaged"
    return Failed(f"{path} cannot be read: {said}")


def _failed(place: Path, error: OSError) -> Failed:
    return Failed(f"{place} cannot be written: {disk.reason(error)}")
