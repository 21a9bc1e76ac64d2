"""The mount of a volume: made, checked before it is given to anybody, taken away only where it is ours and unused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fakes import ENDED, WAIT, World

from legacyhost.deadline import Deadline
from legacyhost.drivers import Connection
from legacyhost.errors import Failed, Refused
from legacyhost.mounts import User
from legacyhost.status import COVERED, LOST, MOUNTED, MOUNTING, NOT_MOUNTED, RECONNECTING

DOWN = Failed("nas.example.org did not answer within 10 s")
COVERS = r"^something else \(by-hand\) is mounted where volume data belongs; undo it: umount /fake/mounts/data$"


@pytest.fixture
def data(tmp_path: Path) -> World:
    """A world with the volume ``data``, mounted and held once."""
    world = World(tmp_path)
    world.volumes.create("data", {})
    world.volumes.mount("data", "1")
    return world


def shown(world: World) -> object:
    return world.volumes.get("data").status["state"]


def test_each_state_is_seen_in_what_is_mounted_and_held(data: World) -> None:
    """Without asking anybody: from mountinfo, the record of holds, and what is being done."""
    assert shown(data) == MOUNTED
    data.kernel.covered["data"] = "by-hand"
    assert shown(data) == COVERED
    data.kernel.covered.clear()
    data.kernel.mounted.clear()
    assert shown(data) == LOST
    data.volumes.unmount("data", "1")
    assert shown(data) == NOT_MOUNTED
    with ThreadPoolExecutor(1) as pool, data.mounter.answering.stop_at("data") as gate:
        mounting = pool.submit(data.volumes.mount, "data", "1")
        gate.wait_until_reached()
        assert shown(data) == MOUNTING
        gate.open()
        mounting.result(WAIT)
    assert shown(data) == MOUNTED


def test_what_a_mount_shares_is_made_once(data: World) -> None:
    """And told to each mount that shares it; one that shares nothing is told nothing."""
    assert data.mounter.companions == []
    assert "SHARED" not in data.mounter.environments[0]
    data.driver.shared.add("other")
    data.volumes.create("other", {})
    for number in range(2):
        data.volumes.mount("other", "1")
        assert data.mounter.environments[number + 1]["SHARED"].endswith("/shared")
        data.volumes.unmount("other", "1")
    assert data.mounter.companions == ["Shared"]


def test_a_mount_that_cannot_share_does_without(data: World, capsys: pytest.CaptureFixture[str]) -> None:
    """It would only have saved time."""
    data.driver.sharing_error = OSError(28, "No space left on device")
    data.volumes.create("other", {})
    assert data.volumes.mount("other", "1")
    assert "SHARED" not in data.mounter.environments[-1]


def test_what_the_mount_knows_of_its_connection_is_shown(data: World) -> None:
    """Only of the mount that is there: it is found by its source."""
    since = datetime(2024, 2, 29, 12, 0, 0, tzinfo=UTC)
    away = Connection(False, since, 3, since, "nas is away", datetime.now(UTC))
    data.driver.connections["ours:data"] = away
    status = data.volumes.get("data").status
    assert (status["state"], status["since"]) == (RECONNECTING, "2024-02-29T12:00:00Z")
    assert (status["reconnects"], status["last error"]) == (3, "nas is away")
    data.volumes.unmount("data", "1")
    assert "reconnects" not in data.volumes.get("data").status


def test_a_mount_that_answers_is_shared(data: World) -> None:
    """One question, and no look at the remote host."""
    data.volumes.mount("data", "2")
    assert data.mounter.mounting.taken == ["data"]
    assert data.driver.explaining.taken == []


@pytest.mark.parametrize("dead", ["silent", "broken"])
def test_a_dead_mount_is_given_to_nobody(data: World, dead: str) -> None:
    """An engine that is given one hangs: the error is the remote host's, and the holds there were stay."""
    getattr(data.kernel, dead).add("data")
    data.driver.explanation = DOWN
    with pytest.raises(Failed, match=DOWN.message):
        data.volumes.mount("data", "2")
    assert data.holds.of("data") == {"1": 1}
    assert data.kernel.mounted == {"data"}, "who has it may have it back when the host is there again"
    assert data.volumes.get("data").status["last error"] == DOWN.message
    getattr(data.kernel, dead).clear()
    data.volumes.mount("data", "2")
    assert data.holds.of("data") == {"1": 1, "2": 1}


@pytest.mark.parametrize("dead", ["silent", "broken"])
def test_a_mount_that_is_dead_for_good_is_told_with_what_frees_it(data: World, dead: str) -> None:
    """The remote host is in order, so nothing will change by itself."""
    getattr(data.kernel, dead).add("data")
    with pytest.raises(Failed, match=r"^the mount of volume data does not answer .*: legacyhost unstick data$"):
        data.volumes.mount("data", "2")
    assert data.holds.of("data") == {"1": 1}


def test_a_mount_that_answers_while_it_is_found_out_why_not_is_used(data: World) -> None:
    """The connection was just being made again."""
    data.kernel.silent.add("data")
    with ThreadPoolExecutor(1) as pool, data.driver.explaining.stop_at("data") as gate:
        mounting = pool.submit(data.volumes.mount, "data", "2")
        gate.wait_until_reached()
        data.kernel.silent.clear()
        gate.open()
        assert mounting.result(WAIT) == str(data.kernel.ROOT / "data")


def test_those_who_wait_for_a_dead_mount_share_its_failure(data: World) -> None:
    """Eight containers cost one question and one explanation."""
    data.kernel.silent.add("data")
    data.driver.explanation = DOWN
    data.driver.arriving.taken.clear()
    with ThreadPoolExecutor(8) as pool, data.driver.explaining.stop_at("data") as gate:
        calls = [pool.submit(data.volumes.mount, "data", str(number)) for number in range(8)]
        gate.wait_until_reached()
        data.driver.arriving.wait_for(8)
        gate.open()
        assert {str(call.exception(WAIT)) for call in calls} == {DOWN.message}
    assert data.driver.explaining.taken == ["data"]
    assert data.mountpoints.asking.taken == ["data"]


def test_what_was_mounted_by_hand_is_neither_handed_out_nor_taken_away(data: World) -> None:
    """Whoever did that knows why: Mount, Unmount and Remove say what is there and how it is undone."""
    data.kernel.covered["data"] = "by-hand"
    for call in (
        lambda: data.volumes.mount("data", "2"),
        lambda: data.volumes.unmount("data", "1"),
        lambda: data.volumes.remove("data"),
    ):
        with pytest.raises(Refused, match=COVERS):
            call()
    assert data.holds.of("data") == {"1": 1}
    assert data.mounter.unmounting.taken == []
    assert data.driver.removing.taken == []
    data.kernel.covered.clear()
    data.volumes.unmount("data", "1")
    data.assert_nothing_is_left()


def test_nothing_is_mounted_over_what_was_mounted_by_hand(data: World) -> None:
    """Where the volume itself is not mounted either."""
    data.volumes.unmount("data", "1")
    data.kernel.covered["data"] = "by-hand"
    with pytest.raises(Refused, match=COVERS):
        data.volumes.mount("data", "1")
    assert data.kernel.mounted == set()
    assert data.holds.of("data") == {}


@pytest.mark.parametrize(
    ("user", "is_one"),
    [
        (User(1, source="ours:data"), True),
        (User(1, path="/fake/mounts/data"), True),
        (User(1, path="/fake/mounts/data/a/b (deleted)"), True),
        (User(1, source="ours:data2"), False),
        (User(1, path="/fake/mounts/data2"), False),
        (User(1, path="/fake/mounts"), False),
        (User(1), False),
    ],
)
def test_a_user_is_one_of_the_volume_it_uses(data: World, user: User, is_one: bool) -> None:
    """By the mount that is seen, or by the path of what is open; names that begin alike are others."""
    assert data.mounting.is_used_by("data", user) is is_one


def test_what_is_used_is_not_removed(data: World) -> None:
    """Nor where it cannot be found out whether somebody uses it."""
    data.kernel.users["data"] = [4711, 4711, 42]
    with pytest.raises(Refused, match=r"volume data is in use by running containers \(process 42, 4711\)"):
        data.volumes.remove("data")
    data.kernel.users = {"other": [1]}
    data.mounter.asking.fail(Failed("systemd does not answer"))
    with pytest.raises(Failed, match="systemd does not answer"):
        data.volumes.remove("data")
    assert data.kernel.mounted == {"data"}
    assert data.state.names() == ["data"]
    data.volumes.remove("data")
    data.assert_nothing_is_left()


def test_a_failure_is_not_shared_beyond_a_removal(data: World) -> None:
    """A volume of the same name is another volume."""
    data.volumes.unmount("data", "1")
    data.mounter.mounting.fail(ENDED)
    data.driver.explanation = DOWN
    with pytest.raises(Failed):
        data.volumes.mount("data", "1")
    data.volumes.remove("data")
    data.volumes.create("data", {})
    volume = data.state.get("data")
    assert data.mounting.ensure(volume, 0.0, Deadline.after(WAIT)) is False
    assert data.kernel.mounted == {"data"}


def test_files_that_stay_are_told_and_no_failure(data: World, caplog: pytest.LogCaptureFixture) -> None:
    """The record of holds is none of a mount's files; what cannot be removed is named."""
    folder = data.runtime / "volumes" / "data"
    (folder / "in the way").mkdir()
    data.volumes.mount("data", "2")
    data.volumes.unmount("data", "2")
    assert sorted(path.name for path in folder.iterdir()) == ["holds.json", "in the way", "secret"]
    data.volumes.unmount("data", "1")
    assert data.kernel.mounted == set()
    assert caplog.messages
    assert {message.partition(":")[0] for message in caplog.messages} == {f"files of a mount stay in {folder}"}


def test_a_mount_that_is_busy_is_not_a_dead_one(data: World) -> None:
    """The question waits behind what others write: the volume is given out, and nobody is told to cut that off."""
    data.kernel.silent.add("data")
    since = datetime(2024, 2, 29, 12, 0, 0, tzinfo=UTC)
    data.driver.connections["ours:data"] = Connection(True, since, 0, datetime.now(UTC) + timedelta(seconds=5))
    data.volumes.mount("data", "2")
    assert data.holds.of("data") == {"1": 1, "2": 1}
    data.driver.connections["ours:data"] = Connection(True, since, 0, since)
    with pytest.raises(Failed, match="legacyhost unstick data"):
        data.volumes.mount("data", "3")
