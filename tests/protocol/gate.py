"""A TCP relay on loopback that can be shut: a remote host that is there, and says nothing, for as long as wanted."""

from __future__ import annotations

import selectors
import socket
import threading
from types import TracebackType

WAIT = 30.0


class Gate:
    """Relays connections to ``127.0.0.1:target`` while open; shut, it accepts them and lets nothing through.

    ``touched`` is set when somebody sends or connects while it is shut.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.touched = threading.Event()
        self._changed, self._wake = socket.socketpair()
        self._is_open = True
        self._is_over = False
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._callers: set[socket.socket] = {self._listener}
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Gate:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        self._wake.send(b"x")
        self._thread.join(WAIT)
        self._wake.close()

    def shut(self) -> None:
        """From now on nothing passes; what is already under way is held back, not cut off."""
        self.touched.clear()
        self._is_open = False
        self._wake.send(b"x")

    def open(self) -> None:
        self._is_open = True
        self._wake.send(b"x")

    def wait_until_touched(self) -> None:
        assert self.touched.wait(WAIT), f"the plugin did not turn to the remote within {WAIT} s"

    def _run(self) -> None:
        held: list[socket.socket] = []
        with selectors.DefaultSelector() as selector:
            selector.register(self._changed, selectors.EVENT_READ)
            selector.register(self._listener, selectors.EVENT_READ)
            while not self._is_over:
                ready = [key.fileobj for key, _ in selector.select()]
                if self._changed in ready:
                    self._changed.recv(100)
                    for waiting in held if self._is_open else []:
                        selector.register(waiting, selectors.EVENT_READ)
                    held = [] if self._is_open else held
                    continue
                for source in ready:
                    assert isinstance(source, socket.socket)
                    if not self._is_open:
                        if source in self._callers:
                            self.touched.set()
                        selector.unregister(source)
                        held.append(source)
                    elif source is self._listener:
                        self._accept(selector)
                    elif source in self._pairs:
                        self._pass_on(selector, source)
        for end in {self._listener, self._changed, *self._pairs}:
            end.close()

    def _accept(self, selector: selectors.BaseSelector) -> None:
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection(("127.0.0.1", self._target), WAIT)
        except OSError:
            near.close()
            return
        self._pairs |= {near: far, far: near}
        self._callers.add(near)
        for end in (near, far):
            end.settimeout(WAIT)
            selector.register(end, selectors.EVENT_READ)

    def _pass_on(self, selector: selectors.BaseSelector, source: socket.socket) -> None:
        sink = self._pairs[source]
        try:
            data = source.recv(65536)
            sink.sendall(data)
        except OSError:
            data = b""
        if not data:
            for end in (source, sink):
                if end.fileno() in selector.get_map():
                    selector.unregister(end)
                end.close()
                self._pairs.pop(end, None)
