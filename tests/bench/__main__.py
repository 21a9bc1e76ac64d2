"""``./bench``: measure legacyhost and its rivals in turn, in one run, and print what came of it; see README.md."""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from system.conftest import missing

from . import report
from .rows import GROUPS, ROWS, Row
from .world import QUICK, Sizes, World

PAGE = Path(__file__).parents[2] / "docs" / "bench"
Found = dict[str, dict[str, list[float]]]


def measure(world: World, rows: Sequence[Row], rounds: int) -> tuple[Found, list[str]]:
    """Every row of every subject, once a round, in an order that goes round: what was found, and what failed."""
    found: Found = {row.key: {subject: [] for subject in row.subjects} for row in rows}
    failures: dict[str, None] = {}
    for number in range(rounds):
        for place, row in enumerate(rows):
            if number >= row.rounds:
                continue
            turn = (number + place) % len(row.subjects)
            for subject in (*row.subjects[turn:], *row.subjects[:turn]):
                begin = time.monotonic()
                try:
                    value = row.measure(world, subject)
                except (AssertionError, ValueError, OSError, subprocess.SubprocessError) as error:
                    failures[f"{row.key}, {subject}: {(str(error).strip().splitlines() or ['no reason'])[-1]}"] = None
                    print(f"{row.key} {subject}: {error}", file=sys.stderr, flush=True)
                    continue
                found[row.key][subject].append(value)
                took = time.monotonic() - begin
                line = f"round {number + 1}: {row.text}, {subject}: {value:.4g} {row.unit} ({took:.0f} s)"
                print(line, file=sys.stderr, flush=True)
    return found, list(failures)


def main(arguments: Sequence[str]) -> int:
    """Status 1 if something could not be measured."""
    parser = argparse.ArgumentParser(prog="./bench", description="legacyhost and its rivals, side by side in one run")
    parser.add_argument("--quick", action="store_true", help="one round, and only what the targets compare")
    parser.add_argument("--rounds", type=int, help="how often everything is measured (5; quick: 1)")
    parser.add_argument("--only", action="append", metavar="ROW", help="this one; may be repeated")
    parser.add_argument("--list", action="store_true", help="what there is to be measured")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was measured there, too")
    parser.add_argument("--save", action="store_true", help="write it to docs/bench, with tables and plots")
    given = parser.parse_args(arguments)
    if given.list:
        print("\n".join(f"{row.key:15} {row.text} ({row.unit}): {', '.join(row.subjects)}" for row in ROWS))
        return 0
    known = {row.key: row for row in ROWS}
    if unknown := set(given.only or ()) - known.keys():
        parser.error(f"there is no row {', '.join(sorted(unknown))}; --list shows them")
    rows = [known[key] for key in given.only] if given.only else list(ROWS)
    if given.quick and not given.only:
        rows = [replace(row, subjects=row.compared()) for row in rows if row.targets]
    if given.save and (given.only or given.quick):
        parser.error("--save takes everything: without --only and --quick")
    if reason := missing():
        print(f"bench: machines cannot be booted here: {reason}", file=sys.stderr)
        return 1
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    rounds = given.rounds or (1 if given.quick else 5)
    begin = time.monotonic()
    try:
        world = World(QUICK if given.quick else Sizes())
        try:
            versions = world.versions()
            found, failures = measure(world, rows, rounds)
        finally:
            world.close()
    except KeyboardInterrupt:
        print("bench: ended before it was done; nothing of it is left running", file=sys.stderr)
        return 130
    print(f"measured in {time.monotonic() - begin:.0f} s", file=sys.stderr)
    results = {"versions": versions, "rounds": rounds, "measured": found, "failures": failures}
    _write(results, given.json, save=given.save and not failures)
    print(report.table(rows, found))
    for reason in report.reasons(rows, found):
        print(f"not met: {reason}")
    for failure in failures:
        print(f"not measured: {failure}")
    if failures and given.save:
        print("bench: docs/bench is as it was, because something could not be measured", file=sys.stderr)
    return 1 if failures else 0


def _write(results: Mapping[str, Any], path: Path | None, *, save: bool) -> None:
    text = json.dumps(results, indent=1) + "\n"
    if path:
        path.write_text(text, "utf-8")
    if save:
        report.save(PAGE, text, GROUPS)
        report.plot(PAGE, GROUPS, results["measured"])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
