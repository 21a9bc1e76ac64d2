"""One login for all volumes of an account: what waits for it, what does not, and what becomes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from .inside import Done
from .installed import Installed, lines, writer
from .sshd import SshServer

SHARED = "/run/legacyhost/sshfs/shared"


@pytest.fixture(scope="module")
def host(installed: Installed) -> Iterator[SshServer]:
    """Of this module's own."""
    server = SshServer(installed.machine, 2270, "sharon")
    installed.machine.run(["legacyhost", "trust", "127.0.0.1:2270", "--fingerprint", server.fingerprint])
    yield server
    server.stop()


def create(installed: Installed, server: SshServer, name: str, **more: str) -> str:
    given = {
        "sshcmd": f"{server.user}@{server.host}:{name}",
        "port": str(server.port),
        "IdentityFile": server.key,
        **more,
    }
    words = [word for key, value in given.items() for word in ("-o", f"{key}={value}")]
    installed.machine.docker("volume", "create", "-d", "sshfs", *words, name)
    return name


def call(installed: Installed, rpc: str, name: str, *, check: bool = True) -> Done:
    content = json.dumps({"Name": name, "ID": "by-hand"})
    return installed.machine.run(["legacyhost", "call", f"VolumeDriver.{rpc}", content], check=check, timeout=120)


def units(installed: Installed) -> set[str]:
    listed = installed.machine.run("systemctl list-units --plain --no-legend 'legacyhost-shared:*'").stdout
    return {line.split()[0] for line in listed.splitlines()}


def used(installed: Installed, volume: str) -> None:
    """Until the volume has been written to, which takes a connection of its own."""
    installed.machine.run(["sh", "-c", f"echo x >/run/legacyhost/sshfs/mounts/{volume}/used"])


@contextmanager
def no_new_login(server: SshServer) -> Iterator[None]:
    """Connections there are go on, new ones get no answer."""
    server._signal("STOP", [server.listener()])
    try:
        yield
    finally:
        server.thaw()


def test_further_volumes_of_an_account_wait_for_no_login(installed: Installed, host: SshServer) -> None:
    """Nor do they after the plugin was started anew: the connection is a unit of its own, which outlives it."""
    first, second, third = (create(installed, host, installed.name("shared")) for _ in range(3))
    before = units(installed)
    call(installed, "Mount", first)
    (unit,) = units(installed) - before
    used(installed, first)
    with no_new_login(host):
        call(installed, "Mount", second)
        installed.machine.run("systemctl restart legacyhost@sshfs.service")
        call(installed, "Mount", third)
    assert units(installed) - before == {unit}
    for name in (first, second, third):
        used(installed, name)
        assert host.ssh("cat", f"{name}/used").stdout == "x\n"
        call(installed, "Unmount", name)
    assert installed.machine.run(["systemctl", "is-active", unit]).stdout == "active\n"


def test_nothing_of_a_volume_hangs_with_another(installed: Installed, host: SshServer) -> None:
    """One whose transfer is stuck, and the shared connection with it: the next is mounted, read and written."""
    stuck, other = (create(installed, host, installed.name("stuck")) for _ in range(2))
    installed.start(stuck, stuck, writer("log"), "--stop-timeout", "1")
    installed.machine.wait_for(["test", "-s", f"{host.home}/{stuck}/log"])
    host.freeze()
    assert installed.sh(other, "echo here >/data/file; cat /data/file").stdout == "here\n"
    assert host.ssh("cat", f"{other}/file").stdout == "here\n"
    host.thaw()
    before = lines(host.ssh("cat", f"{stuck}/log").stdout)
    installed.machine.wait_for(lambda: len(lines(host.ssh("cat", f"{stuck}/log").stdout)) > len(before), 30)
    after = lines(host.ssh("cat", f"{stuck}/log").stdout)
    assert after == list(range(len(after)))


def test_a_saturated_neighbour_has_a_connection_of_its_own(installed: Installed, host: SshServer) -> None:
    """Not one byte of a file goes over the shared one."""
    busy = create(installed, host, installed.name("busy"))
    call(installed, "Mount", busy)
    (unit,) = (unit for unit in units(installed) if _is_of(installed, unit, host))
    show = ["systemctl", "show", "--property=MainPID", "--value", unit]
    pid = int(installed.machine.run(show).stdout)
    ssh = installed.machine.run(f"cat /proc/{pid}/task/*/children").stdout.strip()
    io = f"awk '/^[rw]char/ {{ n += $2 }} END {{ print n }}' /proc/{ssh}/io"
    before = int(installed.machine.run(io).stdout)
    where = f"/run/legacyhost/sshfs/mounts/{busy}/data"
    installed.machine.run(f"dd if=/dev/zero of={where} bs=1M count=50 conv=fsync && cat {where} | wc -c", timeout=120)
    assert int(installed.machine.run(io).stdout) - before < 1_000_000
    call(installed, "Unmount", busy)


def _is_of(installed: Installed, unit: str, server: SshServer) -> bool:
    shown = installed.machine.run(["systemctl", "show", "--property=Description", unit]).stdout
    return f"{server.user}@{server.host}" in shown


def test_many_at_once_after_a_reboot_need_one_login(installed: Installed) -> None:
    """A server that takes two logins at a time, and drops the third: all of 12 are mounted, and work."""
    server = SshServer(installed.machine, 2271, "rush", config="MaxStartups 2:100:2")
    installed.machine.run(["legacyhost", "trust", "127.0.0.1:2271", "--fingerprint", server.fingerprint])
    names = [create(installed, server, installed.name("rush")) for _ in range(12)]
    with ThreadPoolExecutor(12) as pool:
        for done in pool.map(lambda name: call(installed, "Mount", name, check=False), names):
            assert done.returncode == 0, done.stderr
        list(pool.map(lambda name: used(installed, name), names))
    for name in names:
        assert server.ssh("cat", f"{name}/used").stdout == "x\n"
        call(installed, "Unmount", name)
    server.stop()


def test_a_volume_may_have_nothing_to_do_with_it(installed: Installed, host: SshServer) -> None:
    """connection=dedicated: its mount waits for a login of its own."""
    first = create(installed, host, installed.name("shared"))
    alone = create(installed, host, installed.name("alone"), connection="dedicated", timeout="3")
    call(installed, "Mount", first)
    used(installed, first)
    with no_new_login(host):
        assert call(installed, "Mount", alone, check=False).returncode
    call(installed, "Mount", alone)
    call(installed, "Unmount", alone)
    call(installed, "Unmount", first)


def test_what_is_killed_leaves_nothing_and_is_made_again(installed: Installed, host: SshServer) -> None:
    """The mounts go on, their connections being their own; no file of it stays."""
    first, second = (create(installed, host, installed.name("killed")) for _ in range(2))
    call(installed, "Mount", first)
    used(installed, first)
    (unit,) = (unit for unit in units(installed) if _is_of(installed, unit, host))
    folder = f"{SHARED}/{unit.rpartition(':')[2].removesuffix('.service')}"
    assert installed.machine.run(["ls", folder]).stdout.split() == ["digest", "socket"]
    # As when memory is short. (What is left when all of a cgroup is killed, with what systemd starts in it then, goes
    # with the next mount.)
    installed.machine.run(["systemctl", "kill", "--kill-who=main", "--signal=SIGKILL", unit])
    # With cgroup v1 systemd is not told of the end, and waits for it twice.
    installed.machine.wait_for(["test", "!", "-e", folder], 60)
    used(installed, first)
    left = f"{SHARED}/00000000"
    installed.machine.run(["mkdir", "-m", "700", left])
    installed.machine.run(["touch", "-d", "1 minute ago", left, f"{left}/digest", f"{left}/secret"])
    installed.machine.run(["touch", "-d", "1 minute ago", left])
    call(installed, "Mount", second)
    assert installed.machine.run(["test", "-e", left], check=False).returncode
    (again,) = (unit for unit in units(installed) if _is_of(installed, unit, host))
    assert again != unit
    for name in (first, second):
        used(installed, name)
        call(installed, "Unmount", name)
