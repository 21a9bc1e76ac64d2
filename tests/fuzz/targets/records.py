"""What is kept on disk and in /run: records of volumes with some bytes changed; the files of holds, and connections."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import cache

from drivers import sshfs_driver
from hypothesis import strategies as st

from fuzz.target import Target, judge, scratch
from legacyhost import record
from legacyhost.drivers import Connection
from legacyhost.errors import Failed, StateError
from legacyhost.holds import FILE as HOLDS
from legacyhost.holds import Holds
from legacyhost.record import Content, Unusable
from legacyhost.state import FILE, State, Volume

Files = dict[str, bytes]


@cache
def whole() -> tuple[tuple[Files, Content], ...]:
    """Records as they can be found, with what they say: after a stop, and with a log after a power cut."""
    folder = scratch("record-made")
    state = State(folder)
    for number in range(30):
        options = {"sshcmd": f"root@nas:/srv/{number}", "IdentityFile": "/é"}
        facts = {"path": "/srv", "host_key": "SHA256:x" * number}
        state.add(Volume(f"v{number}", options, datetime(2024, 2, 29, tzinfo=UTC), facts))
    with_log = {name: (folder / name).read_bytes() for name in (FILE, FILE + "-wal")}
    content = record.read(folder / FILE)
    state.close()
    with closing(sqlite3.connect(folder / FILE)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    record.write(folder / FILE, content)
    return ({FILE: (folder / FILE).read_bytes()}, content), (with_log, content)


def edits(script: bytes) -> Iterator[tuple[int, bytes]]:
    """Each is two bytes of a place, one that says how many follow, and these."""
    while len(script) >= 4:
        size = script[2] % 32 + 1
        yield int.from_bytes(script[:2], "big"), script[3 : 3 + size]
        script = script[3 + size :]


def damaged(data: bytes) -> tuple[Files, Content]:
    """The first byte says which record and which of its files, and whether its end is missing; the rest is edits."""
    files, content = whole()[data[0] & 1]
    name = [*files][(data[0] >> 1) % len(files)]
    changed = bytearray(files[name])
    for place, new in edits(data[1:]):
        begin = place % len(changed)
        changed[begin : begin + len(new)] = new
    if data[0] & 128:
        del changed[int.from_bytes(data[1:3], "big") % len(changed) :]
    return {**files, name: bytes(changed)}, content


def check_record(data: bytes) -> None:
    """What it said, or something that can have been said, or why it cannot be used; no byte on the disk changes."""
    if not data:
        return
    files, content = damaged(data)
    folder = scratch("record")
    shutil.rmtree(folder)
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_bytes(text)
    try:
        found = record.read(folder / FILE)
    except Unusable as error:
        message = StateError(f"the record {error}").message
        judge(message, data)
        assert "IdentityFile" not in message  # what a volume was given may be a secret
        found = None
    # SQLite's index of the log has nothing of its own, and is made anew when it is needed.
    left = {path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")}
    assert left == files
    if files in [files for files, _ in whole()]:
        assert found == content
    if found is None:
        return
    for row in found.rows:
        assert all(isinstance(text, str) for text in row), row
        _, options, created, facts = record.fields(row)
        assert {type(text) for text in (*options.values(), *facts.values())} <= {str}
        assert created.tzinfo, created
    assert len(set(found.names)) == len(found.names)
    judge(str(found), data)


def check_holds(data: bytes) -> None:
    """Counts, or a sentence; a hold is added and dropped again, and nothing else changes."""
    folder = scratch("holds")
    (folder / "data").mkdir(exist_ok=True)
    path = folder / "data" / HOLDS
    path.write_bytes(data)
    holds = Holds(folder)
    assert holds.names() == ["data"]
    try:
        before = holds.of("data")
        assert all(isinstance(mount_id, str) and isinstance(count, int) for mount_id, count in before.items())
        holds.add("data", "an ID of its own")
        assert holds.of("data") == {**before, "an ID of its own": before.get("an ID of its own", 0) + 1}
        holds.drop("data", "an ID of its own")
    except Failed as error:
        judge(error.message, data)
        assert path.read_bytes() == data
        return
    if before.get("an ID of its own", 1) > 0:
        assert holds.of("data") == before


def check_connection(data: bytes) -> None:
    """What a mount has left of its connection is shown, or that it cannot be read."""
    folder = scratch("connection")
    (folder / "connection.1").write_bytes(data)
    found = sshfs_driver().connection(folder, "legacyhost:1")
    if found is None:
        return
    assert isinstance(found, Connection)
    assert found.since.tzinfo
    json.dumps(found.error)


EDITS = st.builds(
    lambda place, new: place.to_bytes(2, "big") + bytes([len(new) - 1]) + new,
    st.one_of(st.integers(0, 120), st.integers(0, 65535)),
    st.one_of(
        st.binary(min_size=1, max_size=8), st.sampled_from([b"\0", b"\xff", b"\0" * 32, b"../x", b"\x01", b"\x7f" * 9])
    ),
)
RECORD = Target(
    "record",
    check_record,
    made=st.builds(
        lambda which, changes: bytes([which]) + b"".join(changes), st.integers(0, 255), st.lists(EDITS, max_size=4)
    ),
)
HOLD = Target(
    "holds",
    check_holds,
    words=[*b'{~}~"a":~1~-1~1e999~NaN~"9_9"~null~"\\ud800":~1.5~true'.split(b"~"), b"9" * 4300, b"[" * 2000],
)
CONNECTION = Target(
    "connection",
    check_connection,
    words=b"connections=~lost=~lost_at=~error=~error_at=~connected_at=~inf~nan~1e300~-1e12~\n~_~\xff".split(b"~"),
)
