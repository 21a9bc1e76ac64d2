"""What the checks ask of the machine: programs with a time limit, units, files."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from legacyhost.client import call
from legacyhost.config import Config, Paths, load
from legacyhost.deadline import Deadline
from legacyhost.errors import ConfigError, Failed
from legacyhost.mounts import tools
from legacyhost.ssh.attempt import Attempt, Late

#: Seconds for a program that asks nobody else.
LIMIT = 10.0
#: Seconds for a plugin's answer to what it need not ask anybody else.
ANSWER = 15.0
#: Where systemd looks for the programs of a unit (systemd.exec(5), ExecSearchPath=).
DIRECTORIES = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")


class Host:
    """This machine. ``paths`` are this software's own directories, ``root`` is where all the others begin."""

    def __init__(self, paths: Paths, root: Path = Path("/")) -> None:
        self.paths = paths
        self._root = root

    @property
    def is_root(self) -> bool:
        """Whether this process may look at everything."""
        return os.geteuid() == 0

    @property
    def has_systemd(self) -> bool:
        """Whether systemd is PID 1 (sd_booted(3))."""
        return self.at("/run/systemd/system").is_dir()

    def at(self, path: str) -> Path:
        """A file of this machine."""
        return self._root / path.lstrip("/")

    def configuration(self, plugin: str) -> Config | None:
        """None where it cannot be used: the check of that says why."""
        try:
            return load(self.paths.configuration(plugin))
        except ConfigError:
            return None

    def run(self, argv: Sequence[str], seconds: float = LIMIT) -> subprocess.CompletedProcess[str]:
        """A program's end, at most after ``seconds``; status 124 when it was cut off, 127 when there is none."""
        return tools.run(argv, seconds, {"HOME": "/root"})

    def program(self, name: str) -> Path | None:
        """The file systemd would run under that name."""
        found = self._files(name)
        return next((path for path in found if os.access(path, os.X_OK)), None)

    def not_executable(self, name: str) -> Path | None:
        """A file of that name where programs are, which cannot be run."""
        return next((path for path in self._files(name) if not os.access(path, os.X_OK)), None)

    def _files(self, name: str) -> list[Path]:
        return [path for directory in DIRECTORIES if (path := self.at(directory) / name).is_file()]

    def unit(self, name: str, *properties: str) -> dict[str, str]:
        """Properties of a unit (systemctl(1), show); empty texts where systemd does not answer."""
        ran = self.run(["systemctl", "show", *(f"--property={name}" for name in properties), "--", name])
        found = (line.partition("=") for line in ran.stdout.splitlines())
        return {**dict.fromkeys(properties, ""), **{key: value for key, _, value in found}}

    def ask(self, plugin: str, rpc: str, arguments: Mapping[str, object]) -> dict[str, object]:
        """A plugin's reply. Raises Failed with what it said, or with why there is none."""
        path = self.paths.sockets / f"{plugin}.sock"
        try:
            return Attempt(Deadline.after(ANSWER)).run(lambda: call(path, rpc, arguments))
        except Late as error:
            raise Failed(f"the plugin behind {path} has not answered within {ANSWER:.0f} s") from error
