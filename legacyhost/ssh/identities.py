"""What there is to log in with: keys from files, kept ones, those of an agent; and why one cannot be used."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramiko

from legacyhost.errors import Failed
from legacyhost.ssh import keys
from legacyhost.ssh.attempt import Attempt
from legacyhost.ssh.keyfiles import LARGEST, is_encrypted
from legacyhost.ssh.target import HostKey, Secret, Target
from legacyhost.ssh.wording import clean, reason

#: Below it are the mounts: what is read there may hang.
_VOLUMES = "/run/legacyhost/"


@dataclass(frozen=True)
class Identity:
    """A private key ready for use and where it is from; ``key`` is a paramiko.PKey."""

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


class _Line(socket.socket):
    """Whose end wakes whoever waits for the agent's answer."""

    def close(self) -> None:
        with suppress(OSError):
            self.shutdown(socket.SHUT_RDWR)
        super().close()


def credentials_of(target: Target, defaults: Sequence[str], attempt: Attempt) -> Credentials:
    """The credentials of a target. Raises Failed where something that was named cannot be used.

    ``defaults``: the key files to try where the target names nothing to log in with.
    """
    found = Credentials(password=target.password)
    if not target.names_a_login:
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
    if target.key is not None:
        name = f"of credential {target.credential}"
        if target.certificate:
            certified = keys.certified(target.key, target.certificate, f"the certificate {name}")
            found.identities.append(Identity(f"and certificate {name}", certified))
        found.identities.append(Identity(name, keys.for_paramiko(target.key)))
    if target.agent:
        found.identities += _of_agent(target.agent, attempt)
    return found


def _of_agent(path: str, attempt: Attempt) -> list[Identity]:
    """The keys an agent has at the moment; it signs with them later, over the same connection."""
    attempt.stage = "the agent"
    try:
        connection = attempt.hold(_Line(socket.AF_UNIX, socket.SOCK_STREAM))
        connection.connect(path)
        agent = paramiko.agent.AgentSSH()  # not Agent, which takes its socket from the environment
        agent._connect(connection)
        found = agent.get_keys()
    except (OSError, paramiko.SSHException) as error:
        why = reason(error) if isinstance(error, OSError) else "it gives no answer an agent would give"
        raise Failed(f"the agent behind {clean(path)} cannot be used: {why}") from error
    if not found:
        raise Failed(f"the agent behind {clean(path)} has no keys: ssh-add FILE adds one")
    for key in found:
        key.sign_ssh_data = _unless_refused(key.sign_ssh_data)
    return [Identity(f"{_public(key)} of the agent {clean(path)}", key) for key in found]


def _unless_refused(sign: Callable[..., Any]) -> Callable[..., Any]:
    """An agent may refuse to use a key here; that ends the try with it, as with ssh, and not the connection."""

    def signed(*arguments: Any, **more: Any) -> Any:
        try:
            return sign(*arguments, **more)
        except paramiko.SSHException:
            return b""  # no server takes it

    return signed


def _public(key: Any) -> str:
    return HostKey(key.get_name(), key.get_base64()).fingerprint


def _load(file: str, passphrase: Secret | None) -> tuple[list[Identity], bool]:
    """A key, with its certificate first where ``FILE-cert.pub`` exists, and whether the file was encrypted."""
    shown = f"identity file {clean(file)}"
    data = _read(file, shown)
    encrypted = is_encrypted(data)
    if encrypted and passphrase is None:
        raise Failed(f"{shown} needs a passphrase: give it as password=, or use a key without one")
    try:
        text = keys.read(data, passphrase, shown).text
    except Failed as error:
        if encrypted and isinstance(error.__cause__, ValueError | TypeError):
            raise Failed(f"{shown} cannot be opened: password= is not its passphrase") from error
        raise
    identity = Identity(file, keys.for_paramiko(text))
    certificate = Path(f"{file}-cert.pub")
    if not certificate.is_file():
        return [identity], encrypted
    try:
        line = certificate.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise Failed(f"{clean(str(certificate))} cannot be read: {reason(error)}") from error
    try:
        certified = keys.certified(text, line, clean(str(certificate)))
    except Failed as error:
        raise Failed(f"{clean(str(certificate))} is not a certificate for {shown}") from error
    return [Identity(str(certificate), certified), identity], encrypted


def _read(file: str, shown: str) -> bytes:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)  # a FIFO must not make it wait
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Failed(f"{shown} is not a file")
            if str(Path(f"/proc/self/fd/{descriptor}").readlink()).startswith(_VOLUMES):
                raise Failed(f"{shown} is on a volume; a key that opens one has to be somewhere else")
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
    return data
