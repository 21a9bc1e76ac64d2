"""The command line: run cases, keep their results in a file, print the table."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

from system.conftest import missing
from system.images import ensure
from system.machine import Machine

from . import processes, remote, volumes
from .cases import CASES
from .subjects import SUBJECTS, Legacyhost

assert processes and remote and volumes  # their import fills CASES
#: Seconds after which a case is given up, whatever it waits for.
LIMIT = 900
#: The order of the table.
ORDER = (1, 2, 17, 18, 3, 4, 10, 11, 5, 20, 6, 7, 8, 9, 21, 12, 13, 14, 22, 15, 16, 19)
Results = dict[str, dict[str, dict[str, object]]]


def main() -> int:
    """Run what is asked for; 1 if something could not be measured."""
    parser = argparse.ArgumentParser(prog="tests/rivals/run", description="Faults put to legacyhost and its rival.")
    parser.add_argument("--only", type=int, action="append", choices=sorted(CASES), metavar="N", help="only case N")
    parser.add_argument("--against", action="append", choices=SUBJECTS, help="only this plugin (may be repeated)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep results here; what was not run again stays")
    parser.add_argument("--deb", type=Path, metavar="FILE", help="legacyhost's package (default: build it)")
    parser.add_argument("--list", action="store_true", help="list the cases")
    given = parser.parse_args()
    if given.list:
        print("\n".join(f"{number:3} {CASES[number].__doc__}" for number in sorted(CASES)))
        return 0
    if reason := missing():
        print(f"rivals: machines cannot be booted: {reason}", file=sys.stderr)
        return 2
    if given.deb:
        Legacyhost.deb = given.deb.resolve(strict=True)
    results: Results = {}
    if given.json and given.json.exists():
        results = json.loads(given.json.read_text("utf-8"))
    is_complete = True
    for key in given.against or SUBJECTS:
        for number in [n for n in ORDER if not given.only or n in given.only]:
            entry = measure(key, number)
            is_complete &= bool(entry["measured"])
            results.setdefault(key, {})[str(number)] = entry
            print(f"{key} {number}: {entry['result']}  [{entry['seconds']} s]", file=sys.stderr, flush=True)
            if given.json:
                given.json.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", "utf-8")
    print(table(results))
    return 0 if is_complete else 1


def measure(key: str, number: int) -> dict[str, object]:
    """Put one case to one plugin, on a fresh machine. What went wrong in measuring is in the entry, and printed."""
    began = time.monotonic()
    versions, measured = "", True
    kind = SUBJECTS[key]
    signal.signal(signal.SIGALRM, _give_up)
    try:
        with Machine(ensure(kind.suite)) as machine:
            machine.boot()
            signal.alarm(LIMIT)
            try:
                subject = kind(machine)
                docker = machine.docker("version", "-f", "{{.Server.Version}}").stdout.strip()
                versions = f"{subject.version()} with Docker {docker} on Debian {kind.suite}"
                result = CASES[number](subject)
            except BaseException:
                print(machine.journal()[-20000:], file=sys.stderr)
                raise
            finally:
                signal.alarm(0)
    except (AssertionError, OSError, RuntimeError, ValueError) as error:  # TimeoutError is an OSError
        traceback.print_exc()
        lines = str(error).splitlines() or [type(error).__name__]
        result, measured = f"(not measured: {lines[0][:160]})", False
    seconds = round(time.monotonic() - began)
    fault = CASES[number].__doc__
    return {"fault": fault, "result": result, "measured": measured, "versions": versions, "seconds": seconds}


def _give_up(_signal: int, _frame: FrameType | None) -> None:
    raise TimeoutError(f"given up after {LIMIT} s")


def table(results: Mapping[str, Mapping[str, Mapping[str, object]]]) -> str:
    """The results in Markdown, with the versions they were measured with."""
    keys = [key for key in SUBJECTS if results.get(key)]
    versions = {key: sorted({str(entry["versions"]) for entry in results[key].values()} - {""}) for key in keys}
    rows: list[Sequence[str]] = [["fault", *keys], ["---"] * (len(keys) + 1)]
    for number in ORDER:
        found = [results[key].get(str(number)) for key in keys]
        if any(found):
            cells = [str(entry["result"]) if entry else "-" for entry in found]
            rows.append([f"{CASES[number].__doc__}", *cells])
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return "\n".join([*lines, "", *(f"{key}: {', '.join(versions[key])}" for key in keys)])


if __name__ == "__main__":
    sys.exit(main())
