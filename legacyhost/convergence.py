"""What is held and what is mounted, brought together in the background, without ever delaying an answer.

At the start, when an engine introduces itself, when mountinfo changes and when a call has seen something odd: a mount
nobody holds is taken away; holds nobody uses are forgotten, after a time in which their container could have started;
what was unmounted, killed or covered by hand is noticed, said once, and shown by ``docker volume inspect``.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from legacyhost import log
from legacyhost.deadline import Deadline
from legacyhost.errors import Failed, PluginError
from legacyhost.history import History
from legacyhost.holds import UNKNOWN, Holds
from legacyhost.mounting import Mounting
from legacyhost.mounts.mountinfo import MOUNTINFO
from legacyhost.status import COVERED, LOST, MOUNTED, NOT_MOUNTED, SILENT
from legacyhost.turns import Turns

#: Seconds for which nobody must have used a volume before its holds are forgotten: between the reply to Mount and
#: the container lies the engine's own work.
GRACE = 30.0
#: Seconds between two looks while there are doubts; between two looks at who uses what when there are none and
#: something has been mounted or unmounted on this machine, as it is when containers come and go; and when nothing has.
OFTEN, CHANGED, SELDOM = 5.0, 30.0, 300.0
#: Seconds a mount may take to answer before it is said to be silent, and for which the answer is believed.
PATIENCE, FRESH = 5.0, 10.0
#: Seconds a change of mountinfo is let settle: an engine changes it many times for each container.
SETTLE = 0.5
TURN = 50.0


@dataclass(frozen=True)
class Seen:
    """A volume as it was found: one of the states of status.py, the source of its mount, its holds."""

    state: str
    source: str | None
    held: Mapping[str, int]

    @property
    def is_odd(self) -> bool:
        """Mounted and not held, or held and not mounted."""
        return bool(self.held) == (self.source is None)


class Convergence:
    """For the volumes of one plugin."""

    def __init__(
        self,
        holds: Holds,
        history: History,
        turns: Turns,
        mounting: Mounting,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._holds = holds
        self._history = history
        self._turns = turns
        self._mounting = mounting
        self._clock = clock
        self._wakes, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._changing = threading.Lock()
        self._asked: set[str | None] = set()
        #: Holds from before that moment, in seconds since the epoch, may be left over.
        self._suspect = 0.0
        #: Volume to the moment its next probe may begin.
        self._probes: dict[str, float] = {}
        #: Volume to (since when, as what) nobody has been seen to use it; volume to how it was found and left, because
        #: it is in use or could not be unmounted.
        self._doubts: dict[str, tuple[float, Seen]] = {}
        self._left: dict[str, Seen] = {}
        #: When users were last looked for; when everything is to be looked at again, without having been asked.
        self._searched = -OFTEN
        #: When a Mount last ended.
        self._mounted = -GRACE
        self._due = 0.0
        #: Volumes found by the last look; those whose holds could not be read.
        self._found: set[str] = set()
        self._unreadable: set[str] = set()

    def start(self) -> None:
        """Begin with a look at everything; returns at once."""
        self.doubt(None)
        for name in self._mounting.mounted():
            if self._history.of(name).state == SILENT:
                self.probe(name)  # nobody is waiting for its answer any more
        threading.Thread(target=self._run, name="convergence", daemon=True).start()

    def doubt(self, name: str | None) -> None:
        """See who uses that volume; or, None, all that are held until now, by an engine that may be no more.

        Returns at once.
        """
        with self._changing:
            self._asked.add(name)
            if name is None:
                # What is being done right now is done for the one before, however soon it ends.
                self._asked |= self._turns.busy()
                self._suspect = time.time()
        with suppress(BlockingIOError):  # then it is awake already
            os.write(self._wake, b"!")

    def probe(self, name: str) -> None:
        """Find out whether the volume's mount answers, unless that was done just now. Returns at once."""
        if name in self._doubts:
            return  # it would look used
        now = self._clock()
        with self._changing:
            if now < self._probes.get(name, 0.0) or self._mounting.source(name) is None:
                return
            self._probes[name] = float("inf")  # until this one has ended
        try:
            threading.Thread(target=self._probe, args=(name,), name=f"probe {name}", daemon=True).start()
        except RuntimeError as error:  # there are too many: whoever asks about the volume gets an answer all the same
            log.event(log.WARNING, f"it cannot be found out whether volume {name} answers: {error}", {"VOLUME": name})
            self._probed(name)

    def mounted(self) -> None:
        """A Mount has ended: its container may be about to start, with this and with others it has mounted before."""
        self._mounted = self._clock()

    def changed(self) -> None:
        """Something was mounted or unmounted: perhaps a container has come or gone without a word to us."""
        self._due = min(self._due, self._searched + CHANGED)

    def step(self) -> bool:
        """One look at everything, and what follows from it; whether there are doubts left."""
        with self._changing:
            asked, self._asked = self._asked, set()
        now = self._clock()
        is_due = None in asked or now >= self._due
        if is_due:
            self._due = now + SELDOM
        names = sorted({*self._mounting.mounted(), *self._holds.names(), *self._turns.busy()})
        looked = {name: self._look(name) for name in names}
        found = {name: seen for name, seen in looked.items() if seen is None or seen.held or seen.source is not None}
        waiting = {name for name, seen in found.items() if seen is None}
        with self._changing:
            self._asked |= waiting if is_due else waiting & asked
        for name, seen in found.items():
            if seen is None:
                continue
            if seen.state == COVERED:
                self._doubts.pop(name, None)
            elif (
                name in asked
                or (is_due and (seen.is_odd or self._may_be_left_over(name, seen)))
                or (seen.is_odd and self._left.get(name) != seen)
            ):
                self._doubts.setdefault(name, (now, seen))
        self._forget_others(found)
        if self._doubts and now - self._searched >= OFTEN:
            self._searched = now
            self._settle(found, now)
        with self._changing:
            return bool(self._doubts or self._asked or waiting)

    def _run(self) -> None:
        with MOUNTINFO.open() as mountinfo:
            watched = select.poll()
            watched.register(mountinfo, select.POLLPRI)
            watched.register(self._wakes, select.POLLIN)
            pause = 0.0
            while True:
                happened = dict(watched.poll(pause * 1000))
                if mountinfo.fileno() in happened:
                    self.changed()
                time.sleep(SETTLE)
                with suppress(BlockingIOError):
                    os.read(self._wakes, 4096)
                try:
                    pause = OFTEN if self.step() else max(OFTEN, self._due - self._clock())
                except PluginError as error:
                    log.event(log.WARNING, error.message)
                    pause = OFTEN
                except Exception:  # noqa: BLE001 - a defect, told with its traceback; the next look may go well
                    log.exception("what is held and what is mounted cannot be compared")
                    pause = SELDOM

    def _look(self, name: str) -> Seen | None:
        """None while somebody is at work on the volume, or its holds cannot be read."""
        try:
            held = self._holds.of(name)
            seen = Seen(self._mounting.state(name, is_held=bool(held)), self._mounting.source(name), held)
            # In this order: of one who is done by now, the holds have changed.
            if self._turns.is_busy(name) or self._holds.of(name) != held:
                return None
        except Failed as error:
            if name not in self._unreadable:
                self._history.error(name, error.message)
                log.event(log.ERROR, error.message, {"VOLUME": name})
            self._unreadable.add(name)
            return None
        self._unreadable.discard(name)
        past = self._history.of(name).state
        if seen.state == MOUNTED and past != SILENT:
            self._history.state(name, MOUNTED)
        elif seen.state == COVERED and self._history.state(name, COVERED):
            log.event(log.WARNING, self._mounting.covered(name, seen.source or ""), {"VOLUME": name})
        elif seen.state == LOST and self._history.state(name, LOST):
            text = f"volume {name} is not mounted any more; containers that have it have to be restarted"
            log.event(log.WARNING, text, {"VOLUME": name})
        return seen

    def _may_be_left_over(self, name: str, seen: Seen) -> bool:
        """Others are held by an engine that has been there since, whether we see it use them or not."""
        return UNKNOWN in seen.held or self._holds.changed(name) <= self._suspect

    def _forget_others(self, found: Mapping[str, object]) -> None:
        """Of volumes that are neither mounted nor held any more, nothing that was seen before counts."""
        for name in self._found - found.keys():
            self._doubts.pop(name, None)
            self._left.pop(name, None)
            self._unreadable.discard(name)
            if self._history.of(name).state in (COVERED, LOST) and not self._turns.is_busy(name):
                self._history.state(name, NOT_MOUNTED)
        self._found = set(found)

    def _settle(self, found: Mapping[str, Seen | None], now: float) -> None:
        users = self._mounting.users()
        for name, (since, doubted) in list(self._doubts.items()):
            seen = found[name]
            if seen is None:
                continue
            if any(self._mounting.is_used_by(name, user) for user in users):
                del self._doubts[name]
                if not seen.held:
                    self._recover(name)
                else:
                    self._left[name] = seen
            elif seen != doubted:
                self._doubts[name] = (now, seen)
            elif (idle := self._mounting.idle(name)) < now - since:
                self._doubts[name] = (now - idle, seen)  # an engine that copies is seen only while it has a file open
            elif not seen.held or (now - max(since, self._mounted) >= GRACE and not self._turns.busy()):
                del self._doubts[name]
                self._let_go(name, seen)

    def _recover(self, name: str) -> None:
        """Record again that the volume is held, though not by whom."""
        try:
            with self._turns.turn(name, Deadline.after(TURN)):
                if not self._holds.of(name):
                    self._holds.add(name, UNKNOWN)
                    text = f"volume {name} is in use by running containers, and the record of that was lost"
                    log.event(log.WARNING, text, {"VOLUME": name})
        except PluginError as error:
            log.event(log.WARNING, error.message, {"VOLUME": name})

    def _let_go(self, name: str, seen: Seen) -> None:
        """Unmount the volume and forget the holds on it, unless somebody has come meanwhile."""
        deadline = Deadline.after(TURN)
        try:
            with self._turns.turn(name, deadline):
                if self._holds.of(name) != seen.held or self._mounting.source(name) != seen.source:
                    return
                self._mounting.unmount(name, deadline, unless_used=True)
                self._holds.clear(name)
                self._mounting.clean(name)
                self._history.state(name, NOT_MOUNTED)
        except PluginError as error:
            self._left[name] = seen
            log.event(log.WARNING, f"volume {name} stays as it is: {error.message}", {"VOLUME": name})
            return
        what = f"held by {sum(seen.held.values())} and" if seen.held else "mounted and"
        log.event(log.WARNING, f"volume {name} was {what} used by nobody: it is free now", {"VOLUME": name})

    def _probe(self, name: str) -> None:
        try:
            asked = time.time()
            question = self._mounting.ask(name)
            while (answer := question.wait(PATIENCE)) is None and self._mounting.is_busy(name, asked):
                asked = time.time()
            if answer is None:
                if self._history.of(name).state == MOUNTED and self._history.state(name, SILENT):
                    log.event(log.WARNING, f"the mount of volume {name} does not answer", {"VOLUME": name})
                answer = question.wait(None)  # the same process, for as long as it takes
            if answer and self._history.of(name).state == SILENT:
                self._history.state(name, MOUNTED)
                log.event(log.INFO, f"the mount of volume {name} answers again", {"VOLUME": name})
        except PluginError as error:
            log.event(log.WARNING, error.message, {"VOLUME": name})
        finally:
            self._probed(name)

    def _probed(self, name: str) -> None:
        with self._changing:
            self._probes[name] = self._clock() + FRESH
