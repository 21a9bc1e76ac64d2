"""A machine with the package installed by apt, its plugin switched on, and an SSH host beside it."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from .inside import Done
from .machine import Machine
from .sshd import SshServer

TOP = Path(__file__).parents[2]


def build() -> Path:
    """The package as ./build-deb makes it."""
    ran = subprocess.run([TOP / "build-deb"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert ran.returncode == 0, ran.stdout
    return Path(ran.stdout.splitlines()[-1])


class Installed:
    """The machine, with shorthands for what a user of the plugin ``sshfs`` types."""

    def __init__(self, machine: Machine, deb: Path) -> None:
        self.machine = machine
        machine.put(deb, "/root/legacyhost.deb")
        machine.run("apt-get install -q -y --no-install-recommends /root/legacyhost.deb", timeout=120)
        # Every call shall be in the journal, so that tests can count them.
        machine.run("sed -i 's/^#log_level.*/log_level = \"debug\"/' /etc/legacyhost/sshfs.toml")
        machine.run("systemctl enable --quiet --now legacyhost@sshfs.socket")
        # Tests restart docker more often than its unit lets anybody.
        machine.run("mkdir -p /etc/systemd/system/docker.service.d")
        machine.write("/etc/systemd/system/docker.service.d/tests.conf", "[Unit]\nStartLimitIntervalSec=0\n")
        machine.run("systemctl daemon-reload")
        self.remote: SshServer = machine.ssh_server()
        machine.run(["legacyhost", "trust", "127.0.0.1:2222", "--fingerprint", self.remote.fingerprint])
        self._serial = 0

    def options(self, directory: str, **more: str) -> dict[str, str]:
        """The options of a volume on a directory of the SSH host."""
        given = {"sshcmd": f"alice@127.0.0.1:{directory}", "port": "2222", "IdentityFile": self.remote.key}
        return {**given, **more}

    def create(self, name: str, directory: str | None = None, **more: str) -> Done:
        """``docker volume create`` on ``directory`` (its own name by default) of the SSH host's account."""
        options = self.options(name if directory is None else directory, **more)
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        return self.machine.docker("volume", "create", "-d", "sshfs", *words, name)

    def name(self, prefix: str = "volume") -> str:
        """A name no other test has."""
        self._serial += 1
        return f"{prefix}-{self._serial}"

    def sh(self, volume: str, script: str, *options: str, check: bool = True) -> Done:
        """Run a shell script in a container that has the volume at /data (a directory the image has not)."""
        words = ["run", "--rm", "--network", "none", "-v", f"{volume}:/data", *options, "busybox", "sh", "-c", script]
        return self.machine.docker(*words, check=check)

    def start(self, container: str, volume: str, script: str, *options: str) -> None:
        """The same in the background, as a container of that name."""
        words = ["--network", "none", "-v", f"{volume}:/data", *options, "--name", container]
        self.machine.docker("run", "-d", *words, "busybox", "sh", "-c", script)

    def on_remote(self, path: str) -> str:
        """The content of a file in the account's home directory."""
        return self.machine.run(["cat", f"{self.remote.home}/{path}"]).stdout

    def mounted(self, plugin: str = "sshfs") -> set[str]:
        """The names of the volumes that mountinfo shows."""
        prefix = f"/run/legacyhost/{plugin}/mounts/"
        lines = self.machine.run("cat /proc/self/mountinfo").stdout.splitlines()
        points = (line.split()[4] for line in lines)
        return {point.removeprefix(prefix) for point in points if point.startswith(prefix)}

    def mount_units(self) -> list[str]:
        """The units of mounts that are running."""
        shown = self.machine.run("systemctl list-units --plain --no-legend --state=active 'legacyhost:*'").stdout
        return [line.split()[0] for line in shown.splitlines()]

    def holders(self, volume: str) -> object:
        """How often the volume is held, as docker shows it."""
        return self.inspect(volume)["Status"]["holders"]

    def inspect(self, volume: str) -> dict[str, dict[str, object]]:
        shown: list[dict[str, dict[str, object]]] = json.loads(self.machine.docker("volume", "inspect", volume).stdout)
        return shown[0]

    def mark(self) -> str:
        """A place in the journal, for calls()."""
        shown = self.machine.run("journalctl --sync; journalctl -n 0 --show-cursor -o cat").stdout
        return shown.strip().removeprefix("-- cursor:").strip()

    def calls(self, mark: str, volume: str | None = None) -> Counter[str]:
        """How often each RPC has been answered since the mark (for one volume, or in all), by its short name."""
        self.machine.run("journalctl --sync")
        # Without a filter: with one, --after-cursor leaves out the first entry that fits (systemd 252).
        wanted = ["journalctl", "-o", "json", f"--after-cursor={mark}"]
        entries = [json.loads(line) for line in self.machine.run(wanted).stdout.splitlines()]
        return Counter(
            entry["RPC"].rpartition(".")[2]
            for entry in entries
            if "RPC" in entry and entry.get("PLUGIN") == "sshfs" and volume in (None, entry.get("VOLUME"))
        )

    def main_pid(self) -> int:
        return int(self.machine.run("systemctl show -p MainPID --value legacyhost@sshfs.service").stdout)


def writer(log: str) -> str:
    """A script that appends a line about twenty times a second and ends at the first failed write."""
    return f"i=0; while echo $i >>/data/{log}; do i=$((i+1)); sleep 0.05; done; echo a write failed"


def assert_writing(installed: Installed, container: str, log: str) -> None:
    """The writer of that container has not missed a line and goes on."""
    state = installed.machine.docker("inspect", "-f", "{{.State.Running}}", container).stdout.strip()
    assert state == "true", installed.machine.docker("logs", container, check=False).stdout
    before = lines(installed.on_remote(log))
    assert before == list(range(len(before)))
    installed.machine.wait_for(lambda: len(lines(installed.on_remote(log))) > len(before), 20)


def lines(text: str) -> Sequence[int]:
    return [int(line) for line in text.splitlines()]


@pytest.fixture(scope="session")
def deb() -> Path:
    """The package, built from this checkout."""
    return build()


@pytest.fixture(scope="session")
def installed(machine: Machine, deb: Path) -> Iterator[Installed]:
    """One machine with the package, for all tests that leave nothing behind."""
    made = Installed(machine, deb)
    yield made
    text = machine.journal("legacyhost@sshfs.service")
    assert "Traceback" not in text, text


@pytest.fixture
def fresh(fresh_machine: Machine, deb: Path) -> Installed:
    """A machine of the test's own, for reboots and whatever stays."""
    return Installed(fresh_machine, deb)
