"""What has become of each volume since the machine was started: its state, since when, and what last went wrong.

For people only (``docker volume inspect``); nothing is decided by it. Kept in memory and, for the next start of the
service, in a file per volume in the runtime directory, which vanishes at a reboot.
"""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from legacyhost import log


@dataclass(frozen=True)
class Past:
    """``since`` and ``error_at`` are ISO 8601 with zone; all are empty where nothing is known."""

    state: str = ""
    since: str = ""
    error: str = ""
    error_at: str = ""


class History:
    """The past of one plugin's volumes, in ``directory``. Safe to use from many threads; never raises."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._changing = threading.Lock()
        self._past: dict[str, Past] = {}
        for path in directory.glob("[!.]*"):
            try:
                past = Past(**json.loads(path.read_bytes()))
                if not all(isinstance(value, str) for value in asdict(past).values()):
                    raise TypeError("not all of it is text")
                self._past[path.name] = past
            except (OSError, ValueError, TypeError, RecursionError) as error:
                log.event(log.WARNING, f"{path} cannot be read and does not count: {error}")

    def of(self, name: str) -> Past:
        return self._past.get(name, Past())

    def state(self, name: str, state: str) -> bool:
        """The volume is in this state now; whether it was not before."""
        with self._changing:
            if self.of(name).state == state:
                return False
            self._change(name, replace(self.of(name), state=state, since=timestamp()))
            return True

    def error(self, name: str, message: str) -> None:
        with self._changing:
            self._change(name, replace(self.of(name), error=message, error_at=timestamp()))

    def forget(self, name: str) -> None:
        with self._changing:
            self._past.pop(name, None)
            try:
                (self._directory / name).unlink(missing_ok=True)
            except OSError as error:
                log.event(log.WARNING, f"{self._directory / name} stays: {error.strerror}")

    def _change(self, name: str, past: Past) -> None:
        self._past[name] = past
        path = self._directory / name  # the name alone: it may be as long as a file's may
        draft = self._directory / ".new"
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            draft.write_text(json.dumps(asdict(past)))
            draft.replace(path)
        except OSError as error:
            log.event(log.WARNING, f"the state of volume {name} cannot be noted in {path}: {error.strerror}")


def timestamp() -> str:
    """The time as messages and Status show it."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
