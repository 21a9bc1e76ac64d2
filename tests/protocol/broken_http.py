"""Plugins whose volumes are right and whose HTTP is wrong, each in one thing."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler
from typing import ClassVar

from .reference import Handler, Message, Refusal


class ErrWith200(Handler):
    """Flocker: errors with status 200, which podman takes for success."""

    def reply(self, status: int, value: Message) -> None:
        super().reply(200 if "Err" in value and status == 500 else status, value)


class EmptyErr(Handler):
    """``"Err": ""`` in a success, which Docker 1.7 cannot decode."""

    def reply(self, status: int, value: Message) -> None:
        super().reply(status, {"Err": "", **value})


class PlainErrors(Handler):
    """rclone: unknown paths and bad JSON are answered in plain text."""

    def reply(self, status: int, value: Message) -> None:
        if status in (400, 404, 405):
            self.close_connection = True
            BaseHTTPRequestHandler.send_error(self, status)
        else:
            super().reply(status, value)


class JsonOnly(Handler):
    """falcon's own way: 415 for a Content-Type it does not know, podman's."""

    def do_POST(self) -> None:
        if "vnd.docker" in (self.headers.get("Content-Type") or ""):
            self.send_error(415, "unsupported media type")
        else:
            super().do_POST()


class NeedsHost(Handler):
    """A strict server: no empty Host, no path as Host."""

    def do_POST(self) -> None:
        if not (self.headers.get("Host") or "").replace(".", "").isalnum():
            self.send_error(400, "invalid Host")
        else:
            super().do_POST()


class HangsUp(Handler):
    """Ends the connection after each reply without saying so."""

    def do_POST(self) -> None:
        super().do_POST()
        self.close_connection = True


class NoContent(Handler):
    """REST habits: 204 for a success without a value."""

    def reply(self, status: int, value: Message) -> None:
        if value:
            super().reply(status, value)
        else:
            self.send_response(204)
            self.send_header("Content-Length", "0")
            self.end_headers()


class OneAtATime(Handler):
    """gunicorn's sync worker: an idle connection keeps everybody else out."""

    turn: ClassVar[threading.Lock] = threading.Lock()

    def handle(self) -> None:
        if not self.turn.acquire(timeout=8):
            return
        try:
            super().handle()
        finally:
            self.turn.release()


class WaitsInLine(Handler):
    """Ten milliseconds for each call, one after the other... times two hundred."""

    def reply(self, status: int, value: Message) -> None:
        with OneAtATime.turn:
            time.sleep(0.03)
        super().reply(status, value)


class NoLimit(Handler):
    """Reads and does whatever comes, however much."""

    def do_POST(self) -> None:
        try:
            value = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            value.get("Opts", {}).pop("comment", None)
            self.reply(200, self.plugin.answer(self.path[1:], json.dumps(value).encode()))
        except Refusal as refusal:
            self.reply(500, {"Err": str(refusal)})
