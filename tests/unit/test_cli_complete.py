"""Completion: what can come next on a command line, and that the shells make it of a TAB."""

from __future__ import annotations

import os
import pty
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from clihost import REPLIES, REPOSITORY, SOCKETS, argv, fake_plugin, status_of
from fakes import WAIT
from namespace import in_own_namespace

COMPLETION = REPOSITORY / "packaging/completion"
VOLUMES = ["a-longer-name", "data"]
#: A shell that knows the completion, with a prompt of its own, and nothing of the user's.
SHELLS = {
    "bash": ["bash", "--noprofile", "--rcfile", "RC", "-i"],
    "zsh": ["zsh", "-i"],
    "fish": ["fish", "--private", "--interactive"],
}
#: What each reads at its start.
RC = {
    "bash": (".bashrc", f"PS1='ready> '\nbind 'set enable-bracketed-paste off'\n. {COMPLETION}/bash/legacyhost\n"),
    "zsh": (".zshrc", f"PS1='ready> '\nfpath=({COMPLETION}/zsh $fpath)\nautoload -Uz compinit\ncompinit -D -u\n"),
    "fish": (
        ".config/fish/config.fish",
        f"function fish_prompt; echo 'ready> '; end\nset fish_greeting\nsource {COMPLETION}/fish/legacyhost.fish\n",
    ),
}

pytestmark = pytest.mark.usefixtures("etc")


def offered(capfd: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert status_of("__complete", *words) == 0
    out, err = capfd.readouterr()
    assert err == ""
    return [line.partition("\t")[0] for line in out.splitlines()]


@pytest.fixture(autouse=True)
def no_alarm() -> Iterator[None]:
    """The command's own end to its patience is not the test's."""
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)


def test_commands_and_options_are_offered(capfd: pytest.CaptureFixture[str]) -> None:
    """Those there are at this place, as far as they begin with what is typed."""
    assert {"ls", "inspect", "trust", "call", "serve", "unstick", "restore"} <= set(offered(capfd, ""))
    assert offered(capfd) == offered(capfd, "")
    assert offered(capfd, "ins") == ["inspect"]
    assert offered(capfd, "--v") == ["--version"]
    assert offered(capfd, "ls", "--") == ["--help", "--plugin", "--json"]
    assert offered(capfd, "ls", "--json", "--p") == ["--plugin"]
    assert offered(capfd, "call", "Volume") == [
        f"VolumeDriver.{name}"
        for name in ("Create", "Remove", "Mount", "Unmount", "Path", "Get", "List", "Capabilities")
    ]
    for nothing in (
        ["nonsense", ""],
        ["ls", ""],
        ["trust", "n"],
        ["ls", "--nonsense="],
        ["call", "Plugin.Activate", ""],
    ):
        assert offered(capfd, *nothing) == []
    for files in (["serve", "foo", "--socket", ""], ["import", "x"], ["credential", "add", "nas", "--key", ""]):
        assert offered(capfd, *files) == ["/"]
    assert offered(capfd, "credential", "") == ["add", "ls", "rm"]


def test_every_command_says_what_it_is_for(capfd: pytest.CaptureFixture[str]) -> None:
    """The shells that can show it do."""
    status_of("__complete", "l")
    assert capfd.readouterr().out == "ls\tlist the volumes\n"


@in_own_namespace
def test_names_are_offered(etc: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Plugins that are configured; volumes of the plugin named, or of the only one."""
    plugin = fake_plugin(REPLIES)
    for words in (["inspect"], ["unstick", "--force"], ["inspect", "--plugin", "foo"], ["inspect", "--plugin=foo"]):
        assert offered(capfd, *words, "") == VOLUMES
        assert offered(capfd, *words, "d") == ["data"]
    assert offered(capfd, "inspect", "--plugin", "=", "foo", "") == VOLUMES
    assert offered(capfd, "inspect", "data", "") == []
    assert offered(capfd, "credential", "rm", "") == []
    (etc / "credentials").mkdir()
    (etc / "credentials" / "nas").touch()
    assert offered(capfd, "credential", "rm", "") == ["nas"]
    (etc / "bar.toml").touch()
    for words in (["ls", "--plugin", ""], ["ls", "--plugin", "="], ["serve", ""], ["inspect", "data", "--plugin", ""]):
        assert offered(capfd, *words) == ["bar", "foo"]
    assert offered(capfd, "ls", "--plugin=f") == ["--plugin=foo"]
    assert offered(capfd, "inspect", "--plugin", "foo", "") == VOLUMES
    for nothing in (["inspect", ""], ["inspect", "--plugin", "bar", ""], ["inspect", "--plugin", "../x", ""]):
        assert offered(capfd, *nothing) == []
    plugin.close()
    assert offered(capfd, "inspect", "--plugin", "foo", "") == []


@pytest.mark.parametrize(
    "listed", [None, 5, [5], [{}], [{"Name": 5}], [{"Name": "$(touch /x)"}, {"Name": "a b"}, {"Name": "-x"}]]
)
@in_own_namespace
def test_what_is_no_name_is_not_offered(listed: object, capfd: pytest.CaptureFixture[str]) -> None:
    """It would be put on a command line."""
    fake_plugin({"VolumeDriver.List": (200, {"Volumes": listed})})
    assert offered(capfd, "inspect", "") == []


@in_own_namespace
def test_a_plugin_that_does_not_answer_is_not_waited_for() -> None:
    """After seconds there is nothing to offer, which is no error."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    SOCKETS.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(SOCKETS / "foo.sock"))
        silent.listen()
        ran = subprocess.run(argv("__complete", "inspect", ""), cwd=REPOSITORY, capture_output=True, timeout=WAIT)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, b"", b"")


class Terminal:
    """A shell at a terminal of its own. What it shows is read once."""

    def __init__(self, process: int, descriptor: int) -> None:
        self._process, self._descriptor, self._shown = process, descriptor, ""

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def wait_for(self, text: str) -> str:
        """What is shown before that text."""
        end = time.monotonic() + WAIT
        while text not in self._shown:
            assert time.monotonic() < end, self._shown
            if select.select([self._descriptor], [], [], 0.2)[0]:
                self._shown += os.read(self._descriptor, 65536).decode(errors="replace")
        before, _, self._shown = self._shown.partition(text)
        return before

    def close(self) -> None:
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._descriptor)


@contextmanager
def shell(name: str, home: Path) -> Iterator[Terminal]:
    """That shell, with a ``legacyhost`` that completes, and otherwise only says what it was given."""
    programs = home / "bin"
    programs.mkdir()
    (programs / "legacyhost").write_text(
        f'#!/bin/sh\n[ "$1" = __complete ] || {{ echo "ran: $*."; exit; }}\n'
        f'PYTHONPATH={REPOSITORY} exec {sys.executable} -m legacyhost "$@"\n'
    )
    (programs / "legacyhost").chmod(0o755)
    path, text = RC[name]
    (home / path).parent.mkdir(parents=True, exist_ok=True)
    (home / path).write_text(text)
    command = [str(home / path) if word == "RC" else word for word in SHELLS[name]]
    environment = {
        **{key: value for key, value in os.environ.items() if key.startswith("LEGACYHOST_")},
        "HOME": str(home),
        "ZDOTDIR": str(home),
        "PATH": f"{programs}:/usr/bin:/bin",
        "TERM": "xterm",
        "LC_ALL": "C.UTF-8",
    }
    process, descriptor = pty.fork()
    if process == 0:
        os.chdir(home)
        os.execvpe(command[0], command, environment)
    terminal = Terminal(process, descriptor)
    try:
        yield terminal
    finally:
        terminal.close()


def wait_for(terminal: int, text: str) -> str:
    """What the terminal shows up to that text."""
    shown, end = "", time.monotonic() + WAIT
    while text not in shown:
        assert time.monotonic() < end, shown
        if select.select([terminal], [], [], 0.2)[0]:
            shown += os.read(terminal, 65536).decode(errors="replace")
    return shown


@pytest.mark.parametrize("name", SHELLS)
@in_own_namespace
def test_a_tab_completes(name: str, tmp_path: Path) -> None:
    """In a real shell at a real terminal: a command, an option and its value, a volume, an RPC, a file."""
    fake_plugin(REPLIES)
    with shell(name, tmp_path) as terminal:
        for typed, completed in (
            ("insp\tda\t", "inspect data."),
            ("unstick --pl\tf\tdat\t", "unstick --plugin foo data."),
            ("ls --plugin=f\t", "ls --plugin=foo."),
            ("call VolumeDriver.Li\t", "call VolumeDriver.List."),
            ("serve foo --socket /etc/hostn\t", "serve foo --socket /etc/hostname."),
        ):
            terminal.wait_for("ready> ")
            terminal.type(f"legacyhost {typed}\r")
            terminal.wait_for("ran: ")
            assert completed in terminal.wait_for("\r\n")


@in_own_namespace
def test_bash_shows_what_there_is_to_choose_from(tmp_path: Path) -> None:
    """With a second TAB, where what is typed could become several things."""
    fake_plugin(REPLIES)
    with shell("bash", tmp_path) as terminal:
        terminal.wait_for("ready> ")
        terminal.type("legacyhost inspect \t\t")
        shown = terminal.wait_for("ready> ")
        assert shown.partition("inspect")[2].replace("\a", "").split() == VOLUMES
