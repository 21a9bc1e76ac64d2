"""The mount of a volume: made and found out why not, looked at, and taken away. The caller has the volume's turn.

Everything that is asked without a turn (``source``, ``state``) is answered from mountinfo and local files.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from legacyhost import log
from legacyhost.deadline import Deadline
from legacyhost.drivers import Connection, Driver
from legacyhost.errors import Failed, PluginError, Refused
from legacyhost.mounts import MountCommand, Mounter, MountFailed, Mountpoints, Question, User
from legacyhost.state import Volume, now
from legacyhost.status import COVERED, LOST, MOUNTED, MOUNTING, NOT_MOUNTED
from legacyhost.wire import printable

#: Of a Mount's time, the part kept for finding out why it failed; at most so many seconds.
EXPLAIN_PART, EXPLAIN = 1 / 3, 10.0
#: Seconds in which a question itself may be what was sent.
OWN = 1.0
#: The record of holds (holds.py) stands beside the files of a mount, and is none of them.
KEPT = "holds.json"


class Mounting:
    """The mounts of one plugin's volumes. ``driver`` may be exchanged at any time."""

    def __init__(self, driver: Driver, mountpoints: Mountpoints, mounter: Mounter, runtime: Path) -> None:
        self.driver = driver
        self._mountpoints = mountpoints
        self._mounter = mounter
        self._runtime, self._folders = runtime, runtime / "volumes"
        #: Volume to (moment, error) of its last failed mount, for those who waited for that very attempt.
        self._failures: dict[str, tuple[float, PluginError]] = {}
        #: Volumes whose mount is being made: mountinfo shows it before the remote host has said anything.
        self._making: set[str] = set()

    def path(self, name: str) -> str:
        """Where it is mounted; empty while it is not, or not yet."""
        return str(self._mountpoints.path(name)) if self.source(name) else ""

    def source(self, name: str) -> str | None:
        """The source of the mount on top there, whoever made it; None while there is none, or not yet."""
        return None if name in self._making else self._mountpoints.source(name)

    def mounted(self) -> Mapping[str, str]:
        """The names of all volumes that are mounted, with the source of the mount on top."""
        return {name: source for name, source in self._mountpoints.mounted().items() if name not in self._making}

    def mountpoint(self, name: str) -> str:
        """Where it is or would be mounted."""
        return str(self._mountpoints.path(name))

    def state(self, name: str, *, is_held: bool) -> str:
        """One of those in status.py, from what mountinfo says."""
        if name in self._making:
            return MOUNTING
        return self._state(name, self.source(name), is_held=is_held)

    def look(self, name: str, *, is_held: bool) -> tuple[str | None, str, Connection | None]:
        """What source(), state() and connection() give, of one moment."""
        if name in self._making:
            return None, MOUNTING, None
        source = self.source(name)
        return source, self._state(name, source, is_held=is_held), self._connection(name, source)

    def _state(self, name: str, source: str | None, *, is_held: bool) -> str:
        if source is None:
            return LOST if is_held else NOT_MOUNTED
        return MOUNTED if self._mounter.is_ours(name, source) else COVERED

    def connection(self, name: str) -> Connection | None:
        return self._connection(name, self.source(name))

    def _connection(self, name: str, source: str | None) -> Connection | None:
        return self.driver.connection(self._folder(name), source) if source else None

    def idle(self, name: str) -> float:
        """Seconds for which nobody has wanted anything of the mount, infinite if that is not known."""
        connection = self.connection(name)
        return max(0.0, (now() - connection.used).total_seconds()) if connection else math.inf

    def is_busy(self, name: str, asked: float) -> bool:
        """Whether somebody has sent something through the mount after it was asked, in seconds since the epoch.

        Then it is no dead mount that does not answer, but one whose question waits behind that.
        """
        connection = self.connection(name)
        return connection is not None and connection.used.timestamp() > asked + OWN

    def ask(self, name: str) -> Question:
        """Begin to find out whether the mount answers."""
        return self._mountpoints.ask(name)

    def users(self) -> Sequence[User]:
        """Who uses any of the volumes. Raises Failed."""
        return self._mounter.users()

    def is_used_by(self, name: str, user: User) -> bool:
        path = self.mountpoint(name)
        return self._mounter.is_ours(name, user.source) or user.path == path or user.path.startswith(f"{path}/")

    def ensure(self, volume: Volume, arrived: float, deadline: Deadline) -> bool:
        """Mount it, or see that the mount that is there answers; whether it was there.

        ``arrived``: when the call came in; an attempt that has failed since then is the call's own.
        Raises PluginError with the reason, and leaves nothing then that was not there.
        """
        name = volume.name
        if self._mountpoints.is_mounted(name):
            self.refuse_if_covered(name)
            self._mounter.settle(name, self._mountpoints.path(name), deadline)
        was_mounted = self._mountpoints.is_mounted(name)
        failed_at, failure = self._failures.get(name, (0.0, None))
        if failure is not None and failed_at > arrived:
            raise failure
        try:
            if was_mounted:
                self._check(volume, deadline)
            else:
                self._attempt(volume, deadline)
        except PluginError as error:
            self._failures[name] = (time.monotonic(), error)
            raise
        self._failures.pop(name, None)
        return was_mounted

    def unmount(self, name: str, deadline: Deadline, *, unless_used: bool = False) -> None:
        """Take the mount away, if there is one. Raises Failed; Refused where it is not ours or is used."""
        is_mounted = self._mountpoints.is_mounted(name)
        if is_mounted:
            self.refuse_if_covered(name)
        if unless_used:
            self._refuse_if_used(name)  # of a mount that was unmounted by hand, too: its containers still have it
        if is_mounted:
            self._mounter.unmount(name, self._mountpoints.path(name), deadline)
        self.clean(name)

    def unstick(self, name: str, deadline: Deadline) -> None:
        """End its mounts, whoever sees them and whatever hangs in them. Raises Failed."""
        self._mounter.unstick(name, self._mountpoints.path(name), deadline)

    def forget(self, name: str) -> None:
        self._failures.pop(name, None)

    def clean(self, name: str) -> None:
        """Remove what a mount needed: the bare directory, the program's files. Holds are not touched here."""
        self._mountpoints.remove(name)
        folder = self._folder(name)
        try:
            for path in folder.glob("*"):
                if path.name != KEPT:
                    path.unlink(missing_ok=True)
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        except OSError as error:
            log.event(log.WARNING, f"files of a mount stay in {folder}: {error.strerror}", {"VOLUME": name})

    def covered(self, name: str, source: str) -> str:
        """The sentence for a mountpoint on which something else is mounted."""
        path = self.mountpoint(name)
        return f"something else ({printable(source)}) is mounted where volume {name} belongs; undo it: umount {path}"

    def refuse_if_covered(self, name: str) -> None:
        """Raises Refused where something else is mounted on top."""
        source = self._mountpoints.source(name)
        if source is not None and not self._mounter.is_ours(name, source):
            raise Refused(self.covered(name, source))

    def _refuse_if_used(self, name: str) -> None:
        """Holds may be left over from a crash of Docker; whether somebody uses the mount is certain."""
        users = sorted({user.process for user in self._mounter.users() if self.is_used_by(name, user)})
        if users:
            processes = ", ".join(str(process) for process in users[:5])
            raise Refused(f"volume {name} is in use by running containers (process {processes}); stop them first")

    def _check(self, volume: Volume, deadline: Deadline) -> None:
        """A mount that is there has to answer: an engine that is given a dead one hangs."""
        name, asked = volume.name, time.time()
        if self._answers(name, _most_of(deadline)):
            return
        explanation = self.driver.explain(volume, deadline)
        if explanation is not None:
            raise explanation
        if not self.is_busy(name, asked) and not self._answers(name, deadline.left()):
            raise Failed(
                f"the mount of volume {name} does not answer although the remote host is in order; if that lasts,"
                f" this frees whoever waits for it: legacyhost unstick {name}"
            )

    def _answers(self, name: str, seconds: float) -> bool:
        question = self.ask(name)
        answer = question.wait(seconds)
        if answer is None:
            question.give_up()
        return answer is True

    def _attempt(self, volume: Volume, deadline: Deadline) -> None:
        try:
            self._mount_once(volume, Deadline.after(_most_of(deadline)))
            return
        except MountFailed as failed:
            detail = failed.detail
            explanation = self.driver.explain(volume, deadline)
        if explanation is not None:
            raise explanation
        # Nothing is wrong any more: it was a passing fault, or a directory missing that has been made just now.
        try:
            if not deadline.is_over():
                self._mount_once(volume, deadline)
                return
        except MountFailed as failed:
            detail = failed.detail
        raise Failed(
            f"volume {volume.name} cannot be mounted although the remote host is in order:"
            f" {detail or 'its program said nothing'}; try legacyhost doctor {volume.name}, or"
            f" see {self._mounter.where_to_look(volume.name)}"
        )

    def _mount_once(self, volume: Volume, deadline: Deadline) -> None:
        """Raises MountFailed or PluginError, and leaves nothing behind then."""
        name = volume.name
        self._mountpoints.prepare(name)
        try:
            mountpoint = self._mountpoints.path(name)
            self._making.add(name)
            command = self._accompanied(volume, self._command(volume, mountpoint))
            self._mounter.mount(name, mountpoint, command, deadline)
            if not self._mountpoints.is_mounted(name):
                raise MountFailed("it was unmounted again at once")
        except (MountFailed, PluginError):
            self.clean(name)
            raise
        except OSError as error:
            self.clean(name)
            raise Failed(f"the program for volume {name} cannot be written: {error.strerror}") from error
        finally:
            self._making.discard(name)

    def _command(self, volume: Volume, mountpoint: Path) -> MountCommand:
        folder = self._folder(volume.name)
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return self.driver.command(volume, mountpoint, folder)
        except OSError as error:
            raise Failed(
                f"the files for mounting volume {volume.name} cannot be written in {folder}: {error.strerror}"
            ) from error

    def _accompanied(self, volume: Volume, command: MountCommand) -> MountCommand:
        """The command, with what it shares. That only saves time: where it cannot be had, the mount does without."""
        try:
            sharing = self.driver.sharing(volume, self._runtime / "shared")
            if sharing is None:
                return command
            if sharing.companion is not None:
                self._mounter.accompany(sharing.companion)
            return replace(command, environment={**command.environment, **sharing.variables})
        except OSError as error:
            what = f"volume {volume.name} shares no connection: {error.strerror}"
            log.event(log.WARNING, what, {"VOLUME": volume.name})
            return command

    def _folder(self, name: str) -> Path:
        return self._folders / name


def _most_of(deadline: Deadline) -> float:
    """Seconds: what is left of a Mount's time, without the part for finding out why it failed."""
    left = deadline.left()
    return left - min(EXPLAIN, left * EXPLAIN_PART)
