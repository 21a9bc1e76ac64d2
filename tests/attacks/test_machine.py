"""Attacks on a booted machine with everything installed: local users, what the sandbox leaves, modes, HTTP."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
from system.installed import Installed
from system.machine import Machine

SECRET = "s3cret-of-the-attacks"
SOCKET = "/run/docker/plugins/sshfs.sock"
#: The most by systemd-analyze security. Mounts are made where containers see them, so without a mount namespace.
SERVICE, MOUNT = 1.7, 3.9
#: Runs "$1" as somebody who has just logged in.
AS_MALLORY = [
    "setpriv",
    "--reuid=mallory",
    "--regid=mallory",
    "--clear-groups",
    "env",
    "HOME=/home/mallory",
    "sh",
    "-c",
]
#: What "holder" shows while it works.
SCRIPT = "echo x >/data/file; sleep 1000"


class Used:
    """The machine after real use: a volume with a password, one with a key, both mounted by a container that runs."""

    def __init__(self, installed: Installed) -> None:
        self.installed = installed
        self.machine: Machine = installed.machine
        server = self.machine.ssh_server(port=2251, user="peter", password=SECRET)
        # With no umask at all: nothing may depend on the one somebody happens to have.
        self.machine.run(f"umask 0; legacyhost trust 127.0.0.1:2251 --fingerprint {server.fingerprint}")
        self.password, self.key, self.container = (installed.name(word) for word in ("password", "key", "holder"))
        words = ["-o", "sshcmd=peter@127.0.0.1:data", "-o", "port=2251", "-o", f"password={SECRET}"]
        self.machine.docker("volume", "create", "-d", "sshfs", *words, self.password)
        installed.create(self.key)
        installed.start(self.container, self.password, SCRIPT, "-v", f"{self.key}:/key", "--stop-timeout", "1")
        self.machine.wait_for(["test", "-s", f"{server.home}/data/file"])

    def unit(self, volume: str) -> str:
        (unit,) = (unit for unit in self.installed.mount_units() if f":{volume}:" in unit)
        return unit

    def end(self) -> None:
        self.machine.docker("rm", "-f", self.container)
        self.machine.docker("volume", "rm", self.password, self.key)

    def as_mallory(self, script: str) -> tuple[int, str]:
        """Status and output of a script run by a local account without any rights."""
        if self.machine.run(["id", "mallory"], check=False).returncode:
            self.machine.run(["useradd", "--create-home", "mallory"])
        ran = self.machine.run([*AS_MALLORY, script], check=False)
        return ran.returncode, ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def used(installed: Installed) -> Iterator[Used]:
    made = Used(installed)
    yield made
    made.end()


def exposure(machine: Machine, unit: str) -> tuple[float, str]:
    shown = machine.run(["systemd-analyze", "security", "--no-pager", unit]).stdout
    found = re.search(r"exposure level for .*: ([0-9.]+)", shown)
    assert found, shown
    return float(found[1]), shown


def properties(machine: Machine, unit: str) -> dict[str, str]:
    shown = machine.run(["systemctl", "show", "--no-pager", unit]).stdout
    return dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)


def test_a_service_with_more_rights_than_it_needs(used: Used) -> None:
    """Its exposure; and that the kernel holds the process to what the unit says."""
    level, shown = exposure(used.machine, "legacyhost@sshfs.service")
    assert level <= SERVICE, shown
    process = used.installed.main_pid()
    status = used.machine.run(f"cat /proc/{process}/status").stdout
    assert re.search(r"^CapBnd:\s*0+$", status, re.MULTILINE), status
    assert re.search(r"^CapEff:\s*0+$", status, re.MULTILINE), status
    assert re.search(r"^NoNewPrivs:\s*1$", status, re.MULTILINE), status
    assert re.search(r"^Seccomp:\s*2$", status, re.MULTILINE), status
    assert used.machine.run(f"cat /proc/{process}/uid_map").stdout.split() == ["0", "0", "1"]


def test_a_service_that_writes_or_looks_elsewhere(used: Used) -> None:
    """A program in its place: may write its own directories alone, sees no other process and no device."""
    main = used.installed.main_pid()

    def inside(script: str) -> tuple[int, str]:
        enter = ["nsenter", "-t", str(main), "-m", "-U", "--preserve-credentials", "setpriv", "--bounding-set=-all"]
        ran = used.machine.run([*enter, "sh", "-c", script], check=False)
        return ran.returncode, ran.stdout + ran.stderr

    for path in (
        "/etc/legacyhost/x",
        "/etc/x",
        "/usr/x",
        "/root/x",
        "/tmp/x",
        "/var/x",
        "/run/x",
        "/var/lib/legacyhost/x",
        "/home/x",
    ):
        status, said = inside(f"touch {path}")
        assert status != 0, path
        assert re.search(r"Read-only file system|Permission denied", said), said
    for path in ("/var/lib/legacyhost/sshfs/x", "/run/legacyhost/x", "/etc/legacyhost/credentials/x"):
        assert inside(f"touch {path} && rm {path}") == (0, ""), path
    assert inside("ls /dev/fuse /dev/kmsg /dev/mem 2>/dev/null")[1] == ""
    assert inside("test -r /root -a -r /tmp -a -r /root/legacyhost.deb")[0] == 0
    # Of a namespace with hidepid=invisible root without capabilities sees what is its own, and dockerd is not.
    assert "mount" not in inside("cat /proc/1/environ")[1]


def test_a_mount_with_more_rights_than_it_needs(used: Used) -> None:
    """The best there is without a mount namespace; and every property is in force for the programs of the mount."""
    unit = used.unit(used.key)
    level, shown = exposure(used.machine, unit)
    assert level <= MOUNT, shown
    found = properties(used.machine, unit)
    assert found["CapabilityBoundingSet"] == "cap_sys_admin"
    assert found["NoNewPrivileges"] == found["MemoryDenyWriteExecute"] == found["RestrictRealtime"] == "yes"
    assert found["DevicePolicy"] == "closed"
    assert "/dev/fuse rw" in found["DeviceAllow"]
    assert found["RestrictAddressFamilies"].split() == ["AF_INET", "AF_INET6", "AF_UNIX"]
    assert {"mount", "umount2", "setuid"} <= set(found["SystemCallFilter"].split())
    assert not {"ptrace", "bpf", "reboot", "init_module", "chroot"} & set(found["SystemCallFilter"].split())
    assert found["MemoryMax"].isdigit()
    for process in (
        used.machine.run(f"systemctl status --no-pager {unit}; true").stdout.split("CGroup:")[1].splitlines()
    ):
        number = re.search(r"[├└]─\s*(\d+) ", process)
        if number is None:
            continue
        status = used.machine.run(f"cat /proc/{number[1]}/status").stdout
        assert re.search(r"^CapBnd:\s*0000000000200000$", status, re.MULTILINE), status  # CAP_SYS_ADMIN
        assert re.search(r"^Seccomp:\s*2$", status, re.MULTILINE), status


#: Runs a shell command in a unit with the very properties of a mount's; status REFUSED if it fails.
REFUSED = 3
IN_A_MOUNTS_SANDBOX = f"""
import sys
from legacyhost.deadline import Deadline
from legacyhost.mounts.manager import Manager, NotStarted
from legacyhost.mounts.properties import MOUNT_SANDBOX, program
said = ("s", "/root/attacks-output")
more = [("Type", ("s", "oneshot")), ("StandardOutputFile", said), ("StandardErrorFile", said)]
more += [("CollectMode", ("s", "inactive-or-failed")), *program("/bin/sh", ["sh", "-c", sys.argv[1]], {{}})]
try:
    Manager().start("attacks.service", [*MOUNT_SANDBOX, *more], Deadline.after(30))
except NotStarted as error:
    sys.exit({REFUSED} if str(error) == "systemd says: failed" else str(error))
"""


@pytest.mark.parametrize(
    "attempt",
    [
        "head -c 1 /root/attacks-kmsg", "chroot / true", "unshare --user true", "unshare --mount true",
        "nsenter -t 1 -n true",
        "mknod /root/attacks-device c 1 3", "hostname debian", "chown nobody /root/attacks-file",
        "chmod u+s /root/attacks-file",
        "su nobody -s /bin/sh -c true", "cat /home/mallory/private/file",
        "python3 -c 'import time; time.clock_settime(time.CLOCK_REALTIME, time.time())'",
        "python3 -c 'import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)'",
        "python3 -c 'import socket; socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)'",
        "python3 -c 'import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))'",
    ],
)  # fmt: skip
def test_a_program_in_the_place_of_a_mounts_ssh(used: Used, attempt: str) -> None:
    """In a unit with the very properties of a mount's: what root could do otherwise is refused."""
    used.as_mallory("mkdir -p -m 700 ~/private; echo x >~/private/file; chmod 600 ~/private/file")
    used.machine.run("touch /root/attacks-file; mknod /root/attacks-kmsg c 1 11")
    command = ["python3", "-c", IN_A_MOUNTS_SANDBOX]
    try:
        assert used.machine.run([*command, "true"]).returncode == 0
        ran = used.machine.run([*command, attempt], check=False)
        said = used.machine.run("cat /root/attacks-output").stdout
    finally:
        used.machine.run("rm -f /root/attacks-*")
    assert ran.returncode == REFUSED, ran.stderr
    assert re.search(r"not permitted|denied|not supported|must be root", said), said


@pytest.mark.parametrize(
    "place", ["/root/.ssh/attacks-key", "/tmp/attacks key", "/var/tmp/attacks-key", "/etc/attacks-key"]
)
def test_a_sandbox_that_hides_the_keys(used: Used, place: str) -> None:
    """The other side of it: root's keys are usable wherever they are, in the check as for ssh itself."""
    name, remote = used.installed.name("key"), used.installed.remote
    used.machine.run(["install", "-D", "-m", "600", remote.key, place])
    used.installed.create(name, IdentityFile=place)
    used.installed.sh(name, "echo x >/data/file")
    assert used.installed.on_remote(f"{name}/file") == "x\n"
    used.machine.docker("volume", "rm", name)
    used.machine.run(["rm", place])


def test_a_key_of_somebody_else(used: Used) -> None:
    """Neither the service nor a mount reads what only another account may read; and that is said."""
    used.as_mallory("mkdir -p -m 700 ~/.ssh; test -e ~/.ssh/id || ssh-keygen -q -t ed25519 -N '' -f ~/.ssh/id")
    name = used.installed.name("other")
    options = used.installed.options(name, IdentityFile="/home/mallory/.ssh/id")
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    failed = used.machine.docker("volume", "create", "-d", "sshfs", *words, name, check=False)
    assert "identity file /home/mallory/.ssh/id cannot be read: permission denied" in failed.stderr


def test_a_file_that_others_may_read(used: Used) -> None:
    """After real use, with any umask: 0600 and 0700 wherever anything of this software is, the socket included."""
    used.machine.run(
        f"umask 0; legacyhost ls; legacyhost inspect {used.key}; "
        "printf 'secret\\n' | legacyhost credential add --password attacks"
    )
    # (systemd makes /var/lib/legacyhost itself, and gives only the last directory StateDirectoryMode=.)
    places = "/var/lib/legacyhost/sshfs /run/legacyhost /etc/legacyhost/credentials"
    looking = f"find {places} -path '*/mounts/*' -prune -o -not -type l"
    assert used.machine.run(f"{looking} -perm /077 -printf '%m %p\\n'").stdout == ""
    assert used.machine.run(f"{looking} -not -user root -printf '%u %p\\n'").stdout == ""
    assert used.machine.run(f"{looking} -type f -perm /111 -printf '%m %p\\n'").stdout == ""
    assert used.machine.run(f"{looking} -type f -printf '.'").stdout, "there is something to look at"
    shown = used.machine.run(f"stat -c '%a %U:%G %F' {SOCKET} /run/docker/plugins").stdout.splitlines()
    assert shown == ["600 root:root socket", "700 root:root directory"]
    used.machine.run("legacyhost credential rm attacks")


def test_a_service_started_with_another_umask(used: Used) -> None:
    """A drop-in of the administrator's with UMask=0000: what is made then is root's alone all the same."""
    drop_in = "/run/systemd/system/legacyhost@sshfs.service.d"
    used.machine.run(f"mkdir -p {drop_in}; printf '[Service]\\nUMask=0000\\n' >{drop_in}/umask.conf")
    used.machine.run("systemctl daemon-reload; systemctl restart legacyhost@sshfs.service")
    try:
        name = used.installed.name("umask")
        used.installed.create(name)
        used.installed.sh(name, "echo x >/data/file")
        test_a_file_that_others_may_read(used)
        used.machine.docker("volume", "rm", name)
    finally:
        used.machine.run(f"rm -r {drop_in}; systemctl daemon-reload; systemctl restart legacyhost@sshfs.service")


@pytest.mark.parametrize(
    "attempt",
    [
        f"python3 -c \"import socket; socket.socket(socket.AF_UNIX).connect('{SOCKET}')\"", "ls /run/docker/plugins",
        "ls /run/legacyhost",
        "ls /run/legacyhost/sshfs/mounts", "cat /run/legacyhost/sshfs/volumes/*/secret", "ls /var/lib/legacyhost/sshfs",
        "ls /etc/legacyhost/credentials", "legacyhost ls", "legacyhost call VolumeDriver.List",
        "systemctl stop legacyhost@sshfs.service",
        "systemctl kill 'legacyhost:*'", "systemd-run --quiet true", "touch /etc/legacyhost/known_hosts",
        "touch /etc/legacyhost/x.toml",
        "cat /root/.ssh/id_ed25519", "docker volume ls",
    ],
)  # fmt: skip
def test_a_local_user_without_rights(used: Used, attempt: str) -> None:
    """Neither the socket, nor the state, nor what is mounted, nor a unit is within reach."""
    status, said = used.as_mallory(attempt)
    assert status != 0, said
    assert SECRET not in said
    assert "Traceback" not in said or attempt.startswith("python3"), said


def test_a_local_user_who_looks_at_processes_and_units(used: Used) -> None:
    """Command lines and properties of units are for everybody: no secret in them; environments are not."""
    script = (
        "cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n'; "
        "systemctl show 'legacyhost@*' 'legacyhost:*'; systemctl status --no-pager 'legacyhost:*'; "
        "journalctl --no-pager -n 1000"
    )
    _, said = used.as_mallory(script)
    assert f":{used.password}:" in said, "the units are seen"
    assert SECRET not in said
    main = properties(used.machine, used.unit(used.password))["MainPID"]
    assert used.as_mallory(f"cat /proc/{main}/environ")[0] != 0
    assert used.as_mallory(f"ls /proc/{main}/fd")[0] != 0
    assert used.as_mallory(f"ls /proc/{main}/root/run/legacyhost")[0] != 0


def test_links_that_a_local_user_has_put_into_tmp(used: Used) -> None:
    """Nothing of this software is written to /tmp or /var/tmp: there is no name to take."""
    used.machine.run("touch /root/attacks-mark")
    name = used.installed.name("tmp")
    used.installed.create(name)
    used.installed.sh(name, "echo x >/data/file")
    used.machine.run("systemctl restart legacyhost@sshfs.service")
    used.machine.docker("volume", "rm", name)
    found = used.machine.run("find /tmp /var/tmp -newer /root/attacks-mark; rm /root/attacks-mark").stdout
    assert "legacyhost" not in found, found


def test_a_program_with_setuid_on_the_server(used: Used) -> None:
    """A server cannot make anybody root in a container: no setuid, no devices, whatever the options say."""
    name = used.installed.name("setuid")
    used.installed.create(name, suid="", dev="", exec="")
    used.installed.start(f"{name}-c", name, "sleep 1000", "--stop-timeout", "1")
    line = used.machine.run(f"grep ' /run/legacyhost/sshfs/mounts/{name} ' /proc/self/mountinfo").stdout
    assert {"nosuid", "nodev"} <= set(line.split()[5].split(",")), line
    inner = used.machine.docker("exec", f"{name}-c", "grep", " /data ", "/proc/self/mountinfo").stdout
    assert {"nosuid", "nodev"} <= set(inner.split()[5].split(",")), inner
    used.machine.docker("rm", "-f", f"{name}-c")
    used.machine.docker("volume", "rm", name)


@pytest.mark.parametrize(
    "path",
    [
        "-oProxyCommand=touch attacked",
        "$HOME ${PATH} $(touch attacked)",
        "%n %i %% %h",
        "a;touch attacked|`id`",
        "comma,ro\\x41",
        "quo'te\"d",
    ],
)
def test_a_remote_path_that_is_a_command(used: Used, path: str) -> None:
    """Through sshfs, systemd and ssh it stays the name of a directory, letter by letter."""
    name = used.installed.name("path")
    used.installed.create(name, path)
    used.installed.sh(name, "echo here >/data/file")
    assert used.machine.run(["cat", f"{used.installed.remote.home}/{path}/file"]).stdout == "here\n"
    assert used.machine.run("find / -xdev -name attacked").stdout == ""
    used.machine.docker("volume", "rm", name)


@pytest.mark.parametrize("instance", ["..", "-x", "a:b", "%n", "a@b", "$HOME", "a\\x2fb", "..-..-etc"])
def test_a_plugin_whose_name_is_more_than_a_name(used: Used, instance: str) -> None:
    """The name of an instance becomes part of paths: one that is no name is served nowhere."""
    unit = f"legacyhost@{instance}.service"
    # Below /var/lib/legacyhost systemd itself makes a directory of that name, before the program can say no.
    look = "ls -A / /etc /etc/legacyhost /run/legacyhost /run/docker/plugins /var /var/lib"
    before = used.machine.run(look).stdout
    assert used.machine.run(["timeout", "10", "systemctl", "start", "--", unit], check=False).returncode != 0
    used.machine.run(["systemctl", "stop", "--", unit], check=False)
    used.machine.run(["systemctl", "reset-failed", "--", unit], check=False)
    assert used.machine.run(look).stdout == before


@pytest.mark.parametrize(
    "end",
    [
        b"Content-Length: 2\r\n\r\n{}",
        b"Content-Length: 2\r\nContent-Length: 200\r\n\r\n{}",
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
        b"Connection: keep-alive\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_a_request_hidden_behind_another(used: Used, end: bytes) -> None:
    """Each connection carries one call: what comes behind it is never one, however the first is told to end."""
    hidden = b"POST /VolumeDriver.Remove HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s"
    name = used.installed.name("hidden")
    used.installed.create(name)
    body = json.dumps({"Name": name}).encode()
    data = b"POST /VolumeDriver.Get HTTP/1.1\r\nHost: x\r\n" + end + hidden % (len(body), body)
    script = (
        "import socket, sys\ns = socket.socket(socket.AF_UNIX)\n"
        f"s.settimeout(20)\ns.connect({SOCKET!r})\ns.sendall({data!r})\n"
        "got = b''\nwhile more := s.recv(65536): got += more\nprint(got.count(b'HTTP/1'))"
    )
    answers = used.machine.run(["python3", "-c", script], check=False).stdout.strip()
    assert answers in ("0", "1", ""), answers
    assert used.machine.docker("volume", "inspect", "-f", "{{.Name}}", name).stdout == f"{name}\n"
    used.machine.docker("volume", "rm", name)


def test_a_caller_that_never_finishes_its_request(used: Used) -> None:
    """Two hundred of them, a byte each second: everybody else is answered as ever."""
    script = (
        "import socket, time\nopen_ones = []\n"
        f"for _ in range(200):\n    s = socket.socket(socket.AF_UNIX); s.connect({SOCKET!r})\n"
        "    s.sendall(b'POST /VolumeDriver.List HTTP/1.1\\r\\nX: '); open_ones.append(s)\n"
        "print('open', flush=True)\nwhile True:\n    for s in open_ones: s.sendall(b'x')\n    time.sleep(1)"
    )
    slow = used.machine.popen(["python3", "-c", script])
    try:
        assert slow.stdout is not None
        assert slow.stdout.readline() == "open\n"
        assert used.key in used.machine.docker("volume", "ls", "-q", timeout=20).stdout
        assert used.machine.run("systemctl is-active legacyhost@sshfs.service").stdout == "active\n"
    finally:
        slow.end()
