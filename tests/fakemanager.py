"""PID 1's private socket, as far as legacyhost knows it: what it is asked for, and what a test wants it to do."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from jeepney import DBusAddress, HeaderFields, Message, Parser, new_error, new_method_return, new_signal

_numbers = itertools.count(1)
MANAGER = DBusAddress("/org/freedesktop/systemd1", interface="org.freedesktop.systemd1.Manager")


@dataclass
class Unit:
    """What was asked for. Of a property given more than once all values are there, in order."""

    name: str
    properties: Mapping[str, list[Any]]

    def value(self, name: str) -> Any:
        (found,) = self.properties[name]
        return found

    @property
    def argv(self) -> list[str]:
        ((_, argv, _),) = self.value("ExecStart")
        return list(argv)

    def step(self, name: str) -> list[str]:
        """The command before or after the program."""
        ((_, argv, _),) = self.value(name)
        return list(argv)


@dataclass
class Asked:
    """One call, and the ways to answer it; what is sent goes out in pieces of so many bytes."""

    unit: Unit
    message: Message
    connection: socket.socket
    piece: int = 1 << 16

    def reply(self) -> None:
        self._send(new_method_return(self.message, "o", (f"/org/freedesktop/systemd1/job/{next(_numbers)}",)))

    def refuse(self, text: str) -> None:
        self._send(new_error(self.message, "org.freedesktop.DBus.Error.InvalidArgs", "s", (text,)))

    def end(self, result: str, unit: str = "") -> None:
        """The unit's job, or that of another, has ended."""
        body = (7, "/org/freedesktop/systemd1/job/7", unit or self.unit.name, result)
        self._send(new_signal(MANAGER, "JobRemoved", "uoss", body))

    def tell(self, name: str) -> None:
        """Something else has happened to some unit."""
        self._send(new_signal(MANAGER, name, "so", ("other.service", "/org/freedesktop/systemd1/unit/other")))

    def _send(self, message: Message) -> None:
        data = message.serialise(serial=next(_numbers))
        for begin in range(0, len(data), self.piece):
            self.connection.sendall(data[begin : begin + self.piece])


def started(asked: Asked) -> None:
    """What is asked for is there at once."""
    asked.reply()
    asked.end("done")


@dataclass
class FakeManager:
    """``answer`` is called for each unit, each in a thread of its own."""

    answer: Callable[[Asked], None] = started
    introduction: bytes = b"OK 0123456789abcdef0123456789abcdef\r\n"
    units: list[Unit] = field(default_factory=list)
    #: How many connections there have been; set when the last one of them has ended.
    connections: int = 0
    is_alone: threading.Event = field(default_factory=threading.Event)

    def serve(self, connection: socket.socket) -> None:
        self.is_alone.clear()
        with connection:
            said = b""
            while not said.endswith(b"\r\n"):
                said += connection.recv(1)
            assert said.startswith(b"\0AUTH EXTERNAL ")
            connection.sendall(self.introduction)
            begun = b""
            while not begun.endswith(b"\r\n") and (more := connection.recv(1)):
                begun += more
            parser = Parser()
            while begun == b"BEGIN\r\n" and (data := connection.recv(1 << 16)):
                for message in parser.feed(data):
                    assert message.header.fields[HeaderFields.member] == "StartTransientUnit"
                    name, mode, listed, others = message.body
                    assert (mode, others) == ("fail", [])
                    properties: dict[str, list[Any]] = {}
                    for key, (_, value) in listed:
                        properties.setdefault(key, []).append(value)
                    self.units.append(Unit(name, properties))
                    asked = Asked(self.units[-1], message, connection)
                    threading.Thread(target=self.answer, args=(asked,), daemon=True).start()
        self.is_alone.set()


@contextmanager
def listening(manager: FakeManager) -> Iterator[str]:
    """Returns the address."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("")  # the kernel chooses (unix(7))
        listener.listen()

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                manager.connections += 1
                threading.Thread(target=manager.serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        try:
            yield listener.getsockname().decode()
        finally:
            listener.shutdown(socket.SHUT_RDWR)
