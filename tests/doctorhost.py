"""A machine made of files in a directory and of answers to commands, for the doctor's checks."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from legacyhost.config import Paths
from legacyhost.doctor import Finding
from legacyhost.doctor.host import LIMIT, Host

Answer = tuple[int, str, str]


class FakeHost(Host):
    """`answers`: by the beginning of a command line, the longest first; what is not there is not installed.

    `units`: properties of units by name. Programs are made with `install`.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        paths = Paths(directory / "etc", directory / "var", directory / "run", directory / "sockets")
        for path in (paths.etc, paths.state, paths.run, paths.sockets):
            path.mkdir(mode=0o700)
        super().__init__(paths, directory)
        self.answers: dict[str, Answer] = {}
        self.units: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []
        self.is_root_here = True
        self.runs_systemd = True

    @property
    def is_root(self) -> bool:
        return self.is_root_here

    @property
    def has_systemd(self) -> bool:
        return self.runs_systemd

    def install(self, program: str, answer: Answer = (0, "", ""), mode: int = 0o755) -> Path:
        path = self.file(f"usr/bin/{program}")
        path.chmod(mode)
        self.answers[str(path)] = answer
        return path

    def file(self, path: str, content: str = "") -> Path:
        made = self.at(path)
        made.parent.mkdir(parents=True, exist_ok=True)
        made.write_text(content)
        return made

    def run(self, argv: Sequence[str], seconds: float = LIMIT) -> subprocess.CompletedProcess[str]:
        line = " ".join(argv)
        self.asked.append(line)
        known = max((key for key in self.answers if line.startswith(key)), key=len, default=None)
        status, out, err = (127, "", "no such program") if known is None else self.answers[known]
        return subprocess.CompletedProcess(argv, status, out, err)

    def unit(self, name: str, *properties: str) -> dict[str, str]:
        found = self.units.get(name, {})
        return {key: found.get(key, "") for key in properties}


def only(findings: Sequence[Finding], level: str = "error") -> Finding:
    """The one finding there is, of that level, with all its parts."""
    (finding,) = findings
    assert finding.level == level, finding
    if level != "ok":
        assert finding.what
        assert finding.why
    return finding
