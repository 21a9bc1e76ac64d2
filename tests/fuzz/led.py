"""A process in which atheris tries inputs, led by the code they reach: TARGET SECONDS FOUND KEEP.

``FOUND`` is a folder for inputs that reached something new, for the next time; what breaks a promise goes to ``KEEP``.
libFuzzer ends the process: with 0, or after the first input that breaks a promise.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from .target import CORPUS

#: Bytes of the largest input it makes; of the longest word it can take.
LARGEST, WORD = 8192, 60


def main(name: str, seconds: str, found: Path, keep: Path) -> None:
    atheris = importlib.import_module("atheris")  # has no types, and not every Python has it
    atheris.enabled_hooks.add("str")  # its hook of "RegEx" cannot cope with patterns of bytes
    with atheris.instrument_imports(include=["legacyhost"]):
        target = importlib.import_module("fuzz.targets").TARGETS[name]
    words = found.with_name(f"{name}.words")
    escaped = ["".join(f"\\x{byte:02x}" for byte in word) for word in target.words if 0 < len(word) <= WORD]
    words.write_text("".join(f'"{word}"\n' for word in [*escaped, r"\x00"]))  # an empty file is an error
    limits = [f"-max_total_time={seconds}", f"-max_len={LARGEST}", "-timeout=60", "-rss_limit_mb=1500"]
    output = [f"-artifact_prefix={keep}/broken-", f"-dict={words}", "-print_final_stats=1"]
    atheris.Setup([sys.argv[0], *limits, *output, str(found), str(CORPUS / name)], target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), Path(sys.argv[4]))
