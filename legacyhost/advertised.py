"""What a daemon was told last that this plugin does: it asks for that, whatever has become of the configuration."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from legacyhost import disk, log

FILE = "advertised.json"
#: Whoever was told of this asks for every request, and does not start again where nobody says that it is there.
LASTING = "authz"
#: Beside it where volumes have been served (state.py): Docker knows them by this plugin.
VOLUMES, MADE = "VolumeDriver", "volumes.made"


class Advertised:
    """The surfaces by their names in the handshake, kept as long as the lasting one is among them."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE
        self._said = ""

    def names(self) -> list[str]:
        """Empty where there is no record, or none that can be read."""
        try:
            names = json.loads(self._path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return []
        except (OSError, ValueError, RecursionError) as error:
            self._say(f"{self._path} cannot be read: {disk.reason(error)}")
            return []
        return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []

    def known(self, names: Sequence[str]) -> list[str]:
        """What engines may ask for: what they were told last, and volumes if there has been a record of them."""
        has_volumes = VOLUMES not in names and (self._path.parent / MADE).exists()
        return [*names, VOLUMES] if has_volumes else [*names]

    def record(self, names: Sequence[str]) -> None:
        """Durably. That it cannot be written is logged: the handshake is more important."""
        known = self.names()
        if known == list(names) or LASTING not in {*known, *names}:
            return
        try:
            if LASTING in names:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                disk.write(self._path, json.dumps([*names]).encode())
            else:
                self._path.unlink(missing_ok=True)
                disk.sync(self._path.parent)
        except OSError as error:
            self._say(f"{self._path} cannot be written: {disk.reason(error)}")

    def _say(self, what: str) -> None:
        """Once."""
        if what != self._said:
            log.event(log.ERROR, what)
        self._said = what
