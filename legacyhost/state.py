"""The volumes that exist, on disk: durable before a reply is sent, refused when unreadable.

SQLite with a write-ahead log and synchronous=FULL: a change costs the same at 1 and at 10,000 volumes and is on the
disk when the call returns; reading never waits for writing. At start the file is checked, and nothing is kept of it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from legacyhost.errors import NoSuchVolume, NotServing, StateError

#: "lgcy": says that the file is ours (sqlite.org/pragma.html#pragma_application_id).
APPLICATION_ID = 0x6C676379
FORMAT = 1
FILE = "volumes.db"
#: Says that there has been a record: without it a missing one is a new one.
MARKER = "volumes.made"

_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE volumes (
    name    TEXT PRIMARY KEY,
    created TEXT NOT NULL,      -- ISO 8601 with zone
    options TEXT NOT NULL,      -- JSON object of strings, as given at Create
    facts   TEXT NOT NULL       -- JSON object of strings, learned from the remote side
) WITHOUT ROWID;
PRAGMA application_id = {APPLICATION_ID};
PRAGMA user_version = {FORMAT};
COMMIT;
"""


@dataclass(frozen=True)
class Volume:
    """One volume as it was created. ``options`` may hold a password: never print them."""

    name: str
    options: Mapping[str, str] = field(repr=False)
    created: datetime
    facts: Mapping[str, str] = field(default_factory=dict)


class State:
    """The record of one plugin's volumes. Safe to use from many threads."""

    def __init__(self, directory: Path) -> None:
        """Open or make the record. Raises StateError when it is there and cannot be trusted."""
        self.path = directory / FILE
        marker = directory / MARKER
        try:
            if not os.path.lexists(self.path):
                self._refuse_if_lost(marker)
                self._make()
            elif self.path.stat().st_size == 0:
                raise StateError(f"the record of volumes {self.path} is empty")
            self._writer = self._connect()
            self._reader = self._connect()
            self._check()
            self._writer.execute("PRAGMA journal_mode = WAL")  # not before it is known to be ours: it writes
            marker.touch(mode=0o600)
            self._identity = _identity(self.path)
        except (sqlite3.Error, OSError) as error:
            raise StateError(f"the record of volumes {self.path} cannot be read: {error}") from error
        self._writing = threading.Lock()
        self._reading = threading.Lock()

    def add(self, volume: Volume) -> None:
        """Durable when this returns. The name must be new."""
        with self._change(f"volume {volume.name} cannot be recorded") as cursor:
            cursor.execute(
                "INSERT INTO volumes VALUES (?, ?, ?, ?)",
                (volume.name, volume.created.isoformat(), _dump(volume.options), _dump(volume.facts)),
            )

    def remove(self, name: str) -> None:
        """Durable when this returns. Raises NoSuchVolume."""
        with self._change(f"the removal of volume {name} cannot be recorded") as cursor:
            cursor.execute("DELETE FROM volumes WHERE name = ?", (name,))
            if cursor.rowcount == 0:
                raise NoSuchVolume(f"there is no volume {name}")

    def get(self, name: str) -> Volume:
        """Raises NoSuchVolume; NotServing when the record cannot be read any more."""
        rows = self._read("SELECT * FROM volumes WHERE name = ?", (name,))
        if not rows:
            raise NoSuchVolume(f"there is no volume {name}")
        return self._volume(rows[0])

    def names(self) -> list[str]:
        """All names, sorted. Raises NotServing."""
        return [row[0] for row in self._read("SELECT name FROM volumes ORDER BY name")]

    def all(self) -> list[Volume]:
        """All volumes, sorted by name. Raises NotServing."""
        return [self._volume(row) for row in self._read("SELECT * FROM volumes ORDER BY name")]

    def close(self) -> None:
        with self._writing, self._reading:
            self._reader.close()
            self._writer.close()

    def _make(self) -> None:
        """A new record, under its name only once it is whole: an empty file is one that has lost its content."""
        log = self.path.with_name(FILE + "-wal")
        if log.exists():
            raise StateError(f"the record of volumes {self.path} is missing, but its log {log} is there")
        draft = self.path.with_name(FILE + ".new")
        draft.unlink(missing_ok=True)
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file, closing(sqlite3.connect(":memory:")) as connection:
            connection.executescript(_SCHEMA)
            file.write(connection.serialize())
            file.flush()
            os.fsync(descriptor)
        draft.replace(self.path)

    def _refuse_if_lost(self, marker: Path) -> None:
        if marker.exists():
            raise StateError(
                f"the record of volumes {self.path} is gone; put it back, or, if there are no volumes, remove {marker}"
            )

    def _is_ours(self) -> bool:
        """Whether the file is still the one that was opened: what is written to a deleted one is lost."""
        try:
            return _identity(self.path) == self._identity
        except OSError:
            return False

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, timeout=5, isolation_level=None, check_same_thread=False)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA temp_store = MEMORY")
        return connection

    def _check(self) -> None:
        (application,) = self._reader.execute("PRAGMA application_id").fetchone()
        (version,) = self._reader.execute("PRAGMA user_version").fetchone()
        if application != APPLICATION_ID:
            raise StateError(f"{self.path} is not a record of volumes made by legacyhost")
        if version != FORMAT:
            age = "a newer" if version > FORMAT else "an unknown"
            raise StateError(
                f"the record of volumes {self.path} has format {version}, made by {age} legacyhost;"
                f" this one reads format {FORMAT}"
            )
        (verdict,) = self._reader.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise StateError(f"the record of volumes {self.path} is damaged: {verdict}")

    def _read(self, query: str, values: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
        if not self._is_ours():
            raise NotServing(f"the record of volumes {self.path} has been deleted or replaced")
        try:
            with self._reading:
                return self._reader.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise NotServing(f"the record of volumes {self.path} cannot be read: {error}") from error

    @contextmanager
    def _change(self, failure: str) -> Iterator[sqlite3.Cursor]:
        with self._writing:
            if not self._is_ours():
                raise StateError(f"{failure}: {self.path} has been deleted or replaced; restart the plugin")
            try:
                with closing(self._writer.cursor()) as cursor:
                    cursor.execute("BEGIN IMMEDIATE")
                    try:
                        yield cursor
                        cursor.execute("COMMIT")
                    except BaseException:
                        if self._writer.in_transaction:
                            cursor.execute("ROLLBACK")
                        raise
            except sqlite3.Error as error:
                raise StateError(f"{failure} in {self.path}: {error}") from error

    def _volume(self, row: tuple[str, ...]) -> Volume:
        name, created, options, facts = row
        try:
            return Volume(name, json.loads(options), datetime.fromisoformat(created), json.loads(facts))
        except ValueError as error:
            raise NotServing(f"the record of volume {name} in {self.path} is damaged") from error


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino


def now() -> datetime:
    """The time to put into a new volume's record."""
    return datetime.now(UTC).replace(microsecond=0)


def _dump(value: Mapping[str, str]) -> str:
    return json.dumps(dict(value), sort_keys=True)
