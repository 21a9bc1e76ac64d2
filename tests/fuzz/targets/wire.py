"""A request as it comes from a socket: ``METHOD PATH``, lines of headers, an empty line, the body."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_to_bytes

from drivers import sshfs_driver

from fuzz.target import Target, judge
from legacyhost.errors import NoSuchVolume
from legacyhost.names import check_volume_name
from legacyhost.rpc import Plugin
from legacyhost.surfaces import volume
from legacyhost.surfaces.volume import VolumeInfo
from legacyhost.web import CONTENT_TYPE, create_app
from legacyhost.wire import parse

#: HTTP statuses: success, a wrong request, no such method, not POST, too large, all that can fail.
DOCUMENTED = {200, 400, 404, 405, 413, 500}
CREATED = datetime(2024, 2, 29, tzinfo=UTC)


class Shelf:
    """Volumes without anything behind them; ``data`` is there. Names and options are checked as everywhere."""

    scope = "local"
    driver = sshfs_driver()

    def create(self, name: str, options: Mapping[str, str]) -> None:
        check_volume_name(name)
        self.driver.parse(name, options)

    def remove(self, name: str) -> None:
        self.get(name)

    def mount(self, name: str, mount_id: str) -> str:
        assert isinstance(mount_id, str)
        return self.path(name)

    def unmount(self, name: str, mount_id: str) -> None:
        self.mount(name, mount_id)

    def path(self, name: str) -> str:
        return self.get(name).mountpoint

    def get(self, name: str) -> VolumeInfo:
        check_volume_name(name)
        if name != "data":
            raise NoSuchVolume(f"there is no volume {name}")
        return VolumeInfo(name, f"/mounts/{name}", CREATED, {"state": "mounted"})

    def list(self) -> Sequence[tuple[str, str]]:
        return [("data", "/mounts/data")]

    def activated(self) -> None:
        """Nothing is left of an engine here."""


class Journal(logging.Handler):
    """What is logged; a line of a request's own making would be one more."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1]:
            raise record.exc_info[1]  # a defect: what it was, not that there was one
        self.lines.append(record.getMessage())


JOURNAL = Journal()
PLUGIN = Plugin("test", [(volume.SURFACE, Shelf())])
APP = create_app(lambda: PLUGIN)


def check(data: bytes) -> None:
    """Any request is answered, in the one form that every engine understands; or hung up on, where that is said."""
    logger = logging.getLogger("legacyhost")
    before = logger.handlers, logger.propagate, logger.level
    logger.handlers, logger.propagate = [JOURNAL], False
    logger.setLevel(logging.DEBUG)
    JOURNAL.lines.clear()
    try:
        _ask(data)
    finally:
        logger.handlers, logger.propagate = before[0], before[1]
        logger.setLevel(before[2])
    for line in JOURNAL.lines:
        judge(line, data)


def _ask(data: bytes) -> None:
    environ = environment(data)
    answered: dict[str, Any] = {}

    def start_response(status: str, headers: list[tuple[str, str]], _error: object = None) -> None:
        answered.update(status=int(status.split()[0]), headers={name.lower(): value for name, value in headers})

    try:
        content = b"".join(APP(environ, start_response))
    except ConnectionResetError:
        # A Get that was repeated without its content gets no answer.
        assert environ["PATH_INFO"].lstrip("/") == "VolumeDriver.Get"
        assert parse(environ["wsgi.input"].getvalue()).is_empty
        return
    status, headers = answered["status"], answered["headers"]
    assert status in DOCUMENTED, status
    if environ["REQUEST_METHOD"] == "HEAD":
        assert (status in (404, 405), content) == (True, b"")
        return
    assert headers["content-type"] == CONTENT_TYPE
    assert headers["content-length"] == str(len(content))
    reply = json.loads(content.decode("ascii"))
    assert content.endswith(b"}\n")
    assert content.count(b"\n") == 1
    if status == 200:
        assert "Err" not in reply
        return
    assert set(reply) == {"Err"}
    judge(reply["Err"], data)
    if status == 500:
        assert "there is no volume" in reply["Err"], reply  # nothing else can fail here
    if status == 404 and environ["PATH_INFO"].startswith("/"):
        assert "has no method" in reply["Err"]


def environment(data: bytes) -> dict[str, Any]:
    """PEP 3333, as gunicorn has it; more is let through than there."""
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.decode("latin-1").split("\n")
    method, _, target = first.partition(" ")
    path, _, query = target.partition("?")
    environ: dict[str, Any] = {
        "REQUEST_METHOD": method or "POST",
        "PATH_INFO": unquote_to_bytes(path.encode("latin-1")).decode("latin-1"),
        "QUERY_STRING": query,
        "SCRIPT_NAME": "",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "",
        "SERVER_PORT": "",
        "REMOTE_ADDR": "",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
    }
    for line in lines:
        name, colon, value = line.partition(":")
        if colon and re.fullmatch(r"[!#-'*+.0-9A-Z^-z|~-]+", name):  # RFC 9110, 5.6.2
            key = name.upper().replace("-", "_")
            environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value.strip()
    return environ


METHODS = (*(f"VolumeDriver.{name}" for name in volume.SURFACE.methods), "Plugin.Activate", "health", "AuthZPlugin.Res")
TARGET = Target(
    "wire",
    check,
    words=[
        *(f"POST /{name}\n\n".encode() for name in METHODS),
        *b"GET ~HEAD ~OPTIONS ~%00~%ff~%0a~?a=1&a=2~Accept: x\n~Host:\n~Range: x\n~Expect: 100\n~Cookie: a=b;c\n".split(
            b"~"
        ),
        *b"Content-Type: multipart/form-data\n~Content-Length: -1\n~{}~[]~[[[[~\xef\xbb\xbf~\xed\xa0".split(b"~"),
        *b'"Name":~"Opts":~"ID":~null~true~1e999~NaN~-0~"\\ud800"~"\\u0000\\n"~"port":"~"password":"'.split(b"~"),
        *b'"sshcmd":"~"ProxyCommand":"'.split(b"~"),
    ],
)
