"""`legacyhost doctor` on a booted machine: it names what is broken and nothing else, and what it prints mends it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from .installed import Installed
from .machine import Machine

Findings = list[dict[str, str]]
#: Podman is told of the plugin, so that something can be wrong with that.
TOLD = "/etc/containers/containers.conf"
DEAD = "import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])"
MANAGED = '{"entrypoint": ["/x"], "interface": {"types": ["docker.volumedriver/1.0"], "socket": "sshfs.sock"}}'


@dataclass(frozen=True)
class Broken:
    """`script` breaks it; doctor calls that `check` and says `what`; `script` again after the cure where `undo`."""

    script: str
    check: str
    what: str
    level: str = "error"


CASES = {
    "socket disabled": Broken("systemctl disable legacyhost@sshfs.socket", "socket unit", "is not enabled", "warning"),
    "socket stopped": Broken("systemctl stop legacyhost@sshfs.socket", "socket unit", "is not active"),
    "socket masked": Broken(
        "systemctl stop legacyhost@sshfs.socket && systemctl mask legacyhost@sshfs.socket", "socket unit", "is masked"
    ),
    "target disabled": Broken("systemctl disable legacyhost.target", "target", "is not enabled", "warning"),
    "target stopped": Broken("systemctl stop legacyhost.target", "target", "is not active", "warning"),
    "tied to docker": Broken(
        "mkdir -p /etc/systemd/system/legacyhost@.service.d;"
        " printf '[Unit]\\nDescription=Mine\\nRequires=docker.service\\nAfter=docker.service\\n'"
        " >/etc/systemd/system/legacyhost@.service.d/all.conf; systemctl daemon-reload",
        "order",
        "has Requires=docker.service",
    ),
    "ordered before docker itself": Broken(
        "mkdir -p /etc/systemd/system/legacyhost@sshfs.service.d;"
        " printf '[Unit]\\nBefore=docker.service podman.service\\n'"
        " >/etc/systemd/system/legacyhost@sshfs.service.d/mine.conf; systemctl daemon-reload",
        "order",
        "has Before=docker.service",
    ),
    "docker needs it": Broken(
        "printf '[Unit]\\nRequires=legacyhost@sshfs.service\\n' >/etc/systemd/system/docker.service.d/mine.conf;"
        " systemctl daemon-reload",
        "order",
        "has RequiredBy=docker.service",
    ),
    "failed mount": Broken(
        "systemd-run --unit=legacyhost:sshfs:old:01234567 false; sleep 0.5", "failed units", "has failed", "warning"
    ),
    "socket open to all": Broken("chmod 666 /run/docker/plugins/sshfs.sock", "socket", "open to others (mode 0666"),
    "socket made open to all": Broken(
        "mkdir -p /etc/systemd/system/legacyhost@sshfs.socket.d;"
        " printf '[Socket]\\nSocketMode=0666\\n' >/etc/systemd/system/legacyhost@sshfs.socket.d/mine.conf;"
        " systemctl daemon-reload; systemctl stop legacyhost@sshfs.socket legacyhost@sshfs.service;"
        " systemctl start legacyhost@sshfs.socket",
        "socket",
        "open to others (mode 0666",
    ),
    "socket's directory open to all": Broken("chmod 777 /run/docker/plugins", "socket", "can be written by others"),
    "socket removed": Broken("rm /run/docker/plugins/sshfs.sock", "socket file", "sshfs.sock is gone"),
    "dead socket": Broken(
        f"python3 -c '{DEAD}' /run/docker/plugins/ghost.sock", "dead plugin", "ghost.sock leads to a plugin ghost"
    ),
    "dead specification": Broken(
        "mkdir -p /etc/docker/plugins; echo tcp://127.0.0.1:1 >/etc/docker/plugins/far.spec",
        "dead plugin",
        "far.spec leads to a plugin far that is not there: connection refused",
    ),
    "shadow": Broken(
        'mkdir -p /usr/lib/docker/plugins; echo \'{"Addr": "unix:///run/docker/plugins/sshfs.sock"}\''
        " >/usr/lib/docker/plugins/sshfs.json",
        "shadow",
        "sshfs.json has the name of the plugin sshfs",
        "warning",
    ),
    "managed plugin": Broken(
        f"mkdir -p /root/m/rootfs && echo '{MANAGED}' >/root/m/config.json && docker plugin create sshfs /root/m",
        "managed plugin",
        "a managed plugin called sshfs:latest",
    ),
    "podman told of another place": Broken(
        f"rm -f {TOLD}.d/99-*; sed -i 's|/run/docker/plugins/sshfs.sock|/run/sshfs.sock|' {TOLD}",
        "podman",
        "has another place",
    ),
    "docker stopped": Broken("systemctl stop docker.socket docker.service", "docker", "is not running"),
    "sshfs not executable": Broken("chmod 644 /usr/bin/sshfs", "sshfs", "is not executable"),
    "configuration": Broken(
        "echo oops >>/etc/legacyhost/sshfs.toml; systemctl restart --no-block legacyhost@sshfs; sleep 1",
        "configuration",
        "/etc/legacyhost/sshfs.toml cannot be read",
    ),
    "configuration has a wrong setting": Broken(
        "sed -i '1i oops = 1' /etc/legacyhost/sshfs.toml", "configuration", "unknown setting oops"
    ),
    "configuration open": Broken(
        "chmod 666 /etc/legacyhost/sshfs.toml", "configuration modes", "is open to others (mode 0666)"
    ),
    "credential open": Broken(
        "echo secret >/etc/legacyhost/credentials/mine; chmod 644 /etc/legacyhost/credentials/mine",
        "credentials",
        "is open to others (mode 0644)",
    ),
    "known_hosts open": Broken("chmod 666 /etc/legacyhost/known_hosts", "known_hosts", "is open to others"),
    "record open": Broken("chmod 755 /var/lib/legacyhost/sshfs", "record modes", "is open to others (mode 0755)"),
    "record damaged": Broken(
        "systemctl stop legacyhost@sshfs.service; rm /var/lib/legacyhost/sshfs/volumes.db-*;"
        " dd if=/dev/urandom of=/var/lib/legacyhost/sshfs/volumes.db bs=512 seek=1 count=20 conv=notrunc status=none",
        "record",
        "is damaged",
    ),
    "record gone": Broken("rm /var/lib/legacyhost/sshfs/volumes.db*", "record", "volumes.db is gone"),
    "backup gone": Broken("rm /var/lib/legacyhost/sshfs/volumes.backup*", "backup", "is gone", "warning"),
    "read-only disk": Broken(
        "mount --bind /var/lib/legacyhost /var/lib/legacyhost && mount -o remount,bind,ro /var/lib/legacyhost",
        "room",
        "mounted read-only",
    ),
    "host not known": Broken("rm /etc/legacyhost/known_hosts", "volume", "no host key of 127.0.0.1:2222 is known"),
    "key of another user": Broken("chown alice /etc/test-sshd/2222/client_key", "volume", "client_key is not root's"),
    "fuse gone": Broken("umount -l /dev/fuse; rm -f /dev/fuse", "fuse", "/dev/fuse is missing"),
}
#: Broken together; nothing of it hides another.
AT_ONCE = (
    *("target disabled", "tied to docker", "failed mount", "socket open to all", "dead socket", "shadow"),
    *("managed plugin", "podman told of another place", "sshfs not executable", "configuration has a wrong setting"),
    *("credential open", "known_hosts open", "backup gone", "socket disabled"),
)


@pytest.fixture(scope="module")
def broken(image: Path, deb: Path) -> Iterator[Installed]:
    """A machine of this module's own, to be broken: with one volume, used by a container, and one not."""
    with Machine(image) as machine:
        failed = machine.boot()
        assert not failed, f"units failed at boot: {', '.join(failed)}"
        machine.import_image("busybox", engines=["docker"])
        made = Installed(machine, deb)
        machine.write(TOLD, '[engine.volume_plugins]\nsshfs = "/run/docker/plugins/sshfs.sock"\n')
        made.create("data")
        made.start("user", "data", "sleep 100000")
        made.create("idle", "data")
        yield made


def ask(installed: Installed, *words: str) -> Findings:
    """All findings; their form and the exit status are as promised."""
    ran = installed.machine.run(["legacyhost", "doctor", "--json", *words], check=False, timeout=120)
    assert ran.stderr == ""
    found: Findings = json.loads(ran.stdout)
    for finding in found:
        assert list(finding) == ["check", "level", "what", "why", "mend"]
        assert finding["check"]
        assert finding["what"]
        if finding["level"] == "ok":
            assert (finding["why"], finding["mend"]) == ("", "")
        else:
            assert finding["level"] in ("warning", "error")
            assert finding["why"]
    assert ran.returncode == (1 if problems(found) else 0)
    return found


def problems(found: Findings) -> Findings:
    return [finding for finding in found if finding["level"] != "ok"]


def mend(installed: Installed, command: str) -> None:
    """As root would type it; the editor is one that knows what to do, and questions are answered."""
    print(f"# {command}")
    editor = "sed -i -e /^oops/d"
    ran = installed.machine.run(["bash", "-c", command], env={"EDITOR": editor}, input="y\n", timeout=120)
    print(ran.stdout + ran.stderr)


def is_well(installed: Installed) -> None:
    """Nothing is wrong, and a container can use a volume."""
    installed.machine.run("docker start user")  # where Docker was stopped
    assert problems(ask(installed)) == []
    assert installed.sh("idle", "echo well >/data/well; cat /data/well").stdout == "well\n"


def test_a_healthy_machine(broken: Installed) -> None:
    """Nothing is wrong, also where a volume is used; each stage of the way to it is there, in order."""
    assert problems(ask(broken)) == []
    found = ask(broken, "data")
    assert problems(found) == []
    stages = [finding["check"].removeprefix("volume data: ") for finding in found][-9:]
    assert stages == ["name", "tcp", "greeting", "key exchange", "host key", "login", "sftp", "directory", "ssh"]
    (mounted,) = [finding["what"] for finding in found if finding["check"] == "volume data: mount"]
    assert mounted.startswith("mounted, 1 holder by legacyhost:sshfs:data:")


def test_everything_is_broken_at_once(broken: Installed) -> None:
    """All of it is named, and when every command has been run everything is well."""
    for case in AT_ONCE:
        broken.machine.run(["bash", "-c", CASES[case].script])
    found = problems(ask(broken))
    said = [(finding["check"], finding["level"]) for finding in found]
    assert sorted(said) == sorted((CASES[case].check, CASES[case].level) for case in AT_ONCE)
    for finding in found:
        mend(broken, finding["mend"])
    is_well(broken)


@pytest.mark.any_debian
@pytest.mark.parametrize("case", CASES)
def test_one_thing_is_broken(broken: Installed, case: str) -> None:
    """It is named, nothing else is, and the command that is printed mends it."""
    expected = CASES[case]
    broken.machine.run(["bash", "-c", expected.script])
    found = problems(ask(broken))
    print(json.dumps(found, indent=1))
    for finding in found:  # one, or one for each of the volumes
        assert (finding["check"].partition(" data")[0].partition(" idle")[0], finding["level"]) == (
            expected.check,
            expected.level,
        )
        assert expected.what in finding["what"]
    assert len(found) == (2 if expected.check == "volume" else 1)
    for finding in found:
        mend(broken, finding["mend"])
    is_well(broken)


@dataclass(frozen=True)
class Stop:
    """`script` makes the way end at that stage, with that sentence; the command printed mends it, or `undo` does."""

    script: str
    stage: str
    sentence: str
    undo: str = ""
    volume: str = "way"


SSHD = "/etc/test-sshd/2230"
RESTART = "systemctl restart test-sshd-2230.service"
WHERE = "127.0.0.1:2230"
STOPS = {
    "no such host": Stop(
        "sed -i '/here.test/d' /etc/hosts", "name", "name here.test", "echo '127.0.0.1 here.test' >>/etc/hosts", "named"
    ),
    "no server": Stop(
        "systemctl stop test-sshd-2230.service", "tcp", f"{WHERE} refused the connection", RESTART
    ),
    "host key changed": Stop(
        f"rm {SSHD}/host_key*; ssh-keygen -q -t ed25519 -N '' -f {SSHD}/host_key; {RESTART}",
        "host key",
        f"host key of {WHERE} has changed",
    ),
    "key not taken": Stop(
        f": >{SSHD}/authorized_keys", "login", f"{WHERE} refused the login of bob (tried: key",
        f"cp {SSHD}/client_key.pub {SSHD}/authorized_keys",
    ),
    "other password": Stop(
        "echo bob:other | chpasswd", "login", f"{WHERE} refused the login of bob (tried: password",
        "echo bob:right-and-secret | chpasswd", "word",
    ),
    "no sftp": Stop(
        f"sed -i 's/^Subsystem/#&/' {SSHD}/sshd_config; {RESTART}", "sftp", f"{WHERE} has no SFTP for bob",
        f"sed -i 's/^#Subsystem/Subsystem/' {SSHD}/sshd_config; {RESTART}",
    ),
    "directory gone": Stop("rmdir ~bob/way", "directory", f"{WHERE} has no directory way"),
    "directory is a file": Stop(
        "rmdir ~bob/way; touch ~bob/way", "directory", f"way on {WHERE} is not a directory",
        "rm ~bob/way; install -d -o bob ~bob/way",
    ),
    "directory closed": Stop(
        "chown root: ~bob/way; chmod 700 ~bob/way", "directory", f"bob may not read way on {WHERE}: permission denied",
        "chown bob: ~bob/way",
    ),
    "directory not writable": Stop(
        "chown root: ~bob/way; chmod 755 ~bob/way", "directory", f"bob may not write to way on {WHERE}",
        "chown bob: ~bob/way",
    ),
    "disk full": Stop(
        "mount -t tmpfs -o size=64k,mode=777 tmpfs ~bob/way; dd if=/dev/zero of=/home/bob/way/x status=none; true",
        "directory", f"cannot write to way on {WHERE}: no space left there", "umount ~bob/way",
    ),
    "jump host gone": Stop(
        "systemctl stop test-sshd-2230.service", "jump host, tcp", f"{WHERE} refused the connection", RESTART, "jumped"
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def ways(broken: Installed) -> Installed:
    """The machine with a second SSH host, and volumes there: by key, by password, by name; and one behind it."""
    machine = broken.machine
    server = machine.ssh_server(2230, "bob", "right-and-secret")
    machine.run("echo '127.0.0.1 here.test' >>/etc/hosts")
    for host in ("127.0.0.1", "here.test"):
        machine.run(["legacyhost", "trust", f"{host}:2230", "--fingerprint", server.fingerprint])
    there = {"port": "2230", "IdentityFile": server.key}
    broken.create("way", sshcmd="bob@127.0.0.1:way", **there)
    broken.create("named", sshcmd="bob@here.test:named", **there)
    words = ["-o", "sshcmd=bob@127.0.0.1:word", "-o", "port=2230", "-o", "password=right-and-secret"]
    machine.docker("volume", "create", "-d", "sshfs", *words, "word")
    machine.run(f"cat {server.key}.pub >>/etc/test-sshd/2222/authorized_keys")
    broken.create("jumped", jump="bob@127.0.0.1:2230", IdentityFile=server.key)
    return broken


@pytest.mark.parametrize("case", STOPS)
def test_where_the_way_to_a_volume_ends(ways: Installed, case: str) -> None:
    """Stage by stage, to the one that fails; with the sentence, without a secret; then it is mended."""
    stop = STOPS[case]
    assert problems(ask(ways, stop.volume)) == []
    ways.machine.run(["bash", "-c", stop.script])
    found = [finding for finding in ask(ways, stop.volume) if finding["check"].startswith(f"volume {stop.volume}: ")]
    print(json.dumps(found, indent=1))
    assert "secret" not in json.dumps(found)
    (problem,) = problems(found)
    assert problem is found[-1]
    assert problem["check"] == f"volume {stop.volume}: {stop.stage}"
    assert stop.sentence in problem["what"]
    if stop.undo:
        ways.machine.run(["bash", "-c", stop.undo])
    else:
        mend(ways, problem["mend"])
    assert problems(ask(ways, stop.volume)) == []


def test_a_read_only_volume_need_not_be_writable(ways: Installed) -> None:
    ways.machine.run("install -d -m 755 ~bob/readonly")
    there = {"port": "2230", "IdentityFile": "/etc/test-sshd/2230/client_key"}
    ways.create("readonly", sshcmd="bob@127.0.0.1:readonly", ro="true", **there)
    found = ask(ways, "readonly")
    assert problems(found) == []
    assert found[-2]["what"].startswith("readonly can be read, ")


def test_a_clock_that_is_behind(broken: Installed) -> None:
    """Seen by a record that was changed in a time to come."""
    record = "/var/lib/legacyhost/sshfs/volumes.db"
    broken.machine.run(["touch", "-d", "2040-01-01", record])
    (found,) = problems(ask(broken))
    broken.machine.run(["touch", record])
    assert found["check"] == "clock"
    assert f"{record} is of 2040-01-01" in found["what"]


def test_another_login_for_the_same_volume(ways: Installed) -> None:
    """The commands that are printed for a password that is not taken any more make the volume anew with another."""
    ways.machine.run("echo bob:other | chpasswd")
    (found,) = problems(ask(ways, "word"))
    print(found["mend"])
    ways.machine.run(["bash", "-c", found["mend"]], input="other\n")
    ways.machine.run("echo bob:right-and-secret | chpasswd; echo right-and-secret >/root/word")
    ways.machine.run("legacyhost credential add --replace word </root/word")
    assert problems(ask(ways, "word")) == []


def test_a_volume_that_is_not_there(broken: Installed) -> None:
    ran = broken.machine.run(["legacyhost", "doctor", "nothing"], check=False)
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr == "legacyhost: there is no volume nothing; to see those there are: legacyhost ls\n"


def test_podman_alone_is_told_of_the_plugin(broken: Installed) -> None:
    """Where Docker is switched off a Podman that knows nothing of the plugin is a problem."""
    machine = broken.machine
    machine.run("docker stop -t 1 user; systemctl disable --now docker.socket docker.service")
    told = machine.run(f"cat {TOLD}; rm -rf {TOLD} {TOLD}.d").stdout
    (found,) = problems(ask(broken))
    assert found["what"] == "containers.conf does not name the plugin sshfs"
    mend(broken, found["mend"])
    assert problems(ask(broken)) == []
    words = [word for key, value in broken.options("podded").items() for word in ("--opt", f"{key}={value}")]
    machine.podman("volume", "create", "--driver", "sshfs", *words, "podded")
    machine.run("systemctl enable --now docker.socket docker.service")
    machine.write(TOLD, told)


def test_as_somebody_else(broken: Installed) -> None:
    """What needs root is said, and nothing else is wrong."""
    ran = broken.machine.run(["setpriv", "--reuid", "nobody", "--clear-groups", "legacyhost", "doctor"], check=False)
    assert ran.returncode == 1
    assert ran.stderr == ""
    assert "error" not in ran.stdout
    assert "only root may" in ran.stdout
    assert ran.stdout.endswith("what mends it:  sudo legacyhost doctor\n1 problem\n")
