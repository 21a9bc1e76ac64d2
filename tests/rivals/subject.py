"""What is common to the plugins compared: a machine with one of them, and what a user types at it."""

from __future__ import annotations

import re
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from system.machine import Machine
from system.sshd import SshServer

from .workload import Log, script, uptime

#: Seconds after which a command counts as hanging: longer than Docker's own limit of two minutes for a call.
PATIENCE = 150.0
#: What every remote directory contains from the start.
FILE, CONTENT = "known", "from the remote host"


@dataclass(frozen=True)
class Answer:
    """What a command said and how long it took; `ok` is None if it was still running at its limit."""

    ok: bool | None
    out: str
    said: str
    seconds: float

    def __str__(self) -> str:
        """For the table, in a few words."""
        if self.ok is None:
            return f"no answer within {self.seconds:.0f} s"
        return "works" if self.ok else self.said


def shorten(text: str) -> str:
    """The part of an error message that says what is wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    daemon = [line for line in lines if "Error response from daemon" in line]
    line = (daemon or lines or ["no message"])[-1]
    line = re.sub(r"^(docker: )?(Error response from daemon: )?", "", line)
    line = re.sub(r"^.*VolumeDriver\.\w+\"?: ", "", line).rstrip(".")
    return line if len(line) <= 160 else line[:159] + "…"


class Subject(ABC):
    """One plugin installed in a machine of its own, with an SSH host beside it."""

    key: str
    suite: str
    driver: str
    service: str
    #: Where its mounts are, its record of volumes, and the directory to put on a file system of its own.
    base: str
    state_file: str
    state_root: str
    remote: SshServer
    #: What its manual gives against a damaged record of volumes.
    repair: str | None = None

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        machine.import_image("busybox", engines=("docker",))
        machine.write("/etc/systemd/system/docker.service.d/tests.conf", "[Unit]\nStartLimitIntervalSec=0\n")
        self._serial = 0

    @abstractmethod
    def options(self, directory: str) -> dict[str, str]:
        """The least options of a volume on that directory of the remote account."""

    def usual_options(self, directory: str) -> dict[str, str]:
        """The options its own documentation gives for containers that read and write."""
        return self.options(directory)

    @abstractmethod
    def version(self) -> str:
        """Name and version, for the table's head."""

    @abstractmethod
    def kill_mount(self, volume: str) -> None:
        """SIGKILL the process that serves this volume's mount."""

    def mountpoint(self, volume: str) -> str:
        return f"{self.base}/{volume}"

    def attempt(self, command: Sequence[str] | str, timeout: float = PATIENCE) -> Answer:
        """Run a command in the machine; never raises for what it does, and never waits longer than `timeout`."""
        started = time.monotonic()
        process = self.machine.popen(command)
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            return Answer(None, "", "", time.monotonic() - started)
        finally:
            process.end()
        return Answer(process.returncode == 0, out, shorten(err), time.monotonic() - started)

    def docker(self, *words: str, timeout: float = PATIENCE) -> Answer:
        return self.attempt(["docker", *words], timeout)

    def create_words(self, name: str, options: dict[str, str]) -> list[str]:
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        return ["volume", "create", "-d", self.driver, *words, name]

    def directory(self, name: str) -> str:
        """Make a directory of that name on the remote host, with FILE in it. Returns its path there."""
        path = f"{self.remote.home}/{name}"
        self.machine.run(["install", "-d", "-o", self.remote.user, "-g", self.remote.user, path])
        self.machine.run(f"echo {CONTENT} >{path}/{FILE} && chown {self.remote.user}: {path}/{FILE}")
        return path

    def create(self, name: str) -> None:
        """A volume with the usual options on a remote directory of its name. Raises AssertionError."""
        self.directory(name)
        made = self.docker(*self.create_words(name, self.usual_options(name)))
        assert made.ok, f"volume {name} cannot be created: {made}"

    def start(self, container: str, volume: str, command: str, *options: str, timeout: float = PATIENCE) -> Answer:
        words = ["run", "-d", "--network", "none", "--stop-timeout", "1", "-v", f"{volume}:/data", *options]
        return self.docker(*words, "--name", container, "busybox", "sh", "-c", command, timeout=timeout)

    def work(self, container: str, volume: str, operation: str, *options: str) -> None:
        """A container that repeats `operation` for ever, seen to do it. Raises AssertionError."""
        started = self.start(container, volume, script(operation), *options)
        assert started.ok, f"{container} does not start: {started}"
        self.machine.wait_for(lambda: len(self.log(container).attempts) >= 3, 30)
        assert not self.log(container).failed(0), f"{container}: {self.log(container).attempts}"

    def log(self, container: str) -> Log:
        """What `work()` in that container has done so far; empty while docker does not answer."""
        return Log.parse(self.docker("logs", container, timeout=20).out, uptime())

    def use(self, volume: str, *options: str, timeout: float = PATIENCE) -> str:
        """Start a container on the volume that reads FILE and writes another: "works", or what went wrong."""
        self._serial += 1
        command = f"cat /data/{FILE} && echo x >/data/written-{self._serial}"
        words = ["run", "--rm", "--network", "none", "-v", f"{volume}:/data", *options, "busybox", "sh", "-c"]
        answer = self.docker(*words, command, timeout=timeout)
        if answer.ok is False and f"/data/{FILE}': No such file" in answer.said:
            driver = self.docker("volume", "inspect", "-f", "{{.Driver}}", volume).out.strip()
            if driver != self.driver:
                return f"volume forgotten, container starts on an empty one of driver {driver}"
            return "container starts on an empty directory"
        return str(answer)

    def known(self, names: Sequence[str]) -> int:
        """How many of these volumes the plugin knows: docker asks it for each, but lists what itself remembers."""
        found = self.docker("volume", "inspect", "-f", "{{.Driver}} {{.Name}}", *names).out.splitlines()
        return len({f"{self.driver} {name}" for name in names} & set(found))

    def mounted(self) -> list[str]:
        """The mountpoints of the plugin in mountinfo."""
        points = (line.split()[4] for line in self.machine.run("cat /proc/self/mountinfo").stdout.splitlines())
        return sorted(point for point in points if PurePosixPath(point).parent == PurePosixPath(self.base))
