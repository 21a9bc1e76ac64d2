"""The generic volume driver: names, holds, turns, durability, deadlines and idempotence, for any kind of storage.

Get, List and Path read local records only and take no turn. The rest takes the volume's turn, so that a change
is alone on its volume, and is done and recorded when the reply is sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial

from legacyhost import log
from legacyhost.deadline import Deadline
from legacyhost.drivers import Driver
from legacyhost.errors import Failed, NoSuchVolume, PluginError, Refused
from legacyhost.history import History
from legacyhost.holds import UNKNOWN, Holds
from legacyhost.mounting import EXPLAIN, Mounting
from legacyhost.names import check_volume_name
from legacyhost.state import State, Volume, now
from legacyhost.status import LOST, MOUNTED, NOT_MOUNTED, status
from legacyhost.surfaces.volume import Listing, VolumeInfo
from legacyhost.turns import Turns
from legacyhost.unchanged import Recent

#: Seconds. Docker gives Remove and Unmount 60 (moby volume/drivers/proxy.go): be done before that.
SHORT = 50.0


class Volumes:
    """The volumes of one plugin."""

    def __init__(
        self,
        *,
        state: State,
        holds: Holds,
        history: History,
        turns: Turns,
        mounting: Mounting,
        scope: str = "local",
        elsewhere: Callable[[], Sequence[Volume]] = lambda: (),
    ) -> None:
        """``elsewhere`` gives the volumes of other plugins on this host. Raises PluginError."""
        self._elsewhere = elsewhere
        self._state = state
        self._holds = holds
        self._history = history
        self._turns = turns
        self._mounting = mounting
        self.scope = scope
        #: What Get has shown, and what it was made of.
        self._shown: Recent[VolumeInfo] = Recent()
        #: The last reply to List, and what it was made of.
        self._listed: tuple[object, Collection[str], Listing] | None = None
        #: Told of a volume that is being asked about; of one, or None for all, that may not be as they should.
        self.on_interest: Callable[[str], None] = _nobody
        self.on_doubt: Callable[[str | None], None] = _nobody
        #: Told that a Mount has ended.
        self.on_mounted: Callable[[], None] = _nothing

    def reconfigure(self, driver: Driver, scope: str) -> None:
        """Use these from the next call on."""
        self._mounting.driver = driver
        self.scope = scope

    def on_lost(self, tell: Callable[[str], None]) -> None:
        """Have ``tell`` called when the record of volumes cannot be trusted any more."""
        self._state.on_lost = tell

    def reopen(self, state: State) -> None:
        """Go on with this record, in place of one that could not be trusted any more."""
        lost, self._state = self._state, state
        lost.on_lost = _nobody
        lost.close()

    def finish(self) -> None:
        """Nothing is asked any more: the process ends."""
        self._state.finish()

    def activated(self) -> None:
        """An engine has started, perhaps after a crash that left holds of containers that are no more."""
        self.on_doubt(None)

    def get(self, name: str) -> VolumeInfo:
        """The same object as long as nothing that is in it has changed."""
        volume = self._known(name)
        self.on_interest(name)
        try:
            held: int | str = self._holds.total(name)
        except Failed as error:
            held = error.message
        source, state, connection = self._mounting.look(name, is_held=held != 0)
        past, driver = self._history.of(name), self._mounting.driver
        made_of = volume, source, held, state, connection, past, driver
        shown = self._shown.get(name, made_of)
        if shown is not None:
            return shown
        path = self._mounting.mountpoint(name) if source else ""
        described = {**status(state, past, connection), "holders": held, **driver.describe(volume)}
        return self._shown.put(name, made_of, VolumeInfo(name, path, volume.created, described))

    def list(self) -> Listing:
        version, mounted = self._state.version(), self._mounting.mounted().keys()
        kept = self._listed
        if kept is None or kept[:2] != (version, mounted):
            names = self._state.names()
            listing = Listing([(name, self._mounting.mountpoint(name) if name in mounted else "") for name in names])
            kept = self._listed = version, mounted, listing
        return kept[2]

    def path(self, name: str) -> str:
        self._known(name)
        return self._mounting.path(name)

    def create(self, name: str, options: Mapping[str, str]) -> None:
        """Idempotent: an existing name with the same options or with none is left as it is (Docker repeats Creates)."""
        check_volume_name(name)
        if not options and self._exists(name):
            return
        driver = self._mounting.driver
        parsed = driver.parse(name, options)
        deadline = Deadline.after(driver.timeout(parsed))
        with self._turns.turn(name, deadline):
            if self._exists(name):
                if not options or driver.is_same(self._state.get(name), parsed):
                    return
                raise Refused(
                    f"volume {name} exists already, with other options; to change them: docker volume rm {name}"
                    " (the remote data stays, unless it was created with on_remove=purge), then create it again"
                )
            volume = Volume(name, parsed, now())
            facts = driver.prepare(volume, deadline)
            kept = driver.keep(Volume(name, parsed, volume.created, facts))
            try:
                self._state.add(kept)
            except PluginError:
                _try(partial(self._forget_secret, name), name)
                raise
            self._history.state(name, NOT_MOUNTED)

    def mount(self, name: str, mount_id: str) -> str:
        """Idempotent: whatever the ID, the volume is mounted afterwards and held once more."""
        arrived = time.monotonic()
        volume = self._known(name)
        deadline = Deadline.after(self._mounting.driver.timeout(volume.options))
        with self._turns.turn(name, deadline):
            try:
                was_mounted = self._mounting.ensure(self._state.get(name), arrived, deadline)
            except PluginError as error:
                self._history.error(name, error.message)
                raise
            try:
                self._compare(name, was_mounted)
                self._holds.add(name, mount_id)
            except PluginError:
                if not was_mounted:  # the caller gets an error, so nobody would ever unmount it
                    self._mounting.unmount(name, Deadline.after(EXPLAIN))
                raise
            self._history.state(name, MOUNTED)
            self.on_mounted()
        return self._mounting.mountpoint(name)

    def unmount(self, name: str, mount_id: str) -> None:
        """An unknown ID or volume is no error: there is nothing to do for it."""
        check_volume_name(name)
        deadline = Deadline.after(SHORT)
        with self._turns.turn(name, deadline):
            held = self._holds.of(name)
            if mount_id not in held:
                self.on_doubt(name)
                return
            if sum(held.values()) > 1:
                self.on_doubt(name)  # of the others, some may be left over from a crash of the engine
                self._holds.drop(name, mount_id)
                return
            # First the mount, then the hold: if this fails, the hold stays, and the next call tries again.
            self._mounting.unmount(name, deadline)
            self._holds.drop(name, mount_id)
            self._mounting.clean(name)
            self._history.state(name, NOT_MOUNTED)

    def remove(self, name: str) -> None:
        self._known(name)
        deadline = Deadline.after(SHORT)
        with self._turns.turn(name, deadline):
            volume = self._state.get(name)
            driver = self._mounting.driver
            driver.removal(volume, partial(self._others, name))
            is_in_doubt = bool(self._mounting.path(name)) or self._holds.total(name) > 0
            self._mounting.unmount(name, deadline, unless_used=is_in_doubt)
            self._holds.clear(name)
            driver.remove(volume, deadline)
            self._state.remove(name)
            _try(partial(driver.forget, name), name)
            self._mounting.clean(name)
            self._mounting.forget(name)
            self._history.forget(name)

    def keep_secrets(self) -> None:
        """Take out of the record what earlier versions have left in it and is secret.

        What fails is logged, and tried again at the next start.
        """
        try:
            for name in self._state.names_with(self._mounting.driver.secret_option):
                _try(partial(self._keep_secret, name), name)
            self._state.wipe()
        except PluginError as error:
            log.event(log.WARNING, error.message)

    def _keep_secret(self, name: str) -> None:
        with self._turns.turn(name, Deadline.after(SHORT)):
            if self._exists(name):
                volume = self._state.get(name)
                kept = self._mounting.driver.keep(volume)
                if kept is not volume:
                    self._state.replace(kept)

    def _forget_secret(self, name: str) -> None:
        """Of a volume that has not come to be: whether it has is looked up, not concluded."""
        if not self._exists(name):
            self._mounting.driver.forget(name)

    def _others(self, name: str) -> Sequence[Volume]:
        """All volumes of this host but that one. Raises PluginError where some cannot be known."""
        return [*(other for other in self._state.all() if other.name != name), *self._elsewhere()]

    def _compare(self, name: str, was_mounted: bool) -> None:
        """Before another hold is recorded: those that there are have to fit what was mounted."""
        held = self._holds.total(name)
        if was_mounted and not held:
            # Somebody may have it whose hold was lost; and the last of those that are known must not unmount it then.
            self._holds.add(name, UNKNOWN)
            self.on_doubt(name)
            text = f"volume {name} was mounted, and the record of who has it was lost: it stays while it is used"
            log.event(log.WARNING, text, {"VOLUME": name})
        elif held and not was_mounted and self._history.of(name).state != LOST:
            text = f"volume {name} was not mounted any more; containers that have had it have to be restarted"
            log.event(log.WARNING, text, {"VOLUME": name})

    def _known(self, name: str) -> Volume:
        check_volume_name(name)
        return self._state.get(name)

    def _exists(self, name: str) -> bool:
        try:
            self._state.get(name)
        except NoSuchVolume:
            return False
        return True


def _try(step: Callable[[], None], name: str) -> None:
    """What is right to be done, and no reason to fail; that it could not be done is logged."""
    try:
        step()
    except PluginError as error:
        log.event(log.WARNING, error.message, {"VOLUME": name})


def _nothing() -> None:
    """Where nothing watches."""


def _nobody(_name: str | None) -> None:
    """Where nothing watches."""
