"""The command line of what the package says."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from .engine import ENGINES, Broken, has_atheris
from .targets import TARGETS


def main() -> int:
    """1 if a promise is broken."""
    usual = "atheris" if has_atheris() else "hypothesis"
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="Any bytes, where outsiders' bytes come in.")
    parser.add_argument("target", nargs="?", choices=TARGETS, help="what to try; without it, the targets are listed")
    parser.add_argument("--minutes", type=float, default=1.0, help="for how long (default: 1)")
    parser.add_argument("--engine", choices=ENGINES, default=usual, help=f"what makes the inputs (default: {usual})")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="try this input instead")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", default=Path(), help="for inputs that break a promise")
    arguments = parser.parse_args()
    if arguments.target is None:
        print("\n".join(TARGETS))
        return 0
    target = TARGETS[arguments.target]
    if arguments.replay:
        target.check(arguments.replay.read_bytes())
        print(f"{target.name}: {arguments.replay} breaks nothing")
        return 0
    begin = time.monotonic()
    try:
        tried = ENGINES[arguments.engine](target, arguments.minutes * 60, arguments.keep)
    except Broken as error:
        print(error.keep(arguments.keep))
        return 1
    print(f"{target.name}: {tried} inputs in {time.monotonic() - begin:.0f} s with {arguments.engine}: nothing found")
    return 0


sys.exit(main())
