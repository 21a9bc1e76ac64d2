"""A start after a clean stop takes the check of that stop for its own, unless anything at all has touched the files."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path

import pytest

from legacyhost import record, seal
from legacyhost.backup import FILE as BACKUP
from legacyhost.errors import NotServing, StateError
from legacyhost.state import FILE, State, Volume

VOLUMES = [Volume(f"v{number}", {"sshcmd": f"a@h:{number}"}, datetime.now(UTC), {}) for number in range(3)]


@pytest.fixture
def stopped(tmp_path: Path) -> Path:
    """The directory of a plugin that was stopped."""
    state = State(tmp_path)
    for volume in VOLUMES:
        state.add(volume)
    state.finish()
    return tmp_path


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that are looked through, as they are."""
    found: list[str] = []
    read = record.read

    def spy(path: Path, like: record.Content | None = None) -> record.Content:
        found.append(path.name)
        return read(path, like)

    monkeypatch.setattr(record, "read", spy)
    return found


def test_what_was_checked_at_the_stop_is_not_looked_through_again(stopped: Path, looked: list[str]) -> None:
    """All is there, and can be changed; the backup is followed."""
    state = State(stopped)
    assert not looked
    assert state.all() == VOLUMES
    state.remove("v0")
    state.close()
    assert [row[0] for row in record.read(stopped / BACKUP).rows] == ["v1", "v2"]


def test_it_counts_once(stopped: Path, looked: list[str]) -> None:
    """Whoever is killed later has not checked anything at its end."""
    State(stopped).close()
    assert not (stopped / seal.FILE).exists()
    State(stopped).close()
    assert looked == [FILE, BACKUP]


def _flip(path: Path) -> None:
    """One bit of a text."""
    content = bytearray(path.read_bytes())
    content[content.index(b"a@h:1")] ^= 2
    path.write_bytes(content)


def _add(path: Path) -> None:
    with closing(sqlite3.connect(path)) as other:
        other.execute("INSERT INTO volumes VALUES ('new', '2024-02-29T12:00:00+00:00', '{}', '{}')")
        other.commit()


def _no_word_and_a_log(at: Path) -> None:
    (at / seal.FILE).write_bytes(b"")
    (at / f"{BACKUP}-wal").touch()


def _no_word_and_no_backup(at: Path) -> None:
    (at / seal.FILE).write_bytes(b"")
    (at / BACKUP).unlink()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


TOUCHED: dict[str, Callable[[Path], object]] = {
    "a bit of the record": lambda at: _flip(at / FILE),
    "a bit of the backup": lambda at: _flip(at / BACKUP),
    "a row by another program": lambda at: _add(at / FILE),
    "a log of the record": lambda at: (at / f"{FILE}-wal").write_bytes(b"x"),
    "an empty log of the backup": lambda at: (at / f"{BACKUP}-wal").touch(),
    "a journal": lambda at: (at / f"{FILE}-journal").touch(),
    "no backup": lambda at: (at / BACKUP).unlink(),
    "the backup in the record's place": lambda at: (at / FILE).write_bytes(b"x" + (at / BACKUP).read_bytes()),
    "nothing said": lambda at: (at / seal.FILE).write_bytes(b""),
    "something else said": lambda at: (at / seal.FILE).write_bytes(os.urandom(100)),
    "nothing said, and a log": _no_word_and_a_log,
    "nothing said, and no backup": _no_word_and_no_backup,
    "a pipe": lambda at: _pipe(at / seal.FILE),
    "a directory": lambda at: _directory(at / seal.FILE),
    "a pipe in the record's place": lambda at: _pipe(at / FILE),
    "another version": lambda at: (at / seal.FILE).write_bytes(b"0" + (at / seal.FILE).read_bytes()),
}


@pytest.mark.parametrize("what", TOUCHED)
def test_what_was_touched_is_looked_through(stopped: Path, looked: list[str], what: str) -> None:
    """Whatever comes of that: some of it is refused, some mended."""
    TOUCHED[what](stopped)
    with suppress(StateError):
        State(stopped).close()
    assert FILE in looked


def test_a_damaged_record_is_refused_as_ever(stopped: Path) -> None:
    _flip(stopped / FILE)
    with pytest.raises(StateError, match="says something else than its backup"):
        State(stopped)


def test_an_empty_word_says_nothing_of_a_damaged_record(stopped: Path) -> None:
    """Where a log is beside it there is nothing to compare with either."""
    _flip(stopped / FILE)
    (stopped / seal.FILE).write_bytes(b"")
    (stopped / f"{BACKUP}-wal").touch()
    with pytest.raises(StateError, match="says something else than its backup"):
        State(stopped)


def test_what_is_not_in_order_at_the_stop_is_not_said_to_be(tmp_path: Path) -> None:
    state = State(tmp_path)
    state.add(VOLUMES[0])
    _add(tmp_path / FILE)  # the backup knows nothing of it
    state.finish()
    assert not (tmp_path / seal.FILE).exists()


def test_what_another_process_has_open_is_not_said_to_be_whole(tmp_path: Path) -> None:
    """It may change it in the next moment, in a log beside it."""
    state = State(tmp_path)
    state.add(VOLUMES[0])
    with closing(sqlite3.connect(tmp_path / FILE)) as other:
        other.execute("SELECT * FROM volumes").fetchall()
        state.finish()
        assert not (tmp_path / seal.FILE).exists()


def test_what_changes_during_the_check_is_not_said_to_be_checked(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")

    def check() -> bool:
        (tmp_path / "a").write_bytes(b"y")
        return True

    seal.put(tmp_path, check, "a")
    assert not (tmp_path / seal.FILE).exists()
    seal.put(tmp_path, lambda: True, "a")
    assert seal.take(tmp_path, "a")


def test_a_stop_does_not_fail_for_it(stopped: Path) -> None:
    """Nothing is lost where nothing can be written: the next start looks."""
    state = State(stopped)
    (stopped / f".{seal.FILE}.new").mkdir()
    state.finish()
    assert not (stopped / seal.FILE).exists()


def test_a_call_that_comes_too_late_gets_no_answer(tmp_path: Path) -> None:
    """Nor is the record said to be lost: the process ends."""
    state = State(tmp_path)
    state.add(VOLUMES[0])
    lost: list[str] = []
    state.on_lost = lost.append
    state.finish()
    with pytest.raises(NotServing):
        state.get("v0")
    with pytest.raises(StateError):
        state.add(VOLUMES[1])
    assert not lost
