"""The harness itself: what the system tests take for granted about their machines."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from .images import ImageError, mirror
from .machine import Machine
from .sshd import SshServer

RUN = ("run", "--rm", "--network", "none")


@pytest.fixture(scope="module")
def server(machine: Machine) -> SshServer:
    return machine.ssh_server(3222, password="pass word")


def test_commands(machine: Machine) -> None:
    assert machine.run("cat /proc/1/comm").stdout == "systemd\n"
    assert machine.run(["cat"], input="grüße\n").stdout == "grüße\n"
    assert machine.run("echo $X $HOME", env={"X": "1"}).stdout == "1 /root\n"
    assert machine.run("exit 3", check=False).returncode == 3
    with pytest.raises(AssertionError, match=r"(?s)exit 3.*status 3\nout\nerr"):
        machine.run("echo out; echo err >&2; exit 3")
    with pytest.raises(AssertionError, match=r"not done after 0\.2 s\nbefore"):
        machine.run("echo before; sleep 987", timeout=0.2)
    assert "sleep 987" not in machine.run("ps ax").stdout.replace("sh -c", "")
    with pytest.raises(AssertionError, match=r"not within 0\.2 s"):
        machine.wait_for("false", timeout=0.2)
    assert machine.wait_for(lambda: "yes") == "yes"


def test_background_commands_get_their_signals(machine: Machine) -> None:
    process = machine.popen("trap 'echo got it; exit 5' TERM; echo ready; while :; do sleep 0.05; done")
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.communicate(timeout=5)[0] == "got it\n"
    assert process.returncode == 5


def test_network_is_its_own(machine: Machine) -> None:
    assert machine.run("ls /sys/class/net").stdout.split() == ["lo"]
    assert "UP" in machine.run("ip -o link show lo").stdout
    assert Path(f"/proc/{machine.leader}/ns/net").readlink() != Path("/proc/self/ns/net").readlink()


def test_commands_are_in_the_machines_cgroups(machine: Machine) -> None:
    assert ".." not in machine.run("cat /proc/self/cgroup").stdout


def test_files(machine: Machine) -> None:
    for name in ("/run/deep/er/file", "/var/run/file", "/tmp/file", "/etc/file"):
        machine.write(name, "text", 0o640)
        assert machine.read(name) == "text"
        assert machine.run(["stat", "-c", "%a %u %s", name]).stdout == "640 0 4\n"
    machine.run("ln -sf /etc/file /tmp/link; ln -sf ../etc/./file /tmp/link2; ln -sf /tmp/link /root/link")
    for name in ("/tmp/link", "/tmp/link2", "/root/link", "/tmp/../tmp/link"):
        assert machine.read(name) == "text"
    machine.put(Path(__file__), "/root/copy.py")
    machine.put(Path(__file__).parent, "/root/copies")
    assert machine.read("/root/copies/test_machine.py") == machine.read("/root/copy.py") == Path(__file__).read_text()


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_containers(machine: Machine, engine: str) -> None:
    assert machine.run([engine, *RUN, "busybox", "echo", "hello"]).stdout == "hello\n"
    machine.run([engine, "volume", "create", "vol"])
    machine.run([engine, *RUN, "-v", "vol:/v", "busybox", "sh", "-c", "echo kept > /v/f"])
    assert machine.run([engine, *RUN, "-v", "vol:/v", "busybox", "cat", "/v/f"]).stdout == "kept\n"
    machine.run([engine, "volume", "rm", "vol"])


@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_images_with_files_are_copied_up(machine: Machine, engine: str) -> None:
    machine.import_image("files", {"data/sub/f": "content", "data/empty/": ""}, owner=(1000, 1001), engines=[engine])
    shown = machine.run([engine, *RUN, "-v", "copied:/data", "files", "stat", "-c", "%u:%g %n", "/data", "/data/sub/f"])
    assert shown.stdout == "1000:1001 /data\n1000:1001 /data/sub/f\n"
    machine.run([engine, "volume", "rm", "copied"])


def test_ssh_by_key_and_password(machine: Machine, server: SshServer) -> None:
    assert server.ssh("id", "-un").stdout == "alice\n"
    assert server.fingerprint.startswith("SHA256:")
    assert machine.run(["stat", "-c", "%U", server.home]).stdout == "alice\n"
    script = (
        "import sys, paramiko; c = paramiko.SSHClient(); c.set_missing_host_key_policy(paramiko.AutoAddPolicy())\n"
        "c.connect('127.0.0.1', int(sys.argv[1]), 'alice', sys.argv[2], look_for_keys=False, allow_agent=False)\n"
        "print(c.open_sftp().normalize('.'))"
    )
    login = ["python3", "-W", "ignore", "-c", script, str(server.port)]
    assert machine.run([*login, "pass word"]).stdout == server.home + "\n"
    assert "AuthenticationException" in machine.run([*login, "wrong"], check=False).stderr


def _sshfs(machine: Machine, server: SshServer, where: str) -> None:
    machine.run(["mkdir", "-p", where])
    unit = ["systemd-run", "--quiet", "--collect", "sshfs", "-f", *server.options]
    machine.run([*unit, f"{server.user}@{server.host}:", where])
    machine.wait_for(["mountpoint", "-q", where])


def test_sshfs_freeze_and_thaw(machine: Machine, server: SshServer) -> None:
    _sshfs(machine, server, "/mnt/remote")
    machine.run("echo over ssh > /mnt/remote/f")
    assert machine.run(["stat", "-c", "%U", f"{server.home}/f"]).stdout == "alice\n"
    assert server.freeze()
    with pytest.raises(AssertionError, match="not done after"):
        machine.run("ls /mnt/remote/other", timeout=1)
    assert server.ssh("echo", "new connections work").returncode == 0
    server.freeze(listener=True)
    with pytest.raises(AssertionError, match="not done after"):
        server.ssh("true", timeout=1)
    server.thaw()
    assert machine.run("cat /mnt/remote/f", timeout=5).stdout == "over ssh\n"
    machine.run("umount /mnt/remote")


def test_ssh_server_stop_start_drop(machine: Machine) -> None:
    server = machine.ssh_server(3223, "bob")
    process = machine.popen(["ssh", "-F", "none", *server.options, "bob@127.0.0.1", "cat"], stdin=subprocess.PIPE)
    machine.wait_for(lambda: len(server.sessions()) >= 2)
    server.drop()
    assert process.wait(10) == 255
    assert server.ssh("true").returncode == 0
    server.freeze(listener=True)
    started = time.monotonic()
    server.stop()
    assert time.monotonic() - started < 3
    assert "refused" in server.ssh("true", check=False).stderr
    server.start()
    assert server.ssh("true").returncode == 0


@pytest.mark.parametrize("how", ["poweroff", "power_loss"])
def test_reboot(fresh_machine: Machine, how: str) -> None:
    machine = fresh_machine
    server = machine.ssh_server()
    always = ("--restart=always", "--stop-timeout=1", "--name=always")
    machine.docker("run", "-d", "--network", "none", *always, "busybox", "sleep", "1000")
    machine.write("/var/kept", "kept")
    machine.write("/run/lost", "lost")
    background = machine.popen(["sleep", "1000"])
    boot_id = machine.run("journalctl --list-boots -q | tail -n 1 | tr -s ' ' | cut -d ' ' -f 3").stdout
    leader = machine.leader
    getattr(machine, how)()
    assert not Path(f"/proc/{leader}").exists()
    assert background.poll() is not None
    assert not machine.booted
    assert machine.read("/var/kept") == "kept"
    machine.write("/var/between", "between")
    assert "docker" in machine.journal("docker.service")
    with pytest.raises(RuntimeError):
        machine.run("true")
    assert machine.boot() == ()
    assert machine.run("journalctl --list-boots -q | tail -n 1 | tr -s ' ' | cut -d ' ' -f 3").stdout != boot_id
    assert machine.read("/var/between") == "between"
    assert not machine.path("/run/lost").exists()
    machine.wait_for("test $(docker inspect -f '{{.State.Running}}' always) = true")
    assert server.ssh("id", "-un").stdout == "alice\n"
    machine.podman(*RUN, "busybox", "true")


def test_reboot_in_one_call(fresh_machine: Machine) -> None:
    assert fresh_machine.reboot() == ()
    fresh_machine.docker(*RUN, "busybox", "true")


def test_failed_units_are_reported(image: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with Machine(image) as machine:
        unit = "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo so it failed; exit 1'\n"
        machine.write("/etc/systemd/system/bad.service", unit + "[Install]\nWantedBy=multi-user.target\n")
        machine.path("/etc/systemd/system/multi-user.target.wants/bad.service").symlink_to("../bad.service")
        assert machine.boot() == ("bad.service",)
        assert "so it failed" in capfd.readouterr().err


def test_machines_side_by_side(image: Path, machine: Machine) -> None:
    """Stopping Docker in one leaves the other's alone; a machine may be booted in a thread that ends."""
    with Machine(image) as other:
        thread = threading.Thread(target=other.boot)
        thread.start()
        thread.join()
        other.run("systemctl stop docker.socket docker.service")
        assert machine.run("systemctl is-active docker").stdout == "active\n"
        assert other.run("systemctl is-system-running").stdout == "running\n"


def _host_state(base: str) -> str:
    """Everything on the host that has to do with the machine of this name."""
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if base in line]
    found = subprocess.run(["find", "/sys/fs/cgroup", "/run/systemd/nspawn", "-name", f"*{base}*"], capture_output=True)
    processes = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if "\nState:\tZ" in (entry / "status").read_text():
                continue  # ended; whoever adopted it has not noticed yet
            if base in (entry / "cgroup").read_text() or base in (entry / "cmdline").read_text():
                processes.append(entry.name)
        except (OSError, UnicodeDecodeError):
            pass
    left = (Path(tempfile.gettempdir()) / base).exists()
    return "\n".join([*mounts, found.stdout.decode(), *processes, base if left else ""]).strip()


def test_close_leaves_nothing(image: Path) -> None:
    with Machine(image) as machine:
        machine.boot()
        machine.import_image("busybox")
        machine.docker("run", "-d", "--network", "none", "busybox", "sleep", "1000")
        machine.podman("run", "-d", "--network", "none", "busybox", "sleep", "1000")
        server = machine.ssh_server()
        _sshfs(machine, server, "/mnt/remote")
        server.freeze(listener=True)
        machine.popen("ls /mnt/remote/hangs")
        name = machine.base.name
        assert _host_state(name)
        started = time.monotonic()
    assert _host_state(name) == ""
    assert time.monotonic() - started < 10
    machine.close()


def test_a_killed_test_leaves_nothing_running(image: Path) -> None:
    code = "import sys, pathlib; from tests.system.machine import Machine; m = Machine(pathlib.Path(sys.argv[1]))\n"
    code += "m.boot(); print(m.base.name, flush=True); sys.stdin.read()"
    child = subprocess.Popen(
        [sys.executable, "-c", code, str(image)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert child.stdout is not None
    name = child.stdout.readline().strip()
    child.send_signal(signal.SIGKILL)
    child.communicate()
    Machine(image).close()  # the next one clears what the killed one could not
    assert _host_state(name) == ""


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        (
            "sources.list",
            "deb [arch=amd64] http://x.example/debian/ bookworm main contrib # c\n",
            "http://x.example/debian",
        ),
        ("sources.list.d/a.list", "deb-src http://no.example/debian bookworm main\n", None),
        ("sources.list.d/a.list", "deb https://apt.example/docker-debian bookworm stable\n", None),
        (
            "sources.list.d/a.sources",
            "Types: deb\nURIs: http://no.example/debian\nSuites: bookworm-security\n"
            "Components: main\n\nTypes: deb\n# comment\nURIs:\n http://y.example/debian\nSuites: bookworm\n"
            "Components: main\n",
            "http://y.example/debian",
        ),
        ("sources.list.d/a.sources.bak", "deb http://no.example/debian bookworm main\n", None),
    ],
)
def test_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str, expected: str | None) -> None:
    monkeypatch.delenv("LEGACYHOST_TEST_MIRROR", raising=False)
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / file).write_text(text)
    if expected:
        assert mirror(tmp_path, "bookworm") == expected
    else:
        with pytest.raises(ImageError):
            mirror(tmp_path, "bookworm")
