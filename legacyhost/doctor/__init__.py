"""``legacyhost doctor``: what on this machine, and on the way to a volume's host, keeps volumes from working.

A check is a function that yields findings. It changes nothing, and never waits without a limit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "error"]


@dataclass(frozen=True)
class Finding:
    """One thing looked at. ``check`` names it for programs; a problem says why it matters and what mends it.

    ``warning``: volumes work, and will not always. ``mend`` is a command for root's shell; empty where there is none.
    """

    check: str
    level: Level
    what: str
    why: str = ""
    mend: str = ""


def ok(check: str, what: str) -> Finding:
    """All is well, or there is nothing to look at."""
    return Finding(check, "ok", what)


def warning(check: str, what: str, why: str, mend: str = "") -> Finding:
    return Finding(check, "warning", what, why, mend)


def error(check: str, what: str, why: str, mend: str = "") -> Finding:
    return Finding(check, "error", what, why, mend)


def counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
