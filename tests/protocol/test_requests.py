"""Bodies that are not what an engine sends, and paths that are no method: always an error with Err, never a deed."""

from __future__ import annotations

import json

import pytest

from . import mountinfo
from .case import Case, good, refused
from .dialect import DOCKER, METHODS, go_json
from .rawhttp import Connection

WITH_ARGUMENTS = sorted(METHODS - {"List", "Capabilities"})
HUGE = 8 << 20

NO_JSON: dict[str, bytes] = {
    "word": b"hello",
    "half": b'{"Name":',
    "half-string": b'{"Name":"x',
    "form": b"Name=x&ID=y",
    "xml": b'<?xml version="1.0"?><Name>x</Name>',
    "not-utf-8": b'{"Name":"\xff\xfe"}',
    "half-a-surrogate": b'{"Name":"\xed\xa0\x80"}',
    "half-a-character": b'{"Name":"\xc3"}',
    "utf-16": '{"Name":"x"}'.encode("utf-16"),
    "nul": b"\0",
    "nul-in-a-string": b'{"Name":"a\0b"}',
    "binary": bytes(range(256)),
    "deep-lists": b"[" * 100_000,
    "deep-objects": b'{"Name":' * 100_000,
    "long-number": b'{"Name":' + b"9" * 100_000 + b"}",
    "big-exponent": b'{"Name":1e999999}',
    "not-a-number": b'{"Name":NaN}',
    "two-names": b'{"Name":"lhtest-a"}{"Name":"lhtest-b"}',
}  # fmt: skip
NO_OBJECT: dict[str, bytes] = {
    "list": b"[]",
    "string": b'"x"',
    "number": b"5",
    "true": b"true",
    "list-of-objects": b'[{"Name":"x"}]',
}
nonsense = pytest.mark.parametrize("body", [*NO_JSON.values(), *NO_OBJECT.values()], ids=[*NO_JSON, *NO_OBJECT])


@pytest.mark.parametrize("method", WITH_ARGUMENTS)
@nonsense
def test_a_body_that_is_no_object_is_refused(case: Case, method: str, body: bytes) -> None:
    """The reply is an error with Err in JSON, whatever came; the connection goes on or is ended as announced."""
    rpc = f"VolumeDriver.{method}"
    reply = case.docker.call(rpc, body)
    assert reply.status != 404
    refused(DOCKER.sees(rpc, reply))
    good(case.docker.list())


@pytest.mark.parametrize("rpc", ["Plugin.Activate", "VolumeDriver.List", "VolumeDriver.Capabilities"])
@nonsense
def test_a_body_where_none_is_needed_does_no_harm(case: Case, rpc: str, body: bytes) -> None:
    """Refused or ignored, as long as the reply is a proper one."""
    assert case.docker.call(rpc, body).status != 404
    good(case.docker.activate())


@pytest.mark.parametrize("end", [b" ", b"\r\n\r\n", b"\t\n", b" x", b"{}"], ids=repr)
def test_what_follows_the_json_does_no_harm(case: Case, end: bytes) -> None:
    """White space after the object is part of JSON; for anything else an error is right as well."""
    name = case.volume()
    reply = case.docker.call("VolumeDriver.Get", json.dumps({"Name": name}).encode() + end)
    if not end.strip():
        assert good(DOCKER.sees("VolumeDriver.Get", reply))["Volume"]["Name"] == name


def test_escaped_and_plain_json_are_the_same(case: Case) -> None:
    """Go escapes & < > and leaves the rest as UTF-8; every valid JSON means what it says."""
    name = case.volume()
    escaped = "".join(f"\\u{ord(character):04x}" for character in name)
    reply = case.docker.call("VolumeDriver.Get", b'\n { "Name" :\t"%s" }' % escaped.encode())
    assert good(DOCKER.sees("VolumeDriver.Get", reply))["Volume"]["Name"] == name


@pytest.mark.parametrize("method", ["Create", "Get", "Mount"])
def test_a_huge_body_is_refused(case: Case, method: str) -> None:
    """8 MiB: an error with Err, be it before all was read; nothing is done, and the next call is served."""
    name = case.volume() if method == "Mount" else case.name()
    opts = {**case.plugin.opts, "comment": "x" * HUGE}
    request = case.docker.request(f"VolumeDriver.{method}", go_json({"Name": name, "Opts": opts, "ID": "y" * HUGE}))
    before = len(mountinfo.mountpoints())
    refused(DOCKER.sees(f"VolumeDriver.{method}", case.raw(request)))
    assert case.names_listed() == ([name] if method == "Mount" else [])
    assert len(mountinfo.mountpoints()) == before
    good(case.docker.list())


def test_a_huge_body_does_not_spoil_its_connection(case: Case) -> None:
    """After the refusal the connection is either ended, or clean for the next request."""
    with Connection(case.plugin.socket) as connection:
        request = case.docker.request("VolumeDriver.Get", b" " * HUGE)
        was_read = connection.send(request)
        reply = connection.receive()
        assert reply.status != 200
        if reply.ends_connection:
            assert connection.is_closed_by_plugin(within=10)
        elif was_read:
            assert connection.exchange(case.docker.request("Plugin.Activate", b"")).status == 200


def test_a_request_that_breaks_off_does_nothing(case: Case) -> None:
    """dockerd dies in the middle of a request: less than the announced length is no request."""
    name = case.name()
    request = case.docker.request("VolumeDriver.Create", go_json({"Name": name, "Opts": dict(case.plugin.opts)}))
    for missing in (1, 5, 20):
        with Connection(case.plugin.socket) as connection:
            connection.send(request[:-missing])
        with Connection(case.plugin.socket) as connection:
            connection.send(request[:-missing])
            connection.finish_sending()
            connection.is_closed_by_plugin(within=5)
    if case.names_listed():  # only the line feed was missing, and the rest makes sense
        good(case.docker.remove(name))
    request = case.docker.request("VolumeDriver.Create", b"")[: -len("\r\n")]
    with Connection(case.plugin.socket) as connection:
        connection.send(request.replace(b"Content-Length: 0", b"Content-Length: 500"))
    assert case.names_listed() == []


@pytest.mark.parametrize(
    "path",
    [
        "VolumeDriver.Nope", "VolumeDriver.create", "volumedriver.Create", "VolumeDriver.", "VolumeDriver",
        "Nope.Create", ".Create", "Create", "", "Plugin.Nope", "Plugin.Deactivate", "plugin.activate",
        "VolumeDriver/Create", "VolumeDriver.Create/x", "VolumeDriver.Create.x", "VolumeDriver.__init__",
        "VolumeDriver.%00", "%ff%fe", "../VolumeDriver.Create", "VolumeDriver.Get%0d%0aX:%20y", "x" * 2000,
    ],
)  # fmt: skip
def test_an_unknown_method_is_a_404_with_err(case: Case, path: str) -> None:
    """404 is "there is no such method", with Err like every error (podman cannot read an error without it)."""
    name = case.name()
    reply = case.docker.call(path, go_json({"Name": name, "Opts": dict(case.plugin.opts)}))
    assert reply.status == 404
    assert case.names_listed() == []


@pytest.mark.parametrize(
    "rpc",
    ["NetworkDriver.GetCapabilities", "IpamDriver.GetCapabilities", "IpamDriver.GetDefaultAddressSpaces",
     "AuthZPlugin.AuthZReq", "LogDriver.Capabilities", "MetricsCollector.StartMetrics", "GraphDriver.Init"],
)  # fmt: skip
def test_the_methods_of_another_subsystem_are_unknown(case: Case, rpc: str) -> None:
    """A plugin answers only for what it names in the handshake; Docker takes 404 for "not implemented" there."""
    subsystem = rpc.partition(".")[0].replace("AuthZPlugin", "authz")
    if subsystem in good(case.docker.activate())["Implements"]:
        pytest.skip(f"this plugin is a {subsystem}, too")
    assert case.docker.call(rpc, b"{}").status == 404
