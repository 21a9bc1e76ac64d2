"""The record's backup: a second file of the same form beside it, which has every change before a call returns."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from legacyhost import disk, log, record
from legacyhost.record import Content, Contradicted, Gone, Missing, Newer, Step, Unusable

FILE = "volumes.backup"


class Backup:
    """Written to by one thread at a time, which holds the directory's lock. No failure of it is one of the caller's."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE
        self._connection: sqlite3.Connection | None = None
        self._identity = (0, 0)
        self._is_complete = False
        #: Why it is not; empty if there has been none.
        self._trouble = ""
        self._is_told = False

    def look(self, content: Content) -> None:
        """Before anything is changed: raises Unusable if the backup knows better than that record."""
        try:
            found = record.read(self.path, content)
        except Newer as error:
            raise Newer(f"is older than its backup {self.path}, which {error}") from error
        except Missing:
            self._is_complete = False  # as at the first start
        except Unusable as error:
            self._is_complete, self._trouble = False, str(error)
        else:
            compare(content, found)
            self._is_complete = found == content
            self._trouble = "" if self._is_complete else "is not up to date"

    def trust(self) -> None:
        """As look(), where it has been found out before that all is in order."""
        self._is_complete, self._trouble = True, ""

    @property
    def is_complete(self) -> bool:
        return self._is_complete

    def follow(self, content: Callable[[], Content]) -> bool:
        """Be what the record is from now on, with which look() was content; as renew(). Raises as ``content``."""
        return (self._is_complete and self._attempt(self._open, "cannot be opened")) or self.renew(content())

    def apply(self, steps: Sequence[Step], moment: datetime, make_room: Callable[[], bool] | None) -> bool:
        """What has been done to the record; False if it has to be made anew."""

        def change() -> None:
            if self._connection is None or disk.identity(self.path) != self._identity:
                raise FileNotFoundError(2, "it has been deleted or replaced")
            if not record.change(self._connection, steps, moment, make_room):
                raise sqlite3.DatabaseError("it was not up to date")

        return self._is_complete and self._attempt(change, "cannot be written")

    def renew(self, content: Content) -> bool:
        """Make it anew, as a whole, from a checked record; False if it cannot be done now, which is logged once."""
        before = self._trouble
        if not self._attempt(lambda: self._renew(content), "cannot be made"):
            self.tell(f"{self._trouble}; the record itself is in order, and this is tried again")
            return False
        level = log.INFO if self._is_told else log.WARNING if before else log.DEBUG
        log.event(level, f"the backup {self.path} {before or 'is new'}: it has been made from the record")
        self._is_told = False
        return True

    def tell(self, trouble: str) -> None:
        """Log why there is no complete backup, if that has not been said."""
        if not self._is_told:
            log.event(log.WARNING, f"the backup {self.path} {trouble}")
        self._is_told = True

    def wipe(self) -> None:
        """Leave nothing in its log of what was overwritten. Raises sqlite3.Error."""
        if self._connection is not None:
            record.wipe(self._connection)

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
        disk.sync(self.path.parent)
        self._open()

    def _open(self) -> None:
        self.close()
        self._connection = record.connect(self.path)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._identity = disk.identity(self.path)

    def _attempt(self, step: Callable[[], None], failure: str) -> bool:
        try:
            step()
        except (sqlite3.Error, OSError) as error:
            self._is_complete, self._trouble = False, f"{failure}: {disk.reason(error)}"
        else:
            self._is_complete, self._trouble = True, ""
        return self._is_complete


def compare(content: Content, backup: Content) -> None:
    """Raises Contradicted unless that can have become of the backup: the record has each change first.

    Each change adds or removes one volume.
    """
    ahead = content.changes - backup.changes
    if ahead < 0:
        raise Contradicted(f"lacks the last {'change' if ahead == -1 else f'{-ahead} changes'}")
    if content.rows != backup.rows and len(set(content.rows) ^ set(backup.rows)) > ahead:
        raise Contradicted("says something else than its backup, and no change explains it")


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
    anyway = f" (or remove {path} to go on without them)" if isinstance(problem, Contradicted) else ""
    command = f"legacyhost restore --plugin {directory.resolve().name}"
    return f"{start or ';'} use its backup of {content}{anyway}: {command}"
