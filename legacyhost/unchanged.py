"""What is asked all day and seldom changes: kept until it does, for as many names as are asked about."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")
#: How many are kept; then all are forgotten, and those that are still asked for are soon there again.
MOST = 256


class Recent(Generic[Value]):
    """A value for each name, together with what it was made from. Safe to use from many threads."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[object, Value]] = {}

    def get(self, name: str, source: object) -> Value | None:
        """The very value that was made from an equal source, None where there is none."""
        kept = self._kept.get(name)
        return kept[1] if kept is not None and kept[0] == source else None

    def put(self, name: str, source: object, value: Value) -> Value:
        if len(self._kept) >= MOST:
            self._kept.clear()
        self._kept[name] = source, value
        return value

    def forget(self, name: str) -> None:
        self._kept.pop(name, None)


class Files(Generic[Value]):
    """What is in files that are replaced whole: each is read again when another is there, or it has been touched."""

    def __init__(self, read: Callable[[str, os.stat_result], Value]) -> None:
        """``read`` is given the path and what stat(2) has said just before; what it raises, get() raises."""
        self._read = read
        self._kept: Recent[Value] = Recent()

    def get(self, path: str) -> Value:
        """The same object until the file changes. Raises OSError."""
        found = os.stat(path)  # noqa: PTH116 - at each question
        mark = found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
        value = self._kept.get(path, mark)
        return value if value is not None else self._kept.put(path, mark, self._read(path, found))

    def forget(self, path: str) -> None:
        """Read it again the next time: who has replaced it knows better than its times, which are coarse."""
        self._kept.forget(path)
