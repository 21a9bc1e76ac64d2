"""The kinds of storage a volume can be made of, one file each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from legacyhost.deadline import Deadline
from legacyhost.errors import PluginError
from legacyhost.mounts import Companion, MountCommand
from legacyhost.state import Volume

Facts = Mapping[str, str]


@dataclass(frozen=True)
class Connection:
    """What a mount knows of its connection; ``since`` when it has been there, or away; times have a zone.

    ``used`` is when somebody last wanted something of it, to some seconds.
    """

    is_up: bool
    since: datetime
    reconnects: int
    used: datetime
    error: str = ""
    error_at: datetime | None = None


@dataclass(frozen=True)
class Sharing:
    """``variables`` are for the mount; the companion is to be started, None if it is there already."""

    variables: Mapping[str, str]
    companion: Companion | None


class Driver(Protocol):
    """One kind of storage. Names, holds, durability, deadlines and idempotence are none of its business.

    Methods that take a deadline may use the network; the others must not.
    """

    @property
    def secret_option(self) -> str:
        """The name of the option whose value is secret, which keep() takes out."""
        ...

    def parse(self, name: str, given: Mapping[str, str]) -> Mapping[str, str]:
        """The options of a new volume in the form to be recorded. Raises InvalidRequest."""
        ...

    def timeout(self, options: Mapping[str, str]) -> float:
        """Seconds that a Create or Mount of such a volume may take."""
        ...

    def prepare(self, volume: Volume, deadline: Deadline) -> Facts:
        """See that the volume can be used, making what is missing; what was learned is recorded. Raises PluginError."""
        ...

    def keep(self, volume: Volume) -> Volume:
        """The volume as it may be recorded: what is secret in its options is kept elsewhere now. Raises PluginError."""
        ...

    def is_same(self, volume: Volume, options: Mapping[str, str]) -> bool:
        """Whether the recorded volume was created with these options, as parse() gives them. Raises PluginError."""
        ...

    def forget(self, name: str) -> None:
        """Delete what keep() has kept for that volume, which is no more. Raises PluginError."""
        ...

    def command(self, volume: Volume, mountpoint: Path, folder: Path) -> MountCommand:
        """How to mount it. Files the program needs are written to ``folder`` (root only, lost at reboot)."""
        ...

    def sharing(self, volume: Volume, root: Path) -> Sharing | None:
        """What its mount shares with those of other volumes, if anything. Files are written to folders in ``root``.

        Raises OSError.
        """
        ...

    def connection(self, folder: Path, source: str) -> Connection | None:
        """What the mount with that source has left in ``folder``, if anything. Reads nothing but local files."""
        ...

    def explain(self, volume: Volume, deadline: Deadline) -> PluginError | None:
        """Why mounting failed, for the user; None when nothing is wrong (any more). Changes nothing."""
        ...

    def removal(self, volume: Volume, others: Callable[[], Sequence[Volume]]) -> None:
        """Whether the volume may be removed as things stand; ``others`` gives all other volumes of this host.

        Raises Refused, and what others() raises.
        """
        ...

    def remove(self, volume: Volume, deadline: Deadline) -> None:
        """Do to the data what the volume's options say by name; without such an option, nothing at all."""
        ...

    def describe(self, volume: Volume) -> Mapping[str, object]:
        """What ``docker volume inspect`` shows as Status, beside state and holders. No secrets."""
        ...
