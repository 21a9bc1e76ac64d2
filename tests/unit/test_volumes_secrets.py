"""A password that was given as an option leaves the record: before the reply, after an upgrade, and without a trace."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from fakes import World
from sshd import time_limit

from legacyhost import record, state
from legacyhost.backup import FILE as BACKUP
from legacyhost.errors import Failed, Refused, StateError
from legacyhost.state import FILE, Volume, now

SECRET = "hunter2 in the state"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def bytes_of(world: World) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(world.record.iterdir()))


def test_it_is_never_in_the_record(world: World) -> None:
    """Nor in its log or backup; the volume is usable, and the same again with the same options only."""
    world.volumes.create("data", {"password": SECRET})
    assert SECRET.encode() not in bytes_of(world)
    assert world.driver.secrets == {"data": SECRET}
    world.volumes.create("data", {"password": SECRET})
    with pytest.raises(Refused, match="with other options"):
        world.volumes.create("data", {"password": "other"})
    with pytest.raises(Refused, match="with other options"):
        world.volumes.create("data", {"timeout": "5"})
    world.volumes.remove("data")
    assert world.driver.secrets == {}


def test_it_is_kept_before_the_volume_is_recorded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A volume whose password could not be kept is not made; a password whose volume was not is deleted."""
    world.driver.keeping.fail(Failed("the disk is full"))
    with pytest.raises(Failed, match="full"):
        world.volumes.create("data", {"password": SECRET})
    assert world.state.names() == []

    def fail(volume: Volume) -> None:
        raise StateError("no")

    with monkeypatch.context() as patch:
        patch.setattr(world.state, "add", fail)
        with pytest.raises(StateError):
            world.volumes.create("data", {"password": SECRET})
    assert world.driver.secrets == {}


def test_a_record_that_is_not_there_at_a_start_deletes_no_password(world: World, tmp_path: Path) -> None:
    """As where its file system is mounted later: it is no proof that there is no volume."""
    world.volumes.create("data", {"password": SECRET})
    world.state.close()
    world.record.rename(tmp_path / "away")
    world.record.mkdir()
    world.restart()
    world.volumes.keep_secrets()
    assert world.driver.secrets == {"data": SECRET}


def test_what_was_replaced_leaves_the_logs_though_somebody_reads_them(world: World) -> None:
    """Nobody waits for that meanwhile; and where the service was killed before, at the next start."""
    world.state.add(Volume("data", {"place": "/srv/data", "password": SECRET}, now(), {}))
    reader = record.connect(world.record / FILE, "ro")
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM volumes").fetchall()
    world.volumes._keep_secret("data")
    assert SECRET.encode() in bytes_of(world)
    thread = threading.Thread(target=world.volumes.keep_secrets)
    thread.start()
    with time_limit(20):
        assert world.volumes.list().volumes == [("data", "")]
    reader.close()
    thread.join(30)
    assert SECRET.encode() not in bytes_of(world)


def test_a_kill_before_the_logs_are_emptied(world: World) -> None:
    """The next start does that, though there is no password in the record any more."""
    world.state.add(Volume("data", {"place": "/srv/data", "password": SECRET}, now(), {}))
    world.volumes._keep_secret("data")
    world.restart()
    world.volumes.keep_secrets()
    assert SECRET.encode() not in bytes_of(world)


def test_a_volume_is_removed_though_its_password_cannot_be(world: World) -> None:
    """It is logged; the next volume of that name takes its place."""
    world.volumes.create("data", {"password": SECRET})
    world.driver.forgetting.fail(Failed("read-only"))
    world.volumes.remove("data")
    assert world.state.names() == []


def test_what_an_earlier_version_has_recorded_leaves_the_record(world: World) -> None:
    """Also where a record from before had it in its free pages, log and backup; all else stays as it was."""
    old = Volume("data", {"place": "/srv/data", "password": SECRET}, now(), {"learned": "something"})
    world.state.add(old)
    world.state.add(Volume("other", {"place": "/srv/other"}, now(), {}))
    assert SECRET.encode() in bytes_of(world)
    world.volumes.keep_secrets()
    assert SECRET.encode() not in bytes_of(world)
    assert world.driver.secrets == {"data": SECRET}
    kept = world.state.get("data")
    assert (kept.options, kept.created, kept.facts) == ({"place": "/srv/data"}, old.created, old.facts)
    assert world.state.names() == ["data", "other"]
    world.volumes.keep_secrets()
    world.restart()
    assert world.state.get("data") == kept
    assert record.read(world.record / FILE) == record.read(world.record / BACKUP)


def test_one_that_cannot_be_kept_stays_where_it_is(world: World) -> None:
    """The others leave; at the next start it is tried again."""
    for name in ("a", "b"):
        world.state.add(Volume(name, {"place": name, "password": SECRET}, now(), {}))
    world.driver.keeping.fail(Failed("read-only"))
    world.volumes.keep_secrets()
    assert world.state.get("a").options == {"place": "a", "password": SECRET}
    assert world.state.get("b").options == {"place": "b"}
    world.volumes.keep_secrets()
    assert world.state.get("a").options == {"place": "a"}


def test_a_change_that_fails_half_way_changes_nothing(tmp_path: Path) -> None:
    """Both steps of a replacement or none: a volume is never between the two."""
    made = state.State(tmp_path)
    made.add(Volume("data", {"place": "x"}, now(), {}))
    with pytest.raises(StateError):
        made._change("it", [state._removing("data"), ("INSERT INTO volumes VALUES (?)", ("x",))])
    assert made.get("data").options == {"place": "x"}
    assert not made._change("it", [state._removing("missing"), state._removing("data")])
    assert made.get("data").options == {"place": "x"}
