"""What must be true: volumes, what their remote directories contain, and who uses them. It never looks at the machine.

Certainty is what a success has acknowledged. An operation that failed during a fault leaves a doubt: several things may
be true until somebody has looked (`adopt`), and then only that one is.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum

#: In every remote directory from the beginning, and never changed: what every container must be able to read.
PROBE, PROBE_TEXT = "probe", "you can read this"


@dataclass(frozen=True)
class Expected:
    """What a file may contain: one of these values (None: there is no such file), or the beginning of `growing`."""

    values: frozenset[str | None]
    growing: str | None = None

    def fits(self, value: str | None) -> bool:
        if value in self.values:
            return True
        return value is not None and self.growing is not None and self.growing.startswith(value)


class Directory:
    """One remote directory; two volumes may be on it. Each file has one writer."""

    def __init__(self, home: str, name: str) -> None:
        self.home, self.name = home, name
        self.files: dict[str, Expected] = {}
        self.settle(PROBE, PROBE_TEXT)

    def settle(self, path: str, value: str | None) -> None:
        """That change was acknowledged."""
        self.files[path] = Expected(frozenset({value}))

    def doubt(self, path: str, value: str | None) -> None:
        """That change failed: it may have been made, in part or not at all."""
        before = self.files.get(path, Expected(frozenset({None})))
        self.files[path] = Expected(before.values | {value}, value or before.growing)

    def content(self, path: str) -> str | None:
        """What a file without a doubt contains."""
        (value,) = self.files[path].values if path in self.files else (None,)
        return value

    def differences(self, observed: Mapping[str, str]) -> list[str]:
        found = [f"{self.name}/{path}: nobody has written it" for path in sorted(observed.keys() - self.files.keys())]
        for path, expected in sorted(self.files.items()):
            if not expected.fits(value := observed.get(path)):
                wanted = " or ".join(sorted(map(_shown, expected.values)))
                found.append(f"{self.name}/{path}: {_shown(value)} instead of {wanted}")
        return found

    def adopt(self, observed: Mapping[str, str]) -> None:
        for path in list(self.files):
            self.settle(path, observed.get(path))


class Sight(Enum):
    """What a running container has of its volume."""

    SOUND = "the mount everybody sees"
    DETACHED = "a mount nobody else sees: it was unmounted lazily"
    DEAD = "nothing any more, or perhaps: its sshfs was killed"


@dataclass
class Container:
    name: str
    volume: Volume
    is_always: bool
    is_running: bool | None = True
    #: Whether docker has answered the call that makes it.
    is_made: bool = True
    sight: Sight = Sight.SOUND


@dataclass(eq=False)
class Change:
    """Something in flight that may make or remove a volume; `is_raced` if somebody else's was in flight meanwhile."""

    removes: bool
    is_raced: bool = False


@dataclass(eq=False)
class Volume:
    name: str
    directory: Directory
    options: Mapping[str, str]
    is_shared: bool = False
    exists: bool | None = False
    #: Whether Docker's own record of it is complete: not, where dockerd was killed while the volume was created.
    is_recorded: bool = True
    in_flight: list[Change] = field(default_factory=list)


class Model:
    """Everything, for several threads; each file and each container is one thread's own."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.volumes: dict[str, Volume] = {}
        self.directories: dict[str, Directory] = {}
        self.containers: dict[str, Container] = {}

    def add(
        self, name: str, home: str, directory: str, options: Mapping[str, str], *, is_shared: bool = False
    ) -> Volume:
        """A volume that may come to exist."""
        place = self.directories.setdefault(directory, Directory(home, directory))
        self.volumes[name] = Volume(name, place, options, is_shared)
        return self.volumes[name]

    @contextlib.contextmanager
    def changing(self, volume: Volume, *, removes: bool = False) -> Iterator[Change]:
        """For the time of an operation that may make the volume, or remove it."""
        change = Change(removes)
        with self.lock:
            for other in volume.in_flight:
                if removes or other.removes:
                    change.is_raced = other.is_raced = True
            volume.in_flight.append(change)
        try:
            yield change
        finally:
            with self.lock:
                volume.in_flight.remove(change)

    def settle(self, volume: Volume, change: Change, *, is_done: bool) -> None:
        """How that ended. A failure may have made or removed it all the same."""
        with self.lock:
            if change.is_raced:
                volume.exists, volume.is_recorded = None, False
            elif is_done:
                volume.is_recorded = not change.removes and (volume.is_recorded or volume.exists is False)
                volume.exists = not change.removes
            elif change.removes or not volume.exists:
                volume.exists, volume.is_recorded = None, False

    def users(self, volume: Volume) -> list[Container]:
        """The containers, running or not, that keep Docker from removing it."""
        with self.lock:
            return [container for container in self.containers.values() if container.volume is volume]

    def daemon_restarted(self) -> None:
        """dockerd began anew: what is restarted always runs on fresh mounts, the rest has ended."""
        with self.lock:
            for container in self.containers.values():
                if container.is_running is not None:
                    container.is_running = container.is_always
                container.sight = Sight.SOUND

    def lose_sight(self, volume: Volume, sight: Sight) -> None:
        """What happened to the mount of a volume is what its running containers have from now on."""
        with self.lock:
            for container in self.users(volume):
                if container.is_running is not False and container.sight is not Sight.DEAD:
                    # Of one that is not known to run, or had another mount already, nothing better is known.
                    sure = container.is_running and container.sight is Sight.SOUND
                    container.sight = sight if sure else Sight.DEAD

    def adopt(self, listed: set[str], running: Mapping[str, bool], files: Mapping[str, Mapping[str, str]]) -> None:
        """Doubts end with what was seen."""
        with self.lock:
            for volume in self.volumes.values():
                volume.exists = volume.name in listed
            for container in self.containers.values():
                container.is_running = running[container.name]
            for directory in self.directories.values():
                directory.adopt(files[directory.name])


def _shown(value: str | None) -> str:
    if value is None:
        return "no file"
    return repr(value) if len(value) <= 60 else f"{value[:40]!r}… ({len(value)} characters)"
