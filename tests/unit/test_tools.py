"""Running a short program: to its end or to the time allowed, with nothing of the service's own environment."""

from __future__ import annotations

from pathlib import Path

import pytest

from legacyhost.deadline import Deadline
from legacyhost.mounts.tools import run, wait_until_gone


def test_a_program_runs_to_its_end() -> None:
    """Status, output and errors come back; there is nothing on its standard input."""
    ran = run(["sh", "-c", "cat; echo out; echo err >&2; exit 7"], 20)
    assert (ran.returncode, ran.stdout, ran.stderr) == (7, "out\n", "err\n")


def test_a_program_that_takes_too_long_is_killed() -> None:
    """The time is the caller's; no time left is still enough for one that is quick."""
    ran = run(["sleep", "60"], 0.05)
    assert (ran.returncode, ran.stderr) == (124, "sleep has not ended within 0 s")
    assert run(["true"], -5).returncode == 0


def test_a_program_that_cannot_be_run_is_a_status(tmp_path: Path) -> None:
    """Not installed, or no program at all."""
    assert run(["no-such-program"], 20).returncode == 127
    assert run(["no-such-program"], 20).stderr == "no-such-program: No such file or directory"
    (tmp_path / "file").touch()
    assert run([str(tmp_path / "file")], 20).returncode == 127


def test_the_environment_is_a_fixed_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs are found in the system's directories only, and see no variable of the service's."""
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("SECRET_OF_THE_SERVICE", "hunter2")
    found = dict(line.split("=", 1) for line in run(["env"], 20, {"GIVEN": "this"}).stdout.splitlines())
    assert found == {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", "GIVEN": "this"}


def test_output_is_kept_as_it_is() -> None:
    """A carriage return is not made a line break, and bytes that are no characters do not fail."""
    ran = run(["printf", "a\\rb\\r\\n\\377"], 20)
    assert ran.stdout == "a\rb\r\n\ufffd"


def test_what_is_not_mounted_is_gone(tmp_path: Path) -> None:
    """Even with no time left; what is mounted is waited for no longer than allowed."""
    assert wait_until_gone(tmp_path, Deadline.after(0))
    assert not wait_until_gone(Path("/proc"), Deadline.after(0.03))
