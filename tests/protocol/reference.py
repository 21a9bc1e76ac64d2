"""The smallest volume plugin that does everything right: directories of this machine, bound to a mountpoint.

The second plugin under test. It shows that the cases ask nothing of legacyhost in particular, and its broken
relatives (broken.py) show that the cases notice. Volumes are kept in memory; mounting needs root.
"""

from __future__ import annotations

import json
import re
import socketserver
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

from . import mountinfo

Message = dict[str, Any]
BODY_LIMIT = 1 << 20


class Refusal(Exception):
    """An error reply."""

    def __init__(self, message: str, status: int = 500) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Volume:
    name: str
    opts: dict[str, str]
    mountpoint: Path
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat())
    holds: Counter[str] = field(default_factory=Counter)


class Reference:
    """The plugin itself: one method per RPC, JSON objects in and out."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.volumes: dict[str, Volume] = {}
        self.lock = threading.RLock()

    def answer(self, rpc: str, body: bytes) -> Message:
        calls: dict[str, Callable[[Message], Message]] = {
            "Plugin.Activate": self.activate, "VolumeDriver.Create": self.create, "VolumeDriver.Get": self.get,
            "VolumeDriver.List": self.list, "VolumeDriver.Remove": self.remove, "VolumeDriver.Mount": self.mount,
            "VolumeDriver.Unmount": self.unmount, "VolumeDriver.Path": self.path,
            "VolumeDriver.Capabilities": self.capabilities,
        }  # fmt: skip
        if rpc not in calls:
            raise Refusal("no such method", 404)
        with self.lock:
            return calls[rpc](self.request(body))

    def request(self, body: bytes) -> Message:
        try:
            value = json.loads(body.decode() or "{}")
        except (ValueError, RecursionError) as error:
            raise Refusal("the body is not JSON", 400) from error
        if not isinstance(value, dict | None):
            raise Refusal("the body is not an object", 400)
        return value or {}

    def name(self, ask: Message) -> str:
        name = ask.get("Name")
        valid = isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,254}", name, re.ASCII)
        if not valid or not isinstance(ask.get("ID", ""), str):
            raise Refusal("the request has no valid Name", 400)
        return str(name)

    def volume(self, ask: Message) -> Volume:
        if (name := self.name(ask)) not in self.volumes:
            raise Refusal(f"there is no volume {name}")
        return self.volumes[name]

    def activate(self, _ask: Message) -> Message:
        return {"Implements": ["VolumeDriver"]}

    def capabilities(self, _ask: Message) -> Message:
        return {"Capabilities": {"Scope": "local"}}

    def create(self, ask: Message) -> Message:
        name, opts = self.name(ask), ask.get("Opts") or {}
        known = self.volumes.get(name)
        if not isinstance(opts, dict) or not all(isinstance(value, str) for value in opts.values()):
            raise Refusal("Opts has to be an object of strings", 400)
        if known and opts not in ({}, known.opts):
            raise Refusal(f"volume {name} exists with other options")
        if known:
            return {}
        if unknown := set(opts) - {"dir"}:
            raise Refusal(f"there is no option {unknown}, only dir")
        if not opts.get("dir", "").startswith("/"):
            raise Refusal("the option dir is required, the absolute path of a directory")
        self.volumes[name] = Volume(name, opts, self.base / name)
        return {}

    def get(self, ask: Message) -> Message:
        volume = self.volume(ask)
        return {"Volume": {**self.shown(volume), "CreatedAt": volume.created, "Status": dict(volume.opts)}}

    def shown(self, volume: Volume) -> Message:
        return {"Name": volume.name, "Mountpoint": str(volume.mountpoint) if volume.holds.total() else ""}

    def list(self, _ask: Message) -> Message:
        return {"Volumes": [self.shown(volume) for volume in self.volumes.values()]}

    def path(self, ask: Message) -> Message:
        return {"Mountpoint": self.shown(self.volume(ask))["Mountpoint"]}

    def mount(self, ask: Message) -> Message:
        volume = self.volume(ask)
        if not mountinfo.count(str(volume.mountpoint)):
            self.attach(volume)
        volume.holds[ask.get("ID", "")] += 1
        return {"Mountpoint": str(volume.mountpoint)}

    def attach(self, volume: Volume) -> None:
        volume.mountpoint.mkdir(exist_ok=True)
        subprocess.run(["mount", "--bind", volume.opts["dir"], volume.mountpoint], check=True)

    def unmount(self, ask: Message) -> Message:
        volume = self.volumes.get(self.name(ask))
        if volume and volume.holds[mount_id := ask.get("ID", "")]:
            volume.holds[mount_id] -= 1
            if not volume.holds.total():
                self.detach(volume)
        return {}

    def remove(self, ask: Message) -> Message:
        volume = self.volume(ask)
        self.detach(volume)
        del self.volumes[volume.name]
        return {}

    def detach(self, volume: Volume) -> None:
        while mountinfo.count(str(volume.mountpoint)):
            subprocess.run(["umount", "--lazy", volume.mountpoint], check=True)
        with suppress(OSError):
            volume.mountpoint.rmdir()


class Handler(BaseHTTPRequestHandler):
    """HTTP around a Reference; whatever goes wrong is answered with Err."""

    protocol_version = "HTTP/1.1"
    plugin: ClassVar[Reference]

    def do_POST(self) -> None:
        announced = self.headers.get("Content-Length") or "0"
        length = int(announced) if announced.isdecimal() else -1
        if not 0 <= length <= BODY_LIMIT:
            self.send_error(413, "the body is too large, or of no length")
            return
        try:
            status, value = 200, self.plugin.answer(self.path.removeprefix("/"), self.rfile.read(length))
        except Refusal as refusal:
            status, value = refusal.status, {"Err": str(refusal)}
        self.reply(status, value)

    def reply(self, status: int, value: Message) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(data)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        self.close_connection = True
        self.reply(405 if code == 501 else code, {"Err": message or "the request cannot be understood"})

    def log_message(self, *_: object) -> None:
        """Nothing: the tests say what was asked and answered."""


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 512

    def handle_error(self, request: object, client_address: object) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # a caller may leave when it likes
            super().handle_error(request, client_address)  # type: ignore[arg-type]


@contextmanager
def serving(plugin: Reference, socket_path: Path, handler: type[Handler] = Handler) -> Iterator[None]:
    """Serve that plugin on that socket, in threads of this process."""
    bound = type("BoundHandler", (handler,), {"plugin": plugin})
    with Server(str(socket_path), bound) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()
            for path in mountinfo.below(plugin.base):
                subprocess.run(["umount", "--lazy", path], check=True)
            socket_path.unlink()
