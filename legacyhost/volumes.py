"""The generic volume driver: names, holds, turns, durability, deadlines and idempotence, for any kind of storage.

Get, List and Path read local records only and take no turn. The rest takes the volume's turn, so that a change
is alone on its volume, and is done and recorded when the reply is sent.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from legacyhost import log
from legacyhost.deadline import Deadline
from legacyhost.drivers import Driver
from legacyhost.errors import Failed, NoSuchVolume, PluginError, Refused
from legacyhost.holds import Holds
from legacyhost.mounts import MountCommand, Mounter, MountFailed, Mountpoints
from legacyhost.names import check_volume_name
from legacyhost.state import State, Volume, now
from legacyhost.surfaces.volume import VolumeInfo
from legacyhost.turns import Turns

#: Seconds. Docker gives Remove and Unmount 60 (moby volume/drivers/proxy.go): be done before that.
SHORT = 50.0
#: Of a Mount's time, the part kept for finding out why it failed; at most so many seconds.
EXPLAIN_PART, EXPLAIN = 1 / 3, 10.0


class Volumes:
    """The volumes of one plugin."""

    def __init__(
        self,
        *,
        driver: Driver,
        state: State,
        holds: Holds,
        mountpoints: Mountpoints,
        mounter: Mounter,
        runtime: Path,
        scope: str = "local",
    ) -> None:
        self._driver = driver
        self._state = state
        self._holds = holds
        self._mountpoints = mountpoints
        self._mounter = mounter
        self._runtime = runtime
        self._turns = Turns()
        #: Volume to (moment, error) of its last failed mount, for those who waited for that very attempt.
        self._failures: dict[str, tuple[float, PluginError]] = {}
        #: Volumes whose mount is being made.
        self._mounting: set[str] = set()
        self.scope = scope

    def reconfigure(self, driver: Driver, scope: str) -> None:
        """Use these from the next call on."""
        self._driver = driver
        self.scope = scope

    def get(self, name: str) -> VolumeInfo:
        volume = self._known(name)
        is_mounted = self._is_mounted(name)
        return VolumeInfo(name, self._shown_path(name, is_mounted), volume.created, self._status(volume, is_mounted))

    def list(self) -> Sequence[tuple[str, str]]:
        mounted = self._mountpoints.mounted() - self._mounting
        return [(name, self._shown_path(name, name in mounted)) for name in self._state.names()]

    def path(self, name: str) -> str:
        self._known(name)
        return self._shown_path(name, self._is_mounted(name))

    def create(self, name: str, options: Mapping[str, str]) -> None:
        """Idempotent: an existing name with the same options or with none is left as it is (Docker repeats Creates)."""
        check_volume_name(name)
        if not options and self._exists(name):
            return
        parsed = self._driver.parse(name, options)
        deadline = Deadline.after(self._driver.timeout(parsed))
        with self._turns.turn(name, deadline):
            if self._exists(name):
                if not options or dict(self._state.get(name).options) == dict(parsed):
                    return
                raise Refused(
                    f"volume {name} exists already, with other options; to change them: docker volume rm {name}"
                    " (the remote data stays), then create it again"
                )
            volume = Volume(name, parsed, now())
            facts = self._driver.prepare(volume, deadline)
            self._state.add(Volume(name, parsed, volume.created, facts))

    def mount(self, name: str, mount_id: str) -> str:
        """Idempotent: whatever the ID, the volume is mounted afterwards and held once more."""
        arrived = time.monotonic()
        volume = self._known(name)
        deadline = Deadline.after(self._driver.timeout(volume.options))
        with self._turns.turn(name, deadline):
            volume = self._state.get(name)
            if self._mountpoints.is_mounted(name):
                self._mounter.settle(name, self._mountpoints.path(name), deadline)
            was_mounted = self._mountpoints.is_mounted(name)
            if not was_mounted:
                self._mount(volume, arrived, deadline)
            try:
                self._holds.add(name, mount_id)
            except PluginError:
                if not was_mounted:  # the caller gets an error, so nobody would ever unmount it
                    self._unmount(name, Deadline.after(EXPLAIN))
                raise
        return str(self._mountpoints.path(name))

    def unmount(self, name: str, mount_id: str) -> None:
        """An unknown ID or volume is no error: there is nothing to do for it."""
        check_volume_name(name)
        deadline = Deadline.after(SHORT)
        with self._turns.turn(name, deadline):
            held = self._holds.of(name)
            if mount_id not in held:
                return
            is_last = sum(held.values()) == 1
            if is_last and self._mountpoints.is_mounted(name):
                # First the mount, then the hold: if this fails, the hold stays, and the next call tries again.
                self._unmount(name, deadline)
            self._holds.drop(name, mount_id)
            if is_last:
                self._clean(name)

    def remove(self, name: str) -> None:
        self._known(name)
        deadline = Deadline.after(SHORT)
        with self._turns.turn(name, deadline):
            volume = self._state.get(name)
            self._driver.removal(volume, [other for other in self._state.all() if other.name != name])
            if self._mountpoints.is_mounted(name):
                self._refuse_if_in_use(name)
                self._unmount(name, deadline)
            self._holds.clear(name)
            self._driver.remove(volume, deadline)
            self._state.remove(name)
            self._clean(name)
            self._failures.pop(name, None)

    def converge(self) -> None:
        """Bring together what is held and what is mounted: a mount nobody holds is what an interrupted call left.

        Unless a container sees it all the same: then the record of holds is what was lost.
        """
        for name in sorted(self._mountpoints.mounted()):
            try:
                with self._turns.turn(name, Deadline.after(SHORT)):
                    self._converge(name)
            except PluginError as error:
                log.event(log.WARNING, f"volume {name} stays mounted: {error.message}", {"VOLUME": name})

    def _converge(self, name: str) -> None:
        if self._holds.total(name) or not self._mountpoints.is_mounted(name):
            return
        self._refuse_if_in_use(name)
        self._unmount(name, Deadline.after(SHORT))
        log.event(log.WARNING, f"volume {name} was mounted and held by nobody: unmounted", {"VOLUME": name})

    def _mount(self, volume: Volume, arrived: float, deadline: Deadline) -> None:
        failed_at, failure = self._failures.get(volume.name, (0.0, None))
        if failure is not None and failed_at > arrived:
            raise failure  # the attempt this call has been waiting for
        try:
            self._attempt(volume, deadline)
        except PluginError as error:
            self._failures[volume.name] = (time.monotonic(), error)
            raise
        self._failures.pop(volume.name, None)

    def _attempt(self, volume: Volume, deadline: Deadline) -> None:
        left = deadline.left()
        try:
            self._mount_once(volume, Deadline.after(left - min(EXPLAIN, left * EXPLAIN_PART)))
            return
        except MountFailed as failed:
            detail = failed.detail
            explanation = self._driver.explain(volume, deadline)
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
            f" {detail or 'its program said nothing'}; see {self._mounter.where_to_look(volume.name)}"
        )

    def _mount_once(self, volume: Volume, deadline: Deadline) -> None:
        """Raises MountFailed or PluginError, and leaves nothing behind then."""
        name = volume.name
        self._mountpoints.prepare(name)
        try:
            mountpoint = self._mountpoints.path(name)
            # mountinfo shows the mount before the remote host has said anything: until it has, there is none.
            self._mounting.add(name)
            self._mounter.mount(name, mountpoint, self._command(volume, mountpoint), deadline)
            if not self._mountpoints.is_mounted(name):
                raise MountFailed("it was unmounted again at once")
        except (MountFailed, PluginError):
            self._clean(name)
            raise
        finally:
            self._mounting.discard(name)

    def _command(self, volume: Volume, mountpoint: Path) -> MountCommand:
        folder = self._runtime / "volumes" / volume.name
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return self._driver.command(volume, mountpoint, folder)
        except OSError as error:
            raise Failed(f"the files for mounting volume {volume.name} cannot be written: {error.strerror}") from error

    def _unmount(self, name: str, deadline: Deadline) -> None:
        self._mounter.unmount(name, self._mountpoints.path(name), deadline)
        self._clean(name)

    def _clean(self, name: str) -> None:
        """Remove what a mount needed: the bare directory, the program's files. Holds are not touched here."""
        self._mountpoints.remove(name)
        folder = self._runtime / "volumes" / name
        try:
            for path in folder.glob("*"):
                if path.name != "holds.json":
                    path.unlink(missing_ok=True)
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        except OSError as error:
            log.event(log.WARNING, f"files of a mount stay in {folder}: {error.strerror}", {"VOLUME": name})

    def _refuse_if_in_use(self, name: str) -> None:
        """Holds may be left over from a crash of Docker; whether a container still sees the mount is certain."""
        users = self._mounter.users(self._mountpoints.path(name))
        if users:
            processes = ", ".join(str(pid) for pid in users[:5])
            raise Refused(f"volume {name} is in use by running containers (process {processes}); stop them first")

    def _known(self, name: str) -> Volume:
        check_volume_name(name)
        return self._state.get(name)

    def _exists(self, name: str) -> bool:
        try:
            self._state.get(name)
        except NoSuchVolume:
            return False
        return True

    def _is_mounted(self, name: str) -> bool:
        """As far as anybody outside is concerned."""
        return name not in self._mounting and self._mountpoints.is_mounted(name)

    def _shown_path(self, name: str, is_mounted: bool) -> str:
        return str(self._mountpoints.path(name)) if is_mounted else ""

    def _status(self, volume: Volume, is_mounted: bool) -> Mapping[str, object]:
        try:
            holders: object = self._holds.total(volume.name)
        except Failed as error:
            holders = error.message
        status: dict[str, object] = {"state": "mounted" if is_mounted else "not mounted", "holders": holders}
        failure = self._failures.get(volume.name)
        if failure:
            status["last error"] = failure[1].message
        return {**status, **self._driver.describe(volume)}
