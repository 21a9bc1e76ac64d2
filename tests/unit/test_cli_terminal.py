"""What is shown at a terminal, and what is not where there is none."""

from __future__ import annotations

import io
import os
import pty
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

import pytest
from clihost import LISTED, VOLUME, fake_plugin, status_of
from fakes import WAIT
from namespace import in_own_namespace

from legacyhost import status
from legacyhost.commands import terminal, volumes
from legacyhost.commands.terminal import Colour, coloured, print_table, progress, shown, width

pytestmark = pytest.mark.usefixtures("etc")


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """That of a usual terminal."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


class Screen(io.StringIO):
    """Says that it is a terminal."""

    def isatty(self) -> bool:
        return True


@contextmanager
def at_a_terminal(name: str) -> Iterator[Callable[[], str]]:
    """One in place of that stream of this process; the function has what it has shown, once it is left."""
    near, far = pty.openpty()
    before: TextIO = getattr(sys, name)
    seen = bytearray()
    with os.fdopen(far, "w", encoding="utf-8") as stream:
        setattr(sys, name, stream)
        try:
            yield seen.decode
        finally:
            setattr(sys, name, before)
            stream.flush()
            os.set_blocking(near, False)
            try:
                while chunk := os.read(near, 65536):
                    seen += chunk
            except BlockingIOError:
                pass
    os.close(near)


@pytest.mark.parametrize(
    ("text", "columns"),
    [("", 0), ("data", 4), ("é", 1), ("e\u0301", 1), ("日本", 4), ("☃", 1), ("\uff57", 2), ("🐳", 2)],
)
def test_the_width_of_a_text_is_that_on_a_terminal(text: str, columns: int) -> None:
    """East Asian characters take two columns, marks on others none (UAX 11)."""
    assert width(text) == columns


def test_columns_are_aligned_whatever_is_in_them(capsys: pytest.CaptureFixture[str]) -> None:
    """Wide characters, marks, none at all, things that are no text; what a terminal would act on is not printed."""
    rows = [("日本", 1, "x"), ("e\u0301", None, ""), ("", True, "y"), ("a\x1b[2J\nb", "-", "\ud800")]
    print_table(("NAME", "N", "LAST"), rows)
    assert capsys.readouterr().out.splitlines() == [
        "NAME     N     LAST",
        "日本     1     x",
        "e\u0301        None",
        "         True  y",
        "a?[2J?b  -     ?",
    ]


def test_colours_do_not_move_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are those of the values of a column, not of its name, nor of the same word elsewhere."""
    screen = Screen()
    monkeypatch.setattr("sys.stdout", screen)
    colours = {"STATE": {"lost": Colour.RED, "STATE": Colour.RED}}
    print_table(("NAME", "STATE", "X"), [("lost", "lost", "x"), ("a", "fine", "y")], colours)
    assert screen.getvalue() == "NAME  STATE  X\nlost  \x1b[31mlost\x1b[m   x\na     fine   y\n"


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """For those that understand them, and for people who want them."""
    assert coloured("x", Colour.RED) == "x"
    monkeypatch.setattr("sys.stdout", Screen())
    assert coloured("x", Colour.RED) == "\x1b[31mx\x1b[m"
    assert coloured("x", None) == "x"
    monkeypatch.setenv("NO_COLOR", "")
    assert coloured("x", Colour.RED) != "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert coloured("x", Colour.RED) == "x"
    monkeypatch.delenv("NO_COLOR")
    for dumb in ("dumb", None):
        monkeypatch.setenv("TERM", dumb) if dumb else monkeypatch.delenv("TERM")
        assert coloured("x", Colour.RED) == "x"


@in_own_namespace
def test_states_have_colours(capfd: pytest.CaptureFixture[str]) -> None:
    """In ls and inspect, and every state but the usual two has one."""
    lost = {**VOLUME, "Status": {"state": status.LOST, "holders": 1, "remote": "lost"}}
    fake_plugin({"VolumeDriver.List": (200, LISTED), "VolumeDriver.Get": (200, {"Volume": lost})})
    with at_a_terminal("stdout") as seen:
        assert status_of("ls") == 0
        assert status_of("inspect", "data") == 0
        assert status_of("inspect", "data", "--json") == 0
    assert len(re.findall("\x1b\\[31mlost\x1b\\[m", seen())) == len(LISTED["Volumes"]) + 1
    assert seen().count("\x1b") == 2 * (len(LISTED["Volumes"]) + 1)
    assert capfd.readouterr().out == ""
    states = {value for name, value in vars(status).items() if name.isupper() and isinstance(value, str)}
    assert states - volumes._colours().keys() == {status.NOT_MOUNTED}


def test_progress_is_shown_and_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that takes its time has a line, which is empty in the end."""
    monkeypatch.setattr(terminal, "SLOW", 0.01)
    shown_now: list[str] = []
    monkeypatch.setattr(terminal, "_overwrite", lambda _, text: shown_now.append(text))
    with at_a_terminal("stderr"), progress("connecting to nas"):
        end = time.monotonic() + WAIT
        while not shown_now and time.monotonic() < end:
            time.sleep(0.01)
    assert set(shown_now[:-1]) == {"connecting to nas (0 s)"}
    assert shown_now[-1] == ""


def test_a_line_of_progress_is_one_line() -> None:
    """Cut to what the terminal has room for, with nothing in it that it would act on, and erased with its line."""
    with at_a_terminal("stderr") as seen:
        terminal._overwrite(sys.stderr, "日本\x1b" * 100)
        terminal._overwrite(sys.stderr, "")
    erased = "\r\x1b[K"
    first, line, last = seen().split(erased)
    assert (first, last) == ("", "")
    assert line.startswith("日本?日本?")
    assert width(line) in (78, 79)
    terminal._overwrite(sys.stderr, "a terminal that is none, or has gone, is no error")


@pytest.mark.parametrize("fails", [False, True])
def test_quick_steps_show_nothing(fails: bool) -> None:
    """Nor do those that fail; the error goes on its way."""
    with at_a_terminal("stderr") as seen:
        try:
            with progress("connecting"):
                if fails:
                    raise KeyboardInterrupt
        except KeyboardInterrupt:
            assert fails
    assert seen() == ""


def test_without_a_terminal_there_is_no_progress(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Not in a file, not in a journal, not on a terminal that cannot erase."""
    monkeypatch.setattr(terminal, "SLOW", 0.01)
    with progress("connecting"):
        time.sleep(0.1)
    monkeypatch.setenv("TERM", "dumb")
    with at_a_terminal("stderr") as seen, progress("connecting"):
        time.sleep(0.1)
    assert seen() == ""
    assert capfd.readouterr() == ("", "")


def test_what_is_shown_is_one_line() -> None:
    """Whatever it was: no control characters, no change of direction, no half characters, no end of it."""
    assert shown("a\nb\x1b\u202e\x00\ud800é日") == "a?b????é日"
    assert shown(None) == "None"
    assert len(shown("x" * 100_000)) < 2000
