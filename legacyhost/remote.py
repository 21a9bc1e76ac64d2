"""One connection from the network: a handshake first, and nothing on it is waited for without a limit."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import NoReturn

from legacyhost import tls
from legacyhost.config import ListenConfig
from legacyhost.connections import IDLE, PATIENCE, App, is_readable
from legacyhost.gate import Gate

#: Seconds for a handshake, and for a request to come, from its first byte to its last.
HANDSHAKE, REQUEST = 10.0, 30.0
#: Bytes, and seconds, for what a client that is refused still sends: unread, it would cost it the reason.
DRAIN, LAST = 65536, 1.0
#: Seconds without a sign of life after which the system asks for one, between two questions, and how many.
ALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))


@dataclass(frozen=True)
class Terms:
    """On which a connection is taken. ``refused`` is told of a peer, and why; ``are_over`` when there are others."""

    listen: ListenConfig
    context: ssl.SSLContext | None
    app: App
    #: What answers a client that the authority knows, and the configuration does not name.
    stranger: Callable[[str], App]
    refused: Callable[[str, str], None]
    are_over: threading.Event = field(default_factory=threading.Event)


class Remote:
    """A Connection."""

    def __init__(self, client: socket.socket, peer: str, terms: Terms, gate: Gate) -> None:
        """Waits for nothing. Raises OSError where the client has gone already."""
        self.app = terms.app
        self._peer, self._terms, self._gate = peer, terms, gate
        self._is_met, self._is_refused, self._is_open = terms.context is None, False, True
        self._has_replied = False
        self._ahead = b""
        self._until = time.monotonic() + REQUEST
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option, value in ALIVE:
            client.setsockopt(socket.IPPROTO_TCP, option, value)
        client.settimeout(HANDSHAKE)
        self._stream = client
        if terms.context is not None:
            self._stream = terms.context.wrap_socket(client, server_side=True, do_handshake_on_connect=False)
        gate.enter(self)
        if self._is_met:
            gate.known(self)

    def recv(self, size: int) -> bytes:
        if not self._is_met:
            self._meet()
        if self._is_over():
            self._end(ConnectionError("who may call is another matter by now"))
        if self._ahead:
            data, self._ahead = self._ahead[:size], self._ahead[size:]
            return data
        try:
            self._stream.settimeout(_left(self._until))
            return self._stream.recv(size)
        except OSError as error:
            self._end(error)

    def _meet(self) -> None:
        """The handshake."""
        self._is_met = True
        stream = self._stream
        if not isinstance(stream, ssl.SSLSocket):
            return
        try:
            stream.settimeout(HANDSHAKE)
            stream.do_handshake()
        except (OSError, ValueError) as error:
            self._is_refused = True
            why = tls.refusal(error, self._terms.listen) if isinstance(error, OSError) else tls.GONE
            self._terms.refused(self._peer, why)
            self._end(error)
        self._gate.known(self)
        self._until = time.monotonic() + REQUEST
        wanted = self._terms.listen.clients
        if wanted and not wanted & (shown := tls.names(stream)):
            why = f"its certificate is of {', '.join(sorted(shown)) or 'nobody'}, who is not in listen.clients"
            self._terms.refused(self._peer, why)
            self.app = self._terms.stranger(why)

    def send_reply(self, reply: bytes) -> None:
        end, rest = time.monotonic() + PATIENCE, memoryview(reply)
        try:
            while rest:
                self._stream.settimeout(_left(end))
                rest = rest[self._stream.send(rest) :]
        except OSError as error:
            self._end(error)
        self._until = time.monotonic() + REQUEST
        self._has_replied = True

    def _is_over(self) -> bool:
        """Whether it is kept from a time when others might call: its first request is answered all the same."""
        return self._has_replied and self._terms.are_over.is_set()

    def sendall(self, data: bytes) -> None:
        """What gunicorn has to say of a request that is none."""
        self.send_reply(data)

    def comes(self) -> bool:
        stream = self._stream
        has_more = bool(self._ahead) or (isinstance(stream, ssl.SSLSocket) and stream.pending() > 0)
        found = has_more or is_readable(stream, IDLE)
        self._until = time.monotonic() + REQUEST
        return found and not self._is_over()

    def is_there(self) -> bool:
        self._ahead = self._ahead or self.recv(DRAIN)
        return bool(self._ahead)

    def cut(self) -> None:
        """End it, from another thread than the one that is at it."""
        with suppress(OSError):
            socket.socket.shutdown(self._stream, socket.SHUT_RDWR)

    def close(self) -> None:
        if not self._is_open:
            return
        self._is_open = False
        with suppress(OSError, ValueError):
            if self._is_refused:
                self._drain()
        with suppress(OSError):
            self._stream.close()
        self._gate.leave(self)

    def _drain(self) -> None:
        """Let the client read why: what is closed while something unread is there is reset, and the alert lost."""
        socket.socket.shutdown(self._stream, socket.SHUT_WR)
        end, left = time.monotonic() + LAST, DRAIN
        while left > 0:
            self._stream.settimeout(_left(end))
            data = socket.socket.recv(self._stream, 4096)
            if not data:
                return
            left -= len(data)

    def _end(self, error: Exception) -> NoReturn:
        raise ConnectionResetError(errno.ECONNRESET, "the connection has ended") from error

    # What gunicorn asks of a socket when it says what is wrong, and when it closes it: that is done here.

    def gettimeout(self) -> float:
        return 0.0

    def shutdown(self, _how: int) -> None:
        raise OSError(errno.ENOTCONN, "it is closed by close")


def _left(end: float) -> float:
    """Seconds. Raises TimeoutError where there are none left."""
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
