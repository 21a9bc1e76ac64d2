"""What makes inputs and tries them: hypothesis, or atheris, which is led by the code that an input reaches."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as with_seed

from .target import MEMORY, Target

#: Inputs tried with one seed of hypothesis, which remembers them all.
BATCH = 2000
#: Seconds atheris may take to begin and to end.
PATIENCE = 120
FOUND = Path(os.environ.get("LEGACYHOST_TEST_CACHE", "~/.cache/legacyhost-tests")).expanduser() / "fuzz"


class Broken(Exception):
    """A promise is broken: ``data`` is the input, if it is in no file yet; the text says the rest."""

    def __init__(self, text: str, data: bytes | None = None) -> None:
        super().__init__(text)
        self.data = data

    def keep(self, folder: Path) -> str:
        """What to tell somebody who wants to try the input again."""
        if self.data is None:
            return str(self)
        path = folder / f"broken-{hashlib.sha256(self.data).hexdigest()[:12]}"
        path.write_bytes(self.data)
        return f"{self}\ninput kept in {path}"


def some(target: Target, examples: int, seed: int | None = None, *, smallest: bool = True) -> int:
    """Try so many inputs of hypothesis's, the same each time without a seed; how many.

    Raises Broken, with the smallest input that has been found, if that is wanted.
    """
    tried, failing = 0, b""

    def attempt(data: bytes) -> None:
        nonlocal tried, failing
        tried += 1
        try:
            target.check(data)
        except BaseException:
            failing = data
            raise

    wanted = settings(
        max_examples=examples,
        derandomize=seed is None,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink] if smallest else [Phase.generate],
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    test = wanted(given(target.inputs())(attempt))
    try:
        (test if seed is None else with_seed(seed)(test))()
    except Exception as error:
        raise Broken(f"{target.name}: {failing!r}: {error!r}", failing) from error
    return tried


def with_hypothesis(target: Target, seconds: float, _keep: Path) -> int:
    """Try other inputs each time, for about so long; how many. Raises Broken."""
    end, tried = time.monotonic() + seconds, 0
    while tried == 0 or time.monotonic() < end:
        tried += some(target, BATCH, random.randrange(1 << 32))
    return tried


def has_atheris() -> bool:
    """It is on PyPI, for some versions of Python."""
    return importlib.util.find_spec("atheris") is not None


def with_atheris(target: Target, seconds: float, keep: Path) -> int:
    """The same, going on from what the last time has found out, in a process of its own."""
    found = FOUND / target.name
    found.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-", dir=MEMORY) as scratch:
        ran = subprocess.run(
            [sys.executable, "-m", "fuzz.led", target.name, f"{seconds:.0f}", found, keep],
            env={**os.environ, "TMPDIR": scratch},  # it has no chance to clean up
            capture_output=True,
            text=True,
            errors="replace",
            timeout=seconds + PATIENCE,
        )
    tried = re.search(r"^stat::number_of_executed_units: (\d+)", ran.stderr, re.MULTILINE)
    if ran.returncode or not tried:
        lines = (ran.stdout + ran.stderr).splitlines()
        told = [line for line in lines if not re.match(r"#\d+\s|INFO|stat::|\t?NEW_FUNC", line)]
        raise Broken("\n".join([f"{target.name}: status {ran.returncode}", *told[-60:]]))
    return int(tried[1])


ENGINES = {"atheris": with_atheris, "hypothesis": with_hypothesis}
