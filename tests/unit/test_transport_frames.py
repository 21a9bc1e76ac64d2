"""What sshfs sends, cut into frames: changes of an owner become changes of nothing, every other byte stays."""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Iterable

import pytest

from legacyhost.transport.frames import LINKS, Frames

INIT, OPEN, CLOSE, READ, WRITE, LSTAT, SETSTAT, FSETSTAT, SYMLINK, EXTENDED = 1, 3, 4, 5, 6, 7, 9, 10, 20, 200
SIZE, UIDGID, PERMISSIONS, TIMES = 1, 2, 4, 8
HANDLE = b"\0\0\0\7"


def string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value


def frame(kind: int, body: bytes) -> bytes:
    return struct.pack(">IB", len(body) + 1, kind) + body


def change(kind: int, number: int, name: bytes, flags: int, attributes: bytes = b"") -> bytes:
    """A SETSTAT or FSETSTAT as section 6.9 of draft-ietf-secsh-filexfer-02 has it."""
    return frame(kind, struct.pack(">I", number) + string(name) + struct.pack(">I", flags) + attributes)


def owner(kind: int, number: int, name: bytes) -> bytes:
    return change(kind, number, name, UIDGID, struct.pack(">II", 1000 + number, number))


def link(path: bytes) -> bytes:
    """A SYMLINK with its arguments in the order OpenSSH and sshfs have them."""
    return frame(SYMLINK, struct.pack(">I", 15) + string(b"somewhere/else") + string(path))


def times(path: bytes, kind: int = SETSTAT) -> bytes:
    return change(kind, 16, path, TIMES, struct.pack(">II", 1, 2))


#: What is sent as it is: some have in their middle what would be a change of an owner at their beginning.
KEPT = [
    frame(INIT, struct.pack(">I", 3)),
    frame(OPEN, struct.pack(">I", 1) + string("ä/☃".encode()) + struct.pack(">III", 26, PERMISSIONS, 0o100644)),
    frame(CLOSE, struct.pack(">I", 2) + string(HANDLE)),
    frame(WRITE, struct.pack(">IIIQ", 3, 4, 7, 9) + string(owner(SETSTAT, 9, b"inner") * 3)),
    frame(LSTAT, struct.pack(">I", 4) + string(b"")),
    frame(EXTENDED, struct.pack(">I", 5) + string(b"posix-rename@openssh.com") + string(b"a") + string(b"b")),
    change(SETSTAT, 6, b"file", SIZE, struct.pack(">Q", 2**33)),
    change(SETSTAT, 7, b"", PERMISSIONS, struct.pack(">I", 0o644)),
    change(SETSTAT, 8, b"x" * 300, TIMES, struct.pack(">II", 1, 2)),
    change(SETSTAT, 9, b"file", 0),
    change(SETSTAT, 10, b"file", UIDGID | PERMISSIONS, struct.pack(">III", 1, 2, 0o600)),
    change(SETSTAT, 11, struct.pack(">III", UIDGID, 1, 2), TIMES, struct.pack(">II", UIDGID, 1)),
    change(FSETSTAT, 12, HANDLE, SIZE, struct.pack(">Q", UIDGID)),
    change(FSETSTAT, 13, b"", PERMISSIONS, struct.pack(">I", UIDGID)),
    change(FSETSTAT, 14, HANDLE, UIDGID | TIMES, struct.pack(">IIII", 1, 2, 3, 4)),
    link(b"link"),
]
#: What is changed, with what becomes of it.
CHANGED = [
    (owner(kind, number, name), change(kind, number, name, 0))
    for number, (kind, name) in enumerate(
        itertools.product(
            (SETSTAT, FSETSTAT),
            (b"file", b"", HANDLE, "ä/☃ 𝄞".encode(), b"x" * 4096, struct.pack(">I", UIDGID) * 3, b"\xff\0\n"),
        )
    )
]
ALL = [*((kept, kept) for kept in KEPT), *CHANGED]


def passed_on(chunks: Iterable[bytes], *, ignore_chown: bool = True) -> bytes:
    frames = Frames(ignore_chown=ignore_chown)
    return b"".join([frames.pass_on(chunk) for chunk in chunks])


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    ends = [0, *sorted(places), len(data)]
    return [data[first:last] for first, last in itertools.pairwise(ends)]


@pytest.mark.parametrize("kept", KEPT, ids=lambda kept: f"{kept[4]}-{kept[8]}")
def test_what_is_no_change_of_the_owner_alone_is_sent_as_it_is(kept: bytes) -> None:
    """Byte for byte, whole or a byte at a time."""
    assert passed_on([kept]) == kept
    assert passed_on(cut(kept, range(1, len(kept)))) == kept


@pytest.mark.parametrize(("sent", "expected"), CHANGED, ids=lambda frame: f"{frame[4]}-{frame[8]}")
def test_a_change_of_the_owner_alone_becomes_one_of_nothing(sent: bytes, expected: bytes) -> None:
    """The same request with the same number for the same file; its length is right."""
    assert passed_on([sent]) == expected
    assert passed_on(cut(sent, range(1, len(sent)))) == expected
    assert struct.unpack_from(">I", expected) == (len(expected) - 4,)


def test_many_in_one_chunk() -> None:
    """All that came at once goes on at once, each judged by itself."""
    sent, expected = (b"".join(side) for side in zip(*ALL, *reversed(ALL), strict=True))
    assert passed_on([sent]) == expected


@pytest.mark.parametrize("seed", range(40))
def test_it_makes_no_difference_how_a_stream_is_cut(seed: int) -> None:
    """Any frames in any order, in chunks of any size, empty ones among them."""
    chance = random.Random(seed)
    large = frame(WRITE, struct.pack(">IIIQ", 1, 4, 7, 0) + string(chance.randbytes(chance.choice([65536, 300000]))))
    chosen = [*chance.choices(ALL, k=60), (large, large), *chance.choices(ALL, k=60)]
    sent, expected = (b"".join(side) for side in zip(*chosen, strict=True))
    for pieces in (1, 10, 100, 2000):
        places = chance.choices(range(len(sent) + 1), k=pieces)
        assert passed_on(cut(sent, places)) == expected, (seed, pieces)


def test_every_two_cuts() -> None:
    """Wherever three neighbours are cut twice: in a length, between frames, in an owner."""
    chosen = [CHANGED[0], ALL[4], CHANGED[1], ALL[9]]
    sent, expected = (b"".join(side) for side in zip(*chosen, strict=True))
    for places in itertools.combinations(range(len(sent) + 1), 2):
        assert passed_on(cut(sent, places)) == expected, places


def test_the_beginning_of_a_large_write_does_not_wait_for_its_end() -> None:
    """Nothing but a beginning too short to be judged, and a change of attributes, is kept until there is more."""
    large = frame(WRITE, struct.pack(">IIIQ", 1, 4, 7, 0) + string(bytes(1 << 20)))
    frames = Frames(ignore_chown=True)
    assert frames.pass_on(large[:4]) == b""
    assert frames.pass_on(large[4:100]) == large[:100]
    assert frames.pass_on(large[100:200000]) == large[100:200000]
    (sent, expected), rest = CHANGED[0], large[200000:]
    assert frames.pass_on(rest + sent[:-1]) == rest
    assert frames.pass_on(sent[-1:]) == expected


@pytest.mark.parametrize("ignore_chown", [True, False])
def test_the_times_of_a_link_that_was_just_made_are_left_alone(ignore_chown: bool) -> None:
    """The server would set those of what it leads to, or fail where there is nothing."""
    sent = link(b"a/link") + times(b"a/link") + times(b"a/link/") + times(b"link") + times(b"somewhere/else")
    nothing = change(SETSTAT, 16, b"a/link", 0)
    expected = link(b"a/link") + nothing + times(b"a/link/") + times(b"link") + times(b"somewhere/else")
    assert passed_on([sent], ignore_chown=ignore_chown) == expected
    assert passed_on(cut(sent, range(1, len(sent))), ignore_chown=ignore_chown) == expected
    other = link(b"x") + times(b"x", FSETSTAT) + change(SETSTAT, 1, b"x", PERMISSIONS, struct.pack(">I", 0o600))
    assert passed_on([other], ignore_chown=ignore_chown) == other


def test_only_the_last_links_are_remembered() -> None:
    """A tree with a million of them needs no more room than a small one."""
    names = [str(number).encode() for number in range(LINKS + 1)]
    made = b"".join(link(name) for name in names)
    forgotten, kept = times(names[0]), change(SETSTAT, 16, names[1], 0)
    assert passed_on([made + forgotten + times(names[1])]) == made + forgotten + kept


def test_owners_are_handed_on_where_that_is_wanted() -> None:
    """chown=strict: every frame there is, as it is."""
    sent = b"".join(sent for sent, _ in ALL if sent[4] != SYMLINK)
    assert passed_on([sent], ignore_chown=False) == sent
