"""The record's backup: a second file of the same form beside it, which has every change before a call returns."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from legacyhost import log, record
from legacyhost.record import Behind, Content, Gone, Missing, Newer, Unusable

FILE = "volumes.backup"


class Backup:
    """Written to by one thread at a time, which holds the directory's lock. No failure of it is one of the caller's."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE
        self._connection: sqlite3.Connection | None = None
        self._identity = (0, 0)
        self._is_lost = False

    def follow(self, content: Content) -> bool:
        """Be what the checked record is from now on; as renew(). Raises Behind."""
        try:
            found = record.read(self.path)
        except Missing:
            told = (log.INFO, "is new")
        except Unusable as error:
            told = (log.WARNING, str(error))
        else:
            lost = found.changes - content.changes
            if lost > 0:
                raise Behind(f"lacks the last {'change' if lost == 1 else f'{lost} changes'}")
            if found == content:
                return self._attempt(self._open, "cannot be opened")
            told = (log.WARNING, "was not up to date")
        is_done = self.renew(content)
        if is_done:
            log.event(told[0], f"the backup {self.path} {told[1]}: it has been made from the record")
        return is_done

    def apply(self, query: str, values: Sequence[str], moment: datetime, make_room: Callable[[], bool] | None) -> bool:
        """What has been done to the record; False if it has to be made anew."""

        def change() -> None:
            if self._connection is None or record.identity(self.path) != self._identity:
                raise FileNotFoundError(2, "it has been deleted or replaced")
            if not record.change(self._connection, query, values, moment, make_room):
                raise sqlite3.DatabaseError("it was not up to date")

        return not self._is_lost and self._attempt(change, "cannot be written")

    def renew(self, content: Content) -> bool:
        """Make it anew, as a whole, from a checked record; False if it cannot be done now, which is logged once."""
        return self._attempt(lambda: self._renew(content), "cannot be made anew")

    def give_up(self, why: str) -> None:
        """It stays as it is for now, which is logged once."""

        def refuse() -> None:
            raise sqlite3.DatabaseError(why)

        self._attempt(refuse, "is not made anew")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _renew(self, content: Content) -> None:
        draft = record.prepare(self.path, content)
        # Its log is brought into the old one, which is whole then until the very moment it is replaced; where that
        # cannot be done there is nothing to keep.
        with contextlib.suppress(sqlite3.Error):
            self.close()
            with contextlib.closing(record.connect(self.path)) as old:
                old.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        for suffix in record.BESIDE:
            self.path.with_name(FILE + suffix).unlink(missing_ok=True)
        draft.replace(self.path)
        record.sync(self.path.parent)
        self._open()

    def _open(self) -> None:
        self.close()
        self._connection = record.connect(self.path)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._identity = record.identity(self.path)

    def _attempt(self, step: Callable[[], None], failure: str) -> bool:
        try:
            step()
        except (sqlite3.Error, OSError) as error:
            if not self._is_lost:
                log.event(
                    log.WARNING,
                    f"the backup {self.path} {failure}: {record.reason(error)}; the record itself is in order,"
                    " and the backup is made anew as soon as that is possible",
                )
            self._is_lost = True
            return False
        self._is_lost = False
        return True


def remedy(directory: Path, problem: Unusable) -> str:
    """What to do about a record with that problem: the second half of the sentence that names the first."""
    path = directory / FILE
    if isinstance(problem, Newer):
        return "; install that version again"
    start = end = ""
    if isinstance(problem, Gone):
        left = " and ".join(str(path) for path in problem.left)
        start, end = "; put it back, or", f"; put it back, or, if there are no volumes, remove {left}"
    try:
        content = record.read(path)
    except Missing:
        return f"{end}; there is no backup of it"
    except Newer as error:
        return f"; its backup {path} {error}: install that version again"
    except Unusable as error:
        return f"{end}; its backup {path} cannot be used either: it {error}"
    anyway = f" (or remove {path} to go on without them)" if isinstance(problem, Behind) else ""
    command = f"legacyhost restore --plugin {directory.resolve().name}"
    return f"{start or ';'} use its backup of {content}{anyway}: {command}"
