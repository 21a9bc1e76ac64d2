"""The record's backup: complete when a call returns, made anew when it is not, and never from what is not checked."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fakes import WAIT

from legacyhost import record
from legacyhost import state as state_module
from legacyhost.backup import FILE as BACKUP
from legacyhost.errors import StateError
from legacyhost.state import FILE, MARKER, State, Volume

REPOSITORY = Path(__file__).parents[2]
Said = pytest.LogCaptureFixture


def volume(name: str, **options: str) -> Volume:
    return Volume(name, options, datetime(2024, 2, 29, tzinfo=UTC), {"host_key": "SHA256:x"})


def fill(directory: Path, *names: str) -> State:
    state = State(directory)
    for name in names:
        state.add(volume(name, place="x" * 100))
    return state


def both(directory: Path) -> tuple[list[str], list[str]]:
    return record.read(directory / FILE).names, record.read(directory / BACKUP).names


def warnings(said: Said) -> list[str]:
    return [entry.getMessage() for entry in said.records if entry.levelname == "WARNING"]


def test_both_files_have_every_change_when_the_call_returns(tmp_path: Path, caplog: Said) -> None:
    """Copied at any moment as a power cut would leave them, with everything that is in them."""
    directory = tmp_path / "state"
    directory.mkdir()
    state = State(directory)
    steps = [("add", name) for name in ("c", "a", "b")] + [("remove", "a"), ("add", "a"), ("remove", "c")]
    for number, (step, name) in enumerate(steps):
        state.add(volume(name)) if step == "add" else state.remove(name)
        copy = tmp_path / f"copy{number}"
        shutil.copytree(directory, copy)
        main, backup = record.read(copy / FILE), record.read(copy / BACKUP)
        assert main == backup
        assert main.names == state.names()
        assert main.changes == number + 1
    assert not warnings(caplog)


def test_the_backup_is_for_root_alone(tmp_path: Path) -> None:
    """It has the same passwords."""
    fill(tmp_path, "data")
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    assert f"{BACKUP}-wal" in {path.name for path in tmp_path.iterdir()}


def test_a_change_writes_as_much_whatever_the_number_of_volumes(tmp_path: Path) -> None:
    """A few pages for the record and as many for the backup, at one volume and at ten thousand."""
    for number in (1, 10_000):
        directory = tmp_path / str(number)
        directory.mkdir()
        rows = [(f"v{i:05}", "2024-02-29T00:00:00+00:00", '{"a": "b"}', "{}") for i in range(number)]
        record.write(directory / FILE, record.Content(rows))
        state = State(directory)
        state.add(volume("first", place="x" * 100))
        files = [directory / f"{name}-wal" for name in (FILE, BACKUP)]
        for step in ("add", "remove"):
            before = [file.stat().st_size for file in files]
            state.add(volume("second", place="x" * 100)) if step == "add" else state.remove("first")
            written = [file.stat().st_size - size for file, size in zip(files, before, strict=True)]
            assert written[0] == written[1]
            assert 0 < written[0] <= 8 * 4200
        state.close()


def _older(path: Path) -> None:
    record.write(path, record.Content((), changes=0))


def _foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE volumes (name TEXT)")


def _garbage(path: Path) -> None:
    path.write_text("garbage" * 1000)


HARMS: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "garbage": _garbage,
    "empty": lambda path: path.write_bytes(b""),
    "cut in half": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "foreign": _foreign,
    "older": _older,
}


@pytest.mark.parametrize("kind", HARMS)
def test_a_backup_that_is_none_is_made_at_the_next_start(tmp_path: Path, kind: str, caplog: Said) -> None:
    """From the record, which has been checked; and it is followed from then on."""
    fill(tmp_path, "a", "b").close()
    HARMS[kind](tmp_path / BACKUP)
    state = State(tmp_path)
    assert both(tmp_path) == (["a", "b"], ["a", "b"])
    state.add(volume("c"))
    state.remove("a")
    assert both(tmp_path) == (["b", "c"], ["b", "c"])
    assert (tmp_path / BACKUP).stat().st_mode & 0o777 == 0o600
    assert len(warnings(caplog)) == (0 if kind == "missing" else 1)


@pytest.mark.parametrize("kind", HARMS)
def test_a_backup_harmed_while_the_record_is_in_use(tmp_path: Path, kind: str, caplog: Said) -> None:
    """No call fails, and after a few more at the latest the next start finds it complete."""
    state = fill(tmp_path, "a", "b")
    HARMS[kind](tmp_path / BACKUP)
    state.remove("a")
    state.add(volume("c"))
    assert state.names() == ["b", "c"]
    if kind in ("missing", "foreign", "older"):  # another file: seen at once
        assert both(tmp_path) == (["b", "c"], ["b", "c"])
        assert len(warnings(caplog)) == 1
    state.close()
    again = State(tmp_path)
    again.add(volume("d"))
    assert both(tmp_path) == (["b", "c", "d"], ["b", "c", "d"])


def test_a_backup_of_an_earlier_version_is_followed(tmp_path: Path) -> None:
    """A record made before there were backups is taken over as it is, and counts its changes from then on."""
    record.write(tmp_path / FILE, record.Content([("old", "2024-02-29T00:00:00+00:00", "{}", "{}")]))
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        connection.execute("DROP TABLE changes")
    (tmp_path / MARKER).touch()
    state = State(tmp_path)
    assert record.read(tmp_path / BACKUP).names == ["old"]
    state.add(volume("new"))
    assert both(tmp_path) == (["new", "old"], ["new", "old"])
    assert record.read(tmp_path / FILE).changes == record.read(tmp_path / BACKUP).changes == 1
    state.close()
    assert State(tmp_path).names() == ["new", "old"]


def test_a_backup_that_cannot_be_written_is_said_once_and_made_when_it_can(
    tmp_path: Path, caplog: Said, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call succeeds meanwhile; nobody has to call anything for it."""
    monkeypatch.setattr(state_module, "RETRY", 0.05)
    state = fill(tmp_path, "a")
    (tmp_path / BACKUP).unlink()
    (tmp_path / BACKUP).mkdir()
    for name in ("b", "c", "d"):
        state.add(volume(name))
    state.remove("a")
    time.sleep(0.2)
    assert len(warnings(caplog)) == 1
    assert str(tmp_path / BACKUP) in warnings(caplog)[0]
    (tmp_path / BACKUP).rmdir()
    wait_until((tmp_path / BACKUP).is_file)
    assert both(tmp_path) == (["b", "c", "d"], ["b", "c", "d"])
    wait_until(lambda: not any(thread.name == "backup" for thread in threading.enumerate()))
    state.add(volume("e"))
    assert both(tmp_path)[1] == ["b", "c", "d", "e"]
    assert len(warnings(caplog)) == 1


def test_no_backup_is_made_from_a_record_that_is_not_in_order(tmp_path: Path, caplog: Said) -> None:
    """Both are harmed while they are in use: what the backup still has stays."""
    state = fill(tmp_path, *(f"v{number:03}" for number in range(100)))
    with closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
        connection.execute("UPDATE volumes SET options = '{' WHERE name = 'v050'")
    kept = (tmp_path / BACKUP).rename(tmp_path / "kept")
    shutil.copy(kept, tmp_path / BACKUP)
    before = (tmp_path / BACKUP).read_bytes()
    state.add(volume("new"))
    assert (tmp_path / BACKUP).read_bytes() == before
    assert any("is damaged" in text for text in warnings(caplog))
    state.close()
    with pytest.raises(StateError, match="is damaged"):
        State(tmp_path)
    assert (tmp_path / BACKUP).read_bytes() == before


@pytest.mark.parametrize("left", [{BACKUP}, {BACKUP, MARKER}], ids=["without its marker", "with its marker"])
def test_a_backup_without_its_record_is_left_alone(tmp_path: Path, left: set[str]) -> None:
    """A lost record is not begun anew: that would replace the backup by nothing."""
    fill(tmp_path, "a", "b").close()
    for path in tmp_path.iterdir():
        if path.name not in left:
            path.unlink()
    before = (tmp_path / BACKUP).read_bytes()
    with pytest.raises(StateError, match=r"is gone; put it back, or use its backup of 2 volumes, last changed 20"):
        State(tmp_path)
    assert (tmp_path / BACKUP).read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == left


def test_an_older_record_put_back_does_not_replace_its_backup(tmp_path: Path) -> None:
    """What the backup has more is either lost or meant: who has put the record there has to say."""
    state = fill(tmp_path, "a", "b")
    state.close()
    shutil.copy(tmp_path / FILE, tmp_path / "copy")
    fill(tmp_path, "c", "d", "e").close()
    shutil.copy(tmp_path / "copy", tmp_path / FILE)
    before = (tmp_path / BACKUP).read_bytes()
    with pytest.raises(StateError, match=r"lacks the last 3 changes; use its backup of 5 volumes, .* \(or remove "):
        State(tmp_path)
    assert (tmp_path / BACKUP).read_bytes() == before
    (tmp_path / BACKUP).unlink()
    assert State(tmp_path).names() == ["a", "b"]
    assert both(tmp_path)[1] == ["a", "b"]


def test_a_record_changed_behind_its_backup_is_not_served(tmp_path: Path) -> None:
    """As many changes, but not the same volumes: one of the two is not what was written."""
    fill(tmp_path, "a", "b").close()
    with closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
        connection.execute("UPDATE volumes SET name = 'x' WHERE name = 'a'")
    with pytest.raises(StateError, match=r"says something else than its backup.*legacyhost restore --plugin "):
        State(tmp_path)
    assert both(tmp_path) == (["b", "x"], ["a", "b"])


def test_a_backup_of_a_newer_version_is_not_replaced(tmp_path: Path) -> None:
    """Somebody has put an old record beside it."""
    fill(tmp_path, "a").close()
    with closing(sqlite3.connect(tmp_path / BACKUP)) as connection:
        connection.execute(f"PRAGMA user_version = {record.FORMAT + 1}")
    before = (tmp_path / BACKUP).read_bytes()
    with pytest.raises(
        StateError, match=r"is older than its backup .* newer legacyhost.*; install that version again$"
    ):
        State(tmp_path)
    assert (tmp_path / BACKUP).read_bytes() == before


def test_whoever_is_killed_has_kept_every_word(tmp_path: Path) -> None:
    """SIGKILL at any moment, again and again: what was answered is in both files, whether they are opened or not."""
    program = """
        import os, pathlib, random, sys
        from legacyhost.state import State, Volume, now
        state = State(pathlib.Path(sys.argv[1]))
        chance = random.Random(int(sys.argv[2]))
        while True:
            known = state.names()
            if known and chance.random() < 0.45:
                step, name = "remove", chance.choice(known)
            else:
                step, name = "add", f"v{chance.randrange(10**9)}"
            os.write(1, f"begin {step} {name}\\n".encode())
            if step == "add":
                state.add(Volume(name, {"place": "x" * chance.choice([10, 1000, 9000])}, now()))
            else:
                state.remove(name)
            os.write(1, f"done {step} {name}\\n".encode())
        """
    chance = random.Random(20240229)
    known: set[str] = set()
    for seed in range(20):
        argv = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path), str(seed)]
        with subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(chance.randrange(1, 120))]
            time.sleep(chance.random() * 0.01)
            process.send_signal(signal.SIGKILL)
            lines += process.stdout.read().splitlines()
        for line in lines:
            word, step, name = line.split()
            if word == "done":
                known = known | {name} if step == "add" else known - {name}
        word, step, name = lines[-1].split()
        possible = [known, known ^ {name}] if word == "begin" else [known]
        main, backup = (set(names) for names in both(tmp_path))
        assert main in possible
        assert backup in possible
        state = State(tmp_path)
        assert set(state.names()) == main
        assert both(tmp_path) == (sorted(main), sorted(main))
        if chance.random() < 0.5:
            state.close()
        known = main
    assert known


def wait_until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, "it has not happened"
        time.sleep(0.01)


def test_a_file_that_is_being_written_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was read between two writes of somebody else's makes no sense, and is no damage; what stays the same is."""
    path, looks, read_once = tmp_path / FILE, [0], record._read
    record.write(path, record.Content(()))

    def torn(path: Path, like: record.Content | None) -> record.Content:
        looks[0] += 1
        if looks[0] == 1:
            raise record.Unusable("is damaged")
        if looks[0] == 2:
            path.with_name(f"{FILE}-wal").touch()
            raise record.Unusable("is damaged")
        return read_once(path, like)

    monkeypatch.setattr(record, "_read", torn)
    with pytest.raises(record.Unusable):
        record.read(path)
    assert record.read(path).names == []
    assert looks == [3]
