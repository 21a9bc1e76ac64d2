"""What is taken for a plain request, and that it is understood, and answered, as gunicorn does it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from gunicorn import http
from gunicorn.config import Config
from gunicorn.http import wsgi

from legacyhost import plain
from legacyhost.web import NotServingPlugin, create_app

CONFIG = Config()
SERVER = "/run/docker/plugins/foo.sock"
BODY = b'{"Name":"data"}\n'


def request(*lines: bytes, start: bytes = b"POST /VolumeDriver.Get HTTP/1.1", body: bytes = BODY) -> bytes:
    return b"\r\n".join([start, *lines, b"", body])


LENGTH = b"Content-Length: 16"
#: As the engines send them, a browser's idea of it, and what a person types.
PLAIN = {
    "docker": request(
        b"Host: plugin.moby.localhost",
        b"User-Agent: Go-http-client/1.1",
        LENGTH,
        b"Accept: application/vnd.docker.plugins.v1.2+json",
    ),
    "docker 20": request(b"Host: ", b"User-Agent: Go-http-client/1.1", LENGTH, b"Accept: application/json"),
    "docker 1.7": request(b"Host: /run/docker/plugins/foo.sock", b"User-Agent: Go 1.1 package http", LENGTH),
    "podman": request(b"Host: plugin", LENGTH, b"Content-Type: application/vnd.docker.plugins.v1.1+json"),
    "kept": request(b"host:x", b"connection:  Keep-Alive ", b"content-length:16"),
    "closed": request(b"Host: x", b"Connection: close", LENGTH),
    "nothing": request(b"Host: x", b"Content-Length: 0", body=b""),
    "only a length": request(LENGTH),
    "with a query": request(b"Host: x:1", LENGTH, start=b"POST /a%20b?c=d HTTP/1.1"),
}
#: What must be gunicorn's: it has more than one meaning, or a part in what follows, or nothing of it is usual.
OTHER = {
    "two lengths": request(LENGTH, LENGTH),
    "two different lengths": request(LENGTH, b"Content-Length: 3"),
    "a list of lengths": request(b"Content-Length: 16, 16"),
    "a length with a sign": request(b"Content-Length: +16"),
    "a negative length": request(b"Content-Length: -1"),
    "a length as Python has them": request(b"Content-Length: 1_6"),
    "a length in other digits": request("Content-Length: ١٦".encode()),
    "a length in latin digits": request(b"Content-Length: \xb9"),
    "a length in hexadecimal": request(b"Content-Length: 0x10"),
    "an empty length": request(b"Content-Length: "),
    "no length": request(b"Host: x"),
    "chunked": request(b"Transfer-Encoding: chunked", body=b"10\r\n" + BODY + b"\r\n0\r\n\r\n"),
    "chunked with a length": request(b"Transfer-Encoding: chunked", LENGTH),
    "identity": request(b"Transfer-Encoding: identity", LENGTH),
    "another coding": request(b"Transfer-Encoding: xchunked", LENGTH),
    "a space before the colon": request(b"Content-Length : 16", LENGTH),
    "a tab": request(b"Host:\tx", LENGTH),
    "not ASCII": request(b"Host: \xe9", LENGTH),
    "a folded line": request(b"Host: x", b" y", b"X: y", LENGTH),
    "a folded length": request(b"Content-Length:", b" 16", b"X: y"),
    "expects to be asked": request(b"Expect: 100-continue", LENGTH),
    "an upgrade": request(b"Connection: upgrade", b"Upgrade: h2c", LENGTH),
    "two connections": request(b"Connection: close", b"Connection: keep-alive", LENGTH),
    "a header of its own": request(b"Traceparent: 00-1", LENGTH),
    "an underscore": request(b"Content_Length: 3", LENGTH),
    "a script": request(b"Script-Name: /a", LENGTH),
    "a line feed alone": request(b"Host: x\nContent-Length: 3", LENGTH),
    "line feeds alone": request(b"Host: x", LENGTH).replace(b"\r\n", b"\n"),
    "an end of line alone": request(b"Host: x\rContent-Length: 3", LENGTH),
    "no name": request(b": x", LENGTH),
    "no colon": request(b"Host", LENGTH),
    "an empty line before it": b"\r\n" + request(LENGTH),
    "1.0": request(LENGTH, start=b"POST / HTTP/1.0"),
    "2.0": request(LENGTH, start=b"POST / HTTP/2.0"),
    "GET": request(LENGTH, start=b"GET / HTTP/1.1"),
    "HEAD": request(LENGTH, start=b"HEAD / HTTP/1.1"),
    "no version": request(LENGTH, start=b"POST /"),
    "no method": request(LENGTH, start=b"/ HTTP/1.1"),
    "nonsense": b"nonsense\r\n\r\n",
    "an end alone": b"\r\n\r\n",
    "long": request(b"Host: " + b"x" * plain.LONGEST, LENGTH),
}


def environment(data: bytes) -> dict[str, object]:
    """What gunicorn makes of it by itself; without what is another object each time."""
    parsed = next(http.RequestParser(CONFIG, iter([data]), ""))
    _, environ = wsgi.create(parsed, None, "", SERVER, CONFIG)
    return {**_lasting(environ), "body": parsed.body.read()}


def _lasting(environ: dict[str, Any]) -> dict[str, object]:
    return {key: value for key, value in environ.items() if key not in {*plain.OF_ONE, "wsgi.errors"}}


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_request_means_what_gunicorn_says(name: str) -> None:
    """Seen for the first time or again, alone or with something behind it."""
    data = PLAIN[name]
    for behind in (b"", b"", b"x", data, b"\r\n\r\n"):
        found = plain.whole(CONFIG, data + behind, SERVER)
        assert found is not None
        assert found.rest == behind
        assert {**_lasting(dict(found.head.environ)), "body": found.body} == environment(data)
        assert found.head.asks_to_be_kept == (name == "kept")


@pytest.mark.parametrize("name", PLAIN)
def test_what_is_not_all_there_is_not_plain_yet(name: str) -> None:
    """Wherever it is cut."""
    data = PLAIN[name]
    assert plain.whole(CONFIG, data, SERVER) is not None
    for length in range(len(data)):
        assert plain.whole(CONFIG, data[:length], SERVER) is None, length


@pytest.mark.parametrize("name", OTHER)
def test_what_is_not_plain_is_left_to_gunicorn(name: str) -> None:
    """Seen for the first time or again."""
    for behind in (b"", b"", PLAIN["kept"]):
        assert plain.whole(CONFIG, OTHER[name] + behind, SERVER) is None


def test_any_change_of_a_head_is_another_head() -> None:
    """Whatever one byte becomes: it is left to gunicorn, or means what that says."""
    data = PLAIN["kept"]
    end = data.index(plain.END)
    for at in range(end + len(plain.END)):
        for byte in b"\0\t\n\r 0,:;_aZ\x7f\x80\xff":
            changed = data[:at] + bytes([byte]) + data[at + 1 :]
            found = plain.whole(CONFIG, changed, SERVER)
            if found is not None:
                seen = {**_lasting(dict(found.head.environ)), "body": found.body}
                assert seen == environment(changed), changed


def test_a_head_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the body is, and whichever connection it comes on."""
    assert plain.whole(CONFIG, PLAIN["docker"], SERVER)
    monkeypatch.setattr("legacyhost.plain.http", None)
    found = plain.whole(CONFIG, PLAIN["docker"].replace(b"data", b"else"), SERVER)
    assert found is not None
    assert found.body == BODY.replace(b"data", b"else")


def test_what_one_request_leaves_in_its_environment_is_not_in_the_next() -> None:
    """What the application does with it is its own affair."""
    seen: list[dict[str, Any]] = []

    def app(environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        seen.append(dict(environ))
        environ["HTTP_HOST"] = environ["left"] = "changed"
        start_response("200 OK", [])
        return [environ["wsgi.input"].read()]

    for _ in range(2):
        found = plain.whole(CONFIG, PLAIN["podman"], SERVER)
        assert found is not None
        assert plain.reply(app, found, is_kept=False).endswith(BODY)
    assert _lasting(seen[0]) == _lasting(seen[1])


class Sent(io.BytesIO):
    """In place of a socket."""

    def sendall(self, data: bytes) -> None:
        self.write(data)


def _parts(reply: bytes) -> tuple[bytes, dict[bytes, bytes], bytes]:
    head, _, content = reply.partition(b"\r\n\r\n")
    status, *lines = head.split(b"\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in lines)
    assert len(fields) == len(lines)
    assert fields.pop(b"date").endswith(b" gmt")
    return status, fields, content


@pytest.mark.parametrize("is_kept", [True, False])
def test_a_reply_is_what_gunicorn_would_send(is_kept: bool) -> None:
    """The same status, headers and content."""
    app = create_app(lambda: NotServingPlugin("foo", "it is starting"))
    data = PLAIN["kept"].replace(b"VolumeDriver.Get", b"Plugin.Activate")
    found = plain.whole(CONFIG, data, SERVER)
    assert found is not None
    sent = Sent()
    parsed = next(http.RequestParser(CONFIG, iter([data]), ""))
    response, environ = wsgi.create(parsed, sent, "", SERVER, CONFIG)
    if not is_kept:
        response.force_close()
    for part in app(environ, response.start_response):
        response.write(part)
    response.close()
    assert _parts(plain.reply(app, found, is_kept=is_kept)) == _parts(sent.getvalue())
