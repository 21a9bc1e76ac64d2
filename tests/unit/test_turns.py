"""Turns: one at a time on a volume, everybody at once on different ones, nobody waits beyond the deadline."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from fakes import WAIT

from legacyhost.deadline import Deadline
from legacyhost.errors import Failed
from legacyhost.turns import Turns

LATER = 60.0


def test_a_turn_excludes_every_other_on_the_same_name() -> None:
    """Of twenty who want the turn at once, never two have it; each gets it."""
    turns = Turns()
    together = threading.Barrier(20)
    inside = most = done = 0
    counting = threading.Lock()

    def take() -> None:
        nonlocal inside, most, done
        together.wait(WAIT)
        with turns.turn("data", Deadline.after(LATER)):
            with counting:
                inside += 1
                most = max(most, inside)
            with counting:
                inside -= 1
                done += 1

    with ThreadPoolExecutor(20) as pool:
        for future in [pool.submit(take) for _ in range(20)]:
            future.result(WAIT)
    assert (most, done, inside) == (1, 20, 0)


def test_turns_on_different_names_do_not_wait_for_each_other() -> None:
    """Whoever holds the turn on one volume delays nobody on another, not even with no time left."""
    turns = Turns()
    with turns.turn("a", Deadline.after(LATER)):
        for name in ("b", "A", "a.", "", "c" * 255):
            with turns.turn(name, Deadline.after(0)):
                assert turns.is_busy("a")
                assert turns.is_busy(name)
                assert turns.busy() == {"a", name}
    assert turns.busy() == set()


def test_a_turn_that_does_not_come_in_time_is_a_sentence() -> None:
    """Whoever waits longer than allowed is told so, with the volume and the time that was allowed."""
    turns = Turns()
    expected = "another operation on volume data has not ended within 2.5 s; try again"
    with turns.turn("data", Deadline.after(LATER)):
        with pytest.raises(Failed, match=f"^{expected}$"), turns.turn("data", Deadline(at=0.0, seconds=2.5)):
            raise AssertionError("two have the turn")
        with turns.turn("other", Deadline.after(0)):
            assert turns.is_busy("data")


def test_a_free_turn_is_taken_even_with_no_time_left() -> None:
    """A deadline bounds the waiting, and there is nothing to wait for."""
    turns = Turns()
    with turns.turn("data", Deadline.after(0)):
        assert turns.is_busy("data")
    assert not turns.is_busy("data")


def test_a_turn_ends_with_whatever_happened_in_it() -> None:
    """An error in a turn does not keep it taken; nor does one who gave up waiting give away another's turn."""
    turns = Turns()
    with pytest.raises(ZeroDivisionError), turns.turn("data", Deadline.after(0)):
        raise ZeroDivisionError
    with turns.turn("data", Deadline.after(0)):
        with pytest.raises(Failed), turns.turn("data", Deadline.after(0)):
            pass
        assert turns.is_busy("data")
    assert not turns.is_busy("data")


def test_a_waiting_turn_comes_when_the_other_ends() -> None:
    """The one who waits goes on as soon as the name is free."""
    turns = Turns()
    order: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        waiting.set()
        with turns.turn("data", Deadline.after(WAIT)):
            order.append("second")

    with ThreadPoolExecutor(1) as pool:
        with turns.turn("data", Deadline.after(0)):
            future = pool.submit(second)
            assert waiting.wait(WAIT)
            order.append("first")
        future.result(WAIT)
    assert order == ["first", "second"]
