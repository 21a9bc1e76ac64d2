"""A remote host that is down, refuses, or says nothing: a clear error, nothing forgotten, and nobody else waits."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import pytest
from system.installed import Installed, assert_writing, writer
from system.sshd import SshServer

from .kit import MOUNTS, SERVICE, Plugin, Refusal, another_host, at_once, forget, in_flight, on_host, wait_until_clean

KINDS = ["refuses", "silent"]
SAYS = {"refuses": "refused the connection", "silent": "did not answer"}


def take_down(server: SshServer, kind: str) -> None:
    if kind == "refuses":
        server.stop()
    else:
        server.freeze(listener=True)


def bring_back(server: SshServer) -> None:
    server.thaw()
    server.start()


def readiness(installed: Installed) -> float:
    """Seconds from the last start of the plugin to its READY=1."""
    words = [
        "systemctl",
        "show",
        "-p",
        "InactiveExitTimestampMonotonic",
        "-p",
        "ActiveEnterTimestampMonotonic",
        SERVICE,
    ]
    lines = installed.machine.run(words).stdout.splitlines()
    shown = {key: int(value) for key, value in (line.split("=") for line in lines)}
    return (shown["ActiveEnterTimestampMonotonic"] - shown["InactiveExitTimestampMonotonic"]) / 1e6


def error_of(call: Callable[[], object]) -> str:
    with pytest.raises(Refusal) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_a_dead_remote_at_plugin_start_create_and_mount(installed: Installed, kind: str) -> None:
    """Known, shown, started as fast as ever; what needs the host fails with the reason; then all is as before."""
    machine, plugin = installed.machine, Plugin(installed.machine)
    server = another_host(installed, 2250 + KINDS.index(kind))
    names = [installed.name("dead") for _ in range(4)]
    options = on_host(server, timeout="4")
    for name in names:
        installed.create(name, **options)
    held = plugin.mount(names[0], "held")
    machine.run(f"systemctl restart {SERVICE}")
    usual = readiness(installed)
    before = plugin.names()
    take_down(server, kind)
    try:
        machine.run(f"systemctl restart {SERVICE}", timeout=30)
        assert readiness(installed) < 3 * usual + 2
        assert plugin.names() == before
        for name in names:
            assert f"alice@127.0.0.1:{name}" in plugin.get(name)["Status"]["remote"]
        assert plugin.get(names[0])["Mountpoint"] == held
        new = installed.name("dead")
        create = partial(plugin.call, "Create", Name=new, Opts=installed.options(new, **options))
        with in_flight([partial(error_of, create), partial(error_of, partial(plugin.mount, names[1], "x"))]) as calls:
            failed = installed.sh(names[2], "true", check=False)
            texts = [call.result() for call in calls]
        for text in (*texts, failed.stderr):
            assert f"127.0.0.1:{server.port}" in text
            assert SAYS[kind] in text
        assert plugin.names() == before
        status = plugin.get(names[1])["Status"]
        assert status["last error"] == texts[1]
        assert (status["state"], status["holders"]) == ("not mounted", 0)
        machine.run(f"systemctl kill --signal=SIGKILL {SERVICE}")
        assert plugin.names() == before
        assert set(names) <= set(machine.docker("volume", "ls", "-q").stdout.split())
    finally:
        bring_back(server)
    for name in names:
        installed.sh(name, "echo back >/data/file")
        assert installed.on_remote(f"{name}/file") == "back\n"
    plugin.unmount(names[0], "held")
    wait_until_clean(installed, names)
    forget(installed, *names)


@pytest.mark.parametrize("volumes", [8, 1])
def test_eight_mounts_at_once_on_a_remote_that_never_answers(installed: Installed, volumes: int) -> None:
    """List, Get of all and Mounts elsewhere are answered while the eight wait; these fail in time, with the reason."""
    plugin = Plugin(installed.machine)
    server = another_host(installed, 2260 + volumes)
    healthy, fresh = installed.name(), installed.name()
    installed.create(healthy)
    names = [installed.name("silent") for _ in range(volumes)]
    for name in names:
        installed.create(name, "silent", **on_host(server, timeout="6"))
    begin = time.monotonic()
    server.freeze(listener=True)
    try:
        calls = [partial(plugin.mount, names[number % volumes], f"id-{number}") for number in range(8)]
        with in_flight(calls) as pending:
            for _ in range(3):
                assert {healthy, *names} <= plugin.names()
                for name in (healthy, *names):
                    status = plugin.get(name)["Status"]
                    assert status["state"] in ("not mounted", "being mounted")
                    assert status["holders"] == 0
            plugin.mount(healthy, "x")
            plugin.call("Create", Name=fresh, Opts=installed.options(fresh))
            plugin.remove(fresh)
            plugin.unmount(healthy, "x")
            assert not [call for call in pending if call.done()], "the others were served meanwhile"
            texts = [str(call.exception(timeout=60)) for call in pending]
        assert time.monotonic() - begin < 60
        for text in texts:
            assert f"127.0.0.1:{server.port} did not answer within 6 s" in text or (
                volumes == 1 and "another operation on volume" in text
            )
        assert any("did not answer" in text for text in texts)
        assert "did not answer" in plugin.get(names[0])["Status"]["last error"]
        wait_until_clean(installed, [healthy, *names])
    finally:
        server.thaw()
    installed.sh(names[0], "true")
    forget(installed, healthy, *names)


def answer(call: Callable[..., object], rpc: str, **arguments: object) -> str:
    try:
        call(rpc, **arguments)
    except Refusal as refusal:
        assert "does not answer" in str(refusal), refusal
        return "refused"
    return "done"


def test_the_process_that_answers_touches_no_mountpoint(installed: Installed) -> None:
    """Every mount frozen: every call is answered, also by a process that has just been started; then all goes on."""
    machine, plugin = installed.machine, Plugin(installed.machine)
    one, two, idle, fresh = (installed.name() for _ in range(4))
    for name in (one, two, idle):
        installed.create(name, timeout="6")
    containers = {installed.name("writer"): (name, log) for name, log in ((one, "a"), (one, "b"), (two, "c"))}
    for container, (name, log) in containers.items():
        installed.start(container, name, writer(log), "--stop-timeout", "1")
        machine.wait_for(["test", "-s", f"{installed.remote.home}/{name}/{log}"])
    plugin.mount(two, "second")
    known, mounted = plugin.names(), installed.mounted()
    assert {one, two} <= mounted
    machine.run("systemctl kill --kill-who=all --signal=SIGSTOP 'legacyhost:sshfs:*'")
    try:
        for is_restarted in (False, True):
            if is_restarted:
                machine.run(f"systemctl kill --signal=SIGKILL {SERVICE}")
            call = partial(plugin.call, patience=30)
            assert call("Plugin.Activate")["Implements"] == ["VolumeDriver"]
            assert call("Capabilities")["Capabilities"]["Scope"] == "local"
            assert {volume["Name"] for volume in call("List")["Volumes"]} == known
            for name in known:
                is_mounted = name in mounted
                assert call("Path", Name=name)["Mountpoint"] == (f"{MOUNTS}/{name}" if is_mounted else "")
                state = call("Get", Name=name)["Volume"]["Status"]["state"]
                assert (state == "not mounted") == (not is_mounted), name
            call("Create", Name=fresh, Opts=installed.options(fresh))
            call("Mount", Name=fresh, ID="x")
            call("Unmount", Name=fresh, ID="x")
            call("Remove", Name=fresh)
            # A mount that does not answer may be refused; it is not waited for beyond the volume's own timeout.
            replies = at_once([partial(answer, call, "Mount", Name=name, ID="third") for name in (one, two)])
            assert set(replies) <= {"done", "refused"}
            for name in (one, two):
                call("Unmount", Name=name, ID="third")
        plugin.call("Unmount", patience=30, Name=two, ID="second")
        assert [plugin.get(name)["Status"]["holders"] for name in (one, two)] == [2, 1]
        assert one in machine.docker("volume", "ls", "-q").stdout.split()
    finally:
        machine.run("systemctl kill --kill-who=all --signal=SIGCONT 'legacyhost:sshfs:*'")
    for container, (name, log) in containers.items():
        assert_writing(installed, container, f"{name}/{log}")
    machine.docker("rm", "-f", *containers)
    wait_until_clean(installed, (one, two, idle))
    forget(installed, one, two, idle)


@pytest.mark.parametrize("volumes", [50, 1, 2])
def test_fifty_mounts_at_once(installed: Installed, volumes: int) -> None:
    """Of fifty volumes, of one, of two on one directory: all succeed, outlive a stop, and end with fifty Unmounts."""
    machine, plugin = installed.machine, Plugin(installed.machine)
    names = [installed.name("many") for _ in range(volumes)]
    directory = {name: name if volumes == 50 else names[0] for name in names}
    # As slow as it gets on a busy machine.
    options = {name: installed.options(directory[name], timeout="100") for name in names}
    at_once([partial(plugin.call, "Create", Name=name, Opts=options[name]) for name in names])
    users = [(names[number % volumes], f"id-{number}") for number in range(50)]
    points = at_once([partial(plugin.mount, name, mount_id) for name, mount_id in users])
    assert points == [f"{MOUNTS}/{name}" for name, _ in users]
    assert installed.mounted() & set(names) == set(names)
    assert {plugin.get(name)["Status"]["holders"] for name in names} == {50 // volumes}
    units = [unit for unit in installed.mount_units() if unit.split(":")[2] in names]
    assert len(units) == volumes
    machine.run(f"for n in {' '.join(names)}; do echo $n >{MOUNTS}/$n/from-$n || exit 1; done")
    for name in names:
        assert installed.on_remote(f"{directory[name]}/from-{name}") == f"{name}\n"
    if volumes == 2:
        for name, other in (names, reversed(names)):
            assert machine.run(f"cat {MOUNTS}/{name}/from-{other}").stdout == f"{other}\n"
    machine.run(f"systemctl stop {SERVICE}", timeout=20)
    assert installed.mounted() & set(names) == set(names)
    machine.run(f"for n in {' '.join(names)}; do echo again >>{MOUNTS}/$n/from-$n || exit 1; done")
    at_once([partial(plugin.unmount, name, mount_id) for name, mount_id in users])
    wait_until_clean(installed, names)
    for name in names:
        assert installed.on_remote(f"{directory[name]}/from-{name}") == f"{name}\nagain\n"
    at_once([partial(plugin.remove, name) for name in names])
