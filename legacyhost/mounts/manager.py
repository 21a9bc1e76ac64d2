"""PID 1 over its private socket: the only door to jeepney. Source of the facts: org.freedesktop.systemd1(5).

systemd-run(1) does the same by a process for each unit, which PID 1 tells of all that happens to all other units
meanwhile. Here one connection serves all who are waiting, and ends with the last of them.
"""

from __future__ import annotations

import queue
import socket
import struct
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from legacyhost.deadline import Deadline

ADDRESS = "/run/systemd/private"
#: Name, then signature and value, as the D-Bus specification has them.
Property = tuple[str, tuple[str, Any]]
#: Seconds for PID 1 to take what is sent.
PATIENCE = 10.0
CHUNK = 1 << 16
#: A message begins with byte order, type, flags, version, bytes of its body, serial, bytes of the fields that follow,
#: which are filled up to a multiple of 8.
HEAD, UNIT = "4BIII", 8
SIGNAL, DONE = 4, "done"


class NotStarted(Exception):
    """There is no such unit now, or it may be starting still; the text says why."""


class Lost(NotStarted):
    """The connection ended, as when PID 1 is executed anew: the unit may or may not be there, and starting."""


class Manager:
    """For many threads at a time."""

    def __init__(self, address: str = ADDRESS) -> None:
        self._address = address
        self._lock = threading.Lock()
        self._line: _Line | None = None
        #: When it was last tried in vain, and what came of it: also for those who have waited meanwhile.
        self._failure: tuple[float, OSError | EOFError] | None = None

    def start(self, unit: str, properties: Sequence[Property], deadline: Deadline, *, is_awaited: bool = True) -> None:
        """Start a transient unit, and wait until it has started if that is wanted. Raises NotStarted."""
        try:
            with self._in_use(deadline) as line:
                line.start(unit, properties, deadline, is_awaited=is_awaited)
        except TimeoutError as error:
            raise NotStarted("systemd does not answer") from error
        except (OSError, EOFError) as error:
            why = (error.strerror if isinstance(error, OSError) else str(error)) or "it closed the connection"
            raise Lost(f"systemd does not answer: {why}") from error
        except queue.Empty:
            raise NotStarted(f"it has not started within {deadline.seconds:.0f} s") from None

    @contextmanager
    def _in_use(self, deadline: Deadline) -> Iterator[_Line]:
        arrived = time.monotonic()
        if not self._lock.acquire(timeout=max(0.0, deadline.left())):
            raise queue.Empty
        try:
            if self._line is None or self._line.is_over:
                if self._failure is not None and self._failure[0] > arrived:
                    raise self._failure[1]
                try:
                    self._line = _Line(self._address, deadline.at_most(PATIENCE))
                except (OSError, EOFError) as error:
                    self._failure = time.monotonic(), error
                    raise
            line = self._line
            line.users += 1
        finally:
            self._lock.release()
        try:
            yield line
        finally:
            with self._lock:
                line.users -= 1
                if not line.users:
                    line.close()


class _Line:
    """One connection, read by a thread of its own."""

    def __init__(self, address: str, patience: float) -> None:
        self.users = 0
        self.is_over = False
        self._lock = threading.Lock()
        self._serial = 0
        self._replies: dict[int, queue.Queue[Any]] = {}
        self._jobs: dict[str, queue.Queue[str]] = {}
        self._socket = socket.socket(socket.AF_UNIX)
        try:
            self._socket.settimeout(max(0.1, patience))
            self._socket.connect(address)
            self._introduce()
            self._socket.settimeout(PATIENCE)
        except BaseException:
            self._socket.close()
            raise
        threading.Thread(target=self._read, name="manager", daemon=True).start()

    def close(self) -> None:
        """The thread sees that, and closes the socket."""
        self.is_over = True
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # it is over already

    def start(self, unit: str, properties: Sequence[Property], deadline: Deadline, *, is_awaited: bool) -> None:
        """As Manager's. Raises OSError, EOFError, queue.Empty too."""
        from jeepney import DBusAddress, new_method_call

        to = DBusAddress("/org/freedesktop/systemd1", "org.freedesktop.systemd1", "org.freedesktop.systemd1.Manager")
        content: tuple[object, ...] = (unit, "fail", list(properties), [])
        message = new_method_call(to, "StartTransientUnit", "ssa(sv)a(sa(sv))", content)
        replied: queue.Queue[Any] = queue.Queue()
        ended: queue.Queue[str] = queue.Queue()
        with self._lock:
            if self.is_over:  # nobody would say so any more
                raise EOFError
            self._serial += 1
            serial = self._serial
            self._replies[serial], self._jobs[unit] = replied, ended
        try:
            self._send(message.serialise(serial=serial))
            refusal = _gotten(replied, Deadline.after(deadline.at_most(PATIENCE)))
            if refusal:
                raise NotStarted(refusal)
            if is_awaited and (result := _gotten(ended, deadline)) != DONE:
                raise NotStarted(f"systemd says: {result}")
        finally:
            with self._lock:
                self._replies.pop(serial, None)
                self._jobs.pop(unit, None)

    def _send(self, message: bytes) -> None:
        with self._lock:
            try:
                self._socket.sendall(message)
            except OSError:  # perhaps a part of it has been sent
                self.is_over = True
                raise

    def _introduce(self) -> None:
        from jeepney.auth import BEGIN, AuthenticationError, Authenticator

        introduction = Authenticator()
        try:
            for said in introduction:
                self._socket.sendall(said)
                introduction.feed(self._socket.recv(CHUNK))
        except AuthenticationError as error:
            raise EOFError("it refused to be asked") from error
        self._socket.sendall(BEGIN)

    def _read(self) -> None:
        data = b""
        try:
            while True:
                try:
                    more = self._socket.recv(CHUNK)
                except TimeoutError:
                    continue
                if not more:
                    return
                messages, data = _cut(data + more)
                for message in messages:
                    self._take(message)
        except OSError:
            return
        finally:
            with self._lock:
                self.is_over = True
                self._socket.close()
                for waiting in (*self._replies.values(), *self._jobs.values()):
                    waiting.put(None)

    def _take(self, data: bytes) -> None:
        if data[1] == SIGNAL and b"JobRemoved" not in data:
            return  # it tells of every change of every unit; nobody needs to know what
        from jeepney import HeaderFields, MessageType, Parser

        (message,) = Parser().feed(data)
        kind, fields = message.header.message_type, message.header.fields
        with self._lock:
            if kind is MessageType.signal and fields.get(HeaderFields.member) == "JobRemoved":
                _, _, unit, result = message.body
                if unit in self._jobs:
                    self._jobs[unit].put(result)
            elif kind in (MessageType.method_return, MessageType.error):
                waiting = self._replies.get(fields.get(HeaderFields.reply_serial))
                if waiting is not None:
                    waiting.put(str(message.body[0]) if kind is MessageType.error else "")


def _gotten(source: queue.Queue[Any], deadline: Deadline) -> str:
    """What comes before the deadline. Raises queue.Empty, or EOFError at the end of the connection."""
    found = source.get(timeout=deadline.left())
    if found is None:
        raise EOFError
    return str(found)


def _cut(data: bytes) -> tuple[list[bytes], bytes]:
    """The whole messages in it, and what is left of one."""
    messages = []
    while len(data) >= struct.calcsize(HEAD):
        *_, body, _, fields = struct.unpack_from(f"{'<' if data[:1] == b'l' else '>'}{HEAD}", data)
        size = struct.calcsize(HEAD) + -(-fields // UNIT) * UNIT + body
        if len(data) < size:
            break
        messages.append(data[:size])
        data = data[size:]
    return messages, data
