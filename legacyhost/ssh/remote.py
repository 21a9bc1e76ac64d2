"""An authenticated session on a remote account, and all that may be asked of it; loads paramiko: import it lazily."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import paramiko

from legacyhost.deadline import Deadline
from legacyhost.errors import Failed, PluginError
from legacyhost.ssh import identities, login, trust
from legacyhost.ssh import purge as purging
from legacyhost.ssh.attempt import Attempt, Late
from legacyhost.ssh.connection import Connection, Dial, by_way_of
from legacyhost.ssh.directories import Directories, Space, octets
from legacyhost.ssh.files import read
from legacyhost.ssh.sftp import Nonsense, NoSftp, Sftp
from legacyhost.ssh.target import HostKey, Target, default_identity_files
from legacyhost.ssh.wording import clean, place

__all__ = ["HostKey", "Remote", "Space", "meet"]

T = TypeVar("T")


class Remote:
    """An SFTP session, to be closed; every call ends by the deadline the session was opened with.

    ``host_key`` is the key that was accepted. Every method raises Failed (InvalidRequest where the value itself
    can never do) with one sentence for the person who typed ``docker``. Not for use by two threads at once.
    """

    def __init__(self, target: Target, attempt: Attempt, connection: Connection, sftp: Sftp) -> None:
        self.host_key = connection.key
        self._target = target
        self._attempt = attempt
        self._attempt.stage = "an SFTP request"
        self._sftp = sftp
        self._directories = Directories(sftp, place(target.host, target.port), clean(target.user))

    @classmethod
    def connect(cls, target: Target, known_hosts: Sequence[Path], deadline: Deadline) -> Remote:
        """Connect, check the host key, log in and start SFTP. ``known_hosts`` is read, never written."""
        attempt = Attempt(deadline)

        try:
            dial = (
                None
                if target.jump is None
                else _reach(target.jump, place(target.host, target.port), known_hosts, attempt)
            )

            def work() -> Remote:
                connection = _log_in(target, known_hosts, attempt, dial)
                attempt.stage = "the start of SFTP"
                return cls(target, attempt, connection, _start_sftp(connection, target))

            return _bounded(attempt, target.host, target.port, work)
        except BaseException:
            attempt.close()
            raise

    def ensure_directory(self, path: str, *, create: bool) -> None:
        """See that ``path`` (``""``: home) is a directory; with ``create`` make it and its missing parents."""
        self._do(lambda: self._directories.ensure(path, create=create))

    def free_space(self, path: str) -> Space | None:
        """Room below ``path`` as an unprivileged user has it; None where the server has no statvfs."""
        return self._do(lambda: self._directories.space(path))

    def real_path(self, path: str) -> str:
        """The absolute path of ``path`` (``""``: home) on the server, links resolved."""
        found = self._do(lambda: self._sftp.realpath(octets(path) or b".")).decode("utf-8", "surrogateescape")
        if not found.startswith("/"):
            where = place(self._target.host, self._target.port)
            raise Failed(f'{where} does not speak SFTP properly: it calls "{clean(found)}" an absolute path')
        return found

    def read(self, path: str, limit: int) -> bytes:
        """The content of a file of at most ``limit`` bytes."""
        return self._do(lambda: read(self._sftp, path, place(self._target.host, self._target.port), limit))

    def is_writable(self, path: str) -> bool:
        """Whether entries can be made in ``path``, by making an empty directory there and removing it again."""
        probe = f".legacyhost-{secrets.token_hex(8)}"
        return self._do(lambda: self._directories.is_writable(path, probe))

    def purge(self, path: str) -> int:
        """Delete the content of a directory, not itself; returns how many entries. 0 if it does not exist.

        Refuses the home directory, what contains it, and links. Links inside are deleted, never followed.
        At any failure, the deadline too, the sentence says how many were deleted; a repeat continues.
        """
        tally = purging.Tally()
        where = place(self._target.host, self._target.port)
        try:
            self._do(lambda: purging.purge(self._sftp, path, where, tally))
        except Failed as error:
            if isinstance(error.__cause__, Late):
                raise Failed(
                    f"purge of {clean(path)} on {where} was not finished within "
                    f"{self._attempt.deadline.seconds:.3g} s: {tally} deleted, the rest remains; "
                    "the same again continues"
                ) from error
            raise Failed(f"{error.message}; purge stopped there: {tally} deleted, the rest remains") from error
        return tally.deleted

    def close(self) -> None:
        """End the session; does not wait for the network."""
        self._attempt.close()

    def __enter__(self) -> Remote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _do(self, work: Callable[[], T]) -> T:
        return _bounded(self._attempt, self._target.host, self._target.port, work)


def _reach(jump: Target, to: str, known_hosts: Sequence[Path], attempt: Attempt) -> Dial:
    """The way to a host through a jump host, which is checked and logged in to like any other. Raises Failed."""
    try:
        connection = _bounded(attempt, jump.host, jump.port, lambda: _log_in(jump, known_hosts, attempt, None))
    except PluginError as error:
        raise Failed(f"on the way to {to} by its jump host: {error.message}") from error
    return by_way_of(connection, place(jump.host, jump.port), clean(jump.user))


def _log_in(target: Target, known_hosts: Sequence[Path], attempt: Attempt, dial: Dial | None) -> Connection:
    """A connection to the right host, on which the account is open. Runs inside ``attempt``."""
    credentials = identities.credentials_of(target, default_identity_files(), attempt)
    connection = trust.connect_to_trusted(target, known_hosts, attempt, dial)
    attempt.stage = "the login"
    attempt.note(f"{clean(target.user)}: {login.log_in(connection.transport, target, credentials)}")
    return connection


def meet(
    host: str,
    port: int,
    known_hosts: Sequence[Path],
    deadline: Deadline,
    fingerprint: str | None = None,
    jump: Target | None = None,
) -> trust.Meeting:
    """The host key a server shows, and whether it is known; for ``legacyhost trust``. No login, but to a jump host.

    ``fingerprint`` (``SHA256:…``) asks for the key that has it. Raises Failed, also where that key, or one that is not
    the known one, is not to be trusted.
    """
    attempt = Attempt(deadline)
    try:
        dial = None if jump is None else _reach(jump, place(host, port), known_hosts, attempt)
        return _bounded(attempt, host, port, lambda: trust.meet(host, port, known_hosts, attempt, fingerprint, dial))
    finally:
        attempt.close()


def _bounded(attempt: Attempt, host: str, port: int, work: Callable[[], T]) -> T:
    """``work`` by the attempt's deadline, every error a sentence."""
    where = place(host, port)
    try:
        return attempt.run(work)
    except PluginError:
        raise
    except Late as error:
        seconds = f"{attempt.deadline.seconds:.3g} s"
        if not attempt.stage:
            why = "this host is busy, or that is too short"
            raise Failed(f"there was no time to ask {where} within {seconds}: {why}") from error
        raise Failed(f"{where} did not answer within {seconds} (waiting for {attempt.stage})") from error
    except Nonsense as error:
        raise Failed(f"{where} does not speak SFTP properly: {error}") from error
    except (EOFError, OSError) as error:
        raise Failed(f"{where} closed the connection during {attempt.stage}") from error
    except Exception as error:
        # Whatever a server's nonsense provokes in paramiko's parsers: SSHException, struct.error, ValueError, …
        broken = "closed the connection" if "dropped" in str(error) else "sent something unintelligible"
        raise Failed(f"{where} {broken} during {attempt.stage}") from error


def _start_sftp(connection: Connection, target: Target) -> Sftp:
    """Raises Failed for what is particular to SFTP, EOFError where the whole connection is gone."""
    try:
        channel = connection.transport.open_session()
        channel.invoke_subsystem("sftp")
        return Sftp(channel)
    except (paramiko.SSHException, NoSftp, EOFError) as error:
        connection.transport.join(0.2)  # a lost connection ends its channels a moment before itself
        if not connection.transport.is_active():
            raise EOFError from error
        raise Failed(_why_no_sftp(place(target.host, target.port), clean(target.user), error)) from error


def _why_no_sftp(where: str, user: str, error: Exception) -> str:
    if isinstance(error, paramiko.ChannelException):
        why = clean(error.text) or "no reason given"
        return f"{where} opens no session for {user} ({why}): does its sshd_config allow any (MaxSessions)?"
    if not isinstance(error, NoSftp):
        return f"{where} has no SFTP for {user}: its sshd_config needs a line Subsystem sftp"
    if not error.words:
        return (
            f"{where} ended SFTP for {user} at once: is its sftp-server installed, and the account"
            " neither expired nor bound to another command?"
        )
    return (
        f'{where} answers the start of SFTP with "{clean(error.words, limit=100)}": does a start-up file of {user}'
        " print that, or is the account without a shell, or bound to another command?"
    )
