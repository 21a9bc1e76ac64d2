"""The command line: what it prints, with which status it ends, and that nothing anybody types is a traceback."""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
import signal
import socket
import subprocess
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

import pytest
from clihost import LISTED, REPLIES, REPOSITORY, SOCKETS, VOLUME, argv, fake_plugin, status_of
from fakes import WAIT
from namespace import in_own_namespace

from legacyhost import __version__, cli
from legacyhost.commands import plugin_name, volumes
from legacyhost.errors import InvalidRequest

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


pytestmark = pytest.mark.usefixtures("etc")


def commands(parser: argparse.ArgumentParser) -> Iterator[list[str]]:
    """The words of every subcommand below, those of the groups included."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield [name]
                yield from ([name, *more] for more in commands(below))


COMMANDS = list(commands(cli.parser()))
GROUPS = [[], *(words for words in COMMANDS if any(other[:-1] == words for other in COMMANDS))]


@pytest.mark.parametrize("command", [[], *COMMANDS], ids=" ".join)
def test_help_shows_examples_that_can_be_typed(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    """Every command says what it does, with an example at least: a command line that is understood."""
    assert status_of(*command, "--help") == 0
    text = capsys.readouterr().out
    examples = [shlex.split(line) for line in text.partition("\nexample")[2].partition(":")[2].splitlines() if line]
    assert ["legacyhost", *command][: 1 + len(command)] in [words[: 1 + len(command)] for words in examples]
    for words in examples:
        if words[0] == "legacyhost":
            own = takewhile(lambda word: not word.startswith(("<", ">", "|")), words[1:])
            assert cli.parser().parse_args(list(own)).run
    if not command:
        assert all(f"\n    {name} " in text or f"\n    {name}\n" in text for name, *more in COMMANDS if not more)


@pytest.mark.parametrize("command", GROUPS, ids=" ".join)
def test_a_command_that_has_commands_shows_help_alone(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    """On standard error, and it is wrong usage."""
    assert status_of(*command) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: ")
    assert "\nexample" in err


@pytest.mark.parametrize(
    ("typed", "meant"), [("lst", "ls"), ("inspct", "inspect"), ("INSPECT", None), ("xyz", None), ("\x1b[2J", None)]
)
def test_a_command_that_there_is_not(capsys: pytest.CaptureFixture[str], typed: str, meant: str | None) -> None:
    """The nearest one is named, if one is near."""
    assert status_of(typed) == 2
    hint = f"; did you mean {meant}?" if meant else ""
    shown = typed.replace("\x1b", "?")
    assert capsys.readouterr().err.splitlines()[-1] == f"legacyhost: there is no command {shown}{hint}"


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """One line, for bug reports."""
    assert status_of("--version") == 0
    assert capsys.readouterr().out == f"legacyhost {__version__}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        ["--nonsense"],
        ["--\x1b[2J"],
        ["ls", "more"],
        ["ls", "\udcff\n"],
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
    """A line for each volume with what Get says of it, a dash where it says nothing; --json has all of it."""
    fake_plugin(REPLIES)
    assert status_of("ls") == 0
    assert capfd.readouterr().out.splitlines() == [
        "VOLUME         STATE    HOLDERS  REMOTE",
        "data           mounted  2        anna@nas:/srv/é☃",
        "a-longer-name  mounted  2        anna@nas:/srv/é☃",
    ]
    assert status_of("ls", "--json", "--plugin", "foo") == 0
    assert json.loads(capfd.readouterr().out) == [{**each, "Status": VOLUME["Status"]} for each in LISTED["Volumes"]]
    fake_plugin({"VolumeDriver.List": (200, LISTED), "VolumeDriver.Get": (500, {"Err": "there is no volume data"})})
    assert status_of("ls") == 0
    assert capfd.readouterr().out.splitlines()[1].split() == ["data", "-", "-", "-"]
    assert status_of("ls", "--json") == 0
    assert json.loads(capfd.readouterr().out) == [{**each, "Status": {}} for each in LISTED["Volumes"]]


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


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("VolumeDriver.Lst", "VolumeDriver.List"),
        ("volumedriver.unmount", "VolumeDriver.Unmount"),
        ("Mount", "VolumeDriver.Mount"),
        ("Plugin.Activat", "Plugin.Activate"),
        ("VolumeDriver.List", None),
        ("xyz", None),
    ],
)
@in_own_namespace
def test_an_rpc_that_there_is_not(typed: str, meant: str | None, capfd: pytest.CaptureFixture[str]) -> None:
    """The plugin says so; the one that was meant is added."""
    fake_plugin({})
    assert status_of("call", typed) == 1
    hint = f"; did you mean {meant}?" if meant else ""
    assert capfd.readouterr().err == f"legacyhost: no method {typed}{hint}\n"


@in_own_namespace
def test_arguments_of_a_call_are_read(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    """From standard input, for - in their place; what is none is told."""
    plugin = fake_plugin(REPLIES)
    for given, status in ((b'{"Name": "d\xc3\xa9"}\n', 0), (b"", 2), (b"\xff", 2), (b'{"a":', 2), (b"[1]", 2)):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
        assert status_of("call", "VolumeDriver.Get", "-") == status
    monkeypatch.setattr("sys.stdin", None)
    assert status_of("call", "VolumeDriver.Get", "-") == 2
    assert plugin.asked == [("VolumeDriver.Get", {"Name": "dé"})]
    assert capfd.readouterr().err.splitlines() == [
        "legacyhost: this is not JSON: standard input (Expecting value at character 1)",
        "legacyhost: this is not JSON: standard input",
        "legacyhost: this is not JSON: standard input (Expecting value at character 6)",
        "legacyhost: the arguments of an RPC are a JSON object",
        "legacyhost: this is not JSON: standard input (Expecting value at character 1)",
    ]


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
    fake_plugin({**REPLIES, "VolumeDriver.Get": (200, odd)})
    for locale in ({"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}, {}):
        environment = {**os.environ, "PYTHONUTF8": "0", **locale}
        odd_name = os.fsdecode(b"\xff")
        for command in (["inspect", "data"], ["inspect", "data", "--json"], ["call", "VolumeDriver.Get"], ["--help"]):
            ran = subprocess.run(argv(*command), cwd=REPOSITORY, env=environment, capture_output=True, timeout=WAIT)
            assert (ran.returncode, ran.stderr) == (0, b"")
        ran = subprocess.run(argv("call", odd_name), cwd=REPOSITORY, env=environment, capture_output=True, timeout=WAIT)
        assert (ran.returncode, ran.stderr.splitlines()[1:]) == (1, [])


@in_own_namespace
def test_a_reader_that_goes_away_is_no_traceback() -> None:
    """``legacyhost ls | head -0``: nothing is said about it."""
    many = {"Volumes": [{"Name": f"v{number}", "Mountpoint": ""} for number in range(2000)]}
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
def test_a_full_disk_is_told() -> None:
    """What cannot be written was not done; without a standard error there is nobody to tell."""
    fake_plugin(REPLIES)
    for command in (["ls"], ["inspect", "data", "--json"], ["call", "VolumeDriver.List"], ["--help"]):
        with Path("/dev/full").open("w") as full:
            ran = subprocess.run(argv(*command), cwd=REPOSITORY, stdout=full, stderr=subprocess.PIPE, timeout=WAIT)
        said = b"legacyhost: the output cannot be written: No space left on device\n"
        assert (ran.returncode, ran.stderr) == (1, said)
    for command, status in ((["ls", "--plugin", "bar"], 1), (["nonsense"], 2), ([], 2), (["ls"], 0)):
        silent = subprocess.run(["sh", "-c", 'exec "$@" 2>&-', "sh", *argv(*command)], cwd=REPOSITORY, timeout=WAIT)
        assert silent.returncode == status


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ZeroDivisionError("secret"), "a defect in legacyhost "),
        (PermissionError(13, "Permission denied", "/x/y"), "/x/y: Permission denied\n"),
        (TimeoutError("timed out"), "timed out\n"),
    ],
)
def test_a_defect_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, said: str
) -> None:
    """One line, with where it was and without what; the journal has the whole."""

    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(volumes, "ask", fails)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    assert status_of("inspect", "data") == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"legacyhost: {said}")
    assert err.count("\n") == 1
    assert "secret" not in err
    is_defect = isinstance(error, ZeroDivisionError)
    assert ("volumes.py:" in err) is is_defect
    monkeypatch.setattr("legacyhost.log.is_under_systemd", lambda: True)
    if is_defect:
        with pytest.raises(ZeroDivisionError):
            cli.main(["inspect", "data"])
    else:
        assert status_of("inspect", "data") == 1


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


def test_a_plugin_that_has_another_section_is_not_the_one_that_is_meant(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that authorizes beside one that has volumes is no reason to ask which; two of a kind are."""
    monkeypatch.setenv("LEGACYHOST_ETC", str(tmp_path))
    (tmp_path / "guard.toml").write_text("[authz]\n")
    (tmp_path / "sshfs.toml").write_text("[volume]\n")
    assert (plugin_name(None), plugin_name(None, "authz"), plugin_name("guard")) == ("sshfs", "guard", "guard")
    (tmp_path / "sshfs.toml").unlink()
    assert plugin_name(None) == "guard"
    for content in ("[volume]\n", "[volume"):
        (tmp_path / "foo.toml").write_text(content)
        (tmp_path / "sshfs.toml").write_text("[volume]\n")
        with pytest.raises(InvalidRequest, match="several plugins"):
            plugin_name(None)
