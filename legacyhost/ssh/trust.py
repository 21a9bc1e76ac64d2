"""Which host key is accepted: the pinned one, or one that ssh would accept by the same files; never one just met."""

from __future__ import annotations

import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path

from legacyhost.errors import Failed, InvalidRequest
from legacyhost.ssh.attempt import Attempt
from legacyhost.ssh.certificates import SUFFIX, Certificate
from legacyhost.ssh.connection import CERTIFIED, KINDS, Connection, Dial, NoSuchKind, exchange_keys
from legacyhost.ssh.hostkeys import Entry, Known
from legacyhost.ssh.target import HostKey, Target
from legacyhost.ssh.wording import clean, place


class Status(Enum):
    """What known_hosts files say of a host key."""

    TRUSTED = "trusted"
    UNKNOWN = "unknown"
    CHANGED = "changed"
    REVOKED = "revoked"


@dataclass(frozen=True)
class Standing:
    """What is known of a key that was shown.

    ``entry`` trusts, contradicts or revokes it; ``objection`` is why a certificate of a known authority does not count.
    """

    status: Status
    entry: Entry | None = None
    objection: str = ""


@dataclass(frozen=True)
class Meeting:
    """The host key that somebody is asked to trust; ``known`` says why that need not be asked, if it need not."""

    key: HostKey
    known: str = ""
    objection: str = ""


def connect_to_trusted(
    target: Target, known_hosts: Sequence[Path], attempt: Attempt, dial: Dial | None = None
) -> Connection:
    """A connection whose host key is the right one. Runs inside ``attempt``; raises Failed, InvalidRequest."""
    known = Known.read(known_hosts, target.host, target.port)
    if target.host_key is not None:
        connection = _connect_to_pinned(target, _fingerprint(target.host_key), attempt, dial)
        revoked = known.revocation(connection.key)
        standing = Standing(Status.REVOKED, revoked) if revoked else Standing(Status.TRUSTED)
    else:
        connection = _connect(target.host, target.port, order(known), attempt, dial)
        standing = judge(known, target.host, connection.key, connection.certificate)
    attempt.stage = "the check of its host key"
    attempt.note(str(connection.key))
    if standing.status is not Status.TRUSTED:
        connection.close()
        raise Failed(_refusal(standing, known, target.host, target.port, connection.key, target.jump))
    connection.wire.trust()
    return connection


def meet(
    host: str,
    port: int,
    known_hosts: Sequence[Path],
    attempt: Attempt,
    fingerprint: str | None = None,
    dial: Dial | None = None,
) -> Meeting:
    """The key a server shows, the one with that fingerprint if one is given, if it may be trusted. No login.

    Runs inside ``attempt``. Raises Failed for a key that is revoked, or not the one known.
    """
    known = Known.read(known_hosts, host, port)
    if fingerprint is None:
        connection = _connect(host, port, order(known), attempt, dial)
    else:
        found = _with_fingerprint(host, port, fingerprint, attempt, dial)
        if isinstance(found, list):
            plural = "s" if found[1:] else ""
            verb = "are" if found[1:] else "is"
            raise Failed(
                f"the host key{plural} of {place(host, port)} {verb} {', '.join(map(str, found))}, not"
                f" {clean(fingerprint)}; nothing is stored"
            )
        connection = found
    connection.close()
    key = connection.key
    standing = judge(known, host, key, connection.certificate)
    if standing.status is Status.TRUSTED and standing.entry is not None:
        trusted = standing.entry
        by = "its certificate is signed by " if trusted.marker else ""
        return Meeting(key, known=f"{by}{trusted.key} in {trusted.file}")
    is_of_a_new_kind = all(entry.key.kind != key.kind for entry in known.keys)
    if standing.status is Status.UNKNOWN or (
        standing.status is Status.CHANGED and fingerprint is not None and is_of_a_new_kind
    ):
        return Meeting(key, objection=standing.objection)
    raise Failed(_refusal(standing, known, host, port, key))


def order(known: Known) -> list[str]:
    """The kinds of host key to ask for, as ssh orders them: what is known first, certificates before keys."""
    everything = [*CERTIFIED, *KINDS]
    if known.has_kind(KINDS[0]):
        return everything
    first = [
        kind
        for kind in everything
        if known.has_kind(kind.removesuffix(SUFFIX)) or (kind in CERTIFIED and known.authorities)
    ]
    return list(dict.fromkeys(first + everything))


def judge(known: Known, host: str, key: HostKey, certificate: Certificate | None = None) -> Standing:
    """What ssh would make of this key, and of its certificate (check_host_key in OpenSSH's sshconnect.c).

    A certificate that does not count leaves the key in it, as if there were none.
    """
    objection = ""
    if certificate is not None:
        revoked = known.revocation(key, certificate.authority)
        if revoked is not None:
            return Standing(Status.REVOKED, revoked)
        authority = next((entry for entry in known.authorities if entry.key == certificate.authority), None)
        if authority is not None:
            objection = certificate.objection(host, time.time())
            if not objection:
                return Standing(Status.TRUSTED, authority)
        elif known.without_port is not None:
            alone = judge(known.without_port, host, key, certificate)
            if alone.status is Status.TRUSTED:
                return alone
            objection = alone.objection
    revoked = known.revocation(key)
    if revoked is not None:
        return Standing(Status.REVOKED, revoked)
    same = next((entry for entry in known.keys if entry.key == key), None)
    if same is not None:
        return Standing(Status.TRUSTED, same)
    if known.keys:
        of_its_kind = [entry for entry in known.keys if entry.key.kind == key.kind]
        return Standing(Status.CHANGED, (of_its_kind or known.keys)[0], objection)
    if known.without_port is not None:
        alone = judge(known.without_port, host, key)
        if alone.status is not Status.CHANGED:
            return replace(alone, objection=alone.objection or objection)
    return Standing(Status.UNKNOWN, objection=objection)


def _connect(host: str, port: int, kinds: Sequence[str], attempt: Attempt, dial: Dial | None = None) -> Connection:
    try:
        return exchange_keys(host, port, attempt, kinds, dial)
    except NoSuchKind as error:
        raise Failed(_no_usable_kind(host, port)) from error


def _connect_to_pinned(target: Target, pin: str, attempt: Attempt, dial: Dial | None) -> Connection:
    found = _with_fingerprint(target.host, target.port, pin, attempt, dial)
    if isinstance(found, list):
        raise Failed(
            f"host key of {place(target.host, target.port)} is not the one of host_key= ({pin}): the server has "
            f"{', '.join(map(str, found))}; do not go on unless you know why (then make the volume anew, with"
            " the new host_key=)"
        )
    return found


def _with_fingerprint(
    host: str, port: int, fingerprint: str, attempt: Attempt, dial: Dial | None = None
) -> Connection | list[HostKey]:
    """A connection with the key that has this fingerprint, or the server's keys if none has. Raises Failed.

    Asks for one kind of key after the other: a server has several.
    """
    kinds = list(KINDS)
    shown: list[HostKey] = []
    while kinds:
        try:
            connection = exchange_keys(host, port, attempt, kinds, dial)
        except NoSuchKind:
            break
        if connection.key.fingerprint == fingerprint:
            return connection
        connection.close()
        shown.append(connection.key)
        kinds = [kind for kind in kinds if kind != connection.key.kind]
    if not shown:
        raise Failed(_no_usable_kind(host, port))
    return shown


def _refusal(standing: Standing, known: Known, host: str, port: int, shown: HostKey, jump: Target | None = None) -> str:
    where = place(host, port)
    command = f"legacyhost trust {where}{_by_way_of(jump)}"
    if standing.status is Status.REVOKED and standing.entry is not None:
        entry = standing.entry
        what = "host key" if entry.key == shown else "the authority of the certificate"
        return (
            f"{what} of {where} is revoked ({entry.key}) in {entry.file}; no connection is made with it, the host needs"
            " a new one"
        )
    certificate = f"the certificate of {where} {standing.objection}, and its " if standing.objection else ""
    subject = f"{certificate}host key" if certificate else f"host key of {where}"
    if standing.status is Status.CHANGED and standing.entry is not None:
        files = dict.fromkeys(shlex.quote(str(entry.file)) for entry in known.keys)
        removals = [f"ssh-keygen -R {shlex.quote(known.name)} -f {file}" for file in files]
        return (
            f"{subject} has changed: known is {standing.entry.key}, offered is {shown}; somebody may be in "
            "between, do not go on unless the change was expected; "
            f"if it was: {' && '.join([*removals, command])}"
        )
    return f"{subject} is not known ({shown}); if that is right: {command}"


def _by_way_of(jump: Target | None) -> str:
    """What the command needs to get there."""
    if jump is None:
        return ""
    credential = f" --credential {jump.credential}" if jump.credential else ""
    if jump.password is not None and not jump.credential:
        credential = " --credential NAME, with its password kept by legacyhost credential add NAME"
    if jump.identity_files:
        credential = f" --key {shlex.quote(jump.identity_files[0])}"
    return f" --jump {shlex.quote(f'{jump.user}@{place(jump.host, jump.port)}')}{credential}"


def _no_usable_kind(host: str, port: int) -> str:
    return f"{place(host, port)} has no host key of a kind in use today (ED25519, ECDSA, or RSA with SHA-2)"


def _fingerprint(pin: str) -> str:
    stripped = pin.strip().rstrip("=")
    if not re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}", stripped):
        raise InvalidRequest(
            f'host_key="{clean(pin, 60)}" is no fingerprint; it looks like SHA256:… (ssh-keygen -lf FILE prints it)'
        )
    return stripped
