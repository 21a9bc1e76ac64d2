"""One plugin put together from its configuration, kept up while the configuration or the state is mended."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from legacyhost import config as configuration
from legacyhost import log
from legacyhost.config import Config, ListenConfig, Paths, VolumeConfig
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
from legacyhost.rpc import Plugin
from legacyhost.state import State, Volume, load
from legacyhost.surfaces import volume as volume_surface
from legacyhost.turns import Turns
from legacyhost.volumes import Volumes
from legacyhost.web import Callee, NotServingPlugin

#: Seconds between two attempts to open what could not be opened.
RETRY = 5.0


class Host:
    """Keeps one plugin served: what answers now is ``current``, what systemd should show is ``status``."""

    def __init__(self, name: str, paths: Paths, retry: float = RETRY) -> None:
        """``retry``: seconds between two attempts to open what could not be opened."""
        self.name = self._name = name
        #: Told what a configuration that has been read says of the network.
        self.on_listen: Callable[[ListenConfig | None], None] = lambda _: None
        self._paths = paths
        self._pause = retry
        self._is_mended = threading.Event()
        self._changing, self._losing = threading.Lock(), threading.Lock()
        self._volumes: Volumes | None = None
        #: What answers when all is well.
        self._plugin: Callee | None = None
        self.current: Callee = NotServingPlugin(name, "it is starting")
        self.status = "starting"

    def start(self) -> None:
        """Build the plugin; if that fails, say why and go on trying."""
        if not self._try():
            self._go_on_trying()

    def reload(self) -> None:
        """Take over a changed configuration, or keep the old one and say why; where nothing is served, try again."""
        with self._changing:
            if self._volumes is None or self.current is not self._plugin:
                self._is_mended.set()
            else:
                self._reconfigure(self._volumes)

    def finish(self) -> None:
        """Nothing is asked any more: the process ends."""
        if self._volumes is not None and self.current is self._plugin:
            self._volumes.finish()

    def _reconfigure(self, volumes: Volumes) -> None:
        try:
            config = self._configuration()
            self.on_listen(config.listen)
            volumes.reconfigure(build_driver(self._name, config.volume, self._paths), config.volume.scope)
        except PluginError as error:
            self.status = f"serving {self._name} with the old configuration: {error.message}"
            log.event(log.ERROR, f"the configuration is not taken over: {error.message}")
        else:
            log.set_level(config.log_level)
            self.status = _serving(config)
            log.event(log.INFO, f"the configuration {self._paths.configuration(self._name)} is taken over")

    def _configuration(self) -> Config:
        return configuration.load(self._paths.configuration(self._name))

    def _try(self) -> bool:
        try:
            config = self._configuration()
            self.on_listen(config.listen)
            if self._volumes is None:
                self._volumes = build_volumes(self._name, config.volume, self._paths)
            else:
                self._volumes.reconfigure(build_driver(self._name, config.volume, self._paths), config.volume.scope)
                self._volumes.reopen(build_state(self._name, self._paths))
        except (PluginError, OSError) as error:
            reason = error.message if isinstance(error, PluginError) else f"{error.filename}: {error.strerror}"
            self._not_serving(reason)
            return False
        self._volumes.on_lost(self._lost)
        log.set_level(config.log_level)
        self._plugin = self.current = Plugin(self._name, [(volume_surface.SURFACE, self._volumes)])
        self.status = _serving(config)
        log.event(log.INFO, f"plugin {self._name} is serving")
        return True

    def _not_serving(self, reason: str) -> None:
        if self.status != f"not serving: {reason}":
            log.event(log.ERROR, f"plugin {self._name} is not serving: {reason}")
        self.status = f"not serving: {reason}"
        self.current = NotServingPlugin(self._name, reason)

    def _lost(self, reason: str) -> None:
        """The record cannot be trusted any more; said from within a call, which gets no answer."""
        with self._losing:
            if self.current is not self._plugin:
                return
            self._not_serving(reason)
        self._is_mended.set()  # the first attempt, at once, finds out what can be done
        self._go_on_trying()

    def _go_on_trying(self) -> None:
        threading.Thread(target=self._retry, name="retry", daemon=True).start()

    def _retry(self) -> None:
        is_open = False
        while not is_open:
            self._is_mended.wait(self._pause)
            self._is_mended.clear()
            with self._changing:
                is_open = self._try()


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


def _serving(config: Config) -> str:
    return f"serving volumes, driver {config.volume.driver}, scope {config.volume.scope}"
