"""What the volume side needs of the kernel and of systemd. Implementations: units.py, processes.py.

The process that answers RPCs never touches a mountpoint: it reads /proc/self/mountinfo, and has everything else
done by processes that can be given up.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from legacyhost.deadline import Deadline

#: Stands in a command for the source that the mount is to have in mountinfo; no option of a user's can have it.
SOURCE = "\0source\0"
#: Stands for what the source ends in, behind its last colon.
SERIAL = "\0serial\0"
#: Stands for the program in a copy of the command's package, its __main__.py.
PROGRAM = "\0program\0"


@dataclass(frozen=True)
class MountCommand:
    """A program that stays in the foreground, mounts, and unmounts on SIGTERM.

    When its mount has answered it says READY=1 as sd_notify(3) does, at NOTIFY_SOCKET; or others do in its name.
    Its arguments have to make SOURCE, wherever that stands in them, the mount's source: by it a mount is told from
    the one before and the one after on the same mountpoint. It may stand in the environment too, and so may SERIAL.
    """

    argv: Sequence[str]
    description: str
    environment: Mapping[str, str] = field(default_factory=dict)
    #: The directory of a package of Python's that is used, a copy, so that the mount outlives an upgrade or a removal.
    package: Path | None = None

    def words(self, source: str, program: Path | None = None) -> list[str]:
        """The command line for a mount with that source, and that program of the package's copy."""
        return [_filled(word, source).replace(PROGRAM, str(program)) for word in self.argv]

    def variables(self, source: str) -> dict[str, str]:
        """The environment for a mount with that source."""
        return {name: _filled(value, source) for name, value in self.environment.items()}


@dataclass(frozen=True)
class Companion:
    """A program several mounts use, which nobody waits for and which ends by itself.

    ``folder`` has its files and is its own; the last part of its name names the program. PROGRAM may stand in ``argv``.
    """

    folder: Path
    argv: Sequence[str]
    description: str
    environment: Mapping[str, str]
    package: Path
    #: Removes the folder.
    discard: Callable[[], None]


def _filled(text: str, source: str) -> str:
    return text.replace(SOURCE, source).replace(SERIAL, source.rpartition(":")[2])


class MountFailed(Exception):
    """The program ended, or did not finish mounting in time; ``detail`` is what it last said, perhaps empty."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


@dataclass(frozen=True)
class User:
    """A process that uses a mount: it sees one elsewhere than on its mountpoint (a container), or has a file open."""

    process: int
    #: Of the mount; empty where only the path is known.
    source: str = ""
    #: Of an open file or working directory below the mountpoints, as the process sees it.
    path: str = ""


class Mounter(Protocol):
    """Makes mounts that outlive the process asking for them."""

    def mount(self, volume: str, mountpoint: Path, command: MountCommand, deadline: Deadline) -> None:
        """Return when the mount is in mountinfo and has answered. Raises MountFailed, OSError, and leaves nothing."""
        ...

    def accompany(self, companion: Companion) -> None:
        """Have it run, at once and in the background; where that fails, its folder goes. Raises OSError."""
        ...

    def is_ours(self, volume: str, source: str) -> bool:
        """Whether a mount with that source was made here for the volume."""
        ...

    def settle(self, volume: str, mountpoint: Path, deadline: Deadline) -> None:
        """Return when the mount there has been answered once and its program is alive, or else has been taken away.

        Only for a mount of ours. Raises Failed.
        """
        ...

    def unmount(self, volume: str, mountpoint: Path, deadline: Deadline) -> None:
        """Return when mountinfo does not show the mount any more. Raises Failed."""
        ...

    def unstick(self, volume: str, mountpoint: Path, deadline: Deadline) -> None:
        """End the volume's mounts, whoever sees them and whatever hangs in them: all that waits gets an error.

        Raises Failed.
        """
        ...

    def users(self) -> Sequence[User]:
        """Who uses the plugin's mounts: containers, also of mounts the host does not see any more, and open files.

        Raises Failed when that cannot be found out.
        """
        ...

    def where_to_look(self, volume: str) -> str:
        """The command that shows what the mount's program said."""
        ...


class Question(Protocol):
    """Put to a mount by a process that may hang."""

    def wait(self, seconds: float | None) -> bool | None:
        """Whether the answer is a good one; None when there is none in that time. Without a time, wait for it."""
        ...

    def give_up(self) -> None:
        """Nobody waits for it any more."""
        ...


class Mountpoints(Protocol):
    """The directories volumes are mounted on, and what mountinfo says of them."""

    def path(self, volume: str) -> Path: ...
    def is_mounted(self, volume: str) -> bool: ...
    def source(self, volume: str) -> str | None:
        """The source of the mount on top there, None where nothing is mounted."""
        ...

    def mounted(self) -> Mapping[str, str]:
        """The names of all volumes mounted, with the source of the mount on top."""
        ...

    def ask(self, volume: str) -> Question:
        """Begin to ask its mount for an answer."""
        ...

    def prepare(self, volume: str) -> None:
        """Make the directory. Raises Failed."""
        ...

    def remove(self, volume: str) -> None:
        """Remove the bare directory, unless something is mounted there."""
        ...
