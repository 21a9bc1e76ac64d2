"""The volumes that exist, on disk: durable before a reply is sent, refused when they cannot be trusted.

A change costs the same at 1 and at 10,000 volumes, and is in the record and in its backup when the call returns;
reading never waits for writing. At start the file is checked, and nothing is kept of it.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from legacyhost import disk, record, seal
from legacyhost.backup import FILE as BACKUP
from legacyhost.backup import Backup, remedy
from legacyhost.errors import NoSuchVolume, NotServing, StateError
from legacyhost.record import Content, Gone, Missing, Row, Step, Unusable
from legacyhost.unchanged import Recent

APPLICATION_ID = record.APPLICATION_ID
FORMAT = record.FORMAT
FILE = "volumes.db"
#: Says that there has been a record: without it a missing one is a new one.
MARKER = "volumes.made"
#: Seconds between two attempts to make a backup anew that could not be written.
RETRY = 5.0
#: How often the logs are tried to be emptied, a second apart.
WIPES = 10

_MOUNT_IT = "{} is on a file system mounted read-only; mount it writable"


@dataclass(frozen=True)
class Volume:
    """One volume as it was created. ``options`` may hold a password: never print them."""

    name: str
    options: Mapping[str, str] = field(repr=False)
    created: datetime
    facts: Mapping[str, str] = field(default_factory=dict)


def load(directory: Path) -> Content:
    """What the record in it says, if it can be trusted. Raises Unusable, Missing only if there has never been one."""
    path = directory / FILE
    try:
        return record.read(path)
    except Missing as error:
        left = [directory / name for name in (MARKER, BACKUP) if os.path.lexists(directory / name)]
        journal = path.with_name(FILE + "-wal")
        left += [journal] if journal.exists() and journal.stat().st_size > 0 else []
        if left:
            raise Gone(left) from error
        raise


class State:
    """The record of one plugin's volumes. Safe to use from many threads."""

    def __init__(self, directory: Path) -> None:
        """Open or make the record. Raises StateError when it is there and cannot be trusted."""
        self.path = directory / FILE
        self._opened = object()
        self._volumes: Recent[Volume] = Recent()
        self._writing = threading.Lock()
        self._reading = threading.Lock()
        self._is_closed = threading.Event()
        self._is_renewing = False
        #: Told when what has been read or is to be changed cannot be trusted any more; must not wait.
        self.on_lost: Callable[[str], None] = lambda reason: None
        self._backup = Backup(directory)
        self._reserve = disk.Reserve(directory)
        try:
            with disk.lock(directory):
                try:
                    self._open(directory)
                except (Unusable, sqlite3.Error, OSError) as error:
                    if not disk.is_full(error) or not self._reserve.give_up():
                        raise
                    self._open(directory)
        except Unusable as error:
            what_to_do = (
                f"; {_MOUNT_IT.format(directory)}" if disk.is_read_only(directory) else remedy(directory, error)
            )
            raise StateError(f"the record of volumes {self.path} {error}{what_to_do}") from error
        except (sqlite3.Error, OSError) as error:
            verb = "used" if os.path.lexists(self.path) else "made"
            raise StateError(f"the record of volumes {self.path} cannot be {verb}: {_why(error, directory)}") from error

    def _open(self, directory: Path) -> None:
        if seal.take(directory, FILE, BACKUP):
            self._backup.trust()
            content = None
        else:
            content = self._checked(directory)
        with ExitStack() as opened:
            self._writer = opened.enter_context(closing(record.connect(self.path)))
            self._writer.execute("PRAGMA journal_mode = WAL")
            self._reader = opened.enter_context(closing(record.connect(self.path, "ro")))
            (directory / MARKER).touch(mode=0o600)
            self._identity = disk.identity(self.path)
            opened.callback(self._backup.close)
            if not self._backup.follow(lambda: load(directory) if content is None else content):
                self._renew_later()
            self._reserve.keep()
            opened.pop_all()

    def _checked(self, directory: Path) -> Content:
        try:
            content = load(directory)
        except Missing:
            content = Content(())
            record.write(self.path, content)
        self._backup.look(content)
        return content

    def add(self, volume: Volume) -> None:
        """Durable when this returns. The name must be new."""
        self._change(f"volume {volume.name} cannot be recorded", [_adding(volume)])

    def replace(self, volume: Volume) -> None:
        """Record the volume of that name so from now on; see wipe(). Raises StateError."""
        self._change(f"volume {volume.name} cannot be recorded anew", [_removing(volume.name), _adding(volume)])

    def wipe(self) -> None:
        """Leave nothing, in the logs either, of what was replaced or removed. Raises StateError.

        Waits for others who read the file at the moment; nobody waits for it.
        """
        for attempt in range(WIPES):
            with self._writing:
                try:
                    record.wipe(self._writer)
                    self._backup.wipe()
                    return
                except sqlite3.Error as error:
                    if attempt == WIPES - 1:
                        raise StateError(
                            f"what was replaced in {self.path} stays in its log until the next start:"
                            f" {_why(error, self.path.parent)}"
                        ) from error
            self._is_closed.wait(1.0)

    def remove(self, name: str) -> None:
        """Durable when this returns; the room for it is kept. Raises NoSuchVolume."""
        failure = f"the removal of volume {name} cannot be recorded"
        if not self._change(failure, [_removing(name)], self._reserve.give_up):
            raise NoSuchVolume(f"there is no volume {name}")

    def get(self, name: str) -> Volume:
        """The same object as long as its record is the same.

        Raises NoSuchVolume; NotServing when the record cannot be read any more.
        """
        rows = self._read("SELECT * FROM volumes WHERE name = ?", (name,))
        if not rows:
            raise NoSuchVolume(f"there is no volume {name}")
        known = self._volumes.get(name, rows[0])
        return known if known is not None else self._volumes.put(name, rows[0], self._volume(rows[0]))

    def version(self) -> object:
        """Equal to an earlier one if nothing has changed since then, whoever changes it. Raises NotServing.

        What SQLite has counted (PRAGMA data_version), and the times of its files for those who do not go by SQLite.
        """
        times = tuple(disk.changed(self.path.with_name(f"{FILE}{suffix}")) for suffix in ("", "-wal"))
        return self._opened, self._read("PRAGMA data_version"), times

    def names(self) -> list[str]:
        """All names, sorted. Raises NotServing."""
        return [row[0] for row in self._read("SELECT name FROM volumes ORDER BY name")]

    def names_with(self, option: str) -> list[str]:
        """Those of all volumes that may have this option, and of few others. Raises NotServing."""
        query = "SELECT name FROM volumes WHERE instr(options, ?) ORDER BY name"
        return [row[0] for row in self._read(query, (json.dumps(option),))]

    def all(self) -> list[Volume]:
        """All volumes, sorted by name. Raises NotServing."""
        return [self._volume(row) for row in self._read("SELECT * FROM volumes ORDER BY name")]

    def close(self) -> None:
        """Nothing is read or changed any more; what waits to be done is given up."""
        with self._writing, self._reading:
            self._is_closed.set()
            self._reader.close()
            self._writer.close()
            self._backup.close()

    def finish(self) -> None:
        """Close it, and spare the next start the check if all is in order; that it is not is found by that start."""
        self.on_lost = lambda reason: None
        self.close()
        directory = self.path.parent
        with suppress(OSError), disk.lock(directory):
            seal.put(directory, self._is_in_order, FILE, BACKUP)

    def _is_in_order(self) -> bool:
        try:
            self._backup.look(load(self.path.parent))
        except Unusable:
            return False
        return self._backup.is_complete

    def _is_ours(self) -> bool:
        """Whether the file is still the one that was opened: what is written to a deleted one is lost."""
        try:
            return disk.identity(self.path) == self._identity
        except OSError:
            return False

    def _read(self, query: str, values: tuple[str, ...] = ()) -> list[Row]:
        if not self._is_ours():
            raise self._lost("has been deleted or replaced")
        try:
            with self._reading:
                return self._reader.execute(query, values).fetchall()
        except (sqlite3.Error, UnicodeError) as error:  # the second where SQLite's own message has such a text in it
            raise self._lost(f"cannot be read: {disk.reason(error)}") from error

    def _lost(self, why: str) -> NotServing:
        reason = f"the record of volumes {self.path} {why}"
        self.on_lost(reason)
        return NotServing(reason)

    def _change(self, failure: str, steps: Sequence[Step], make_room: Callable[[], bool] | None = None) -> bool:
        """First the record, then its backup; False if there was nothing to change. Raises StateError."""
        with self._writing:
            if not self._is_ours():
                self._lost("has been deleted or replaced")
                raise StateError(f"{failure}: {self.path} has been deleted or replaced")
            try:
                with disk.lock(self.path.parent):
                    moment = datetime.now(UTC)
                    is_done = record.change(self._writer, steps, moment, make_room)
                    if is_done and not self._backup.apply(steps, moment, make_room):
                        self._renew_now_or_later()
                    self._reserve.keep()
            except (sqlite3.Error, OSError) as error:
                raise StateError(f"{failure} in {self.path}: {_why(error, self.path.parent)}") from error
        return is_done

    def _renew_now_or_later(self) -> None:
        if not self._is_renewing and not self._renew():
            self._renew_later()

    def _renew(self) -> bool:
        """Make the backup anew from the record, if that is in order; False if it has to be tried again."""
        try:
            return self._backup.renew(record.read(self.path))
        except Unusable as error:
            self._backup.tell(f"is not made anew: the record {self.path} {error}")
            return False

    def _renew_later(self) -> None:
        self._is_renewing = True
        threading.Thread(target=self._keep_renewing, name="backup", daemon=True).start()

    def _keep_renewing(self) -> None:
        while not self._is_closed.wait(RETRY):
            with self._writing, suppress(OSError), disk.lock(self.path.parent):
                if not self._is_closed.is_set() and self._is_ours() and self._renew():
                    self._is_renewing = False
                    return

    def _volume(self, row: Row) -> Volume:
        try:
            name, options, created, facts = record.fields(row)
            return Volume(name, options, created, facts)
        except ValueError as error:
            raise NotServing(f"the record of volume {row[0]} in {self.path} is damaged") from error


def now() -> datetime:
    """The time to put into a new volume's record."""
    return datetime.now(UTC).replace(microsecond=0)


def _adding(volume: Volume) -> Step:
    values = volume.name, volume.created.isoformat(), _dump(volume.options), _dump(volume.facts)
    return "INSERT INTO volumes VALUES (?, ?, ?, ?)", values


def _removing(name: str) -> Step:
    return "DELETE FROM volumes WHERE name = ?", (name,)


def _dump(value: Mapping[str, str]) -> str:
    return json.dumps(dict(value), sort_keys=True)


def _why(error: sqlite3.Error | OSError, directory: Path) -> str:
    if disk.is_full(error):
        return f"the disk is full; make room in {directory}"
    return _MOUNT_IT.format(directory) if disk.is_read_only(directory) else disk.reason(error)
