"""The way back: a record of volumes that cannot be used is replaced by its backup, and kept aside."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from legacyhost import disk, record
from legacyhost.backup import FILE as BACKUP
from legacyhost.backup import compare
from legacyhost.errors import StateError
from legacyhost.record import Content, Contradicted, Missing, Newer, Unusable
from legacyhost.state import FILE, load


@dataclass(frozen=True)
class Restored:
    """What has been put in place, and where what was there before is now."""

    content: Content
    aside: Sequence[Path]


def restore(directory: Path) -> Restored:
    """Put the backup in the record's place. Raises StateError. Interrupted anywhere, it can be repeated.

    Nothing is deleted, and the backup stays where it is. A plugin that does not serve finds the record by itself.
    """
    path = directory / FILE
    try:
        with disk.lock(directory):
            content = _backup_if_needed(directory)
            draft = record.prepare(path, content)
            aside = _move_aside(path)
            # Not before the old log has gone for good: SQLite would take it for a part of the new file.
            disk.sync(directory)
            draft.replace(path)
            disk.sync(directory)
    except (sqlite3.Error, OSError) as error:
        raise StateError(f"{path} cannot be restored: {disk.reason(error)}; nothing is lost") from error
    return Restored(content, aside)


def _backup_if_needed(directory: Path) -> Content:
    """The backup's content. Raises StateError if the record is in order, or the backup is not."""
    path, backup = directory / FILE, directory / BACKUP
    problem: Unusable | None = None
    content = Content(())
    try:
        content = load(directory)
    except Missing as error:
        raise StateError(f"there is nothing to restore: {directory} has never had a record of volumes") from error
    except Newer as error:
        raise StateError(f"the record of volumes {path} {error}; install that version again") from error
    except Unusable as error:
        problem = error
    try:
        found = record.read(backup)
        if problem is None:
            compare(content, found)
    except Contradicted:
        return found
    except Unusable as error:
        if problem is not None:
            text = f"the record of volumes {path} {problem}, and its backup {backup} {error}; nothing has been changed"
            raise StateError(text) from error
    if problem is None:
        raise StateError(f"there is nothing to restore: the record of volumes {path} is in order ({content})")
    return found


def _move_aside(path: Path) -> list[Path]:
    """Rename the file and what SQLite keeps beside it, so that they still belong together; returns the new names."""
    suffixes = ("", *record.BESIDE)
    stamp, number = f"{path}.damaged-{datetime.now(UTC):%Y%m%dT%H%M%SZ}", 1
    while any(os.path.lexists(f"{stamp}-{number}{suffix}") for suffix in suffixes):
        number += 1
    moved = []
    for suffix in suffixes:
        if os.path.lexists(f"{path}{suffix}"):
            moved.append(Path(f"{path}{suffix}").rename(f"{stamp}-{number}{suffix}"))
    return moved
