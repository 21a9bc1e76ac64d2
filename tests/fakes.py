"""Stand-ins for what the core is given: a kind of storage, the kernel's mounts, a plugin behind a socket.

Each keeps its state in public attributes for tests to look at, and every step can be made to wait or to fail.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from legacyhost.convergence import Convergence
from legacyhost.deadline import Deadline
from legacyhost.drivers import Connection, Sharing
from legacyhost.errors import Failed, InvalidRequest, PluginError, Refused
from legacyhost.history import History
from legacyhost.holds import Holds
from legacyhost.mounting import Mounting
from legacyhost.mounts import Companion, MountCommand, MountFailed, User
from legacyhost.state import State, Volume
from legacyhost.turns import Turns
from legacyhost.volumes import Volumes

#: Seconds after which a test gives up waiting for what should have happened at once.
WAIT = 20.0


def until(is_so: Callable[[], object]) -> None:
    """Wait for another thread to have done what it does at once."""
    end = time.monotonic() + WAIT
    while not is_so():
        assert time.monotonic() < end, "it has not come about"
        threading.Event().wait(0.005)


class Logged(logging.Handler):
    """What is logged at that level or a worse one, while the ``with`` block runs."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.records: list[logging.LogRecord] = []
        self.messages: list[str] = []
        self._logger = logging.getLogger("legacyhost")
        self._before = self._logger.level

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        self.messages.append(record.getMessage())

    def __enter__(self) -> Logged:
        self._logger.addHandler(self)
        self._logger.setLevel(self.level)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._before)


class Gate(AbstractContextManager["Gate"]):
    """Where a step waits until the test lets it go on; leaving the ``with`` block lets it go on too."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._opened = threading.Event()

    def wait_until_reached(self) -> None:
        assert self._reached.wait(WAIT), "nobody has come to the gate"

    def open(self) -> None:
        self._opened.set()

    def pass_through(self) -> None:
        self._reached.set()
        assert self._opened.wait(WAIT), "nobody has opened the gate"

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open()


class Step:
    """One thing a fake does: ``taken`` is for which volumes, in order."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self._changed = threading.Condition()
        self._errors: list[Exception | None] = []
        self._error: Exception | None = None
        self._gates: dict[str, Gate] = {}

    def fail(self, *errors: Exception | None) -> None:
        """The next times fail so, one after the other; None is a success."""
        self._errors = list(errors)

    def always_fail(self, error: Exception | None) -> None:
        self._error = error

    def stop_at(self, volume: str) -> Gate:
        """Whoever takes the step for that volume waits at the gate, the first time and later."""
        self._gates[volume] = Gate()
        return self._gates[volume]

    def wait_for(self, count: int) -> None:
        """Return when the step has been taken that many times in all."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.taken) >= count, WAIT), f"taken only for {self.taken}"

    def take(self, volume: str) -> None:
        with self._changed:
            self.taken.append(volume)
            error = self._errors.pop(0) if self._errors else self._error
            self._changed.notify_all()
        if volume in self._gates:
            self._gates[volume].pass_through()
        if error is not None:
            raise error


class FakeDriver:
    """A kind of storage without any: ``data`` is what the remote host has, by volume.

    Options are ``place``, ``timeout``, ``on_remove`` and ``password``; the last must never be seen anywhere.
    """

    def __init__(self) -> None:
        self.data: set[str] = set()
        self.purged: list[str] = []
        self.preparing, self.explaining, self.removing, self.arriving = Step(), Step(), Step(), Step()
        self.explanation: PluginError | None = None
        self.refusals: dict[str, str] = {}
        self.connections: dict[str, Connection] = {}
        #: Names of those that share a connection; of all that were asked; why that cannot be.
        self.shared: set[str] = set()
        self.sharings: list[str] = []
        self.sharing_error: OSError | None = None
        #: The passwords of volumes that have one.
        self.secrets: dict[str, str] = {}
        self.keeping, self.forgetting = Step(), Step()
        self.default_timeout = 30.0
        self.deadlines: list[Deadline] = []

    def parse(self, name: str, given: Mapping[str, str]) -> Mapping[str, str]:
        for option in given:
            if option not in ("place", "timeout", "on_remove", "password"):
                raise InvalidRequest(f"unknown option {option}")
        return {"place": f"/srv/{name}", **given}

    def timeout(self, options: Mapping[str, str]) -> float:
        self.arriving.take(options["place"])
        return float(options.get("timeout", self.default_timeout))

    def prepare(self, volume: Volume, deadline: Deadline) -> Mapping[str, str]:
        assert not deadline.is_over()
        self.preparing.take(volume.name)
        self.data.add(volume.name)
        return {"learned": f"about {volume.name}"}

    secret_option = "password"

    def keep(self, volume: Volume) -> Volume:
        if "password" not in volume.options:
            return volume
        self.keeping.take(volume.name)
        options = dict(volume.options)
        self.secrets[volume.name] = options.pop("password")
        return replace(volume, options=options)

    def is_same(self, volume: Volume, options: Mapping[str, str]) -> bool:
        password = {"password": self.secrets[volume.name]} if volume.name in self.secrets else {}
        return {**volume.options, **password} == dict(options)

    def forget(self, name: str) -> None:
        self.forgetting.take(name)
        self.secrets.pop(name, None)

    def command(self, volume: Volume, mountpoint: Path, folder: Path) -> MountCommand:
        (folder / "secret").write_text("hunter2")
        return MountCommand(["fake-mount", str(mountpoint)], f"Volume {volume.name}", {"FOLDER": str(folder)})

    def sharing(self, volume: Volume, root: Path) -> Sharing | None:
        self.sharings.append(volume.name)
        if self.sharing_error is not None:
            raise self.sharing_error
        if volume.name not in self.shared:
            return None
        is_first = self.sharings.count(volume.name) == 1
        companion = Companion(root, ["fake-connection"], "Shared", {}, Path("/nonexistent"), lambda: None)
        return Sharing({"SHARED": str(root)}, companion if is_first else None)

    def connection(self, folder: Path, source: str) -> Connection | None:
        return self.connections.get(source)

    def explain(self, volume: Volume, deadline: Deadline) -> PluginError | None:
        self.deadlines.append(deadline)
        self.explaining.take(volume.name)
        return self.explanation

    def removal(self, volume: Volume, others: Callable[[], Sequence[Volume]]) -> None:
        assert volume.name not in [other.name for other in others()]
        if volume.name in self.refusals:
            raise Refused(self.refusals[volume.name])

    def remove(self, volume: Volume, deadline: Deadline) -> None:
        self.removing.take(volume.name)
        if volume.options.get("on_remove") == "purge":
            self.purged.append(volume.name)

    def describe(self, volume: Volume) -> Mapping[str, object]:
        return {"place": volume.options["place"], "learned": volume.facts["learned"]}


class FakeKernel:
    """What is mounted, and which directories there are to mount on; ``users`` are containers that see a mount, or saw
    the one that is not there any more.

    ``covered`` are volumes with something else mounted on top, by its source; mounts that are ``silent`` never answer,
    those that are ``broken`` answer with an error.
    """

    ROOT = Path("/fake/mounts")

    def __init__(self) -> None:
        self.mounted: set[str] = set()
        self.covered: dict[str, str] = {}
        self.silent: set[str] = set()
        self.broken: set[str] = set()
        self.directories: set[str] = set()
        self.users: dict[str, list[int]] = {}


class FakeQuestion:
    def __init__(self, kernel: FakeKernel, volume: str) -> None:
        self._kernel = kernel
        self._volume = volume
        self.is_given_up = False

    def wait(self, seconds: float | None) -> bool | None:
        end = time.monotonic() + WAIT
        while self._volume in self._kernel.silent:
            if seconds is not None:
                return None
            assert time.monotonic() < end, "the mount stays silent, and it is still waited for"
            time.sleep(0.005)
        return self._volume in self._kernel.mounted and self._volume not in self._kernel.broken

    def give_up(self) -> None:
        self.is_given_up = True


class FakeMountpoints:
    def __init__(self, kernel: FakeKernel) -> None:
        self._kernel = kernel
        self.preparing, self.asking = Step(), Step()

    def path(self, volume: str) -> Path:
        return self._kernel.ROOT / volume

    def is_mounted(self, volume: str) -> bool:
        return self.source(volume) is not None

    def source(self, volume: str) -> str | None:
        ours = f"ours:{volume}" if volume in self._kernel.mounted else None
        return self._kernel.covered.get(volume, ours)

    def mounted(self) -> Mapping[str, str]:
        names = self._kernel.mounted | self._kernel.covered.keys()
        return {name: source for name in names if (source := self.source(name))}

    def ask(self, volume: str) -> FakeQuestion:
        self.asking.take(volume)
        return FakeQuestion(self._kernel, volume)

    def prepare(self, volume: str) -> None:
        self.preparing.take(volume)
        self._kernel.directories.add(volume)

    def remove(self, volume: str) -> None:
        if volume not in self._kernel.mounted:
            self._kernel.directories.discard(volume)


class FakeMounter:
    """Mounts in ``kernel``; never one over another, never where there is no directory."""

    def __init__(self, kernel: FakeKernel) -> None:
        self._kernel = kernel
        self.mounting, self.answering, self.unmounting, self.asking = Step(), Step(), Step(), Step()
        #: Names whose program ends as soon as it has mounted.
        self.fleeting: set[str] = set()
        #: Names whose mount an earlier process has left without an answer.
        self.half_made: set[str] = set()
        self.deadlines: list[Deadline] = []
        #: What was begun with each mount, and what each was told.
        self.companions: list[str] = []
        self.environments: list[Mapping[str, str]] = []

    def mount(self, volume: str, mountpoint: Path, command: MountCommand, deadline: Deadline) -> None:
        assert not deadline.is_over()
        self.deadlines.append(deadline)
        self.environments.append(command.environment)
        self.mounting.take(volume)
        assert volume in self._kernel.directories, "there is no directory to mount on"
        assert volume not in self._kernel.mounted, "one mount over another"
        assert Path(command.environment["FOLDER"], "secret").is_file(), "the program's files are missing"
        if volume not in self.fleeting:
            self._kernel.mounted.add(volume)
        self.answering.take(volume)

    def accompany(self, companion: Companion) -> None:
        self.companions.append(companion.description)

    def is_ours(self, volume: str, source: str) -> bool:
        return source == f"ours:{volume}"

    def settle(self, volume: str, mountpoint: Path, deadline: Deadline) -> None:
        if volume in self.half_made:
            self.half_made.discard(volume)
            self._kernel.mounted.discard(volume)

    def unmount(self, volume: str, mountpoint: Path, deadline: Deadline) -> None:
        self.unmounting.take(volume)
        if volume not in self._kernel.mounted:
            raise Failed(f"volume {volume} is not mounted")
        self._kernel.mounted.discard(volume)

    def unstick(self, volume: str, mountpoint: Path, deadline: Deadline) -> None:
        self._kernel.mounted.discard(volume)

    def users(self) -> Sequence[User]:
        self.asking.take("all")
        users = self._kernel.users
        return [User(process, source=f"ours:{name}") for name in users for process in users[name]]

    def where_to_look(self, volume: str) -> str:
        return f"look-at {volume}"


class FakeClock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class World:
    """A whole volume side on fakes, state and holds real ones below ``directory``."""

    def __init__(self, directory: Path) -> None:
        self.runtime = directory / "run"
        self.record = directory / "state"
        self.record.mkdir()
        self.driver = FakeDriver()
        self.kernel = FakeKernel()
        self.mounter = FakeMounter(self.kernel)
        self.mountpoints = FakeMountpoints(self.kernel)
        self.clock = FakeClock()
        self.restart()

    def restart(self) -> None:
        """The service ends without a word and starts again; the kernel does not notice."""
        self.state = State(self.record)
        self.holds = Holds(self.runtime / "volumes")
        self.history = History(self.runtime / "history")
        self.turns = Turns()
        self.mounting = Mounting(self.driver, self.mountpoints, self.mounter, self.runtime)
        self.volumes = Volumes(
            state=self.state, holds=self.holds, history=self.history, turns=self.turns, mounting=self.mounting
        )
        #: Not started: tests make its steps.
        self.convergence = Convergence(self.holds, self.history, self.turns, self.mounting, self.clock)
        self.volumes.on_interest, self.volumes.on_doubt = self.convergence.probe, self.convergence.doubt

    def reboot(self) -> None:
        """The runtime directory and the mounts are lost, the state stays."""
        self.kernel.mounted.clear()
        self.kernel.directories.clear()
        for path in sorted(self.runtime.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        self.restart()

    def assert_nothing_is_left(self) -> None:
        """Of volumes not mounted: no mount, no directory, no file, no hold."""
        assert self.kernel.mounted == set()
        assert self.kernel.directories == set()
        assert self.left_behind() == []

    def left_behind(self) -> list[str]:
        """What there is in the runtime directory, as relative paths."""
        folder = self.runtime / "volumes"
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


class FakePlugin:
    """Answers on a socket with what stands in ``replies`` by RPC: raw bytes, or a status and a JSON value."""

    def __init__(self, path: Path, replies: Mapping[str, bytes | tuple[int, object]]) -> None:
        self.asked: list[tuple[str, object]] = []
        self._replies = replies
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as request:
                rpc = request.readline().split()[1].decode().lstrip("/")
                headers = dict(line.lower().split(b": ", 1) for line in iter(request.readline, b"\r\n"))
                self.asked.append((rpc, json.loads(request.read(int(headers[b"content-length"])))))
                connection.sendall(self._reply(rpc))

    def _reply(self, rpc: str) -> bytes:
        reply = self._replies.get(rpc, (404, {"Err": f"no method {rpc}"}))
        if isinstance(reply, bytes):
            return reply
        return f"HTTP/1.1 {reply[0]} x\r\nConnection: close\r\n\r\n{json.dumps(reply[1])}".encode()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


#: The usual failure of a mount.
ENDED = MountFailed("it has ended")
