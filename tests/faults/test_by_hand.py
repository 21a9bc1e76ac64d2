"""Somebody unmounts, deletes or mounts over by hand, or an unmount fails: noticed, and healed as far as can be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest
from system.installed import Installed, assert_writing, writer

from .kit import CONVERGED, MOUNTS, RUN, Plugin, Refusal, container, forget, wait_until_clean, warnings


def is_noticed(installed: Installed, mark: str, name: str) -> bool:
    """The journal has a line about the volume."""
    return bool(warnings(installed, mark, name))


@pytest.mark.parametrize(
    "by_hand",
    [
        pytest.param("umount {mounts}/{name}", id="umount"),
        pytest.param("umount -l {mounts}/{name}", id="umount-l"),
        pytest.param("rm {run}/volumes/{name}/holds.json", id="holds"),
        pytest.param("rm -r {run}/volumes", id="volumes"),
    ],
)
def test_undone_by_hand_under_a_running_container(installed: Installed, by_hand: str) -> None:
    """The first container goes on, the next one starts and writes to the remote; status and journal tell of it."""
    machine = installed.machine
    name = installed.name()
    installed.create(name)
    with container(installed, name, writer("log"), "log") as first:
        mark = installed.mark()
        machine.run(by_hand.format(mounts=MOUNTS, run=RUN, name=name))
        status = installed.inspect(name)["Status"]
        assert (status["state"], status["holders"]) != ("mounted", 1)
        assert_writing(installed, first, f"{name}/log")
        installed.sh(name, "echo second >/data/second")
        assert installed.on_remote(f"{name}/second") == "second\n"
        assert_writing(installed, first, f"{name}/log")
        machine.wait_for(lambda: is_noticed(installed, mark, name), 20, 1)
    wait_until_clean(installed, [name], CONVERGED)
    forget(installed, name)


@pytest.mark.parametrize(
    "by_hand",
    [
        pytest.param("rm -rf {run}/bare/* {run}/volumes", id="content"),
        pytest.param("umount {run}/mounts {run}/bare; rm -rf {run}", id="everything"),
    ],
)
def test_the_runtime_directory_deleted_by_hand(installed: Installed, by_hand: str) -> None:
    """While nothing is mounted: all of it is made again, and what is written reaches the remote."""
    machine = installed.machine
    name, gone = installed.name(), installed.name()
    for each in (name, gone):
        installed.create(each)
    machine.wait_for(lambda: not installed.mounted(), 30)
    Plugin(machine).mount(gone, "x")
    machine.run(["umount", "-l", f"{MOUNTS}/{gone}"])
    machine.run(by_hand.format(run=RUN))
    for each in (name, gone):
        installed.sh(each, "echo x >/data/file")
        assert installed.on_remote(f"{each}/file") == "x\n"
    wait_until_clean(installed, (name, gone), CONVERGED)
    assert "Read-only" in machine.run(f"mkdir {MOUNTS}/by-hand", check=False).stderr
    forget(installed, name, gone)


def test_a_bare_directory_cannot_be_deleted_under_its_mount(installed: Installed) -> None:
    """Deleting it would take the mount away."""
    machine = installed.machine
    name = installed.name()
    installed.create(name)
    with container(installed, name, writer("log"), "log") as first:
        assert "busy" in machine.run(f"rm -r {RUN}/bare/{name}", check=False).stderr
        assert_writing(installed, first, f"{name}/log")
    wait_until_clean(installed, [name])
    forget(installed, name)


@contextmanager
def covered(installed: Installed, name: str) -> Iterator[None]:
    """A tmpfs on top of the mountpoint, taken away by hand at the end; no container was started on it."""
    machine = installed.machine
    machine.run(["mkdir", "-p", f"{RUN}/bare/{name}"])
    machine.run(["mount", "-t", "tmpfs", "by-hand", f"{MOUNTS}/{name}"])
    try:
        yield
        assert machine.run(["findmnt", "-n", "-o", "SOURCE", f"{MOUNTS}/{name}"]).stdout.split()[-1] == "by-hand"
        assert machine.run(["test", "-e", f"{MOUNTS}/{name}/lost"], check=False).returncode == 1
    finally:
        machine.run(f"grep -q '^by-hand {MOUNTS}/{name} ' /proc/mounts && umount {MOUNTS}/{name}", check=False)


@pytest.mark.parametrize("is_running", [False, True], ids=["unused", "running"])
def test_mounted_over_by_hand(installed: Installed, is_running: bool) -> None:
    """The next start fails and names the foreign mount; without it all works again.

    A container that runs already gets the foreign mount too, from Docker, which mounts volumes as slaves of the
    host's mount; it is back on the remote as soon as that is gone.
    """
    machine = installed.machine
    name = installed.name()
    installed.create(name)
    installed.sh(name, "true")
    with ExitStack() as stack:
        first = stack.enter_context(container(installed, name, writer("log"), "log")) if is_running else None
        mark = installed.mark()
        with covered(installed, name):
            failed = installed.sh(name, "echo lost >/data/lost", check=False)
            assert failed.returncode != 0
            assert f"{MOUNTS}/{name}" in failed.stderr, failed.stderr
            assert "tmpfs" in failed.stderr or "by-hand" in failed.stderr, failed.stderr
            assert installed.inspect(name)["Status"]["state"] != "mounted"
            machine.wait_for(lambda: is_noticed(installed, mark, name), 20, 1)
        installed.sh(name, "echo x >/data/file")
        assert installed.on_remote(f"{name}/file") == "x\n"
        if first is not None:
            before = len(installed.on_remote(f"{name}/log"))
            machine.wait_for(lambda: len(installed.on_remote(f"{name}/log")) > before, 20)
            assert machine.docker("inspect", "-f", "{{.State.Running}}", first).stdout.strip() == "true"
    wait_until_clean(installed, [name], CONVERGED)
    forget(installed, name)


@pytest.mark.parametrize("how", ["file", "directory"])
def test_an_unmount_while_a_process_of_the_host_is_below(installed: Installed, how: str) -> None:
    """An open file, a working directory: the volume is unmounted all the same, and the next Mount and Unmount work."""
    machine, plugin = installed.machine, Plugin(installed.machine)
    name = installed.name("busy")
    installed.create(name)
    point = plugin.mount(name, "one")
    use = {"file": f"exec sleep 1000 >{point}/open", "directory": f"mkdir {point}/d && cd {point}/d && exec sleep 1000"}
    user = machine.popen(["sh", "-c", use[how]])
    try:
        machine.wait_for(f"ls {point} | grep -q .")
        for mount_id in ("one", "two", "three"):
            if mount_id != "one":
                assert plugin.mount(name, mount_id) == point
            assert plugin.get(name)["Status"]["holders"] == 1
            machine.run(f"echo {mount_id} >{point}/{mount_id}")
            assert installed.on_remote(f"{name}/{mount_id}") == f"{mount_id}\n"
            plugin.unmount(name, mount_id)
            assert name not in installed.mounted()
            assert plugin.get(name)["Status"]["holders"] == 0
        assert user.poll() is None
    finally:
        user.end()
    wait_until_clean(installed, [name])
    forget(installed, name)


def test_an_unmount_that_fails(installed: Installed) -> None:
    """umount itself is broken and sshfs does not end by itself: an error, and the hold stays; mended, all goes on."""
    machine, plugin = installed.machine, Plugin(installed.machine)
    name = installed.name("stuck")
    installed.create(name)
    point = plugin.mount(name, "one")
    machine.run("mount --bind /bin/false $(readlink -f $(command -v umount))")
    try:
        machine.run(f"systemctl kill --kill-who=main --signal=SIGSTOP 'legacyhost:sshfs:{name}:*'")
        with pytest.raises(Refusal, match=f"volume {name} cannot be unmounted from {point}"):
            plugin.unmount(name, "one")
        assert name in installed.mounted()
        assert plugin.get(name)["Status"]["holders"] == 1
    finally:
        machine.run("busybox umount $(readlink -f $(command -v umount))")
    assert plugin.mount(name, "two") == point
    machine.run(f"echo x >{point}/file")
    assert installed.on_remote(f"{name}/file") == "x\n"
    assert plugin.get(name)["Status"]["holders"] == 2
    plugin.unmount(name, "one")
    machine.run(f"cat {point}/file")
    plugin.unmount(name, "two")
    wait_until_clean(installed, [name])
    forget(installed, name)
