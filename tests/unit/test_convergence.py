"""What is held, mounted and used, brought together: step by step, on fakes and a clock that the test turns."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fakes import WAIT, World

from legacyhost.convergence import CHANGED, GRACE, OFTEN, SELDOM
from legacyhost.deadline import Deadline
from legacyhost.drivers import Connection
from legacyhost.errors import Failed
from legacyhost.holds import UNKNOWN
from legacyhost.status import COVERED, LOST, MOUNTED, NOT_MOUNTED

IN_USE = "volume data is in use by running containers, and the record of that was lost"
GONE = "volume data is not mounted any more; containers that have it have to be restarted"
FREED = "volume data was held by 1 and used by nobody: it is free now"
FOUND = "volume data was mounted, and the record of who has it was lost: it stays while it is used"
TAKEN_AWAY = "volume data was mounted and used by nobody: it is free now"
COVERS = "something else (by-hand) is mounted where volume data belongs; undo it: umount /fake/mounts/data"
LONG_AGO = datetime(2024, 2, 29, tzinfo=UTC)


@pytest.fixture
def data(tmp_path: Path) -> World:
    """A world with the volume ``data``, mounted and held once, in which the first look has found no reason to doubt."""
    world = World(tmp_path)
    world.volumes.create("data", {})
    world.volumes.mount("data", "1")
    world.kernel.users["data"] = [1]
    assert world.convergence.step() is False
    world.kernel.users.clear()
    world.mounter.asking.taken.clear()
    world.clock.now += OFTEN
    return world


def look(world: World, seconds: float) -> None:
    """Let the time pass, with as many looks as there are meanwhile."""
    for _ in range(round(seconds / OFTEN)):
        world.clock.now += OFTEN
        world.convergence.step()


def shown(world: World) -> object:
    return world.volumes.get("data").status["state"]


def test_what_is_held_mounted_and_used_is_left_alone(data: World, caplog: pytest.LogCaptureFixture) -> None:
    """For ever, whoever asks how often."""
    data.kernel.users["data"] = [4711]
    for _ in range(3):
        look(data, SELDOM)
        data.volumes.activated()
    assert data.kernel.mounted == {"data"}
    assert data.holds.of("data") == {"1": 1}
    assert data.mounter.unmounting.taken == []
    assert caplog.messages == []


def test_a_mount_nobody_holds_is_taken_away_at_the_first_look(data: World, caplog: pytest.LogCaptureFixture) -> None:
    """A service killed between a mount and its hold leaves that; nobody was told of it, so nobody is waited for."""
    data.holds.clear("data")
    data.restart()
    assert data.convergence.step() is False
    data.assert_nothing_is_left()
    assert caplog.messages == [TAKEN_AWAY]
    assert shown(data) == NOT_MOUNTED


@pytest.mark.parametrize("when", ["asked", "changed", "later"])
def test_a_mount_nobody_holds_stays_while_it_is_used(data: World, caplog: pytest.LogCaptureFixture, when: str) -> None:
    """Then the record was lost, not the container: said once, held again, and freed when that has ended."""
    data.holds.clear("data")
    data.kernel.users["data"] = [4711]
    look(data, SELDOM / 2)
    assert data.kernel.mounted == {"data"}
    assert caplog.messages == [IN_USE]
    assert data.holds.of("data") == {UNKNOWN: 1}
    assert data.mounter.asking.taken == ["all"], "what was found in use is not looked for again and again"
    data.kernel.users.clear()
    look(data, OFTEN)
    assert data.kernel.mounted == {"data"}
    if when == "asked":
        data.volumes.unmount("data", "lost")
    elif when == "changed":
        data.convergence.changed()
    else:
        look(data, SELDOM)
    look(data, GRACE + OFTEN)
    data.assert_nothing_is_left()
    assert caplog.messages == [IN_USE, FREED]


def test_whose_hold_was_lost_keeps_the_mount_when_another_goes(data: World, caplog: pytest.LogCaptureFixture) -> None:
    """The last of those that are known is not the last there is."""
    data.holds.clear("data")
    data.kernel.users["data"] = [4711]
    data.volumes.mount("data", "2")
    assert data.holds.of("data") == {UNKNOWN: 1, "2": 1}
    data.volumes.unmount("data", "2")
    look(data, SELDOM + GRACE)
    assert data.kernel.mounted == {"data"}
    data.kernel.users.clear()
    data.volumes.unmount("data", "1")
    look(data, GRACE + OFTEN)
    data.assert_nothing_is_left()
    assert caplog.messages == [FOUND, FREED]


def test_what_an_engine_has_mounted_since_it_started_is_its_own_business(data: World) -> None:
    """podman volume mount has no process; a copy into a new volume is seen only now and then."""
    data.volumes.activated()
    data.kernel.users["data"] = [4711]
    look(data, OFTEN)
    data.volumes.create("later", {})
    data.volumes.mount("later", "1")
    for _ in range(3):
        data.convergence.changed()
        look(data, SELDOM + GRACE)
    assert data.kernel.mounted == {"data", "later"}
    data.volumes.activated()
    look(data, GRACE + 2 * OFTEN)
    assert data.kernel.mounted == {"data"}


def test_a_call_of_the_engine_before_that_ends_later_is_left_over_too(data: World) -> None:
    """It was killed while it waited for its Mount, and the next one is there before the mount is."""
    data.volumes.create("late", {})
    with ThreadPoolExecutor(1) as pool, data.mounter.mounting.stop_at("late") as gate:
        mounting = pool.submit(data.volumes.mount, "late", "1")
        gate.wait_until_reached()
        data.volumes.activated()
        gate.open()
        mounting.result(WAIT)
    assert data.kernel.mounted == {"data", "late"}
    look(data, GRACE + 2 * OFTEN)
    data.assert_nothing_is_left()


def test_nothing_is_freed_while_a_container_is_being_started(data: World) -> None:
    """It may have this volume, mounted already, and wait for another one that takes its time."""
    data.volumes.activated()
    look(data, OFTEN)
    data.volumes.create("slow", {})
    with ThreadPoolExecutor(1) as pool, data.mounter.mounting.stop_at("slow") as gate:
        mounting = pool.submit(data.volumes.mount, "slow", "1")
        gate.wait_until_reached()
        look(data, 3 * GRACE)
        assert "data" in data.kernel.mounted
        gate.open()
        mounting.result(WAIT)
    data.convergence.mounted()
    look(data, GRACE - OFTEN)
    assert "data" in data.kernel.mounted
    look(data, 3 * OFTEN)
    assert data.kernel.mounted == {"slow"}


def test_what_is_asked_for_files_is_used(data: World) -> None:
    """By an engine that copies, and has a file open only now and then; the time of grace begins when it has ended."""
    data.volumes.activated()
    for _ in range(round(3 * GRACE / OFTEN)):
        data.driver.connections["ours:data"] = Connection(True, LONG_AGO, 0, used=datetime.now(UTC))
        look(data, OFTEN)
    assert data.kernel.mounted == {"data"}
    data.driver.connections["ours:data"] = Connection(True, LONG_AGO, 0, used=LONG_AGO)
    look(data, GRACE + OFTEN)
    data.assert_nothing_is_left()


def test_asking_for_its_state_does_not_use_a_mount(data: World) -> None:
    """Else a monitor that looks every few seconds would keep what is left over for ever."""
    data.volumes.activated()
    look(data, OFTEN)
    data.convergence.probe("data")
    assert data.mountpoints.asking.taken == []


def test_containers_that_come_and_go_are_a_reason_to_look(data: World) -> None:
    """One that has gone without a word leaves its hold: that is found out soon, and not at each change again."""
    data.volumes.activated()
    data.kernel.users["data"] = [4711]
    look(data, OFTEN)
    data.kernel.users.clear()
    data.mounter.asking.taken.clear()
    for _ in range(3):
        data.convergence.changed()
        look(data, OFTEN)
    assert data.mounter.asking.taken == []
    look(data, CHANGED + GRACE)
    data.assert_nothing_is_left()


def test_holds_nobody_uses_are_forgotten_after_a_time_of_grace(data: World, caplog: pytest.LogCaptureFixture) -> None:
    """Left over from a crash of the engine, which introduces itself when it starts; not before a container could."""
    data.volumes.activated()
    data.convergence.step()
    look(data, GRACE - OFTEN)
    assert data.kernel.mounted == {"data"}
    assert data.holds.of("data") == {"1": 1}
    look(data, 2 * OFTEN)
    data.assert_nothing_is_left()
    assert caplog.messages == [FREED]
    assert shown(data) == NOT_MOUNTED


def test_a_new_hold_begins_the_time_of_grace_anew(data: World) -> None:
    """Between the reply to Mount and the container lies the engine's own work."""
    data.volumes.activated()
    look(data, GRACE)
    data.volumes.mount("data", "2")
    look(data, GRACE)
    assert data.holds.of("data") == {"1": 1, "2": 1}
    look(data, 2 * OFTEN)
    data.assert_nothing_is_left()


def test_who_is_seen_in_between_ends_the_doubt(data: World) -> None:
    """A container that is stopped later has the engine unmount; it is not raced."""
    data.volumes.activated()
    look(data, GRACE)
    data.kernel.users["data"] = [4711]
    look(data, OFTEN)
    data.kernel.users.clear()
    data.mounter.asking.taken.clear()
    look(data, 2 * GRACE)
    assert data.holds.of("data") == {"1": 1}
    assert data.mounter.asking.taken == []


def test_an_unmount_of_one_hold_has_the_others_looked_at(data: World) -> None:
    """A crash of the engine leaves holds that no Unmount will ever come for; those in use stay."""
    data.volumes.mount("data", "2")
    data.volumes.unmount("data", "2")
    look(data, GRACE + 2 * OFTEN)
    data.assert_nothing_is_left()


def test_a_mount_that_is_lost_is_said_once_and_shown(data: World, caplog: pytest.LogCaptureFixture) -> None:
    """Unmounted by hand, or its program was killed: containers have a dead mount until they are restarted."""
    data.kernel.mounted.clear()
    data.kernel.users["data"] = [4711]
    for _ in range(3):
        look(data, SELDOM)
    assert caplog.messages == [GONE]
    assert shown(data) == LOST
    assert data.holds.of("data") == {"1": 1}
    data.kernel.users.clear()
    look(data, SELDOM + GRACE + 2 * OFTEN)
    data.assert_nothing_is_left()
    assert shown(data) == NOT_MOUNTED
    assert caplog.messages == [GONE, FREED]


def test_a_lost_mount_that_nobody_has_is_forgotten(data: World, caplog: pytest.LogCaptureFixture) -> None:
    """After the same time of grace; the next Mount finds a volume like any other."""
    data.kernel.mounted.clear()
    data.convergence.step()
    look(data, GRACE - OFTEN)
    assert data.holds.of("data") == {"1": 1}
    look(data, 3 * OFTEN)
    data.assert_nothing_is_left()
    assert caplog.messages == [GONE, FREED]
    data.volumes.mount("data", "2")
    assert shown(data) == MOUNTED


def test_a_lost_mount_that_is_made_again_is_one_like_any_other(data: World, caplog: pytest.LogCaptureFixture) -> None:
    """If it is lost once more, that is said once more."""
    for number in (1, 2):
        data.kernel.mounted.clear()
        data.kernel.users["data"] = [4711]
        look(data, OFTEN)
        assert shown(data) == LOST
        assert caplog.messages == [GONE] * number
        data.volumes.mount("data", "2")
        look(data, OFTEN)
        assert shown(data) == MOUNTED


@pytest.mark.parametrize("is_held", [True, False])
def test_what_covers_a_volume_is_never_unmounted(data: World, caplog: pytest.LogCaptureFixture, is_held: bool) -> None:
    """Whoever mounted it by hand knows why: said once, shown, and all is well when it is gone."""
    if not is_held:
        data.holds.clear("data")
    for _ in range(2):
        caplog.clear()
        data.kernel.users.clear()
        data.kernel.covered["data"] = "by-hand"
        look(data, SELDOM + GRACE)
        assert data.mounter.unmounting.taken == []
        assert caplog.messages == [COVERS]
        assert shown(data) == COVERED
        data.kernel.users["data"] = [4711]
        del data.kernel.covered["data"]
        look(data, OFTEN)
        assert shown(data) == MOUNTED


def test_what_covered_nothing_is_forgotten_with_it(data: World, caplog: pytest.LogCaptureFixture) -> None:
    """A mountpoint of a volume that is not mounted: when it is free again the volume is "not mounted", since then."""
    data.volumes.unmount("data", "1")
    for number in (1, 2):
        data.kernel.covered["data"] = "by-hand"
        look(data, OFTEN)
        assert (shown(data), caplog.messages) == (COVERED, [COVERS] * number)
        del data.kernel.covered["data"]
        look(data, OFTEN)
        assert shown(data) == NOT_MOUNTED
        assert "since" in data.volumes.get("data").status


def test_a_volume_somebody_is_at_work_on_is_looked_at_later(data: World) -> None:
    """Whatever it looks like meanwhile; and what was asked is not forgotten."""
    data.holds.clear("data")
    with data.turns.turn("data", Deadline.after(WAIT)):
        look(data, SELDOM)
        assert data.convergence.step() is True
        assert data.mounter.unmounting.taken == []
    look(data, OFTEN)
    data.assert_nothing_is_left()
    data.volumes.mount("data", "1")
    data.convergence.doubt("data")
    with data.turns.turn("data", Deadline.after(WAIT)):
        assert data.convergence.step() is True
    data.convergence.step()
    look(data, GRACE + OFTEN)
    data.assert_nothing_is_left()


def test_work_on_a_volume_of_which_there_is_nothing_yet_is_waited_for(
    data: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever comes of it is looked at soon; if nothing does, there is nothing to do, and nothing to say."""
    data.volumes.unmount("data", "1")
    with data.turns.turn("data", Deadline.after(WAIT)):
        data.volumes.activated()
        assert data.convergence.step() is True
    assert data.convergence.step() is False
    monkeypatch.setattr(data.turns, "busy", lambda: {"data"})  # and then it has ended, just before it is looked at
    data.volumes.activated()
    assert data.convergence.step() is False
    assert data.mounter.asking.taken == []
    assert caplog.messages == []


def test_who_comes_while_users_are_looked_for_keeps_the_mount(data: World) -> None:
    """Whether nobody holds it is asked again in the volume's turn, before anything is taken away."""
    data.holds.clear("data")
    data.clock.now += OFTEN
    with ThreadPoolExecutor(1) as pool, data.mounter.asking.stop_at("all") as gate:
        stepping = pool.submit(data.convergence.step)
        gate.wait_until_reached()
        data.volumes.mount("data", "2")
        gate.open()
        stepping.result(WAIT)
    assert data.kernel.mounted == {"data"}
    assert data.holds.of("data") == {UNKNOWN: 1, "2": 1}
    assert data.mounter.unmounting.taken == []


def test_a_mount_that_cannot_be_taken_away_leaves_its_holds(data: World, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is forgotten of what is still there; said once for each attempt, and the attempts are few."""
    stays = "volume data stays as it is: it stays mounted"
    data.mounter.unmounting.always_fail(Failed("it stays mounted"))
    data.volumes.activated()
    look(data, GRACE + OFTEN)
    assert data.holds.of("data") == {"1": 1}
    assert caplog.messages == [stays]
    assert shown(data) == MOUNTED
    data.holds.clear("data")
    look(data, GRACE)
    assert caplog.messages == [stays] * 2, "it is another thing now: mounted, and held by nobody"
    data.mounter.unmounting.always_fail(None)
    look(data, SELDOM)
    data.assert_nothing_is_left()


def test_holds_that_cannot_be_read_are_said_once_and_nothing_is_done(
    data: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Taken for none they would have cost a container its volume; the other volumes are looked after all the same."""
    record = data.runtime / "volumes" / "data" / "holds.json"
    data.kernel.mounted.add("unknown")
    for number in (1, 2):
        record.write_text("garbage")
        look(data, SELDOM)
        said = [message for message in caplog.messages if "the record of who uses volume data" in message]
        assert len(said) == number
        assert data.kernel.mounted == {"data"}
        assert str(data.volumes.get("data").status["last error"]) == said[0]
        record.write_text('{"1": 1}')
        data.kernel.users["data"] = [4711]
        look(data, OFTEN)
        assert record.read_text() == '{"1": 1}'
    assert data.mounter.unmounting.taken == ["unknown"]


def test_users_that_cannot_be_looked_for_are_looked_for_again(data: World) -> None:
    """It is not known that nobody is there: nothing is taken away, and nothing forgotten of what there is to do."""
    data.holds.clear("data")
    data.clock.now += OFTEN
    data.mounter.asking.fail(Failed("systemd does not answer"))
    with pytest.raises(Failed, match="systemd does not answer"):
        data.convergence.step()
    assert data.kernel.mounted == {"data"}
    assert data.convergence.step() is True, "it is too early for the next attempt"
    assert data.kernel.mounted == {"data"}
    look(data, OFTEN)
    data.assert_nothing_is_left()


def test_users_are_not_looked_for_all_the_time(data: World) -> None:
    """A process for each look is too many where mounts come and go by the second."""
    data.kernel.users["data"] = [4711]
    for _ in range(100):
        data.clock.now += OFTEN / 10
        data.convergence.doubt("data")
        data.convergence.step()
    assert 9 <= len(data.mounter.asking.taken) <= 11


def test_where_nothing_is_mounted_or_held_nobody_is_looked_for(data: World) -> None:
    """Nobody can use what is not there."""
    data.volumes.unmount("data", "1")
    data.mounter.asking.taken.clear()
    for _ in range(3):
        data.volumes.activated()
        look(data, SELDOM)
    assert data.mounter.asking.taken == []


def test_a_busy_machine_does_not_keep_the_rest_from_being_looked_at(data: World) -> None:
    """Every volume has its turn after SELDOM, also where others are asked about all the time."""
    data.volumes.create("busy", {})
    data.kernel.users["busy"] = [4711]
    data.volumes.mount("busy", "1")
    data.kernel.users["data"] = [4711]
    data.volumes.activated()
    look(data, OFTEN)
    del data.kernel.users["data"]
    for _ in range(round((SELDOM + GRACE) / OFTEN) + 3):
        data.convergence.doubt("busy")
        look(data, OFTEN)
    assert data.kernel.mounted == {"busy"}
    assert data.holds.names() == ["busy"]
