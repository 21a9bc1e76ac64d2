"""``legacyhost doctor``: what is wrong with this machine, or on the way to a volume, and what mends it."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from legacyhost.commands import Commands
from legacyhost.commands.terminal import Colour, coloured, progress, shown
from legacyhost.config import Paths
from legacyhost.errors import InvalidRequest
from legacyhost.names import check_volume_name, is_name
from legacyhost.wire import printable

if TYPE_CHECKING:
    from legacyhost.doctor import Finding

COLOURS = {"ok": Colour.GREEN, "warning": Colour.YELLOW, "error": Colour.RED}
_INDENT = " " * 9


def add(commands: Commands) -> None:
    doctor = commands.add(
        "doctor", "find out why a volume does not work, and what mends it", "legacyhost doctor\nlegacyhost doctor data",
        _doctor, json=True,
    )  # fmt: skip
    doctor.add_argument("--plugin", metavar="NAME", help="look at this plugin only (default: all there are)")
    doctor.add_argument("volume", metavar="VOLUME", nargs="?", help="also go the whole way to this volume's directory")


def _doctor(options: argparse.Namespace) -> int:
    from legacyhost.doctor.diagnosis import Diagnosis
    from legacyhost.doctor.host import Host

    if options.volume is not None:
        check_volume_name(options.volume)
    if options.plugin is not None and not is_name(options.plugin):
        raise InvalidRequest(f"{printable(options.plugin)!r} cannot be the name of a plugin")
    findings = _with_progress(Diagnosis(Host(Paths.from_environment()), options.plugin).run(options.volume))
    if options.json:
        found = list(findings)
        print(json.dumps([asdict(finding) for finding in found], indent=2, ensure_ascii=False))
        problems = sum(finding.level != "ok" for finding in found)
    else:
        problems = _print(findings)
    return 1 if problems else 0


def _print(findings: Iterator[Finding]) -> int:
    """Each as it is found; returns how many are problems."""
    problems = 0
    for finding in findings:
        print(f"{coloured(f'{finding.level:7}', COLOURS[finding.level])}  {finding.check}: {shown(finding.what)}")
        if finding.level != "ok":
            problems += 1
            print(f"{_INDENT}why it matters: {shown(finding.why)}")
            if finding.mend:
                print(f"{_INDENT}what mends it:  {shown(finding.mend)}")
    print("nothing is wrong" if not problems else f"{problems} problem{'s' if problems > 1 else ''}")
    return problems


def _with_progress(findings: Iterator[Finding]) -> Iterator[Finding]:
    """The same, and a line at a terminal while the next one takes its time."""
    while True:
        with progress("still looking"):
            finding = next(findings, None)
        if finding is None:
            return
        yield finding
