"""HTTP as it comes over the socket: methods, versions, connections that last or end, headers of every kind."""

from __future__ import annotations

import pytest

from .case import Case, good, refused
from .dialect import DIALECTS, DOCKER, Dialect, go_json
from .judge import universal
from .rawhttp import Closed, Connection

MANY = 300

_GET = b"POST /VolumeDriver.Get HTTP/1.1\r\nHost: x\r\n"
NO_HTTP = {
    "nothing": b"",
    "empty-line": b"\r\n\r\n",
    "word": b"hello\r\n\r\n",
    "no-path": b"POST\r\n\r\n",
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(500),
    "zeros": bytes(5000),
    "negative-length": _GET + b"Content-Length: -5\r\n\r\n",
    "endless-length": _GET + b"Content-Length: 99999999999999999999\r\n\r\n{}",
    "length-in-words": _GET + b"Content-Length: five\r\n\r\n{}",
    "bad-header": _GET + b"Header without colon\r\n\r\n",
    "long-path": b"POST /" + b"x" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    "long-header": _GET + b"X: " + b"x" * 1_000_000 + b"\r\n\r\n",
    "many-headers": _GET + b"X: y\r\n" * 10_000 + b"\r\n",
    "bad-chunks": _GET + b"Transfer-Encoding: chunked\r\n\r\nhello\r\n",
    "http-9.9": b"POST /VolumeDriver.Get HTTP/9.9\r\nHost: x\r\n\r\n",
}


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"])
@pytest.mark.parametrize("rpc", ["Plugin.Activate", "VolumeDriver.Create", "VolumeDriver.List", "Nope"])
def test_any_method_but_post_is_refused(case: Case, method: str, rpc: str) -> None:
    """Engines only POST; whatever else comes is an error with Err, and does nothing."""
    name = case.name()
    body = go_json({"Name": name, "Opts": dict(case.plugin.opts)})
    reply = case.raw(case.docker.request(rpc, body).replace(b"POST", method.encode(), 1))
    assert reply.status >= 400
    assert case.names_listed() == []


def test_http_1_0_ends_with_its_reply(case: Case) -> None:
    """HTTP/1.0, without Host: answered, and the end of the connection is the end of the reply."""
    with Connection(case.plugin.socket) as connection:
        reply = connection.exchange(b"POST /Plugin.Activate HTTP/1.0\r\nContent-Length: 0\r\n\r\n")
        universal(reply)
        assert "VolumeDriver" in good(DOCKER.sees("Plugin.Activate", reply))["Implements"]
        assert connection.is_closed_by_plugin(within=10)


def test_http_1_0_with_keep_alive(case: Case) -> None:
    """HTTP/1.0 whose client would go on: the plugin does so, too, or ends the connection."""
    with Connection(case.plugin.socket) as connection:
        request = b"POST /Plugin.Activate HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n"
        for _ in range(3):
            reply = connection.exchange(request)
            assert "VolumeDriver" in good(DOCKER.sees("Plugin.Activate", reply))["Implements"]
            if reply.ends_connection and (reply.version == "HTTP/1.1" or connection.is_closed_by_plugin(within=10)):
                break


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
def test_a_connection_serves_many_requests(case: Case, dialect: Dialect) -> None:
    """Engines keep their connections and never replay a POST: the plugin serves on, or says ``Connection: close``;
    a connection that ends without a word loses the next request."""
    connection = case.connection()
    request = case.engine(dialect).request("VolumeDriver.Get", go_json({"Name": case.name()}))
    for number in range(MANY):
        try:
            reply = connection.exchange(request)
        except Closed as error:
            raise AssertionError(f"ended without notice after {number} requests") from error
        universal(reply)
        refused(DOCKER.sees("VolumeDriver.Get", reply))
        if reply.ends_connection:
            assert connection.is_closed_by_plugin(within=10)
            connection.close()
            connection = case.connection()


def test_an_error_keeps_the_connection_in_step(case: Case) -> None:
    """Successes and errors in turn on one connection: each reply belongs to its request."""
    name = case.volume()
    for _ in range(20):
        assert good(case.docker.get(name))["Volume"]["Name"] == name
        assert case.docker.call("VolumeDriver.Nope", b'{"Name":"x"}').status == 404
        refused(case.docker.ask("Get", {}))
        assert case.docker.call("VolumeDriver.Get", b"{").status != 200
        refused(case.docker.mount(name + "x"))


def test_connection_close_is_honoured(case: Case) -> None:
    """Asked to, the plugin ends the connection after its reply."""
    with Connection(case.plugin.socket) as connection:
        request = case.docker.request("Plugin.Activate", b"")
        reply = connection.exchange(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert reply.status == 200
        assert connection.is_closed_by_plugin(within=10)


def test_a_request_in_small_pieces(case: Case) -> None:
    """Where the pieces of a stream end means nothing: headers and body byte by byte."""
    name = case.volume()
    connection = case.connection()
    for byte in case.docker.request("VolumeDriver.Get", go_json({"Name": name})):
        assert connection.send(bytes([byte]))
    reply = connection.receive()
    assert good(DOCKER.sees("VolumeDriver.Get", reply))["Volume"]["Name"] == name


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
def test_a_large_request_within_reason(case: Case, dialect: Dialect) -> None:
    """A body of several buffers arrives whole: an unknown name is refused as such, not as broken JSON."""
    reply = case.engine(dialect).call("VolumeDriver.Get", go_json({"Name": case.name(), "Pad": "x" * 200_000}))
    whole = case.engine(dialect).call("VolumeDriver.Get", go_json({"Name": case.name()}))
    assert reply.status == whole.status


@pytest.mark.parametrize(
    "headers",
    ["Host: ", "Host: /run/docker/plugins/x.sock", "Host: plugin", "Host: plugin.moby.localhost", "Host: [::1]:5",
     "Host: x\r\nContent-Type: text/plain", "Host: x\r\nContent-Type: application/x-www-form-urlencoded",
     "Host: x\r\nContent-Type: application/json; charset=utf-8", "Host: x\r\nContent-Type: ",
     "Host: x\r\nContent-Type: nonsense", "Host: x\r\nAccept: text/html", "Host: x\r\nAccept: ",
     "Host: x\r\nAccept-Encoding: gzip", "Host: x\r\nX-Forwarded-For: 1.2.3.4", "Host: x\r\nReferer: é"],
)  # fmt: skip
def test_headers_do_not_matter(case: Case, headers: str) -> None:
    """Engines send an empty Host or a path there, a vendor's Content-Type or none: the path and the body decide."""
    name = case.volume()
    body = go_json({"Name": name})
    head = f"POST /VolumeDriver.Get HTTP/1.1\r\n{headers}\r\nContent-Length: {len(body)}\r\n\r\n"
    reply = case.raw(head.encode("latin-1") + body)
    assert reply.header("Content-Encoding") is None
    assert good(DOCKER.sees("VolumeDriver.Get", reply))["Volume"]["Name"] == name


@pytest.mark.parametrize("data", NO_HTTP.values(), ids=NO_HTTP)
def test_what_is_no_http_harms_nobody_else(case: Case, data: bytes) -> None:
    """Something else than an engine on the socket: refused or hung up on, and the next caller is served."""
    with Connection(case.plugin.socket) as connection:
        connection.send(data)
        connection.finish_sending()
        assert b" 200 " not in connection.rest().partition(b"\r\n")[0]
    good(case.docker.activate())


def test_a_caller_that_leaves_early_harms_nobody_else(case: Case) -> None:
    """An engine whose deadline is over closes without reading the reply."""
    name = case.volume()
    for _ in range(20):
        with Connection(case.plugin.socket) as connection:
            connection.send(case.docker.request("VolumeDriver.List", b"{}"))
    assert good(case.docker.get(name))["Volume"]["Name"] == name


@pytest.mark.promise
def test_the_content_type_is_json(case: Case) -> None:
    """Engines do not look at it, people with curl do: successes and errors are labelled as JSON."""
    for rpc, body in (("Plugin.Activate", b""), ("VolumeDriver.Path", b""), ("VolumeDriver.Nope", b""), ("Get", b"[")):
        content_type = case.docker.call(rpc, body).header("Content-Type") or ""
        assert content_type.partition(";")[0].endswith(("/json", "+json"))
