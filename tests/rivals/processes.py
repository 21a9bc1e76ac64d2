"""Faults of this host: the plugin, dockerd, the mount's process, the power, a stop, a hand on the mount."""

from __future__ import annotations

import time

from .cases import both, case
from .subject import CONTENT, FILE, Subject
from .workload import WRITE, uptime

#: Seconds for which a workload is watched after a fault, and in which a container has to come back.
WATCHED, RETURN = 20.0, 90.0


def _writer_meets(subject: Subject, fault: list[str]) -> str:
    subject.create("data")
    subject.work("writer", "data", WRITE)
    began = uptime()
    said = subject.attempt(fault)
    listed = subject.docker("volume", "ls")  # what starts a plugin that is started by its socket
    time.sleep(WATCHED)
    result = subject.log("writer").fate(began)
    slow = [
        f"{what} {each}"
        for what, each in (("the command gives", said), ("docker volume ls gives", listed))
        if not each.ok
    ]
    return "; ".join([result, *slow])


@case(1)
def restarted(subject: Subject) -> str:
    """plugin restarted while a container writes"""
    return _writer_meets(subject, ["systemctl", "restart", subject.service])


@case(2)
def killed(subject: Subject) -> str:
    """plugin killed (SIGKILL) while a container writes"""
    return _writer_meets(subject, ["systemctl", "kill", "--signal=SIGKILL", subject.service])


def _state(subject: Subject, container: str) -> tuple[str, str]:
    """When docker started the container, and its state for the table."""
    words = ["inspect", "-f", "{{.State.StartedAt}} {{.State.Status}} ({{.State.ExitCode}})", container]
    shown = subject.docker(*words, timeout=20)
    started, _, state = shown.out.strip().partition(" ")
    return started, state or f"docker inspect: {shown}"


def _comes_back(subject: Subject, container: str, before: str, began: float) -> str:
    """Whether a container that docker had started at `before` is started again and writes, and if not why."""
    deadline, state = time.monotonic() + RETURN, ""
    while time.monotonic() < deadline:
        started, state = _state(subject, container)
        looked = uptime()  # the answer waits for docker, which its socket unit starts
        if started not in ("", before) and state.startswith("running"):
            subject.machine.run("sleep 1")
            if [each for each in subject.log(container).ended(looked) if each.said == "ok"]:
                read = subject.docker("exec", container, "cat", f"/data/{FILE}")
                where = "" if read.out == f"{CONTENT}\n" else f", but without the remote files: {read}"
                return f"runs again after {looked - began:.0f} s{where}"
        time.sleep(0.5)
    if not subject.docker("info", timeout=20).ok:
        return f"docker does not answer {RETURN:.0f} s later"
    if state.startswith("running"):
        return f"runs after {RETURN:.0f} s, but: {subject.log(container).fate(began)}"
    return f"{state} after {RETURN:.0f} s; docker start: {subject.docker('start', container)}"


def _always(subject: Subject) -> str:
    """Three volumes, one in use by a container with --restart=always that writes; when docker started that."""
    for name in ("data", "second", "third"):
        subject.create(name)
    subject.work("always", "data", WRITE, "--restart=always")
    return _state(subject, "always")[0]


@case(3)
def dockerd_killed(subject: Subject) -> str:
    """dockerd killed (SIGKILL) and started again, container with `--restart=always`"""
    before, began = _always(subject), uptime()
    subject.machine.run(["systemctl", "kill", "--signal=SIGKILL", "docker.service"])
    return _comes_back(subject, "always", before, began)


@case(4)
def power_loss(subject: Subject) -> str:
    """power loss and boot, container with `--restart=always`"""
    before = _always(subject)
    subject.machine.power_loss()
    began, late = uptime(), ""
    try:
        subject.machine.boot(timeout=RETURN)
    except AssertionError:
        jobs = subject.attempt(["systemctl", "list-jobs", "--no-legend"], 20).out
        waiting = [line.split()[1] for line in jobs.splitlines() if line.endswith("running")]
        late = f"boot not finished after {RETURN:.0f} s (waits for {', '.join(waiting)}); "
    back = _comes_back(subject, "always", before, began)
    known = subject.known(["data", "second", "third"])
    return f"{late}{back}; {known} of 3 volumes known"


@case(17)
def mount_killed(subject: Subject) -> str:
    """the process that serves the mount killed (SIGKILL); the next start of a container"""
    subject.create("data")
    subject.work("writer", "data", WRITE)
    subject.kill_mount("data")
    subject.docker("rm", "-f", "writer")
    return subject.use("data")


@case(18)
def unmounted_by_hand(subject: Subject) -> str:
    """`umount -l` of the mountpoint by hand; the next start of a container"""
    subject.create("data")
    subject.work("writer", "data", WRITE)
    subject.machine.run(["umount", "-l", subject.mountpoint("data")])
    time.sleep(2)
    beside = subject.use("data")
    subject.docker("rm", "-f", "writer")
    return both(("beside the running one", beside), ("when that has gone", subject.use("data")))


@case(10)
def stopped(subject: Subject) -> str:
    """plugin stopped (`systemctl stop`) with 5 volumes in use"""
    names = [f"volume-{number}" for number in range(5)]
    for name in names:
        subject.create(name)
        started = subject.start(f"of-{name}", name, "sleep 10000")
        assert started.ok, started
    answer = subject.attempt(["systemctl", "stop", subject.service])
    took = f"stops in {answer.seconds:.1f} s" if answer.ok else f"systemctl stop: {answer}"
    reading = [subject.docker("exec", f"of-{name}", "cat", f"/data/{FILE}", timeout=20).ok for name in names]
    left = subject.mounted()
    dead = [point for point in left if not subject.attempt(["timeout", "-s", "KILL", "5", "stat", point], 10).ok]
    return f"{took}; {reading.count(True)} of 5 containers go on; {len(dead)} dead mounts left"


@case(11)
def busy(subject: Subject) -> str:
    """a process of the host has a file of the volume open when the container stops; the next start"""
    subject.create("data")
    subject.work("writer", "data", WRITE)
    holder = subject.machine.popen(f"exec 3<{subject.mountpoint('data')}/{FILE} && echo open && exec sleep 10000")
    assert holder.stdout is not None and holder.stdout.readline() == "open\n"
    subject.docker("rm", "-f", "writer")
    while_open = subject.use("data")
    holder.end()
    return both(("while it is open", while_open), ("when it is closed", subject.use("data")))
