"""What is logged about each call, and where log lines go."""

from __future__ import annotations

import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from fakes import Logged, World
from falcon import testing
from namespace import in_own_namespace

from legacyhost import errors, log
from legacyhost.rpc import Plugin
from legacyhost.surfaces import volume
from legacyhost.web import create_app

SECRET = "hunter2"
REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def client(world: World) -> testing.TestClient:
    plugin = Plugin("test", [(volume.SURFACE, world.volumes)])
    return testing.TestClient(create_app(lambda: plugin))


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """What is logged, at the level the configuration would set."""
    with Logged(logging.DEBUG) as kept:
        yield kept.records


def ask(client: testing.TestClient, rpc: str, **fields: object) -> testing.Result:
    return client.simulate_post(f"/{rpc}", body=json.dumps(fields))


@pytest.mark.parametrize(
    ("rpc", "level"),
    [
        ("Plugin.Activate", log.DEBUG),
        ("VolumeDriver.Get", log.DEBUG),
        ("VolumeDriver.List", log.DEBUG),
        ("VolumeDriver.Path", log.DEBUG),
        ("VolumeDriver.Capabilities", log.DEBUG),
        ("VolumeDriver.Mount", log.INFO),
        ("VolumeDriver.Unmount", log.INFO),
        ("VolumeDriver.Create", log.INFO),
        ("VolumeDriver.Remove", log.INFO),
    ],
)
def test_what_changes_something_is_logged_once(
    client: testing.TestClient, records: list[logging.LogRecord], rpc: str, level: int
) -> None:
    """One line per call: at level info what changes something, at level debug what is asked all day."""
    ask(client, "VolumeDriver.Create", Name="data")
    records.clear()
    ask(client, rpc, Name="data", ID="4711")
    (record,) = records
    assert record.levelno == level
    assert record.getMessage().startswith(f"{rpc} data done (")
    told = {key: str(value) for key, value in vars(record).items() if key.isupper()}
    assert told.pop("DURATION_MS").isdigit()
    assert told == {"PLUGIN": "test", "RPC": rpc, "VOLUME": "data", "MOUNT_ID": "4711"}


def test_there_are_fields_only_for_what_is_known(client: testing.TestClient, records: list[logging.LogRecord]) -> None:
    """No volume, no field; the longest name there can be is there in full."""
    ask(client, "VolumeDriver.Mount")
    ask(client, "VolumeDriver.Mount", Name="x" * 255)
    assert not {"VOLUME", "MOUNT_ID"} & vars(records[0]).keys()
    assert vars(records[1])["VOLUME"] == "x" * 255
    assert "MOUNT_ID" not in vars(records[1])


@pytest.mark.parametrize(
    ("rpc", "name", "level"),
    [
        ("VolumeDriver.Get", "unknown", log.DEBUG),
        ("VolumeDriver.Get", "a/b", log.DEBUG),
        ("VolumeDriver.Mount", "unknown", log.WARNING),
        ("VolumeDriver.Remove", "a/b", log.WARNING),
        ("VolumeDriver.Nope", "data", log.WARNING),
    ],
)
def test_failures_are_warnings_but_for_a_get_of_somebody_elses_volume(
    client: testing.TestClient, records: list[logging.LogRecord], rpc: str, name: str, level: int
) -> None:
    """Docker asks every plugin for any volume it does not know: that is no news. Other failures are."""
    ask(client, rpc, Name=name)
    (record,) = records
    assert record.levelno == level
    assert f"{rpc} {name} failed: " in record.getMessage()


def test_a_quiet_call_that_fails_for_another_reason_is_a_warning(
    client: testing.TestClient, world: World, records: list[logging.LogRecord]
) -> None:
    """A Get that cannot be answered is news: with the reason, although the caller gets none."""
    ask(client, "VolumeDriver.Create", Name="data")
    world.state.close()
    records.clear()
    with pytest.raises(ConnectionResetError):
        ask(client, "VolumeDriver.Get", Name="data")
    (record,) = records
    assert record.levelno == log.WARNING
    assert "cannot be read" in record.getMessage()


def test_options_are_never_logged(client: testing.TestClient, world: World, records: list[logging.LogRecord]) -> None:
    """Whether a call succeeds, fails or is a defect: what stands in Opts is not in the log, nor in the reply."""
    replies = [ask(client, "VolumeDriver.Create", Name="data", Opts={"password": SECRET}).text]
    world.driver.preparing.fail(errors.Failed("the host is down"), ZeroDivisionError("x"))
    replies += [ask(client, "VolumeDriver.Create", Name=name, Opts={"password": SECRET}).text for name in "ab"]
    replies.append(ask(client, "VolumeDriver.Create", Name="c", Opts={"password": SECRET, "nope": SECRET}).text)
    replies.append(ask(client, "VolumeDriver.Create", Name="d", Opts={"password": [SECRET]}).text)
    replies.append(ask(client, "VolumeDriver.Get", Name="data").text)
    assert len(records) >= 6
    shown = [logging.Formatter().format(record) + str(vars(record)) for record in records]
    assert not [text for text in replies + shown if SECRET in text]


def test_hostile_names_do_not_break_the_log(client: testing.TestClient, records: list[logging.LogRecord]) -> None:
    """Whatever is sent as a name, an ID or a path ends up as one printable line of bounded length."""
    nasty = "\x1b[2J\nVOLUME=other\u2028" + "x" * 5000
    ask(client, "VolumeDriver.Mount", Name=nasty, ID=nasty)
    client.simulate_post("/" + "%1b%0a" * 500)
    client.simulate_post("/VolumeDriver.Mount", body=b'{"Name": 5, "ID": []}')
    assert len(records) == 3
    for record in records:
        assert record.getMessage().isprintable()
        assert len(record.getMessage()) < 1000
        assert all(str(value).isprintable() for key, value in vars(record).items() if key.isupper())


def test_a_defect_is_logged_with_its_traceback(
    client: testing.TestClient, world: World, records: list[logging.LogRecord]
) -> None:
    """What nobody has thought of is in the journal as a whole, and only there."""
    world.driver.preparing.fail(KeyError("host_key_kind"))
    ask(client, "VolumeDriver.Create", Name="data")
    assert [record.exc_info[0] for record in records if record.exc_info] == [KeyError]


def test_without_systemd_lines_go_to_standard_error() -> None:
    """Started by hand, the log is on the terminal; a foreign JOURNAL_STREAM does not change that."""
    for stream in ("", "1:2", "garbage", ":"):
        ran = _logging_process({"JOURNAL_STREAM": stream})
        assert ran.stdout == ""
        assert ran.stderr.splitlines()[0].endswith("INFO VolumeDriver.Mount data done")
        assert "INFO 2 of gunicorn" not in ran.stderr
        assert "WARNING 3 of gunicorn" in ran.stderr
        assert "paramiko" not in ran.stderr


@in_own_namespace
def test_under_systemd_lines_go_to_the_journal_with_fields(tmp_path: Path) -> None:
    """Where standard error is the journal's socket, entries go to the journal itself, each with its fields."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    Path("/run/systemd/journal").mkdir(parents=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal, (tmp_path / "stderr").open("w+") as stderr:
        journal.bind("/run/systemd/journal/socket")
        stat = os.fstat(stderr.fileno())
        _logging_process({"JOURNAL_STREAM": f"{stat.st_dev}:{stat.st_ino}"}, stderr)
        entry = journal.recv(65536).decode().splitlines()
        stderr.seek(0)
        assert stderr.read() == ""
    assert {"MESSAGE=VolumeDriver.Mount data done", "PRIORITY=6", "VOLUME=data", "MOUNT_ID=1"} <= set(entry)
    assert "SYSLOG_IDENTIFIER=legacyhost" in entry


def _logging_process(
    environment: dict[str, str], stderr: IO[str] | int = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    """Another process logs one line about a call, and the libraries theirs."""
    program = (
        "import logging; from legacyhost import log; log.set_up();"
        "log.event(log.INFO, 'VolumeDriver.Mount data done', {'VOLUME': 'data', 'MOUNT_ID': '1'});"
        "logging.getLogger('gunicorn.error').info('2 of gunicorn');"
        "logging.getLogger('gunicorn.error').warning('3 of gunicorn');"
        "logging.getLogger('paramiko.transport').error('4 of paramiko')"
    )
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment},
        cwd=REPOSITORY,
        text=True,
        stdout=subprocess.PIPE,
        stderr=stderr,
        check=True,
    )
