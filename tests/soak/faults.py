"""The faults, each with its end: what is broken, and what operations may do meanwhile.

A fault is in effect until all it disturbed is there again; an operation that begins later may not fail for it.
"""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable
from random import Random
from typing import NamedTuple

from .model import Sight, Volume
from .world import World

SERVICE = "legacyhost@sshfs.service"
#: Seconds until a service that was broken answers again.
RECOVERY = 60.0

#: What a call to the plugin says when the plugin is killed before it has answered.
CUT_OFF = r"EOF|connection reset|broken pipe|connection refused|without its content|gives no answer"
#: What Docker says on the way; of its own end it may speak as it likes.
ANYTHING = r""
#: What programs in a container, sshfs and the plugin say of a remote host that has hung up.
NO_REMOTE = (
    r"Input/output error|I/O error|not connected|Connection (reset|refused)|refused the connection"
    r"|connection .*(closed|lost|ended|broke)"
)


class Tolerance(NamedTuple):
    """Operations of these kinds (of all, if empty) may fail with such a message."""

    kinds: frozenset[str]
    message: str


CALLS = frozenset(
    {"create", "other", "rm", "run", "exec", "start", "again", "inspect", "ls", "cp", "stop", "kill", "rmf"}
)
#: Everything that needs the remote host: stopping, listing and removing does not.
REMOTE = frozenset({"create", "run", "exec", "start", "again", "cp"})
ALL: frozenset[str] = frozenset()

#: What may fail while a fault is in effect. What is not named here may not.
TOLERATED: dict[str, list[Tolerance]] = {
    "plugin restarted": [],
    "plugin stopped": [],
    "plugin reloaded": [],
    "plugin killed": [Tolerance(CALLS - {"exec"}, CUT_OFF)],
    "docker restarted": [Tolerance(ALL, ANYTHING)],
    "docker killed": [Tolerance(ALL, ANYTHING)],
    "remote stopped": [Tolerance(REMOTE, NO_REMOTE)],
    # Shorter than what keep-alives and logins wait for: it costs time, and no error.
    "remote frozen": [],
    "sshfs killed": [Tolerance(REMOTE, NO_REMOTE + "|was unmounted again")],
    # Between Mount and the container's start there is the bare, read-only directory.
    "unmounted by hand": [Tolerance(REMOTE, "Read-only file system|No such file|was unmounted again")],
    "power loss": [Tolerance(ALL, ANYTHING)],
    # No fault: somebody removed the shared volume just then.
    "a race": [Tolerance(frozenset({"create", "rm", "run", "start", "inspect"}), "in use|no such volume|not found")],
}


def is_tolerated(kind: str, message: str, during: list[str]) -> bool:
    """Whether an operation of that kind may have failed with that message."""
    return any(
        (not tolerance.kinds or kind in tolerance.kinds) and re.search(tolerance.message, message, re.IGNORECASE)
        for fault in during
        for tolerance in TOLERATED[fault]
    )


def _systemctl(world: World, *words: str) -> None:
    world.machine.run(["systemctl", *words], timeout=RECOVERY)


def _answers(world: World) -> None:
    world.machine.wait_for(["legacyhost", "ls", "--plugin", "sshfs"], RECOVERY)


def _docker_answers(world: World) -> None:
    """dockerd is there, and has started again what it restarts always."""
    world.machine.wait_for(["docker", "info"], RECOVERY, 0.2)
    always = {c.name for c in world.model.containers.values() if c.is_always and c.is_running is not None}

    def are_running() -> bool:
        return always <= set(world.machine.docker("ps", "--format", "{{.Names}}", check=False).stdout.split())

    world.machine.wait_for(are_running, RECOVERY, 0.2)


def plugin_restarted(world: World, _random: Random) -> None:
    with world.disturbed("plugin restarted"):
        _systemctl(world, "restart", SERVICE)
        _answers(world)


def plugin_stopped(world: World, random: Random) -> None:
    with world.disturbed("plugin stopped"):
        _systemctl(world, "stop", SERVICE)
        time.sleep(random.uniform(0, 2))
        _answers(world)


def plugin_reloaded(world: World, _random: Random) -> None:
    with world.disturbed("plugin reloaded"):
        _systemctl(world, "reload", SERVICE)
        _answers(world)


def plugin_killed(world: World, random: Random) -> None:
    """The process, or whatever it has started too."""
    with world.disturbed("plugin killed"):
        whom = random.choice(["main", "all"])
        world.machine.run(f"systemctl kill --kill-who={whom} --signal=SIGKILL {SERVICE}", check=False)
        _answers(world)


def docker_restarted(world: World, _random: Random) -> None:
    with world.disturbed("docker restarted"):
        _systemctl(world, "restart", "docker.service")
        world.model.daemon_restarted()
        _docker_answers(world)


def docker_killed(world: World, _random: Random) -> None:
    with world.disturbed("docker killed"):
        before = world.machine.run("systemctl show -p MainPID docker.service").stdout
        _systemctl(world, "kill", "--kill-who=main", "--signal=SIGKILL", "docker.service")
        world.machine.wait_for(
            lambda: world.machine.run("systemctl show -p MainPID docker.service").stdout != before, RECOVERY
        )
        world.model.daemon_restarted()
        _docker_answers(world)


def remote_stopped(world: World, random: Random) -> None:
    server = random.choice(world.servers)
    with world.disturbed("remote stopped", _on(world, server.home)):
        server.stop()
        time.sleep(random.uniform(1, 5))
        server.start()


def remote_frozen(world: World, random: Random) -> None:
    server = random.choice(world.servers)
    with world.disturbed("remote frozen", _on(world, server.home)):
        server.freeze(listener=True)
        time.sleep(random.uniform(1, 7))
        server.thaw()


def sshfs_killed(world: World, random: Random) -> None:
    volume = _mounted(world, random)
    if volume is not None:
        with world.disturbed("sshfs killed", frozenset({volume.name})):
            units = [unit for unit in world.installed.mount_units() if f":{volume.name}:" in unit]
            for unit in units:
                world.machine.run(["systemctl", "kill", "--kill-who=main", "--signal=SIGKILL", unit], check=False)
            world.model.lose_sight(volume, Sight.DEAD)
            world.machine.wait_for(lambda: not set(units) & set(world.installed.mount_units()), RECOVERY, 0.2)


def unmounted_by_hand(world: World, random: Random) -> None:
    volume = _mounted(world, random)
    if volume is not None:
        with world.disturbed("unmounted by hand", frozenset({volume.name})):
            point = f"/run/legacyhost/sshfs/mounts/{volume.name}"
            world.machine.run(["umount", "--lazy", point], check=False)
            world.model.lose_sight(volume, Sight.DETACHED)


def power_loss(world: World, _random: Random) -> None:
    """In the middle of everything; then nobody does anything until it has booted."""
    with world.disturbed("power loss"):
        world.shut()
        os.kill(world.machine.leader, signal.SIGKILL)
        world.wait_until_idle()
        world.machine.power_loss()
        failed = world.machine.boot()
        assert not failed, f"units failed at boot: {', '.join(failed)}"
        world.model.daemon_restarted()
        _docker_answers(world)


def nothing(_world: World, _random: Random) -> None:
    """Only the check that follows."""


Fault = Callable[[World, Random], None]
#: With their weights.
FAULTS: dict[Fault, int] = {
    nothing: 2,
    plugin_restarted: 3,
    plugin_stopped: 3,
    plugin_reloaded: 2,
    plugin_killed: 4,
    docker_restarted: 2,
    docker_killed: 2,
    remote_stopped: 3,
    remote_frozen: 3,
    sshfs_killed: 3,
    unmounted_by_hand: 3,
    power_loss: 1,
}


def _on(world: World, home: str) -> frozenset[str]:
    """The volumes on that host."""
    return frozenset(volume.name for volume in world.model.volumes.values() if volume.directory.home == home)


def _mounted(world: World, random: Random) -> Volume | None:
    """One that is mounted at the moment; one number is drawn, whatever there is."""
    number = random.random()
    names = sorted(world.installed.mounted() & set(world.model.volumes))
    return world.model.volumes[names[int(number * len(names))]] if names else None
