"""The directories volumes are mounted on: nothing can be written there while nothing is mounted.

They are made below ``bare`` and seen, read-only, below ``mounts`` (a read-only bind mount of ``bare``, made by
mount-unit.sh). A program that still has the path of a lost mount gets EROFS instead of filling the local disk,
on any file system and any kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from legacyhost import log
from legacyhost.errors import Failed
from legacyhost.mounts import mountinfo
from legacyhost.mounts.tools import Probe


class HostMountpoints:
    """The mountpoints of one plugin; ``directory`` is its runtime directory."""

    def __init__(self, directory: Path) -> None:
        self._bare = directory / "bare"
        self._mounts = directory / "mounts"

    def set_up(self) -> None:
        for folder in (self._bare, self._mounts):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, volume: str) -> Path:
        return self._mounts / volume

    def is_mounted(self, volume: str) -> bool:
        return self.source(volume) is not None

    def source(self, volume: str) -> str | None:
        mount = mountinfo.top(f"{self._mounts}/{volume}")
        return mount.source if mount else None

    def mounted(self) -> Mapping[str, str]:
        prefix = f"{self._mounts}/"
        below = [
            (m.mountpoint.removeprefix(prefix), m.source) for m in mountinfo.read() if m.mountpoint.startswith(prefix)
        ]
        return {name: source for name, source in below if "/" not in name}

    def ask(self, volume: str) -> Probe:
        return Probe(self.path(volume))

    def prepare(self, volume: str) -> None:
        try:
            self.set_up()
            (self._bare / volume).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise Failed(
                f"the mountpoint of volume {volume} cannot be made in {self._bare}: {error.strerror}"
            ) from error

    def remove(self, volume: str) -> None:
        if self.is_mounted(volume):
            return
        try:
            (self._bare / volume).rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            log.event(log.WARNING, f"the empty mountpoint {self._bare / volume} stays: {error.strerror}")
