"""The record of volumes: durable when a call returns, whole or not there, and refused when it cannot be trusted."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fakes import WAIT

from legacyhost.errors import NoSuchVolume, NotServing, StateError
from legacyhost.state import APPLICATION_ID, FILE, FORMAT, State, Volume, now

REPOSITORY = Path(__file__).parents[2]
CREATED = datetime(2024, 2, 29, 12, 0, 1, tzinfo=UTC)


def volume(name: str, **options: str) -> Volume:
    return Volume(name, options, CREATED, {"host_key": "SHA256:x"})


def child(program: str, directory: Path) -> subprocess.Popen[str]:
    """A process that runs the program with a State of the directory given; it speaks on standard output."""
    head = "import pathlib, sys\nfrom legacyhost.state import State, Volume, now\n"
    head += "state = State(pathlib.Path(sys.argv[1]))\n"
    return subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(program), str(directory)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_volume_comes_out_as_it_went_in(tmp_path: Path) -> None:
    """Name, options, facts and the moment of creation, whatever characters are in the values."""
    state = State(tmp_path)
    odd = Volume("data", {"sshcmd": "a@h:/sp ace é☃'\"\\", "password": "\ud800\x00"}, CREATED, {"free": "1 GiB"})
    state.add(odd)
    assert state.get("data") == odd
    assert state.get("data").created.tzinfo is not None


def test_who_has_an_option_is_found_without_a_look_at_each(tmp_path: Path) -> None:
    """None of those is missed, whatever its other options say; a start goes through no others."""
    state = State(tmp_path)
    for name, options in {
        "with": {"password": "x"},
        "also": {"a": 'b\0"', "password": "\ud800", "z": "\\"},
        "without": {"sshcmd": "a@h:password"},
        "none": {},
    }.items():
        state.add(Volume(name, options, CREATED, {"password": "kept"}))
    assert state.names_with("password") == ["also", "with"]


def test_names_are_sorted_and_all_agrees(tmp_path: Path) -> None:
    """List and the comparison with other volumes see every volume once, in the order of the names."""
    state = State(tmp_path)
    assert state.names() == []
    assert state.all() == []
    for name in ("b", "a", "B", "a.b", "0"):
        state.add(volume(name))
    assert state.names() == ["0", "B", "a", "a.b", "b"]
    assert state.all() == [state.get(name) for name in state.names()]


def test_an_unknown_volume_is_no_such_volume(tmp_path: Path) -> None:
    """Neither Get nor Remove of an unknown name succeeds, or changes anything; names are exact."""
    state = State(tmp_path)
    state.add(volume("data"))
    for name in ("Data", "dat", "data ", "", "%", "' OR 1=1 --"):
        for ask in (state.get, state.remove):
            with pytest.raises(NoSuchVolume, match="there is no volume"):
                ask(name)
    assert state.names() == ["data"]


def test_a_name_is_recorded_once(tmp_path: Path) -> None:
    """Adding an existing name fails and leaves the first as it is."""
    state = State(tmp_path)
    state.add(volume("data", place="/first"))
    with pytest.raises(StateError, match="volume data cannot be recorded"):
        state.add(volume("data", place="/second"))
    assert state.get("data").options == {"place": "/first"}


def test_every_change_is_there_for_whoever_opens_the_record_next(tmp_path: Path) -> None:
    """In the middle of everything the record is opened again, and copied as a power cut would leave it."""
    directory = tmp_path / "state"
    directory.mkdir()
    state, early = State(directory), State(directory)
    expected: list[str] = []
    steps = [("add", name) for name in ("c", "a", "b")] + [("remove", "a"), ("add", "a"), ("remove", "c")]
    for number, (step, name) in enumerate(steps):
        state.add(volume(name)) if step == "add" else state.remove(name)
        expected = sorted({*expected, name} if step == "add" else {*expected} - {name})
        copy = tmp_path / f"copy{number}"
        shutil.copytree(directory, copy)
        assert early.names() == State(directory).names() == State(copy).names() == expected
    state.close()
    assert State(directory).names() == expected


def test_a_process_killed_right_after_its_reply_has_kept_its_word(tmp_path: Path) -> None:
    """SIGKILL at any moment: what was answered is recorded, and what was not is there as a whole or not at all."""
    with child(
        """
        for number in range(10**6):
            state.add(Volume(f"v{number:06}", {"place": "x" * 500}, now()))
            print(f"v{number:06}", flush=True)
        """,
        tmp_path,
    ) as process:
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        told = 20 + len(process.stdout.read().split())
    found = State(tmp_path).all()
    assert len(found) in (told, told + 1)
    assert [found.name for found in found] == [f"v{number:06}" for number in range(len(found))]
    assert all(found.options == {"place": "x" * 500} for found in found)


def test_the_file_says_whose_it_is_and_in_which_format(tmp_path: Path) -> None:
    """Application ID and format stand in the header, where file(1) and a later version find them."""
    assert (int.from_bytes(b"lgcy", "big"), 1) == (APPLICATION_ID, FORMAT), "files with these are in use"
    State(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / FILE)) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (FORMAT,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_only_root_may_read_the_record(tmp_path: Path) -> None:
    """It may hold passwords: 0600 for every file of it, whatever the umask, and options are not in its repr."""
    with child(
        """
        import os
        os.umask(0)
        directory = pathlib.Path(sys.argv[1]) / "other"
        directory.mkdir()
        state = State(directory)
        state.add(Volume("data", {}, now()))
        print(*(f"{path.stat().st_mode & 0o777:o} {path.name}" for path in directory.iterdir()), sep=chr(10))
        """,
        tmp_path,
    ) as process:
        modes = process.communicate()[0].splitlines()
    assert {f"600 {FILE}", f"600 {FILE}-wal"} <= set(modes)
    assert {mode.split()[0] for mode in modes} == {"600"}
    assert "hunter2" not in repr(volume("data", password="hunter2"))


def test_a_record_that_may_not_be_read_is_refused(tmp_path: Path) -> None:
    """Without the right to read or to make it: a sentence, and nothing is made elsewhere."""
    program = """
        import os
        from legacyhost.errors import StateError
        state.close()
        os.chdir(sys.argv[1])
        if os.geteuid() == 0:
            os.chown(".", 65534, 65534)
        os.chmod("volumes.db", 0)
        if os.geteuid() == 0:
            os.setresuid(65534, 65534, 65534)
        for spoil in (lambda: None, lambda: (os.unlink("volumes.db"), os.chmod(".", 0o500))):
            spoil()
            try:
                State(pathlib.Path())
            except StateError as error:
                print(error.message)
        """
    with child(program, tmp_path) as process:
        assert [line.split(":")[0] for line in process.communicate()[0].splitlines()] == [
            f"the record of volumes {FILE} cannot be read",
            f"the record of volumes {FILE} is gone; put it back, or, if there are no volumes, remove volumes.made"
            " and volumes.backup; its backup volumes.backup cannot be used either",
        ]


def test_a_record_that_is_gone_is_not_a_new_one(tmp_path: Path) -> None:
    """Deleted or replaced, at work or between two starts: nothing is answered from it, nothing is written to it."""
    state = State(tmp_path)
    state.add(volume("data"))
    kept = (tmp_path / FILE).rename(tmp_path / "kept")
    for spoil in (lambda: None, lambda: shutil.copy(kept, tmp_path / FILE)):
        spoil()
        with pytest.raises(NotServing, match="deleted or replaced"):
            state.get("data")
        with pytest.raises(StateError, match="deleted or replaced"):
            state.add(volume("other"))
    (tmp_path / FILE).unlink()
    with pytest.raises(StateError, match="is gone; put it back"):
        State(tmp_path)
    kept.rename(tmp_path / FILE)
    assert State(tmp_path).names() == ["data"]


def test_many_threads_and_processes_write_and_read_at_once(tmp_path: Path) -> None:
    """Nothing is lost, nothing is seen half, whoever else is at it."""
    state, other = State(tmp_path), State(tmp_path)
    ended = threading.Event()

    def write(number: int) -> None:
        mine = state if number % 2 else other
        for count in range(8):
            mine.add(volume(f"{number}-{count}", place="x" * 200))
        mine.remove(f"{number}-0")

    def read() -> int:
        seen = 0
        while not ended.is_set():
            found = state.all()
            assert len(found) >= seen - 8
            assert all(found.options == {"place": "x" * 200} for found in found)
            seen = len(found)
        return seen

    with ThreadPoolExecutor(12) as pool:
        readers = [pool.submit(read) for _ in range(3)]
        for writer in [pool.submit(write, number) for number in range(8)]:
            writer.result(WAIT)
        ended.set()
        for reader in readers:
            reader.result(WAIT)
    assert len(State(tmp_path).names()) == 8 * 7


def test_reading_does_not_wait_for_a_change_under_way(tmp_path: Path) -> None:
    """While somebody is in the middle of a change, everybody reads what was before; the next change waits for it."""
    state = State(tmp_path)
    state.add(volume("before"))
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as writer, ThreadPoolExecutor(1) as pool:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM volumes")
        waiting = pool.submit(state.add, volume("after"))
        assert state.names() == ["before"]
        assert state.get("before").name == "before"
        assert not waiting.done()
        writer.execute("ROLLBACK")
        waiting.result(WAIT)
    assert state.names() == ["after", "before"]


def test_a_full_disk_is_an_error_and_leaves_nothing_half(tmp_path: Path) -> None:
    """A volume is recorded as a whole or not at all; with room again, the same record goes on."""
    program = """
        import resource
        from legacyhost.errors import StateError
        state.add(Volume("before", {}, now()))
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
        added = ["before"]
        try:
            for number in range(100):
                state.add(Volume(f"v{number:02}", {"place": "x" * 20_000}, now()))
                added.append(f"v{number:02}")
        except StateError as error:
            print(error.message)
        print(state.names() == added, 1 < len(added) < 100)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        state.add(Volume("later", {}, now()))
        print(sorted([*added, "later"]) == State(state.path.parent).names())
        """
    with child(program, tmp_path) as process:
        message, *rest = process.communicate()[0].splitlines()
    assert message.startswith("volume v")
    assert f"cannot be recorded in {tmp_path / FILE}: " in message
    assert rest == ["True True", "True"]


def test_the_time_of_creation_has_a_zone_and_no_fraction() -> None:
    """RFC 3339 as Docker wants it is made from it."""
    assert now().utcoffset() is not None
    assert now().microsecond == 0
