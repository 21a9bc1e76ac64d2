"""The generic volume driver with many callers at once, and with mounts that fail: one attempt, one explanation."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fakes import ENDED, WAIT, Gate, Step, World

from legacyhost.errors import Failed, NoSuchVolume, PluginError, Refused
from legacyhost.mounts import MountFailed

DOWN = Failed("nas.example.org did not answer within 10 s")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def data(world: World) -> World:
    """A world with the volumes ``data`` and ``other``, not mounted."""
    world.volumes.create("data", {})
    world.volumes.create("other", {})
    world.driver.arriving.taken.clear()
    return world


def mount_together(world: World, count: int, gate: Gate) -> list[str | PluginError]:
    """What that many Mounts of ``data`` end with, all of them waiting when the first one's step goes on."""
    with ThreadPoolExecutor(count) as pool, gate:
        first = pool.submit(world.volumes.mount, "data", "0")
        gate.wait_until_reached()
        calls = [first, *(pool.submit(world.volumes.mount, "data", str(number)) for number in range(1, count))]
        world.driver.arriving.wait_for(count)  # asked for the time allowed, right after a call's arrival
        gate.open()
        errors = [call.exception(WAIT) for call in calls]
        assert all(error is None or isinstance(error, PluginError) for error in errors)
        return [
            error if isinstance(error, PluginError) else call.result()
            for error, call in zip(errors, calls, strict=True)
        ]


def test_twenty_mounts_at_once_are_one(data: World) -> None:
    """All get the same answer from one real mount, and each holds the volume."""
    answers = mount_together(data, 20, data.mounter.mounting.stop_at("data"))
    assert set(answers) == {str(data.kernel.ROOT / "data")}
    assert data.mounter.mounting.taken == ["data"]
    assert data.holds.of("data") == {str(number): 1 for number in range(20)}
    with ThreadPoolExecutor(20) as pool:
        for call in [pool.submit(data.volumes.unmount, "data", str(number)) for number in range(20)]:
            call.result(WAIT)
    assert data.mounter.unmounting.taken == ["data"]
    data.assert_nothing_is_left()


def test_waiting_mounts_share_the_failure_they_waited_for(data: World) -> None:
    """Eight containers of a host that is down cost one attempt and one explanation, not eight in a row."""
    data.mounter.mounting.always_fail(ENDED)
    data.driver.explanation = DOWN
    answers = mount_together(data, 8, data.driver.explaining.stop_at("data"))
    assert [answer.message for answer in answers if isinstance(answer, PluginError)] == [DOWN.message] * 8
    assert data.mounter.mounting.taken == ["data"]
    assert data.driver.explaining.taken == ["data"]
    data.assert_nothing_is_left()


def test_a_mount_after_a_failure_is_an_attempt_of_its_own(data: World) -> None:
    """The failure is shared with those who waited, not kept for those who come later; when it was is still shown."""
    data.mounter.mounting.fail(ENDED)
    data.driver.explanation = DOWN
    with pytest.raises(Failed, match="did not answer"):
        data.volumes.mount("data", "1")
    assert data.volumes.get("data").status["last error"] == DOWN.message
    data.volumes.mount("data", "1")
    assert data.holds.of("data") == {"1": 1}
    shown = data.volumes.get("data").status
    assert shown["state"] == "mounted"
    assert shown["last error"] == DOWN.message
    assert str(shown["last error at"]) <= str(shown["since"])


def test_a_failed_mount_leaves_nothing(data: World) -> None:
    """No hold (no Unmount will come), no directory, no file with secrets; the error is the explanation."""
    data.mounter.mounting.fail(ENDED)
    data.driver.explanation = Refused("host key of nas is not known")
    with pytest.raises(Refused, match=r"^host key of nas is not known$"):
        data.volumes.mount("data", "1")
    data.assert_nothing_is_left()
    data.volumes.unmount("data", "1")
    data.assert_nothing_is_left()


def test_when_nothing_is_wrong_any_more_it_is_tried_once_more(data: World) -> None:
    """A passing fault is not the user's business: explained by nothing, the mount is repeated."""
    data.mounter.mounting.fail(ENDED)
    data.volumes.mount("data", "1")
    assert data.mounter.mounting.taken == ["data", "data"]
    assert data.driver.explaining.taken == ["data"]
    assert data.holds.of("data") == {"1": 1}


@pytest.mark.parametrize(
    ("detail", "shown"), [("fuse: no device", "fuse: no device"), ("", "its program said nothing")]
)
def test_a_mount_that_fails_twice_for_no_reason_says_where_to_look(data: World, detail: str, shown: str) -> None:
    """Once more and no oftener; then what the program said, and the command that shows the rest."""
    data.mounter.mounting.always_fail(MountFailed(detail))
    with pytest.raises(Failed) as caught:
        data.volumes.mount("data", "1")
    assert caught.value.message == (
        f"volume data cannot be mounted although the remote host is in order: {shown};"
        " try legacyhost doctor data, or see look-at data"
    )
    assert data.mounter.mounting.taken == ["data", "data"]
    data.assert_nothing_is_left()


def test_a_mount_that_is_gone_at_once_is_a_failure(data: World) -> None:
    """Success means mounted when the reply is sent: an empty directory is never handed to a container."""
    data.mounter.fleeting.add("data")
    with pytest.raises(Failed, match="it was unmounted again at once"):
        data.volumes.mount("data", "1")
    data.assert_nothing_is_left()


@pytest.mark.parametrize("kind", [Failed, NoSuchVolume])
def test_a_directory_that_cannot_be_made_is_a_failure(data: World, kind: type[PluginError]) -> None:
    """What fails before the mount is told as it is, and leaves nothing either."""
    data.mountpoints.preparing.fail(kind("no room"))
    with pytest.raises(kind, match="no room"):
        data.volumes.mount("data", "1")
    data.assert_nothing_is_left()
    assert data.driver.explaining.taken == []


def test_files_that_cannot_be_written_are_a_failure(data: World) -> None:
    """A full or read-only runtime directory is a sentence, not a defect."""
    (data.runtime / "volumes").write_text("in the way")
    with pytest.raises(Failed, match="the files for mounting volume data cannot be written"):
        data.volumes.mount("data", "1")
    assert data.kernel.directories == set()


def test_twenty_creates_at_once_prepare_once(world: World) -> None:
    """Parallel Creates of one name: one does the work, the rest find it done; with other options they are refused."""
    with ThreadPoolExecutor(20) as pool, world.driver.preparing.stop_at("data") as gate:
        calls = [pool.submit(world.volumes.create, "data", {"timeout": "5"}) for _ in range(19)]
        gate.wait_until_reached()
        other = pool.submit(world.volumes.create, "data", {"timeout": "6"})
        world.driver.arriving.wait_for(20)
        gate.open()
        assert [call.exception(WAIT) for call in calls] == [None] * 19
        assert isinstance(other.exception(WAIT), Refused)
    assert world.driver.preparing.taken == ["data"]


def test_a_mount_that_waits_for_a_removal_finds_no_volume(data: World) -> None:
    """The volume is looked up again when the turn has come: nothing is mounted that does not exist any more."""
    with ThreadPoolExecutor(2) as pool, data.driver.removing.stop_at("data") as gate:
        removing = pool.submit(data.volumes.remove, "data")
        gate.wait_until_reached()
        mounting = pool.submit(data.volumes.mount, "data", "1")
        data.driver.arriving.wait_for(1)
        gate.open()
        removing.result(WAIT)
        assert isinstance(mounting.exception(WAIT), NoSuchVolume)
    data.assert_nothing_is_left()


def test_a_turn_that_does_not_come_in_time_is_told(world: World) -> None:
    """Who waits behind a call that hangs gets an error by its own deadline, and has done nothing."""
    world.volumes.create("data", {})
    with ThreadPoolExecutor(1) as pool, world.mounter.mounting.stop_at("data") as gate:
        mounting = pool.submit(world.volumes.mount, "data", "1")
        gate.wait_until_reached()
        world.driver.default_timeout = 0.01
        with pytest.raises(Failed, match=r"another operation on volume data has not ended within 0\.01 s"):
            world.volumes.mount("data", "2")
        gate.open()
        mounting.result(WAIT)
    assert world.holds.of("data") == {"1": 1}


@pytest.mark.parametrize("hangs", ["mount", "explain", "unmount", "remove", "create"])
def test_a_call_that_hangs_delays_nobody_else(data: World, hangs: str) -> None:
    """While one volume waits for its host, every other works, and Get, List and Path answer even for that one."""
    volumes = data.volumes
    steps: dict[str, tuple[Step, str, Callable[[], object]]] = {
        "mount": (data.mounter.mounting, "data", lambda: volumes.mount("data", "1")),
        "explain": (data.driver.explaining, "data", lambda: volumes.mount("data", "1")),
        "unmount": (data.mounter.unmounting, "data", lambda: volumes.unmount("data", "1")),
        "remove": (data.driver.removing, "data", lambda: volumes.remove("data")),
        "create": (data.driver.preparing, "new", lambda: volumes.create("new", {})),
    }
    step, name, call = steps[hangs]
    if hangs == "explain":
        data.mounter.mounting.fail(ENDED)
    if hangs == "unmount":
        volumes.mount("data", "1")
    with ThreadPoolExecutor(1) as pool, step.stop_at(name) as gate:
        hanging = pool.submit(call)
        gate.wait_until_reached()
        assert volumes.get("data").name == "data"
        assert volumes.get("other").name == "other"
        assert [name for name, _ in volumes.list().volumes] == ["data", "other"]
        assert isinstance(volumes.path("data"), str)
        volumes.create("third", {})
        volumes.mount("third", "1")
        volumes.mount("other", "1")
        volumes.unmount("other", "1")
        volumes.remove("other")
        volumes.unmount("third", "1")
        volumes.create("data", {})  # known already: no turn is needed to say so
        assert not hanging.done()
        gate.open()
        hanging.result(WAIT)


def test_a_mount_an_earlier_process_left_half_made_is_made_anew(data: World) -> None:
    """mountinfo shows it, but nobody ever waited for an answer on it: it is not handed out."""
    data.kernel.directories.add("data")
    data.kernel.mounted.add("data")
    data.mounter.half_made.add("data")
    data.volumes.mount("data", "1")
    assert data.mounter.mounting.taken == ["data"]
    assert data.kernel.mounted == {"data"}


def test_a_mount_without_an_answer_is_shown_to_nobody(data: World) -> None:
    """Get, List and Path say "not mounted" while sshfs has mounted and the host has not said anything yet."""
    with ThreadPoolExecutor() as pool, data.mounter.answering.stop_at("data") as gate:
        mounting = pool.submit(data.volumes.mount, "data", "1")
        gate.wait_until_reached()
        assert "data" in data.kernel.mounted
        assert data.volumes.path("data") == ""
        assert data.volumes.get("data").mountpoint == ""
        assert dict(data.volumes.list().volumes)["data"] == ""
        gate.open()
        path = mounting.result(WAIT)
    assert data.volumes.path("data") == data.volumes.get("data").mountpoint == path


def test_finding_out_why_stays_within_the_timeout(data: World) -> None:
    """The mount gets two thirds of the time at first, so that the reason is known before the time is up."""
    data.mounter.mounting.always_fail(ENDED)
    data.driver.explanation = DOWN
    with pytest.raises(Failed):
        data.volumes.mount("data", "1")
    allowed = data.driver.default_timeout
    assert data.mounter.deadlines[0].seconds <= allowed * 2 / 3 + 0.1
    assert data.driver.deadlines[-1].seconds == allowed
