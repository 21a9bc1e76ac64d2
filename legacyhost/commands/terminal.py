"""What is shown to somebody at a terminal: tables, colours, a line of progress, a question."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from enum import Enum
from typing import TextIO

from legacyhost.wire import printable

#: Seconds after which a step is worth a line of progress.
SLOW = 1.0
#: More than any cell of a table needs.
LONGEST = 1000


class Colour(Enum):
    """ECMA-48 SGR parameters."""

    RED = 31
    GREEN = 32
    YELLOW = 33


def shown(value: object) -> str:
    """On one line, and nothing a terminal would act on."""
    return printable(str(value), LONGEST)


def width(text: str) -> int:
    """The columns that printable text takes on a terminal."""
    import unicodedata

    if text.isascii():
        return len(text)
    marks = sum(unicodedata.category(character) in ("Mn", "Me") for character in text)
    return len(text) - marks + sum(unicodedata.east_asian_width(character) in "WF" for character in text)


def coloured(text: str, colour: Colour | None) -> str:
    """The text, in that colour where standard output is a terminal and nobody objects (NO_COLOR, no-color.org)."""
    if colour is None or os.environ.get("NO_COLOR") or not _is_terminal(sys.stdout):
        return text
    return f"\x1b[{colour.value}m{text}\x1b[m"


def print_table(
    head: Sequence[str], rows: Iterable[Sequence[object]], colours: Mapping[str, Mapping[str, Colour]] | None = None
) -> None:
    """Aligned columns under their names. ``colours`` has, for a column's name, the colours of its values."""
    lines = [list(head), *([shown(cell) for cell in row] for row in rows)]
    widths = [max(width(line[column]) for line in lines) for column in range(len(head))]
    for number, line in enumerate(lines):
        cells = []
        for name, cell, columns in zip(head, line, widths, strict=True):
            colour = (colours or {}).get(name, {}).get(cell) if number else None
            cells.append(coloured(cell, colour) + " " * (columns - width(cell)))
        print("  ".join(cells).rstrip())


@contextmanager
def progress(text: str) -> Iterator[None]:
    """The text, and how long it has been, on standard error while the block runs, from its first second on.

    Only on a terminal, and gone at the end. The block prints nothing, and asks nothing.
    """
    stream = sys.stderr
    if not _is_terminal(stream):
        yield
        return
    over, seen = threading.Event(), threading.Event()

    def show() -> None:
        begin = time.monotonic()
        while not over.wait(SLOW):
            seen.set()
            _overwrite(stream, f"{text} ({time.monotonic() - begin:.0f} s)")

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        if seen.is_set():
            _overwrite(stream, "")


def is_confirmed(question: str) -> bool:
    """Whether somebody answers yes; without anybody to ask, it is no."""
    print(question, end="", flush=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        print()
    return answer.strip().lower() in ("y", "yes")


def _overwrite(stream: TextIO, text: str) -> None:
    """Put the text in place of the current line, as much of it as fits on one."""
    with suppress(OSError):  # a terminal that has gone away
        room = os.get_terminal_size(stream.fileno()).columns or 80
        text = shown(text)
        while width(text) >= room:
            text = text[:-1]
        stream.write(f"\r\x1b[K{text}")
        stream.flush()


def _is_terminal(stream: TextIO) -> bool:
    """Whether it is a terminal that understands more than text."""
    return stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
