"""Mounts in systemd units of their own: they survive whatever happens to the service.

systemd (PID 1) starts the mount's program in the host's own mount namespace, so the service may be sandboxed
and the mount is still seen by the container engines. Source of the facts: systemd.exec(5), systemd-run(1).
"""

from __future__ import annotations

import hashlib
import secrets
import shutil
import threading
import time
from fnmatch import fnmatchcase
from pathlib import Path

from legacyhost import log
from legacyhost.deadline import Deadline
from legacyhost.errors import Failed
from legacyhost.mounts import PROGRAM, Companion, MountCommand, MountFailed, User, properties
from legacyhost.mounts.manager import Lost, Manager, NotStarted, Property
from legacyhost.mounts.tools import (
    ENVIRONMENT,
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
#: Seconds in which it usually does; between two looks.
PROMPT, LOOK = 0.5, 0.05


def is_systemd_running() -> bool:
    """Whether systemd is PID 1 (sd_booted(3))."""
    return Path("/run/systemd/system").is_dir()


class UnitMounter:
    """Mounts of one plugin, each a transient service ``legacyhost:PLUGIN:VOLUME:SERIAL.service``.

    A new serial for each mount: the unit of the one before may still be ending (where systemd runs in a container
    with cgroup v1, it is not told that a unit's last process is gone, and waits for TimeoutStopSec=).
    """

    def __init__(self, plugin: str, directory: Path, manager: Manager | None = None) -> None:
        self._plugin = plugin
        self._directory = directory
        self._manager = manager or Manager()

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
        program = copied(command.package, self._directory) if command.package else None
        words = command.words(source, program)
        made = properties.of_mount(
            command.description,
            self._directory,
            mountpoint,
            source,
            is_prepared=is_prepared(self._directory),
            seconds=max(0.1, deadline.left()),
        )
        variables = {**command.variables(source), "LEGACYHOST_UNTIL": f"{time.monotonic() + deadline.left():.3f}"}
        made += properties.program(_found(words[0]), words, variables)
        try:
            self._start(source + SUFFIX, made, deadline)
        except NotStarted as error:
            # It may be running, ending, or only waiting for its turn: it must not mount any more.
            run(["systemctl", "stop", "--no-block", source + SUFFIX], PATIENCE)
            run(["systemctl", "kill", "--kill-who=all", "--signal=SIGKILL", source + SUFFIX], PATIENCE)
            if source_of(mountpoint) == source:
                self._detach(volume, mountpoint)
            raise MountFailed(_last_words(source + SUFFIX) or str(error)) from error
        if source_of(mountpoint) is None:
            raise MountFailed(_last_words(source + SUFFIX) or "it was unmounted again at once")

    def _start(self, unit: str, made: list[Property], deadline: Deadline) -> None:
        """As Manager.start, even if PID 1 is executed anew meanwhile: its jobs go on then, its connections do not."""
        while True:
            try:
                self._manager.start(unit, made, deadline)
                break
            except Lost:
                if _has_started(unit, deadline):
                    break
                if deadline.is_over():
                    raise
                time.sleep(LOOK)  # it was not asked, or has failed: once more, under the same name

    def accompany(self, companion: Companion) -> None:
        program = str(copied(companion.package, self._directory))
        words = [word.replace(PROGRAM, program) for word in companion.argv]
        made = properties.of_companion(companion.description, companion.folder)
        made += properties.program(words[0], words, companion.environment)
        unit = f"legacyhost-shared:{self._plugin}:{companion.folder.name}{SUFFIX}"

        def start() -> None:
            try:
                self._manager.start(unit, made, Deadline.after(PATIENCE), is_awaited=False)
            except NotStarted as error:
                log.event(log.WARNING, f"{companion.description}: not started: {error}")
                companion.discard()

        threading.Thread(target=start, name="companion", daemon=True).start()

    def is_ours(self, volume: str, source: str) -> bool:
        return fnmatchcase(source + SUFFIX, self.pattern(volume))

    def settle(self, volume: str, mountpoint: Path, deadline: Deadline) -> None:
        while (source := source_of(mountpoint)) is not None:
            # A unit is active when its mount has answered once, however silent the host is now.
            state = run(["systemctl", "is-active", source + SUFFIX], deadline.left()).stdout.strip()
            if state == "active":
                return
            if state in ENDED:
                self._detach(volume, mountpoint)
            elif deadline.is_over():
                raise Failed(f"volume {volume} is still being mounted; see {self.where_to_look(volume)}")
            else:
                time.sleep(LOOK)

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


def _has_started(unit: str, deadline: Deadline) -> bool:
    """Whether it does within the deadline; not if it is not there, or there no more."""
    while not deadline.is_over():
        state = run(["systemctl", "is-active", unit], deadline.left()).stdout.strip()
        if state == "active":
            return True
        if state in ENDED:
            return False
        time.sleep(LOOK)
    return False


def _last_words(unit: str) -> str:
    """The last telling line the unit's program wrote, for a failure nothing else explains."""
    ran = run(["journalctl", "--quiet", "--output=cat", "--lines=9", f"_SYSTEMD_UNIT={unit}"], PATIENCE)
    lines = [line.strip() for line in ran.stdout.splitlines() if line.strip()]
    # ssh has said why; then it is gone, and sshfs says that.
    return next((line for line in reversed(lines) if not line.startswith(CONSEQUENCES)), lines[-1] if lines else "")


def _found(name: str) -> str:
    """Where that program is. Raises MountFailed."""
    path = shutil.which(name, path=ENVIRONMENT["PATH"])
    if path is None:
        raise MountFailed(f"{name} is not installed on this host: apt install {name}")
    return path
