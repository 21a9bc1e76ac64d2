"""The machine under the soak, and what all threads share: the gate, the faults in effect, the record of operations."""

from __future__ import annotations

import contextlib
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from subprocess import CompletedProcess

from system.installed import Installed
from system.sshd import SshServer

from .model import Model

#: Seconds. No operation may take longer, whatever happens: Docker itself gives a plugin 120 for a Mount.
BOUND = 150.0
#: How many operations a report shows.
SHOWN = 30
#: Lines of the journal it does not show: what asks and changes nothing, what dockerd tells of itself.
DULL = re.compile(r"level=info|(Get|List|Activate|Capabilities)( \S+)? done|Create \S+ done \(0 ms\)")


class Violation(AssertionError):
    """Something is true that must not be."""


class Over(Exception):
    """The soak has ended: no further operation."""


@dataclass(eq=False)
class Disturbance:
    """A fault in effect: from its beginning until everything it disturbed is there again (`ended`).

    `volumes` are the names of those it concerns, None for all.
    """

    kind: str
    volumes: frozenset[str] | None
    began: float
    ended: float | None = None


@dataclass(frozen=True)
class Entry:
    """One operation (or fault, or check) as the report shows it."""

    who: str
    what: str
    began: float
    took: float
    result: str
    during: Sequence[str]

    def __str__(self) -> str:
        during = f" [{', '.join(self.during)}]" if self.during else ""
        return f"{self.began:7.1f} {self.took:5.1f}s {self.who:6} {self.what}{during}: {self.result}"


class World:
    """One run: the machine and its model; threads do their steps in `step()`, and nobody moves in `quiet()`."""

    def __init__(self, installed: Installed, model: Model, servers: Sequence[SshServer], secret: str) -> None:
        self.installed, self.machine, self.model = installed, installed.machine, model
        self.servers, self.secret = servers, secret
        self.steps = 0
        self.entries: list[Entry] = []
        self.violation: Violation | None = None
        self.disturbances: list[Disturbance] = []
        self.strays: list[str] = []
        self._began = time.monotonic()
        self._changed = threading.Condition()
        self._is_open = True
        self._is_over = False
        self._at_work = 0

    def now(self) -> float:
        return time.monotonic() - self._began

    @contextlib.contextmanager
    def step(self) -> Iterator[None]:
        """Around everything a client does. Raises Over when there is nothing more to do."""
        with self._changed:
            self._changed.wait_for(lambda: self._is_open or self._is_over)
            if self._is_over:
                raise Over
            self._at_work += 1
            self.steps += 1
            self._changed.notify_all()
        try:
            yield
        except Violation as violation:
            self.violation = self.violation or violation
            self.finish()
        finally:
            with self._changed:
                self._at_work -= 1
                self._changed.notify_all()

    def shut(self) -> None:
        """Let no further step begin."""
        with self._changed:
            self._is_open = False

    def wait_until_idle(self) -> None:
        """Until the steps in flight have ended; each has its bound."""
        with self._changed:
            assert self._changed.wait_for(lambda: not self._at_work, 5 * BOUND), "a step that does not end"

    @contextlib.contextmanager
    def quiet(self) -> Iterator[None]:
        """Nobody does anything meanwhile."""
        self.shut()
        self.wait_until_idle()
        yield
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def finish(self) -> None:
        with self._changed:
            self._is_over = True
            self._changed.notify_all()

    def wait_for_steps(self, number: int, is_enough: Callable[[], bool]) -> bool:
        """Until so many steps have begun; False if the run ends before (`is_enough`, a violation)."""
        with self._changed:
            while self.steps < number and not self._is_over and not is_enough():
                self._changed.wait(0.2)
            return self.steps >= number and not self._is_over and not is_enough()

    def run(self, words: Sequence[str], **options: str) -> CompletedProcess[str]:
        """A command inside that may fail, and may not hang. Where the machine itself is lost it fails too."""
        try:
            return self.machine.run(words, check=False, timeout=BOUND, **options)  # type: ignore[arg-type]
        except AssertionError as error:
            if not self.machine.booted:
                return CompletedProcess(words, 255, "", "the machine is off")
            raise Violation(f"an operation hangs: {error}") from error
        except (RuntimeError, OSError, ValueError):
            if any(disturbance.kind == "power loss" for disturbance in self.disturbances):
                return CompletedProcess(words, 255, "", "the machine is off")
            raise

    @contextlib.contextmanager
    def disturbed(self, kind: str, volumes: frozenset[str] | None = None) -> Iterator[Disturbance]:
        disturbance = Disturbance(kind, volumes, self.now())
        self.disturbances.append(disturbance)
        yield disturbance
        disturbance.ended = self.now()

    def during(self, began: float, volume: str | None) -> list[str]:
        """The faults that were in effect at some time since, and concern that volume (None: concern any)."""
        return [
            fault.kind
            for fault in self.disturbances
            if (fault.ended is None or fault.ended >= began)
            and (fault.volumes is None or volume is None or volume in fault.volumes)
        ]

    def note(self, who: str, what: str, began: float, result: str, during: Sequence[str] = ()) -> None:
        self.entries.append(Entry(who, what, began, self.now() - began, result, during))

    def excused(self) -> str:
        """Every operation that failed because of a fault."""
        return "\n".join(str(entry) for entry in self.entries if entry.during and not entry.result.startswith("0"))

    def report(self, about: str) -> str:
        """What the last operations did, the journal of that time, and all it says of the volumes named in `about`."""
        units = ["-u", "legacyhost@sshfs.service", "-u", "legacyhost:*", "-u", "docker.service"]
        journal = self.machine.run(["journalctl", "-o", "short-precise", *units], check=False).stdout
        lines = [line for line in journal.splitlines() if not DULL.search(line)]
        names = re.compile("|".join(rf"\b{name}\b" for name in self.model.volumes if name in about) or "(?!)")
        parts = {
            "excused by faults": self.excused(),
            "the last operations (begin, duration, who, what, result)": "\n".join(map(str, self.entries[-SHOWN:])),
            "the journal about it": "\n".join([line for line in lines if names.search(line)][-60:]),
            "the journal": "\n".join(lines[-120:]),
        }
        return "\n\n".join(f"{title}:\n{text}" for title, text in parts.items())
