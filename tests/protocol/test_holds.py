"""Mount and Unmount: who holds a volume, counted per ID, and what is really mounted.

Rules: moby#34665, #37314 (docker cp mounts with the ID of the running mount), moby#32907, #37834 (Unmounts that
come twice or never); seen on Docker 20.10.24.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from pathlib import Path

import pytest

from . import mountinfo
from .case import Case, good, mounted, new_id, refused
from .dialect import DIALECTS, PODMAN_ID, WITHOUT_ID, Dialect


def test_two_ids_hold_a_volume_together(case: Case) -> None:
    """Two containers: the volume stays mounted, once and at one path, until the second lets go."""
    name = case.volume()
    first, second = case.id(name), case.id(name)
    path = case.mount(name, first)
    assert case.mount(name, second) == path
    good(case.docker.unmount(name, first))
    assert mountinfo.count(path) == 1
    good(case.docker.unmount(name, second))
    assert mountinfo.count(path) == 0


def test_the_same_id_twice_has_to_be_released_twice(case: Case) -> None:
    """docker cp from a running container mounts and unmounts with the ID of the running mount: IDs are counted,
    a mere set of them would unmount under the container."""
    name = case.volume()
    mount_id = case.id(name)
    path = case.mount(name, mount_id)
    assert case.mount(name, mount_id) == path
    good(case.docker.unmount(name, mount_id))
    assert mountinfo.count(path) == 1, "unmounted under a running container"
    good(case.docker.unmount(name, mount_id))
    assert mountinfo.count(path) == 0


@pytest.mark.parametrize("dialect", [each for each in DIALECTS if not each.sends_id], ids=str)
def test_without_ids_mounts_are_counted(case: Case, dialect: Dialect) -> None:
    """Docker up to 1.11 sends no ID: each container start is one Mount, each stop one Unmount."""
    engine, name = case.engine(dialect), case.volume()
    path = mounted(engine.mount(name))
    assert mounted(engine.mount(name)) == path
    good(engine.unmount(name))
    assert mountinfo.count(path) == 1
    good(engine.unmount(name))
    assert mountinfo.count(path) == 0


def test_docker_and_podman_hold_a_volume_together(case: Case) -> None:
    """Podman uses one constant ID and counts for itself; its Unmount does not end what Docker holds."""
    name = case.volume()
    mount_id = case.id(name)
    path = case.mount(name, mount_id)
    assert mounted(case.podman.mount(name)) == path
    good(case.podman.unmount(name))
    assert mountinfo.count(path) == 1
    assert mounted(case.podman.mount(name)) == path
    good(case.docker.unmount(name, mount_id))
    assert mountinfo.count(path) == 1
    good(case.podman.unmount(name))
    assert mountinfo.count(path) == 0


def test_unmount_with_an_unknown_id_changes_nothing(case: Case) -> None:
    """An unknown ID is nobody's hold: it is released successfully, and the mount stays."""
    name = case.volume()
    path = case.mount(name)
    for mount_id in (new_id(), PODMAN_ID, "", "x", "../../x", "é" * 300):
        good(case.docker.unmount(name, mount_id))
    good(case.engine(WITHOUT_ID).unmount(name))
    assert mountinfo.count(path) == 1


def test_unmount_of_what_was_never_mounted_succeeds(case: Case) -> None:
    """The state that Unmount wants is there already (Docker 1.12 sends one for a Mount that failed)."""
    name = case.volume()
    good(case.docker.unmount(name, new_id()))
    good(case.podman.unmount(name))
    good(case.engine(WITHOUT_ID).unmount(name))


def test_an_unmount_too_many_is_not_owed(case: Case) -> None:
    """A count never falls below nothing: after an Unmount too many, one Mount mounts and one Unmount unmounts."""
    name = case.volume()
    mount_id = case.id(name)
    for _ in range(2):
        path = case.mount(name, mount_id)
        for _ in range(3):
            good(case.docker.unmount(name, mount_id))
            assert mountinfo.count(path) == 0


def test_mount_after_the_last_unmount_mounts_afresh(case: Case) -> None:
    """Stop and start at once: the new mount is a living one, not the dying one."""
    name = case.volume()
    for _ in range(5):
        mount_id = case.id(name)
        path = case.mount(name, mount_id)
        assert isinstance(os.listdir(path), list)  # noqa: PTH208 - the mountpoint has to answer, now
        good(case.docker.unmount(name, mount_id))
        assert mountinfo.count(path) == 0


def test_the_handshake_touches_no_mount(case: Case) -> None:
    """A dockerd that starts (with live-restore, while containers run) and every podman process activate the plugin:
    no hold is dropped for it."""
    name = case.volume()
    mount_id = case.id(name)
    path = case.mount(name, mount_id)
    for dialect in DIALECTS:
        good(case.engine(dialect).activate())
    assert mountinfo.count(path) == 1
    good(case.docker.unmount(name, mount_id))
    assert mountinfo.count(path) == 0


def test_two_volumes_are_held_apart(case: Case) -> None:
    """The same ID on another volume is another hold, and each volume has a mountpoint of its own."""
    one, other = case.volume(), case.volume()
    mount_id = case.id(one)
    path, other_path = case.mount(one, mount_id), case.mount(other, mount_id)
    assert path != other_path
    good(case.docker.unmount(one, mount_id))
    assert (mountinfo.count(path), mountinfo.count(other_path)) == (0, 1)
    good(case.docker.unmount(other, mount_id))
    assert mountinfo.count(other_path) == 0


def test_a_mount_that_is_refused_leaves_no_hold(case: Case) -> None:
    """No Unmount follows a Mount that failed, so it may not count."""
    name = case.volume()
    for wrong in (5, ["a"], {"a": "b"}, True):
        refused(case.docker.ask("Mount", {"Name": name, "ID": wrong}))
    mount_id = case.id(name)
    path = case.mount(name, mount_id)
    good(case.docker.unmount(name, mount_id))
    assert mountinfo.count(path) == 0


def test_what_is_written_is_there_at_the_next_mount(case: Case) -> None:
    """A volume keeps its files between mounts, and two holders see the same ones."""
    name = case.volume()
    first = case.id(name)
    mine = Path(case.mount(name, first)) / name
    mine.write_text("written")
    try:
        good(case.docker.unmount(name, first))
        assert (Path(case.mount(name)) / name).read_text() == "written"
    finally:
        mine.unlink()


def test_remove_ends_a_hold_that_nobody_has(case: Case) -> None:
    """Unmounts get lost (daemon crash, time-out); Docker removes only what no container references, so a hold that
    is left over gives way, and the files on the other side stay."""
    data = case.plugin.data
    if data is None:
        pytest.skip("where this plugin's files are is not known (--plugin-data)")
    name = case.volume()
    path = case.mount(name)
    case.mount(name, case.id(name))
    mounted(case.podman.mount(name))
    (Path(path) / name).write_text("kept")
    try:
        good(case.docker.remove(name))
        assert mountinfo.count(path) == 0
        refused(case.docker.get(name))
        assert (data / name).read_text() == "kept"
    finally:
        (data / name).unlink(missing_ok=True)


def test_remove_under_an_open_file_loses_nothing(case: Case) -> None:
    """Docker 1.7 and 1.8 remove volumes that others use: it is refused and all stays, or the volume goes; what was
    written is on the other side in any case."""
    data = case.plugin.data
    if data is None:
        pytest.skip("where this plugin's files are is not known (--plugin-data)")
    name = case.volume()
    path = case.mount(name)
    try:
        (Path(path) / name).write_text("kept")
        user = os.open(Path(path) / name, os.O_RDONLY)
        try:
            removed = case.docker.remove(name).ok
            assert case.docker.get(name).ok is not removed
            if not removed:
                assert mountinfo.count(path) == 1
        finally:
            with suppress(OSError):  # the mount may be gone by now
                os.close(user)
        assert (data / name).read_text() == "kept"
    finally:
        (data / name).unlink(missing_ok=True)


def test_a_lost_unmount_leaves_a_mount_and_no_error(case: Case) -> None:
    """After a crash Docker mounts with the same ID again and unmounts once: never an error, and Remove cleans up."""
    name = case.volume()
    mount_id = case.id(name)
    path = case.mount(name, mount_id)
    for _ in range(3):
        assert case.mount(name, mount_id) == path
        good(case.docker.unmount(name, mount_id))
        assert mountinfo.count(path) == 1
    good(case.docker.remove(name))
    assert mountinfo.count(path) == 0


def test_a_mount_that_has_vanished_is_made_again(case: Case) -> None:
    """Somebody unmounts it by hand, or its program dies, while it is held: the next Mount does not trust its own
    records but mounts, and the holds of before still count."""
    if os.geteuid() != 0:
        pytest.skip("only root can take a mount away")
    name = case.volume()
    first, second = case.id(name), case.id(name)
    path = case.mount(name, first)
    subprocess.run(["umount", "--lazy", path], check=True)
    assert mountinfo.count(path) == 0
    good(case.docker.get(name))
    assert case.mount(name, second) == path
    good(case.docker.unmount(name, second))
    assert mountinfo.count(path) == 1
    good(case.docker.unmount(name, first))
    assert mountinfo.count(path) == 0


def test_unmount_of_a_mount_that_has_vanished_succeeds(case: Case) -> None:
    """Nothing is left to unmount: that is what was wanted."""
    if os.geteuid() != 0:
        pytest.skip("only root can take a mount away")
    name = case.volume()
    for _ in range(2):
        mount_id = case.id(name)
        path = case.mount(name, mount_id)
        subprocess.run(["umount", "--lazy", path], check=True)
        good(case.docker.unmount(name, mount_id))
        assert mountinfo.count(path) == 0
