"""Who uses which volume: a count for each mount ID, kept in files of the runtime directory."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from legacyhost.errors import Failed
from legacyhost.holds import FILE, Holds

#: What a damaged record may look like.
DAMAGED = [
    "",
    "{",
    "[]",
    '"x"',
    "5",
    "null",
    "true",
    '{"a": null}',
    '{"a": "x"}',
    '{"a": []}',
    '{"a": 1e999}',
    '{"a": NaN}',
    "\0" * 50,
    "[" * 100_000,
]


@pytest.fixture
def holds(tmp_path: Path) -> Holds:
    return Holds(tmp_path / "volumes")


def test_nobody_holds_what_nobody_mounted(holds: Holds) -> None:
    """Without a record there are no holds, and asking does not make one."""
    assert holds.of("data") == {}
    assert holds.total("data") == 0


def test_holds_are_counted_for_each_id(holds: Holds) -> None:
    """Several containers, each with an ID of its own; every drop takes one away from its own ID only."""
    for mount_id in ("a", "b", "a", "a"):
        holds.add("data", mount_id)
    assert holds.of("data") == {"a": 3, "b": 1}
    assert holds.total("data") == 4
    holds.drop("data", "a")
    holds.drop("data", "b")
    assert holds.of("data") == {"a": 2}


def test_docker_cp_does_not_take_the_containers_hold(holds: Holds) -> None:
    """docker cp mounts and unmounts with the running container's own ID: one hold is left (moby#34665)."""
    holds.add("data", "container")
    holds.add("data", "container")
    holds.drop("data", "container")
    assert holds.of("data") == {"container": 1}


def test_dropping_an_unknown_id_changes_nothing(holds: Holds) -> None:
    """An Unmount for a mount that failed, or that came twice, takes nobody else's hold."""
    holds.drop("data", "a")
    holds.add("data", "a")
    holds.drop("data", "b")
    holds.drop("data", "")
    assert holds.of("data") == {"a": 1}


def test_an_empty_id_is_an_id(holds: Holds) -> None:
    """Docker before 1.12 sends none: then the volume itself is counted."""
    holds.add("data", "")
    holds.add("data", "")
    holds.drop("data", "")
    assert holds.of("data") == {"": 1}


def test_volumes_are_counted_apart(holds: Holds) -> None:
    """The same ID on two volumes is two holds; clearing one leaves the other."""
    holds.add("data", "a")
    holds.add("other", "a")
    holds.clear("data")
    assert holds.of("data") == {}
    assert holds.of("other") == {"a": 1}


def test_the_last_drop_leaves_no_record(holds: Holds, tmp_path: Path) -> None:
    """A volume nobody holds has no file; clearing what is not there is no error."""
    holds.add("data", "a")
    holds.drop("data", "a")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    holds.clear("data")
    holds.clear("never seen")


def test_a_second_instance_reads_what_the_first_wrote(holds: Holds, tmp_path: Path) -> None:
    """Holds outlive the service: everything is in the file as soon as a call returns, nothing in memory."""
    other = Holds(tmp_path / "volumes")
    holds.add("data", "a")
    assert other.of("data") == {"a": 1}
    other.add("data", "a")
    holds.drop("data", "a")
    assert other.of("data") == holds.of("data") == {"a": 1}


@pytest.mark.parametrize("mount_id", ["64" * 32, "sp ace", "é☃", "\ud800", "\n\0", "x" * 10_000, '{"a": 1}'])
def test_any_id_is_kept_as_it_is(holds: Holds, mount_id: str) -> None:
    """IDs are the engine's business: whatever they are, they come out as they went in."""
    holds.add("data", mount_id)
    assert holds.of("data") == {mount_id: 1}
    holds.drop("data", mount_id)
    assert holds.total("data") == 0


@pytest.mark.parametrize("name", ["x" * 255, "a", "a..b", "holds.json"])
def test_any_volume_name_has_its_own_record(holds: Holds, name: str) -> None:
    """The longest name there can be, and one like the file itself."""
    holds.add(name, "a")
    assert holds.of(name) == {"a": 1}
    holds.drop(name, "a")
    assert holds.of(name) == {}


@pytest.mark.parametrize("content", DAMAGED, ids=lambda content: repr(content[:12]))
def test_a_damaged_record_is_an_error_never_empty(holds: Holds, tmp_path: Path, content: str) -> None:
    """Taken for empty, it would unmount under a running container: it is refused instead, and stays as it is."""
    path = tmp_path / "volumes" / "data" / FILE
    path.parent.mkdir(parents=True)
    path.write_text(content)
    for ask in (holds.of, holds.total, lambda name: holds.add(name, "a"), lambda name: holds.drop(name, "a")):
        with pytest.raises(Failed, match="the record of who uses volume data") as caught:
            ask("data")
        assert str(path) in caught.value.message
    assert path.read_text() == content
    holds.clear("data")
    assert holds.of("data") == {}


def test_an_unreadable_record_is_an_error(holds: Holds, tmp_path: Path) -> None:
    """What cannot be read at all is not taken for empty either, nor cleared in silence."""
    (tmp_path / "volumes" / "data" / FILE).mkdir(parents=True)
    for ask in (holds.of, holds.clear):
        with pytest.raises(Failed, match="volume data"):
            ask("data")


def test_a_hold_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    """No room or no directory: the caller hears of it, and what was recorded before is unharmed."""
    (tmp_path / "volumes").write_text("a file where the directory should be")
    with pytest.raises(Failed, match="volume data"):
        Holds(tmp_path / "volumes").add("data", "a")
    holds = Holds(tmp_path / "others")
    holds.add("data", "a")
    (tmp_path / "others" / "data" / f"{FILE}.new").mkdir()
    with pytest.raises(Failed, match="the use of volume data cannot be recorded"):
        holds.add("data", "b")
    assert holds.of("data") == {"a": 1}


def test_a_record_is_replaced_never_half_written(holds: Holds, tmp_path: Path) -> None:
    """Whoever reads while it is written sees the old one or the new one: it is another file each time."""
    path = tmp_path / "volumes" / "data" / FILE
    holds.add("data", "a")
    with path.open() as before:
        holds.add("data", "b")
        assert json.loads(before.read()) == {"a": 1}
    assert json.loads(path.read_text()) == {"a": 1, "b": 1}
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [entry.name for entry in path.parent.iterdir()] == [FILE]


def test_the_names_of_all_that_is_held(holds: Holds, tmp_path: Path) -> None:
    """Also of what cannot be read: it is not taken for nothing. Files of a mount that nobody holds are no hold."""
    assert holds.names() == []
    for name in ("data", "x" * 255, "gone"):
        holds.add(name, "a")
    holds.drop("gone", "a")
    (tmp_path / "volumes" / "damaged").mkdir()
    (tmp_path / "volumes" / "damaged" / FILE).write_text("garbage")
    (tmp_path / "volumes" / "mounted").mkdir()
    (tmp_path / "volumes" / "mounted" / "secret").touch()
    assert sorted(holds.names()) == ["damaged", "data", "x" * 255]


def test_holds_are_those_written_last_however_soon_after_others(holds: Holds, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the file looks the same: in a tick of the clock, as large, and where the last one was."""
    stat = os.stat

    def coarse(path: str, **how: bool) -> os.stat_result:
        found = stat(path, **how)
        return os.stat_result([found.st_mode, *[1] * 9]) if str(path).endswith(FILE) else found

    monkeypatch.setattr(os, "stat", coarse)
    for number in range(10):
        mount_id = str(number)
        holds.add("data", mount_id)
        assert holds.of("data") == {mount_id: 1}
        holds.add("data", mount_id)
        assert holds.of("data") == {mount_id: 2}
        holds.clear("data")
        assert holds.of("data") == {}
