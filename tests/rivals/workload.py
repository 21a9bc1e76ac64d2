"""A container that repeats one operation and logs each attempt, and what its log says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

WRITE = "echo x >>/data/log"
#: Each time another file: what has been read before may come out of a cache.
READ = "cat /data/in/$n >/dev/null"
FILES = 3000

_SCRIPT = """\
n=0
while :; do
    n=$((n + 1))
    read begin idle </proc/uptime
    if said=$({ %s; } 2>&1); then said=ok; fi
    read end idle </proc/uptime
    echo "$begin $end ${said##*: }"
    sleep 0.1
done
"""


def script(operation: str) -> str:
    """A shell script that repeats the operation; each attempt is a line: begin, end, "ok" or the error."""
    return _SCRIPT % operation


def uptime() -> float:
    """The clock that script() reads, which containers, machines and this host share."""
    return float(Path("/proc/uptime").read_text("ascii").split()[0])


@dataclass(frozen=True)
class Attempt:
    begin: float
    end: float
    said: str

    @property
    def seconds(self) -> float:
        return self.end - self.begin


@dataclass(frozen=True)
class Log:
    """The attempts that have ended, and when that was looked up."""

    attempts: Sequence[Attempt]
    seen: float

    @classmethod
    def parse(cls, text: str, seen: float) -> Log:
        lines = (line.split(" ", 2) for line in text.splitlines())
        return cls([Attempt(float(words[0]), float(words[1]), words[2]) for words in lines if len(words) == 3], seen)

    def ended(self, since: float) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.end >= since]

    def failed(self, since: float) -> list[Attempt]:
        return [attempt for attempt in self.ended(since) if attempt.said != "ok"]

    def pending(self) -> float:
        """For how many seconds the present attempt has been going on."""
        return self.seen - self.attempts[-1].end if self.attempts else 0.0

    def longest(self, since: float) -> float:
        """The longest attempt that ended since then, or is still going on."""
        return max([attempt.seconds for attempt in self.ended(since)] + [self.pending()])

    def fate(self, since: float) -> str:
        """What became of the attempts since then, in a few words."""
        ended, failed = self.ended(since), self.failed(since)
        if self.pending() > 5:
            return f"blocked for {self.pending():.0f} s when looked at"
        if not failed:
            return "goes on" if self.longest(since) < 1 else f"goes on, after {self.longest(since):.1f} s"
        if ended[-1].said != "ok":
            return f"{ended[-1].said}, still after {self.seen - since:.0f} s"
        return f"{len(failed)} failed ({failed[0].said}), then goes on"
