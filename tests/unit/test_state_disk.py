"""A local disk that is full or read-only: a clear sentence, nothing lost, and removing volumes is still possible."""

from __future__ import annotations

import contextlib
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from namespace import in_own_namespace

from legacyhost import disk, record
from legacyhost import state as state_module
from legacyhost.backup import FILE as BACKUP
from legacyhost.errors import StateError
from legacyhost.restore import restore
from legacyhost.state import FILE, State, Volume
from unit.test_backup import both, wait_until


def volume(name: str, **options: str) -> Volume:
    return Volume(name, options, datetime(2024, 2, 29, tzinfo=UTC))


def mount(directory: Path, size: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", directory], check=True)


def stuff(directory: Path) -> Path:
    """Fill the disk to its last byte."""
    path = directory / "stuff"
    with path.open("ab", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return path


def fill_until_full(state: State) -> tuple[list[str], str]:
    """Add volumes until one cannot be: those that were, and why it was not."""
    added: list[str] = []
    while True:
        try:
            state.add(volume(f"v{len(added):04}", place="x" * 500))
        except StateError as error:
            return added, error.message
        added.append(f"v{len(added):04}")


@in_own_namespace
def test_a_full_disk_refuses_new_volumes_and_lets_old_ones_go(tmp_path: Path) -> None:
    """Not one byte is free: Create says so, both files have what was answered, every volume can be removed."""
    mount(tmp_path, "3m")
    state = State(tmp_path)
    for number in range(30):
        state.add(volume(f"old{number}", place="x" * 500))
    stuffed = stuff(tmp_path)
    added, message = fill_until_full(state)
    assert message == (
        f"volume v{len(added):04} cannot be recorded in {tmp_path / FILE}: the disk is full; make room in {tmp_path}"
    )
    names = sorted([*added, *(f"old{number}" for number in range(30))])
    assert state.names() == names
    assert record.read(tmp_path / FILE).names == names
    assert record.read(tmp_path / BACKUP).changes >= 30
    for name in names:
        stuff(tmp_path)
        state.remove(name)
    assert state.names() == []
    stuffed.unlink()
    state.add(volume("later"))
    wait_until(lambda: both(tmp_path) == (["later"], ["later"]))
    assert (tmp_path / disk.RESERVE).stat().st_size == disk.SIZE


@in_own_namespace
def test_a_disk_filled_by_volumes_themselves(tmp_path: Path) -> None:
    """The last that fits is recorded in both files or said not to be; removing some makes room for others."""
    mount(tmp_path, "1m")
    state = State(tmp_path)
    added, _ = fill_until_full(state)
    assert len(added) > 10
    assert state.names() == record.read(tmp_path / FILE).names == added
    record.read(tmp_path / BACKUP)
    for name in added[:10]:
        state.remove(name)
    assert state.names() == added[10:]
    state.close()
    assert State(tmp_path).names() == added[10:]


@in_own_namespace
def test_a_plugin_starts_on_a_full_disk(tmp_path: Path) -> None:
    """After a stop in order, after a kill, and after the backup was lost: what is recorded is served."""
    for end in (State.close, lambda state: None, lambda state: (tmp_path / BACKUP).unlink()):
        mount(tmp_path, "1m")
        state = State(tmp_path)
        state.add(volume("a"))
        state.add(volume("b"))
        end(state)
        stuff(tmp_path)
        again = State(tmp_path)
        assert again.names() == ["a", "b"]
        again.remove("a")
        assert State(tmp_path).names() == ["b"]
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


@in_own_namespace
def test_the_first_start_on_a_full_disk(tmp_path: Path) -> None:
    """There is nothing to serve yet: it says why, leaves nothing half, and begins when there is room."""
    mount(tmp_path, "64k")
    stuffed = stuff(tmp_path)
    with pytest.raises(StateError) as caught:
        State(tmp_path)
    assert caught.value.message == (
        f"the record of volumes {tmp_path / FILE} cannot be made: the disk is full; make room in {tmp_path}"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["stuff"]
    stuffed.unlink()
    mount(tmp_path, "1m")
    State(tmp_path).add(volume("data"))


@in_own_namespace
def test_restoring_on_a_full_disk(tmp_path: Path) -> None:
    """Refused with the reason before anything is moved; possible as soon as there is room."""
    mount(tmp_path, "1m")
    state = State(tmp_path)
    state.add(volume("data"))
    state.close()
    (tmp_path / FILE).write_bytes(b"garbage" * 1000)
    stuffed = stuff(tmp_path)
    names = {path.name for path in tmp_path.iterdir()}
    with pytest.raises(StateError, match=r"volumes.db cannot be restored: the disk is full"):
        restore(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == names
    stuffed.unlink()
    assert restore(tmp_path).content.names == ["data"]
    assert State(tmp_path).names() == ["data"]


@in_own_namespace
def test_a_read_only_directory(tmp_path: Path) -> None:
    """Not served, and the reason is the disk's; nothing is changed, and all is there when it is writable again."""
    for is_closed in (True, False):
        directory = tmp_path / str(is_closed)
        directory.mkdir()
        state = State(directory)
        state.add(volume("data"))
        if is_closed:
            state.close()
        before = {path.name: path.read_bytes() for path in directory.iterdir() if not path.name.endswith("-shm")}
        subprocess.run(["mount", "--bind", directory, directory], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", directory], check=True)
        with pytest.raises(StateError) as caught:
            State(directory)
        assert caught.value.message.startswith(f"the record of volumes {directory / FILE} cannot be ")
        assert caught.value.message.endswith(f"{directory} is on a file system mounted read-only; mount it writable")
        assert "restore" not in caught.value.message
        after = {path.name: path.read_bytes() for path in directory.iterdir() if not path.name.endswith("-shm")}
        assert after == before
        subprocess.run(["umount", "--lazy", directory], check=True)
        assert State(directory).names() == ["data"]


@in_own_namespace
def test_restoring_in_a_read_only_directory(tmp_path: Path) -> None:
    """One sentence; a torn record there names the disk first, and the command once that is mended."""
    state = State(tmp_path)
    state.add(volume("data"))
    state.close()
    (tmp_path / FILE).write_bytes(b"garbage" * 1000)
    subprocess.run(["mount", "--bind", tmp_path, tmp_path], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", tmp_path], check=True)
    with pytest.raises(StateError, match=r"is damaged: .*; .* mounted read-only; mount it writable$"):
        State(tmp_path)
    with pytest.raises(StateError, match=r"cannot be restored: Read-only file system; nothing is lost$"):
        restore(tmp_path)
    subprocess.run(["umount", tmp_path], check=True)
    with pytest.raises(StateError, match=r"legacyhost restore --plugin "):
        State(tmp_path)
    assert restore(tmp_path).content.names == ["data"]


@in_own_namespace
def test_a_disk_that_fills_up_only_for_the_backup(tmp_path: Path) -> None:
    """The call has succeeded, since the record is durable; the backup is made anew when there is room."""
    mount(tmp_path, "16m")
    state_module.RETRY = 0.05
    state = State(tmp_path)
    for number in range(200):  # more than fits into what is kept free
        state.add(volume(f"old{number}", place="x" * 3000))
    (tmp_path / BACKUP).unlink()
    stuffed = stuff(tmp_path)
    state.remove("old7")
    assert not (tmp_path / BACKUP).exists()
    assert record.read(tmp_path / FILE).names == state.names()
    stuffed.unlink()
    wait_until(lambda: (tmp_path / BACKUP).exists() and both(tmp_path)[0] == both(tmp_path)[1])
