"""./quickstart on a booted Debian, as somebody does who has just cloned the project."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from system.conftest import missing
from system.images import ensure
from system.machine import Machine

TOP = Path(__file__).parents[2]
#: Seconds; most of it is apt, fetching what the build of the package needs.
PATIENCE = 600


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine with the host's network (apt needs it) and a fresh checkout in /root/legacyhost."""
    if reason := missing():
        text = f"quickstart cannot be tried on a machine: {reason}"
        if os.environ.get("CI", "").lower() in ("1", "true", "yes"):
            pytest.fail(text, pytrace=False)
        pytest.skip(text)
    archive = tmp_path_factory.mktemp("checkout") / "checkout.tar"
    names = ["build-deb", "legacyhost", "packaging", "pyproject.toml", "quickstart", "README.md", "CHANGELOG.md"]
    there = [name for name in names if (TOP / name).exists()]
    subprocess.run(["tar", "-C", TOP, "--exclude=__pycache__", "-cf", archive, *there], check=True)
    with Machine(ensure("bookworm"), private_network=False) as made:
        made.boot()
        made.put(archive, "/root/checkout.tar")
        made.run("mkdir /root/legacyhost && tar -C /root/legacyhost -xf /root/checkout.tar")
        yield made


def test_it_ends_well_and_says_what_stays(machine: Machine) -> None:
    """Exit status 0; each step is shown; nothing runs afterwards that was not announced."""
    ran = machine.run("/root/legacyhost/quickstart", timeout=PATIENCE, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    for shown in (
        "$ systemctl enable --now legacyhost@sshfs.socket",
        "$ legacyhost trust 127.0.0.1:",
        "$ docker volume create -d sshfs -o sshcmd=legacyhost-demo@127.0.0.1:data",
        "written in a container",
        "$ systemctl restart legacyhost@sshfs.service",
        "no failed write",
        "$ docker volume rm legacyhost-quickstart",
        "man legacyhost-policy",
        '- the plugin "sshfs"',
    ):
        assert shown in ran.stdout, ran.stdout
    assert machine.run("systemctl is-active legacyhost@sshfs.socket").stdout == "active\n"
    assert machine.docker("ps", "-aq").stdout == ""
    assert machine.docker("volume", "ls", "-q").stdout == ""
    assert machine.run("id legacyhost-demo", check=False).returncode != 0
    assert machine.run("ps -eo args | grep -c '[s]shd.*quickstart'", check=False).stdout == "0\n"
    assert machine.run("ls -d /run/legacyhost-quickstart.*", check=False).stdout == ""


def test_it_ends_well_a_second_time(machine: Machine) -> None:
    """Running it twice works."""
    ran = machine.run("/root/legacyhost/quickstart", timeout=PATIENCE, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_afterwards_volumes_work_by_hand(machine: Machine) -> None:
    """What the last lines promise: the plugin is there for everybody."""
    remote = machine.ssh_server(port=22222)
    machine.import_image("busybox")
    machine.run(["legacyhost", "trust", "127.0.0.1:22222", "--fingerprint", remote.fingerprint])
    words = ["-o", "sshcmd=alice@127.0.0.1:data", "-o", "port=22222", "-o", f"IdentityFile={remote.key}"]
    machine.docker("volume", "create", "-d", "sshfs", *words, "data")
    ran = machine.docker("run", "--rm", "--network", "none", "-v", "data:/data", "busybox", "touch", "/data/file")
    assert ran.returncode == 0
    assert machine.run(f"ls {remote.home}/data").stdout == "file\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [("nonsense", "usage: ./quickstart"), ("a:b c:d", "usage: ./quickstart")],
)
def test_wrong_arguments(machine: Machine, arguments: str, says: str) -> None:
    """Exit status 2 and the form, before anything is done."""
    ran = machine.run(f"/root/legacyhost/quickstart {arguments}", check=False)
    assert ran.returncode == 2
    assert says in ran.stderr
