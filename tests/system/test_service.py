"""The service under systemd: restarts, order of stopping and starting, reboots, what it says when it cannot serve."""

from __future__ import annotations

import re

import pytest

from .installed import Installed, assert_writing, writer


@pytest.mark.parametrize(
    "command",
    [
        "systemctl restart legacyhost@sshfs.service",
        "systemctl stop legacyhost@sshfs.service",
        "systemctl kill --signal=SIGKILL legacyhost@sshfs.service",
        "systemctl reload legacyhost@sshfs.service",
        "apt-get install -q -y --reinstall /root/legacyhost.deb",
    ],
)
def test_no_write_fails_while_the_plugin_goes_and_comes(installed: Installed, command: str) -> None:
    """A mount outlives the process that asked for it: restart, stop, crash, upgrade."""
    name, container = installed.name(), installed.name("writer")
    installed.create(name)
    installed.start(container, name, writer("log"), "--stop-timeout", "1")
    installed.machine.wait_for(["test", "-s", f"{installed.remote.home}/{name}/log"])
    installed.machine.run("legacyhost ls --plugin sshfs")
    installed.machine.run(command, timeout=120)
    assert_writing(installed, container, f"{name}/log")
    assert installed.holders(name) == 1
    installed.machine.docker("rm", "-f", container)
    assert name not in installed.mounted()
    installed.machine.docker("volume", "rm", name)


@pytest.mark.parametrize("is_running", [True, False])
@pytest.mark.parametrize("verb", ["restart", "stop"])
def test_docker_stops_and_restarts_whatever_the_plugin_does(installed: Installed, verb: str, is_running: bool) -> None:
    """Neither a hang nor a cancelled job; the last Unmount arrives, starting the plugin if need be."""
    machine = installed.machine
    name, container = installed.name(), installed.name("stopped")
    installed.create(name)
    installed.start(container, name, "sleep 1000", "--stop-timeout", "1")
    if is_running:
        machine.run("systemctl start legacyhost@sshfs.service")
    else:
        machine.run("systemctl stop legacyhost@sshfs.service")
    # Without docker.socket nothing starts dockerd again behind our back.
    ran = machine.run(f"systemctl stop docker.socket; systemctl {verb} docker.service", timeout=15)
    assert "canceled" not in ran.stderr
    assert name not in installed.mounted()
    machine.run("systemctl reset-failed docker.service docker.socket; systemctl start docker.socket docker.service")
    machine.docker("start", container)
    assert name in installed.mounted()
    machine.docker("rm", "-f", container)


def test_a_container_has_its_volume_again_after_a_reboot(fresh: Installed) -> None:
    """--restart=always: sockets and their order before docker are in place at boot; shutdown is not delayed."""
    machine = fresh.machine
    fresh.create("data")
    fresh.start("always", "data", "date >>/data/starts; " + writer("log"), "--restart=always", "--stop-timeout", "1")
    machine.wait_for(["test", "-s", f"{fresh.remote.home}/data/log"])
    machine.poweroff(timeout=30)
    machine.boot()
    machine.wait_for(lambda: "data" in fresh.mounted(), 30)
    machine.wait_for(lambda: len(fresh.on_remote("data/starts").splitlines()) == 2, 30)
    assert fresh.holders("data") == 1
    machine.docker("rm", "-f", "always")
    assert "data" not in fresh.mounted()


def test_power_loss_loses_no_volume_and_no_mount(fresh: Installed) -> None:
    """After the plug was pulled the volumes are known, and the container has its volume again."""
    machine = fresh.machine
    names = [f"volume-{number}" for number in range(5)]
    for name in names:
        fresh.create(name)
    fresh.start("always", names[0], "date >>/data/starts; sleep 1000", "--restart=always", "--stop-timeout", "1")
    machine.wait_for(["test", "-s", f"{fresh.remote.home}/{names[0]}/starts"])
    machine.power_loss()
    machine.boot()
    machine.wait_for(lambda: len(fresh.on_remote(f"{names[0]}/starts").splitlines()) == 2, 30)
    assert machine.docker("volume", "ls", "-q").stdout.split() == names
    assert fresh.mounted() == {names[0]}
    fresh.sh(names[1], "echo x >/data/file")
    machine.docker("rm", "-f", "always")
    assert fresh.mounted() == set()


def test_docker_killed_and_started(fresh: Installed) -> None:
    """dockerd repeats the mount's ID; the container runs again on the volume."""
    machine = fresh.machine
    fresh.create("data")
    fresh.start("always", "data", "date >>/data/starts; sleep 1000", "--restart=always", "--stop-timeout", "1")
    machine.wait_for(["test", "-s", f"{fresh.remote.home}/data/starts"])
    machine.run("systemctl kill --signal=SIGKILL docker.service")
    machine.wait_for(lambda: len(fresh.on_remote("data/starts").splitlines()) == 2, 60)
    assert fresh.mounted() == {"data"}


def test_the_socket_is_for_root_alone(installed: Installed) -> None:
    """Whoever can call a volume plugin is root on the host."""
    shown = installed.machine.run("stat -c '%a %U' /run/docker/plugins/sshfs.sock /run/docker/plugins").stdout
    assert shown.splitlines() == ["600 root", "700 root"]


def test_nothing_of_a_secret_is_readable_or_shown(installed: Installed) -> None:
    """A password stands in root's files only: no argv, no environment, no journal, no message."""
    machine = installed.machine
    secret = "s3cret,with \"odd' $characters%"
    server = machine.ssh_server(port=2224, user="paula", password=secret)
    machine.run(["legacyhost", "trust", "127.0.0.1:2224", "--fingerprint", server.fingerprint])
    name, container = installed.name(), installed.name("secret")
    words = ["-o", f"sshcmd=paula@127.0.0.1:{name}", "-o", "port=2224", "-o", f"password={secret}"]
    machine.docker("volume", "create", "-d", "sshfs", *words, name)
    installed.start(container, name, "echo x >/data/file; sleep 1000", "--stop-timeout", "1")
    machine.wait_for(["test", "-s", f"{server.home}/{name}/file"])
    # One process reads them all, and its own command line has the word in pieces only.
    script = "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | grep -a -c 's3c[r]et'"
    assert machine.run(script, check=False).stdout == "0\n"
    assert "s3cret" not in machine.run("journalctl --no-pager -o export | tr -d '\\0'", timeout=120).stdout
    shown = machine.run(["legacyhost", "inspect", name, "--json"]).stdout
    assert "s3cret" not in shown
    modes = machine.run(
        "find /var/lib/legacyhost/sshfs /run/legacyhost -perm /077 -not -path '*/mounts/*' -not -type l"
    ).stdout
    assert modes == ""
    machine.docker("rm", "-f", container)
    machine.docker("volume", "rm", name)
    assert machine.run("find /run/legacyhost -name secret").stdout == ""


def test_a_mountpoint_without_a_mount_cannot_be_written(installed: Installed) -> None:
    """What still writes to the path of a lost mount gets an error instead of filling the local disk."""
    name, container = installed.name(), installed.name("lost")
    installed.create(name)
    installed.start(container, name, "sleep 1000", "--stop-timeout", "1")
    point = f"/run/legacyhost/sshfs/mounts/{name}"
    installed.machine.run(["umount", "--lazy", point])
    failed = installed.machine.run(f"echo x >{point}/file", check=False)
    assert "Read-only" in failed.stderr
    installed.machine.docker("rm", "-f", container)
    installed.sh(name, "echo x >/data/file")


def test_a_killed_sshfs_leaves_no_dead_mount(installed: Installed) -> None:
    """The unit detaches what its program leaves behind; the next container gets a new mount."""
    name, container = installed.name(), installed.name("killed")
    installed.create(name)
    installed.start(container, name, "sleep 1000", "--stop-timeout", "1")
    installed.machine.run(f"systemctl kill --kill-who=main --signal=SIGKILL 'legacyhost:sshfs:{name}:*'")
    installed.machine.wait_for(lambda: name not in installed.mounted())
    installed.sh(name, "echo x >/data/file")
    installed.machine.docker("rm", "-f", container)
    assert installed.on_remote(f"{name}/file") == "x\n"
    assert name not in installed.mounted()


def test_the_unit_of_one_mount_leaves_the_next_one_alone(installed: Installed) -> None:
    """A unit may end seconds after its mount is gone, when another is there already: that is not its own to detach."""
    name, container = installed.name(), installed.name("next")
    installed.create(name)
    for _ in range(3):
        installed.sh(name, "true")
    installed.start(container, name, writer("log"), "--stop-timeout", "1")
    installed.machine.run("sleep 7")  # longer than TimeoutStopSec= of the units before
    assert_writing(installed, container, f"{name}/log")
    assert name in installed.mounted()
    installed.machine.docker("rm", "-f", container)


def test_a_mount_right_after_sshfs_was_killed_is_a_new_one(installed: Installed) -> None:
    """mountinfo shows a dead mount for a while: it is never handed out."""
    name = installed.name()
    installed.create(name)
    request = f'{{"Name": "{name}", "ID": "%s"}}'
    call = ["legacyhost", "call"]
    installed.machine.run([*call, "VolumeDriver.Mount", request % "one"])
    for number in range(3):
        (unit,) = (unit for unit in installed.mount_units() if f":{name}:" in unit)
        script = f"systemctl kill --kill-who=main --signal=SIGKILL '{unit}'; legacyhost call VolumeDriver.Mount '%s'"
        installed.machine.run(script % (request % f"again-{number}"))
        installed.machine.run(["ls", f"/run/legacyhost/sshfs/mounts/{name}"])
    installed.machine.run("sleep 6")
    installed.machine.run(["touch", f"/run/legacyhost/sshfs/mounts/{name}/file"])
    assert installed.on_remote(f"{name}/file") == ""
    for mount_id in ("one", "again-0", "again-1", "again-2"):
        installed.machine.run([*call, "VolumeDriver.Unmount", request % mount_id])
    assert name not in installed.mounted()


def test_docker_forgets_nothing_when_the_plugin_is_killed_during_its_questions(installed: Installed) -> None:
    """The repetition of a lost Get comes without its content; an answered error would make docker drop its record."""
    machine, name = installed.machine, installed.name()
    words = [word for key, value in installed.options(name).items() for word in ("-o", f"{key}={value}")]
    machine.docker("volume", "create", "-d", "sshfs", "--label", "kept=yes", *words, name)
    for _ in range(3):
        asking = [machine.popen(["docker", "volume", "inspect", name]) for _ in range(12)]
        machine.run("sleep 0.1; systemctl kill --signal=SIGKILL legacyhost@sshfs.service", check=False)
        for process in asking:
            process.communicate(timeout=60)
    shown = installed.inspect(name)
    assert shown["Labels"] == {"kept": "yes"}
    assert shown["Options"]["sshcmd"] == f"alice@127.0.0.1:{name}"


def test_others_are_served_while_a_stop_waits_for_a_silent_host(installed: Installed) -> None:
    """A restart finishes the Mount in flight; List and Get do not wait for it."""
    machine = installed.machine
    server = machine.ssh_server(port=2231)
    machine.run(["legacyhost", "trust", "127.0.0.1:2231", "--fingerprint", server.fingerprint])
    name = installed.name("silent")
    installed.create(name, "silent", port="2231", timeout="15", IdentityFile=server.key)
    server.freeze(listener=True)
    try:
        request = f'{{"Name": "{name}", "ID": "x"}}'
        mounting = machine.popen(["legacyhost", "call", "VolumeDriver.Mount", request])
        machine.run("sleep 1")
        restarting = machine.popen(["systemctl", "restart", "legacyhost@sshfs.service"])
        machine.run("sleep 1")
        assert name in machine.docker("volume", "ls", "-q").stdout
        installed.inspect(name)
        assert mounting.poll() is None, "the others were served meanwhile"
        assert "127.0.0.1:2231 did not answer" in mounting.communicate(timeout=60)[1]
        assert restarting.wait(60) == 0
    finally:
        server.thaw()


def test_systemctl_clean_deletes_no_remote_data(fresh: Installed) -> None:
    """systemd removes runtime directories with everything below; it stops at mounts, and this says so if it changes."""
    fresh.create("data")
    fresh.start("holder", "data", "echo x >/data/file; sleep 1000", "--stop-timeout", "1")
    fresh.machine.wait_for(["test", "-s", f"{fresh.remote.home}/data/file"])
    fresh.machine.run("systemctl stop legacyhost@sshfs.socket legacyhost@sshfs.service")
    fresh.machine.run("systemctl clean --what=runtime legacyhost@sshfs.service", check=False)
    assert fresh.on_remote("data/file") == "x\n"
    fresh.machine.run("systemctl start legacyhost@sshfs.socket")
    assert fresh.machine.docker("exec", "holder", "cat", "/data/file").stdout == "x\n"
    # The record of holds is lost; a start that converges must not unmount under the container.
    fresh.machine.run("systemctl start legacyhost@sshfs.service")
    fresh.machine.wait_for(lambda: "in use by running containers" in fresh.machine.journal("legacyhost@sshfs.service"))
    assert fresh.machine.docker("exec", "holder", "cat", "/data/file").stdout == "x\n"


def test_a_mount_nobody_holds_is_unmounted_at_the_next_start(installed: Installed) -> None:
    """What an interrupted Mount leaves behind: no orphan mount or unit after convergence."""
    name = installed.name()
    installed.create(name)
    installed.machine.run(["legacyhost", "call", "VolumeDriver.Mount", f'{{"Name": "{name}", "ID": "x"}}'])
    assert name in installed.mounted()
    installed.machine.run(f"rm /run/legacyhost/sshfs/volumes/{name}/holds.json")
    installed.machine.run("systemctl restart legacyhost@sshfs.service")
    installed.machine.wait_for(lambda: name not in installed.mounted())
    assert not [unit for unit in installed.mount_units() if f":{name}:" in unit]


def test_a_broken_configuration_is_said_and_healed(fresh: Installed) -> None:
    """Docker gets the reason with its next handshake, keeps its volumes, and all is well once it is mended."""
    machine = fresh.machine
    fresh.create("data")
    machine.run("cp /etc/legacyhost/sshfs.toml /root/good.toml; echo 'scoop = 1' >>/etc/legacyhost/sshfs.toml")
    machine.run("systemctl reload legacyhost@sshfs.service")
    machine.wait_for("systemctl status legacyhost@sshfs.service | grep 'old configuration.*scoop'")
    assert fresh.sh("data", "echo x >/data/file").returncode == 0
    machine.run("systemctl stop legacyhost@sshfs.service; systemctl --no-block start legacyhost@sshfs.service")
    machine.wait_for("systemctl status legacyhost@sshfs.service | grep 'not serving.*scoop'", 20)
    # An answered Get would make docker forget the volume; none is given (docker repeats it for 15 s).
    failed = machine.docker("run", "--rm", "-v", "data:/data", "busybox", "true", check=False)
    assert failed.returncode != 0
    machine.run("cp /root/good.toml /etc/legacyhost/sshfs.toml")
    machine.wait_for(lambda: fresh.sh("data", "cat /data/file", check=False).stdout == "x\n", 30)


def test_a_damaged_state_is_not_served_and_not_forgotten(fresh: Installed) -> None:
    """Never starting empty: docker keeps its record of the volume until the state is back."""
    machine = fresh.machine
    fresh.create("data")
    machine.docker(
        "create", "--name", "waiting", "--network", "none", "-v", "data:/data", "busybox", "touch", "/data/x"
    )
    machine.run("systemctl stop legacyhost@sshfs.service; cp -a /var/lib/legacyhost/sshfs /root/good")
    machine.run("rm -f /var/lib/legacyhost/sshfs/*-wal; echo garbage >/var/lib/legacyhost/sshfs/volumes.db")
    machine.run("systemctl restart docker", timeout=90)
    shown = machine.run("systemctl status legacyhost@sshfs.service", check=False).stdout
    assert re.search(r"not serving: .*/var/lib/legacyhost/sshfs/volumes.db", shown), shown
    failed = machine.docker("start", "-a", "waiting", check=False)
    assert "/var/lib/legacyhost/sshfs/volumes.db" in failed.stderr, "docker passes the reason on"
    assert machine.read("/var/lib/legacyhost/sshfs/volumes.db") == "garbage\n"
    machine.run("rm -r /var/lib/legacyhost/sshfs/*; cp -a /root/good/* /var/lib/legacyhost/sshfs/")
    machine.wait_for(lambda: machine.docker("start", "-a", "waiting", check=False).returncode == 0, 60)
    assert fresh.inspect("data")["Options"]["sshcmd"] == "alice@127.0.0.1:data"


def test_the_units_are_sound_and_the_service_is_sandboxed(installed: Installed) -> None:
    """systemd-analyze has nothing to say, and the exposure stays as low as it was."""
    verified = installed.machine.run(
        "systemd-analyze verify --man=no legacyhost@sshfs.service legacyhost@sshfs.socket legacyhost.target",
        check=False,
    )
    assert verified.stderr == ""
    shown = installed.machine.run("systemd-analyze security --no-pager legacyhost@sshfs.service").stdout
    level = re.search(r"exposure level for .*: ([0-9.]+)", shown)
    assert level, shown
    assert float(level[1]) <= 1.7, shown
