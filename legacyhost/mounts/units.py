"""Mounts in systemd units of their own: they survive whatever happens to the service.

systemd (PID 1) starts the mount's program in the host's own mount namespace, so the service may be sandboxed
and the mount is still seen by the container engines. Source of the facts: systemd.exec(5), systemd-run(1).
"""

from __future__ import annotations

import hashlib
import re
import secrets
import threading
import time
from fnmatch import fnmatchcase
from pathlib import Path

from legacyhost import log
from legacyhost.deadline import Deadline
from legacyhost.errors import Failed
from legacyhost.mounts import PACKAGE, Companion, MountCommand, MountFailed, User
from legacyhost.mounts.tools import (
    SCRIPT,
    SHELL,
    copied,
    is_prepared,
    run,
    search,
    source_of,
    users_in,
    wait_until_gone,
)

#: systemd's limit for a unit's name is 255 characters (unit-name.h, UNIT_NAME_MAX); ":SERIAL.service" comes behind.
NAME_LIMIT = 255 - 17
#: What stands for the serial, eight hexadecimal digits, in a pattern.
SERIAL = "????????"
SUFFIX = ".service"
#: What systemd says of a unit whose program is no more; nothing at all while it is executed anew itself.
ENDED = ("inactive", "failed", "deactivating", "unknown")
#: How lines of sshfs begin that say no more than that its ssh has ended, or has been exchanged (transport/early.py).
CONSEQUENCES = ("read: ", "remote host has disconnected", "request 3 not found")
#: Seconds that the mount's program gets to end by itself before it is killed.
PATIENCE = 10.0
#: Seconds in which it usually does.
PROMPT = 0.5
#: Of the system calls of a service; the order counts, what comes first is what is allowed.
DENIED = "SystemCallFilter=~@privileged @resources"
#: What a program that talks to servers may do. It is root, because keys are root's, and reaches SSH servers anywhere.
SANDBOX = (
    "NoNewPrivileges=yes",
    "DevicePolicy=closed",
    "LockPersonality=yes",
    "MemoryDenyWriteExecute=yes",
    "ProtectClock=yes",
    "ProtectHostname=yes",
    "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6",
    "RestrictNamespaces=yes",
    "RestrictRealtime=yes",
    "RestrictSUIDSGID=yes",
    "SystemCallArchitectures=native",
    # A refused call is an error in the program, not its end.
    "SystemCallErrorNumber=EPERM",
)
#: What the program of a mount may do: 3.9 by systemd-analyze security. What a mount namespace
#: takes (ProtectSystem=, PrivateTmp=, ProtectProc=, ...), or a user namespace, is not in it: a mount made in one is not
#: seen outside.
MOUNT_SANDBOX = (
    *SANDBOX,
    # For mount(2). Without CAP_DAC_READ_SEARCH: keys have to be root's, as for the check before a volume is made.
    "CapabilityBoundingSet=CAP_SYS_ADMIN",
    "DeviceAllow=/dev/fuse rw",
    "SystemCallFilter=@system-service @mount",
    DENIED,
    # Some of libfuse (3.17) become root, which they are, before they look after /etc/mtab, and give up if they may not.
    "SystemCallFilter=setuid",
)


def is_systemd_running() -> bool:
    """Whether systemd is PID 1 (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


class UnitMounter:
    """Mounts of one plugin, each a transient service ``legacyhost:PLUGIN:VOLUME:SERIAL.service``.

    A new serial for each mount: the unit of the one before may still be ending (where systemd runs in a container
    with cgroup v1, it is not told that a unit's last process is gone, and waits for TimeoutStopSec=).
    """

    def __init__(self, plugin: str, directory: Path) -> None:
        self._plugin = plugin
        self._directory = directory

    def pattern(self, volume: str) -> str:
        """What matches the volume's units and no others: ":" is in no plugin's and no volume's name."""
        name = f"legacyhost:{self._plugin}:{volume}"
        if len(name) > NAME_LIMIT:
            digest = hashlib.sha256(name.encode()).hexdigest()[:16]
            name = f"{name[: NAME_LIMIT - 17]}:{digest}"
        # A "*" would also match "DIGEST:SERIAL", and with it the volume whose cut-off name this one is.
        return f"{name}:{SERIAL}{SUFFIX}"

    def where_to_look(self, volume: str) -> str:
        return f"journalctl -u '{self.pattern(volume)}'"

    def mount(self, volume: str, mountpoint: Path, command: MountCommand, deadline: Deadline) -> None:
        source = self.pattern(volume).removesuffix(SUFFIX).replace(SERIAL, secrets.token_hex(4))
        ran = run(self._start(source, mountpoint, command, deadline), deadline.left())
        if ran.returncode != 0:
            # It may be running, ending, or only waiting for its turn: it must not mount any more.
            run(["systemctl", "stop", "--no-block", source + SUFFIX], PATIENCE)
            run(["systemctl", "kill", "--kill-who=all", "--signal=SIGKILL", source + SUFFIX], PATIENCE)
            if source_of(mountpoint) == source:
                self._detach(volume, mountpoint)
            raise MountFailed(_last_words(source + SUFFIX) or _not_started(ran.stderr))
        if source_of(mountpoint) is None:
            raise MountFailed(_last_words(source + SUFFIX) or "it was unmounted again at once")

    def accompany(self, companion: Companion) -> None:
        argv = self._companion(companion)

        def start() -> None:
            ran = run(argv, PATIENCE)
            if ran.returncode != 0:
                log.event(log.WARNING, f"{companion.description}: not started: {ran.stderr.strip()}")
                companion.discard()

        threading.Thread(target=start, name="companion", daemon=True).start()

    def is_ours(self, volume: str, source: str) -> bool:
        return fnmatchcase(source + SUFFIX, self.pattern(volume))

    def settle(self, volume: str, mountpoint: Path, deadline: Deadline) -> None:
        while (source := source_of(mountpoint)) is not None:
            # A unit is active when its ExecStartPost= has had an answer, however silent the host is now.
            state = run(["systemctl", "is-active", source + SUFFIX], deadline.left()).stdout.strip()
            if state == "active":
                return
            if state in ENDED:
                self._detach(volume, mountpoint)
            elif deadline.is_over():
                raise Failed(f"volume {volume} is still being mounted; see {self.where_to_look(volume)}")
            else:
                time.sleep(0.05)

    def unmount(self, volume: str, mountpoint: Path, deadline: Deadline) -> None:
        # A signal, not a stop job: a job would wait for docker's own stop job, which waits for this unmount.
        run(["systemctl", "kill", "--kill-who=main", "--signal=SIGTERM", self.pattern(volume)], deadline.left())
        if wait_until_gone(mountpoint, Deadline.after(deadline.at_most(PROMPT))):
            return
        # Perhaps there is no program any more that could do it; otherwise it may be writing what was not sent yet.
        # (Its state does not tell: where systemd waits for processes that are no more, that takes its time.)
        main = run(["systemctl", "show", "--property=MainPID", "--value", self.pattern(volume)], deadline.left())
        is_alive = main.returncode != 0 or any(line not in ("", "0") for line in main.stdout.split("\n"))
        if not is_alive or not wait_until_gone(mountpoint, Deadline.after(deadline.at_most(PATIENCE))):
            self.unstick(volume, mountpoint, deadline)

    def unstick(self, volume: str, mountpoint: Path, deadline: Deadline) -> None:
        # With its program the mount's connection to the kernel ends, and whoever waits in it gets an error.
        run(["systemctl", "kill", "--kill-who=all", "--signal=SIGKILL", self.pattern(volume)], PATIENCE)
        self._detach(volume, mountpoint)

    def _detach(self, volume: str, mountpoint: Path) -> None:
        """Take the mount away where the engines see it, whatever its program does. Raises Failed."""
        if source_of(mountpoint) is None:
            return
        detach = ["umount", "--lazy", "--", str(mountpoint)]
        ran = run(["systemd-run", "--quiet", "--collect", "--wait", *detach], PATIENCE)
        if not wait_until_gone(mountpoint, Deadline.after(PATIENCE if ran.returncode == 0 else 0.0)):
            raise Failed(
                f"volume {volume} cannot be unmounted from {mountpoint}: {ran.stderr.strip() or 'it stays mounted'};"
                f" see {self.where_to_look(volume)}"
            )

    def users(self) -> list[User]:
        source, mountpoints = f"legacyhost:{self._plugin}:", self._directory / "mounts"
        argv = ["systemd-run", "--quiet", "--collect", "--wait", "--pipe", *search(source, mountpoints)]
        ran = run(argv, PATIENCE)
        users = users_in(ran.stdout, source, mountpoints)
        if users is None:
            why = ran.stderr.strip() or "the search was cut off"
            raise Failed(f"it cannot be found out who uses the volumes of {self._plugin}: {why}")
        return users

    def _companion(self, companion: Companion) -> list[str]:
        package = str(copied(companion.package, self._directory))
        properties = [
            f"Description={companion.description}",
            "Before=legacyhost.target",
            "After=network.target",
            # It does that itself, unless it is killed.
            f"ExecStopPost={SHELL} {SCRIPT} discard {_quote(companion.folder)}",
            # It has nothing to finish; a busy machine may take a second for the shell that discards.
            "TimeoutStopSec=5",
            "UMask=0077",
            # One for each mount of the account.
            "LimitNOFILE=65536",
            "MemoryMax=128M",
            *SANDBOX,
            "SystemCallFilter=@system-service",
            DENIED,
            "CapabilityBoundingSet=",
        ]
        return [
            "systemd-run",
            "--quiet",
            "--collect",
            "--no-block",
            f"--unit=legacyhost-shared:{self._plugin}:{companion.folder.name}{SUFFIX}",
            *(f"--property={entry}" for entry in properties),
            *(f"--setenv={key}={value}" for key, value in companion.environment.items()),
            "--",
            *(word.replace(PACKAGE, package).replace("$", "$$") for word in companion.argv),
        ]

    def _start(self, source: str, mountpoint: Path, command: MountCommand, deadline: Deadline) -> list[str]:
        package = copied(command.package, self._directory) if command.package else None
        script, where = f"{SHELL} {SCRIPT}", _quote(mountpoint)
        properties = [
            f"Description={command.description}",
            # The order of boot and shutdown goes through the target; never directly to docker.service.
            "Before=legacyhost.target",
            "Wants=legacyhost.target",
            # The connection is still there while this is stopped. Not network-online.target: while that is waited for,
            # the mount would be waited for too, and made when nobody wants it any more.
            "After=network.target",
            # Not Type=exec, which makes ExecStartPost= wait longer: that notices what cannot be executed.
            "Type=simple",
            # sshfs ends with 1 when SIGTERM made it unmount; a mount that fails is noticed by ExecStartPost=.
            "SuccessExitStatus=1",
            *([] if is_prepared(self._directory) else [f"ExecStartPre={script} prepare {_quote(self._directory)}"]),
            f"ExecStartPost={script} await {where} {source}",
            # What a killed program leaves behind is a mount on which everything fails: detach it.
            f"ExecStopPost={script} release {where} {source}",
            f"TimeoutStartSec={max(0.1, deadline.left()):.3f}s",
            "TimeoutStopSec=5",
            # sshfs unmounts on SIGTERM; the ssh it leaves behind has nothing to finish.
            "KillMode=mixed",
            "UMask=0077",
            # Whoever holds the volume should not lose it for want of memory elsewhere.
            "OOMScoreAdjust=-500",
            # Whereas a server that lists a directory without end shall not make others lose anything.
            "MemoryMax=25%",
            *MOUNT_SANDBOX,
        ]
        return [
            "systemd-run",
            "--quiet",
            "--collect",
            f"--unit={source}{SUFFIX}",
            *(f"--property={entry}" for entry in properties),
            *(f"--setenv={key}={value}" for key, value in command.variables(source).items()),
            "--",
            *(word.replace("$", "$$") for word in command.words(source, package)),
        ]


def _last_words(unit: str) -> str:
    """The last telling line the unit's program wrote, for a failure nothing else explains."""
    ran = run(["journalctl", "--quiet", "--output=cat", "--lines=9", f"_SYSTEMD_UNIT={unit}"], PATIENCE)
    lines = [line.strip() for line in ran.stdout.splitlines() if line.strip()]
    # ssh has said why; then it is gone, and sshfs says that.
    return next((line for line in reversed(lines) if not line.startswith(CONSEQUENCES)), lines[-1] if lines else "")


def _not_started(said: str) -> str:
    """What systemd-run has said, in other words where somebody can do something about it."""
    missing = re.search(r"Failed to find executable (\S+):", said)
    return f"{missing[1]} is not installed on this host: apt install {missing[1]}" if missing else said.strip()


def _quote(value: object) -> str:
    """One word for a command line in a unit file (systemd.service(5), COMMAND LINES)."""
    text = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{text}"'
