"""Who uses which volume right now: for each volume, how often each mount ID holds it.

A count per ID, not a set: ``docker cp`` mounts and unmounts with the ID of the running container's own mount
(moby#34665). Kept in the runtime directory, so that it outlives the service and vanishes with the mounts at a
reboot. Callers take turns per volume (turns.py); nothing here locks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from legacyhost.errors import Failed
from legacyhost.unchanged import Files

FILE = "holds.json"
#: Stands for the IDs of those whose holds were lost with the record; no engine's ID is like it.
UNKNOWN = "?"
#: No engine mounts a volume so often for one ID.
MOST = 1 << 32


class Holds:
    """The holds on the volumes of one plugin; ``directory`` has one folder per volume."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files = Files(_read)

    def names(self) -> list[str]:
        """The volumes that somebody holds."""
        return [path.parent.name for path in self._directory.glob(f"*/{FILE}")]

    def of(self, name: str) -> dict[str, int]:
        """Mount ID to count, both as recorded; empty when nobody holds the volume."""
        path = self._path(name)
        try:
            return dict(self._files.get(path))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, AttributeError, TypeError, OverflowError, RecursionError) as error:
            raise Failed(f"the record of who uses volume {name}, {path}, cannot be read") from error

    def _path(self, name: str) -> str:
        return f"{self._directory}/{name}/{FILE}"

    def changed(self, name: str) -> float:
        """When the holds on the volume were last changed, in seconds since the epoch; 0 where there are none."""
        try:
            return (self._directory / name / FILE).stat().st_mtime
        except OSError:
            return 0.0

    def total(self, name: str) -> int:
        return sum(self.of(name).values())

    def add(self, name: str, mount_id: str) -> None:
        held = self.of(name)
        held[mount_id] = held.get(mount_id, 0) + 1
        self._write(name, held)

    def drop(self, name: str, mount_id: str) -> None:
        """Take one away; an unknown ID changes nothing."""
        held = self.of(name)
        if mount_id not in held:
            return
        held[mount_id] -= 1
        if held[mount_id] <= 0:
            del held[mount_id]
        self._write(name, held)

    def clear(self, name: str) -> None:
        """Forget every hold on the volume."""
        path = self._directory / name / FILE
        try:
            path.unlink(missing_ok=True)
            self._files.forget(str(path))
        except OSError as error:
            raise Failed(f"the use of volume {name} cannot be cleared in {path}: {error.strerror}") from error

    def _write(self, name: str, held: Mapping[str, int]) -> None:
        if not held:
            self.clear(name)
            return
        folder = self._directory / name
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft = folder / (FILE + ".new")
            draft.write_text(json.dumps(held))
            draft.replace(folder / FILE)
            self._files.forget(self._path(name))
        except OSError as error:
            raise Failed(f"the use of volume {name} cannot be recorded in {folder}: {error.strerror}") from error


def _read(path: str, _: os.stat_result) -> dict[str, int]:
    held = {str(mount_id): int(count) for mount_id, count in json.loads(Path(path).read_bytes()).items()}
    if max(held.values(), default=0) > MOST:
        raise ValueError("nobody counts that far")
    return held
