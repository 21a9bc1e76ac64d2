"""The way to an SSH server up to its host key: name, TCP, greeting, key exchange; nobody is trusted yet."""

from __future__ import annotations

import contextlib
import errno
import logging
import re
import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import paramiko

from legacyhost.errors import Failed
from legacyhost.ssh.attempt import Attempt, Late
from legacyhost.ssh.certificates import SUFFIX, Certificate
from legacyhost.ssh.hostkeys import ALGORITHMS
from legacyhost.ssh.target import HostKey
from legacyhost.ssh.wording import clean, place, reason

# paramiko logs tracebacks with text of the server's in them; what matters is in the sentences made here.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)

# What OpenSSH's own client does not offer by default either (ssh_config(5) of 9.2): what passes here must also
# pass sshfs later. paramiko 2.12 still has all of these; names it does not know are ignored. CBC ciphers also
# because of CVE-2023-48795, against which 2.12 has no strict key exchange.
_OUT_OF_DATE = {
    "ciphers": ("aes128-cbc", "aes192-cbc", "aes256-cbc", "3des-cbc"),
    "macs": ("hmac-md5", "hmac-sha1-96", "hmac-md5-96"),
    "pubkeys": ("ssh-rsa", "ssh-dss"),
    "kex": (
        "diffie-hellman-group-exchange-sha1",
        "diffie-hellman-group14-sha1",
        "diffie-hellman-group1-sha1",
    ),
}

#: The kinds of host key that can be negotiated, in the order of preference.
KINDS = tuple(ALGORITHMS)
#: The same with a certificate.
CERTIFIED = tuple(kind + SUFFIX for kind in KINDS)

# The words of paramiko, what they mean, and what decides it (sshd_config(5)).
_IN_COMMON = {"kex": ("key exchange", "KexAlgorithms"), "ciphers": ("cipher", "Ciphers"), "macs": ("MAC", "MACs")}

# Of OpenSSH's sshd from 9.8 on.
_PENALTY = "Not allowed at this time"

_LONGEST_TCP_CONNECT = 10.0
_LONGEST_GREETING = 8 * 1024
_LONGEST_KEY_EXCHANGE = 512 * 1024
_LONGEST_PACKET = 256 * 1024  # as OpenSSH has it (PACKET_MAX_SIZE)
_MARGIN = 60.0  # paramiko's own time-outs, on top of the time left: the deadline is to come first


class TooLong(paramiko.SSHException):  # type: ignore[misc]
    """A packet that is longer than any that is sent in good faith."""


class NoSuchKind(Exception):
    """The server has no host key of the kinds asked for."""


class Socket(Protocol):
    """What a connection runs over: a TCP socket, or a channel of another connection."""

    def recv(self, count: int, /) -> bytes: ...

    def send(self, data: bytes, /) -> int: ...

    def settimeout(self, seconds: float | None, /) -> None: ...

    def shutdown(self, how: int, /) -> None: ...

    def close(self) -> None: ...


#: Connects to a host's port, within an attempt. Raises Failed.
Dial = Callable[[str, int, Attempt], Socket]


class Wire:
    """The socket as paramiko sees it: bounds what a server may send before it is trusted, keeps how it began.

    paramiko itself reads a greeting line of any length and packets of any size.
    """

    def __init__(self, sock: Socket, attempt: Attempt) -> None:
        self.head = b""
        self.is_greeted = False
        self.is_flooded = False
        self.is_ended = False
        self._closed = False  # looked at by paramiko.Transport.stop_thread
        self._sock = sock
        self._attempt = attempt
        self._allowed: int | None = _LONGEST_KEY_EXCHANGE

    def recv(self, count: int) -> bytes:
        data = self._sock.recv(count)
        if self._allowed is None:
            return data
        self._allowed -= len(data)
        self._look_for_greeting(data)
        is_no_greeting = not self.is_greeted and len(self.head) > _LONGEST_GREETING
        if self._allowed < 0 or is_no_greeting:
            self.is_flooded = True
            return b""
        self.is_ended = not data
        return data

    def trust(self) -> None:
        """The host key is accepted: no bound any more."""
        self._allowed = None

    def send(self, data: bytes) -> int:
        return self._sock.send(data)

    def settimeout(self, seconds: float | None) -> None:
        self._sock.settimeout(seconds)

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
            self._sock.shutdown(socket.SHUT_RDWR)  # wakes whoever waits in recv
        with contextlib.suppress(EOFError, paramiko.SSHException):
            self._sock.close()

    def _look_for_greeting(self, data: bytes) -> None:
        if self.is_greeted:
            return
        self.head += data
        if greeting := re.search(rb"(?m)^SSH-[^\n]*\n", self.head):
            self.is_greeted = True
            self._attempt.note(clean(greeting[0], limit=80))
            self._attempt.stage = "the key exchange"


class Connection:
    """An encrypted connection to a server that has proven to have ``key``; whether that is right is not known.

    ``certificate`` is what it has shown of that key, if it was asked for one.
    """

    def __init__(self, wire: Wire, transport: Any, key: HostKey, certificate: Certificate | None = None) -> None:
        self.wire = wire
        self.transport = transport
        self.key = key
        self.certificate = certificate

    def close(self) -> None:
        """Close at once, without waiting for the network, and see paramiko's thread end."""
        _close(self.transport, self.wire)


class _Transport(paramiko.Transport):  # type: ignore[misc]
    """Offers these algorithms of host keys, and no more: paramiko adds those of certificates, at the end."""

    preferred_keys: tuple[str, ...] = ()


def exchange_keys(
    host: str, port: int, attempt: Attempt, kinds: Sequence[str] = KINDS, dial: Dial | None = None
) -> Connection:
    """Connect and exchange keys, accepting host keys of these kinds (KINDS, CERTIFIED) only, the first preferred.

    Runs inside ``attempt``. Raises Failed, and NoSuchKind where the server has no key of these kinds. ``dial``: how to
    get there, if not by TCP.
    """
    wire = attempt.hold(Wire((dial or _connect)(host, port, attempt), attempt))
    attempt.stage = "the greeting of an SSH server"
    transport = _Transport(wire, disabled_algorithms=_OUT_OF_DATE)
    _bound_packets(transport.packetizer)
    transport.preferred_keys = tuple(name for kind in kinds for name in _algorithms(kind))
    patience = attempt.deadline.left() + _MARGIN
    transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = patience
    try:
        transport.start_client()
        found = transport.get_remote_server_key()
    except Exception as error:
        # Not only SSHException: whatever a server's nonsense provokes in paramiko's parser comes through here.
        _close(transport, wire)
        if "host key" in str(error) and isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
            raise NoSuchKind from error
        raise Failed(_why_no_keys(place(host, port), wire, error)) from error
    key = HostKey(found.get_name(), found.get_base64())
    try:
        certificate = None if found.public_blob is None else _certificate(found.public_blob.key_blob, key)
    except ValueError as error:
        _close(transport, wire)
        raise Failed(f"the certificate that {place(host, port)} shows of its host key is broken: {error}") from error
    return attempt.hold(Connection(wire, transport, key, certificate))


def _algorithms(kind: str) -> list[str]:
    plain = kind.removesuffix(SUFFIX)
    return [name + kind.removeprefix(plain) for name in ALGORITHMS[plain]]


def _certificate(blob: bytes, key: HostKey) -> Certificate:
    certificate = Certificate.parse(blob)
    if certificate.key != key:
        raise ValueError("it is of another key")
    return certificate


def _bound_packets(packetizer: Any) -> None:
    """paramiko makes room for whatever length a packet announces, up to 4 GiB."""
    read_all = packetizer.read_all

    def bounded(count: int, check_rekey: bool = False) -> bytes:
        if count > _LONGEST_PACKET:
            raise TooLong("a packet too long")
        data: bytes = read_all(count, check_rekey)
        return data

    packetizer.read_all = bounded


def by_way_of(jump: Connection, jump_place: str, jump_user: str) -> Dial:
    """Through a host on which we are logged in, as ``ssh -J`` does (direct-tcpip, RFC 4254, 7.2)."""

    def dial(host: str, port: int, attempt: Attempt) -> Socket:
        attempt.stage = f"a connection from {jump_place} to it"
        try:
            channel: Socket = jump.transport.open_channel(
                "direct-tcpip", (host, port), ("127.0.0.1", 0), timeout=attempt.deadline.left() + _MARGIN
            )
        except paramiko.ChannelException as error:
            raise Failed(_why_not_passed_on(jump_place, jump_user, place(host, port), error)) from error
        except (paramiko.SSHException, EOFError) as error:
            raise Failed(
                f"{jump_place} closed the connection while it was to connect to {place(host, port)}"
            ) from error
        return attempt.hold(channel)

    return dial


def _why_not_passed_on(jump: str, user: str, where: str, error: paramiko.ChannelException) -> str:
    said = f" (it says: {clean(error.text)})" if error.text else ""
    if error.code == 1:  # administratively prohibited
        return (
            f"the jump host {jump} does not let {user} connect to {where}{said}; in its sshd_config, AllowTcpForwarding"
            " and PermitOpen decide that"
        )
    return f"the jump host {jump} cannot connect to {where}{said}; is an SSH server running there, on that port?"


def _close(transport: Any, wire: Wire) -> None:
    """Close and see paramiko's threads end: its reader, and the timer of a handshake that never was complete."""
    wire.close()
    transport.close()
    if transport.is_alive():
        transport.join(1.0)
    transport.packetizer.complete_handshake()


def _why_no_keys(where: str, wire: Wire, error: Exception) -> str:
    if isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
        detail = re.search(r"no acceptable ([a-z]+)", str(error))
        what, setting = _IN_COMMON.get(detail[1] if detail else "", ("protocol version", ""))
        too_far = f", or restricted too far by {setting} in its sshd_config" if setting else ""
        return f"{where} and this host have no {what} in common: its SSH server is too old{too_far}"
    if wire.is_greeted:
        if wire.is_flooded or isinstance(error, TooLong):
            return f"the key exchange with {where} failed: it sent far more than one takes"
        how = "closed the connection" if wire.is_ended or _is_hang_up(error) else "sent something that is not SSH"
        return f"the key exchange with {where} failed: it {how}"
    if not wire.head:
        return (
            f"{where} closed the connection without a word: no SSH server, one that is overloaded, "
            "or one that refuses this host's address"
        )
    first = clean(wire.head.lstrip(), limit=60)
    if first == _PENALTY:
        return (
            f'{where} accepts no connection from this host for now (it says "{first}"), as after failed logins: wait'
            " some minutes (PerSourcePenalties in its sshd_config)"
        )
    return f'{where} is not an SSH server, or does not want to be one now: it says "{first}"'


def _is_hang_up(error: Exception) -> bool:
    return isinstance(error, EOFError | ConnectionError)


def _connect(host: str, port: int, attempt: Attempt) -> socket.socket:
    """A TCP connection to the first address of ``host`` that takes it. Raises Failed."""
    attempt.stage = "the look-up of its name"
    addresses = _addresses(host, port)
    attempt.stage = "the TCP connection"
    errors: list[tuple[OSError, float]] = []
    for number, (family, address) in enumerate(addresses):
        share = attempt.deadline.left() / (len(addresses) - number)
        seconds = max(min(_LONGEST_TCP_CONNECT, share), 0.001)
        sock = attempt.hold(socket.socket(family, socket.SOCK_STREAM))
        sock.settimeout(seconds)
        try:
            sock.connect(address)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            sock.close()
            errors.append((error, seconds))
        else:
            return sock
    if attempt.deadline.is_over():
        raise Late
    raise Failed(_why_no_connection(place(host, port), errors))


def _addresses(host: str, port: int) -> list[tuple[socket.AddressFamily, Any]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise Failed(f"the name {clean(host)} cannot be looked up now: no name server answers") from error
        raise Failed(f"there is no host of the name {clean(host)}: check the spelling and DNS") from error
    except (ValueError, OverflowError) as error:  # UnicodeError of IDNA, a NUL, a port beyond a C long
        raise Failed(f"{clean(host)} is no name a host can have") from error
    return [(family, address) for family, _, _, _, address in found]


def _why_no_connection(where: str, errors: list[tuple[OSError, float]]) -> str:
    """The most telling of the errors of a host's addresses: one that is not about a missing route."""
    routing = (errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL)
    telling = [pair for pair in errors if pair[0].errno not in routing]
    error, seconds = (telling or errors)[0]
    if isinstance(error, ConnectionRefusedError):
        return f"{where} refused the connection: is an SSH server running there, on that port?"
    if isinstance(error, TimeoutError):
        return f"{where} did not answer within {seconds:.3g} s: is it up, and not behind a firewall?"
    if error.errno in routing:
        return f"{where} cannot be reached: there is no route to it from here"
    return f"{where} cannot be reached: {reason(error)}"
