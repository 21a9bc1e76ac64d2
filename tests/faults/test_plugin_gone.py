"""The plugin goes at any moment: what containers do goes on, and what was acknowledged stays true."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from system.inside import Inside
from system.installed import Installed, assert_writing, writer
from system.sshd import SshServer

from .kit import CONVERGED, SERVICE, NoAnswer, Plugin, Refusal, another_host, forget, on_host, tail, wait_until_clean

ROUNDS = 200
VOLUMES = 6
KINDS = ("Create", "Mount", "Unmount", "Remove")


def processes(machine: Inside) -> list[int]:
    """Every process of the service, and what it started, by the ids of the host of the tests."""
    found: list[int] = []
    for top in ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd"):
        listed = Path(f"{machine.path(top)}/system.slice/system-legacyhost.slice/{SERVICE}/cgroup.procs")
        with suppress(FileNotFoundError, OSError):
            found += [int(pid) for pid in listed.read_text("ascii").split()]
    return sorted({pid for pid in found if pid})


def running(machine: Inside) -> list[int]:
    """The same, once there is one: the one that ended just now may have answered last."""
    for _ in range(300):
        if found := processes(machine):
            return found
        time.sleep(0.1)
    raise AssertionError(f"{SERVICE} has no process")


def kill_all(machine: Inside) -> None:
    """As fast as can be, and what was being started in between too."""
    for _ in range(2):
        for pid in processes(machine):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_no_write_fails_through_every_way_the_plugin_can_end(installed: Installed) -> None:
    """Two containers write to one volume, one to another, through all of it; then state and holds are right."""
    machine, plugin = installed.machine, Plugin(installed.machine)
    shared, other, idle = (installed.name() for _ in range(3))
    for name in (shared, other, idle):
        installed.create(name)
    known = plugin.names()
    shown = [plugin.get(name) for name in (shared, other, idle)]
    containers = {
        installed.name("writer"): (volume, log) for volume, log in ((shared, "a"), (shared, "b"), (other, "c"))
    }
    for container, (volume, log) in containers.items():
        installed.start(container, volume, writer(log), "--stop-timeout", "1")
        machine.wait_for(["test", "-s", f"{installed.remote.home}/{volume}/{log}"])
    units = installed.mount_units()
    ways: list[Callable[[], object]] = [
        lambda: machine.run(f"systemctl restart {SERVICE}"),
        lambda: machine.run("apt-get install -q -y --reinstall /root/legacyhost.deb", timeout=120),
        lambda: machine.run(f"systemctl stop {SERVICE}"),
        lambda: os.kill(min(running(machine)), signal.SIGKILL),
        lambda: os.kill(max(running(machine)), signal.SIGKILL),
        lambda: kill_all(machine),
    ]
    for way in ways:
        plugin.ready()
        way()
    plugin.ready()
    for container, (volume, log) in containers.items():
        assert_writing(installed, container, f"{volume}/{log}")
    assert plugin.names() == known
    for before in shown:
        now = plugin.get(before["Name"])
        assert {key: now[key] for key in ("Name", "CreatedAt")} == {key: before[key] for key in ("Name", "CreatedAt")}
        assert now["Status"]["remote"] == before["Status"]["remote"]
    assert [installed.holders(name) for name in (shared, other, idle)] == [2, 1, 0]
    assert installed.mounted() & {shared, other, idle} == {shared, other}
    assert installed.mount_units() == units
    first, *rest = containers
    machine.docker("rm", "-f", first)
    assert shared in installed.mounted()
    assert_writing(installed, rest[0], f"{shared}/b")
    machine.docker("rm", "-f", *rest)
    wait_until_clean(installed, (shared, other, idle))
    forget(installed, shared, other, idle)


@dataclass
class Known:
    """What a caller of the plugin knows about one volume."""

    exists: bool = False
    held: set[str] = field(default_factory=set)
    #: IDs whose Mount or Unmount was cut off.
    unsure: set[str] = field(default_factory=set)

    def fits(self, kind: str) -> bool:
        """Whether that call can be made on it now."""
        return not self.exists if kind == "Create" else bool(self.held) if kind == "Unmount" else self.exists


class Storm:
    """Calls on a few volumes, and the plugin killed at some moment of each."""

    def __init__(self, installed: Installed, server: SshServer, seed: str) -> None:
        self.random = random.Random(seed)
        self.machine = installed.machine
        self.plugin = Plugin(installed.machine)
        self.options = {
            name: installed.options(name, **on_host(server, uid=str(1000 + number)))
            for number, name in enumerate(installed.name("storm") for _ in range(VOLUMES))
        }
        self.known = {name: Known() for name in self.options}
        self.serial = 0
        self.history: list[str] = []
        self.outcomes: dict[tuple[str, bool], int] = {}

    def choose(self) -> tuple[str, str, str]:
        """An operation, each kind as often, on a volume and with a mount ID that fit it; made to fit if none does."""
        kind = self.random.choice(KINDS)
        fitting = [name for name, volume in sorted(self.known.items()) if volume.fits(kind)]
        name = self.random.choice(fitting or sorted(self.known))
        while not fitting and not self.known[name].fits(kind):
            self.prepare(kind, name)
        self.serial += 1
        held = sorted(self.known[name].held)
        return kind, name, self.random.choice(held) if kind == "Unmount" else f"id-{self.serial}"

    def prepare(self, kind: str, name: str) -> None:
        """One step, left alone, towards a volume that fits this kind of call."""
        step = "Remove" if kind == "Create" else "Mount" if self.known[name].exists else "Create"
        self.serial += 1
        self.history.append(f"{step} {name} id-{self.serial}")
        self.plugin.ready()
        assert self.call(step, name, f"id-{self.serial}")
        self.learn(step, name, f"id-{self.serial}", True)

    def call(self, kind: str, name: str, mount_id: str) -> bool:
        """Make the call. Whether it was acknowledged; raises Refusal, which no call here may meet."""
        arguments = {"Opts": self.options[name]} if kind == "Create" else {"ID": mount_id} if mount_id else {}
        try:
            self.plugin.call(kind, Name=name, **arguments)
        except NoAnswer:
            return False
        return True

    def durations(self) -> dict[tuple[str, bool], float]:
        """How long each kind of call takes a new process, left alone, and where it mounts or unmounts."""
        name = min(self.known)
        steps = [
            *(("Create", False, "-"), ("Mount", True, "one"), ("Mount", False, "two"), ("Unmount", False, "two")),
            *(("Unmount", True, "one"), ("Remove", False, "-"), ("Create", False, "-"), ("Mount", True, "one")),
            ("Remove", True, "-"),
        ]
        found = {}
        for kind, is_long, mount_id in steps:
            kill_all(self.machine)
            self.plugin.ready()
            begin = time.monotonic()
            assert self.call(kind, name, mount_id)
            found[kind, is_long] = time.monotonic() - begin
        return found

    def is_long(self, kind: str, name: str) -> bool:
        """Whether the call has to mount or unmount, as far as the caller knows."""
        users = len(self.known[name].held | self.known[name].unsure)
        return users == {"Mount": 0, "Unmount": 1}.get(kind, users) and (kind != "Remove" or users > 0)

    def round(self, durations: dict[tuple[str, bool], float]) -> None:
        """One call and one kill; what is seen afterwards is what the caller was told."""
        kind, name, mount_id = self.choose()
        delay = self.random.uniform(0, durations[kind, kind != "Create" and self.is_long(kind, name)])
        self.history.append(f"{kind} {name} {mount_id}, killed after {delay * 1000:.0f} ms")
        self.plugin.ready()
        killer = threading.Timer(delay, kill_all, [self.machine])
        killer.start()
        is_acknowledged = self.call(kind, name, mount_id)
        killer.join()
        self.outcomes[kind, is_acknowledged] = self.outcomes.get((kind, is_acknowledged), 0) + 1
        self.history[-1] += f": {'acknowledged' if is_acknowledged else 'cut off'}"
        self.learn(kind, name, mount_id, is_acknowledged)

    def learn(self, kind: str, name: str, mount_id: str, is_acknowledged: bool) -> None:
        volume = self.known[name]
        exists = self.plugin.exists(name)
        if is_acknowledged or kind not in ("Create", "Remove"):
            assert exists == (kind != "Remove"), f"acknowledged, and not so: {self.history[-8:]}"
        if not exists or kind == "Create":
            self.known[name] = Known(exists)
            return
        if kind == "Remove":  # cut off: a part of it may be done
            volume.unsure |= volume.held
            volume.held.clear()
        elif not is_acknowledged:
            volume.held.discard(mount_id)
            volume.unsure.add(mount_id)
        elif kind == "Mount":
            volume.held.add(mount_id)
        else:
            volume.held.discard(mount_id)
        status = self.plugin.get(name)["Status"]
        most = len(volume.held) + len(volume.unsure)
        assert len(volume.held) <= status["holders"] <= most, (status, volume, self.history[-8:])
        if volume.held:
            assert status["state"] == "mounted", (status, self.history[-8:])


def test_the_plugin_is_killed_at_two_hundred_moments(installed: Installed, seed: str) -> None:
    """SIGKILL in the middle of Create, Mount, Unmount and Remove: what was acknowledged is so, nothing is half made."""
    machine, plugin = installed.machine, Plugin(installed.machine)
    before = plugin.names()
    server = another_host(installed, 2240)
    storm = Storm(installed, server, seed)
    durations = storm.durations()
    try:
        for _ in range(ROUNDS):
            storm.round(durations)
    except (AssertionError, Refusal) as error:
        raise AssertionError(f"{error}\n{storm.history[-8:]}\n{tail(installed)}") from error
    print(storm.outcomes, durations)
    assert {is_acknowledged for _, is_acknowledged in storm.outcomes} == {True, False}, "moments within the calls"
    plugin.ready()
    existing = {name for name, volume in storm.known.items() if volume.exists}
    assert plugin.names() == before | existing
    machine.docker("volume", "inspect", *sorted(existing or before))
    for name, volume in storm.known.items():
        # Created again: with the same options that is no error, with any other it is. So what is recorded is whole.
        plugin.call("Create", Name=name, Opts=storm.options[name])
        point = plugin.mount(name, "last")
        machine.run(["touch", f"{point}/{name}"])
        assert installed.on_remote(f"{name}/{name}") == ""
        for mount_id in (*volume.held, "last"):
            plugin.unmount(name, mount_id)
    wait_until_clean(installed, storm.known, CONVERGED)
    for name in storm.known:
        plugin.remove(name)
    assert plugin.names() == before


@pytest.mark.parametrize("verb", ["stop", "kill --signal=SIGKILL"])
def test_a_call_in_flight_while_the_plugin_goes_has_one_outcome(installed: Installed, verb: str) -> None:
    """Eight containers start while the plugin is stopped or killed: each runs on its volume or says why not."""
    machine = installed.machine
    names = [installed.name() for _ in range(8)]
    for name in names:
        installed.create(name)
    words = ["docker", "run", "--rm", "--network", "none", "-v"]
    running = [machine.popen([*words, f"{name}:/data", "busybox", "touch", "/data/file"]) for name in names]
    machine.run(f"sleep 0.5; systemctl {verb} {SERVICE}", check=False)
    for name, process in zip(names, running, strict=True):
        _, text = process.communicate(timeout=60)
        if process.returncode == 0:
            assert installed.on_remote(f"{name}/file") == ""
        else:
            assert "VolumeDriver.Mount" in text or "EOF" in text, text
        installed.sh(name, "echo again >/data/again")
        assert installed.on_remote(f"{name}/again") == "again\n"
    assert set(names) <= Plugin(machine).names()
    forget(installed, *names)
