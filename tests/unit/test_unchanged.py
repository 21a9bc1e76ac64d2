"""What is kept until it changes: never longer, and never much of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from legacyhost.unchanged import MOST, Files, Recent


class Reader:
    """Reads files, and counts how often."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, path: str, found: os.stat_result) -> list[str]:
        self.times += 1
        return [Path(path).read_text(), str(found.st_mtime_ns)]


def _replace(path: Path) -> None:
    draft = path.with_name("draft")
    draft.write_text("two")  # as long as the one before
    status = path.stat()
    os.utime(draft, ns=(status.st_atime_ns, status.st_mtime_ns))
    draft.replace(path)


CHANGES: dict[str, Callable[[Path], object]] = {
    "replaced by one as long and as old": _replace,
    "touched": lambda path: os.utime(path, ns=(1, 1)),
    "longer": lambda path: path.write_text("three"),
}


def test_a_file_is_read_once() -> None:
    """The very object is given again."""
    path, reader = Path(__file__), Reader()
    files = Files(reader)
    assert files.get(str(path)) is files.get(str(path))
    assert reader.times == 1


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_file_is_read_again(tmp_path: Path, change: Callable[[Path], object]) -> None:
    path, reader = tmp_path / "file", Reader()
    path.write_text("one")
    files = Files(reader)
    files.get(str(path))
    change(path)
    assert files.get(str(path)) == [path.read_text(), str(path.stat().st_mtime_ns)]
    assert reader.times == 2


def test_a_file_that_is_gone_is_not_remembered(tmp_path: Path) -> None:
    path, reader = tmp_path / "file", Reader()
    path.write_text("one")
    files = Files(reader)
    files.get(str(path))
    path.unlink()
    with pytest.raises(FileNotFoundError):
        files.get(str(path))


def test_a_forgotten_file_is_read_again(tmp_path: Path) -> None:
    """Whatever its times say."""
    path, reader = tmp_path / "file", Reader()
    path.write_text("one")
    files = Files(reader)
    files.get(str(path))
    files.forget(str(path))
    files.get(str(path))
    assert reader.times == 2


def test_what_cannot_be_read_is_tried_again(tmp_path: Path) -> None:
    """An error is no value."""
    path = tmp_path / "file"
    path.write_text("no number")
    files = Files(lambda path, _: int(Path(path).read_text()))
    for _ in range(2):
        with pytest.raises(ValueError, match="no number"):
            files.get(str(path))
    path.write_text("7")
    assert files.get(str(path)) == 7


def test_a_value_belongs_to_what_it_was_made_from() -> None:
    recent: Recent[str] = Recent()
    recent.put("data", ("source", 1), "made")
    assert recent.get("data", ("source", 1)) == "made"
    assert recent.get("data", ("source", 2)) is None
    assert recent.get("other", ("source", 1)) is None


def test_it_does_not_grow_with_the_names() -> None:
    """The last is always there."""
    recent: Recent[int] = Recent()
    for number in range(3 * MOST):
        recent.put(str(number), None, number)
        assert recent.get(str(number), None) == number
    assert sum(recent.get(str(number), None) is not None for number in range(3 * MOST)) <= MOST
