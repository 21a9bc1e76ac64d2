"""legacyhost's own server over its life: stopped, killed, started again, and with a remote host that is silent."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sshd import Sshd

from . import mountinfo
from .case import Case, Plugin, good, mounted, new_id, refused
from .dialect import DIALECTS, DOCKER, Engine, go_json
from .gate import Gate
from .judge import universal
from .ownserver import OwnServer
from .rawhttp import Closed, Connection

SOON = 2.0
#: Seconds that a call may take longer than the option timeout says.
LEEWAY = 3.0


@pytest.fixture
def own(server: OwnServer) -> Iterator[Case]:
    """A test's dealings with a server of its own. It ends with the server, so nothing has to be cleaned up."""
    own = Case(server.plugin)
    yield own
    if server.is_listening():
        own.clean()


@pytest.fixture
def gate(sshd: Sshd) -> Iterator[Gate]:
    with Gate(sshd.port) as gate:
        yield gate


def behind(gate: Gate, own: Case, server: OwnServer, **more: str) -> str:
    """A volume whose remote host is behind the gate, which is shut from now on."""
    name = own.name()
    good(own.docker.create(name, {**server.gated(gate), **more}))
    gate.shut()
    return name


def asked(connection: Connection, own: Case, method: str, **message: str) -> None:
    assert connection.send(own.docker.request(f"VolumeDriver.{method}", go_json(message)))


def test_a_mount_in_flight_is_finished_when_the_server_stops(own: Case, server: OwnServer, gate: Gate) -> None:
    """SIGTERM while a Mount waits for the remote host: the reply still comes, then the server ends, and its mount
    stays for the next server to release (a broken connection makes Docker repeat the call without its content)."""
    name, mount_id = behind(gate, own, server), new_id()
    with Connection(server.socket) as connection:
        asked(connection, own, "Mount", Name=name, ID=mount_id)
        gate.wait_until_touched()
        server.terminate()
        until = time.monotonic() + 5
        while server.is_listening() and time.monotonic() < until:
            time.sleep(0.02)
        gate.open()
        path = mounted(DOCKER.sees("VolumeDriver.Mount", connection.receive()))
    assert server.wait() == 0
    assert mountinfo.count(path) == 1
    server.start()
    good(own.docker.unmount(name, mount_id))
    assert mountinfo.count(path) == 0


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_volumes_mounts_and_holds_outlive_the_server(own: Case, server: OwnServer, end: str) -> None:
    """Stopped or killed, and started again: every volume is known as before, what was mounted is mounted, and
    every hold has to be released exactly once."""
    held, idle = own.volume(), own.volume()
    first, second = own.id(held), own.id(held)
    path = own.mount(held, first)
    own.mount(held, second)
    (Path(path) / held).write_text("written")
    before = {name: good(own.docker.get(name))["Volume"]["CreatedAt"] for name in (held, idle)}
    own.docker.close()
    getattr(server, end)()
    assert mountinfo.count(path) == 1
    assert (Path(path) / held).read_text() == "written"
    (Path(path) / held).unlink()
    server.start()
    good(own.docker.activate())
    assert {name: good(own.docker.get(name))["Volume"]["CreatedAt"] for name in (held, idle)} == before
    good(own.docker.create(held))
    good(own.docker.create(held, own.plugin.opts))
    assert good(own.docker.path(held))["Mountpoint"] == path
    good(own.docker.unmount(held, first))
    assert mountinfo.count(path) == 1
    good(own.docker.unmount(held, second))
    assert mountinfo.count(path) == 0


def test_an_idle_server_stops_at_once(own: Case, server: OwnServer) -> None:
    """Neither mounts delay a stop nor connections that have been served."""
    own.mount(own.volume())
    idle = [own.connection() for _ in range(10)]
    for connection in idle:
        assert connection.exchange(own.docker.request("Plugin.Activate", b"")).status == 200
    begin = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - begin < 10
    assert all(connection.is_closed_by_plugin(within=SOON) for connection in idle)
    server.start()


def test_silent_connections_do_not_delay_a_stop(own: Case, server: OwnServer) -> None:
    """Go's HTTP client dials ahead, and leaves a connection unused when another becomes free (net/http/transport.go):
    one on which nothing was ever asked has nothing to finish."""
    silent = [own.connection() for _ in range(10)]
    good(own.docker.activate())
    begin = time.monotonic()
    assert server.stop() == 0
    assert time.monotonic() - begin < 10
    assert all(connection.is_closed_by_plugin(within=SOON) for connection in silent)


def test_a_silent_host_delays_only_its_own_volume(own: Case, server: OwnServer, gate: Gate) -> None:
    """While Mounts wait for a host that says nothing, every question is answered from local records, and other
    volumes are created, mounted and removed."""
    silent = behind(gate, own, server)
    other = own.volume()
    connections = [own.connection() for _ in range(20)]
    for connection in connections:
        asked(connection, own, "Mount", Name=silent, ID=own.id(silent))
    gate.wait_until_touched()
    for dialect in DIALECTS:
        engine = Engine(dialect, server.socket)
        begin = time.monotonic()
        good(engine.activate())
        for name in (silent, other):
            good(own.docker.get(name))
            good(own.docker.path(name))
        assert set(own.names_listed()) == {silent, other}
        assert time.monotonic() - begin < SOON, f"{dialect} had to wait for somebody else's host"
        engine.close()
    mount_id = own.id(other)
    own.mount(other, mount_id)
    good(own.docker.unmount(other, mount_id))
    good(own.docker.remove(other))
    gate.open()
    paths = set()
    for connection in connections:
        paths.add(mounted(DOCKER.sees("VolumeDriver.Mount", connection.receive())))
        connection.close()
    assert len(paths) == 1


def test_a_mount_that_takes_too_long_fails_and_leaves_nothing(own: Case, server: OwnServer, gate: Gate) -> None:
    """The option timeout bounds a Mount; the error says so in one line, nothing stays mounted or held, and the next
    Mount works when the host does."""
    name = behind(gate, own, server, timeout="2")
    begin = time.monotonic()
    refused(own.docker.mount(name, new_id()))
    assert time.monotonic() - begin < 2 + LEEWAY
    assert good(own.docker.path(name))["Mountpoint"] == ""
    gate.open()
    mount_id = own.id(name)
    path = own.mount(name, mount_id)
    good(own.docker.unmount(name, mount_id))
    assert mountinfo.count(path) == 0


def test_a_silent_host_does_not_keep_a_volume_from_being_removed(own: Case, server: OwnServer, gate: Gate) -> None:
    """Remove keeps the remote data, so it needs no remote host."""
    name = behind(gate, own, server)
    begin = time.monotonic()
    good(own.docker.remove(name))
    assert time.monotonic() - begin < SOON
    refused(own.docker.get(name))
    gate.open()


def test_a_create_that_takes_too_long_makes_no_volume(own: Case, server: OwnServer, gate: Gate) -> None:
    """The same for Create: after the error the name is free."""
    opts = {**server.gated(gate), "timeout": "2"}
    name = own.name()
    gate.shut()
    begin = time.monotonic()
    refused(own.docker.create(name, opts))
    assert time.monotonic() - begin < 2 + LEEWAY
    refused(own.docker.get(name))
    assert own.names_listed() == []
    gate.open()
    good(own.docker.create(name, opts))


def test_a_caller_that_gives_up_on_a_mount_can_ask_again(own: Case, server: OwnServer, gate: Gate) -> None:
    """Docker's 120 s, podman's 5 s are over and the connection is closed while the Mount is at work: the next Mount
    succeeds, and Remove cleans up whatever the lost one still did."""
    name = behind(gate, own, server)
    with Connection(server.socket) as connection:
        asked(connection, own, "Mount", Name=name, ID=new_id())
        gate.wait_until_touched()
    gate.open()
    path = own.mount(name)
    good(own.docker.remove(name))
    assert mountinfo.count(path) == 0


def test_a_half_made_mount_is_not_handed_out(own: Case, server: OwnServer, gate: Gate) -> None:
    """The server is killed while its sshfs still waits for the remote host: the next server's Mount is answered when
    the volume can be used, not as soon as something lies on the mountpoint."""
    name = behind(gate, own, server)
    with Connection(server.socket) as connection:
        asked(connection, own, "Mount", Name=name, ID=new_id())
        gate.wait_until_touched()
        own.docker.close()
        server.kill()
    server.start()
    mount_id = own.id(name)
    with Connection(server.socket) as connection:
        asked(connection, own, "Mount", Name=name, ID=mount_id)
        if connection.has_news(within=0.5):
            raise AssertionError(f"the remote host is silent, and the answer is {connection.receive()}")
        gate.open()
        path = mounted(DOCKER.sees("VolumeDriver.Mount", connection.receive()))
    assert sorted(entry.name for entry in Path(path).iterdir()) is not None
    good(own.docker.unmount(name, mount_id))
    assert mountinfo.count(path) == 0


def test_a_server_without_its_state_gives_no_answer(own: Case, server: OwnServer) -> None:
    """Docker takes an answered Get error for "that volume is gone" and forgets it; a connection that just ends it
    only tries again. The handshake, which may fail, says why."""
    name = own.volume()
    own.docker.close()
    server.stop()
    good_configuration = server.configuration.read_text()
    server.configuration.write_text("[volume\n")
    server.start()
    for method in ("Get", "List", "Mount", "Remove", "Create"):
        with Connection(server.socket) as connection, pytest.raises(Closed) as closed:
            connection.exchange(own.docker.request(f"VolumeDriver.{method}", go_json({"Name": name})))
        assert closed.value.partial == b""
    for dialect in DIALECTS:
        engine = Engine(dialect, server.socket)
        assert server.configuration.name in refused(engine.activate())
        engine.close()
    server.stop()
    server.configuration.write_text(good_configuration)
    server.start()
    assert good(own.docker.get(name))["Volume"]["Name"] == name


def test_nobody_else_may_connect(server: OwnServer) -> None:
    """Who can write to the socket can have any directory of any host mounted: it is for root only."""
    assert stat.S_IMODE(server.socket.stat().st_mode) & 0o077 == 0


def test_errors_name_no_secret_and_no_python(own: Case, server: OwnServer) -> None:
    """A wrong password, an unknown host, a missing key: the message is for the user, without what they gave in
    confidence and without the name of an exception."""
    secret = "hunter2-of-the-test"
    opts = dict(own.plugin.opts)
    del opts["IdentityFile"]
    for wrong in ({"password": secret}, {"password": secret, "port": "1"}, {"password": secret, "nonsense": secret}):
        seen = own.docker.create(own.name(), {**opts, **wrong})
        universal(seen.reply)
        text = refused(seen)
        assert secret not in text
        assert not any(word in text for word in ("Traceback", "Exception", "Errno", "Error("))
    assert secret not in server.log.read_text(errors="replace")
    assert not [path for path in server.home.rglob("*") if path.is_file() and secret.encode() in path.read_bytes()]


def test_the_volume_is_the_remote_directory(own: Case, sshd: Sshd) -> None:
    """What is in the volume is on the SSH server, and the other way round."""
    plugin: Plugin = own.plugin
    assert plugin.data == sshd.home
    name = own.volume()
    path = Path(own.mount(name))
    try:
        (sshd.home / name).write_text("from there")
        assert (path / name).read_text() == "from there"
        (path / name).write_text("from here, and longer")
        assert (sshd.home / name).read_text() == "from here, and longer"
    finally:
        (sshd.home / name).unlink()


def test_a_repeated_get_is_not_answered(own: Case) -> None:
    """Docker forgets a volume, its labels and its options, over an answered error to Get; without an answer it asks
    again."""
    for dialect in DIALECTS:
        for body in (b"", b"null\n"):
            with pytest.raises(Closed):
                own.engine(dialect).call("VolumeDriver.Get", body)
