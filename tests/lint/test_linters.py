"""The linters, run as tests: each finds nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]


def tracked(*patterns: str) -> list[str]:
    """The files of the project: what git knows, or all where there is no git."""
    ran = subprocess.run(["git", "ls-files", "--", *patterns], cwd=TOP, capture_output=True, text=True)
    if ran.returncode == 0 and ran.stdout:
        return [name for name in ran.stdout.splitlines() if (TOP / name).exists()]
    return [str(path.relative_to(TOP)) for pattern in patterns for path in TOP.rglob(pattern.removeprefix("*"))]


def is_shell(name: str) -> bool:
    try:
        first = (TOP / name).read_text("utf-8").split("\n", 1)[0]
    except (UnicodeDecodeError, IsADirectoryError):
        return False
    return re.match(r"#!.*\b(sh|bash)\b|# shellcheck shell=bash$", first) is not None


@pytest.mark.parametrize(
    "command",
    [
        ["ruff", "check", "."],
        ["ruff", "format", "--check", "."],
        ["mypy"],
    ],
    ids=" ".join,
)
def test_python(command: list[str]) -> None:
    """ruff's rules and formatting, and mypy --strict, have nothing to say."""
    program = Path(sys.executable).parent / command[0]
    ran = subprocess.run([program, *command[1:]], cwd=TOP, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_shell() -> None:
    """shellcheck has nothing to say about any script."""
    scripts = [name for name in tracked("*") if is_shell(name)]
    assert {"quickstart", "run-tests", "build-deb", "legacyhost/mounts/mount-unit.sh"} <= set(scripts)
    ran = subprocess.run(["shellcheck", *scripts], cwd=TOP, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout


def test_no_module_is_long() -> None:
    """A module that needs more than 350 lines is two."""
    lengths = {name: len((TOP / name).read_text("utf-8").splitlines()) for name in tracked("legacyhost/*.py")}
    assert {name: length for name, length in lengths.items() if length > 350} == {}


def test_nothing_is_left_open() -> None:
    """No note to do something later stands in the code."""
    words = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X|NotImplemented" r"Error)\b")
    names = [name for name in tracked("legacyhost/*", "tests/*", "packaging/*") if not name.endswith(".png")]
    assert [name for name in names if words.search((TOP / name).read_text("utf-8", errors="replace"))] == []
