"""A worker that runs, on a socket of its own; requests for it."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from fakes import WAIT
from gunicorn.config import Config
from gunicorn.glogging import Logger

from legacyhost.threads import Threads
from legacyhost.wire import BODY_LIMIT
from legacyhost.worker import ThreadPerConnection


def worker(app: Any) -> ThreadPerConnection:
    """As far as handling one connection needs it."""
    made = object.__new__(ThreadPerConnection)
    made.cfg, made.wsgi, made.log = Config(), app, Logger(Config())
    made.nr, made.max_requests, made.alive = 0, sys.maxsize, True
    made._accepted, made._at_work, made._changed = set(), set(), threading.Condition()
    made._is_taking = True
    made.app = SimpleNamespace(body_limit=lambda _: BODY_LIMIT)
    return made


def request(path: bytes, body: bytes, *headers: bytes) -> bytes:
    lines = [b"POST %s HTTP/1.1" % path, b"Host: x", b"Connection: keep-alive", *headers]
    return b"\r\n".join([*lines, b"Content-Length: %d" % len(body), b"", body])


class Running:
    """A worker that runs, on a socket of its own."""

    def __init__(self, home: Path, app: Any) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(home / "s"))
        self.listener.listen(64)
        made = self.worker = worker(app)
        made.cfg.set("graceful_timeout", 10 * int(WAIT))
        made._threads, made.timeout, made.tmp = Threads("call"), WAIT, SimpleNamespace(notify=lambda: None)
        made.PIPE, made.sockets = os.pipe(), [self.listener]
        made.wait_fds = [self.listener, made.PIPE[0]]
        self._thread = threading.Thread(target=made.run, daemon=True)
        self._thread.start()

    @contextmanager
    def asked(self, sent: bytes) -> Iterator[socket.socket]:
        """A connection on which that has been sent."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(WAIT)
            client.connect(self.listener.getsockname())
            client.sendall(sent)
            yield client

    def call(self, path: bytes) -> bytes:
        """The reply."""
        with self.asked(short(path)) as client:
            return client.recv(1 << 16)

    def stop(self) -> None:
        """As a signal does."""
        self.worker.alive = False
        os.write(self.worker.PIPE[1], b".")

    def has_ended(self) -> bool:
        self._thread.join(WAIT)
        return not self._thread.is_alive()

    def close(self) -> None:
        self.stop()
        if self.has_ended():
            self.listener.close()
            for descriptor in self.worker.PIPE:
                os.close(descriptor)


def short(path: bytes) -> bytes:
    """A request as engines send it, after whose reply the connection ends."""
    return request(path, b"{}").replace(b"keep-alive", b"close")


@contextmanager
def running(home: Path, app: Any) -> Iterator[Running]:
    made = Running(home, app)
    try:
        yield made
    finally:
        made.close()
