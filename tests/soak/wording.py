"""What may not stand in a message that somebody who typed `docker` has to read."""

from __future__ import annotations

import re

#: Of the programming language, whoever says it.
PYTHON = re.compile(r"Traceback|\b[A-Z][A-Za-z]*(?:Error|Exception)\b|Errno|<\S+ object at |\bNoneType\b")
#: What the plugin itself said, passed on by Docker (or by `legacyhost call`).
OURS = re.compile(r"VolumeDriver\.[A-Z][a-z]+: (.*)|^legacyhost: (.*)", re.DOTALL | re.MULTILINE)
#: How the lines begin that docker adds.
AROUND = ("See '", "Run '", "Error: failed to start containers", 'time="')
#: Characters. A sentence that is longer is none.
LONG = 500


def blemishes(text: str, secret: str) -> list[str]:
    """What is wrong with this output of a failed command; nothing, if it is fit to be read."""
    found = []
    if secret in text:
        found.append("it shows a password")
    if seen := PYTHON.search(text):
        found.append(f"it speaks Python: {seen[0]}")
    if seen := OURS.search(text):
        sentence = (seen[1] or seen[2]).strip()
        lines = [line for line in sentence.splitlines() if line.strip() and not line.startswith(AROUND)]
        if len(lines) != 1:
            found.append(f"it is not one line: {sentence!r}")
        if len(sentence) > LONG:
            found.append(f"it is long: {sentence!r}")
    return found
