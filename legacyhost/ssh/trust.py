"""Which host key is accepted: the pinned one, or one the known_hosts files have; never one just met."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from legacyhost.errors import Failed, InvalidRequest
from legacyhost.ssh import hostkeys
from legacyhost.ssh.attempt import Attempt
from legacyhost.ssh.connection import KINDS, Connection, NoSuchKind, exchange_keys
from legacyhost.ssh.target import HostKey, Target, known_hosts_name
from legacyhost.ssh.wording import clean, place


def connect_to_trusted(target: Target, known_hosts: Sequence[Path], attempt: Attempt) -> Connection:
    """A connection whose host key is the right one. Runs inside ``attempt``; raises Failed, InvalidRequest."""
    if target.host_key is not None:
        connection = _connect_to_pinned(target, _fingerprint(target.host_key), known_hosts, attempt)
        refusal = ""
    else:
        connection = _connect_to_known(target, known_hosts, attempt)
        refusal = _why_not_known(target, known_hosts, connection.key)
    if connection.key in hostkeys.revoked(known_hosts, target.host, target.port):
        refusal = f"host key of {_place(target)} is revoked ({connection.key}); no connection is made with it"
    if refusal:
        connection.close()
        raise Failed(refusal)
    connection.wire.trust()
    return connection


def _connect_to_pinned(target: Target, pin: str, known_hosts: Sequence[Path], attempt: Attempt) -> Connection:
    """Ask for one kind of key after the other until the pinned one is shown: a server has several."""
    known = hostkeys.look_up(known_hosts, target.host, target.port)
    kinds = _first([key.kind for key in known if key.fingerprint == pin])
    shown: list[HostKey] = []
    while kinds:
        try:
            connection = exchange_keys(target.host, target.port, attempt, kinds)
        except NoSuchKind:
            break
        if connection.key.fingerprint == pin:
            return connection
        connection.close()
        shown.append(connection.key)
        kinds = [kind for kind in kinds if kind != connection.key.kind]
    if not shown:
        raise Failed(_no_usable_kind(target))
    raise Failed(
        f"host key of {_place(target)} is not the one of host_key= ({pin}): the server has "
        f"{', '.join(map(str, shown))}; do not go on unless you know why"
    )


def _connect_to_known(target: Target, known_hosts: Sequence[Path], attempt: Attempt) -> Connection:
    """A connection with a key of a kind that is known, where the server has one."""
    known = hostkeys.look_up(known_hosts, target.host, target.port)
    try:
        return exchange_keys(target.host, target.port, attempt, _first([key.kind for key in known]))
    except NoSuchKind as error:
        raise Failed(_no_usable_kind(target)) from error


def _why_not_known(target: Target, known_hosts: Sequence[Path], offered: HostKey) -> str:
    """The sentence that refuses ``offered``; empty where the known_hosts files trust it."""
    found = [entry for entry in hostkeys.entries(known_hosts, target.host, target.port) if not entry.marker]
    if any(entry.key == offered for entry in found):
        return ""
    where = _place(target)
    usable = [entry for entry in found if entry.key.kind in KINDS]
    if not usable:
        return f"host key of {where} is not known ({offered}); if that is right: legacyhost trust {where}"
    known = next((entry for entry in usable if entry.key.kind == offered.kind), usable[0])
    name = shlex.quote(known_hosts_name(target.host, target.port))
    file = shlex.quote(str(known.file))
    return (
        f"host key of {where} has changed: known is {known.key}, offered is {offered}; somebody may be in "
        "between, do not go on unless the change was expected; "
        f"if it was: ssh-keygen -R {name} -f {file} && legacyhost trust {where}"
    )


def _no_usable_kind(target: Target) -> str:
    return f"{_place(target)} has no host key of a kind in use today (ED25519, ECDSA, or RSA with SHA-2)"


def _first(preferred: list[str]) -> list[str]:
    """All kinds, the preferred ones first: so a server shows the key that is known, as ssh has it."""
    return list(dict.fromkeys([kind for kind in preferred if kind in KINDS] + list(KINDS)))


def _fingerprint(pin: str) -> str:
    stripped = pin.strip().rstrip("=")
    if not re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}", stripped):
        raise InvalidRequest(
            f'host_key="{clean(pin, 60)}" is no fingerprint; it looks like SHA256:… (ssh-keygen -lf FILE prints it)'
        )
    return stripped


def _place(target: Target) -> str:
    return place(target.host, target.port)
