"""The past of each volume: kept for people, over restarts of the service, and never in the way of anything."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fakes import WAIT

from legacyhost.history import History, Past, timestamp

LONGEST = "x" * 255
#: What a damaged file may look like.
DAMAGED = [
    b"",
    b"{",
    b"[]",
    b'"x"',
    b"null",
    b'{"state": 5}',
    b'{"state": null}',
    b'{"state": ["a"]}',
    b'{"other": "x"}',
    b"\0" * 50,
    b"\xff\xfe",
    b"[" * 100_000,
]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "run" / "history"


def test_what_never_was_has_no_past(directory: Path) -> None:
    """Asking makes no file."""
    assert History(directory).of("data") == Past("", "", "", "")
    assert not directory.exists()


def test_a_state_has_a_beginning(directory: Path) -> None:
    """The moment it changed: to be in it once more is no change. In UTC, with seconds, as in all of Status."""
    history = History(directory)
    assert history.state("data", "mounted") is True
    since = history.of("data").since
    assert abs(datetime.fromisoformat(since) - datetime.now(UTC)) < timedelta(minutes=1)
    assert since.endswith("Z")
    (directory / "data").unlink()
    assert history.state("data", "mounted") is False
    assert history.of("data") == Past("mounted", since)
    assert not (directory / "data").exists(), "nothing has changed, so nothing is written"
    assert history.state("data", "not mounted") is True
    assert history.of("data").state == "not mounted"


def test_an_error_is_kept_with_its_time_whatever_the_state_becomes(directory: Path) -> None:
    """Who looks the next morning sees what went wrong at night; the last error counts."""
    history = History(directory)
    history.state("data", "mounted")
    history.error("data", "nas did not answer")
    history.error("data", "host key of nas is not known")
    history.state("data", "not mounted")
    past = history.of("data")
    assert (past.state, past.error) == ("not mounted", "host key of nas is not known")
    assert past.error_at.endswith("Z")


@pytest.mark.parametrize("name", ["data", "a..b", "new", LONGEST])
@pytest.mark.parametrize("error", ["", "nas did not answer", "é☃ \ud800 \0 \n", "x" * 10_000])
def test_the_next_service_knows_it_too(directory: Path, name: str, error: str) -> None:
    """Any name, the longest too, and any text: what a new process reads is what the old one knew."""
    history = History(directory)
    history.state(name, "mounted")
    history.state("other", "lost")
    if error:
        history.error(name, error)
    again = History(directory)
    assert again.of(name) == history.of(name)
    assert again.of(name).error == error
    assert again.of("other").state == "lost"
    assert sorted(path.name for path in directory.iterdir()) == sorted([name, "other"]), "no draft is left"


def test_only_root_may_look(directory: Path) -> None:
    """Errors name hosts and accounts."""
    History(directory).error("data", "anna@nas: permission denied")
    assert directory.stat().st_mode & 0o777 == 0o700


def test_what_is_forgotten_is_gone_for_good(directory: Path) -> None:
    """A new volume of the same name does not begin with the errors of the old one; twice is no error."""
    history = History(directory)
    history.error("data", "nas did not answer")
    for _ in range(2):
        history.forget("data")
        assert history.of("data") == History(directory).of("data") == Past()
    assert list(directory.iterdir()) == []


@pytest.mark.parametrize("content", DAMAGED, ids=lambda content: repr(content[:12]))
def test_a_damaged_file_does_not_count_and_is_told(
    directory: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    """Nothing depends on it: the others are read, and the next change replaces it."""
    History(directory).state("other", "mounted")
    (directory / "data").write_bytes(content)
    history = History(directory)
    assert history.of("data") == Past()
    assert history.of("other").state == "mounted"
    (message,) = caplog.messages
    assert message.startswith(f"{directory / 'data'} cannot be read and does not count: ")
    history.state("data", "mounted")
    assert History(directory).of("data").state == "mounted"


def test_a_file_of_an_older_version_counts(directory: Path) -> None:
    """What it does not have yet is empty."""
    directory.mkdir(parents=True)
    (directory / "data").write_text(json.dumps({"state": "mounted", "since": timestamp()}))
    assert History(directory).of("data").error == ""
    assert History(directory).of("data").state == "mounted"


def test_what_is_no_file_does_not_count_either(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A directory in the way is told and left where it is; in memory all is well."""
    (directory / "data" / "inner").mkdir(parents=True)
    history = History(directory)
    assert history.state("data", "mounted") is True
    history.forget("data")
    assert history.of("data") == Past()
    read, noted, stays = caplog.messages
    assert "data cannot be read" in read
    assert noted.startswith(f"the state of volume data cannot be noted in {directory / 'data'}: ")
    assert stays.startswith(f"{directory / 'data'} stays: ")


def test_a_directory_that_cannot_be_written_is_no_failure(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No call fails for want of what is only shown: it is told in the log, and known to this process."""
    directory.parent.mkdir()
    directory.write_text("in the way")
    history = History(directory)
    assert history.state("data", "mounted") is True
    history.error("data", "nas did not answer")
    assert history.of("data").error == "nas did not answer"
    assert [message.partition(":")[0] for message in caplog.messages] == [
        f"the state of volume data cannot be noted in {directory / 'data'}"
    ] * 2
    history.forget("data")
    assert history.of("data") == Past()


def test_many_threads_lose_nothing_of_each_others_volumes(directory: Path) -> None:
    """All drafts have one name: whoever writes does so alone."""
    history = History(directory)

    def live(name: str) -> None:
        for number in range(20):
            history.state(name, f"state {number}")
            history.error(name, f"error {number}")

    names = [f"volume-{number}" for number in range(8)]
    with ThreadPoolExecutor(len(names)) as pool:
        for call in [pool.submit(live, name) for name in names]:
            call.result(WAIT)
    again = History(directory)
    assert [(again.of(name).state, again.of(name).error) for name in names] == [("state 19", "error 19")] * 8
