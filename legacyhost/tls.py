"""TLS as engines on other hosts have to speak it, and a sentence for every way in which they do not."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from legacyhost.config import ListenConfig
from legacyhost.errors import ConfigError, Failed

#: What a handshake ends with (OpenSSL's names), in words.
REASONS = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it has shown no certificate",
    "HTTP_REQUEST": "it speaks HTTP without TLS: its address for this plugin has to begin with https://",
    "UNSUPPORTED_PROTOCOL": "it speaks no version of TLS from 1.2 on",
    "VERSION_TOO_LOW": "it speaks no version of TLS from 1.2 on",
    "NO_SHARED_CIPHER": "it has no cipher in common with this host",
    "WRONG_VERSION_NUMBER": "it does not speak TLS",
}
GONE = "it has ended the connection before the handshake was done"
#: Of verification (X509_V_ERR_*, openssl/x509_vfy.h).
NOT_YET, EXPIRED, WRONG_PURPOSE = 9, 10, 26
UNKNOWN_ISSUER = frozenset({2, 7, 18, 19, 20, 21, 24})
#: Ends of an alert's name by which a client says that it does not like this host's certificate.
ABOUT_US = ("BAD_CERTIFICATE", "UNKNOWN_CA", "CERTIFICATE_EXPIRED", "CERTIFICATE_UNKNOWN", "UNSUPPORTED_CERTIFICATE")


def context(listen: ListenConfig) -> ssl.SSLContext:
    """Who has a certificate of the authority may come in. Raises ConfigError, which names the file."""
    for key in ("ca", "certificate", "key"):
        _check_readable(key, getattr(listen, key))
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.verify_mode = ssl.CERT_REQUIRED
    # Each connection shows its certificate: one that has expired, or is not wanted any more, is not let in by a ticket.
    made.num_tickets = 0
    made.options |= ssl.OP_NO_TICKET | ssl.OP_NO_COMPRESSION
    try:
        made.load_verify_locations(listen.ca)
        if not made.get_ca_certs():
            raise ConfigError(f"listen.ca: there is no certificate of an authority in {listen.ca}")
    except ssl.SSLError as error:
        raise ConfigError(f"listen.ca: {listen.ca} is not a certificate in PEM form") from error
    except OSError as error:
        raise ConfigError(f"listen.ca: {listen.ca} cannot be read: {error.strerror}") from error
    try:
        made.load_cert_chain(listen.certificate, listen.key, password=lambda: "")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(
                f"listen.key: {listen.key} does not belong to the certificate {listen.certificate}"
            ) from error
        raise ConfigError(
            f"listen.key: {listen.certificate} and {listen.key} are not a certificate and its key, in PEM form and"
            " without a passphrase"
        ) from error
    except OSError as error:
        raise ConfigError(f"listen.key: {listen.key} cannot be read: {error.strerror}") from error
    return made


def _check_readable(key: str, path: Path) -> None:
    try:
        with path.open("rb"):
            return
    except OSError as error:
        hint = "; 'legacyhost pki' makes one" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(f"listen.{key}: {path} cannot be read: {error.strerror}{hint}") from error


def refusal(error: OSError, listen: ListenConfig) -> str:
    """Why a handshake has not come to its end."""
    if isinstance(error, TimeoutError):
        return "it has not finished the handshake in time"
    if isinstance(error, ssl.SSLCertVerificationError):
        return _not_verified(error, listen)
    if not isinstance(error, ssl.SSLError) or isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return GONE
    reason = error.reason or ""
    if "ALERT" in reason and reason.endswith(ABOUT_US):
        return f"it does not accept the certificate of this host ({_alert(reason)}): {_what_may_be_wrong(listen)}"
    said = reason.replace("_", " ").lower() or "it does not speak TLS"
    return REASONS.get(reason, f"the handshake has failed: {said}")


def _alert(reason: str) -> str:
    return reason.partition("ALERT_")[2].replace("_", " ").lower()


def _what_may_be_wrong(listen: ListenConfig) -> str:
    """With this host's own certificate: a client says hardly anything."""
    from legacyhost import pki  # OpenSSL once more; whoever gets here is not in a hurry

    try:
        own = pki.shown(listen.certificate)
    except Failed as error:
        return error.message
    if own.end <= datetime.now(UTC):
        return f"{listen.certificate} has expired on {own.end:%Y-%m-%d}"
    return (
        f"either {listen.ca} is not its authority, or it calls this host by a name that is none of"
        f" {', '.join(own.hosts) or 'none'}"
    )


def _not_verified(error: ssl.SSLCertVerificationError, listen: ListenConfig) -> str:
    code = error.verify_code
    if code in UNKNOWN_ISSUER:
        return f"its certificate is not of the authority {listen.ca}"
    if code == WRONG_PURPOSE:
        return "its certificate is not one for clients (clientAuth)"
    said = {NOT_YET: "is not valid yet", EXPIRED: "has expired"}.get(code, f"is not valid: {error.verify_message}")
    return f"its certificate {said}"


def names(stream: ssl.SSLSocket) -> frozenset[str]:
    """What the certificate that the other side has shown calls it: its common names, DNS names and addresses."""
    shown: Mapping[str, Any] = stream.getpeercert() or {}
    subject = [part for group in shown.get("subject", ()) for part in group]
    common = [value for key, value in subject if key == "commonName"]
    return frozenset([*common, *(value for _, value in shown.get("subjectAltName", ()))])
