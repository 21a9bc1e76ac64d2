"""The plugin under test, and what one test has to do with it."""

from __future__ import annotations

import secrets
import select
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from . import mountinfo
from .dialect import DOCKER, PODMAN, WITHOUT_ID, Dialect, Engine, go_json
from .gate import Gate
from .judge import Seen, universal
from .rawhttp import TIMEOUT, Connection, Reply

PREFIX = "lhtest"
T = TypeVar("T")


@dataclass(frozen=True)
class Plugin:
    """A plugin that listens on ``socket``, and for which ``opts`` make a volume that can be mounted.

    ``data`` is the directory of this machine that such a volume shows, where that is known; ``home`` the one
    below which the plugin keeps all it has. ``gated`` gives the options of a volume whose remote is behind that
    gate. What is None is not known of this plugin, and the cases that need it are skipped.
    """

    name: str
    socket: Path
    opts: Mapping[str, str]
    data: Path | None = None
    home: Path | None = None
    gated: Callable[[Gate], Mapping[str, str]] | None = None

    def __str__(self) -> str:
        return self.name


def new_id() -> str:
    """A mount ID as Docker makes them."""
    return secrets.token_hex(32)


def good(seen: Seen) -> dict[str, Any]:
    """What the engine got out of a call that has to succeed."""
    assert seen.ok, f"the engine sees an error: {seen.error} (status {seen.reply.status}, {seen.reply.body[:300]!r})"
    return seen.value


def refused(seen: Seen) -> str:
    """The error of a call that has to fail."""
    assert seen.error is not None, f"the engine sees a success: {seen.reply.body[:300]!r}"
    return seen.error


def mounted(seen: Seen) -> str:
    """The mountpoint of a Mount that has to succeed: absolute, and mounted exactly once at this moment."""
    path = good(seen)["Mountpoint"]
    assert isinstance(path, str)
    assert path.startswith("/"), f"an engine resolves a relative mountpoint against a directory of runc's: {path!r}"
    count = mountinfo.count(path)
    assert count == 1, f"Mount was answered, and {path} is mounted {count} times"
    return path


@dataclass
class Case:
    """One test: makes names of its own, remembers what it did, and cleans up."""

    plugin: Plugin
    _names: list[str] = field(default_factory=list)
    _holds: list[tuple[str, str]] = field(default_factory=list)
    _stack: ExitStack = field(default_factory=ExitStack)

    def engine(self, dialect: Dialect = DOCKER) -> Engine:
        """Another client of that kind, with a connection of its own."""
        engine = Engine(dialect, self.plugin.socket)
        self._stack.callback(engine.close)
        return engine

    @cached_property
    def docker(self) -> Engine:
        return self.engine(DOCKER)

    @cached_property
    def podman(self) -> Engine:
        return self.engine(PODMAN)

    def name(self, end: str = "") -> str:
        """A name no other volume has. A volume of that name is removed at the end."""
        name = f"{PREFIX}-{secrets.token_hex(5)}{end}"
        return self.owned(name)

    def owned(self, name: str) -> str:
        """The same for a name that has to be a certain one."""
        self._names.append(name)
        return name

    def volume(self, end: str = "") -> str:
        """A new volume that can be mounted."""
        name = self.name(end)
        good(self.docker.create(name, self.plugin.opts))
        return name

    def id(self, name: str) -> str:
        """A new mount ID; should it still hold the volume at the end, it is released."""
        mount_id = new_id()
        self._holds.append((name, mount_id))
        return mount_id

    def mount(self, name: str, mount_id: str | None = None) -> str:
        """Mount it the way Docker does; the mountpoint."""
        return mounted(self.docker.mount(name, mount_id or self.id(name)))

    def connection(self) -> Connection:
        return self.entered(Connection(self.plugin.socket))

    def entered(self, context: AbstractContextManager[T]) -> T:
        return self._stack.enter_context(context)

    def raw(self, data: bytes) -> Reply:
        """The reply to exactly these bytes, on a connection of their own."""
        with Connection(self.plugin.socket) as connection:
            reply = connection.exchange(data)
        universal(reply)
        return reply

    def together(self, calls: Sequence[tuple[str, Mapping[str, object]]]) -> list[Seen]:
        """All these VolumeDriver calls at once, each on its own connection; what Docker makes of the replies."""
        connections = [self.connection() for _ in calls]
        for connection, (method, message) in zip(connections, calls, strict=True):
            assert connection.send(self.docker.request(f"VolumeDriver.{method}", go_json(message)))
        seen: dict[int, Seen] = {}
        waiting = {connection.socket.fileno(): number for number, connection in enumerate(connections)}
        while waiting:  # each is read and closed as soon as its reply is there, as an engine's goroutines do
            ready = select.select(list(waiting), [], [], TIMEOUT)[0]
            assert ready, f"{len(waiting)} of {len(calls)} calls were not answered within {TIMEOUT} s"
            for descriptor in ready:
                number = waiting.pop(descriptor)
                reply = connections[number].receive()
                connections[number].close()
                universal(reply)
                seen[number] = DOCKER.sees(f"VolumeDriver.{calls[number][0]}", reply)
        return [seen[number] for number in range(len(calls))]

    def names_listed(self) -> list[str]:
        """The names of this test that the plugin has volumes of."""
        listed = [volume["Name"] for volume in good(self.docker.list())["Volumes"]]
        return [name for name in listed if name in self._names]

    def clean(self) -> None:
        """Release and remove all that this test made, and see that it is gone."""
        with self._stack:
            engine = self.engine()
            for name, mount_id in self._holds:
                engine.unmount(name, mount_id)
            for name in self._names:
                if engine.get(name).ok and not engine.remove(name).ok:
                    for dialect in (PODMAN, WITHOUT_ID):  # for a plugin that keeps a volume as long as it is held
                        self.engine(dialect).unmount(name)
                    good(engine.remove(name))
