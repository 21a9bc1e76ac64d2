"""Faults of the remote host: down, silent, frozen, back again."""

from __future__ import annotations

import time

from .cases import case
from .subject import PATIENCE, Subject
from .workload import FILES, READ, WRITE, Log, uptime


def _start_without_remote(subject: Subject) -> str:
    """Restart the plugin, then see whether the volume is known: at once, to a container, after one more restart."""
    began = time.monotonic()
    subject.attempt(["systemctl", "restart", subject.service])
    meanwhile = subject.docker("volume", "inspect", "data")
    delay = time.monotonic() - began
    subject.remote.start()
    subject.remote.thaw()
    used = subject.use("data")
    again = subject.attempt(["systemctl", "restart", subject.service])
    later = subject.docker("volume", "inspect", "data")
    known = "volume known" if meanwhile.ok else f"volume not known ({meanwhile})"
    result = f"{known}, plugin answers after {delay:.1f} s; remote back: {used}"
    if again.ok is None or not later.ok:
        result += f"; after one more restart: {later}"
    return result


@case(5)
def refused_at_start(subject: Subject) -> str:
    """remote refuses connections while the plugin starts, then is back"""
    subject.create("data")
    subject.remote.stop()
    return _start_without_remote(subject)


@case(20)
def silent_at_start(subject: Subject) -> str:
    """remote accepts and never answers while the plugin starts, then is back"""
    subject.create("data")
    subject.remote.freeze(listener=True)
    return _start_without_remote(subject)


@case(6)
def silent(subject: Subject) -> str:
    """remote accepts and never answers during `docker volume create`: `docker volume ls` and `inspect` of others"""
    subject.create("data")
    directory = subject.directory("other")
    subject.remote.freeze(listener=True)
    words = subject.create_words("other", subject.usual_options(directory))
    began = time.monotonic()
    pending = subject.machine.popen(["docker", *words])
    time.sleep(1)
    slowest = {"ls": 0.0, "inspect": 0.0}
    while pending.poll() is None and time.monotonic() - began < PATIENCE:
        for what, command in (("ls", ["volume", "ls"]), ("inspect", ["volume", "inspect", "data"])):
            slowest[what] = max(slowest[what], subject.docker(*command).seconds)
        time.sleep(1)
    took = f"{time.monotonic() - began:.0f} s" if pending.poll() is not None else f"more than {PATIENCE:.0f} s"
    return f"ls {slowest['ls']:.1f} s, inspect {slowest['inspect']:.1f} s (the create itself: {took})"


def _reader_and_writer(subject: Subject) -> None:
    """Two containers on one volume: one reads files that were not read before, the other appends to one."""
    subject.directory("data")
    there = f"{subject.remote.home}/data/in"
    subject.machine.run(f"mkdir {there} && cd {there} && for n in $(seq {FILES}); do echo $n >$n; done", timeout=120)
    subject.machine.run(f"chown -R {subject.remote.user}: {there}")
    subject.create("data")
    subject.work("reader", "data", READ)
    subject.work("writer", "data", WRITE)


@case(7)
def frozen(subject: Subject) -> str:
    """remote frozen for 10 s while containers read and write"""
    _reader_and_writer(subject)
    began = uptime()
    subject.remote.freeze(listener=True)
    time.sleep(10)
    subject.remote.thaw()
    time.sleep(20)

    def tell(what: str, log: Log) -> str:
        failed = log.failed(began)
        if log.pending() > 5 or failed[-1:] == log.attempts[-1:]:
            return f"{what}: {log.fate(began)}"
        return f"{len(failed)} {what} failed, the longest took {log.longest(began):.1f} s"

    return "; ".join(tell(what, subject.log(container)) for what, container in _WORKERS)


_WORKERS = (("reads", "reader"), ("writes", "writer"))


@case(8)
def down(subject: Subject) -> str:
    """remote silent for 60 s while containers read and write, then back with its connections lost"""
    _reader_and_writer(subject)
    began = uptime()
    subject.remote.freeze(listener=True)
    time.sleep(60)
    last = {container: subject.log(container) for _, container in _WORKERS}
    back = uptime()
    subject.remote.drop()
    subject.remote.thaw()
    time.sleep(45)
    return "; ".join(_tell_outage(what, last[each], subject.log(each), began, back) for what, each in _WORKERS)


def _tell_outage(what: str, during: Log, after: Log, began: float, back: float) -> str:
    """What one workload met: during the outage, and from the return of the host on."""
    failed = during.failed(began)
    if failed:
        met = f"fail after at most {during.longest(began):.1f} s"
    elif during.pending() > 30:
        met = f"block for {during.pending():.0f} s without an error"
    else:
        met = f"go on (the longest {during.longest(began):.1f} s)"
    well = [attempt for attempt in after.ended(back) if attempt.said == "ok"]
    errors = [attempt for attempt in after.ended(back) if attempt.said != "ok"]
    if not well or after.attempts[-1].said != "ok":
        why = errors[-1].said if errors else "blocked"
        return f"{what} {met}; {after.seen - back:.0f} s after the return: {why}"
    working = next(a for a in after.ended(back) if a.said == "ok" and a.end > max([e.end for e in errors], default=0))
    return f"{what} {met}, work again {max(0.0, working.end - back):.1f} s after the return"
