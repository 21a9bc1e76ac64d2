"""From a record that cannot be used back to one that can: what is said, the command that is named, and what it does."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from legacyhost import record
from legacyhost.backup import FILE as BACKUP
from legacyhost.cli import main
from legacyhost.errors import StateError
from legacyhost.state import FILE, FORMAT, MARKER, State, Volume

REPOSITORY = Path(__file__).parents[2]
PAGE = 4096


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the plugin ``foo`` has its record."""
    for name in ("etc", "state", "run"):
        monkeypatch.setenv(f"LEGACYHOST_{name.upper()}", str(tmp_path / name))
    made = tmp_path / "state" / "foo"
    made.mkdir(parents=True)
    return made


def fill(directory: Path, number: int) -> list[Volume]:
    """That many volumes, some of them larger than a page."""
    state = State(directory)
    for i in range(number):
        options = {"place": f"{i} " * (3000 if i % 25 == 7 else 30)}
        state.add(Volume(f"v{i:03}", options, datetime(2024, 2, 29, tzinfo=UTC), {"host_key": "SHA256:x"}))
    found = state.all()
    state.close()
    return found


def refusal(directory: Path) -> str:
    with pytest.raises(StateError) as caught:
        State(directory)
    return caught.value.message


def type_command(message: str) -> int:
    """What somebody does who has read the message."""
    command = message.rpartition(": ")[2].split()
    assert command == ["legacyhost", "restore", "--plugin", "foo"]
    return main(command[1:])


def contents(directory: Path) -> dict[str, bytes]:
    """All files but SQLite's shared memory, in which readers enter themselves."""
    paths = (path for path in directory.iterdir() if path.is_file() and not path.name.endswith("-shm"))
    return {path.name: path.read_bytes() for path in paths}


def _version(path: Path, version: int) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {version}")


def _foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE volumes (name TEXT); INSERT INTO volumes VALUES ('theirs')")


def _nonsense(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE volumes SET options = '[]' WHERE name = 'v001'")


def _no_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TABLE volumes")


def _free_space(path: Path) -> None:
    """What is read of it is right, and the next write would make it worse: the list of free places in a page."""
    content = bytearray(path.read_bytes())
    (page,) = [at for at in range(PAGE, len(content), PAGE) if b"v001" in content[at : at + PAGE]][:1]
    content[page + 1 : page + 3] = (PAGE - 16).to_bytes(2, "big")
    path.write_bytes(content)


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "a disk that is not mounted" / FILE)


HARMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (Path.unlink, "is gone; put it back, or"),
    "empty": (lambda path: path.write_bytes(b""), "is empty;"),
    "garbage": (lambda path: path.write_text("garbage\n" * 1000), "is damaged: file is not a database;"),
    "foreign": (_foreign, "is not a record of volumes made by legacyhost;"),
    "unknown version": (lambda path: _version(path, 0), "has format 0, made by an unknown legacyhost;"),
    "a volume without meaning": (_nonsense, "is damaged: it has a volume without meaning;"),
    "without its table": (_no_table, "is damaged: no such table: volumes;"),
    "wrong about its free space": (_free_space, "is damaged: "),
    "a directory": (_directory, "cannot be read: it is not a file;"),
    "a link to nowhere": (_dangling, "cannot be read: No such file or directory;"),
}


@pytest.mark.parametrize("kind", HARMS)
def test_the_message_names_the_backup_and_the_command_that_mends_it(
    directory: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command is typed as it is read; then everything is there again, and nothing has been deleted."""
    volumes = fill(directory, 3)
    harm, expected = HARMS[kind]
    harm(directory / FILE)
    before = contents(directory)
    was_there = (directory / FILE).is_file()
    message = refusal(directory)
    assert f"{directory / FILE} {expected}" in message
    moment = record.read(directory / BACKUP).moment
    assert f"use its backup of 3 volumes, last changed {moment}" in message
    assert message.isprintable()
    assert contents(directory) == before, "nothing is touched, and nothing made"
    assert type_command(message) == 0
    said = capsys.readouterr().out
    assert "3 volumes" in said
    assert "v000, v001, v002" in said
    (aside,) = directory.glob(f"{FILE}.damaged-*") if kind != "gone" else [None]
    assert (f"Kept: {aside}" in said) == (kind != "gone")
    if was_there and aside is not None:
        assert aside.read_bytes() == before[FILE]
    assert (directory / FILE).stat().st_mode & 0o777 == 0o600
    state = State(directory)
    assert state.all() == volumes
    state.remove("v000")
    assert record.read(directory / FILE) == record.read(directory / BACKUP)


def test_nothing_is_restored_where_nothing_is_wrong(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One sentence, and not a byte changed; while the record is in use, and while it is not; without a record, too."""
    assert main(["restore", "--plugin", "foo"]) == 1
    assert f"nothing to restore: {directory} has never had a record" in capsys.readouterr().err
    fill(directory, 2)
    for _ in range(2):
        before = contents(directory)
        assert main(["restore", "--plugin", "foo"]) == 1
        assert "nothing to restore: the record of volumes" in capsys.readouterr().err
        assert contents(directory) == before
        state = State(directory)
    state.add(Volume("new", {}, datetime(2024, 2, 29, tzinfo=UTC)))
    assert record.read(directory / BACKUP).names == ["new", "v000", "v001"]


def test_a_record_of_the_future_is_not_replaced(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The version that made it can use it."""
    fill(directory, 2)
    _version(directory / FILE, FORMAT + 1)
    before = contents(directory)
    message = refusal(directory)
    assert message.endswith("this one reads format 1; install that version again")
    assert "restore" not in message
    assert main(["restore", "--plugin", "foo"]) == 1
    assert "install that version again" in capsys.readouterr().err
    assert contents(directory) == before


@pytest.mark.parametrize(
    ("harm", "expected", "answer"),
    [
        (Path.unlink, "; there is no backup of it", "volumes.backup is gone; nothing has been changed"),
        (
            lambda path: path.write_bytes(b"x" * 9000),
            "cannot be used either: it is damaged: file is not a database",
            "is damaged: file is not a database; nothing has been changed",
        ),
        (lambda path: _version(path, FORMAT + 1), "newer legacyhost; this one reads format 1: install", "has format 2"),
    ],
    ids=["gone", "damaged", "of the future"],
)
def test_a_backup_that_cannot_be_used_either_is_said(
    directory: Path,
    harm: Callable[[Path], object],
    expected: str,
    answer: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """No command is named that would not help, and it does nothing when it is typed all the same."""
    fill(directory, 2)
    (directory / FILE).write_bytes(b"")
    harm(directory / BACKUP)
    before = contents(directory)
    message = refusal(directory)
    assert expected in message
    assert "legacyhost restore" not in message
    assert main(["restore", "--plugin", "foo"]) == 1
    assert answer in capsys.readouterr().err
    assert contents(directory) == before


def test_a_lost_record_without_a_backup_says_how_to_begin_anew(directory: Path) -> None:
    """What has to be removed is named, and that is enough."""
    fill(directory, 2)
    (directory / FILE).unlink()
    (directory / BACKUP).write_bytes(b"x" * 9000)
    message = refusal(directory)
    names = message.partition("if there are no volumes, remove ")[2].partition(";")[0].split(" and ")
    assert names == [str(directory / MARKER), str(directory / BACKUP)]
    for name in names:
        Path(name).unlink()
    assert State(directory).names() == []


def _torn(content: bytes) -> dict[str, bytes]:
    """The file as a disk may leave it: cut off, zeros or garbage in a page, half of it, one sector."""
    made: dict[str, bytes] = {}
    for begin in range(0, len(content), PAGE):
        made[f"cut at {begin}"] = content[:begin]
        made[f"cut at {begin + 1234}"] = content[: begin + 1234]
        for name, filler, start, length in (
            ("zeros", b"\0", 0, PAGE),
            ("garbage", b"\xa5", 0, PAGE),
            ("half zeros", b"\0", PAGE // 2, PAGE // 2),
            ("a sector of zeros", b"\0", 7 * 512, 512),
            ("a sector of blanks", b" ", 3 * 512, 512),
        ):
            at = begin + start
            made[f"{name} at {at}"] = content[:at] + filler * length + content[at + length :]
    return made


def test_a_torn_record_is_never_served(directory: Path, tmp_path: Path) -> None:
    """Wherever it is torn: refused with the command that mends it, or every byte that matters is there."""
    volumes = fill(directory, 60)
    content = (directory / FILE).read_bytes()
    refused = 0
    for kind, torn in _torn(content).items():
        for path in directory.iterdir():
            if path.name not in (MARKER, BACKUP):
                path.unlink()
        (directory / FILE).write_bytes(torn)
        try:
            state = State(directory)
        except StateError as error:
            refused += 1
            assert type_command(error.message) == 0, kind
            state = State(directory)
        assert state.all() == volumes, kind
        state.close()
        assert record.read(directory / BACKUP).names == [volume.name for volume in volumes], kind
    assert refused > len(_torn(content)) * 0.8


def test_a_torn_log_is_never_served(directory: Path, tmp_path: Path) -> None:
    """SQLite leaves out what follows the first unreadable part of its log: the backup knows that there was more."""
    live = tmp_path / "live"
    live.mkdir()
    state = State(live)
    names = [f"v{i}" for i in range(30)]
    for name in names:
        state.add(Volume(name, {"place": "x" * 400}, datetime(2024, 2, 29, tzinfo=UTC)))
    log = (live / f"{FILE}-wal").read_bytes()
    size = len(log)
    cases = {f"cut at {at}": log[:at] for at in (0, 10, 32, 100, PAGE, size // 3, size // 2, size - 5000, size - 1)}
    for at in (0, 20, 40, size // 2, size - 4000):
        cases[f"garbage at {at}"] = log[:at] + b"\xa5" * 24 + log[at + 24 :]
    for kind, torn in cases.items():
        shutil.rmtree(directory)
        shutil.copytree(live, directory)
        (directory / f"{FILE}-shm").unlink()
        (directory / f"{FILE}-wal").write_bytes(torn)
        before = contents(directory)
        message = refusal(directory)
        assert "lacks the last" in message, kind
        assert contents(directory) == before, kind
        assert f"use its backup of 30 volumes, last changed {record.read(directory / BACKUP).moment}" in message
        assert type_command(message) == 0
        again = State(directory)
        assert again.names() == sorted(names), kind
        again.close()
        (aside,) = directory.glob(f"{FILE}.damaged-*-wal")
        assert aside.read_bytes() == torn


def test_a_lost_log_is_not_taken_for_no_changes(directory: Path, tmp_path: Path) -> None:
    """Somebody has tidied up."""
    state = State(directory)
    for name in ("a", "b"):
        state.add(Volume(name, {}, datetime(2024, 2, 29, tzinfo=UTC)))
    for suffix in ("-wal", "-shm"):
        (directory / f"{FILE}{suffix}").unlink()
    message = refusal(directory)
    assert "lacks the last 2 changes" in message
    assert type_command(message) == 0
    assert State(directory).names() == ["a", "b"]


def test_more_names_than_anybody_reads_are_counted_only(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(directory, 21)
    (directory / FILE).write_bytes(b"")
    assert main(["restore", "--plugin", "foo"]) == 0
    said = capsys.readouterr().out
    assert "21 volumes" in said
    assert "v001" not in said


def test_an_interrupted_restore_is_repeated(directory: Path, tmp_path: Path) -> None:
    """Killed at whatever step: no half record is ever served, what was damaged is kept, the same command ends it."""
    program = """
        import os, pathlib, signal, sys
        from legacyhost.restore import restore
        left = int(sys.argv[2])
        def step(event, arguments):
            global left
            if event in ("open", "os.rename", "os.remove", "sqlite3.connect", "fcntl.flock"):
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(step)
        restore(pathlib.Path(sys.argv[1]))
        """
    argv = [sys.executable, "-c", textwrap.dedent(program), str(directory)]
    live = tmp_path / "live"
    live.mkdir()
    state = State(live)
    names = [f"v{i}" for i in range(5)]
    for name in names:
        state.add(Volume(name, {}, datetime(2024, 2, 29, tzinfo=UTC)))
    damaged = {suffix: (live / f"{FILE}{suffix}").read_bytes() for suffix in ("", "-wal")}
    damaged[""] = damaged[""][:PAGE] + b"\xa5" * PAGE
    steps = 0
    while True:
        steps += 1
        shutil.rmtree(directory)
        shutil.copytree(live, directory)
        (directory / FILE).write_bytes(damaged[""])
        (directory / f"{FILE}-shm").unlink()
        (directory / f"{FILE}-wal").write_bytes(damaged["-wal"][:PAGE])
        ran = subprocess.run([*argv, str(steps)], cwd=REPOSITORY)
        assert ran.returncode in (0, -signal.SIGKILL)
        try:
            opened = State(directory)
        except StateError as error:
            assert ran.returncode == -signal.SIGKILL
            assert type_command(error.message) == 0
            opened = State(directory)
        assert opened.names() == names
        opened.close()
        kept = contents(directory)
        assert damaged[""] in kept.values()
        assert damaged["-wal"][:PAGE] in kept.values()
        if ran.returncode == 0:
            break
    assert steps > 10
