"""Records of volumes that cannot be trusted: refused with a sentence, and never touched."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from legacyhost import record
from legacyhost.backup import FILE as BACKUP
from legacyhost.errors import NotServing, StateError
from legacyhost.state import FILE, FORMAT, State, Volume


def volume(name: str, **options: str) -> Volume:
    return Volume(name, options, datetime(2024, 2, 29, tzinfo=UTC))


def _future(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {FORMAT + 1}")


def _unknown(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 0")


def _foreign(path: Path) -> None:
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE volumes (name TEXT); INSERT INTO volumes VALUES ('theirs')")


def _directory(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _dangling(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "a disk that is not mounted" / FILE)


def _overwrite_a_page(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[8192:12288] = b"\xff" * 4096
    path.write_bytes(content)


DAMAGES = {
    "of the future": (_future, "made by a newer legacyhost"),
    "of no known format": (_unknown, "made by an unknown legacyhost"),
    "a foreign database": (_foreign, "is not a record of volumes made by legacyhost"),
    "text": (lambda path: path.write_text("name = data\n" * 500), "not a database"),
    "cut in half": (lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]), "malformed"),
    "cut off in its header": (lambda path: path.write_bytes(path.read_bytes()[:60]), "malformed"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "zeros": (lambda path: path.write_bytes(bytes(path.stat().st_size)), "not a database"),
    "with a page overwritten": (_overwrite_a_page, "damaged|malformed"),
    "a directory": (_directory, "cannot be read"),
    "a link to nowhere": (_dangling, "cannot be read"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_record_that_cannot_be_trusted_is_refused_and_left_alone(tmp_path: Path, kind: str) -> None:
    """One sentence with the path; not one byte changed, so that it can be mended; never taken for empty."""
    damage, expected = DAMAGES[kind]
    path = tmp_path / FILE
    state = State(tmp_path)
    for number in range(100):
        state.add(volume(f"v{number}", place="x" * 100))
    state.close()
    damage(path)
    before = path.read_bytes() if path.is_file() else None
    for _ in range(2):
        with pytest.raises(StateError, match=expected) as caught:
            State(tmp_path)
        assert str(path) in caught.value.message
        assert caught.value.message.isprintable()
    assert (path.read_bytes() if path.is_file() else None) == before
    assert path.is_symlink() == (kind == "a link to nowhere")


def test_what_a_damaged_record_says_is_not_shown(tmp_path: Path) -> None:
    """SQLite quotes text that is not UTF-8: options of a volume, which may be secret."""
    state = State(tmp_path)
    state.add(volume("data"))
    with closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
        connection.execute("UPDATE volumes SET options = CAST(X'7b22736563726574ff1b0a7d' AS TEXT)")
    with pytest.raises(NotServing) as answered:
        state.get("data")
    state.close()
    with pytest.raises(StateError) as started:
        State(tmp_path)
    for message in (answered.value.message, started.value.message):
        assert "secret" not in message
        assert "a text in it is not UTF-8" in message


def test_a_lost_record_whose_log_is_left_is_refused(tmp_path: Path) -> None:
    """Where the write-ahead log is there and the file is not, volumes have been lost: no new one is begun."""
    state = State(tmp_path)
    state.add(volume("data"))
    content = (tmp_path / FILE).read_bytes()
    for lost in ((tmp_path / FILE).unlink, lambda: (tmp_path / FILE).write_bytes(b"")):
        lost()
        log = (tmp_path / f"{FILE}-wal").read_bytes()
        with pytest.raises(StateError, match=str(tmp_path / FILE)):
            State(tmp_path)
        assert (tmp_path / f"{FILE}-wal").read_bytes() == log
    (tmp_path / FILE).write_bytes(content)
    assert State(tmp_path).names() == ["data"]


def test_an_interrupted_beginning_is_begun_anew(tmp_path: Path) -> None:
    """A service killed while it makes its first record starts with none, not with half of one."""
    (tmp_path / f"{FILE}.new").write_bytes(b"half of it")
    state = State(tmp_path)
    state.add(volume("data"))
    assert State(tmp_path).names() == ["data"]
    assert not (tmp_path / f"{FILE}.new").exists()


def test_a_record_damaged_while_it_serves_gives_no_answer(tmp_path: Path) -> None:
    """NotServing for whoever asks (an answer would mean "gone"), an error for whoever changes."""
    state = State(tmp_path)
    state.add(volume("data"))
    with closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
        connection.execute("UPDATE volumes SET options = '{'")
    asks: list[Callable[[], object]] = [lambda: state.get("data"), state.all, state.names]
    for ask in asks[:2]:
        with pytest.raises(NotServing, match=r"the record of volume data in .* is damaged"):
            ask()
    with closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
        connection.execute("DROP TABLE volumes")
    for ask in asks:
        with pytest.raises(NotServing, match=str(tmp_path / FILE)):
            ask()
    with pytest.raises(StateError, match=str(tmp_path / FILE)):
        state.add(volume("new"))
    with pytest.raises(StateError, match=str(tmp_path / FILE)):
        state.remove("data")


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize(
    ("column", "text"),
    [
        ("created", "yesterday"),
        ("created", ""),
        ("options", ""),
        ("options", "[]"),
        ("options", '{"a": 1}'),
        ("options", '{"a": "b"} {}'),
        ("facts", "null"),
        ("facts", '{"a": "b"'),
    ],
)
def test_one_volume_without_meaning_among_others_is_found(tmp_path: Path, column: str, text: str, name: str) -> None:
    """Whichever of its columns it is, among volumes that are alike; and in the backup, which is made anew then."""
    state = State(tmp_path)
    for each in ("a", "b", "c"):
        state.add(volume(each, place="x"))
    state.close()
    for file in (BACKUP, FILE):
        with closing(sqlite3.connect(tmp_path / file)) as connection, connection:
            connection.execute(f"UPDATE volumes SET {column} = ? WHERE name = ?", (text, name))
        if file == BACKUP:
            State(tmp_path).close()
            assert record.read(tmp_path / BACKUP) == record.read(tmp_path / FILE)
    with pytest.raises(StateError, match="is damaged: it has a volume without meaning"):
        State(tmp_path)


@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("column", ["created", "options", "facts"])
def test_a_column_without_a_value_is_found(tmp_path: Path, column: str, name: str) -> None:
    """In the first volume, too; in a file whose table was made by other means, as ours takes no NULL."""
    state = State(tmp_path)
    for each in ("a", "b"):
        state.add(volume(each, place="x"))
    state.close()
    with closing(sqlite3.connect(tmp_path / FILE)) as connection, connection:
        connection.executescript(
            "ALTER TABLE volumes RENAME TO ours;"
            "CREATE TABLE volumes (name TEXT PRIMARY KEY, created TEXT, options TEXT, facts TEXT) WITHOUT ROWID;"
            "INSERT INTO volumes SELECT * FROM ours; DROP TABLE ours"
        )
        connection.execute(f"UPDATE volumes SET {column} = NULL WHERE name = ?", (name,))
    with pytest.raises(StateError, match="is damaged: it has a volume without meaning"):
        State(tmp_path)


def test_blanks_around_an_object_mean_nothing(tmp_path: Path) -> None:
    """As somebody may have written it who has mended something by hand."""
    state = State(tmp_path)
    state.add(volume("a", place="x"))
    state.close()
    for file in (BACKUP, FILE):
        with closing(sqlite3.connect(tmp_path / file)) as connection, connection:
            connection.execute("UPDATE volumes SET options = ' ' || options || char(10)")
    assert State(tmp_path).get("a").options == {"place": "x"}
