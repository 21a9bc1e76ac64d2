"""The generic volume driver, one call after the other: records, holds and mounts always agree."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fakes import FakeDriver, World

from legacyhost.drivers import Connection
from legacyhost.errors import Failed, InvalidRequest, NoSuchVolume, NotServing, Refused
from legacyhost.holds import Holds
from legacyhost.turns import Turns
from legacyhost.volumes import Volumes

DOWN = Failed("nas.example.org did not answer within 10 s")
NAMES = [
    "",
    ".",
    "..",
    "../../etc/x",
    "/abs",
    "a/b",
    "a b",
    "-a",
    ".a",
    "é",
    "x" * 256,
    "a\0",
    "a\n",
    "user@host:/path",
]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def data(world: World) -> World:
    """A world with the volume ``data``, not mounted."""
    world.volumes.create("data", {"password": "hunter2"})
    world.driver.arriving.taken.clear()
    return world


def test_create_prepares_then_records(world: World) -> None:
    """What was learned from the remote side is recorded with the options in their normal form."""
    world.volumes.create("data", {"timeout": "5"})
    recorded = world.state.get("data")
    assert recorded.options == {"place": "/srv/data", "timeout": "5"}
    assert recorded.facts == {"learned": "about data"}
    assert world.driver.preparing.taken == ["data"]
    world.assert_nothing_is_left()


@pytest.mark.parametrize("error", [DOWN, InvalidRequest("no"), KeyError("a defect"), OSError(28, "full")])
def test_a_create_that_fails_records_nothing(world: World, error: Exception) -> None:
    """Whatever happens on the remote side, the name stays free; the next Create begins anew."""
    world.driver.preparing.fail(error)
    with pytest.raises(type(error)):
        world.volumes.create("data", {})
    assert world.state.names() == []
    with pytest.raises(NoSuchVolume):
        world.volumes.get("data")
    world.volumes.create("data", {})
    assert world.state.names() == ["data"]


def test_wrong_options_never_reach_the_remote_side(world: World) -> None:
    """An unknown option is refused before anything is touched."""
    with pytest.raises(InvalidRequest, match="nope"):
        world.volumes.create("data", {"nope": "1"})
    assert world.driver.preparing.taken == []
    assert world.state.names() == []


def test_create_is_idempotent(world: World) -> None:
    """Docker repeats Creates: with null options or the same ones nothing happens, not even on the network."""
    world.volumes.create("data", {"timeout": "5"})
    created = world.state.get("data")
    world.driver.preparing.always_fail(DOWN)
    world.volumes.create("data", {})
    world.volumes.create("data", {"timeout": "5"})
    world.volumes.create("data", {"timeout": "5", "place": "/srv/data"})
    assert world.state.get("data") == created
    assert world.driver.preparing.taken == ["data"]


def test_create_with_other_options_is_refused(world: World) -> None:
    """Nothing is changed in silence; the sentence says what to do, and wrong options are still called wrong."""
    world.volumes.create("data", {"timeout": "5"})
    with pytest.raises(Refused, match=r"^volume data exists already, with other options; .*docker volume rm data"):
        world.volumes.create("data", {"timeout": "6"})
    with pytest.raises(InvalidRequest):
        world.volumes.create("data", {"nope": "6"})
    assert world.state.get("data").options["timeout"] == "5"


def test_mount_holds_and_unmount_lets_go(data: World) -> None:
    """The plain course of things: mounted where the reply says, and nothing left afterwards."""
    assert data.volumes.mount("data", "1") == str(data.kernel.ROOT / "data")
    assert data.kernel.mounted == {"data"}
    assert data.holds.of("data") == {"1": 1}
    data.volumes.unmount("data", "1")
    data.assert_nothing_is_left()


def test_mount_is_idempotent_for_an_id(data: World) -> None:
    """docker cp mounts again with the container's ID: one mount, counted twice, unmounted with the last."""
    for _ in range(3):
        assert data.volumes.mount("data", "1") == str(data.kernel.ROOT / "data")
    data.volumes.mount("data", "2")
    assert data.mounter.mounting.taken == ["data"]
    assert data.holds.of("data") == {"1": 3, "2": 1}
    assert (data.runtime / "volumes" / "data").stat().st_mode & 0o777 == 0o700
    for mount_id in ("1", "2", "1"):
        data.volumes.unmount("data", mount_id)
        assert data.kernel.mounted == {"data"}
        assert data.left_behind() == ["data", "data/holds.json", "data/secret"], "what the program needs stays"
    data.volumes.unmount("data", "1")
    data.assert_nothing_is_left()


def test_a_lost_mount_is_made_again_under_its_holds(data: World) -> None:
    """A mount whose program died is no reason to refuse: mounted afterwards, and held once more."""
    data.volumes.mount("data", "1")
    data.kernel.mounted.clear()
    data.volumes.mount("data", "2")
    assert data.kernel.mounted == {"data"}
    assert data.holds.of("data") == {"1": 1, "2": 1}


def test_the_last_unmount_of_a_lost_mount_cleans_up(data: World) -> None:
    """There is nothing to unmount any more, but files with secrets and a directory to remove."""
    data.volumes.mount("data", "1")
    data.kernel.mounted.clear()
    data.volumes.unmount("data", "1")
    assert data.mounter.unmounting.taken == []
    data.assert_nothing_is_left()


def test_unmount_of_what_is_unknown_does_nothing(data: World) -> None:
    """Docker sends Unmounts for mounts that failed, and twice: the hold of another is not taken for them."""
    data.volumes.mount("data", "1")
    data.volumes.unmount("data", "2")
    data.volumes.unmount("data", "")
    data.volumes.unmount("unknown", "1")
    assert data.kernel.mounted == {"data"}
    assert data.holds.of("data") == {"1": 1}
    assert data.mounter.unmounting.taken == []


def test_an_unmount_that_fails_keeps_the_hold(data: World) -> None:
    """First the mount, then the hold: what could not be unmounted is tried again by the next call."""
    data.volumes.mount("data", "1")
    data.mounter.unmounting.fail(Failed("it stays mounted"))
    with pytest.raises(Failed, match="it stays mounted"):
        data.volumes.unmount("data", "1")
    assert data.holds.of("data") == {"1": 1}
    assert data.kernel.mounted == {"data"}
    data.volumes.unmount("data", "1")
    data.assert_nothing_is_left()


@pytest.mark.parametrize("mount_id", ["1", ""])
def test_a_volume_is_held_whatever_the_id(data: World, mount_id: str) -> None:
    """Docker before 1.12 sends no ID: each Mount counts all the same."""
    data.volumes.mount("data", mount_id)
    data.volumes.mount("data", mount_id)
    data.volumes.unmount("data", mount_id)
    assert data.kernel.mounted == {"data"}
    data.volumes.unmount("data", mount_id)
    data.assert_nothing_is_left()


def test_a_hold_that_cannot_be_recorded_leaves_no_mount(data: World) -> None:
    """The caller gets an error, so nobody will unmount it: what was mounted for this call is unmounted."""
    (data.runtime / "volumes" / "data" / "holds.json").mkdir(parents=True)
    with pytest.raises(Failed):
        data.volumes.mount("data", "1")
    assert data.kernel.mounted == set()
    (data.runtime / "volumes" / "data" / "holds.json").rmdir()
    data.volumes.mount("data", "1")
    (data.runtime / "volumes" / "data" / "holds.json").write_text("garbage")
    with pytest.raises(Failed, match="who uses volume data"):
        data.volumes.mount("data", "2")
    assert data.kernel.mounted == {"data"}, "somebody else's mount"


def test_a_list_is_made_anew_when_something_has_changed_and_only_then(data: World) -> None:
    """Whoever changes it: a call, the kernel, another process that writes to the record."""
    changes: list[Callable[[], object]] = [
        lambda: data.volumes.create("other", {}),
        lambda: data.volumes.mount("other", "1"),
        lambda: data.kernel.mounted.add("data"),
        lambda: data.kernel.mounted.discard("other"),
        lambda: data.volumes.unmount("other", "1"),
        lambda: data.volumes.remove("other"),
        lambda: _add_beside(data.state.path, "beside"),
        lambda: _add_beside(data.state.path, "besides"),
    ]
    seen = []
    for change in changes:
        before = data.volumes.list()
        assert data.volumes.list() is before
        change()
        data.volumes.get("data")
        after = data.volumes.list()
        assert after.volumes == [(name, data.volumes.path(name)) for name in data.state.names()]
        assert data.volumes.list() is after
        seen.append(after is not before)
    # What is no mount of a volume any more has gone with the one that was taken away by hand.
    assert seen == [True, True, True, True, False, True, True, True]


def test_what_get_shows_is_made_anew_when_something_in_it_has_changed_and_only_then(data: World) -> None:
    """Whoever changes it; what is shown is what one who has never been asked would show."""
    holds = data.runtime / "volumes" / "data" / "holds.json"
    times = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)

    def connection(number: int) -> None:
        source = data.mounting.source("data") or ""
        data.driver.connections[source] = Connection(number == 0, times[number], reconnects=number, used=times[0])

    def made_anew() -> None:
        data.volumes.remove("data")
        data.volumes.create("data", {"place": "/srv/elsewhere"})

    changes: list[Callable[[], object]] = [
        lambda: data.volumes.mount("data", "1"),
        lambda: data.volumes.mount("data", "1"),
        lambda: holds.write_text('{"1": 3}'),
        lambda: holds.write_text("garbage"),
        lambda: holds.write_text('{"1": 1}'),
        lambda: connection(0),
        lambda: connection(1),
        lambda: data.history.error("data", "it is broken"),
        lambda: data.volumes.unmount("data", "1"),
        lambda: data.volumes.reconfigure(FakeDriver(), "local"),
        made_anew,
    ]
    for number, change in enumerate(changes):
        before = data.volumes.get("data")
        assert data.volumes.get("data") is before
        change()
        after = data.volumes.get("data")
        assert (after is not before, data.volumes.get("data") is after) == (True, True), number
        others = Volumes(
            state=data.state, holds=Holds(holds.parents[1]), history=data.history, turns=Turns(), mounting=data.mounting
        )
        assert after == others.get("data"), number


def _add_beside(path: Path, name: str) -> None:
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("INSERT INTO volumes SELECT ?, created, options, facts FROM volumes WHERE name = 'data'", (name,))


def test_get_list_and_path_show_what_is_mounted(data: World) -> None:
    """The mountpoint while there is a mount, nothing otherwise; never a secret."""
    data.volumes.create("other", {})
    where = str(data.kernel.ROOT / "data")
    assert data.volumes.list().volumes == [("data", ""), ("other", "")]
    assert data.volumes.path("data") == ""
    assert data.volumes.get("data").status["state"] == "not mounted"
    data.volumes.mount("data", "1")
    assert data.volumes.list().volumes == [("data", where), ("other", "")]
    assert data.volumes.path("data") == where
    shown = data.volumes.get("data")
    assert (shown.name, shown.mountpoint) == ("data", where)
    assert shown.created == data.state.get("data").created
    since = shown.status["since"]
    assert abs(datetime.fromisoformat(str(since)) - datetime.now(UTC)) < timedelta(minutes=1)
    expected = {"state": "mounted", "since": since, "holders": 1, "place": "/srv/data", "learned": "about data"}
    assert shown.status == expected
    assert "hunter2" not in repr(shown)


@pytest.mark.parametrize("name", NAMES)
def test_names_are_checked_on_every_call(world: World, name: str) -> None:
    """Docker checks none: a name that is a path, or no name at all, never gets anywhere."""
    volumes = world.volumes
    for ask in (
        lambda: volumes.create(name, {}),
        lambda: volumes.remove(name),
        lambda: volumes.mount(name, "1"),
        lambda: volumes.unmount(name, "1"),
        lambda: volumes.path(name),
        lambda: volumes.get(name),
    ):
        with pytest.raises(InvalidRequest, match="cannot be the name of a volume"):
            ask()
    assert world.driver.preparing.taken == []
    assert world.left_behind() == []


def test_an_unreadable_record_gives_no_answer(data: World) -> None:
    """NotServing, not "no such volume": Docker would forget the volume otherwise."""
    data.state.close()
    volumes = data.volumes
    for ask in (
        lambda: volumes.get("data"),
        volumes.list,
        lambda: volumes.path("data"),
        lambda: volumes.mount("data", "1"),
        lambda: volumes.remove("data"),
        lambda: volumes.create("data", {}),
    ):
        with pytest.raises(NotServing):
            ask()
    assert data.kernel.mounted == set()


def test_a_changed_configuration_counts_from_the_next_call_on(data: World, tmp_path: Path) -> None:
    """Driver and scope are replaced; volumes, holds and mounts stay."""
    data.volumes.mount("data", "1")
    (tmp_path / "other").mkdir()
    other = World(tmp_path / "other").driver
    data.volumes.reconfigure(other, "global")
    data.volumes.create("new", {})
    assert data.volumes.scope == "global"
    assert (data.driver.preparing.taken, other.preparing.taken) == (["data"], ["new"])
    assert [name for name, mountpoint in data.volumes.list().volumes if mountpoint] == ["data"]
