"""HTTP as Docker and Podman understand it, in memory: the form of every reply, whatever is asked."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from fakes import World
from falcon import testing

from legacyhost import errors
from legacyhost.errors import NotServing, PluginError
from legacyhost.rpc import Plugin, Reply, Surface
from legacyhost.surfaces import volume
from legacyhost.web import CONTENT_TYPE, NotServingPlugin, create_app
from legacyhost.wire import BODY_LIMIT, Fields

ERRORS = [
    (errors.InvalidRequest, 400),
    (errors.UnknownMethod, 404),
    (errors.TooLarge, 413),
    (errors.NoSuchVolume, 500),
    (errors.Refused, 500),
    (errors.Failed, 500),
    (errors.ConfigError, 500),
    (errors.StateError, 500),
    (errors.PluginError, 500),
]


class Thrower:
    """Stands behind a surface whose only method ends as the test wants."""

    error: Exception | None = None


def _throw(thrower: Thrower, _ask: Fields) -> Reply:
    if thrower.error is not None:
        raise thrower.error
    return {"Answer": 42}


THROWING = Surface("Throwing", "Throwing", {"Throw": _throw})


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def thrower() -> Thrower:
    return Thrower()


@pytest.fixture
def client(world: World, thrower: Thrower) -> testing.TestClient:
    plugin = Plugin("test", [(volume.SURFACE, world.volumes), (THROWING, thrower)])
    return testing.TestClient(create_app(lambda: plugin))


def ask(client: testing.TestClient, rpc: str, **fields: object) -> testing.Result:
    return client.simulate_post(f"/{rpc}", body=json.dumps(fields))


def error_of(result: testing.Result, status: int) -> str:
    """The message of an error reply, after checking that it has the one form every engine understands."""
    assert result.status_code == status
    assert result.headers["content-type"] == CONTENT_TYPE
    assert set(result.json) == {"Err"}
    message = str(result.json["Err"])
    assert message
    assert message.isprintable()
    return message


@pytest.mark.parametrize(("kind", "status"), ERRORS)
def test_every_error_has_its_status_and_one_line(
    client: testing.TestClient, thrower: Thrower, kind: type[PluginError], status: int
) -> None:
    """Each class of error becomes its status (never 200) and {"Err": one line}."""
    thrower.error = kind("first\n  second\tthird")
    assert error_of(ask(client, "Throwing.Throw"), status) == "first second third"


def test_only_an_unknown_method_is_404() -> None:
    """Docker takes 404 for "not implemented", so no other error may have it; none has 200."""
    assert [kind for kind, status in ERRORS if status == 404] == [errors.UnknownMethod]
    assert all(kind.status == status for kind, status in ERRORS)
    assert {kind for kind, _ in ERRORS} | {NotServing} == {PluginError, *PluginError.__subclasses__()}


@pytest.mark.parametrize("defect", [KeyError("host_key_kind"), ZeroDivisionError(), OSError(5, "x"), MemoryError()])
def test_a_defect_is_a_sentence_without_python(client: testing.TestClient, thrower: Thrower, defect: Exception) -> None:
    """Whatever a driver throws, the user reads a sentence and where to look, and no name of Python's."""
    thrower.error = defect
    message = error_of(ask(client, "Throwing.Throw"), 500)
    assert message == "a defect in legacyhost; its journal has the details: journalctl -u legacyhost@test"


def test_a_success_never_has_err(client: testing.TestClient, world: World) -> None:
    """Docker 1.7 takes an empty Err for an error, so a reply with status 200 has no such key, anywhere."""
    calls: list[tuple[str, dict[str, object]]] = [
        ("Plugin.Activate", {}),
        ("VolumeDriver.Capabilities", {}),
        ("VolumeDriver.Create", {"Name": "data", "Opts": {"place": "/srv"}}),
        ("VolumeDriver.Get", {"Name": "data"}),
        ("VolumeDriver.List", {}),
        ("VolumeDriver.Path", {"Name": "data"}),
        ("VolumeDriver.Mount", {"Name": "data", "ID": "1"}),
        ("VolumeDriver.Unmount", {"Name": "data", "ID": "1"}),
        ("VolumeDriver.Remove", {"Name": "data"}),
        ("Throwing.Throw", {}),
    ]
    for rpc, fields in calls:
        result = ask(client, rpc, **fields)
        assert result.status_code == 200, result.text
        assert result.headers["content-type"] == CONTENT_TYPE
        assert b'"Err"' not in result.content
        assert result.content.endswith(b"}\n")
        assert result.headers["content-length"] == str(len(result.content))


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
@pytest.mark.parametrize("path", ["/VolumeDriver.Get", "/", "/nonsense", "/health"])
def test_anything_but_post_is_405(client: testing.TestClient, method: str, path: str) -> None:
    """A plugin is called with POST; GET is for the health check alone."""
    result = client.simulate_request(method, path)
    if (method, path) == ("GET", "/health"):
        assert (result.status_code, result.content) == (200, b"{}\n")
        return
    assert error_of(result, 405) == f"a plugin is called with POST, not {method}"
    assert result.headers["allow"] == "POST"


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
@pytest.mark.parametrize("method", ["FOO", "post", "CONNECT"])
def test_what_falcon_itself_refuses_has_the_same_form(client: testing.TestClient, method: str) -> None:
    """An error that never reaches the plugin still is JSON with Err."""
    status = client.simulate_request(method, "/VolumeDriver.Get").status_code
    assert status in (400, 405)
    error_of(client.simulate_request(method, "/VolumeDriver.Get"), status)


def test_a_defect_in_an_error_reply_has_the_same_form(thrower: Thrower) -> None:
    """The last resort: where not even the surface's own form of an error can be made, Err is there all the same."""

    def no_form(message: str) -> Reply:
        raise ZeroDivisionError(message)

    thrower.error = errors.Failed("the host is down")
    plugin = Plugin("test", [(Surface("Throwing", "Throwing", {"Throw": _throw}, error=no_form), thrower)])
    message = error_of(ask(testing.TestClient(create_app(lambda: plugin)), "Throwing.Throw"), 500)
    assert "ZeroDivision" not in message


@pytest.mark.parametrize(
    "path", ["/", "/VolumeDriver", "/VolumeDriver.Nope", "/VolumeDriver.Get/", "/a/b/c", "/%00%ff%0a", "/☃", "/health"]
)
def test_an_unknown_path_is_404_with_err(client: testing.TestClient, path: str) -> None:
    """Every path that is no RPC is answered with 404 and Err, whatever is in it."""
    assert error_of(client.simulate_post(path), 404).startswith("plugin test has no method")


def test_a_body_too_large_is_413(client: testing.TestClient, world: World) -> None:
    """More than the limit is refused, the limit itself is read; nothing is done with a body too large."""
    fill = BODY_LIMIT - len('{"Name": "data", "Fill": ""}')
    exact = json.dumps({"Name": "data", "Fill": "x" * fill})
    assert len(exact) == BODY_LIMIT
    assert client.simulate_post("/VolumeDriver.Create", body=exact).status_code == 200
    message = error_of(client.simulate_post("/VolumeDriver.Remove", body=exact + " "), 413)
    assert str(BODY_LIMIT) in message
    assert world.state.names() == ["data"]


def test_a_body_that_cannot_be_read_is_400(client: testing.TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken chunk, a connection that ends: nothing is done, and it is no defect of ours."""
    monkeypatch.setattr("legacyhost.log.exception", lambda *said: pytest.fail(str(said)))

    class Broken(io.BytesIO):
        def read(self, _size: int | None = -1) -> bytes:
            raise OSError("zz")

    result = client.simulate_post("/VolumeDriver.List", extras={"wsgi.input": Broken()})
    assert error_of(result, 400) == "the body of the request cannot be read"


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/vnd.docker.plugins.v1.1+json"},
        {"Content-Type": "text/plain", "Accept": "image/png"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data"},
        {"Host": ""},
        {"Host": "/run/docker/plugins/x.sock"},
        {"Accept": "garbage", "Accept-Encoding": "gzip", "If-Modified-Since": "garbage", "Range": "bytes=x"},
    ],
)
def test_headers_have_no_say(client: testing.TestClient, headers: dict[str, str]) -> None:
    """Engines send different headers, some of them odd: the body alone counts."""
    result = client.simulate_post("/VolumeDriver.Create", headers=headers, body=b'{"Name": "data"}')
    assert (result.status_code, result.json) == (200, {})


def test_not_serving_hangs_up(client: testing.TestClient, thrower: Thrower) -> None:
    """Where the truth is not known, no reply is given: an answered error to Get means "gone" to Docker."""
    thrower.error = NotServing("the record cannot be read")
    with pytest.raises(ConnectionResetError):
        ask(client, "Throwing.Throw")


def test_a_plugin_that_cannot_serve_says_why_only_at_the_handshake() -> None:
    """Activate is answered with the reason, for the user; every other call ends without a reply."""
    plugin = NotServingPlugin("test", "the record of volumes /x cannot be read")
    client = testing.TestClient(create_app(lambda: plugin))
    message = error_of(ask(client, "Plugin.Activate"), 500)
    assert message == "plugin test is not serving: the record of volumes /x cannot be read"
    for rpc in ("VolumeDriver.Get", "VolumeDriver.List", "VolumeDriver.Create", "Nonsense"):
        with pytest.raises(ConnectionResetError):
            ask(client, rpc, Name="data")
    assert client.simulate_get("/health").status_code == 503


def test_whoever_answers_is_asked_for_anew_at_each_call(world: World) -> None:
    """A plugin that comes to life is served from the next call on, without a new application."""
    served: list[NotServingPlugin | Plugin] = [NotServingPlugin("test", "it is starting")]
    client = testing.TestClient(create_app(lambda: served[-1]))
    assert ask(client, "Plugin.Activate").status_code == 500
    served.append(Plugin("test", [(volume.SURFACE, world.volumes)]))
    assert ask(client, "Plugin.Activate").json == {"Implements": ["VolumeDriver"]}


@pytest.mark.parametrize(("accept", "told"), [("application/vnd.docker.plugins.v1.2+json", 1), (None, 0)])
def test_only_a_daemon_that_introduces_itself_has_started(accept: str | None, told: int) -> None:
    """dockerd says what it accepts; each podman shakes hands too, says no such thing, and means nothing by it."""
    asked: list[str] = []
    surface = Surface("watched", "Watched", {}, activated=lambda _: asked.append("activated"))
    client = testing.TestClient(create_app(lambda: Plugin("foo", [(surface, None)])))
    headers = {"Accept": accept} if accept else {"Content-Type": "application/vnd.docker.plugins.v1.1+json"}
    if accept is None:
        client.app.req_options.default_media_type = "x/y"
    answered = client.simulate_post("/Plugin.Activate", headers=headers)
    assert answered.status_code == 200
    assert len(asked) == told
