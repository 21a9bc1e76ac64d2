"""The handshake, and how an RPC finds the function that answers it."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from fakes import World

from legacyhost.errors import InvalidRequest, UnknownMethod
from legacyhost.rpc import Plugin, Reply, Surface
from legacyhost.surfaces import volume
from legacyhost.wire import Fields


@dataclass
class Guard:
    """What stands behind the surface below: refuses what it is told to."""

    forbidden: str
    asked: list[str] = field(default_factory=list)


def _judge(guard: Guard, ask: Fields) -> Reply:
    uri = ask.text("RequestUri")
    guard.asked.append(uri)
    return {"Allow": uri != guard.forbidden, "Msg": f"{uri} is forbidden" if uri == guard.forbidden else ""}


def _authz_error(message: str) -> Reply:
    return {"Allow": False, "Msg": "", "Err": message}


#: A whole second surface: its word in the handshake differs from its prefix, and its errors have a form of their own.
AUTHZ = Surface("authz", "AuthZPlugin", {"AuthZReq": _judge, "AuthZRes": _judge}, error=_authz_error)


@pytest.fixture
def guard() -> Guard:
    return Guard("/v1.24/secrets")


@pytest.fixture
def plugin(tmp_path_factory: pytest.TempPathFactory, guard: Guard) -> Plugin:
    world = World(tmp_path_factory.mktemp("world"))
    return Plugin("both", [(volume.SURFACE, world.volumes), (AUTHZ, guard)])


def test_activate_advertises_exactly_what_is_served(plugin: Plugin, guard: Guard) -> None:
    """The reply to Plugin.Activate lists the surfaces this plugin has, and no other."""
    assert plugin.call("Plugin.Activate", b"") == {"Implements": ["VolumeDriver", "authz"]}
    assert Plugin("one", [(AUTHZ, guard)]).call("Plugin.Activate", b"{}") == {"Implements": ["authz"]}
    assert Plugin("none", []).call("Plugin.Activate", b"null") == {"Implements": []}


def test_activate_never_reads_its_body(plugin: Plugin) -> None:
    """Engines send nothing, null or {} with the handshake; even garbage does not keep a plugin from being loaded."""
    for body in (b"", b"null", b"{}", b"garbage", b"[" * 10_000):
        assert plugin.call("Plugin.Activate", body)["Implements"] == ["VolumeDriver", "authz"]


def test_a_surface_that_wants_to_know_is_told_that_an_engine_has_started(guard: Guard) -> None:
    """Each with the object behind it; the others are not asked for a thing."""
    told = Surface("watched", "Watched", {}, activated=lambda guard: guard.asked.append("activated"))
    plugin = Plugin("both", [(AUTHZ, Guard("")), (told, guard)])
    assert plugin.call("Plugin.Activate", b"{}") == {"Implements": ["authz", "watched"]}
    assert guard.asked == []
    plugin.activated()
    assert guard.asked == ["activated"]
    with pytest.raises(UnknownMethod):
        plugin.call("Plugin.activated", b"{}")
    assert guard.asked == ["activated"]


def test_two_surfaces_work_side_by_side(plugin: Plugin, guard: Guard) -> None:
    """A second surface is a table of functions: declared above in a few lines, it works next to volumes."""
    assert plugin.call("VolumeDriver.Create", b'{"Name": "data"}') == {}
    assert plugin.call("AuthZPlugin.AuthZReq", b'{"RequestUri": "/v1.24/secrets"}')["Allow"] is False
    assert plugin.call("AuthZPlugin.AuthZRes", b'{"RequestUri": "/v1.24/info"}')["Allow"] is True
    assert plugin.call("VolumeDriver.List", b"{}") == {"Volumes": [{"Name": "data", "Mountpoint": ""}]}
    assert guard.asked == ["/v1.24/secrets", "/v1.24/info"]


def test_each_surface_has_its_own_form_of_error(plugin: Plugin) -> None:
    """The error of an RPC is in the form of its surface; of an unknown one in the plain form."""
    assert plugin.error("AuthZPlugin.AuthZReq", "no") == {"Allow": False, "Msg": "", "Err": "no"}
    assert plugin.error("VolumeDriver.Get", "no") == {"Err": "no"}
    assert plugin.error("Nonsense", "no") == {"Err": "no"}
    assert plugin.error("", "no") == {"Err": "no"}


@pytest.mark.parametrize(
    "rpc",
    [
        "",
        ".",
        "VolumeDriver",
        "VolumeDriver.",
        "VolumeDriver.get",
        "volumedriver.Get",
        "VolumeDriver.Get.",
        "VolumeDriver.Nope",
        "VolumeDriver.__class__",
        "authz.AuthZReq",
        "NetworkDriver.GetCapabilities",
        "Plugin.Deactivate",
        "x\n" * 500,
    ],
)
def test_an_unknown_method_is_404(plugin: Plugin, rpc: str) -> None:
    """Only exact names are known; 404 is what Docker takes for "not implemented", and nothing else gives it."""
    with pytest.raises(UnknownMethod) as caught:
        plugin.call(rpc, b"{}")
    assert caught.value.status == 404
    assert caught.value.message.startswith("plugin both has no method")
    assert len(caught.value.message) < 150
    assert caught.value.message.isprintable()


def test_a_bad_body_is_refused_before_the_implementation_hears_of_it(plugin: Plugin, guard: Guard) -> None:
    """JSON stops at the door: the function behind an RPC is never called with a body that is none."""
    with pytest.raises(InvalidRequest):
        plugin.call("AuthZPlugin.AuthZReq", b"garbage")
    with pytest.raises(InvalidRequest):
        plugin.call("AuthZPlugin.AuthZReq", b"")
    assert guard.asked == []
