"""Power loss, shutdown and boot of a machine with containers on volumes; a remote host that is down at boot."""

from __future__ import annotations

import time

import pytest
from system.installed import Installed, assert_writing

from .kit import SERVICE, Plugin, Refusal, forget, wait_until_clean
from .test_docker_gone import COUNTED, starts
from .test_remote import SAYS, readiness

#: Accepts connections from the start of the machine on and never says anything.
SILENT_HOST = """\
[Unit]
DefaultDependencies=no
After=systemd-remount-fs.service
Before=sysinit.target

[Service]
Type=exec
ExecStart=/usr/bin/python3 -c "import socket, time; s = socket.create_server(('127.0.0.1', 2222)); time.sleep(1e6)"

[Install]
WantedBy=sysinit.target
"""


def test_power_loss_with_holds_of_all_kinds(rebooted: Installed) -> None:
    """Volumes known and whole, mounted again for their containers; IDs from before do no harm and pin nothing."""
    machine, plugin = rebooted.machine, Plugin(rebooted.machine)
    running, held, idle = (rebooted.name() for _ in range(3))
    for number, name in enumerate((running, held, idle)):
        rebooted.create(name, uid=str(1000 + number))
    before = {name: rebooted.inspect(name) for name in (running, held, idle)}
    rebooted.start("always", running, COUNTED, "--restart=always", "--stop-timeout", "1")
    plugin.mount(held, "before")
    plugin.mount(running, "before")
    machine.wait_for(["test", "-s", f"{rebooted.remote.home}/{running}/log-1"])
    machine.power_loss()
    machine.boot()
    machine.wait_for(["test", "-s", f"{rebooted.remote.home}/{running}/log-2"], 30)
    assert {running, held, idle} <= plugin.names()
    for name, shown in before.items():
        now = rebooted.inspect(name)
        assert [now[key] for key in ("Name", "Options", "CreatedAt")] == [
            shown[key] for key in ("Name", "Options", "CreatedAt")
        ]
    assert rebooted.mounted() == {running}
    assert [rebooted.holders(name) for name in (running, held, idle)] == [1, 0, 0]
    for name in (running, held, idle):
        plugin.unmount(name, "before")
    assert rebooted.mounted() == {running}
    assert_writing(rebooted, "always", f"{running}/log-2")
    machine.docker("rm", "-f", "always")
    wait_until_clean(rebooted, (running, held, idle))
    for name in (running, held, idle):
        rebooted.sh(name, "echo x >/data/after")
        assert rebooted.on_remote(f"{name}/after") == "x\n"
    forget(rebooted, running, held, idle)


@pytest.mark.parametrize("plugin_is", ["running", "stopped"])
def test_shutdown_and_boot_with_a_container_that_writes_to_the_last(rebooted: Installed, plugin_is: str) -> None:
    """It has its volume until it has stopped; the shutdown waits for nothing; after the boot it runs again."""
    machine = rebooted.machine
    name, container = rebooted.name(), rebooted.name("last")
    rebooted.create(name)
    trap = "trap 'echo last words >>/data/last; exit 0' TERM; "
    rebooted.start(container, name, trap + COUNTED, "--restart=always")
    machine.wait_for(["test", "-s", f"{rebooted.remote.home}/{name}/log-1"])
    if plugin_is == "stopped":
        machine.run(f"systemctl stop {SERVICE}")
    machine.poweroff(timeout=25)
    machine.boot()
    assert rebooted.on_remote(f"{name}/last") == "last words\n"
    machine.wait_for(["test", "-s", f"{rebooted.remote.home}/{name}/log-2"], 30)
    assert starts(rebooted, name) == 2
    assert_writing(rebooted, container, f"{name}/log-2")
    assert rebooted.holders(name) == 1
    machine.docker("rm", "-f", container)
    wait_until_clean(rebooted, [name])
    forget(rebooted, name)


def test_a_shutdown_while_the_remote_says_nothing(rebooted: Installed) -> None:
    """Neither the mounts nor systemd wait for it."""
    machine, plugin = rebooted.machine, Plugin(rebooted.machine)
    name, other, container = rebooted.name(), rebooted.name(), rebooted.name("quiet")
    rebooted.create(name)
    rebooted.create(other)
    rebooted.start(container, name, "trap 'exit 0' TERM; while :; do sleep 0.1; done", "--restart=always")
    plugin.mount(other, "x")
    rebooted.remote.freeze(listener=True)
    machine.poweroff(timeout=25)
    machine.boot()
    machine.wait_for(lambda: name in rebooted.mounted(), 30)
    machine.docker("rm", "-f", container)
    wait_until_clean(rebooted, (name, other))
    forget(rebooted, name, other)


@pytest.mark.parametrize("kind", ["refuses", "silent"])
def test_a_remote_that_is_down_at_boot(rebooted: Installed, kind: str) -> None:
    """The plugin starts as fast as ever and knows all; containers say what is wrong, and start when it is over."""
    machine, plugin = rebooted.machine, Plugin(rebooted.machine)
    names = [rebooted.name() for _ in range(6)]
    container = rebooted.name("always")
    for name in names:
        rebooted.create(name, timeout="5")
    rebooted.start(container, names[0], COUNTED, "--restart=always", "--stop-timeout", "1")
    machine.wait_for(["test", "-s", f"{rebooted.remote.home}/{names[0]}/log-1"])
    known = plugin.names()
    machine.run(f"systemctl restart {SERVICE}")
    usual = readiness(rebooted)
    machine.run(["systemctl", "disable", "--quiet", rebooted.remote.unit])
    machine.write("/etc/systemd/system/silent-host.service", SILENT_HOST)
    if kind == "silent":
        machine.run("systemctl enable --quiet silent-host.service")
    try:
        machine.poweroff(timeout=25)
        machine.boot()
        begin = time.monotonic()
        machine.run(f"systemctl start {SERVICE}")
        assert readiness(rebooted) < 3 * usual + 2
        assert plugin.names() == known
        machine.wait_for("systemctl is-active docker.service", 60)
        assert known <= set(machine.docker("volume", "ls", "-q").stdout.split())
        for name in names:
            shown = rebooted.inspect(name)
            assert shown["Options"]["sshcmd"] == f"alice@127.0.0.1:{name}"
            assert shown["Status"]["state"] == "not mounted"
        failed = machine.docker("start", container, check=False)
        assert SAYS[kind] in failed.stderr, failed.stderr
        with pytest.raises(Refusal, match=SAYS[kind]):
            plugin.mount(names[1], "x")
        assert time.monotonic() - begin < 60
    finally:
        machine.run("systemctl disable --quiet --now silent-host.service", check=False)
        machine.run(["systemctl", "enable", "--quiet", "--now", rebooted.remote.unit])
    machine.docker("start", container)
    machine.wait_for(["test", "-s", f"{rebooted.remote.home}/{names[0]}/log-2"], 30)
    machine.docker("rm", "-f", container)
    wait_until_clean(rebooted, names)
    forget(rebooted, *names)
