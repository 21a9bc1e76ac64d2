"""What the volume side needs of the kernel and of systemd. Implementations: units.py, processes.py.

The process that answers RPCs never touches a mountpoint: it reads /proc/self/mountinfo, and has everything else
done by processes that can be given up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from legacyhost.deadline import Deadline

#: Stands in a command for the source that the mount is to have in mountinfo; no option of a user's can have it.
SOURCE = "\0source\0"


@dataclass(frozen=True)
class MountCommand:
    """A program that stays in the foreground, mounts, and unmounts on SIGTERM.

    Its arguments have to make SOURCE, wherever that stands in them, the mount's source: by it a mount is told from
    the one before and the one after on the same mountpoint. It may stand in the environment too.
    """

    argv: Sequence[str]
    description: str
    environment: Mapping[str, str] = field(default_factory=dict)

    def words(self, source: str) -> list[str]:
        """The command line for a mount with that source."""
        return [word.replace(SOURCE, source) for word in self.argv]

    def variables(self, source: str) -> dict[str, str]:
        """The environment for a mount with that source."""
        return {name: value.replace(SOURCE, source) for name, value in self.environment.items()}


class MountFailed(Exception):
    """The program ended, or did not finish mounting in time; ``detail`` is what it last said, perhaps empty."""

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class Mounter(Protocol):
    """Makes mounts that outlive the process asking for them."""

    def mount(self, volume: str, mountpoint: Path, command: MountCommand, deadline: Deadline) -> None:
        """Return when the mount is in mountinfo and has answered. Raises MountFailed, and leaves nothing."""
        ...

    def settle(self, volume: str, mountpoint: Path, deadline: Deadline) -> None:
        """Return when the mount there has been answered once and its program is alive, or else has been taken away.

        Raises Failed.
        """
        ...

    def unmount(self, volume: str, mountpoint: Path, deadline: Deadline) -> None:
        """Return when mountinfo does not show the mount any more. Raises Failed."""
        ...

    def users(self, mountpoint: Path) -> list[int]:
        """Process IDs in whose mount namespaces the mount is seen elsewhere than at ``mountpoint``: containers.

        Raises Failed when that cannot be found out.
        """
        ...

    def where_to_look(self, volume: str) -> str:
        """The command that shows what the mount's program said."""
        ...


class Mountpoints(Protocol):
    """The directories volumes are mounted on, and what mountinfo says of them."""

    def path(self, volume: str) -> Path: ...
    def is_mounted(self, volume: str) -> bool: ...
    def mounted(self) -> set[str]:
        """The names of all volumes mounted."""
        ...

    def prepare(self, volume: str) -> None:
        """Make the directory. Raises Failed."""
        ...

    def remove(self, volume: str) -> None:
        """Remove the bare directory, unless something is mounted there."""
        ...
