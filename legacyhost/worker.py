"""A gunicorn worker that gives each connection a thread: however many calls wait for a remote host, the next is served.

A connection is kept for a client that asks for that by name. Docker and Podman do not, and get each reply with the end
of its connection: a call that a restart cuts off there would be repeated by Docker without its content.

gunicorn's own workers do not fit: sync serves one call at a time; gthread has a fixed number of threads, of which
connections that never say anything hold some for good and delay a stop (20.1), or lets one that stays open after its
reply stall the loop that accepts all others (27).
"""

from __future__ import annotations

import errno
import io
import socket
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from gunicorn import http
from gunicorn.http import wsgi
from gunicorn.workers.sync import SyncWorker

from legacyhost import log, plain
from legacyhost.connections import Connection, Local
from legacyhost.threads import Threads

#: Seconds a stop gives a connection that was accepted just before to bring its request.
LINGER = 0.5
#: Of a reply to a request whose body was not read to its end (RFC 9110).
TOO_LARGE = 413
#: Seconds between two looks.
BREATH = 0.1
#: Bytes, as many as gunicorn reads at a time.
PIECE = 8192


class Whole:
    """A connection on which a reply is kept until it is whole, then sent by one system call.

    A process that is killed has sent all of it then or nothing. Docker takes a status without a body for an answer, and
    forgets the volume it was about (moby volume/service/store.go).
    """

    def __init__(self, client: Connection) -> None:
        self._client = client
        self._parts: list[bytes] = []

    def sendall(self, data: bytes) -> None:
        self._parts.append(data)

    def send_reply(self) -> None:
        self._client.send_reply(b"".join(self._parts))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


class Body:
    """As much of a body as is wanted, read before the call is at work; what was wrong with it is said to who reads."""

    def __init__(self, body: Any, limit: int) -> None:
        self._data, self.error = io.BytesIO(), ""
        try:
            self._data = io.BytesIO(body.read(limit + 1))
        except (OSError, ValueError, http.errors.ParseException) as error:  # each version has its own
            self.error = str(error) or "it is cut off"

    def read(self, size: int = -1) -> bytes:
        if self.error:
            raise OSError(self.error)
        return self._data.read(size)


class Begun:
    """A connection that gunicorn reads where ``begin`` has left it; that gives what it has read too far, or the end."""

    def __init__(self, client: Any, begin: Callable[[], bytes]) -> None:
        self.client = client
        self._begin: Callable[[], bytes] | None = begin
        self._has_ended = False

    def recv(self, size: int) -> bytes:
        begin, self._begin = self._begin, None
        if begin:
            return begin()
        if self._has_ended:  # gunicorn (20.1) waits for the end of a chunk without end
            raise ConnectionResetError(errno.ECONNRESET, "the connection has ended")
        data: bytes = self.client.recv(size)
        self._has_ended = not data
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self.client, name)


class ThreadPerConnection(SyncWorker):  # type: ignore[misc]
    """Each connection is served by a thread of its own; it carries one call, or more if the client says so."""

    def init_process(self) -> None:
        self._accepted: set[Connection] = set()
        #: Whether further connections are taken: not at the end of a stop.
        self._is_taking = True
        self._at_work: set[object] = set()
        self._changed = threading.Condition()
        self._threads = Threads("call")
        super().init_process()

    def is_parent_alive(self) -> bool:
        """Nobody's concern: there is no master, and systemd or a terminal ends this by a signal."""
        return True

    def accept(self, listener: Any) -> None:
        """Take a connection that waits at a listener, which may be from any thread. Raises BlockingIOError."""
        try:
            with self._changed:
                if not self._is_taking:
                    raise BlockingIOError(errno.EAGAIN, "the process ends")
                client, address = listener.accept()
                connection = self._connection(client)
                self._accepted.add(connection)
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            log.event(log.ERROR, f"no further connection for now: {error.strerror}")
            time.sleep(BREATH)
            return
        try:
            self._threads.do(partial(self.handle, listener, connection, address))
        except RuntimeError as error:
            log.event(log.ERROR, f"a connection is closed unanswered: {error}")
            with self._changed:
                self._accepted.discard(connection)
            connection.close()

    def _connection(self, client: Any) -> Connection:
        if isinstance(client, socket.socket):
            client.setblocking(True)
            return Local(client, self.wsgi)
        found: Connection = client
        return found

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        connection = self._connection(client)
        try:
            super().handle(listener, Begun(connection, lambda: self._answer_plain(listener, connection)), addr)
        finally:
            with self._changed:
                self._accepted.discard(connection)
                self._changed.notify_all()

    def _answer_plain(self, listener: Any, client: Connection) -> bytes:
        """Answer requests as long as they are plain; what has come of one that is not. Empty: that is all."""
        server = listener.getsockname()
        data: bytes = client.recv(PIECE)
        while request := plain.whole(self.cfg, data, server):
            call = self._begin(client)
            try:
                is_kept = self.alive and request.head.asks_to_be_kept
                client.send_reply(plain.reply(client.app, request, is_kept=is_kept))
            finally:
                self._end(call)
            if not is_kept:
                return b""
            data = request.rest or (client.recv(PIECE) if client.comes() else b"")
        return data

    def handle_request(self, listener: Any, req: Any, begun: Any, addr: Any) -> None:
        """Answer the first request of a connection that is not plain, and those that follow if it is kept."""
        client = begun.client
        # What came with the first, and what comes then; what is left of a body that nobody wanted is no request.
        further = http.RequestParser(self.cfg, begun, addr)
        further.unreader, further.mesg = req.unreader, req
        while True:
            is_kept = self._answer(listener, req, client, addr)
            if not is_kept or not _has_more(req.unreader, client):
                return
            req = next(further)

    def _answer(self, listener: Any, req: Any, client: Connection, addr: Any) -> bool:
        """Whether the connection is kept."""
        whole = Whole(client)
        response, environ = wsgi.create(req, whole, addr, listener.getsockname(), self.cfg)
        # Whose body does not come is silent, not at work: a stop does not wait for that.
        environ["wsgi.input"] = body = Body(req.body, self.app.body_limit(req.path))
        call = self._begin(client)
        try:
            is_kept = self.alive and plain.asks_to_be_kept(req) and not body.error
            parts = client.app(environ, response.start_response)
            # What is left of a body that was too long would be taken for the next request.
            if not is_kept or response.status_code == TOO_LARGE:
                response.force_close()
            for part in parts:
                response.write(part)
            response.close()
            whole.send_reply()
            return not response.should_close()
        finally:
            self._end(call)

    def _begin(self, client: Connection) -> object:
        """A call is at work; its connection has brought it."""
        call = object()
        with self._changed:
            self._at_work.add(call)
            self._accepted.discard(client)
        return call

    def _end(self, call: object) -> None:
        with self._changed:
            self._at_work.discard(call)
            self._changed.notify_all()

    def run(self) -> None:
        """Until a signal; then finish the calls at work, serve others meanwhile, and wait for nobody who is silent."""
        super().run()
        deadline = time.monotonic() + self.cfg.graceful_timeout
        is_done = False
        while not is_done and time.monotonic() < deadline:
            with self._changed:
                self._is_taking = True
                unfinished = set(self._at_work)
            while unfinished & self._at_work and time.monotonic() < deadline:
                self.wait(BREATH)
                self._accept_waiting()
            # Nobody else is served now; but what has begun meanwhile may take long, too.
            with self._changed:
                self._is_taking = False
                self._changed.wait_for(lambda: not self._accepted, LINGER)
                is_done = self._changed.wait_for(lambda: not self._at_work, LINGER)

    def _accept_waiting(self) -> None:
        for listener in self.sockets:
            try:
                self.accept(listener)
            except BlockingIOError:
                continue


def _has_more(unreader: Any, client: Connection) -> bool:
    """Whether something comes of a client that is there; it has been read already, or is waited for."""
    return bool(unreader.buf.tell()) or (client.comes() and client.is_there())
