"""Mounts as units of systemd: what PID 1 is asked for, by stand-ins for it and its commands that really mount."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from fakemanager import Asked, FakeManager, listening
from fakes import WAIT
from namespace import in_own_namespace

from legacyhost.deadline import Deadline
from legacyhost.drivers.sshfs import TRANSPORT
from legacyhost.errors import Failed
from legacyhost.mounts import PROGRAM, SOURCE, Companion, MountCommand, MountFailed, mountinfo
from legacyhost.mounts.manager import Manager
from legacyhost.mounts.tools import SCRIPT
from legacyhost.mounts.units import PATIENCE, PROMPT, UnitMounter, is_systemd_running

LONG = "v" * 255
COMMAND = MountCommand(
    ["sshfs", "-f", f"-ofsname={SOURCE}", "anna@nas:/sp ace/$HOME/%d", "{mountpoint}"],
    "Volume data (anna@nas)",
    {"SSH_ASKPASS": "/a b", "RECORD": f"/run/{SOURCE}.txt"},
)
#: Runs what comes behind the options.
SYSTEMD_RUN = 'while [ "${1#--}" != "$1" ]; do shift; done; exec "$@"'
#: Kills what stands in the file "mounted"; with a file "stubborn" only by SIGKILL, with "hopeless" not at all. The unit
#: is active and has a main process unless there is a file "inactive".
SYSTEMCTL = """
[ "$1" = is-active ] && { [ ! -e "$here/inactive" ]; exit; }
[ "$1" = show ] && { if [ -e "$here/inactive" ]; then echo 0; else echo 4711; fi; exit; }
[ -e "$here/hopeless" ] && exit 0
case "$*" in *SIGTERM*) [ -e "$here/stubborn" ] && exit 0 ;; esac
umount "$(cat "$here/mounted")" 2>/dev/null
"""
JOURNALCTL = '[ -e "$here/cannot-start" ] && echo "fuse: device not found"; exit 0'


@dataclass
class Systemd:
    """Stand-ins for systemd's commands in front of everything on the PATH; ``here`` tells them how to behave."""

    here: Path
    runtime: Path
    mountpoint: Path
    manager: FakeManager
    address: str
    until_the_end: ExitStack

    @classmethod
    def boot(cls, directory: Path) -> Systemd:
        here, mountpoint = directory / "here", directory / "mounts" / "data"
        here.mkdir()
        # Tests of this file end as the processes they are.
        manager = FakeManager(lambda asked: _start(here, asked))
        until_the_end = ExitStack()
        address = until_the_end.enter_context(listening(manager))
        mountpoint.mkdir(parents=True)
        (here / "mounted").write_text(str(mountpoint))
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/usr/sbin"], check=True)
        for name, text in (("systemd-run", SYSTEMD_RUN), ("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL)):
            program = Path("/usr/sbin", name)
            record = f'here={shlex.quote(str(here))}\nprintf "%s\\0" "${{0##*/}}" "$@" ";" >>"$here/calls"\n'
            program.write_text(f"#!/bin/sh\n{record}{text}")
            program.chmod(0o755)
        return cls(here, directory, mountpoint, manager, address, until_the_end)

    def mounter(self) -> UnitMounter:
        return UnitMounter("sshfs", self.runtime, Manager(self.address))

    def calls(self) -> list[list[str]]:
        """What was run since the last time this was asked, each with its arguments."""
        file = self.here / "calls"
        text = file.read_text() if file.exists() else ""
        file.unlink(missing_ok=True)
        return [call.strip("\0").split("\0") for call in text.split("\0;\0") if call]

    def is_mounted(self) -> bool:
        return any(mount.mountpoint == str(self.mountpoint) for mount in mountinfo.read())

    def mount(self, mounter: UnitMounter, seconds: float = 30.0) -> None:
        argv = [str(self.mountpoint) if word == "{mountpoint}" else word for word in COMMAND.argv]
        command = MountCommand(argv, COMMAND.description, COMMAND.environment)
        mounter.mount("data", self.mountpoint, command, Deadline.after(seconds))


def _start(here: Path, asked: Asked) -> None:
    """Mounts on the last argument, with the unit's name as source."""
    asked.reply()
    if (here / "cannot-start").exists():
        asked.end("failed")
        return
    _mount(asked)
    asked.end("done")


def _mount(asked: Asked) -> None:
    subprocess.run(["mount", "-t", "tmpfs", asked.unit.name.removesuffix(".service"), asked.unit.argv[-1]], check=True)


@pytest.mark.parametrize("name", ["data", "a.b-c_d", "0", LONG, LONG[:238], LONG[:200]], ids=len)
def test_the_units_of_a_volume_have_a_name_systemd_takes(name: str) -> None:
    """At most 255 characters with a serial, all of them allowed in a unit's name (systemd.unit(5))."""
    unit = UnitMounter("sshfs", Path("/run")).pattern(name).replace("?" * 8, "0123abcd")
    assert unit.endswith(":0123abcd.service")
    assert len(unit) <= 255
    assert re.fullmatch(r"[A-Za-z0-9:_.-]+", unit)


def test_a_pattern_matches_the_units_of_no_other_volume() -> None:
    """Names that begin alike, that are cut off, that look like a cut-off one: each matches itself alone."""
    mounters = [UnitMounter(plugin, Path("/run")) for plugin in ("sshfs", "ssh", "sshfs2")]
    beginnings = [LONG[:length] for length in range(200, 256)]
    names = ["data", "data2", "dat", "a", LONG[:-1] + "w", "v" * 254 + "-", *beginnings]
    patterns = [mounter.pattern(name) for mounter in mounters for name in names]
    assert len(set(patterns)) == len(patterns)
    for pattern in patterns:
        unit = pattern.replace("?" * 8, "0123abcd")
        assert [other for other in patterns if fnmatchcase(unit, other)] == [pattern]


@in_own_namespace
def test_systemd_is_there_where_it_is_the_first_process() -> None:
    """As sd_booted(3) has it: by a directory, whatever commands are installed."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    assert is_systemd_running() is False
    Path("/run/systemd/system").mkdir(parents=True)
    assert is_systemd_running() is True


def test_where_to_look_is_a_command_for_a_shell() -> None:
    """Quoted, so that it can be pasted: no shell expands the pattern."""
    words = shlex.split(UnitMounter("sshfs", Path("/run")).where_to_look("data"))
    assert words[:2] == ["journalctl", "-u"]
    assert fnmatchcase("legacyhost:sshfs:data:0123abcd.service", words[2])


@in_own_namespace
def test_a_mount_is_a_unit_of_its_own(tmp_path: Path) -> None:
    """Its name, its place in the order of boot and shutdown, its two steps around the program, its sandbox."""
    systemd = Systemd.boot(tmp_path)
    mounter = systemd.mounter()
    systemd.mount(mounter)
    (unit,) = systemd.manager.units
    assert fnmatchcase(unit.name, mounter.pattern("data"))
    source = unit.name.removesuffix(".service")
    *given, until = unit.value("Environment")
    assert given == ["SSH_ASKPASS=/a b", f"RECORD=/run/{source}.txt"]
    name, _, moment = until.partition("=")
    assert name == "LEGACYHOST_UNTIL", "later than this it must not mount"
    assert 25 < float(moment) - time.monotonic() <= 30
    ((path, *_),) = unit.value("ExecStart")
    assert path == "/usr/bin/sshfs"
    assert unit.argv == ["sshfs", "-f", f"-ofsname={source}", "anna@nas:/sp ace/$$HOME/%d", str(systemd.mountpoint)]
    assert [name for name, values in unit.properties.items() if len(values) > 1] == ["SystemCallFilter"]
    assert unit.value("Description") == "Volume data (anna@nas)"
    assert unit.value("Before") == unit.value("Wants") == ["legacyhost.target"]
    assert unit.value("After") == ["network.target"], "a mount that waits is made when nobody wants it any more"
    assert "docker" not in str(unit.properties)
    assert unit.step("ExecStartPre")[1:] == [str(SCRIPT), "prepare", str(systemd.runtime)]
    assert unit.step("ExecStopPost")[1:] == [str(SCRIPT), "release", str(systemd.mountpoint), source]
    assert "ExecStartPost" not in unit.properties
    assert (unit.value("Type"), unit.value("NotifyAccess")) == ("notify", "main")
    assert 25_000_000 < unit.value("TimeoutStartUSec") <= 30_000_000
    assert unit.value("NoNewPrivileges") is True
    assert unit.value("CapabilityBoundingSet") == 1 << 21
    assert unit.value("CollectMode") == "inactive-or-failed"
    assert {"KillMode", "RestrictAddressFamilies"} <= unit.properties.keys()
    assert "PrivateMounts" not in unit.properties, "the mount would not be seen outside"


@in_own_namespace
def test_a_companion_is_a_unit_that_nobody_waits_for(tmp_path: Path) -> None:
    """Under a name no mount has, with fewer rights than a mount; its package is a copy, its folder goes with it."""
    systemd = Systemd.boot(tmp_path)
    folder = tmp_path / "shared" / "0123abcd"
    folder.mkdir(parents=True)
    gone = threading.Event()
    words = ["/usr/bin/python3", PROGRAM, "--shared", str(folder), "$HOME"]
    companion = Companion(folder, words, "Connection", {"SSH_ASKPASS": "/a b"}, TRANSPORT, gone.set)
    systemd.manager.answer = Asked.reply
    systemd.mounter().accompany(companion)
    assert systemd.manager.is_alone.wait(WAIT)
    (unit,) = systemd.manager.units
    assert unit.name == "legacyhost-shared:sshfs:0123abcd.service"
    assert unit.value("Environment") == ["SSH_ASKPASS=/a b"]
    assert unit.argv[2:] == ["--shared", str(folder), "$$HOME"]
    program = Path(unit.argv[1])
    assert (program.name, program.parents[1]) == ("__main__.py", systemd.runtime)
    assert program.is_file()
    assert unit.value("CapabilityBoundingSet") == 0
    assert unit.value("NoNewPrivileges") is True
    assert unit.properties["SystemCallFilter"][0] == (True, ["@system-service"])
    assert not [name for name, values in unit.properties.items() if "@mount" in str(values) or "/dev" in str(values)]
    assert unit.step("ExecStopPost")[1:] == [str(SCRIPT), "discard", str(folder)]
    assert not gone.is_set()


@in_own_namespace
def test_a_companion_that_cannot_be_started_leaves_no_folder(tmp_path: Path) -> None:
    """Mounts that look for it do without at once then."""
    systemd = Systemd.boot(tmp_path)
    systemd.manager.answer = lambda asked: asked.refuse("no")
    gone = threading.Event()
    companion = Companion(tmp_path, ["/usr/bin/python3", PROGRAM], "Connection", {}, TRANSPORT, gone.set)
    systemd.mounter().accompany(companion)
    assert gone.wait(WAIT)


@in_own_namespace
def test_what_is_prepared_is_not_prepared_again(tmp_path: Path) -> None:
    """Each step of a unit is a process somebody waits for."""
    systemd = Systemd.boot(tmp_path)
    subprocess.run(["mount", "--bind", str(tmp_path / "mounts"), str(tmp_path / "mounts")], check=True)
    systemd.mount(systemd.mounter())
    assert "ExecStartPre" not in systemd.manager.units[0].properties


@in_own_namespace
def test_each_mount_has_a_unit_name_of_its_own(tmp_path: Path) -> None:
    """The unit of the mount before may still be ending: its name is not used again."""
    systemd = Systemd.boot(tmp_path)
    mounter = systemd.mounter()
    for _ in range(2):
        systemd.mount(mounter)
        mounter.unmount("data", systemd.mountpoint, Deadline.after(30))
    assert len({unit.name for unit in systemd.manager.units}) == 2


@in_own_namespace
def test_a_unit_that_does_not_start_is_told_with_its_programs_last_words(tmp_path: Path) -> None:
    """What the program said explains more than that a job failed; it is looked for under that very unit."""
    systemd = Systemd.boot(tmp_path)
    (systemd.here / "cannot-start").touch()
    with pytest.raises(MountFailed) as caught:
        systemd.mount(systemd.mounter())
    assert caught.value.detail == "fuse: device not found"
    stop, kill, look = systemd.calls()
    assert (stop[:2], kill[:2]) == (["systemctl", "stop"], ["systemctl", "kill"]), "it must not mount later"
    (unit,) = systemd.manager.units
    assert look[0] == "journalctl"
    assert f"_SYSTEMD_UNIT={unit.name}" in look
    Path("/usr/sbin/journalctl").write_text("#!/bin/sh\n")
    with pytest.raises(MountFailed, match=r"^systemd says: failed$"):
        systemd.mount(systemd.mounter())


@pytest.mark.parametrize("states", ["active", "\nactivating\nactive", "inactive", "activating\nfailed"])
@in_own_namespace
def test_that_systemd_is_executed_anew_does_not_matter(tmp_path: Path, states: str) -> None:
    """Its jobs go on, its connections end: the unit is looked for, and asked for again if it is not there."""
    systemd = Systemd.boot(tmp_path)
    (tmp_path / "states").write_text(f"{states}\nleft over\n")
    script = f'read -r state <{tmp_path}/states; sed -i 1d {tmp_path}/states; [ "$1" = is-active ] && echo "$state"'
    Path("/usr/sbin/systemctl").write_text(f"#!/bin/sh\n{script}\n")
    is_there = states.split("\n")[-1] == "active"

    def anew(asked: Asked) -> None:
        systemd.manager.answer = lambda asked: _start(systemd.here, asked)
        if is_there:
            _mount(asked)
        asked.connection.shutdown(socket.SHUT_RDWR)

    systemd.manager.answer = anew
    systemd.mount(systemd.mounter())
    assert systemd.is_mounted()
    assert (tmp_path / "states").read_text() == "left over\n"
    names = [unit.name for unit in systemd.manager.units]
    assert (len(names), len(set(names))) == (1 if is_there else 2, 1)


@in_own_namespace
def test_a_program_that_is_missing_is_named(tmp_path: Path) -> None:
    """With the package that brings it; nothing is asked of systemd."""
    systemd = Systemd.boot(tmp_path)
    command = MountCommand(["no-such-program", str(systemd.mountpoint)], "a test")
    with pytest.raises(MountFailed, match=r"^no-such-program is not installed on this host: apt install no-such-prog"):
        systemd.mounter().mount("data", systemd.mountpoint, command, Deadline.after(30))
    assert systemd.manager.units == []


@in_own_namespace
def test_a_mount_that_is_there_counts_when_its_unit_does(tmp_path: Path) -> None:
    """An activating unit is waited for, an active one is content, a dead one's mount is taken away."""
    systemd = Systemd.boot(tmp_path)
    mounter = systemd.mounter()
    systemd.mount(mounter)
    states = systemd.here / "states"
    Path("/usr/sbin/systemctl").write_text(
        f'#!/bin/sh\nread -r state <{states}\nsed -i 1d {states}\n[ "$1" = is-active ] && echo "$state"\n'
    )
    states.write_text("activating\nactivating\nactive\nleft over\n")
    mounter.settle("data", systemd.mountpoint, Deadline.after(30))
    assert states.read_text() == "left over\n"
    states.write_text("activating\n" * 1000)
    with pytest.raises(Failed, match="still being mounted"):
        mounter.settle("data", systemd.mountpoint, Deadline.after(0.2))
    assert systemd.is_mounted()
    # systemd is being executed anew, and systemctl gets no answer: that is no reason to take anything away.
    states.write_text("\n\n\nactive\n")
    mounter.settle("data", systemd.mountpoint, Deadline.after(30))
    assert systemd.is_mounted()
    states.write_text("failed\n" * 10)
    mounter.settle("data", systemd.mountpoint, Deadline.after(30))
    assert not systemd.is_mounted()


@in_own_namespace
def test_unmounting_is_a_signal_to_the_main_process(tmp_path: Path) -> None:
    """No job, which would wait for docker's own stop job; sshfs unmounts on SIGTERM."""
    systemd = Systemd.boot(tmp_path)
    mounter = systemd.mounter()
    systemd.mount(mounter)
    systemd.calls()
    mounter.unmount("data", systemd.mountpoint, Deadline.after(30))
    assert not systemd.is_mounted()
    assert systemd.calls() == [["systemctl", "kill", "--kill-who=main", "--signal=SIGTERM", mounter.pattern("data")]]


@in_own_namespace
def test_what_does_not_end_is_killed(tmp_path: Path) -> None:
    """A program that ignores SIGTERM gets SIGKILL, with all that belongs to it."""
    systemd = Systemd.boot(tmp_path)
    (systemd.here / "stubborn").touch()
    mounter = systemd.mounter()
    systemd.mount(mounter)
    systemd.calls()
    mounter.unmount("data", systemd.mountpoint, Deadline.after(0.1))
    assert not systemd.is_mounted()
    assert [call[2:4] for call in systemd.calls()][-1] == ["--kill-who=all", "--signal=SIGKILL"]


@in_own_namespace
def test_what_is_still_at_work_gets_its_time(tmp_path: Path) -> None:
    """A program that has not ended promptly may be writing what was not sent yet: it is not killed for that."""
    systemd = Systemd.boot(tmp_path)
    (systemd.here / "stubborn").touch()
    mounter = systemd.mounter()
    systemd.mount(mounter)
    slow = f"sleep {2 * PROMPT}; umount {systemd.mountpoint}"
    with subprocess.Popen(["sh", "-c", slow], stdout=subprocess.DEVNULL):
        mounter.unmount("data", systemd.mountpoint, Deadline.after(30))
    assert not systemd.is_mounted()
    assert not [call for call in systemd.calls() if "--signal=SIGKILL" in call]


@in_own_namespace
def test_a_mount_without_a_program_is_detached_promptly(tmp_path: Path) -> None:
    """There is nobody who could end: PATIENCE is for those who can."""
    systemd = Systemd.boot(tmp_path)
    for name in ("inactive", "hopeless"):
        (systemd.here / name).touch()
    mounter = systemd.mounter()
    systemd.mount(mounter)
    before = time.monotonic()
    mounter.unmount("data", systemd.mountpoint, Deadline.after(60))
    assert time.monotonic() - before < PATIENCE
    assert not systemd.is_mounted()
    detach = [call for call in systemd.calls() if call[-4:] == ["umount", "--lazy", "--", str(systemd.mountpoint)]]
    assert len(detach) == 1


@in_own_namespace
def test_unsticking_kills_first_and_detaches_then(tmp_path: Path) -> None:
    """No signal that could be ignored, no waiting: everything of the volume's units, then the mount."""
    systemd = Systemd.boot(tmp_path)
    (systemd.here / "hopeless").touch()
    mounter = systemd.mounter()
    systemd.mount(mounter)
    systemd.calls()
    mounter.unstick("data", systemd.mountpoint, Deadline.after(30))
    assert not systemd.is_mounted()
    kill, detach = systemd.calls()
    assert kill == ["systemctl", "kill", "--kill-who=all", "--signal=SIGKILL", mounter.pattern("data")]
    assert detach[-4:] == ["umount", "--lazy", "--", str(systemd.mountpoint)]
    mounter.unstick("data", systemd.mountpoint, Deadline.after(30))
    assert [call[1] for call in systemd.calls()] == ["kill"], "where nothing is mounted, containers may still have it"


@pytest.mark.parametrize("name", ["data", "a.b-c_d", "0", LONG, LONG[:238]], ids=len)
def test_a_source_is_that_of_one_volume(name: str) -> None:
    """By the source of a mount it is known whose it is: not by one that only begins alike, nor by a foreign one."""
    mounter = UnitMounter("sshfs", Path("/run"))
    source = mounter.pattern(name).removesuffix(".service").replace("?" * 8, "0123abcd")
    assert mounter.is_ours(name, source)
    assert not UnitMounter("ssh", Path("/run")).is_ours(name, source)
    others = [f"{name}x"[-255:], name[:-1] + "-", "data2", "dat", LONG[:-1], LONG[:237], LONG[:-1] + "w"]
    assert not [other for other in others if other != name and mounter.is_ours(other, source)]
    for foreign in ("", "tmpfs", "by hand", source + "0", source[:-1], f"{source}:0123abcd", source + ".service", name):
        assert not mounter.is_ours(name, foreign)


@in_own_namespace
def test_a_mount_no_unit_holds_is_detached(tmp_path: Path) -> None:
    """Made by hand, or its unit is lost: it is detached where PID 1 sees it; if that fails too, it is told."""
    systemd = Systemd.boot(tmp_path)
    (systemd.here / "hopeless").touch()
    mounter = systemd.mounter()
    systemd.mount(mounter)
    systemd.calls()
    mounter.unmount("data", systemd.mountpoint, Deadline.after(0.1))
    assert not systemd.is_mounted()
    assert systemd.calls()[-1][-4:] == ["umount", "--lazy", "--", str(systemd.mountpoint)]
    systemd.mount(mounter)
    Path("/usr/sbin/systemd-run").write_text("#!/bin/sh\necho Access denied >&2; exit 1")
    with pytest.raises(Failed, match=r"^volume data cannot be unmounted from .*: Access denied; see journalctl"):
        mounter.unmount("data", systemd.mountpoint, Deadline.after(0.1))


@in_own_namespace
def test_users_are_looked_for_by_pid_1(tmp_path: Path) -> None:
    """The service itself may be kept from seeing other processes: PID 1 runs the search."""
    systemd = Systemd.boot(tmp_path)
    mounter = systemd.mounter()
    assert mounter.users() == []
    systemd.mount(mounter)
    assert mounter.users() == []
    elsewhere = tmp_path / "container"
    elsewhere.mkdir()
    script = 'mount --bind "$1" "$2" && echo ready && exec sleep 60'
    with subprocess.Popen(
        ["unshare", "--mount", "sh", "-c", script, "sh", str(systemd.mountpoint), str(elsewhere)],
        stdout=subprocess.PIPE,
    ) as container:
        assert container.stdout is not None
        assert container.stdout.readline() == b"ready\n"
        (user,) = mounter.users()
        assert user.process == container.pid
        assert mounter.is_ours("data", user.source)
        container.kill()


@in_own_namespace
def test_when_users_cannot_be_looked_for_nobody_is_said_to_be_there(tmp_path: Path) -> None:
    """Where the search fails, it is not known whether a container sees the mount: an error, never "nobody"."""
    systemd = Systemd.boot(tmp_path)
    mounter = systemd.mounter()
    systemd.mount(mounter)
    Path("/usr/sbin/systemd-run").write_text("#!/bin/sh\necho Access denied >&2; exit 1")
    with pytest.raises(Failed, match="Access denied"):
        mounter.users()
    Path("/usr/sbin/systemd-run").write_text("#!/bin/sh\nprintf '\\0/proc/1/cwd:/run'")
    with pytest.raises(Failed, match="cut off"):
        mounter.users()
