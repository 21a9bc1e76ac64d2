"""The record of a mount's connections: what is written is read, whole, or it is said that it cannot be."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import WAIT

from legacyhost.drivers.sshfs import TRANSPORT
from legacyhost.mounts.tools import copied
from legacyhost.transport.record import Record


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """Every field with its value and its type, whatever stands in an error."""
    record = Record()
    record.connections = 3
    record.connected_at, record.lost_at, record.error_at = 1.7e9 + 0.1, 1.7e9 + 1 / 3, 1e-9
    record.took, record.lost, record.tried = 0.07, 12345.678901234567, 0.0
    record.error = "nas: a=b = é☃ \ufffd, 'quoted' \\ "
    record.write(str(tmp_path / "record"))
    found = Record.read(str(tmp_path / "record"))
    assert vars(found) == vars(record)
    assert {name: type(value) for name, value in vars(found).items()} == {
        name: type(value) for name, value in vars(Record()).items()
    }


def test_where_nothing_is_written_a_record_begins(tmp_path: Path) -> None:
    """Nobody has connected yet; reading makes no file."""
    assert vars(Record.read(str(tmp_path / "record"))) == vars(Record())
    assert Record().connections == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", ["colour=red\n", "__class__=x\n", "read=1\n", "nonsense\n", "\n"])
def test_a_line_that_is_none_of_ours_does_not_count(tmp_path: Path, content: str) -> None:
    """Another version may have written it; there is no way to set what is no field."""
    (tmp_path / "record").write_text(f"connections=1\n{content}")
    assert vars(Record.read(str(tmp_path / "record"))) == {**vars(Record()), "connections": 1}


@pytest.mark.parametrize("content", [b"connections=many\n", b"took=\n", b"lost\n", b"error=\xff\n"])
def test_a_value_without_meaning_is_an_error(tmp_path: Path, content: bytes) -> None:
    """A ValueError, whichever it is."""
    (tmp_path / "record").write_bytes(content)
    with pytest.raises(ValueError, match=r"invalid literal|could not convert|can't decode"):
        Record.read(str(tmp_path / "record"))


def test_what_cannot_be_read_or_written_is_an_error(tmp_path: Path) -> None:
    """An OSError; what stood there before stands there still."""
    (tmp_path / "record").mkdir()
    with pytest.raises(IsADirectoryError):
        Record.read(str(tmp_path / "record"))
    with pytest.raises(IsADirectoryError):
        Record().write(str(tmp_path / "record"))
    with pytest.raises(FileNotFoundError):
        Record().write(str(tmp_path / "missing" / "record"))
    assert (tmp_path / "record").is_dir()


def test_a_record_is_replaced_whole_by_several_processes_at_once(tmp_path: Path) -> None:
    """Whoever reads meanwhile gets one that was written, never a part or a mixture; no draft is left."""
    path = str(tmp_path / "record")

    def write(number: int) -> None:
        record = Record()
        record.connections, record.error = number, f"{number}" * 5000
        for _ in range(300):
            record.write(path)

    fork = multiprocessing.get_context("fork")
    writers = [fork.Process(target=write, args=(number,)) for number in (1, 2, 3)]
    for writer in writers:
        writer.start()
    seen = set()
    while any(writer.is_alive() for writer in writers):
        record = Record.read(path)
        if record.connections:
            assert record.error == f"{record.connections}" * 5000
            seen.add(record.connections)
    for writer in writers:
        writer.join(WAIT)
        assert writer.exitcode == 0
    assert seen
    assert [found.name for found in tmp_path.iterdir()] == ["record"]


def test_it_starts_with_little(tmp_path: Path) -> None:
    """It is started while a container waits, without site-packages: a few small modules of the standard library."""
    program = copied(TRANSPORT, tmp_path)
    both = f"import sys; sys.path.insert(0, {str(program.parent)!r}); from legacyhost.transport import carry, shared"
    imported = _imported("-c", both)
    heavy = {"collections", "dataclasses", "enum", "logging", "pathlib", "re", "signal", "socket", "typing"}
    assert "legacyhost.transport.shared" in imported
    assert not heavy & imported
    # A directory is run by runpy, with much of importlib, for longer than all the rest takes.
    run = _imported(str(program))
    assert "legacyhost.transport.carry" in run
    assert not {*heavy, "runpy", "importlib.util"} & run


def _imported(*program: str) -> set[str]:
    """The modules Python imports for that and for its own beginning."""
    ran = subprocess.run([sys.executable, "-I", "-S", "-X", "importtime", *program], capture_output=True, text=True)
    return {line.rpartition("|")[2].strip() for line in ran.stderr.splitlines() if line.startswith("import time:")}
