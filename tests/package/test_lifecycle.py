"""The package on a booted machine: installed, upgraded under a mounted volume, removed, purged."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from system.conftest import missing
from system.images import ensure
from system.machine import Machine

from .conftest import Deb, run

APT = "apt-get -qq -o Dpkg::Use-Pty=0 -o APT::Sandbox::User=root"
MOUNTPOINT = "/run/legacyhost/sshfs/mounts/data"
#: Calls the plugin as fast as it can, until it is told to end. Each call has to be answered: Docker repeats one that is
#: not, but without its content.
CALLER = """
import http.client, os, socket
answered = 0
while not os.path.exists("/tmp/end"):
    connection = http.client.HTTPConnection("plugin", timeout=60)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect("/run/docker/plugins/sshfs.sock")
    connection.request("POST", "/VolumeDriver.Get", '{"Name": "data"}')
    reply = connection.getresponse()
    assert reply.status == 200 and b"mounts/data" in reply.read()
    answered += 1
    connection.close()
assert answered > 20, answered
print("every call was answered")
"""
#: What apt and dpkg say although all is well.
USUAL = ("debconf: delaying package configuration", "(Reading database", "Created symlink", "Removed ")


@pytest.fixture(scope="module")
def image(request: pytest.FixtureRequest) -> Path:
    """The root tree of the release asked for (--suite, $LEGACYHOST_TEST_SUITE), as in tests/system."""
    if reason := missing():
        text = f"the package cannot be tried on a machine: {reason}"
        if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
            pytest.fail(text, pytrace=False)
        pytest.skip(text)
    suite = request.config.getoption("--suite", default=None) or os.environ.get("LEGACYHOST_TEST_SUITE") or "bookworm"
    return ensure(str(suite))


@pytest.fixture(scope="module")
def newer(deb: Deb, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same package with the next version."""
    folder = tmp_path_factory.mktemp("newer")
    run("dpkg-deb", "--raw-extract", deb.path, folder / "all")
    control = folder / "all/DEBIAN/control"
    control.write_text(control.read_text().replace(f"Version: {deb.fields['Version']}\n", "Version: 99\n"))
    package = folder / "legacyhost_99_all.deb"
    run("dpkg-deb", "--root-owner-group", "--build", folder / "all", package)
    return package


@pytest.fixture
def machine(image: Path, deb: Deb, newer: Path) -> Iterator[Machine]:
    with Machine(image) as made:
        made.put(deb.path, "/root/old.deb")
        made.put(newer, "/root/new.deb")
        assert made.boot() == ()
        yield made
        listed = made.run("systemctl list-units --failed --plain --no-legend 'legacyhost*'").stdout
        assert listed == "", "a unit has failed"


def package(machine: Machine, *arguments: str) -> list[str]:
    """Run apt-get; what it and the maintainer scripts say beyond the usual."""
    done = machine.run(f"{APT} {' '.join(arguments)} 2>&1", env={"DEBIAN_FRONTEND": "noninteractive"}, timeout=120)
    steps = ("Selecting", "Preparing", "Unpacking", "Setting up", "Removing", "Purging", "Processing")
    return [line for line in done.stdout.splitlines() if line.strip() and not line.startswith((*USUAL, *steps))]


def show(machine: Machine, unit: str, field: str) -> str:
    return machine.run(["systemctl", "show", "--value", f"--property={field}", unit]).stdout.strip()


def mount_unit(machine: Machine) -> str:
    listed = machine.run(["systemctl", "list-units", "--plain", "--no-legend", "legacyhost:*"]).stdout
    (unit,) = (line.split()[0] for line in listed.splitlines())
    return unit


def call(machine: Machine, rpc: str, **arguments: object) -> dict[str, object]:
    reply = machine.run(["legacyhost", "call", "--plugin", "sshfs", rpc, json.dumps(arguments)]).stdout
    parsed: dict[str, object] = json.loads(reply)
    return parsed


def mount_a_volume(machine: Machine) -> str:
    """Switch the plugins sshfs and foo on and mount the volume "data". Returns the remote directory."""
    server = machine.ssh_server()
    machine.run(["install", "-m", "600", server.key, "/etc/legacyhost/key"])
    machine.run(["legacyhost", "trust", f"127.0.0.1:{server.port}", "--fingerprint", server.fingerprint])
    machine.run("cp /etc/legacyhost/sshfs.toml /etc/legacyhost/foo.toml")
    machine.run("systemctl enable --now legacyhost@sshfs.socket legacyhost@foo.socket")
    options = {"sshcmd": "alice@127.0.0.1:data", "port": "2222", "IdentityFile": "/etc/legacyhost/key"}
    call(machine, "VolumeDriver.Create", Name="data", Opts=options)
    assert call(machine, "VolumeDriver.Mount", Name="data", ID="1") == {"Mountpoint": MOUNTPOINT}
    machine.run(f"echo content > {MOUNTPOINT}/file")
    return f"{server.home}/data"


def test_installed(machine: Machine) -> None:
    """The target is enabled, and no plugin; nothing fails, nothing is said."""
    assert package(machine, "install", "/root/old.deb") == []
    assert machine.run("systemctl is-enabled legacyhost.target; systemctl is-active legacyhost.target").stdout == (
        "enabled\nactive\n"
    )
    assert machine.run("ls -A /run/docker/plugins").stdout == ""
    assert machine.run("systemctl list-units --plain --no-legend 'legacyhost@*'").stdout == ""
    assert machine.run("legacyhost --version").stdout.startswith("legacyhost ")
    assert "directories on SSH hosts" in machine.run("zcat /usr/share/man/man1/legacyhost.1.gz", check=False).stdout


def test_upgraded_under_a_mounted_volume(machine: Machine) -> None:
    """The plugin is restarted once, when all is in place; its socket, calls and mounts notice nothing."""
    package(machine, "install", "/root/old.deb")
    mount_a_volume(machine)
    unit = mount_unit(machine)
    mounted = show(machine, unit, "MainPID")
    served = show(machine, "legacyhost@sshfs.service", "MainPID")
    socket = machine.run("stat -c '%i %W' /run/docker/plugins/sshfs.sock").stdout
    since = show(machine, "legacyhost@sshfs.socket", "ActiveEnterTimestampMonotonic")
    machine.run("echo '# mine' >> /etc/legacyhost/sshfs.toml")
    reader = machine.popen(
        f"exec 3< {MOUNTPOINT}/file; cd {MOUNTPOINT}; echo ready; while [ ! -e /tmp/end ]; do"
        " cat file >/dev/null || echo lost; echo more > other || echo lost; sleep 0.02; done; cat <&3"
    )
    caller = machine.popen(["python3", "-c", CALLER])
    assert reader.stdout is not None
    assert reader.stdout.readline() == "ready\n"

    assert package(machine, "install", "/root/new.deb") == []

    assert machine.run("dpkg-query -W -f '${Version}' legacyhost").stdout == "99"
    machine.run("touch /tmp/end")
    assert reader.communicate(timeout=10) == ("content\n", "")
    assert caller.communicate(timeout=10) == ("every call was answered\n", "")
    assert show(machine, unit, "MainPID") == mounted
    assert show(machine, "legacyhost@sshfs.service", "MainPID") not in ("0", served)
    assert show(machine, "legacyhost@sshfs.service", "NRestarts") == "0"
    assert show(machine, "legacyhost@foo.service", "MainPID") == "0", "one that did not run is not started"
    assert machine.run("stat -c '%i %W' /run/docker/plugins/sshfs.sock").stdout == socket
    assert show(machine, "legacyhost@sshfs.socket", "ActiveEnterTimestampMonotonic") == since
    assert machine.run("tail -n 1 /etc/legacyhost/sshfs.toml").stdout == "# mine\n"
    assert machine.run("stat -c %a /etc/legacyhost/sshfs.toml").stdout == "600\n"
    call(machine, "VolumeDriver.Unmount", Name="data", ID="1")
    assert machine.run(["findmnt", MOUNTPOINT], check=False).stdout == ""


def test_reinstalled(machine: Machine) -> None:
    package(machine, "install", "/root/old.deb")
    mount_a_volume(machine)
    mounted = show(machine, mount_unit(machine), "MainPID")
    served = show(machine, "legacyhost@sshfs.service", "MainPID")
    assert package(machine, "reinstall", "/root/old.deb") == []
    assert show(machine, "legacyhost@sshfs.service", "MainPID") not in ("0", served)
    assert show(machine, mount_unit(machine), "MainPID") == mounted
    assert show(machine, "legacyhost@sshfs.socket", "ActiveState") == "active"


def test_a_library_is_upgraded(machine: Machine) -> None:
    """At the end of the run in which dpkg replaces one, the plugin is restarted: seen by the trigger itself."""
    package(machine, "install", "/root/old.deb")
    mount_a_volume(machine)
    mounted = show(machine, mount_unit(machine), "MainPID")
    for library in ("falcon", "gunicorn", "paramiko"):
        served = show(machine, "legacyhost@sshfs.service", "MainPID")
        machine.run(f"dpkg-trigger --by-package=python3-{library} /usr/lib/python3/dist-packages/{library}")
        machine.run("dpkg --triggers-only --pending")
        assert show(machine, "legacyhost@sshfs.service", "MainPID") not in ("0", served), library
    assert show(machine, "legacyhost@foo.service", "MainPID") == "0"
    assert show(machine, mount_unit(machine), "MainPID") == mounted


def test_upgraded_while_the_configuration_is_broken(machine: Machine) -> None:
    """A plugin that cannot be restarted does not make the upgrade fail."""
    package(machine, "install", "/root/old.deb")
    mount_a_volume(machine)
    machine.run("echo '[[' >> /etc/legacyhost/sshfs.toml")
    package(machine, "install", "/root/new.deb")
    assert machine.run("dpkg-query -W -f '${db:Status-Status} ${Version}' legacyhost").stdout == "installed 99"
    machine.run("sed -i '$d' /etc/legacyhost/sshfs.toml")
    machine.wait_for(["legacyhost", "call", "--plugin", "sshfs", "VolumeDriver.List"], timeout=20)
    assert machine.run(f"cat {MOUNTPOINT}/file").stdout == "content\n"


def test_removed_and_installed_again(machine: Machine) -> None:
    """Removal takes the sockets away and leaves mounted volumes, configuration and state."""
    package(machine, "install", "/root/old.deb")
    mount_a_volume(machine)
    unit = mount_unit(machine)
    mounted = show(machine, unit, "MainPID")
    machine.run("systemctl start legacyhost@foo.service; systemctl enable --now --runtime legacyhost@third.socket")

    assert package(machine, "remove", "legacyhost") == []

    assert machine.run("ls -A /run/docker/plugins").stdout == ""
    assert machine.run("systemctl list-units --all --plain --no-legend 'legacyhost@*'").stdout == ""
    assert show(machine, "legacyhost.target", "ActiveState") == "inactive"
    assert machine.run("find /etc/systemd /run/systemd/system -name 'legacyhost@*'").stdout == ""
    assert show(machine, unit, "MainPID") == mounted
    assert machine.run(f"cat {MOUNTPOINT}/file").stdout == "content\n"
    assert machine.run("systemctl is-system-running").stdout == "running\n"
    assert machine.path("/etc/legacyhost/key").exists()
    assert machine.path("/var/lib/legacyhost/sshfs").is_dir()

    assert package(machine, "install", "/root/new.deb") == []
    assert machine.run("systemctl is-active legacyhost.target").stdout == "active\n"
    machine.run("systemctl enable --now legacyhost@sshfs.socket")
    listed = call(machine, "VolumeDriver.List")
    assert listed == {"Volumes": [{"Name": "data", "Mountpoint": MOUNTPOINT}]}
    assert show(machine, unit, "MainPID") == mounted


def test_purged(machine: Machine) -> None:
    """Nothing of the package stays but what is mounted, and the remote data."""
    package(machine, "install", "/root/old.deb")
    remote = mount_a_volume(machine)
    unit = mount_unit(machine)
    assert package(machine, "purge", "legacyhost") == []
    for path in ("/etc/legacyhost", "/var/lib/legacyhost", "/usr/lib/python3/dist-packages/legacyhost"):
        assert not machine.path(path).exists(), path
    assert machine.run("find / -xdev -name '*legacyhost*' -not -name '*legacyhost-tests'").stdout == ""
    assert machine.run("find /etc/systemd -name 'legacyhost*'").stdout == ""
    assert machine.run(f"cat {MOUNTPOINT}/file {remote}/file").stdout == "content\ncontent\n"
    machine.run(["systemctl", "stop", unit])
    assert machine.run(["findmnt", MOUNTPOINT], check=False).stdout == ""
    assert machine.run(["cat", f"{remote}/file"]).stdout == "content\n"


def test_purged_with_a_mount_in_the_state(machine: Machine) -> None:
    package(machine, "install", "/root/old.deb")
    remote = mount_a_volume(machine)
    machine.run(f"mkdir /var/lib/legacyhost/mine && mount --bind {MOUNTPOINT} /var/lib/legacyhost/mine")
    (said,) = package(machine, "purge", "legacyhost")
    assert said.startswith("legacyhost: /var/lib/legacyhost is kept, because something is")
    assert machine.run("dpkg-query -W legacyhost", check=False).returncode == 1
    assert machine.run(f"cat /var/lib/legacyhost/mine/file {remote}/file").stdout == "content\ncontent\n"
    assert not machine.path("/etc/legacyhost").exists()


def test_after_a_reboot(machine: Machine) -> None:
    """What was enabled is there again: the socket before Docker, through the target."""
    package(machine, "install", "/root/old.deb")
    mount_a_volume(machine)
    machine.poweroff()
    assert machine.boot() == ()
    assert machine.run("systemctl is-active legacyhost@sshfs.socket legacyhost.target").stdout == "active\nactive\n"
    assert call(machine, "VolumeDriver.List") == {"Volumes": [{"Name": "data", "Mountpoint": ""}]}


STEPS = """
dpkg -i /root/old.deb
systemctl enable legacyhost@sshfs.socket
test -L /etc/systemd/system/sockets.target.wants/legacyhost@sshfs.socket
touch /etc/legacyhost/mine.toml
dpkg -i /root/new.deb
test -L /etc/systemd/system/sockets.target.wants/legacyhost@sshfs.socket
dpkg -r legacyhost
test ! -L /etc/systemd/system/sockets.target.wants/legacyhost@sshfs.socket
dpkg -i /root/old.deb
dpkg -P legacyhost
"""


@pytest.mark.parametrize("with_proc", [True, False], ids=["proc", "no-proc"])
def test_without_systemd(image: Path, deb: Deb, newer: Path, with_proc: bool) -> None:
    """In a chroot, as image builders have it, every step works; without /proc nobody knows what is mounted."""
    with Machine(image) as made:
        made.put(deb.path, "/root/old.deb")
        made.put(newer, "/root/new.deb")
        prepare = 'mount -t proc proc "$0/proc";' if with_proc else ""
        said = run(
            "unshare", "--mount", "--pid", "--fork", "sh", "-ec", f'{prepare} exec chroot "$0" sh -exc "$1"',
            made.root, STEPS, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"},
        ).stdout  # fmt: skip
        assert [line for line in said.splitlines() if re.search("error|fail|cannot|unable", line, re.IGNORECASE)] == []
        kept = "legacyhost: /etc/legacyhost is kept, because something is or may be mounted in it"
        assert (kept in said) is not with_proc
        assert made.path("/etc/legacyhost/mine.toml").exists() is not with_proc
