"""The command line: what it prints, with which status it ends, and that nothing anybody types is a traceback."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from fakes import WAIT, FakePlugin
from namespace import in_own_namespace

from legacyhost import __version__
from legacyhost.cli import main

REPOSITORY = Path(__file__).parents[2]
COMMANDS = ["serve", "ls", "inspect", "call", "trust", "unstick", "restore"]
SOCKETS = Path("/run/docker/plugins")
VOLUME = {
    "Name": "data",
    "Mountpoint": "/run/x/mounts/data",
    "CreatedAt": "2024-02-29T12:00:01Z",
    "Status": {"state": "mounted", "holders": 2, "remote": "anna@nas:/srv/é☃"},
}
LISTED = {
    "Volumes": [{"Name": "data", "Mountpoint": "/run/x/mounts/data"}, {"Name": "a-longer-name", "Mountpoint": ""}]
}
#: What somebody else's plugin, or a broken one, may answer, and what becomes of ls and inspect.
NONSENSE: list[tuple[object, int, int]] = [
    ({}, 0, 1),
    ({"Volumes": None, "Volume": None}, 0, 1),
    ({"Volumes": 5, "Volume": 5}, 1, 1),
    ({"Volumes": [5], "Volume": [5]}, 1, 1),
    ({"Volumes": [{}], "Volume": {}}, 0, 1),
    ({"Volumes": [{"Name": 5, "Mountpoint": 5}], "Volume": {"Name": 5, "Status": 5}}, 0, 0),
    ({"Volumes": [{"Name": None}], "Volume": {"Name": "data", "Status": None}}, 0, 0),
]


@pytest.fixture(autouse=True)
def etc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A configuration with one plugin, ``foo``."""
    for name in ("etc", "state", "run"):
        monkeypatch.setenv(f"LEGACYHOST_{name.upper()}", str(tmp_path / name))
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "foo.toml").touch()
    return tmp_path / "etc"


def fake_plugin(replies: Mapping[str, bytes | tuple[int, object]]) -> FakePlugin:
    """A plugin on the socket where Docker has it. For tests in a namespace of their own: the real /run is hidden."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    SOCKETS.mkdir(parents=True)
    return FakePlugin(SOCKETS / "foo.sock", replies)


def argv(*arguments: str) -> list[str]:
    """The command in a process of its own, as a shell would start it."""
    return [sys.executable, "-m", "legacyhost", *arguments]


def status_of(*arguments: str) -> int:
    try:
        return main(arguments)
    except SystemExit as ended:
        assert isinstance(ended.code, int)
        return ended.code


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=str)
def test_help_shows_an_example(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    """Every command can be asked what it does, and answers with one that can be typed."""
    assert status_of(*command, "--help") == 0
    text = capsys.readouterr().out
    assert "example: " in text
    if not command:
        assert all(f"\n    {name} " in text for name in COMMANDS)
    else:
        assert f"legacyhost {command[0]}" in text.partition("example: ")[2]


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """One line, for bug reports."""
    assert status_of("--version") == 0
    assert capsys.readouterr().out == f"legacyhost {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["--nonsense"],
        ["ls", "more"],
        ["ls", "--plugin"],
        ["inspect"],
        ["call"],
        ["call", "a", "{}", "more"],
        ["call", "VolumeDriver.Get", "{"],
        ["call", "VolumeDriver.Get", "[]"],
        ["call", "VolumeDriver.Get", "null"],
        ["call", "VolumeDriver.Get", "\udcff"],
        ["call", "VolumeDriver.Get", "[" * 100_000],
        ["call", "VolumeDriver.Get", "9" * 5000],
        ["serve"],
        ["serve", "../foo"],
        ["serve", ""],
        ["serve", "a\nb\x1b"],
        ["ls", "--plugin", "../foo"],
        ["ls", "--plugin", "\udcff"],
        ["inspect", "data", "--plugin", ""],
        ["trust"],
        *(["trust", host] for host in ("", ":", ":22", "nas:", "nas:0", "nas:65536", "nas:x", "nas:²", "nas:-1")),
        *(
            ["trust", host]
            for host in ("a b", "-x", "-oProxyCommand=x", "[nas", "nas\n", "nas:22:22x", "a@nas", "nas/x")
        ),
        *(["trust", host] for host in ("\x1b[2J", "\udcff", "é" * 300, "a" * 5000, ".", "n,as", "*", "|1|x", "#nas")),
        *(["trust", host] for host in ("1::2::3", "[::1", "[1.2.3.4]", "[nas]:22", "[::1]:0", "::x")),
    ],
    ids=lambda arguments: repr(arguments)[:40],
)
def test_wrong_usage_is_status_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    """A line on standard error that says what is wrong, nothing on standard output."""
    assert status_of(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    last = err.splitlines()[-1]
    assert last.startswith("legacyhost")
    assert last.isprintable()


@pytest.mark.parametrize("command", [["ls"], ["ls", "--json"], ["inspect", "data"], ["call", "VolumeDriver.List"]])
@in_own_namespace
def test_what_cannot_be_done_is_status_1(command: list[str], etc: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """No socket, no answer, no plugin, several plugins: one sentence each."""
    plugin = fake_plugin({})
    assert status_of(*command) == 1
    assert status_of(*command, "--plugin", "bar") == 1
    plugin.close()
    assert status_of(*command) == 1
    (etc / "bar.toml").touch()
    assert status_of(*command) == 2
    for path in etc.iterdir():
        path.unlink()
    assert status_of(*command) == 1
    out, err = capfd.readouterr()
    assert out == ""
    told = iter(err.splitlines())
    assert next(told).startswith("legacyhost: no method VolumeDriver.")
    assert next(told).startswith("legacyhost: there is no socket /run/docker/plugins/bar.sock; to make it: ")
    assert "gives no answer" in next(told)
    assert next(told) == "legacyhost: there are several plugins, say which with --plugin: bar, foo"
    assert next(told) == f"legacyhost: there is no plugin: no *.toml in {etc}"


@in_own_namespace
def test_ls_is_a_table_or_json(capfd: pytest.CaptureFixture[str]) -> None:
    """A line for each volume with what Get says of it, a dash where it says nothing; --json as the plugin has it."""
    fake_plugin({"VolumeDriver.List": (200, LISTED), "VolumeDriver.Get": (200, {"Volume": VOLUME})})
    assert status_of("ls") == 0
    assert capfd.readouterr().out.splitlines() == [
        "VOLUME         STATE    HOLDERS  REMOTE",
        "data           mounted  2        anna@nas:/srv/é☃",
        "a-longer-name  mounted  2        anna@nas:/srv/é☃",
    ]
    fake_plugin({"VolumeDriver.List": (200, LISTED), "VolumeDriver.Get": (500, {"Err": "there is no volume data"})})
    assert status_of("ls") == 0
    assert capfd.readouterr().out.splitlines()[1].split() == ["data", "-", "-", "-"]
    assert status_of("ls", "--json", "--plugin", "foo") == 0
    assert json.loads(capfd.readouterr().out) == LISTED["Volumes"]


@in_own_namespace
def test_ls_without_volumes_has_a_head_only(capfd: pytest.CaptureFixture[str]) -> None:
    """No volumes are no error."""
    fake_plugin({"VolumeDriver.List": (200, {"Volumes": []})})
    assert status_of("ls") == 0
    assert capfd.readouterr().out == "VOLUME  STATE  HOLDERS  REMOTE\n"


@in_own_namespace
def test_inspect_shows_one_volume(capfd: pytest.CaptureFixture[str]) -> None:
    """A line for each thing known of it; --json as the plugin has it."""
    plugin = fake_plugin({"VolumeDriver.Get": (200, {"Volume": VOLUME})})
    assert status_of("inspect", "data") == 0
    assert capfd.readouterr().out.splitlines() == [
        "name        data",
        "created     2024-02-29T12:00:01Z",
        "mountpoint  /run/x/mounts/data",
        "state       mounted",
        "holders     2",
        "remote      anna@nas:/srv/é☃",
    ]
    assert status_of("inspect", "--json", "data") == 0
    assert json.loads(capfd.readouterr().out) == VOLUME
    assert plugin.asked == [("VolumeDriver.Get", {"Name": "data"})] * 2


@in_own_namespace
def test_call_prints_the_reply(capfd: pytest.CaptureFixture[str]) -> None:
    """Any RPC, its arguments as JSON or none."""
    plugin = fake_plugin({"Plugin.Activate": (200, {"Implements": ["VolumeDriver"]})})
    assert status_of("call", "Plugin.Activate") == 0
    assert json.loads(capfd.readouterr().out) == {"Implements": ["VolumeDriver"]}
    assert status_of("call", "VolumeDriver.Get", '{"Name": "data"}') == 1
    assert capfd.readouterr().err == "legacyhost: no method VolumeDriver.Get\n"
    assert plugin.asked == [("Plugin.Activate", {}), ("VolumeDriver.Get", {"Name": "data"})]


@pytest.mark.parametrize(("reply", "listed", "inspected"), NONSENSE)
@in_own_namespace
def test_what_is_no_answer_of_a_plugin_is_told(
    reply: object, listed: int, inspected: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever is behind the socket: what can be shown, or a sentence and status 1, with --json too."""
    fake_plugin({"VolumeDriver.List": (200, reply), "VolumeDriver.Get": (200, reply)})
    for command, status in ((["ls"], listed), (["inspect", "data"], inspected)):
        for more in ([], ["--json"]):
            assert status_of(*command, *more) == status
            out, err = capfd.readouterr()
            assert (bool(out), len(err.splitlines())) == (status == 0, status)


@in_own_namespace
def test_output_never_fails_for_its_characters() -> None:
    """On a terminal that cannot show them, or where they are no characters at all, they are escaped."""
    odd = {"Volume": {**VOLUME, "Status": {"remote": "☃", "half": "\ud800"}}}
    fake_plugin({"VolumeDriver.Get": (200, odd), "VolumeDriver.List": (200, LISTED)})
    for encoding in ("ascii", "utf-8"):
        environment = {**os.environ, "PYTHONIOENCODING": encoding}
        odd_name = os.fsdecode(b"\xff")
        for command in (["inspect", "data"], ["inspect", "data", "--json"], ["call", "VolumeDriver.Get"], ["--help"]):
            ran = subprocess.run(argv(*command), cwd=REPOSITORY, env=environment, capture_output=True, timeout=WAIT)
            assert (ran.returncode, ran.stderr) == (0, b"")
        ran = subprocess.run(argv("call", odd_name), cwd=REPOSITORY, env=environment, capture_output=True, timeout=WAIT)
        assert (ran.returncode, ran.stderr.splitlines()[1:]) == (1, [])


@in_own_namespace
def test_a_reader_that_goes_away_is_no_traceback() -> None:
    """``legacyhost ls | head -0``: nothing is said about it."""
    many = {"Volumes": [{"Name": f"v{number}", "Mountpoint": ""} for number in range(20_000)]}
    fake_plugin({"VolumeDriver.List": (200, many), "Few.Words": (200, {})})
    for command in (["ls"], ["ls", "--json"], ["call", "Few.Words"], ["--help"]):
        reader, writer = os.pipe()
        os.close(reader)
        ran = subprocess.run(argv(*command), cwd=REPOSITORY, stdout=writer, stderr=subprocess.PIPE, timeout=WAIT)
        os.close(writer)
        assert (ran.returncode, ran.stderr) == (1, b"")
    closed = subprocess.run(["sh", "-c", 'exec "$@" >&- <&-', "sh", *argv("ls")], cwd=REPOSITORY, capture_output=True)
    assert (closed.returncode, closed.stderr) == (0, b"")


@in_own_namespace
def test_an_interruption_is_no_traceback() -> None:
    """Ctrl-C while a plugin does not answer ends the command, with the status shells expect."""
    plugin = fake_plugin({})
    plugin.close()
    (SOCKETS / "foo.sock").unlink()
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(SOCKETS / "foo.sock"))
        silent.listen()
        with subprocess.Popen(
            argv("ls"),
            cwd=REPOSITORY,
            stderr=subprocess.PIPE,
            text=True,
            # Where the tests run in the background of a shell, it is ignored, and that is inherited.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - no thread holds a lock
        ) as process:
            silent.settimeout(WAIT)
            connection, _ = silent.accept()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=WAIT)
            connection.close()
    assert (process.returncode, err) == (130, "")
