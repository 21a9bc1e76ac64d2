"""The connection to PID 1: units are started, however many at once, and whatever else it tells meanwhile."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fakemanager import Asked, FakeManager, listening, started
from fakes import WAIT

from legacyhost.deadline import Deadline
from legacyhost.mounts.manager import Manager, NotStarted, Property, _Line
from legacyhost.mounts.properties import program

SLEEP = program("/bin/sleep", ["sleep", "$HOME"], {"NAME": "a b"})


@pytest.fixture
def fake() -> FakeManager:
    return FakeManager()


@pytest.fixture
def manager(fake: FakeManager) -> Iterator[Manager]:
    with listening(fake) as address:
        yield Manager(address)


def start(manager: Manager, name: str = "one.service", seconds: float = WAIT, *, is_awaited: bool = True) -> None:
    manager.start(name, SLEEP, Deadline.after(seconds), is_awaited=is_awaited)


def test_a_unit_is_started(fake: FakeManager, manager: Manager) -> None:
    """With its properties; the connection ends with the call."""
    start(manager)
    (unit,) = fake.units
    assert unit.name == "one.service"
    assert unit.argv == ["sleep", "$$HOME"]
    assert unit.value("Environment") == ["NAME=a b"]
    assert fake.is_alone.wait(WAIT)
    start(manager, "two.service")
    assert fake.connections == 2


def test_many_share_a_connection(fake: FakeManager, manager: Manager) -> None:
    """PID 1 tells each connection of everything: one for each unit would be a square of messages."""
    gate = threading.Barrier(20)

    def together(asked: Asked) -> None:
        gate.wait(WAIT)
        started(asked)

    fake.answer = together
    names = [f"{number}.service" for number in range(20)]
    with ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda name: start(manager, name), names))
    assert fake.connections == 1
    assert sorted(unit.name for unit in fake.units) == sorted(names)
    assert fake.is_alone.wait(WAIT)


@pytest.mark.parametrize("piece", [1, 7, 1 << 16])
def test_it_is_told_of_much_that_does_not_concern_it(fake: FakeManager, manager: Manager, piece: int) -> None:
    """In whatever pieces it comes; the end of another unit's job is not that of its own."""

    def talkative(asked: Asked) -> None:
        asked.piece = piece
        asked.tell("UnitNew")
        asked.end("failed", "other.service")
        asked.reply()
        asked.tell("UnitRemoved")
        asked.end("failed", "one.service.service")
        asked.end("done")

    fake.answer = talkative
    start(manager)


@pytest.mark.parametrize("result", ["failed", "timeout", "canceled", "dependency"])
def test_a_job_that_ends_otherwise_is_a_failure(fake: FakeManager, manager: Manager, result: str) -> None:
    """It says how it ended."""

    def failing(asked: Asked) -> None:
        asked.reply()
        asked.end(result)

    fake.answer = failing
    with pytest.raises(NotStarted, match=result):
        start(manager)
    fake.answer = started
    start(manager)


def test_what_is_refused_says_why(fake: FakeManager, manager: Manager) -> None:
    """In PID 1's own words."""
    fake.answer = lambda asked: asked.refuse("Cannot set property Nonsense, or unknown property.")
    with pytest.raises(NotStarted, match=r"^Cannot set property Nonsense, or unknown property\.$"):
        start(manager)


def test_nobody_waits_longer_than_the_time_there_is(fake: FakeManager, manager: Manager) -> None:
    """Neither for the start of a unit, nor for an answer at all."""
    fake.answer = Asked.reply
    with pytest.raises(NotStarted, match="not started within"):
        start(manager, seconds=0.2)
    fake.answer = lambda asked: None
    with pytest.raises(NotStarted, match="not started within"):
        start(manager, seconds=0.2)


def test_what_nobody_waits_for_is_only_asked_for(fake: FakeManager, manager: Manager) -> None:
    """That it was taken is all that has to be known."""
    fake.answer = Asked.reply
    start(manager, is_awaited=False)
    fake.answer = lambda asked: asked.refuse("no")
    with pytest.raises(NotStarted, match=r"^no$"):
        start(manager, is_awaited=False)


def test_a_connection_that_ends_is_the_end_of_waiting(fake: FakeManager, manager: Manager) -> None:
    """As when PID 1 is executed anew: everybody who waits is told, and the next call has a connection of its own."""
    together = threading.Barrier(5)

    def gone(asked: Asked) -> None:
        if together.wait(WAIT) == 0:
            asked.connection.shutdown(socket.SHUT_RDWR)

    fake.answer = gone
    with ThreadPoolExecutor(5) as pool:
        calls = [pool.submit(start, manager, f"{number}.service") for number in range(5)]
        for call in calls:
            assert str(call.exception(WAIT)) == "systemd does not answer: it closed the connection"
    fake.answer = started
    start(manager)


def test_where_there_is_no_systemd_it_is_said(tmp_path: Path) -> None:
    """No such socket; or somebody who does not want to be asked."""
    with pytest.raises(NotStarted, match=r"systemd does not answer.*No such file"):
        start(Manager(str(tmp_path / "private")))
    with (
        listening(FakeManager(introduction=b"REJECTED\r\n")) as address,
        pytest.raises(NotStarted, match="refused to be asked"),
    ):
        start(Manager(address))


def test_who_comes_when_the_connection_has_ended_does_not_wait(fake: FakeManager) -> None:
    """There is nobody who would say that it has."""
    with listening(fake) as address:
        line = _Line(address, WAIT)
        line.close()
        with pytest.raises(EOFError):
            line.start("one.service", SLEEP, Deadline.after(WAIT), is_awaited=True)
    assert fake.units == []


def test_nobody_waits_for_those_who_wait_before_it() -> None:
    """Where PID 1 takes no connection: everybody has the time there is, beside the others, not after them."""
    silent = FakeManager(introduction=b"")
    with listening(silent) as address, ThreadPoolExecutor(20) as pool:
        manager = Manager(address)
        calls = [pool.submit(start, manager, f"{number}.service", 1) for number in range(20)]
        for call in calls:
            assert isinstance(call.exception(WAIT), NotStarted)
    assert silent.connections < 5


def test_a_large_unit_arrives_whole(fake: FakeManager, manager: Manager) -> None:
    """Of more bytes than a socket takes at a time."""
    words = [str(number) * 100 for number in range(5000)]
    large: list[Property] = program("/bin/true", ["true", *words], {})
    manager.start("large.service", large, Deadline.after(WAIT))
    assert fake.units[0].argv == ["true", *words]


def test_threads_end_with_their_connections(manager: Manager) -> None:
    """Nothing is left running of a call."""
    before = threading.active_count()
    for number in range(20):
        start(manager, f"{number}.service")
    end = time.monotonic() + WAIT
    while threading.active_count() > before + 2:
        assert time.monotonic() < end, threading.enumerate()
        time.sleep(0.01)
