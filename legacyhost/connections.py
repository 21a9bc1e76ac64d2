"""A connection that brings calls, whichever way it has come: what the worker does with one."""

from __future__ import annotations

import errno
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

#: Seconds for which a connection is kept without a request.
IDLE = 30.0
#: Seconds for which a reply may wait for who is to read it.
PATIENCE = 10.0

App = Callable[..., Any]


class Connection(Protocol):
    """``app`` answers what comes on it. Whatever ends it is a ConnectionResetError."""

    app: App

    def recv(self, size: int) -> bytes: ...
    def send_reply(self, reply: bytes) -> None:
        """All of it, at once if there is room."""
        ...

    def comes(self) -> bool:
        """Whether something does, be it the end, while the connection is kept."""
        ...

    def is_there(self) -> bool:
        """Whether what comes is not the end. Asked after ``comes``."""
        ...

    def close(self) -> None: ...


class Local:
    """One to the plugin's own socket: nobody is there but root."""

    def __init__(self, client: socket.socket, app: App) -> None:
        self.app = app
        self.recv, self.close = client.recv, client.close
        self._client = client

    def __getattr__(self, name: str) -> Any:
        """What gunicorn wants of a socket when it has to say what is wrong with a request."""
        return getattr(self._client, name)

    def send_reply(self, reply: bytes) -> None:
        client, sent = self._client, 0
        with suppress(BlockingIOError):
            sent = client.send(reply, socket.MSG_DONTWAIT)
        if sent == len(reply):
            return
        client.settimeout(PATIENCE)
        try:
            client.sendall(memoryview(reply)[sent:])
        except TimeoutError as error:
            raise ConnectionResetError(errno.ECONNRESET, "the reply is not read") from error
        client.settimeout(None)

    def comes(self) -> bool:
        return is_readable(self._client, IDLE)

    def is_there(self) -> bool:
        return bool(self._client.recv(1, socket.MSG_PEEK))


def is_readable(client: socket.socket, seconds: float) -> bool:
    """Whether something can be read, or the end is there, within that time."""
    waiting = select.poll()
    waiting.register(client, select.POLLIN)
    return bool(waiting.poll(seconds * 1000))
