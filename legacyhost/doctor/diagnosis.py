"""All checks in the order in which a mount needs what they look at."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from legacyhost.doctor import (
    Finding,
    authz,
    engines,
    error,
    files,
    network,
    ok,
    programs,
    records,
    services,
    sockets,
    volume,
    warning,
)
from legacyhost.doctor.host import Host
from legacyhost.doctor.way import way
from legacyhost.errors import NoSuchVolume, PluginError
from legacyhost.state import Volume

Check = Callable[[], Iterator[Finding]]
#: What makes room where programs and containers log.
CLEAN = "apt-get clean; journalctl --vacuum-size=100M"

#: Checks of a plugin that systemd is asked for, those without which it does not serve, in the order in which one
#: follows from another, and those that would only wait for what is known not to answer.
UNITS = ("socket unit", "service", "order")
CAUSES = ("configuration", "record", "socket unit", "socket file", "service", "answer")
#: What one that only authorizes has no part in.
OF_VOLUMES = ("record", "docker volumes", "podman")
CONSEQUENCES = ("service", "answer", "docker volumes")


class Diagnosis:
    """One look at everything. ``plugin``: the only one to look at."""

    def __init__(self, host: Host, plugin: str | None = None) -> None:
        self._host = host
        self._is_chosen = plugin is not None
        switched_on = services.instances(host) if host.has_systemd else set[str]()
        self._plugins = [plugin] if plugin is not None else sorted({*host.paths.plugins(), *switched_on})
        #: Where nobody answers, Docker waits and so would this.
        self._is_silent = False

    def run(self, name: str | None = None) -> Iterator[Finding]:
        """What is right and what is wrong; with a volume's name, with the way to that one too. Raises NoSuchVolume."""
        host = self._host
        if not host.is_root:
            yield from self._without_root()
            return
        recorded = {plugin: records.volumes(host, plugin) for plugin in self._plugins}
        chosen = [
            (plugin, found) for plugin, volumes in recorded.items() for found in volumes or () if found.name == name
        ]
        if name is not None and not chosen and None not in recorded.values():
            raise NoSuchVolume(f"there is no volume {name}; to see those there are: legacyhost ls")
        yield from self._machine()
        for plugin, volumes in recorded.items():
            if volumes == [] and not self._is_wanted(plugin):
                yield ok("socket unit", f"the plugin {plugin} is not switched on, and not looked at")
            else:
                yield from self._plugin(plugin, volumes or [])
        if not self._is_silent:
            yield from _guarded("docker volumes", partial(engines.listing, host))
        for plugin, found in chosen:
            yield from self._volume(plugin, found)

    def _is_wanted(self, plugin: str) -> bool:
        """Whether it is somebody's wish that it works: of several, those that have been switched on."""
        is_only_one = self._is_chosen or len(self._plugins) == 1
        is_asked = plugin in authz.plugins(self._host)
        return is_only_one or is_asked or not self._host.has_systemd or services.is_switched_on(self._host, plugin)

    def _machine(self) -> Iterator[Finding]:
        host = self._host
        for check in (programs.fuse, programs.sshfs, programs.ssh, programs.libraries, programs.clock, engines.present):
            yield from _guarded(check.__name__, partial(check, host))
        for name, look in (("docker", engines.docker), ("dead plugin", sockets.dead)):
            for finding in _guarded(name, partial(look, host)):
                self._is_silent = self._is_silent or finding.level == "error"
                yield finding
        if host.has_systemd:
            yield from _guarded("target", partial(services.target, host))
            yield from _guarded("failed units", partial(services.failed, host))
        else:
            yield ok("target", "systemd does not run here; units are not looked at")
        yield from _guarded("credentials", partial(files.secrets, host))
        yield from _guarded("specification", partial(network.elsewhere, host))
        yield from _guarded("known_hosts", partial(files.known_hosts, host))
        space = "du -xh /run | sort -h | tail"
        yield from _guarded("room in /run", partial(files.room, host, "room in /run", host.paths.run, space))
        yield from _guarded("room", partial(files.room, host, "room", host.paths.state, CLEAN))

    def _plugin(self, plugin: str, volumes: Sequence[Volume]) -> Iterator[Finding]:
        host, is_serving = self._host, True
        has_volumes = authz.has_volumes(host, plugin)
        for name, check in (
            ("configuration", partial(files.config, host, plugin)),
            ("policy", partial(authz.policy, host, plugin)),
            ("authorization", partial(authz.asked, host, plugin)),
            ("record", partial(records.state, host, plugin)),
            ("socket unit", partial(services.socket, host, plugin)),
            ("socket file", partial(sockets.there, host, plugin)),
            ("service", partial(services.service, host, plugin)),
            ("answer", partial(sockets.answer, host, plugin)),
            ("order", partial(services.order, host, plugin)),
            ("network", partial(network.listening, host, plugin)),
            ("certificates", partial(network.certificates, host, plugin)),
            ("socket", partial(sockets.mode, host, plugin)),
            ("shadow", partial(sockets.shadows, host, plugin)),
            ("record modes", partial(files.state_modes, host, plugin)),
            ("managed plugin", partial(engines.managed, host, plugin)),
            ("docker volumes", partial(engines.volumes, host, plugin, [found.name for found in volumes])),
            ("podman", partial(engines.podman, host, plugin)),
        ):
            if name in UNITS and not host.has_systemd:
                continue
            if name in OF_VOLUMES and not has_volumes:
                continue
            if (name in CONSEQUENCES and not is_serving) or (name == "docker volumes" and self._is_silent):
                continue
            for finding in _guarded(name, check):
                is_serving = is_serving and not (name in CAUSES and finding.level == "error")
                yield finding
        self._is_silent = self._is_silent or not is_serving
        driver = files.driver(host, plugin)
        for found in volumes:
            if driver is not None:
                yield from _guarded(f"volume {found.name}", partial(volume.access, host, driver[0], found))
            if is_serving:
                yield from _guarded(f"volume {found.name}", partial(volume.mount, host, plugin, found))

    def _volume(self, plugin: str, found: Volume) -> Iterator[Finding]:
        driver = files.driver(self._host, plugin)
        if driver is None:
            yield ok(f"volume {found.name}", "the way to it is not looked at while the configuration is broken")
        else:
            yield from _guarded(f"volume {found.name}", partial(way, self._host, plugin, driver[0], found, driver[1]))

    def _without_root(self) -> Iterator[Finding]:
        """What anybody may look at."""
        host = self._host
        for check in (programs.fuse, programs.sshfs, programs.ssh, engines.present):
            yield from _guarded(check.__name__, partial(check, host))
        if host.has_systemd:
            yield from services.target(host)
            for plugin in self._plugins:
                yield from services.socket(host, plugin)
                yield from services.order(host, plugin)
        missing = "sockets, record, credentials, configuration, known_hosts, Docker, Podman and volumes"
        yield warning("root", f"{missing} are not looked at", "only root may", "sudo legacyhost doctor")


def _guarded(name: str, check: Check) -> Iterator[Finding]:
    """What the machine refuses is a finding, and no reason to stop."""
    try:
        yield from check()
    except (OSError, PluginError, ImportError) as problem:
        if isinstance(problem, PluginError):
            text = problem.message
        elif isinstance(problem, ImportError):
            text = f"the Python library {problem.name} cannot be loaded"
        else:
            text = f"{problem.filename or 'a file'} cannot be looked at: {os.strerror(problem.errno or 0).lower()}"
        yield error(name, text, "it cannot be told whether something is wrong there")
