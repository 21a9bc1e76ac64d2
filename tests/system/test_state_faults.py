"""The record of volumes on a disk that fails: torn, lost, full, read-only. Docker says why, and forgets nothing."""

from __future__ import annotations

import json
import re

import pytest

from .installed import Installed

STATE = "/var/lib/legacyhost"
RECORD = f"{STATE}/sshfs/volumes.db"
SERVICE = "legacyhost@sshfs.service"
#: Ends the service without letting it finish anything, as a power cut would, and for good.
CUT = f"""
    mkdir -p /run/systemd/system/{SERVICE}.d
    printf '[Service]\\nKillSignal=SIGKILL\\n' >/run/systemd/system/{SERVICE}.d/cut.conf
    systemctl daemon-reload; systemctl stop {SERVICE}
    rm -r /run/systemd/system/{SERVICE}.d; systemctl daemon-reload
"""
#: Damages to the files of a plugin that has ended so, each in shell.
DAMAGES = {
    "torn in the middle": f"rm -f {RECORD}-*; dd if=/dev/urandom of={RECORD} bs=4096 seek=1 count=1 conv=notrunc",
    "cut off": f"truncate --size=5000 {RECORD}",
    "empty": f"truncate --size=0 {RECORD}",
    "gone": f"rm {RECORD}*",
    "without its log": f"rm {RECORD}-wal",
}


def labels(installed: Installed) -> dict[str, object]:
    """What only docker knows: it is lost when docker forgets a volume, even if the plugin still has it."""
    names = installed.machine.docker("volume", "ls", "-q").stdout.split()
    shown = json.loads(installed.machine.docker("volume", "inspect", *names).stdout)
    return {volume["Name"]: volume["Labels"] for volume in shown}


def create(installed: Installed, name: str) -> None:
    words = [word for key, value in installed.options(name).items() for word in ("-o", f"{key}={value}")]
    installed.machine.docker("volume", "create", "-d", "sshfs", "--label", f"is={name}", *words, name)


def prepare(installed: Installed) -> dict[str, object]:
    """Two volumes, and a container that waits for one of them."""
    for name in ("data", "other"):
        create(installed, name)
    words = ["--name", "waiting", "--network", "none", "-v", "data:/data"]
    installed.machine.docker("create", *words, "busybox", "sh", "-c", "date >>/data/starts")
    found = labels(installed)
    assert found == {"data": {"is": "data"}, "other": {"is": "other"}}
    return found


def starts(installed: Installed) -> int:
    """Start the container until it has come to its end, and count how often it has been."""
    machine = installed.machine
    machine.wait_for(lambda: machine.docker("start", "-a", "waiting", check=False).returncode == 0, 60)
    return len(installed.on_remote("data/starts").splitlines())


def restart_docker(installed: Installed) -> None:
    """Docker asks for the handshake again, and shows what it says."""
    installed.machine.run("systemctl restart docker", timeout=120)


def on_small_disk(installed: Installed) -> None:
    """The plugin's state on a disk of its own."""
    script = f"""
        systemctl stop legacyhost@sshfs.socket {SERVICE} && cp -a {STATE} /root/state &&
        mount -t tmpfs -o size=3m,mode=755 small {STATE} && cp -a /root/state/. {STATE}/ &&
        systemctl start legacyhost@sshfs.socket
    """
    installed.machine.run(script)


def fill_disk(installed: Installed) -> None:
    installed.machine.run(f"cat /dev/zero >>{STATE}/stuff", check=False)
    assert installed.machine.run(f"echo x >{STATE}/more", check=False).returncode != 0


@pytest.mark.any_debian
@pytest.mark.parametrize("damage", DAMAGES)
def test_the_command_in_dockers_message_mends_the_record(fresh: Installed, damage: str) -> None:
    """It is typed as docker shows it; then docker has every volume with everything it knew of it."""
    machine = fresh.machine
    before = prepare(fresh)
    machine.run(f"{CUT}{DAMAGES[damage]}")
    restart_docker(fresh)
    failed = machine.docker("start", "-a", "waiting", check=False)
    assert failed.returncode != 0
    found = re.search(rf"{RECORD} .* use its backup of 2 volumes, last changed .*: (legacyhost .*)", failed.stderr)
    assert found, failed.stderr
    shown = machine.run(f"systemctl status {SERVICE}", check=False).stdout
    assert "not serving" in shown
    command = re.match(r"legacyhost restore --plugin [a-z]+", found[1])
    assert command, found[1]
    said = machine.run(command[0]).stdout
    assert "2 volumes" in said
    assert "data, other" in said
    assert starts(fresh) == 1
    assert labels(fresh) == before
    for path in re.findall(r"^Kept: (.*)$", said, re.MULTILINE):
        assert machine.run(["stat", "-c", "%a", path]).stdout == "600\n"
    assert ("Kept: " in said) == (damage != "gone")
    machine.docker("rm", "waiting")
    machine.docker("volume", "rm", "data", "other")
    assert "nothing to restore" in machine.run(command[0], check=False).stderr


@pytest.mark.any_debian
def test_a_full_disk(fresh: Installed) -> None:
    """Create says so; what is there works, can be removed, and survives a restart of everything."""
    machine = fresh.machine
    before = prepare(fresh)
    on_small_disk(fresh)
    for number in range(5):
        create(fresh, f"more-{number}")
    fill_disk(fresh)
    words = [word for key, value in fresh.options("new").items() for word in ("-o", f"{key}={value}")]
    created = 0
    while True:
        ran = machine.docker("volume", "create", "-d", "sshfs", *words, f"new-{created}", check=False)
        if ran.returncode != 0:
            break
        created += 1
    sentence = f"volume new-{created} cannot be recorded in {RECORD}: the disk is full; make room in {STATE}/sshfs"
    assert sentence in ran.stderr
    names = {"data", "other", *(f"more-{n}" for n in range(5)), *(f"new-{n}" for n in range(created))}
    assert set(labels(fresh)) == names
    assert starts(fresh) == 1
    machine.docker("volume", "rm", "more-0")
    fill_disk(fresh)
    machine.run(f"systemctl restart {SERVICE}")
    restart_docker(fresh)
    assert starts(fresh) == 2
    assert set(labels(fresh)) == names - {"more-0"}
    machine.docker("volume", "rm", "more-1")
    machine.run(f"rm {STATE}/stuff {STATE}/more")
    create(fresh, "later")
    assert {name: label for name, label in labels(fresh).items() if name in before} == before
    machine.run(f"systemctl kill --signal=SIGKILL {SERVICE}")
    assert set(labels(fresh)) == {*names, "later"} - {"more-0", "more-1"}


@pytest.mark.any_debian
def test_a_read_only_disk(fresh: Installed) -> None:
    """The plugin does not serve and docker says why; it goes on by itself when the disk is writable again."""
    machine = fresh.machine
    before = prepare(fresh)
    on_small_disk(fresh)
    machine.run(f"systemctl stop {SERVICE}; mount -o remount,ro {STATE}")
    restart_docker(fresh)
    failed = machine.docker("start", "-a", "waiting", check=False)
    assert failed.returncode != 0
    assert f"{STATE}/sshfs is on a file system mounted read-only; mount it writable" in failed.stderr
    refused = machine.run("legacyhost restore --plugin sshfs", check=False)
    assert refused.returncode == 1
    assert len(refused.stderr.splitlines()) == 1
    machine.run(f"mount -o remount,rw {STATE}")
    assert starts(fresh) == 1
    assert labels(fresh) == before


@pytest.mark.any_debian
def test_a_record_that_is_lost_while_it_is_served(fresh: Installed) -> None:
    """Nothing is answered from then on; the status says what to do, and after that docker has all it had."""
    machine = fresh.machine
    expected = prepare(fresh)
    fresh.start("holder", "other", "while :; do date >>/data/log; sleep 0.1; done", "--stop-timeout", "1")
    machine.run(f"rm {RECORD}")
    failed = machine.docker("run", "--rm", "-v", "data:/data", "busybox", "true", check=False)
    assert failed.returncode != 0
    machine.wait_for(f"systemctl status {SERVICE} | grep -q 'legacyhost restore --plugin sshfs'", 20)
    assert "The plugin sshfs serves it." in machine.run("legacyhost restore --plugin sshfs", timeout=60).stdout
    assert labels(fresh) == expected
    assert starts(fresh) == 1
    before = len(fresh.on_remote("other/log").splitlines())
    machine.wait_for(lambda: len(fresh.on_remote("other/log").splitlines()) > before)
