"""One file of volumes, the record or its backup: its form, whether it can be trusted, how one is made whole.

SQLite with a write-ahead log and synchronous=FULL. A file is looked at without changing a byte of it or beside it,
and made under another name first: what stands under its own name is complete.
"""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from legacyhost.disk import PATIENCE, changed, is_full, reason, sync

#: "lgcy": says that the file is ours (sqlite.org/pragma.html#pragma_application_id).
APPLICATION_ID = 0x6C676379
FORMAT = 1
#: How often a file is looked at again that is being written, and seconds in between.
LOOKS, BREATH = 5, 0.02
#: What SQLite keeps beside a file.
BESIDE = ("-wal", "-shm", "-journal")

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
#: How many changes there have been, and when the last one was: which of two files is behind the other. Files made by
#: earlier versions have none before their first change.
_CHANGES = """
CREATE TABLE IF NOT EXISTS changes (
    id INTEGER PRIMARY KEY CHECK (id = 1), number INTEGER NOT NULL, moment TEXT NOT NULL
)
"""
_COUNT = """
INSERT INTO changes VALUES (1, :changes, :moment)
ON CONFLICT (id) DO UPDATE SET number = number + :changes, moment = excluded.moment
"""

_decode = json.JSONDecoder().raw_decode

Row = tuple[str, str, str, str]
#: A query that adds or removes one volume, and its values.
Step = tuple[str, Sequence[str]]


class Unusable(Exception):
    """Why a file cannot be used: what follows its name in a sentence."""


class Missing(Unusable):
    """There is no such file."""


class Gone(Unusable):
    """There has been one: ``left`` is what says so."""

    def __init__(self, left: Sequence[Path]) -> None:
        super().__init__("is gone")
        self.left = left


class Contradicted(Unusable):
    """It is whole, but not what can have become of its backup."""


class Newer(Unusable):
    """It was made by a later version, which can use it."""


@dataclass(frozen=True)
class Content:
    """All that a file says, sorted by name. ``moment``: when it was changed last, empty if that is not known."""

    rows: Sequence[Row] = field(repr=False)
    changes: int = 0
    moment: str = ""

    @property
    def names(self) -> list[str]:
        return [row[0] for row in self.rows]

    def __str__(self) -> str:
        count = "1 volume" if len(self.rows) == 1 else f"{len(self.rows)} volumes"
        return f"{count}, last changed {self.moment}" if self.moment else count


def read(path: Path, like: Content | None = None) -> Content:
    """Everything in it, if every byte that matters is as it should be. Raises Unusable. Changes nothing.

    ``like`` has been read of another file: what is the same here is in order. A file that is just being written
    is looked at again.
    """
    for _ in range(LOOKS):
        before = _marks(path)
        try:
            return _read(path, like)
        except Unusable:
            if _marks(path) == before:
                raise
            time.sleep(BREATH)
    return _read(path, like)


def _marks(path: Path) -> object:
    """Others when the file or its log has been written to."""
    try:
        return changed(path), changed(path.with_name(f"{path.name}-wal"))
    except OSError:
        return None


def _read(path: Path, like: Content | None) -> Content:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise Unusable("cannot be read: it is not a file")
        if status.st_size == 0:
            raise Unusable("is empty")
        with closing(connect(path, "ro&immutable=1")) as connection:
            _check_header(connection)
        # "immutable" leaves the log aside, and makes no files; where there is a log it has to be taken into account.
        log = Path(os.path.realpath(path) + "-wal")
        has_log = log.exists() and log.stat().st_size > 0
        with closing(connect(path, "ro" if has_log else "ro&immutable=1")) as connection:
            _check_header(connection)
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise Unusable(f"is damaged: {verdict}")
            return _content(connection, like)
    except FileNotFoundError as error:
        if not os.path.lexists(path):
            raise Missing("is gone") from error
        raise Unusable(f"cannot be read: {reason(error)}") from error
    except sqlite3.OperationalError as error:
        is_damage = str(error).startswith("no such ")  # a table or a column
        raise Unusable(f"{'is damaged' if is_damage else 'cannot be read'}: {reason(error)}") from error
    except sqlite3.DatabaseError as error:
        raise Unusable(f"is damaged: {reason(error)}") from error
    except (OSError, ValueError) as error:
        raise Unusable(f"cannot be read: {reason(error)}") from error


def _check_header(connection: sqlite3.Connection) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise Unusable("is not a record of volumes made by legacyhost")
    if version != FORMAT:
        kind, age = (Newer, "a newer") if version > FORMAT else (Unusable, "an unknown")
        raise kind(f"has format {version}, made by {age} legacyhost; this one reads format {FORMAT}")


def _content(connection: sqlite3.Connection, like: Content | None) -> Content:
    rows: list[Row] = connection.execute("SELECT name, created, options, facts FROM volumes ORDER BY name").fetchall()
    try:
        if like is None or rows != like.rows:
            _check(rows)
    except ValueError as error:
        raise Unusable("is damaged: it has a volume without meaning") from error
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'changes'").fetchone():
        return Content(rows)
    found = connection.execute("SELECT number, moment FROM changes").fetchone()
    if not found or not isinstance(found[0], int) or not isinstance(found[1], str) or not found[1].isprintable():
        raise Unusable("is damaged: its number of changes has no meaning")
    return Content(rows, *found)


def _check(rows: Iterable[Row]) -> None:
    """Raises ValueError unless fields() has an answer for each; what one has in common with the last is read once."""
    moment: object = object()  # equal to nothing, NULL included
    options: object = moment
    facts: object = moment
    for row in rows:
        if row[1] != moment:
            _moment(row[1])
        if row[2] != options:
            _strings(row[2])
        if row[3] != facts:
            _strings(row[3])
        _, moment, options, facts = row


def fields(row: Row) -> tuple[str, dict[str, str], datetime, dict[str, str]]:
    """Name, options, moment of creation and facts. Raises ValueError."""
    name, created, options, facts = row
    return name, _strings(options), _moment(created), _strings(facts)


def _moment(text: str) -> datetime:
    """Raises ValueError."""
    try:
        return datetime.fromisoformat(text)
    except TypeError as error:
        raise ValueError("not a text") from error


def _strings(text: str) -> dict[str, str]:
    """An object of strings. Raises ValueError."""
    try:
        try:
            found, end = _decode(text)  # json.loads, at a third of its cost, where there is nothing around it
        except (TypeError, ValueError):
            end = -1
        if end != len(text):
            found = json.loads(text)
    except (TypeError, RecursionError) as error:
        raise ValueError("not what was written") from error
    if not isinstance(found, dict) or not {str}.issuperset(map(type, found.values())):
        raise ValueError("not an object of strings")
    return found


def write(path: Path, content: Content) -> None:
    """A file with that content, durable, in place of whatever is there. Raises OSError, sqlite3.Error.

    Nothing of an earlier file may be beside it: SQLite would take that for a part of this one.
    """
    draft = prepare(path, content)
    draft.replace(path)
    sync(path.parent)


def prepare(path: Path, content: Content) -> Path:
    """The same under a name of its own, to be renamed. Raises OSError, sqlite3.Error."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(_SCHEMA)
        connection.execute("BEGIN")
        connection.executemany("INSERT INTO volumes VALUES (?, ?, ?, ?)", content.rows)
        connection.execute(_CHANGES)
        connection.execute("INSERT INTO changes VALUES (1, ?, ?)", (content.changes, content.moment))
        connection.execute("COMMIT")
        image = bytearray(connection.serialize())
    image[18:20] = b"\2\2"  # "has a write-ahead log" (sqlite.org/fileformat2.html): it need not be changed to have one
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            os.posix_fallocate(descriptor, 0, len(image))
            file.write(image)
            os.fsync(descriptor)
    except OSError:
        draft.unlink()  # half of it, on a disk that may be full
        raise
    return draft


def connect(path: Path, mode: str = "rw") -> sqlite3.Connection:
    """Never makes the file. Raises sqlite3.Error."""
    address = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(address, uri=True, timeout=PATIENCE, isolation_level=None, check_same_thread=False)
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("PRAGMA secure_delete = ON")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def change(
    connection: sqlite3.Connection,
    steps: Sequence[Step],
    moment: datetime,
    make_room: Callable[[], bool] | None = None,
) -> bool:
    """Do all of it or nothing, and count it, durable when this returns; False if there was nothing to change.

    Raises sqlite3.Error.
    If the disk is full and ``make_room`` has made some, it is tried once more.
    """
    try:
        return _change(connection, steps, moment)
    except sqlite3.Error as error:
        if not is_full(error) or make_room is None or not make_room():
            raise
    connection.execute("PRAGMA wal_checkpoint(RESTART)")  # the log's own space can be used again
    return _change(connection, steps, moment)


def wipe(connection: sqlite3.Connection) -> None:
    """Leave nothing in its log of what was overwritten; in the file nothing is left anyway.

    Raises sqlite3.Error, at once where somebody reads it.
    """
    connection.execute("PRAGMA busy_timeout = 0")
    try:
        (is_busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {PATIENCE * 1000:.0f}")
    if is_busy:
        raise sqlite3.OperationalError("its log is being read")


def _change(connection: sqlite3.Connection, steps: Sequence[Step], moment: datetime) -> bool:
    with closing(connection.cursor()) as cursor:
        cursor.execute("BEGIN IMMEDIATE")
        try:
            is_done = True
            for query, values in steps:
                cursor.execute(query, values)
                is_done = is_done and cursor.rowcount > 0
            cursor.execute(_CHANGES)
            cursor.execute(_COUNT, {"changes": len(steps), "moment": f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"})
            cursor.execute("COMMIT" if is_done else "ROLLBACK")
        except BaseException:
            if connection.in_transaction:
                cursor.execute("ROLLBACK")
            raise
    return is_done
