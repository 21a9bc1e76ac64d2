"""Each method as each engine calls it: its headers, its bodies, its reading of the reply."""

from __future__ import annotations

import pytest

from . import mountinfo
from .case import Case, good, mounted, refused
from .dialect import DIALECTS, METHODS, Dialect, go_json
from .rawhttp import Closed

VOLUMES = "VolumeDriver"

every_engine = pytest.mark.parametrize("dialect", DIALECTS, ids=str)


def engines_with(method: str) -> pytest.MarkDecorator:
    """Every engine that calls this method."""
    return pytest.mark.parametrize("dialect", [each for each in DIALECTS if each.knows(method)], ids=str)


@every_engine
def test_activate_names_the_volume_driver(case: Case, dialect: Dialect) -> None:
    """Plugin.Activate, with an empty body or Docker 1.9's ``null``, lists VolumeDriver in exactly that spelling."""
    implements = good(case.engine(dialect).activate())["Implements"]
    assert VOLUMES in implements
    assert "MetricsCollector" not in implements, "dockerd deadlocks on a legacy plugin with MetricsCollector"


@pytest.mark.parametrize("body", [b"", b"null\n", b"{}\n", b"{}"])
@every_engine
def test_activate_takes_every_form_of_nothing(case: Case, dialect: Dialect, body: bytes) -> None:
    """The handshake has no arguments; no form of "no arguments" may fail it, since failure sticks in Docker."""
    reply = case.engine(dialect).call("Plugin.Activate", body)
    assert VOLUMES in good(dialect.sees("Plugin.Activate", reply))["Implements"]


def test_activate_answers_alike_again_and_again(case: Case) -> None:
    """Every podman process and every dockerd start sends the handshake; each gets the same answer."""
    answers = [good(case.engine(dialect).activate()) for dialect in DIALECTS for _ in range(3)]
    assert answers.count(answers[0]) == len(answers)


@pytest.mark.parametrize("dialect", [each for each in DIALECTS if each.sends_opts], ids=str)
def test_create_with_options_makes_the_volume(case: Case, dialect: Dialect) -> None:
    """After Create the plugin knows the volume (docker volume create is Get, Create, and nothing else)."""
    name = case.name()
    good(case.engine(dialect).create(name, case.plugin.opts))
    assert case.names_listed() == [name]


@every_engine
def test_create_again_without_options_changes_nothing(case: Case, dialect: Dialect) -> None:
    """An existing volume is created again without options (Docker up to 1.9: at each start; later: Get hiccup)."""
    name = case.volume()
    before = good(case.docker.get(name))["Volume"]
    good(case.engine(dialect).create(name))
    after = good(case.docker.get(name))["Volume"]
    assert (after["Name"], after.get("CreatedAt")) == (name, before.get("CreatedAt"))


@engines_with("Get")
def test_get_finds_a_volume(case: Case, dialect: Dialect) -> None:
    """Get echoes the name: the engine goes on with the name it gets, not with the one it asked for."""
    name = case.volume()
    volume = good(case.engine(dialect).get(name))["Volume"]
    assert volume["Name"] == name


@engines_with("Get")
def test_get_of_an_unknown_volume_is_an_error(case: Case, dialect: Dialect) -> None:
    """Unknown is an error, and not a 404 (for Docker 1.10 that is "no such method, so create it")."""
    refused(case.engine(dialect).get(case.name()))


@engines_with("List")
def test_list_shows_the_volumes(case: Case, dialect: Dialect) -> None:
    """List has every volume with its name (docker volume ls; podman volume reload, with an empty body)."""
    names = {case.volume(), case.volume()}
    volumes = good(case.engine(dialect).list())["Volumes"]
    assert names <= {volume["Name"] for volume in volumes}


@engines_with("Capabilities")
def test_capabilities_name_a_scope(case: Case, dialect: Dialect) -> None:
    """The scope is local or global; any other is taken for local, with a warning at each use."""
    assert good(case.engine(dialect).capabilities())["Capabilities"]["Scope"] in ("local", "global")


@every_engine
def test_mount_and_unmount(case: Case, dialect: Dialect) -> None:
    """Mount answers when the mountpoint is mounted, the last Unmount when it no longer is; with or without ID."""
    engine, name = case.engine(dialect), case.volume()
    mount_id = case.id(name)
    path = mounted(engine.mount(name, mount_id))
    good(engine.unmount(name, mount_id))
    assert mountinfo.count(path) == 0


@engines_with("Path")
def test_path_before_while_and_after_a_mount(case: Case, dialect: Dialect) -> None:
    """Path is cheap and never fails for a known volume: Docker up to 1.9 calls it before it mounts."""
    engine, name = case.engine(dialect), case.volume()
    good(engine.path(name))
    mountpoint = mounted(engine.mount(name, case.id(name)))
    assert good(engine.path(name))["Mountpoint"] == mountpoint
    good(case.docker.remove(name))


@every_engine
def test_remove_makes_it_unknown(case: Case, dialect: Dialect) -> None:
    """After Remove, Get is an error and List has it no more."""
    name = case.volume()
    good(case.engine(dialect).remove(name))
    refused(case.docker.get(name))
    assert case.names_listed() == []


@every_engine
def test_remove_of_an_unknown_volume_is_an_error(case: Case, dialect: Dialect) -> None:
    """The user has to learn that nothing was removed."""
    refused(case.engine(dialect).remove(case.name()))


@every_engine
def test_mount_of_an_unknown_volume_is_an_error(case: Case, dialect: Dialect) -> None:
    """A container must not start with a directory that is no volume; podman needs a status other than 200."""
    refused(case.engine(dialect).mount(case.name()))


@every_engine
def test_unmount_of_an_unknown_volume_succeeds(case: Case, dialect: Dialect) -> None:
    """Unmount wants a state that is there already; an error would only stay as a hold in Docker's records."""
    good(case.engine(dialect).unmount(case.name()))


@every_engine
def test_a_call_without_its_arguments_is_refused(case: Case, dialect: Dialect) -> None:
    """An empty body is how Docker repeats a request that was lost on its way (its reader is used up; moby
    pkg/plugins/client.go): a clean error, and nothing is done."""
    name = case.volume()
    path = case.mount(name)
    for method in sorted(METHODS - {"List", "Capabilities"}):
        for body in (b"", b"null\n", b"{}\n"):
            rpc = f"{VOLUMES}.{method}"
            try:
                reply = case.engine(dialect).call(rpc, body)
            except Closed:
                # The best there is for Get: Docker takes an answered error for "that volume is gone".
                assert (method, body.strip()) in (("Get", b""), ("Get", b"null"))
                continue
            assert reply.status != 404
            refused(dialect.sees(rpc, reply))
    assert case.names_listed() == [name]
    assert mountinfo.count(path) == 1


@every_engine
@pytest.mark.parametrize("method", ["List", "Capabilities"])
def test_a_call_that_needs_no_arguments_takes_every_form_of_none(case: Case, dialect: Dialect, method: str) -> None:
    """Docker sends ``{}``, podman nothing, and a repeated request has lost its body."""
    for body in (b"", b"null\n", b"{}\n"):
        rpc = f"{VOLUMES}.{method}"
        good(dialect.sees(rpc, case.engine(dialect).call(rpc, body)))


@every_engine
def test_success_is_read_alike_by_all_engines(case: Case, dialect: Dialect) -> None:
    """One reply serves every engine: what succeeds for this one also does for each other."""
    name = case.volume()
    for method, message in (
        ("Create", {"Name": name}), ("Unmount", {"Name": name}), ("Remove", {"Name": name}),
    ):  # fmt: skip
        rpc = f"{VOLUMES}.{method}"
        reply = case.engine(dialect).call(rpc, go_json(message))
        for other in DIALECTS:
            good(other.sees(rpc, reply))
