"""Asking a mount whether it answers: by a process that may hang, so that nobody else does."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from fakes import WAIT, World, until
from namespace import in_own_namespace

from legacyhost import convergence
from legacyhost.convergence import FRESH, GRACE, OFTEN, Convergence
from legacyhost.deadline import Deadline
from legacyhost.errors import Failed
from legacyhost.mounts.mountpoints import HostMountpoints
from legacyhost.mounts.processes import ProcessMounter
from legacyhost.mounts.tools import Probe
from legacyhost.status import MOUNTED, SILENT

SILENCE = "the mount of volume data does not answer"
AGAIN = "the mount of volume data answers again"
#: A FUSE server that answers nothing, not even the first request: whoever asks waits for as long as it lives. Its
#: arguments are the descriptor of /dev/fuse and the mountpoint (mount(2), fuse(4)).
HUNG = """
import ctypes, os, signal, sys
fuse = os.open("/dev/fuse", os.O_RDWR)
options = f"fd={fuse},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
if ctypes.CDLL(None, use_errno=True).mount(sys.argv[2].encode(), sys.argv[1].encode(), b"fuse", 0, options):
    sys.exit(os.strerror(ctypes.get_errno()))
print("mounted", flush=True)
while True:
    signal.pause()
"""


@contextmanager
def hung_mount(where: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A mount whose program answers nothing."""
    where.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-c", HUNG, str(where), "legacyhost:test:data:0123abcd"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"mounted\n"
        try:
            yield program
        finally:
            program.kill()


@pytest.fixture
def data(tmp_path: Path) -> World:
    """A world with the volume ``data``, mounted and held."""
    world = World(tmp_path)
    world.volumes.create("data", {})
    world.volumes.mount("data", "1")
    return world


def shown(world: World) -> object:
    return world.volumes.get("data").status["state"]


def _has(things: list[int], count: int) -> bool:
    return len(things) >= count


def is_probed(world: World) -> bool:
    """Whether no probe is under way."""
    return not [thread for thread in threading.enumerate() if thread.name == "probe data" and thread.is_alive()]


def test_what_answers_answers(tmp_path: Path) -> None:
    """A good answer, a bad one; names that look like options are names."""
    assert Probe(tmp_path).wait(WAIT) is True
    assert Probe(tmp_path / "nothing").wait(WAIT) is False
    assert Probe(Path("--help")).wait(WAIT) is False
    answered = Probe(tmp_path)
    assert [answered.wait(None), answered.wait(0), answered.wait(None)] == [True] * 3
    answered.give_up()


def test_who_cannot_ask_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no process can be started, that is a sentence, not a defect."""

    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    with pytest.raises(Failed, match=f"^it cannot be found out whether {tmp_path} answers: Resource temporarily"):
        Probe(tmp_path)


@pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="there is no /dev/fuse")
@in_own_namespace
def test_a_hung_mount_keeps_nobody_but_the_probe(tmp_path: Path) -> None:
    """No answer within the time; given up, it is not waited for; when the mount's program ends, it has a bad one."""
    with hung_mount(tmp_path / "mount") as program:
        given_up, patient = Probe(tmp_path / "mount"), Probe(tmp_path / "mount")
        assert given_up.wait(0.2) is None
        before = time.monotonic()
        given_up.give_up()
        assert time.monotonic() - before < WAIT / 2
        assert patient.wait(0.05) is None
        program.kill()
        assert patient.wait(WAIT) is False


@pytest.mark.skipif(not Path("/dev/fuse").exists(), reason="there is no /dev/fuse")
@in_own_namespace
def test_unsticking_frees_whoever_waits(tmp_path: Path) -> None:
    """In a mount whose program is stopped all wait: they get an error, and who waits is no user that keeps it."""
    points, mounter = HostMountpoints(tmp_path), ProcessMounter(tmp_path)
    points.prepare("data")
    with hung_mount(points.path("data")) as program:
        os.kill(program.pid, signal.SIGSTOP)
        (tmp_path / "volumes" / "data").mkdir(parents=True)
        start = Path(f"/proc/{program.pid}/stat").read_text().split()[21]
        (tmp_path / "volumes" / "data" / "process").write_text(f"{program.pid} {start}")
        waiting = [points.ask("data") for _ in range(3)]
        assert [question.wait(0.1) for question in waiting] == [None] * 3
        assert mounter.users() == []
        mounter.unstick("data", points.path("data"), Deadline.after(WAIT))
        assert [question.wait(WAIT) for question in waiting] == [False] * 3
        assert points.mounted() == {}


def test_a_get_has_the_mount_asked_and_waits_for_nothing(data: World) -> None:
    """The answer to a Get is what is known already, whatever the mount does; it is asked once at a time."""
    data.kernel.silent.add("data")
    assert shown(data) in (MOUNTED, SILENT)
    until(lambda: shown(data) == SILENT)
    for _ in range(5):
        data.clock.now += 10 * FRESH
        assert shown(data) == SILENT
    assert data.mountpoints.asking.taken == ["data"]
    data.kernel.silent.clear()
    until(lambda: shown(data) == MOUNTED)


def test_silence_is_told_once_and_so_is_its_end(data: World, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever reads the log the next day knows from when to when."""
    caplog.set_level(logging.INFO)
    data.kernel.silent.add("data")
    shown(data)
    until(lambda: SILENCE in caplog.messages)
    for _ in range(3):
        data.clock.now += OFTEN
        data.convergence.step()
    assert shown(data) == SILENT, "a look at mountinfo does not make it answer"
    assert data.history.of("data").state == SILENT
    data.kernel.silent.clear()
    until(lambda: is_probed(data))
    assert [message for message in caplog.messages if "answer" in message] == [SILENCE, AGAIN]
    assert data.history.of("data").state == MOUNTED


def test_an_answer_is_believed_for_a_while(data: World) -> None:
    """Whoever lists volumes every second starts no process every second."""
    for number in (1, 2, 3):
        for _ in range(5):
            shown(data)
            until(lambda: is_probed(data))
        assert data.mountpoints.asking.taken == ["data"] * number
        data.clock.now += FRESH


def test_what_is_not_mounted_is_not_asked(data: World) -> None:
    """There is nobody who could answer."""
    data.volumes.unmount("data", "1")
    shown(data)
    until(lambda: is_probed(data))
    assert data.mountpoints.asking.taken == []


def test_a_bad_answer_is_no_end_of_the_silence(data: World, caplog: pytest.LogCaptureFixture) -> None:
    """Its program was killed: what waited gets an error, and the mount does not answer for all that."""
    caplog.set_level(logging.INFO)
    data.kernel.silent.add("data")
    shown(data)
    until(lambda: SILENCE in caplog.messages)
    data.kernel.broken.add("data")
    data.kernel.silent.clear()
    until(lambda: is_probed(data))
    assert shown(data) == SILENT
    assert AGAIN not in caplog.messages


def test_a_volume_unmounted_meanwhile_is_neither_silent_nor_back(data: World, caplog: pytest.LogCaptureFixture) -> None:
    """The answer that comes then is about a mount there is not any more."""
    caplog.set_level(logging.INFO)
    data.kernel.silent.add("data")
    shown(data)
    until(lambda: SILENCE in caplog.messages)
    data.volumes.unmount("data", "1")
    data.kernel.silent.clear()
    until(lambda: is_probed(data))
    assert shown(data) == "not mounted"
    assert AGAIN not in caplog.messages


def test_a_probe_that_cannot_be_made_is_told_and_tried_again(data: World, caplog: pytest.LogCaptureFixture) -> None:
    """The Get is answered; the next one after a while has the mount asked again."""
    data.mountpoints.asking.fail(Failed("no process"))
    assert shown(data) == MOUNTED
    until(lambda: "no process" in caplog.messages)
    until(lambda: is_probed(data))
    data.clock.now += FRESH
    shown(data)
    until(lambda: len(data.mountpoints.asking.taken) == 2)


def test_a_get_is_answered_even_if_there_can_be_no_thread(
    data: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error would make Docker forget the volume."""

    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert shown(data) == MOUNTED
    assert caplog.messages == ["it cannot be found out whether volume data answers: can't start new thread"]
    data.clock.now += FRESH
    shown(data)
    until(lambda: data.mountpoints.asking.taken == ["data"])


def test_asking_and_doubting_return_at_once_whatever_happens(data: World) -> None:
    """While a step hangs in an unmount and a probe in a mount, and however many doubts nobody has looked at yet."""
    data.holds.clear("data")
    data.volumes.create("other", {})
    data.volumes.mount("other", "1")
    with ThreadPoolExecutor(1) as pool, data.mounter.unmounting.stop_at("data") as gate:
        stepping = pool.submit(data.convergence.step)
        gate.wait_until_reached()
        data.kernel.silent.add("other")
        for _ in range(100_000):  # more than fit into a pipe
            data.convergence.doubt("other")
        data.convergence.probe("other")
        data.convergence.probe("data")
        assert data.volumes.get("data").name == "data"
        assert not stepping.done()
        data.kernel.silent.clear()
        gate.open()
        stepping.result(WAIT)
    data.clock.now += OFTEN
    assert data.convergence.step() is True
    data.clock.now += GRACE
    data.convergence.step()
    data.assert_nothing_is_left()


@in_own_namespace
def test_a_change_of_what_is_mounted_is_looked_at_at_once(tmp_path: Path) -> None:
    """Between two looks nothing is done: the kernel tells when there is something to look at."""
    world = World(tmp_path)
    (tmp_path / "somewhere").mkdir()
    world.convergence.start()
    for _ in range(3):
        world.kernel.mounted.add("unknown")
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(tmp_path / "somewhere")], check=True)
        until(lambda: not world.kernel.mounted)
        world.clock.now += OFTEN


def test_the_start_has_everything_looked_at(tmp_path: Path) -> None:
    """And a doubt later, without any change of what is mounted."""
    world = World(tmp_path)
    world.kernel.mounted.add("unknown")
    world.convergence.start()
    until(lambda: not world.kernel.mounted)
    world.clock.now += OFTEN
    world.kernel.mounted.add("another")
    world.convergence.doubt("another")
    until(lambda: not world.kernel.mounted)


def test_a_defect_is_told_and_the_next_look_is_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The background never ends, whatever happens in it: first a defect, then a failure, then all is well."""
    world = World(tmp_path)
    monkeypatch.setattr(convergence, "SETTLE", 0.0)
    taken: list[int] = []
    errors: list[Exception] = [ZeroDivisionError("a defect"), Failed("systemd does not answer")]

    def step() -> bool:
        taken.append(1)
        if errors:
            raise errors.pop(0)
        return False

    monkeypatch.setattr(world.convergence, "step", step)
    world.convergence.start()
    for number in (1, 2, 3):
        until(partial(_has, taken, number))
        world.convergence.doubt("data")
    expected = ["what is held and what is mounted cannot be compared", "systemd does not answer"]
    told = [record for record in caplog.records if record.getMessage() in expected]
    assert [record.getMessage() for record in told] == expected
    assert [record.exc_info is not None for record in told] == [True, False], "a traceback only for the defect"


def test_a_failure_is_tried_again_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Soon, without anybody asking: nobody knows that users could not be looked for."""
    monkeypatch.setattr(convergence, "SETTLE", 0.0)
    monkeypatch.setattr(convergence, "OFTEN", 0.05)
    world = World(tmp_path)
    world.kernel.mounted.add("unknown")
    world.mounter.asking.fail(Failed("systemd does not answer"), Failed("systemd does not answer"))
    looking = Convergence(world.holds, world.history, world.turns, world.mounting)
    looking.start()
    until(lambda: not world.kernel.mounted)
