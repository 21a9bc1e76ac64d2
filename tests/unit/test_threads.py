"""Threads that are used again: nothing waits for another, none stays for good."""

from __future__ import annotations

import threading
import time

import pytest
from fakes import WAIT

from legacyhost.threads import Threads


def _wait_until_free(threads: Threads, count: int) -> None:
    """At least so many."""
    end = time.monotonic() + WAIT
    while threads._free < count:
        assert time.monotonic() < end
        time.sleep(0.001)


def test_a_thread_does_one_thing_after_another() -> None:
    threads = Threads("call")
    seen = []
    for _ in range(10):
        threads.do(lambda: seen.append(threading.current_thread()))
        _wait_until_free(threads, 1)
    assert len(set(seen)) == 1
    assert seen[0].name == "call"
    assert seen[0].daemon


def test_nothing_waits_for_another() -> None:
    """Whether threads are free, and however many."""
    threads = Threads("call")
    for count in (3, 20, 5):
        together = threading.Barrier(count + 1)
        for _ in range(count):
            threads.do(lambda together=together: together.wait(WAIT))  # type: ignore[misc]
        together.wait(WAIT)
    _wait_until_free(threads, 20)


def test_who_has_nothing_to_do_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """And what comes just then is done all the same."""
    monkeypatch.setattr("legacyhost.threads.REST", 0.0005)
    threads = Threads("short")
    done = threading.Semaphore(0)
    for number in range(2000):
        threads.do(done.release)
        if number % 2:
            time.sleep(0.0005)
    for _ in range(2000):
        assert done.acquire(timeout=WAIT)
    end = time.monotonic() + WAIT
    while any(thread.name == "short" for thread in threading.enumerate()):
        assert time.monotonic() < end
        time.sleep(0.001)
    assert threads._free == 0


def test_a_task_that_fails_takes_its_thread_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing else: the next is done by another."""
    failures: list[object] = []
    monkeypatch.setattr(threading, "excepthook", failures.append)
    threads = Threads("call")

    def fail() -> None:
        raise ValueError("a defect")

    threads.do(fail)
    done = threading.Event()
    threads.do(done.set)
    assert done.wait(WAIT)
    _wait_until_free(threads, 1)
    assert len(failures) == 1
