"""The policy in force: read at the start, at a reload, and where it is elsewhere by a clock, all in the background.

A policy that is not good takes the place of none; what is in force then is told, and why. Who asks what is in force
waits for nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from legacyhost import log
from legacyhost.errors import Failed, PluginError
from legacyhost.policy import Policy
from legacyhost.policysource import Found, Source

#: Seconds between two looks while there is no policy in force, and where a host is away from which one is to come; what
#: is elsewhere is asked less and less often: servers lock out who is refused every few seconds.
RETRY, AWAY = 3.0, 30.0
#: How many ask another host at a time: each reload asks anew, and whoever asks a silent host takes a minute.
ASKING = 4
#: Seconds for which one of them waits before it looks whether it is still wanted.
TURN = 0.5
#: Seconds for which a start or a reload waits for what is on this host: a file may be on a disk that hangs.
PATIENCE = 3.0


@dataclass(frozen=True)
class InForce:
    """What decides now. Without a policy, ``why_not`` is a sentence."""

    policy: Policy | None
    why_not: str = ""
    place: str = ""
    #: Where it comes from elsewhere: when it was so there.
    read: datetime | None = None
    text: str = ""


class _Follower:
    """Looks after one source until another takes its place; what it finds then is nobody's."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.is_over = threading.Event()
        self.has_looked = threading.Event()


class Policies:
    """Follows the source it was given last."""

    def __init__(self, retry: float = RETRY, changed: Callable[[], None] = lambda: None) -> None:
        """``changed`` is called when the status is another one."""
        self._changed = changed
        self.in_force = InForce(None, "no policy has been read yet")
        #: Why what was found last is not in force.
        self.trouble = ""
        self._retry = retry
        self._changing = threading.Lock()
        self._keeping, self._asking = threading.Lock(), threading.Semaphore(ASKING)
        self._follower: _Follower | None = None

    def follow(self, source: Source) -> None:
        """Take over the policy of that source as soon as it can be had; returns after a moment at the latest."""
        follower = _Follower(source)
        with self._changing:
            if self._follower is not None:
                self._follower.is_over.set()
            self._follower = follower
            if self.in_force.policy is None:
                self.in_force = InForce(None, f"the policy {source.place} has not been read yet")
        threading.Thread(target=self._follow, args=(follower,), name="policy", daemon=True).start()
        follower.has_looked.wait(PATIENCE)

    def refuse(self, reason: str) -> None:
        """There is no source, for that reason; what is in force stays."""
        with self._changing:
            if self._follower is not None:
                self._follower.is_over.set()
            self._follower = None
            self._not_good(reason)

    @property
    def status(self) -> str:
        """In words, for STATUS=."""
        known = self.in_force
        if known.policy is None:
            return f"authorizing nothing: {known.why_not}"
        how_old = f", read there {age(known.read)} ago" if known.read else ""
        why = f"; not taken over: {self.trouble}" if self.trouble else ""
        return f"authorizing by {known.place}{how_old}{why}"

    def _follow(self, follower: _Follower) -> None:
        if self.in_force.policy is None:
            self._take_over(follower, follower.source.kept)
        if follower.source.refresh:  # that is elsewhere
            follower.has_looked.set()
        pause = 0.0
        while not follower.is_over.wait(pause):
            is_good = self._look(follower)
            follower.has_looked.set()
            if self.in_force.policy is None:
                pause = min(2 * pause or self._retry, AWAY) if follower.source.refresh else self._retry
            elif not follower.source.refresh:
                return
            else:
                pause = follower.source.refresh if is_good else min(follower.source.refresh, AWAY)

    def _look(self, follower: _Follower) -> bool:
        """Whether there was one, and it was good."""
        if not follower.source.refresh:
            return self._take_over(follower, follower.source.read)
        while not self._asking.acquire(timeout=TURN):
            if follower.is_over.is_set():
                return False
        try:
            return not follower.is_over.is_set() and self._take_over(follower, follower.source.read)
        finally:
            self._asking.release()

    def _take_over(self, follower: _Follower, look: Callable[[], Found | None]) -> bool:
        """Whether there was one, and it was good."""
        source = follower.source
        try:
            found = look()
        except PluginError as error:
            self._say(follower, error.message)
            return False
        except Exception:  # noqa: BLE001 - the last boundary of this thread, without which nothing would be mended
            log.exception("a defect in legacyhost while reading the policy %s", source.place)
            self._say(follower, f"a defect in legacyhost while reading {source.place}; its journal has the details")
            return False
        if found is None:
            return False
        with self._changing:
            if follower.is_over.is_set():
                return False
            before, self.trouble = self.in_force, ""
            self.in_force = made = InForce(found.policy, "", source.place, found.read, found.text)
        self._changed()
        if (before.place, before.text) != (source.place, found.text):
            when = f", read there {age(found.read)} ago" if found.read and look != source.read else ""
            log.event(log.INFO, f"the policy {source.place} is in force{when}")
        if look == source.read:
            self._keep(source, found, made)
        return True

    def _keep(self, source: Source, found: Found, made: InForce) -> None:
        """If it is still the one in force: of two that have been read, the newer one is kept."""
        try:
            with self._keeping:
                if self.in_force is made:
                    source.keep(found)
        except Failed as error:
            log.event(log.WARNING, f"the policy {source.place}: {error.message}")

    def _say(self, follower: _Follower, reason: str) -> None:
        with self._changing:
            if not follower.is_over.is_set():
                self._not_good(reason)

    def _not_good(self, reason: str) -> None:
        """Who calls has the lock."""
        known, is_new = self.in_force, reason != self.trouble
        self.trouble = reason
        if known.policy is None:
            self.in_force = InForce(None, reason)
        self._changed()
        if known.policy is None:
            if is_new:
                log.event(log.ERROR, f"no policy is in force, and every request is denied: {reason}")
        elif is_new:
            how_old = f", read there {age(known.read)} ago," if known.read else ""
            log.event(log.ERROR, f"the policy {known.place}{how_old} stays in force: {reason}")


def age(moment: datetime | None) -> str:
    """How long ago that was, in the largest unit that fits."""
    seconds = max(0, int((datetime.now(UTC) - moment).total_seconds())) if moment else 0
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
