"""An sshd inside a machine that plays the remote host: it does not go down when the machine shuts down."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .inside import Done
    from .machine import Machine

# Not ordered with anything: the remote side is up before the machine's services start and until the last of them
# has ended (no Conflicts=shutdown.target), as a host elsewhere would be.
UNIT = """\
[Unit]
Description=Remote SSH host of the tests, port {port}
DefaultDependencies=no
After=systemd-remount-fs.service systemd-tmpfiles-setup.service
Before=sysinit.target

[Service]
Type=notify
ExecStart=/usr/sbin/sshd -D -e -f {directory}/sshd_config
RuntimeDirectory=sshd
RuntimeDirectoryPreserve=yes
TimeoutStopSec=5
{network}

[Install]
WantedBy=sysinit.target
"""

# UsePAM no: PAM would refuse the account while the machine itself starts or stops (pam_nologin).
CONFIG = """\
{extra}
Port {port}
ListenAddress {host}
HostKey {directory}/host_key
PidFile none
UsePAM no
PasswordAuthentication {passwords}
KbdInteractiveAuthentication no
PubkeyAuthentication yes
AuthorizedKeysFile {directory}/authorized_keys
AllowUsers {user}
MaxStartups 100
Subsystem sftp internal-sftp
"""


class SshServer:
    """One sshd on 127.0.0.1 with one unprivileged account; it is there again after a reboot.

    `key` (private key) and `known_hosts` are paths inside the machine, readable by root only; `home` is the
    account's home directory, `host_key` the public key ("ssh-ed25519 AAAA…"), `fingerprint` its "SHA256:…".
    """

    def __init__(
        self,
        machine: Machine,
        port: int = 2222,
        user: str = "alice",
        password: str | None = None,
        *,
        config: str = "",
        key_type: str = "ed25519",
        host: str = "127.0.0.1",
        network: str = "",
    ) -> None:
        """Make the account and the keys and start the sshd; `config` is put before the other settings.

        Without a password the account takes its key only. Servers on other ports may share the account. `host` is the
        address it listens on, `network` a line for its unit (see far.py). Raises AssertionError with the output of
        what failed.
        """
        self.host = host
        self.machine, self.port, self.user, self.password = machine, port, user, password
        self.unit = f"test-sshd-{port}.service"
        directory = f"/etc/test-sshd/{port}"
        machine.run(["mkdir", "-p", "-m", "755", directory])
        self.key = f"{directory}/client_key"
        self.known_hosts = f"{directory}/known_hosts"
        for path in (self.key, f"{directory}/host_key"):
            machine.run(["ssh-keygen", "-q", "-t", key_type, "-N", "", "-C", f"test-{port}", "-f", path])
        machine.run(["cp", f"{self.key}.pub", f"{directory}/authorized_keys"])
        if machine.run(["id", user], check=False).returncode:
            machine.run(["useradd", "--create-home", "--shell", "/bin/bash", user])
            machine.run(["usermod", "--password", "*", user])  # no password fits, but not locked ("!")
        if password is not None:
            machine.run(["chpasswd"], input=f"{user}:{password}\n")
        self.home = machine.run(["getent", "passwd", user]).stdout.split(":")[5]
        self.host_key = " ".join(machine.read(f"{directory}/host_key.pub").split()[:2])
        self.fingerprint = machine.run(["ssh-keygen", "-l", "-f", f"{directory}/host_key"]).stdout.split()[1]
        machine.write(self.known_hosts, self.known_hosts_line + "\n", 0o600)
        passwords = "no" if password is None else "yes"
        settings = CONFIG.format(
            port=port, user=user, directory=directory, passwords=passwords, extra=config, host=host
        )
        machine.write(f"{directory}/sshd_config", settings)
        machine.write(f"/etc/systemd/system/{self.unit}", UNIT.format(port=port, directory=directory, network=network))
        machine.run("systemctl daemon-reload")
        machine.run(["systemctl", "enable", "--quiet", "--now", self.unit])

    @property
    def known_hosts_line(self) -> str:
        """The line for a known_hosts file."""
        return f"[{self.host}]:{self.port} {self.host_key}"

    @property
    def options(self) -> tuple[str, ...]:
        """Options for ssh, sftp and sshfs run inside the machine: key and known host, never asking anything."""
        return (
            *("-o", f"IdentityFile={self.key}", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"),
            *("-o", f"UserKnownHostsFile={self.known_hosts}", "-o", "StrictHostKeyChecking=yes"),
            *("-o", f"Port={self.port}"),
        )

    def ssh(self, *command: str, check: bool = True, timeout: float = 60.0) -> Done:
        """Run a command on this remote host as its account, by ssh from inside the machine."""
        target = f"{self.user}@{self.host}"
        return self.machine.run(["ssh", "-F", "none", *self.options, target, *command], check=check, timeout=timeout)

    def stop(self) -> None:
        """End the listener and every session: connections break, new ones are refused."""
        self.thaw()
        self.machine.run(["systemctl", "stop", self.unit])

    def start(self) -> None:
        """Listen again (returns when it does)."""
        self.machine.run(["systemctl", "start", self.unit])

    def listener(self) -> int:
        """The process id inside the machine of the listening sshd; 0 if it is stopped."""
        shown = self.machine.run(["systemctl", "show", "--property=MainPID", "--value", self.unit])
        return int(shown.stdout)

    def sessions(self) -> list[int]:
        """The process ids inside the machine of everything that serves a connection."""
        # Where cgroups of v1 and v2 are mixed the same directory is below systemd/, else at the top.
        files = f"/sys/fs/cgroup/system.slice/{self.unit} /sys/fs/cgroup/systemd/system.slice/{self.unit}"
        listed = self.machine.run(f"for d in {files}; do cat $d/cgroup.procs 2>/dev/null; done; true").stdout
        return sorted({int(pid) for pid in listed.split()} - {self.listener()})

    def freeze(self, *, listener: bool = False) -> list[int]:
        """Stop (SIGSTOP) what serves connections, so that the remote side is silent but not gone.

        With `listener=True` the listening sshd too: new connections are then accepted by the kernel and never
        answered. Returns the ids of the stopped processes.
        """
        stopped: list[int] = [self.listener()] if listener and self.listener() else []
        self._signal("STOP", stopped)
        while fresh := [pid for pid in self.sessions() if pid not in stopped]:
            self._signal("STOP", fresh)
            stopped += fresh
        return stopped

    def thaw(self) -> None:
        """Let everything `freeze()` stopped go on (SIGCONT)."""
        self._signal("CONT", [pid for pid in (self.listener(), *self.sessions()) if pid])

    def drop(self) -> None:
        """Kill what serves connections; the listener takes new ones. Connections are reset."""
        # Stopped first, so that none of them starts another meanwhile.
        self._signal("KILL", self.freeze())

    def _signal(self, name: str, pids: list[int]) -> None:
        """Signal these processes of the machine; those that have ended meanwhile do not matter."""
        if pids:
            self.machine.run(["kill", f"-{name}", *map(str, pids)], check=False)
