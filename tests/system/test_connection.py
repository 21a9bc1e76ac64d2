"""The connection of a mount is slow, cut, or gone: what containers see of it, and what is said about it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator

import pytest

from .far import FarHost
from .inside import Background
from .installed import Installed, assert_writing, writer

#: A script that reads, writes, syncs and renames for ever, and says so when one of these fails.
WORKER = """
i=0
while :; do
    i=$((i+1))
    { echo $i >/data/new && mv /data/new /data/current && [ "$(cat /data/current)" = $i ] &&
        dd if=/dev/zero of=/data/block bs=64k count=4 conv=fsync 2>/dev/null && ls /data >/dev/null; } ||
        { echo "round $i failed"; exit 1; }
    echo $i
done
"""


@pytest.fixture(scope="module")
def far(installed: Installed) -> Iterator[FarHost]:
    """One host for the tests of this module."""
    made = FarHost(installed.machine)
    yield made
    made.close()


def create_far(installed: Installed, far: FarHost, name: str, **more: str) -> None:
    words = [f"--opt={key}={value}" for key, value in {**far.options(name), **more}.items()]
    installed.machine.docker("volume", "create", "-d", "sshfs", *words, name)


def status(installed: Installed, volume: str) -> dict[str, object]:
    return installed.inspect(volume)["Status"]


def is_running(installed: Installed, container: str) -> bool:
    shown = installed.machine.docker("inspect", "-f", "{{.State.Running}} {{.RestartCount}}", container).stdout
    return shown.strip() == "true 0"


def operation(installed: Installed, container: str, script: str, limit: int = 120) -> tuple[int, float]:
    """The exit status of a script in the container, and how many seconds it took."""
    started = time.monotonic()
    ran = installed.machine.docker("exec", container, "sh", "-c", script, check=False, timeout=limit)
    return ran.returncode, time.monotonic() - started


@pytest.mark.parametrize("how", ["cut", "frozen"])
def test_ten_seconds_without_the_host_fail_no_operation(installed: Installed, far: FarHost, how: str) -> None:
    """Connection cut or host frozen for 10 s during I/O: it waits and goes on."""
    name = installed.name(how)
    create_far(installed, far, name)
    installed.start(name, name, WORKER, "--stop-timeout", "1")
    installed.start(f"{name}-log", name, writer("log"), "--stop-timeout", "1")
    machine = installed.machine
    machine.wait_for(lambda: len(machine.docker("logs", name).stdout.split()) > 3)
    if how == "cut":
        far.cut()
    else:
        far.server.freeze(listener=True)
    time.sleep(10)
    if how == "cut":
        far.plug()
    else:
        far.server.thaw()
    seen = len(machine.docker("logs", name).stdout.split())
    machine.wait_for(lambda: len(machine.docker("logs", name).stdout.split()) > seen + 3, 40)
    assert "failed" not in machine.docker("logs", name).stdout
    assert_writing(installed, f"{name}-log", f"{name}/log")
    assert status(installed, name)["reconnects"] == 0
    machine.docker("rm", "-f", name, f"{name}-log")


def test_a_host_that_stays_away_fails_operations_and_comes_back(installed: Installed, far: FarHost) -> None:
    """Longer than fail_after: EIO, never for ever; the same mount works again, under another address too."""
    machine, name = installed.machine, installed.name("away")
    create_far(installed, far, name, fail_after="6")
    installed.start(name, name, "sleep 1000", "--stop-timeout", "1")
    assert operation(installed, name, "echo before >/data/file")[0] == 0
    device = machine.docker("exec", name, "stat", "-c", "%d", "/data").stdout
    far.cut()
    # The one that is under way, those that come while it is being noticed, several at once, and those much later.
    for script in ("echo x >/data/one", "cat /data/file", "ls /data/more", "mkdir /data/two"):
        code, took = operation(installed, name, script)
        assert code != 0, script
        assert took < 6 + 5 + 10, f"{script} took {took:.1f} s"
    together = [machine.popen(["docker", "exec", name, "touch", f"/data/{i}"]) for i in range(8)]
    for process in together:
        _, said = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "Input/output error" in said
    shown = status(installed, name)
    assert shown["state"] == "connection lost"
    assert "it is made again by itself" in str(shown["hint"])
    assert shown["last error"]
    assert shown["last error at"]
    # Nothing is ever written beside the mount.
    assert machine.run(["find", "/run/legacyhost/sshfs/bare", "-type", "f"]).stdout == ""

    far.return_as_another()
    machine.wait_for(lambda: operation(installed, name, "cat /data/file")[0] == 0, 30)
    assert machine.docker("exec", name, "stat", "-c", "%d", "/data").stdout == device, "the same mount"
    assert is_running(installed, name)
    assert operation(installed, name, "echo after >>/data/file")[0] == 0
    assert installed.on_remote(f"{name}/file") == "before\nafter\n"
    shown = status(installed, name)
    assert (shown["state"], shown["reconnects"]) == ("mounted", 1)
    machine.docker("rm", "-f", name)


def test_operations_wait_for_a_host_that_restarts(installed: Installed) -> None:
    """Connections reset and refused for some seconds: what comes meanwhile waits, and nothing of it fails."""
    machine, name = installed.machine, installed.name("restarting")
    server = machine.ssh_server(port=2251)
    machine.run(["legacyhost", "trust", "127.0.0.1:2251", "--fingerprint", server.fingerprint])
    installed.create(name, port="2251", IdentityFile=server.key)
    installed.start(name, name, "sleep 1000", "--stop-timeout", "1")
    server.stop()
    waiting: list[Background] = [
        machine.popen(["docker", "exec", name, "sh", "-c", f"echo {i} >/data/{i}"]) for i in range(5)
    ]
    time.sleep(3)
    assert all(process.poll() is None for process in waiting), "they wait"
    server.start()
    for process in waiting:
        process.communicate(timeout=60)
        assert process.returncode == 0
    assert [installed.on_remote(f"{name}/{i}") for i in range(5)] == [f"{i}\n" for i in range(5)]
    machine.docker("rm", "-f", name)


def test_a_mount_that_is_dead_for_good(installed: Installed) -> None:
    """It is said, no further container hangs in it, unstick frees who does, and the next start works."""
    machine, name = installed.machine, installed.name("dead")
    installed.create(name, timeout="6")
    installed.start(name, name, "echo kept >/data/file; sleep 1000", "--stop-timeout", "1")
    machine.wait_for(["test", "-s", f"{installed.remote.home}/{name}/file"])
    refused = machine.run(["legacyhost", "unstick", name], check=False)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert "nothing is stuck" in refused.stderr
    unit = next(unit for unit in installed.mount_units() if f":{name}:" in unit)
    main = machine.run(["systemctl", "show", "-p", "MainPID", "--value", unit]).stdout.strip()
    machine.run(["kill", "-STOP", main])
    stuck = machine.popen(["docker", "exec", name, "cat", "/data/file"])
    machine.wait_for(lambda: status(installed, name)["state"] == "not answering", 30)
    assert "legacyhost unstick" in str(status(installed, name)["hint"])
    another = machine.docker("run", "--rm", "--network", "none", "-v", f"{name}:/data", "busybox", "true", check=False)
    assert another.returncode != 0
    assert f"the mount of volume {name} does not answer" in another.stderr
    assert f"legacyhost unstick {name}" in another.stderr
    assert installed.holders(name) == 1, "who was refused does not count"
    assert stuck.poll() is None
    done = machine.run(["legacyhost", "unstick", name], timeout=60).stdout
    assert f"the mount of volume {name} is gone" in done
    assert "(sleep)" in done
    stuck.communicate(timeout=30)
    assert stuck.returncode not in (0, None)
    machine.wait_for(lambda: status(installed, name)["state"] == "lost")
    assert installed.sh(name, "cat /data/file; echo new >/data/more").stdout == "kept\n"
    machine.docker("restart", name, timeout=60)
    assert machine.docker("exec", name, "cat", "/data/more").stdout == "new\n"
    machine.docker("rm", "-f", name)
    machine.wait_for(lambda: status(installed, name)["state"] == "not mounted")
    assert "not mounted" in machine.run(["legacyhost", "unstick", name]).stdout


def test_a_program_that_was_killed_is_told(installed: Installed) -> None:
    """sshfs is gone, the container still has the volume: Status says what to do, and the next container works."""
    machine, name = installed.machine, installed.name("killed")
    installed.create(name)
    installed.start(name, name, "sleep 1000", "--stop-timeout", "1")
    machine.run(["systemctl", "kill", "--kill-who=main", "--signal=SIGKILL", f"legacyhost:sshfs:{name}:*"])
    machine.wait_for(lambda: status(installed, name)["state"] == "lost", 30)
    assert status(installed, name)["holders"] == 1
    assert "restart the containers" in str(status(installed, name)["hint"])
    machine.wait_for(lambda: f"volume {name} is not mounted any more" in machine.journal("legacyhost@sshfs.service"))
    assert installed.sh(name, "echo x >/data/file").returncode == 0
    machine.docker("restart", name, timeout=60)
    assert machine.docker("exec", name, "cat", "/data/file").stdout == "x\n"
    machine.docker("rm", "-f", name)


@pytest.fixture(scope="module")
def seeded(installed: Installed) -> str:
    """An image with files at /seed that belong to several users."""
    machine = installed.machine
    script = (
        "mkdir -p /seed/folder && echo a >/seed/file && echo b >/seed/folder/file && ln -s file /seed/link"
        " && ln -s /nowhere/at/all /seed/absolute && ln -s zzz /seed/aaa && echo z >/seed/zzz"
        " && chown -R 33:33 /seed && chown 7:7 /seed/folder/file && chmod 640 /seed/file"
    )
    machine.docker("run", "--name", "seeding", "--network", "none", "busybox", "sh", "-c", script)
    machine.docker("commit", "seeding", "seeded")
    machine.docker("rm", "seeding")
    return "seeded"


def test_files_of_an_image_are_copied_into_a_new_volume(installed: Installed, seeded: str) -> None:
    """With an unprivileged account, by default: content and modes arrive, owners are the account's."""
    name = installed.name("copied")
    installed.create(name)
    words = ["run", "--rm", "--network", "none", "-v", f"{name}:/seed", seeded]
    shown = installed.machine.docker(
        *words,
        "sh",
        "-c",
        "cat /seed/file /seed/folder/file /seed/link /seed/aaa; stat -c %a /seed/file",
    )
    assert shown.stdout.split() == ["a", "b", "a", "z", "640"]
    led = installed.machine.run(["readlink", f"{installed.remote.home}/{name}/absolute"]).stdout
    assert led == "/nowhere/at/all\n"
    assert installed.on_remote(f"{name}/folder/file") == "b\n"
    owner = installed.machine.run(["stat", "-c", "%U", f"{installed.remote.home}/{name}/folder/file"]).stdout
    assert owner == "alice\n"


def test_chown_strict_gives_the_error(installed: Installed) -> None:
    """For those who would rather know."""
    name = installed.name("strict")
    installed.create(name, chown="strict")
    failed = installed.sh(name, "touch /data/x; chown 5:5 /data/x", check=False)
    assert failed.returncode != 0
    assert re.search("chown: .*(Operation not permitted|Permission denied)", failed.stderr)


def test_docker_cp_into_a_volume(installed: Installed) -> None:
    """It changes owners too."""
    machine, name = installed.machine, installed.name("into")
    installed.create(name)
    installed.start(name, name, "sleep 1000", "--stop-timeout", "1")
    machine.write("/root/copied", "content\n")
    machine.docker("cp", "/root/copied", f"{name}:/data/copied")
    assert installed.on_remote(f"{name}/copied") == "content\n"
    machine.docker("rm", "-f", name)


def test_owners_set_by_the_account_root_are_real(installed: Installed) -> None:
    """Whoever logs in as root may change owners, and chown does what it says."""
    machine, name = installed.machine, installed.name("root")
    server = machine.ssh_server(port=2252, user="root")
    machine.run(["legacyhost", "trust", "127.0.0.1:2252", "--fingerprint", server.fingerprint])
    options = [f"--opt=sshcmd=root@127.0.0.1:/srv/{name}", "--opt=port=2252", f"--opt=IdentityFile={server.key}"]
    machine.docker("volume", "create", "-d", "sshfs", *options, name)
    assert installed.sh(name, "touch /data/x && chown 5:7 /data/x && stat -c %u:%g /data/x").stdout == "5:7\n"
    assert machine.run(["stat", "-c", "%u:%g", f"/srv/{name}/x"]).stdout == "5:7\n"


def test_status_tells_what_has_happened(installed: Installed) -> None:
    """State and since when, reconnects, the last error and its time; ls and inspect show the same."""
    machine, name = installed.machine, installed.name("told")
    installed.create(name)
    assert status(installed, name)["state"] == "not mounted"
    installed.start(name, name, "sleep 1000", "--stop-timeout", "1")
    shown = status(installed, name)
    assert (shown["state"], shown["holders"], shown["reconnects"]) == ("mounted", 1, 0)
    assert shown["since"]
    assert shown["remote"] == f"alice@127.0.0.1:{name} (port 2222)"
    assert operation(installed, name, "touch /data/own")[0] == 0, "the mount has a connection of its own"
    installed.remote.drop()
    machine.wait_for(lambda: operation(installed, name, "touch /data/x")[0] == 0, 30)
    shown = status(installed, name)
    assert (shown["state"], shown["reconnects"]) == ("mounted", 1)
    assert shown["last error"]
    assert shown["last error at"]
    lines = machine.run(["legacyhost", "ls"]).stdout.splitlines()
    assert next(line for line in lines if line.split()[0] == name).split()[1:3] == ["mounted", "1"]
    inspected = json.loads(machine.run(["legacyhost", "inspect", "--json", name]).stdout)
    assert {**inspected["Status"]} == {**shown}
    machine.docker("rm", "-f", name)
