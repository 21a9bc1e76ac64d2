"""The HTTP side of a plugin: the only door to falcon.

Every reply is JSON, an error always has the key Err and a status other than 200: that is the one form which
Docker 1.10 to 29 and Podman 3 to 6 all take for an error.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from types import NoneType
from typing import Protocol

import falcon

from legacyhost import log, wire
from legacyhost.errors import InvalidRequest, NoSuchVolume, NotServing, PluginError, TooLarge
from legacyhost.rpc import ACTIVATE, Reply, plain_error

CONTENT_TYPE = "application/vnd.docker.plugins.v1.2+json"
HEALTH = "/health"


class Callee(Protocol):
    """What answers the calls: a plugin, or what stands in for one that cannot serve."""

    @property
    def name(self) -> str: ...
    def call(self, rpc: str, body: bytes) -> Reply: ...
    def activated(self, *, is_here: bool = True) -> None: ...
    def error(self, rpc: str, message: str) -> Reply: ...
    def body_limit(self, rpc: str) -> int: ...
    def is_quiet(self, rpc: str) -> bool: ...


class NotServingPlugin:
    """Stands in for a plugin whose configuration or state cannot be read.

    The handshake is answered with the reason (Docker passes it on and asks again next time); every other call
    ends without a reply, since Docker would take an answer for "that volume is gone".
    """

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason

    def call(self, rpc: str, body: bytes) -> Reply:
        if rpc == ACTIVATE:
            raise PluginError(f"plugin {self.name} is not serving: {self.reason}")
        raise NotServing(self.reason)

    def activated(self, *, is_here: bool = True) -> None:
        """There is nothing here that an engine could have left."""

    def error(self, rpc: str, message: str) -> Reply:
        return plain_error(message)

    def body_limit(self, rpc: str) -> int:
        return wire.BODY_LIMIT

    def is_quiet(self, rpc: str) -> bool:
        return False  # that nothing is answered is worth a line


class _Endpoint:
    def __init__(self, current: Callable[[], Callee]) -> None:
        self._current = current

    def answer(self, request: falcon.Request, response: falcon.Response) -> None:
        plugin = self._current()
        if request.method == "GET" and request.path == HEALTH:
            _reply(response, 503 if isinstance(plugin, NotServingPlugin) else 200, {})
            return
        rpc = request.path.lstrip("/")
        if request.method != "POST":
            response.set_header("Allow", "POST")
            _reply(
                response, 405, plugin.error(rpc, f"a plugin is called with POST, not {wire.printable(request.method)}")
            )
            return
        begin = time.monotonic()
        body = b""
        error: PluginError | None = None
        status = 500
        try:
            body = _read(request, plugin.body_limit(rpc))
            reply = plugin.call(rpc, body)
            # Docker's daemon introduces itself when it starts, and says what it accepts; each podman does so, and is no
            # reason to doubt what others hold.
            if rpc == ACTIVATE and request.get_header("Accept"):
                plugin.activated()
            status = 200
        except PluginError as caught:
            if isinstance(caught, NotServing):
                _log(plugin, rpc, body, begin, caught)
                raise
            error, status = caught, caught.status
            reply = plugin.error(rpc, caught.message)
        except Exception:  # noqa: BLE001 - the last boundary: a defect becomes a reply and a traceback in the journal
            log.exception("plugin %s: a defect in legacyhost while answering %s", plugin.name, wire.printable(rpc))
            reply = plugin.error(
                rpc, f"a defect in legacyhost; its journal has the details: journalctl -u legacyhost@{plugin.name}"
            )
        _reply(response, status, reply)
        _log(plugin, rpc, body, begin, error)


def create_app(current: Callable[[], Callee]) -> falcon.App:
    """The WSGI application. ``current`` is asked at each call which plugin answers."""
    app = falcon.App(media_type=CONTENT_TYPE)
    endpoint = _Endpoint(current)

    def sink(request: falcon.Request, response: falcon.Response, **_: object) -> None:
        endpoint.answer(request, response)

    app.add_sink(sink, prefix="/")
    app.set_error_serializer(_serialize_error)
    app.add_error_handler(NotServing, _hang_up)
    return app


def _read(request: falcon.Request, limit: int) -> bytes:
    try:
        body: bytes = request.stream.read(limit + 1)
    except OSError as error:
        raise InvalidRequest("the body of the request cannot be read") from error
    if len(body) > limit:
        raise TooLarge(f"the body of the request has more than {limit} bytes")
    return body


def _reply(response: falcon.Response, status: int, body: Reply) -> None:
    response.status = falcon.code_to_http_status(status)
    response.content_type = CONTENT_TYPE
    response.data = wire.render(body)


def _serialize_error(_request: falcon.Request, response: falcon.Response, error: falcon.HTTPError) -> None:
    """What falcon itself refuses (an impossible method, a broken header) in the same form as the rest."""
    _reply(response, int(str(error.status)[:3]), plain_error(error.title or "the request cannot be understood"))


def _hang_up(_request: falcon.Request, _response: falcon.Response, error: NotServing, _params: object) -> None:
    """End the connection without a reply: the server takes this for a client that went away, and closes."""
    raise ConnectionResetError(errno.ECONNRESET, "not serving") from error


def _log(plugin: Callee, rpc: str, body: bytes, begin: float, error: PluginError | None) -> None:
    is_quiet = plugin.is_quiet(rpc) and isinstance(error, NoSuchVolume | InvalidRequest | NoneType)
    level = log.DEBUG if is_quiet else log.WARNING if error else log.INFO
    if not log.is_enabled(level):
        return
    milliseconds = round((time.monotonic() - begin) * 1000)
    fields = {"PLUGIN": plugin.name, "RPC": wire.printable(rpc), "DURATION_MS": str(milliseconds)}
    try:
        ask = wire.parse(body)
        volume, mount_id = ask.optional_text("Name"), ask.optional_text("ID")
    except PluginError:
        volume = mount_id = ""  # the reply says what is wrong with the body
    if volume:
        fields["VOLUME"] = wire.printable(volume, 255)
    if mount_id:
        fields["MOUNT_ID"] = wire.printable(mount_id)
    subject = f"{fields['RPC']} {fields['VOLUME']}" if volume else fields["RPC"]
    outcome = f"failed: {error.message}" if error else "done"
    log.event(level, f"{subject} {outcome} ({milliseconds} ms)", fields)
