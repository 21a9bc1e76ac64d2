"""A gunicorn worker that gives each connection a thread: however many calls wait for a remote host, the next is served.

gunicorn's own workers do not fit: sync serves one call at a time; gthread has a fixed number of threads, of which
connections that never say anything hold some for good and delay a stop (20.1), or lets one that stays open after its
reply stall the loop that accepts all others (27).
"""

from __future__ import annotations

import socket
import threading
from typing import Any

from gunicorn.workers.sync import SyncWorker

from legacyhost import log

#: Seconds a stop gives a connection that was accepted just before to bring its request.
LINGER = 0.5


class ThreadPerConnection(SyncWorker):  # type: ignore[misc]
    """Each connection carries one call and is closed with its reply (SyncWorker's own way), in a thread of its own."""

    def init_process(self) -> None:
        self._accepted: set[socket.socket] = set()
        self._at_work = 0
        self._changed = threading.Condition()
        super().init_process()

    def accept(self, listener: Any) -> None:
        client, address = listener.accept()
        client.setblocking(True)
        with self._changed:
            self._accepted.add(client)
        arguments = (listener, client, address)
        try:
            threading.Thread(target=self.handle, args=arguments, name="call", daemon=True).start()
        except RuntimeError as error:
            log.event(log.ERROR, f"a connection is closed unanswered: {error}")
            self._forget(client)
            client.close()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        try:
            super().handle(listener, client, addr)
        finally:
            self._forget(client)

    def handle_request(self, listener: Any, req: Any, client: Any, addr: Any) -> None:
        with self._changed:
            self._at_work += 1
        try:
            super().handle_request(listener, req, client, addr)
        finally:
            with self._changed:
                self._at_work -= 1
            self._forget(client)

    def run(self) -> None:
        """Until a signal; then finish the calls at work, and wait for nobody who says nothing."""
        super().run()
        with self._changed:
            self._changed.wait_for(lambda: not self._accepted, LINGER)
            self._changed.wait_for(lambda: not self._at_work, self.cfg.graceful_timeout)

    def _forget(self, client: socket.socket) -> None:
        with self._changed:
            self._accepted.discard(client)
            self._changed.notify_all()
