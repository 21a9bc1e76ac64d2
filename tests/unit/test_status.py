"""What ``docker volume inspect`` shows: the state now, since when, and of all errors the last one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from legacyhost import status as states
from legacyhost.drivers import Connection
from legacyhost.history import Past
from legacyhost.status import COVERED, HINTS, LOST, MOUNTED, MOUNTING, NOT_MOUNTED, RECONNECTING, SILENT, status

EARLY, LATE = datetime(2024, 2, 29, 12, 0, 0, tzinfo=UTC), datetime(2024, 2, 29, 12, 0, 1, 999_999, tzinfo=UTC)
EARLY_TEXT, LATE_TEXT = "2024-02-29T12:00:00Z", "2024-02-29T12:00:01Z"
UP = Connection(is_up=True, since=LATE, reconnects=2, used=LATE)
DOWN = Connection(is_up=False, since=LATE, reconnects=2, used=LATE, error="nas is away", error_at=LATE)


def hint(state: str) -> dict[str, object]:
    """What to do about it, where something is to be done."""
    return {"hint": HINTS[state]} if state in HINTS else {}


@pytest.mark.parametrize("state", [NOT_MOUNTED, MOUNTING, MOUNTED, LOST, COVERED])
def test_a_state_is_shown_with_its_beginning(state: str) -> None:
    """As far as that is known: of a state that has just begun unnoticed there is none."""
    assert status(state, Past(state, EARLY_TEXT), None) == {"state": state, "since": EARLY_TEXT, **hint(state)}
    assert status(state, Past("something else", EARLY_TEXT), None) == {"state": state, **hint(state)}
    assert status(state, Past(), None) == {"state": state, **hint(state)}


def test_all_states_have_words_of_their_own() -> None:
    """What people and programs look for; none is another one's."""
    names = [getattr(states, name) for name in dir(states) if name.isupper() and name not in ("UTC", "HINTS")]
    assert len(names) == len(set(names)) == 7
    assert HINTS.keys() == set(names) - {NOT_MOUNTED, MOUNTING, MOUNTED}, "where all is well there is nothing to do"


def test_a_mount_that_does_not_answer_is_said_to_be_silent() -> None:
    """Only while there is one: what was silent and is gone is gone."""
    past = Past(SILENT, EARLY_TEXT)
    assert status(MOUNTED, past, None) == {"state": SILENT, "since": EARLY_TEXT, **hint(SILENT)}
    assert status(MOUNTED, past, UP) == {"state": SILENT, "since": EARLY_TEXT, "reconnects": 2, **hint(SILENT)}
    for state in (NOT_MOUNTED, MOUNTING, LOST, COVERED):
        assert status(state, past, None) == {"state": state, **hint(state)}


@pytest.mark.parametrize("past", [Past(MOUNTED, EARLY_TEXT), Past(SILENT, EARLY_TEXT)])
def test_a_connection_that_is_away_is_said_first(past: Past) -> None:
    """It is why the mount is silent; since when it has been away, not since when there is a mount."""
    assert status(MOUNTED, past, DOWN) == {
        "state": RECONNECTING,
        "since": LATE_TEXT,
        "reconnects": 2,
        "last error": "nas is away",
        "last error at": LATE_TEXT,
        **hint(RECONNECTING),
    }


@pytest.mark.parametrize("state", [NOT_MOUNTED, MOUNTING, LOST, COVERED])
def test_without_a_mount_its_connection_says_nothing_of_the_state(state: str) -> None:
    """Whatever its record says."""
    assert status(state, Past(state, EARLY_TEXT), DOWN)["state"] == state


def test_how_often_it_was_connected_again_is_shown() -> None:
    """Zero too: that is the good news."""
    shown = status(MOUNTED, Past(MOUNTED, EARLY_TEXT), Connection(is_up=True, since=LATE, reconnects=0, used=LATE))
    assert shown == {"state": MOUNTED, "since": EARLY_TEXT, "reconnects": 0}


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5)), timezone(-timedelta(hours=8))])
def test_the_later_error_is_the_last_one(zone: timezone) -> None:
    """Of the mount's connection or of a call, whatever the zone in which the time was told; shown in UTC."""

    def shown(at: datetime, past_at: str) -> tuple[object, object]:
        connection = Connection(True, EARLY, 0, LATE, "nas is away", at.astimezone(zone))
        found = status(MOUNTED, Past(MOUNTED, EARLY_TEXT, "permission denied", past_at), connection)
        return found["last error"], found["last error at"]

    assert shown(LATE, EARLY_TEXT) == ("nas is away", LATE_TEXT)
    assert shown(EARLY, LATE_TEXT) == ("permission denied", LATE_TEXT)
    assert shown(EARLY, "") == ("nas is away", EARLY_TEXT)


def test_where_nothing_went_wrong_there_is_no_error() -> None:
    """Neither an empty one nor a time of one."""
    assert "last error" not in status(MOUNTED, Past(MOUNTED, EARLY_TEXT), UP)
    assert "last error at" not in status(MOUNTED, Past(), None)
    found = status(NOT_MOUNTED, Past(NOT_MOUNTED, EARLY_TEXT, "nas is away", LATE_TEXT), None)
    assert (found["last error"], found["last error at"]) == ("nas is away", LATE_TEXT)
