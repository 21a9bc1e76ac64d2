"""What a target is, what all of them judge by, and where their inputs come from."""

from __future__ import annotations

import atexit
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from hypothesis import strategies as st

#: Where what is synced costs nothing.
MEMORY = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
CORPUS = Path(__file__).with_name("corpus")
#: What a message has only if an exception's own text went into it.
PYTHON = re.compile(
    r"Traceback|\b[A-Z]\w*(?:Error|Exception|Warning)\b|\bNoneType\b|\bcodec\b|\bsurrogate|<class\b|<[\w.]+ object\b"
    r"|__\w+__|\bsys\.|\bint\(\)|\bbytes-like\b|\bunpack\b|\bsubscriptable\b|\bdefect in legacyhost\b"
)
#: Characters; a sentence with some bounded pieces of what was sent is shorter.
LONGEST = 2000


@dataclass(frozen=True)
class Target:
    """``check`` takes any bytes; it raises only if a promise is broken.

    ``words`` are pieces that inputs are made of. ``made`` are inputs made in another way than out of seeds and words.
    ``examples``: how many are enough for the short run.
    """

    name: str
    check: Callable[[bytes], None]
    words: Sequence[bytes] = ()
    made: st.SearchStrategy[bytes] | None = None
    examples: int = 200

    def seeds(self) -> dict[str, bytes]:
        """The kept inputs, by the names of their files."""
        return {path.name: path.read_bytes() for path in sorted((CORPUS / self.name).iterdir())}

    def inputs(self) -> st.SearchStrategy[bytes]:
        """Seeds with some changes, and what is made otherwise."""
        changed = _changed(list(self.seeds().values()), list(self.words))
        return changed if self.made is None else st.one_of(changed, self.made)


@st.composite
def _changed(draw: st.DrawFn, seeds: list[bytes], words: list[bytes]) -> bytes:
    data = draw(st.sampled_from(seeds))
    pieces = [st.binary(max_size=6), st.sampled_from(seeds).map(lambda seed: seed[len(seed) // 3 : -len(seed) // 3])]
    pieces += [st.sampled_from(words)] if words else []
    for _ in range(draw(st.integers(0, 5))):
        begin = draw(st.integers(0, len(data)))
        piece = draw(st.one_of(pieces))
        replaced = draw(st.sampled_from([len(piece), 0, 1, 2, 4, 16, 64]))
        data = data[:begin] + piece + data[begin + replaced :]
    return data


def judge(message: str, sent: bytes) -> None:
    """A message for people: one printable line without Python's words, other than those that were sent."""
    assert message, "an empty message"
    assert message.isprintable(), message
    assert len(message) <= LONGEST, len(message)
    for word in PYTHON.findall(message):
        assert word.encode() in sent, message


@cache
def scratch(name: str) -> Path:
    """A directory for files of one target, in memory where there is some; removed at the end."""
    directory = Path(tempfile.mkdtemp(prefix=f"fuzz-{name}-", dir=os.environ.get("TMPDIR", MEMORY)))
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory
