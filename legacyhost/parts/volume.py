"""The part of a plugin that serves volumes: made from its section, and out while the record of them is unreadable."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from legacyhost.config import NO_VOLUMES, Config, Paths, VolumeConfig
from legacyhost.convergence import Convergence
from legacyhost.credentials import Store
from legacyhost.drivers import Driver
from legacyhost.drivers.accounts import Accounts
from legacyhost.drivers.sshfs import PLACEHOLDER, SshfsDriver
from legacyhost.drivers.sshfs_options import TABLE
from legacyhost.errors import ConfigError, InvalidRequest, PluginError, StateError
from legacyhost.history import History
from legacyhost.holds import Holds
from legacyhost.mounting import Mounting
from legacyhost.mounts import Mounter
from legacyhost.mounts.mountpoints import HostMountpoints
from legacyhost.mounts.processes import ProcessMounter
from legacyhost.mounts.units import UnitMounter, is_systemd_running
from legacyhost.record import Missing, Unusable, fields
from legacyhost.rpc import Nobody
from legacyhost.state import State, Volume, load
from legacyhost.surfaces.volume import SURFACE
from legacyhost.turns import Turns
from legacyhost.volumes import Volumes


class VolumePart:
    """Volumes, by the section [volume]; ``lost`` is called when their record cannot be trusted any more."""

    surface = SURFACE

    def __init__(self, name: str, paths: Paths, lost: Callable[[], None]) -> None:
        self._name = name
        self._paths = paths
        self._tell = lost
        self._losing = threading.Lock()
        self._volumes: Volumes | None = None
        self.trouble = "it is starting"
        self._serving = ""

    @property
    def implementation(self) -> object:
        trouble = self.trouble
        return self._volumes if not trouble else Nobody(trouble)

    @property
    def status(self) -> str:
        trouble = self.trouble
        return f"no volumes: {trouble}" if trouble else self._serving

    @property
    def is_settled(self) -> bool:
        return not self.trouble

    def take_over(self, config: Config, *, is_asked: bool) -> str:
        section, was_out = config.volume or NO_VOLUMES, bool(self.trouble)
        try:
            self._open(section)
        except (PluginError, OSError) as error:
            reason = error.message if isinstance(error, PluginError) else f"{error.filename}: {error.strerror}"
            if was_out:
                self.trouble = reason
            return reason
        self._serving = f"serving volumes, driver {section.driver}, scope {section.scope}"
        if was_out:  # otherwise it may have been lost just now
            self.trouble = ""
        return ""

    def rest(self) -> None:
        """What is mounted stays so, and is looked after until the plugin ends."""

    def finish(self) -> None:
        if self._volumes is not None and not self.trouble:
            self._volumes.finish()

    def _open(self, section: VolumeConfig) -> None:
        if self._volumes is None:
            self._volumes = build_volumes(self._name, section, self._paths)
            self._volumes.on_lost(self._lost)
            return
        self._volumes.reconfigure(build_driver(self._name, section, self._paths), section.scope)
        if self.trouble:
            self._volumes.reopen(build_state(self._name, self._paths))
            self._volumes.on_lost(self._lost)

    def _lost(self, reason: str) -> None:
        """Said from within a call, which gets no answer."""
        with self._losing:
            if self.trouble:
                return
            self.trouble = reason
        self._tell()


def build_driver(name: str, section: VolumeConfig, paths: Paths) -> Driver:
    """The kind of storage the configuration names. Raises ConfigError."""
    if section.driver != "sshfs":
        raise ConfigError(f"there is no driver {section.driver!r}; there is: sshfs")
    try:
        defaults = TABLE.parse(section.defaults)
    except InvalidRequest as error:
        raise ConfigError(f"volume.defaults: {error.message}") from error
    if "sshcmd" in defaults and PLACEHOLDER not in defaults["sshcmd"].partition(":")[2]:
        raise ConfigError(
            f"volume.defaults.sshcmd needs {PLACEHOLDER} in its path: without it all volumes would be one directory"
        )
    accounts = Accounts(Store(paths.credentials()), name, section.remote)
    return SshfsDriver(paths.known_hosts(), defaults, accounts)


def build_volumes(name: str, section: VolumeConfig, paths: Paths) -> Volumes:
    """The volume side of a plugin. Raises ConfigError, StateError, OSError."""
    driver = build_driver(name, section, paths)
    state = build_state(name, paths)
    runtime = paths.run / name
    HostMountpoints(runtime).set_up()
    holds, history, turns = Holds(runtime / "volumes"), History(runtime / "history"), Turns()
    mounting = build_mounting(name, driver, paths)
    volumes = Volumes(
        state=state,
        holds=holds,
        history=history,
        turns=turns,
        mounting=mounting,
        scope=section.scope,
        elsewhere=partial(recorded_elsewhere, name, paths),
    )
    convergence = Convergence(holds, history, turns, mounting)
    volumes.on_interest, volumes.on_doubt, volumes.on_mounted = (
        convergence.probe,
        convergence.doubt,
        convergence.mounted,
    )
    convergence.start()
    threading.Thread(target=volumes.keep_secrets, name="secrets", daemon=True).start()
    return volumes


def recorded_elsewhere(name: str, paths: Paths) -> list[Volume]:
    """The volumes of all other plugins of this host, whether those run or not. Raises StateError."""
    found = []
    for directory in sorted(paths.state.iterdir()):
        if directory.name == name or not directory.is_dir():
            continue
        try:
            found += [Volume(*fields(row)) for row in load(directory).rows]
        except Missing:
            continue
        except Unusable as error:
            raise StateError(f"the record of volumes of the plugin {directory.name} {error}") from error
    return found


def build_state(name: str, paths: Paths) -> State:
    """The record of the plugin's volumes. Raises StateError."""
    directory = paths.state / name
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise StateError(f"the directory {directory} cannot be made: {error.strerror}") from error
    return State(directory)


def build_mounting(name: str, driver: Driver, paths: Paths) -> Mounting:
    """The mounts of the plugin's volumes, as this machine makes them."""
    runtime = paths.run / name
    mounter: Mounter = UnitMounter(name, runtime) if is_systemd_running() else ProcessMounter(runtime)
    return Mounting(driver, HostMountpoints(runtime), mounter, runtime)


def mounts_only(name: str, paths: Paths) -> Mounting:
    """The mounts of the plugin's volumes for who makes none: whatever its configuration says, and if it is broken."""
    return build_mounting(name, SshfsDriver((), {}, Accounts(Store(paths.credentials()), name, {})), paths)
