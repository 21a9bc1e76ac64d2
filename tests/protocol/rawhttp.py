"""HTTP/1.1 over a unix socket, byte for byte: sends what it is given, reads exactly one reply.

No HTTP library stands in between, since such a library would mend what is to be tested (an empty Host,
a missing Content-Type, a body shorter than announced).
"""

from __future__ import annotations

import json
import select
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

#: Seconds for one reply. Longer than a Mount may take, shorter than Docker's own 120 s.
TIMEOUT = 60.0


class Closed(ConnectionError):
    """The plugin ended the connection before a whole reply had come; ``partial`` is what had come."""

    def __init__(self, partial: bytes) -> None:
        super().__init__(f"the plugin closed the connection instead of replying (after {partial[:200]!r})")
        self.partial = partial


@dataclass(frozen=True)
class Reply:
    """One HTTP response, undecoded."""

    version: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        for key, value in self.headers:
            if key.lower() == name.lower():
                return value
        return None

    @property
    def json(self) -> object:
        """The body's JSON value; ValueError when the body is anything else."""
        value: object = json.loads(self.body.decode("utf-8"))
        return value

    @property
    def ends_connection(self) -> bool:
        """Whether the client must not send another request on this connection."""
        options = [word.strip().lower() for word in (self.header("Connection") or "").split(",")]
        if self.version == "HTTP/1.0":
            return "keep-alive" not in options
        return "close" in options


class Connection:
    """One connection to the plugin. Every wait is bounded by ``timeout`` seconds."""

    def __init__(self, path: Path, timeout: float = TIMEOUT) -> None:
        self._timeout = timeout
        self._buffer = b""
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        try:
            self.socket.connect(str(path))
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.socket.close()

    def send(self, data: bytes) -> bool:
        """Send all of it, unless the plugin replies or hangs up first; says whether all was sent."""
        rest = memoryview(data)
        until = time.monotonic() + self._timeout
        while rest:
            readable, writable, _ = select.select([self.socket], [self.socket], [], until - time.monotonic())
            if readable:
                return False
            if not writable:
                raise TimeoutError(f"the plugin did not read {len(rest)} bytes in {self._timeout} s")
            try:
                rest = rest[self.socket.send(rest[:65536], socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL) :]
            except BlockingIOError:
                continue
            except (BrokenPipeError, ConnectionResetError):
                return False
        return True

    def finish_sending(self) -> None:
        """Half-close: the plugin sees the end of the request, and can still answer."""
        self.socket.shutdown(socket.SHUT_WR)

    def receive(self) -> Reply:
        """The next reply. Raises Closed or TimeoutError."""
        while True:
            head, _, self._buffer = self._until(b"\r\n\r\n").partition(b"\r\n\r\n")
            first, *lines = head.decode("latin-1").split("\r\n")
            version, status, *_reason = first.split(" ", 2)
            assert version in ("HTTP/1.0", "HTTP/1.1"), f"not an HTTP reply: {first!r}"
            if not status.startswith("1"):  # 100 Continue is not the reply yet
                break
        pairs = [line.partition(":") for line in lines]
        reply = Reply(version, int(status), tuple((key.strip(), value.strip()) for key, _, value in pairs), b"")
        return Reply(version, reply.status, reply.headers, self._body(reply))

    def exchange(self, data: bytes) -> Reply:
        self.send(data)
        return self.receive()

    def rest(self) -> bytes:
        """All that comes until the plugin ends the connection."""
        try:
            while True:
                self._more()
        except Closed:
            data, self._buffer = self._buffer, b""
            return data

    def has_news(self, within: float) -> bool:
        """Whether a reply has begun, or the end of the connection come, within that many seconds."""
        return bool(select.select([self.socket], [], [], within)[0])

    def is_closed_by_plugin(self, within: float = 0.0) -> bool:
        """Whether the plugin has ended the connection, or does so within that many seconds."""
        if not self.has_news(within):
            return False
        try:
            return self.socket.recv(1, socket.MSG_PEEK) == b""
        except ConnectionResetError:
            return True

    def _body(self, reply: Reply) -> bytes:
        if (reply.header("Transfer-Encoding") or "").lower() == "chunked":
            return self._chunks()
        length = reply.header("Content-Length")
        if length is not None:
            return self._exactly(int(length))
        assert reply.ends_connection, "a reply without a length on a connection that stays open has no end"
        return self.rest()

    def _chunks(self) -> bytes:
        body = b""
        while True:
            line, _, self._buffer = self._until(b"\r\n").partition(b"\r\n")
            size = int(line.partition(b";")[0], 16)
            chunk = self._exactly(size + 2)
            assert chunk.endswith(b"\r\n"), "a chunk is not as long as it says"
            if size == 0:
                return body
            body += chunk[:-2]

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._more()
        return self._buffer

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._more()
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    def _more(self) -> None:
        try:
            data = self.socket.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        if not data:
            raise Closed(self._buffer)
        self._buffer += data
