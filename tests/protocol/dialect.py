"""How each engine speaks, as data: headers, bodies, which methods it knows, and how it reads a reply."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .judge import Seen, Version, docker_sees, podman_sees, universal
from .rawhttp import Connection, Reply

#: Podman counts for itself and uses this one ID for every mount (podman libpod/volume_internal.go).
PODMAN_ID = "2f73349cfc4630255319c6c8dfc1b46a8996ace9d14d8e07563b165915918ec2"
METHODS = frozenset({"Create", "Remove", "Mount", "Unmount", "Path", "Get", "List", "Capabilities"})


def go_json(value: object) -> bytes:
    """What Go's json.Encoder writes: compact, a line feed at the end, & < > escaped, the rest UTF-8.

    Go cannot send half a surrogate pair; here it stays escaped.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "&<>\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode("utf-8", "backslashreplace") + b"\n"


@dataclass(frozen=True)
class Dialect:
    """One engine. ``host`` None is the socket's path; ``accept`` and ``content_type`` None are not sent."""

    name: str
    version: Version
    host: str | None
    accept: str | None
    content_type: str | None = None
    is_podman: bool = False

    def __str__(self) -> str:
        return self.name

    @property
    def activate_body(self) -> bytes:
        return b"null\n" if self.version < (1, 10) else b""

    @property
    def empty_body(self) -> bytes:
        """The body of a call without arguments."""
        return b"" if self.is_podman else b"{}\n"

    @property
    def sends_opts(self) -> bool:
        return self.version >= (1, 9)

    @property
    def sends_id(self) -> bool:
        return self.version >= (1, 12)

    def knows(self, method: str) -> bool:
        if self.is_podman:
            return method in METHODS - {"Path", "Capabilities"}
        since = {"Get": (1, 10), "List": (1, 10), "Capabilities": (1, 12)}
        return method in METHODS and self.version >= since.get(method, (1, 7))

    def request(self, socket_path: Path, rpc: str, body: bytes) -> bytes:
        """The whole request as Go's net/http writes it: Host, User-Agent, length, then the rest in order."""
        host = str(socket_path) if self.host is None else self.host
        lines = [f"POST /{rpc} HTTP/1.1", f"Host: {host}", "User-Agent: Go-http-client/1.1"]
        lines.append(f"Content-Length: {len(body)}")
        if self.accept is not None:
            lines.append(f"Accept: {self.accept}")
        if self.content_type is not None:
            lines.append(f"Content-Type: {self.content_type}")
        return "\r\n".join([*lines, "", ""]).encode() + body

    def sees(self, rpc: str, reply: Reply) -> Seen:
        return podman_sees(rpc, reply) if self.is_podman else docker_sees(rpc, reply, self.version)


_V1, _V1_1, _V1_2 = (f"application/vnd.docker.plugins.{version}+json" for version in ("v1", "v1.1", "v1.2"))

DIALECTS = (
    Dialect("docker-1.7", (1, 7), None, _V1),
    Dialect("docker-1.8", (1, 8), None, _V1),
    Dialect("docker-1.9", (1, 9), None, _V1_1),
    Dialect("docker-1.10", (1, 10), "", _V1_2),
    Dialect("docker-1.12", (1, 12), "", _V1_2),
    Dialect("docker-17.09", (17, 9), "", _V1_2),
    Dialect("docker-20.10", (20, 10), "", _V1_2),
    Dialect("docker-25", (25, 0), "plugin.moby.localhost", _V1_2),
    Dialect("docker-29", (29, 7), "plugin.moby.localhost", _V1_2),
    Dialect("podman", (99, 0), "plugin", None, content_type=_V1_1, is_podman=True),
)
DOCKER = next(dialect for dialect in DIALECTS if dialect.name == "docker-29")
PODMAN = next(dialect for dialect in DIALECTS if dialect.is_podman)
WITHOUT_ID = next(dialect for dialect in DIALECTS if dialect.name == "docker-1.10")


class Engine:
    """An engine that talks to one plugin, over one connection as long as the plugin keeps it."""

    def __init__(self, dialect: Dialect, socket_path: Path) -> None:
        self.dialect = dialect
        self.socket_path = socket_path
        self._connection: Connection | None = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def request(self, rpc: str, body: bytes) -> bytes:
        return self.dialect.request(self.socket_path, rpc, body)

    def call(self, rpc: str, body: bytes = b"") -> Reply:
        """One call with exactly that body. What has to hold for every reply is checked here."""
        if self._connection is not None and self._connection.is_closed_by_plugin():
            self.close()
        connection = self._connection or Connection(self.socket_path)
        self._connection = connection
        try:
            reply = connection.exchange(self.request(rpc, body))
        except BaseException:
            self.close()
            raise
        if reply.ends_connection:
            self.close()
        universal(reply)
        return reply

    def ask(self, method: str, message: Mapping[str, object] | None = None) -> Seen:
        """One VolumeDriver call; None is a call without arguments."""
        rpc = f"VolumeDriver.{method}"
        reply = self.call(rpc, self.dialect.empty_body if message is None else go_json(message))
        assert reply.status != 404, f"404 means to an engine that there is no such method, and {rpc} is one"
        return self.dialect.sees(rpc, reply)

    def activate(self) -> Seen:
        rpc = "Plugin.Activate"
        return self.dialect.sees(rpc, self.call(rpc, self.dialect.activate_body))

    def create(self, name: str, opts: Mapping[str, str] | None = None) -> Seen:
        message: dict[str, object] = {"Name": name}
        if self.dialect.sends_opts and (opts or not self.dialect.is_podman):
            message["Opts"] = dict(sorted(opts.items())) if opts else None
        return self.ask("Create", message)

    def mount(self, name: str, mount_id: str = PODMAN_ID) -> Seen:
        return self.ask("Mount", self._hold(name, mount_id))

    def unmount(self, name: str, mount_id: str = PODMAN_ID) -> Seen:
        return self.ask("Unmount", self._hold(name, mount_id))

    def remove(self, name: str) -> Seen:
        return self.ask("Remove", {"Name": name})

    def get(self, name: str) -> Seen:
        return self.ask("Get", {"Name": name})

    def path(self, name: str) -> Seen:
        return self.ask("Path", {"Name": name})

    def list(self) -> Seen:
        return self.ask("List")

    def capabilities(self) -> Seen:
        return self.ask("Capabilities")

    def _hold(self, name: str, mount_id: str) -> dict[str, object]:
        if not self.dialect.sends_id:
            return {"Name": name}
        return {"Name": name, "ID": PODMAN_ID if self.dialect.is_podman else mount_id}
