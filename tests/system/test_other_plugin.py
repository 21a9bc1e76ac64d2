"""Coming from vieux/sshfs: its own integration test, its compose files and its state file, with its own spelling."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .inside import Done
from .installed import Installed
from .sshd import SshServer

PORT = 2422
PASSWORD = "root"  # as in its test
SECRET = "correct-horse-battery"
COMPOSE = """\
version: "2.4"

services:
  app:
    image: busybox
    network_mode: none
    command: ["sh", "-c", "echo hello >/data/world && cat /data/world"]
    volumes:
      - sshvolume:/data

volumes:
  sshvolume:
    driver: {driver}
    driver_opts:
      sshcmd: "root@localhost:{directory}"
      password: "{password}"
      port: "{port}"
      allow_other: ""
"""


def root_server(installed: Installed, password: str) -> SshServer:
    """An sshd where root logs in with a password, as the other plugin's test has it; its host is not known yet."""
    config = "PermitRootLogin yes\nLogLevel DEBUG1"
    return installed.machine.ssh_server(port=PORT, user="root", password=password, config=config)


def trust(installed: Installed, server: SshServer) -> None:
    where = f"localhost:{server.port}"
    installed.machine.run(["legacyhost", "trust", where, "--fingerprint", server.fingerprint])


#: Of the managed plugin, as in vieux/sshfs's config.json; but with the machine's /usr in place of a program of its own.
CONFIG = {
    "description": "sshFS plugin for Docker",
    "documentation": "https://docs.docker.com/engine/extend/plugins/",
    "entrypoint": ["/usr/bin/python3", "/otherplugin.py"],
    "interface": {"socket": "sshfs.sock", "types": ["docker.volumedriver/1.0"]},
    "linux": {"capabilities": ["CAP_SYS_ADMIN"]},
    "mounts": [
        {"type": "bind", "name": name, "source": source, "destination": destination, "options": ["rbind"]}
        for name, source, destination in (("state", "/var/lib/docker/plugins/", "/mnt/state"), ("usr", "/usr", "/usr"))
    ],
    "network": {"type": "host"},
    "propagatedmount": "/mnt/volumes",
}


@dataclass
class Cases:
    """The steps of .travis/integration.sh."""

    installed: Installed
    server: SshServer

    def create(self, *options: str) -> None:
        words = [word for option in ("sshcmd=root@localhost:/", f"port={PORT}", *options) for word in ("-o", option)]
        self.installed.machine.docker("volume", "create", "-d", "sshfs", *words, "sshvolume")

    def run(self, place: str, *command: str) -> Done:
        words = ("run", "--rm", "--network", "none", "-v", f"sshvolume:/{place}")
        return self.installed.machine.docker(*words, *command)

    def write_and_read(self, *user: str) -> None:
        self.run("write", *user, "busybox", "sh", "-c", "echo hello > /write/world")
        self.run("read", *user, "busybox", "grep", "-Fxq", "hello", "/read/world")
        assert self.installed.machine.read("/world") == "hello\n"


@pytest.fixture(scope="module")
def server(installed: Installed) -> Iterator[SshServer]:
    made = root_server(installed, PASSWORD)
    trust(installed, made)
    yield made
    made.stop()


@pytest.fixture
def cases(installed: Installed, server: SshServer) -> Iterator[Cases]:
    yield Cases(installed, server)
    installed.machine.docker("volume", "rm", "sshvolume")
    installed.machine.run("rm /world")


def test_its_case_1_simple(cases: Cases) -> None:
    cases.create(f"password={PASSWORD}")
    cases.write_and_read()


def test_its_case_2_allow_other(cases: Cases) -> None:
    cases.create("allow_other", f"password={PASSWORD}")
    cases.write_and_read("-u", "65534")  # nobody


def test_its_case_3_ciphers_are_passed_through(cases: Cases) -> None:
    """Its cipher, arcfour, is none that OpenSSH has had since 2017; another that would not have been chosen."""
    cases.create("Ciphers=aes192-ctr", "Compression=no", f"password={PASSWORD}")
    machine = cases.installed.machine
    begin = len(machine.journal(cases.server.unit))
    cases.write_and_read()
    machine.run("journalctl --sync")
    log = machine.journal(cases.server.unit)[begin:]
    used = {line.split("cipher: ")[1].split()[0] for line in log.splitlines() if "kex: " in line and "cipher: " in line}
    assert used == {"aes192-ctr"}


def test_its_case_4_state_is_kept(cases: Cases) -> None:
    """It switches the plugin off, moves its state and switches it on; here the whole plugin goes away, and Docker."""
    cases.create(f"password={PASSWORD}")
    machine = cases.installed.machine
    machine.run("systemctl stop legacyhost@sshfs.service legacyhost@sshfs.socket docker.socket docker.service")
    machine.run("systemctl start legacyhost@sshfs.socket docker.socket docker.service")
    cases.write_and_read()


def test_its_case_5_key(cases: Cases) -> None:
    """It is given a directory of keys as its /root/.ssh; here that is root's own."""
    machine = cases.installed.machine
    machine.run("mkdir -p -m 700 /root/.ssh && test ! -e /root/.ssh/id_rsa")
    machine.run(f"install -m 600 {cases.server.key} /root/.ssh/id_rsa")
    try:
        cases.create()
        cases.write_and_read()
    finally:
        machine.run("rm /root/.ssh/id_rsa")


def test_a_compose_file_with_only_the_driver_changed(installed: Installed, server: SshServer) -> None:
    """docker-compose makes the volume with options as they were, twice; its removal leaves the files there."""
    machine = installed.machine
    machine.run("mkdir -p /srv/compose /root/project")
    before = COMPOSE.format(driver="vieux/sshfs", directory="/srv/compose", password=PASSWORD, port=PORT)
    after = before.replace("driver: vieux/sshfs", "driver: sshfs")
    assert sum(old != new for old, new in zip(before.splitlines(), after.splitlines(), strict=True)) == 1
    machine.write("/root/project/docker-compose.yml", after)

    def compose(*arguments: str) -> Done:
        words = ["docker-compose", "-p", "project", "-f", "/root/project/docker-compose.yml", *arguments]
        return machine.run(words, timeout=120)

    for _ in range(2):
        assert "hello" in compose("up", "--force-recreate").stdout
        assert machine.read("/srv/compose/world") == "hello\n"
    driver = machine.docker("volume", "inspect", "-f", "{{.Driver}}", "project_sshvolume").stdout.strip()
    assert driver == "sshfs"
    compose("down", "-v")
    assert "project_sshvolume" not in machine.docker("volume", "ls", "-q").stdout
    assert machine.read("/srv/compose/world") == "hello\n"


@dataclass
class Import:
    """A machine on which the other plugin is: its state file, and Docker, which knows its volumes from it."""

    installed: Installed
    server: SshServer
    file: str = "/var/lib/docker/plugins/sshfs-state.json"

    def add_other(self) -> None:
        """The other plugin, in a container of Docker's with the mounts of its config.json; its program is python3's."""
        machine = self.installed.machine
        machine.run(
            "mkdir -p /root/p/rootfs && cd /root/p/rootfs && mkdir -p usr mnt/volumes mnt/state run/docker/plugins"
        )
        machine.run("cd /root/p/rootfs && ln -s usr/bin usr/lib usr/lib64 .")
        machine.put(Path(__file__).with_name("otherplugin.py"), "/root/p/rootfs/otherplugin.py")
        machine.write("/root/p/config.json", json.dumps(CONFIG))
        machine.docker("plugin", "create", "vieux/sshfs", "/root/p")
        machine.docker("plugin", "enable", "vieux/sshfs")

    def legacyhost(self, *arguments: str) -> Done:
        return self.installed.machine.run(["legacyhost", "import", self.file, *arguments], check=False)

    def driver(self, volume: str) -> str:
        return self.installed.machine.docker("volume", "inspect", "-f", "{{.Driver}}", volume).stdout.strip()


def state(server: SshServer, key: str) -> dict[str, object]:
    """As json.Marshal writes it in vieux/sshfs, and in its fork."""

    def vieux(directory: str, password: str, *options: str) -> dict[str, object]:
        return {
            "Password": password,
            "Sshcmd": f"root@localhost:{directory}",
            "Port": str(server.port),
            "Options": [*options] or None,
            "Mountpoint": f"/mnt/volumes/{directory.strip('/').replace('/', '')}",
        }

    return {
        "web": vieux("/srv/web", SECRET, "allow_other", "StrictHostKeyChecking=no"),
        "mail": vieux("/srv/mail", SECRET),
        "keyed": vieux("/srv/keyed", "", "IdentityFile=/root/.ssh/id_work", "reconnect"),
        "program": vieux("/srv/web", SECRET, "ProxyCommand=touch /root/was-here"),
        "missing": vieux("/srv/not-there", SECRET),
        "fork": {
            "Name": "fork",
            "MountPoint": "/mnt/volumes/fork",
            "CreatedAt": "2026-02-11T10:00:00.123456789Z",
            "RefCount": 0,
            "Options": None,
            "SSHCmd": "root@localhost:/srv/fork",
            "IDRsa": key,
            "Password": "",
            "Port": str(server.port),
        },
    }


@pytest.fixture
def moving(fresh: Installed) -> Import:
    machine = fresh.machine
    made = Import(fresh, root_server(fresh, SECRET))
    for name in ("web", "mail", "keyed", "fork"):
        machine.write(f"/srv/{name}/file", f"of {name}\n")
    machine.run(f"install -D -m 600 {made.server.key} /home/bob/.ssh/id_work")
    key = machine.read(made.server.key).rstrip("\n")
    machine.write(made.file, json.dumps(state(made.server, key)))  # 0644, as it is written
    made.add_other()
    for name in ("web", "mail", "keyed", "fork"):
        assert made.driver(name) == "vieux/sshfs:latest"
    return made


def test_an_import(moving: Import) -> None:
    """Look, make the host known, do it, do it again, hand the names over; then containers read their data."""
    machine, file = moving.installed.machine, moving.file

    looked = moving.legacyhost("--keys", "/home/bob/.ssh")
    assert looked.returncode == 1  # for what is refused
    assert "web would be made\n" in looked.stdout
    assert "program is refused: option ProxyCommand is refused" in looked.stdout
    assert "note: StrictHostKeyChecking=no is left out" in looked.stdout
    assert looked.stdout.count(f"legacyhost trust localhost:{PORT}\n") == 1
    assert f"chmod 600 {file}" in looked.stdout
    assert machine.run("legacyhost ls --json").stdout.strip() == "[]"
    assert machine.run("ls -A /etc/legacyhost/credentials").stdout == ""

    blind = moving.legacyhost("--apply")
    assert f"web is not made: the host key of localhost:{PORT} is not known" in blind.stdout
    assert "keyed is refused: its key /root/.ssh/id_work is not on this host" in blind.stdout
    assert machine.run("ls -A /etc/legacyhost/credentials").stdout == ""

    trust(moving.installed, moving.server)
    done = moving.legacyhost("--keys", "/home/bob/.ssh", "--apply")
    assert done.returncode == 1
    assert "missing is not made: " in done.stdout
    assert "no directory /srv/not-there" in done.stdout
    for name in ("web", "mail", "keyed", "fork"):
        assert f"{name} is made\n" in done.stdout
    # fork and keyed have one key, mail and web (and what came before them) one password.
    assert machine.run("ls /etc/legacyhost/credentials").stdout.split() == ["fork", "mail"]
    assert machine.run("ls /srv").stdout.split() == ["fork", "keyed", "mail", "web"]

    machine.run("mkdir /srv/not-there")
    again = moving.legacyhost("--keys", "/home/bob/.ssh", "--apply", "--json")
    actions = {volume["name"]: volume["action"] for volume in json.loads(again.stdout)["volumes"]}
    there = dict.fromkeys(("fork", "keyed", "mail", "web"), "exists")
    assert actions == {**there, "missing": "created", "program": "refused"}

    # Docker goes on asking the plugin it knows them from, until that does not know them any more: as in the manual.
    assert moving.driver("web") == "vieux/sshfs:latest"
    machine.run("mkdir -p /srv/program && echo of program >/srv/program/file && chmod -R a+rX /srv/program")
    words = [f"sshcmd={moving.server.user}@localhost:/srv/program", f"port={PORT}", "credential=mail"]
    make = ["volume", "create", "-d", "sshfs", *(part for word in words for part in ("-o", word)), "program"]
    assert moving.driver("program") == "vieux/sshfs:latest"
    machine.docker("plugin", "disable", "-f", "vieux/sshfs")
    machine.run(f"mv {file} /root/")
    machine.docker("plugin", "enable", "vieux/sshfs")
    for name in ("web", "mail", "keyed", "fork"):
        # Docker notices when it is asked for one, and says once that there is none.
        assert machine.docker("volume", "inspect", name, check=False).returncode == 1
        assert moving.driver(name) == "sshfs"
        shown = machine.docker(
            "run", "--rm", "--network", "none", "-v", f"{name}:/data", "busybox", "cat", "/data/file"
        )
        assert shown.stdout == f"of {name}\n"
    # One that was not imported, as those of a compose file: its name is free now.
    assert machine.docker("volume", "inspect", "program", check=False).returncode == 1
    machine.docker(*make)
    assert moving.driver("program") == "sshfs"
    machine.docker("plugin", "disable", "-f", "vieux/sshfs")
    machine.docker("plugin", "rm", "vieux/sshfs")
    machine.run("systemctl restart docker.service")
    assert moving.driver("web") == "sshfs"

    # Nothing secret is anywhere but where it came from and where secrets are; no program ran.
    machine.run("rm /root/sshfs-state.json && journalctl --sync")
    said = "".join(run.stdout + run.stderr for run in (looked, blind, done, again))
    assert SECRET not in said
    assert "PRIVATE KEY" not in said
    found = machine.run(
        f"grep -rlaF -e {SECRET} /var/lib/legacyhost /var/lib/docker /run/legacyhost /var/log /run/log", check=False
    )
    assert found.stdout == ""
    assert machine.run("test -e /root/was-here", check=False).returncode == 1
