"""Removing a volume, in every way and in every state, leaves the remote files as they are, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from system.installed import Installed

from .kit import CONVERGED, SERVICE, another_host, on_host, wait_until_clean

#: As the remote account, in the volume's directory: names that break scripts, links, an empty directory, some bulk.
TREE = r"""
set -e
mkdir -p 'a b/c' .hidden/deep empty -- -rf
printf 'x\0y\r\n' > 'a b/c/new
line'
echo quoted > "it's \"odd\""
echo '*' > '*'
echo last > './-rf/--no-preserve-root'
printf '\303\274\377' > "$(printf 'u\303\274-\377')"
head -c 300000 /dev/urandom > .hidden/deep/bulk
ln -s 'a b/c' link; ln -s /etc/passwd absolute; ln -s nowhere broken
chmod 0400 '*'; touch -d '2001-02-03 04:05:06' .hidden
"""
DEFAULTS = """
sshcmd = "alice@127.0.0.1:anonymous/{{volume}}"
port = {port}
IdentityFile = "{key}"
timeout = 10
"""
STATES = ["in use elsewhere", "not mounted", "remote down", "remote silent", "sshfs killed", "plugin stopped"]


@dataclass
class Case:
    """Volumes to be removed in one state, one for each way, and the sums of their remote trees."""

    installed: Installed
    state: str
    #: Remote directory of each volume.
    directories: dict[str, str] = field(default_factory=dict)
    containers: dict[str, str] = field(default_factory=dict)

    def container(self, way: str, *options: str) -> None:
        self.containers[way] = self.installed.name("removal")
        words = ["--network", "none", "--stop-timeout", "1", *options, "--name", self.containers[way], "busybox"]
        self.installed.machine.docker("run", "-d", *words, "sleep", "1000")

    def set_up(self, options: Mapping[str, str]) -> None:
        """A named volume, one of two containers, anonymous ones of a container that stays and of one with --rm."""
        installed = self.installed
        one, shared = installed.name(), installed.name()
        for name in (one, shared):
            installed.create(name, **options)
            self.directories[name] = name
        self.container("rm", "-v", f"{one}:/data")
        for service in ("down-1", "down-2"):
            self.container(service, "-v", f"{shared}:/data")
        self.container("rm -v", "-v", "/anonymous", "--volume-driver", "sshfs")
        self.container("--rm", "--rm", "-v", "/anonymous", "--volume-driver", "sshfs")
        for way in ("rm -v", "--rm"):
            template = "{{range .Mounts}}{{.Name}}{{end}}"
            name = installed.machine.docker("inspect", "-f", template, self.containers[way]).stdout.strip()
            self.directories[name] = f"anonymous/{name}"
        for directory in self.directories.values():
            installed.machine.run(
                ["runuser", "-u", "alice", "--", "sh", "-c", f"cd {installed.remote.home}/{directory}\n{TREE}"]
            )

    def sums(self) -> dict[str, str]:
        """Of names, contents, modes, owners and times."""
        sums = {}
        for name, directory in self.directories.items():
            command = f"tar -C {self.installed.remote.home}/{directory} --sort=name -c . | sha256sum"
            sums[name] = self.installed.machine.run(command).stdout
        listed = self.installed.machine.run(f"find {self.installed.remote.home}/{directory} | wc -l").stdout
        assert int(listed) > 12
        return sums

    def docker(self, *words: str, check: bool = True) -> str:
        """The command's output; where that is the state, the plugin has been stopped before it."""
        if self.state == "plugin stopped":
            self.installed.machine.run(f"systemctl stop {SERVICE}")
        return self.installed.machine.docker(*words, check=check).stdout

    def remove_all(self) -> None:
        one, shared = list(self.directories)[:2]
        self.docker("rm", "-f", self.containers["rm"])
        self.docker("volume", "rm", one)
        self.docker("rm", "-f", "-v", self.containers["rm -v"])
        if self.state == "power loss":
            # Docker has removed this container by itself, and has left its volume.
            *_, anonymous = self.directories
            self.docker("volume", "rm", anonymous)
        else:
            self.docker("kill", self.containers["--rm"])
        self.docker("rm", "-f", self.containers["down-1"], self.containers["down-2"])
        self.docker("volume", "rm", shared)
        self.installed.machine.wait_for(lambda: not self.remaining(), 60, 0.5)

    def remaining(self) -> set[str]:
        """The volumes docker still lists."""
        return set(self.directories) & set(self.installed.machine.docker("volume", "ls", "-q").stdout.split())


@contextmanager
def defaults(installed: Installed, port: int, key: str) -> Iterator[None]:
    """Volumes need no option, so anonymous ones can be made."""
    machine = installed.machine
    before = machine.read("/etc/legacyhost/sshfs.toml")
    head, section, _ = before.partition("[volume.defaults]")
    machine.write("/etc/legacyhost/sshfs.toml", head + section + DEFAULTS.format(port=port, key=key))
    machine.run(f"systemctl reload-or-restart {SERVICE}")
    machine.wait_for(f"systemctl is-active {SERVICE}")
    try:
        yield
    finally:
        machine.write("/etc/legacyhost/sshfs.toml", before)
        machine.run(f"systemctl reload-or-restart {SERVICE}")


@pytest.mark.parametrize("state", STATES)
def test_removal_leaves_the_remote_files(installed: Installed, state: str) -> None:
    """docker volume rm, docker rm -v, the end of a docker run --rm, a compose file's down -v."""
    machine = installed.machine
    server = another_host(installed, 2280 + STATES.index(state))
    with defaults(installed, server.port, server.key):
        case = Case(installed, state)
        case.set_up(on_host(server, timeout="10"))
        before = case.sums()
        elsewhere: list[str] = []
        if state == "in use elsewhere":
            for directory in case.directories.values():
                other, container = installed.name("elsewhere"), installed.name("user")
                installed.create(other, directory, **on_host(server))
                installed.start(container, other, "cat /data/*; sleep 1000", "--stop-timeout", "1")
                elsewhere.append(container)
        elif state == "not mounted":
            kept = [case.containers[way] for way in ("rm", "rm -v", "down-1", "down-2")]
            machine.docker("stop", *kept)
            assert len(installed.mounted() & set(case.directories)) == 1
        elif state == "remote down":
            server.stop()
        elif state == "remote silent":
            server.freeze(listener=True)
        elif state == "sshfs killed":
            machine.run("systemctl kill --kill-who=main --signal=SIGKILL 'legacyhost:sshfs:*'")
        else:
            machine.run(f"systemctl stop {SERVICE}")
        try:
            case.remove_all()
        finally:
            server.thaw()
            server.start()
        assert case.sums() == before
        for container in elsewhere:
            assert "odd" in machine.docker("exec", container, "ls", "-A", "/data").stdout
        if elsewhere:
            machine.docker("rm", "-f", *elsewhere)
        wait_until_clean(installed, case.directories, CONVERGED)
        assert case.sums() == before


def test_removal_after_a_power_loss_leaves_the_remote_files(rebooted: Installed) -> None:
    """The same ways, of volumes whose mounts and containers the power loss took away."""
    machine = rebooted.machine
    with defaults(rebooted, rebooted.remote.port, rebooted.remote.key):
        case = Case(rebooted, "power loss")
        case.set_up({})
        before = case.sums()
        machine.power_loss()
        machine.boot()
        assert not rebooted.mounted()
        case.remove_all()
        assert case.sums() == before
        wait_until_clean(rebooted, case.directories)
