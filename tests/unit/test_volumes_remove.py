"""Removing volumes, and what is made of mounts and holds that a crash has left."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fakes import ENDED, WAIT, World

from legacyhost.errors import Failed, NoSuchVolume, Refused

DOWN = Failed("nas.example.org did not answer within 10 s")


@pytest.fixture
def data(tmp_path: Path) -> World:
    """A world with the volume ``data``, not mounted."""
    world = World(tmp_path)
    world.volumes.create("data", {"password": "hunter2"})
    return world


def test_remove_forgets_the_volume_and_leaves_the_data(data: World) -> None:
    """The remote data is the driver's business, and only as far as the volume's options say so."""
    data.volumes.remove("data")
    assert data.state.names() == []
    assert data.driver.removing.taken == ["data"]
    assert data.driver.purged == []
    assert data.driver.data == {"data"}
    with pytest.raises(NoSuchVolume):
        data.volumes.remove("data")
    data.volumes.create("purged", {"on_remove": "purge"})
    data.volumes.remove("purged")
    assert data.driver.purged == ["purged"]
    data.assert_nothing_is_left()


def test_the_data_is_only_touched_when_nothing_is_mounted(data: World) -> None:
    """Never through the mount: when the driver removes, the volume is unmounted already."""
    data.volumes.mount("data", "1")
    with ThreadPoolExecutor(1) as pool, data.driver.removing.stop_at("data") as gate:
        removing = pool.submit(data.volumes.remove, "data")
        gate.wait_until_reached()
        assert data.kernel.mounted == set()
        assert data.holds.of("data") == {}
        gate.open()
        removing.result(WAIT)


def test_a_removal_that_fails_keeps_the_volume(data: World) -> None:
    """A volume whose data could not be deleted as promised stays, and can be removed later."""
    data.driver.removing.fail(DOWN)
    with pytest.raises(Failed, match="did not answer"):
        data.volumes.remove("data")
    assert data.state.names() == ["data"]
    data.volumes.remove("data")
    assert data.state.names() == []


def test_a_removal_the_driver_refuses_changes_nothing(data: World) -> None:
    """The driver is asked first, before anything is unmounted."""
    data.volumes.mount("data", "1")
    data.driver.refusals["data"] = "volume other has its data there"
    with pytest.raises(Refused, match="volume other"):
        data.volumes.remove("data")
    assert data.kernel.mounted == {"data"}
    assert data.holds.of("data") == {"1": 1}
    assert data.driver.removing.taken == []


def test_remove_clears_holds_left_over_from_a_crash(data: World) -> None:
    """Docker asks for removal only when no container refers to the volume: leftover holds do not keep it."""
    data.volumes.mount("data", "lost")
    data.volumes.mount("data", "lost too")
    data.volumes.remove("data")
    assert data.state.names() == []
    data.assert_nothing_is_left()
    data.volumes.create("data", {})
    assert data.holds.of("data") == {}


def test_remove_mends_a_damaged_record_of_holds(data: World) -> None:
    """What cannot be unmounted for want of a readable record can be removed."""
    data.volumes.mount("data", "1")
    (data.runtime / "volumes" / "data" / "holds.json").write_text("garbage")
    with pytest.raises(Failed):
        data.volumes.unmount("data", "1")
    assert "cannot be read" in str(data.volumes.get("data").status["holders"])
    data.volumes.remove("data")
    data.assert_nothing_is_left()


def test_remove_of_a_volume_a_container_sees_is_refused(data: World) -> None:
    """Even if Docker has forgotten the container: its processes are named, nothing is touched."""
    data.volumes.mount("data", "1")
    data.kernel.users["data"] = [1, 2, 3, 4, 5, 6]
    with pytest.raises(Refused, match=r"volume data is in use by running containers \(process 1, 2, 3, 4, 5\)"):
        data.volumes.remove("data")
    assert data.kernel.mounted == {"data"}
    assert data.holds.of("data") == {"1": 1}
    assert data.state.names() == ["data"]
    assert data.driver.removing.taken == []


def test_a_removed_volume_takes_its_history_along(data: World) -> None:
    """A new volume of the same name does not show the last error of the old one."""
    data.mounter.mounting.fail(ENDED)
    data.driver.explanation = DOWN
    with pytest.raises(Failed):
        data.volumes.mount("data", "1")
    assert data.volumes.get("data").status["last error"] == DOWN.message
    data.volumes.remove("data")
    data.volumes.create("data", {})
    assert "last error" not in data.volumes.get("data").status


def test_a_restart_changes_nothing(data: World) -> None:
    """Mounts and holds outlive the service: whoever held a volume holds it, and can let go of it."""
    data.volumes.mount("data", "1")
    data.volumes.mount("data", "1")
    data.restart()
    data.convergence.step()
    assert data.kernel.mounted == {"data"}
    assert data.volumes.get("data").status["holders"] == 2
    data.volumes.unmount("data", "1")
    data.volumes.unmount("data", "1")
    data.assert_nothing_is_left()
    assert data.mounter.mounting.taken == ["data"]


def test_a_reboot_forgets_who_held_what(data: World) -> None:
    """After a crash of the host no Unmount comes: volumes are there, not mounted, not held; an old ID mounts."""
    data.volumes.mount("data", "1")
    data.reboot()
    data.convergence.step()
    assert data.volumes.list().volumes == [("data", "")]
    assert data.volumes.get("data").status["holders"] == 0
    data.volumes.mount("data", "1")
    data.volumes.unmount("data", "1")
    data.assert_nothing_is_left()


def test_converge_unmounts_what_nobody_holds(data: World, caplog: pytest.LogCaptureFixture) -> None:
    """A service killed between a mount and its hold leaves garbage: it is unmounted at the next start, and told."""
    data.volumes.mount("data", "1")
    (data.runtime / "volumes" / "data" / "holds.json").unlink()
    data.kernel.mounted.add("unknown")
    data.restart()
    data.convergence.step()
    data.assert_nothing_is_left()
    assert data.mounter.unmounting.taken == ["data", "unknown"]
    assert caplog.messages == [
        "volume data was mounted and used by nobody: it is free now",
        "volume unknown was mounted and used by nobody: it is free now",
    ]


def test_converge_never_unmounts_what_somebody_holds_or_sees(data: World) -> None:
    """Neither a mount with a hold, nor one that a container sees although the record of its holds is lost."""
    for name in ("held", "seen", "damaged"):
        data.volumes.create(name, {})
        data.volumes.mount(name, "1")
    (data.runtime / "volumes" / "seen" / "holds.json").unlink()
    (data.runtime / "volumes" / "damaged" / "holds.json").write_text("garbage")
    data.kernel.users["seen"] = [4711]
    data.restart()
    data.convergence.step()
    assert data.kernel.mounted == {"held", "seen", "damaged"}
    assert data.mounter.unmounting.taken == []


def test_converge_goes_on_after_a_failure(data: World, caplog: pytest.LogCaptureFixture) -> None:
    """One mount that stays does not keep the others; the log says which, and why."""
    data.kernel.mounted |= {"a", "b", "c"}
    data.mounter.unmounting.fail(None, Failed("it stays mounted"), None)
    data.convergence.step()
    assert data.kernel.mounted == {"b"}
    assert "volume b stays as it is: it stays mounted" in caplog.messages


def test_converge_leaves_a_mount_under_way_alone(data: World) -> None:
    """What is mounted and not held yet is no garbage while the call that mounts it is at work."""
    data.kernel.mounted.add("before data")
    with ThreadPoolExecutor(1) as pool, data.mounter.answering.stop_at("data") as gate:
        mounting = pool.submit(data.volumes.mount, "data", "1")
        gate.wait_until_reached()
        assert data.kernel.mounted == {"before data", "data"}
        data.convergence.step()
        assert data.mounter.unmounting.taken == ["before data"]
        gate.open()
        mounting.result(WAIT)
    data.convergence.step()
    assert data.kernel.mounted == {"data"}
    assert data.holds.of("data") == {"1": 1}
