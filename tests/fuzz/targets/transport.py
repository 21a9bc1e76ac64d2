"""What sshfs sends, in pieces: a byte of flags, two that say where it is cut, then the stream."""

from __future__ import annotations

import random
import struct

from hypothesis import strategies as st

from fuzz.target import Target
from legacyhost.transport.frames import LINKS, Frames

SETSTAT, FSETSTAT, SYMLINK, OWNER, TIMES = 9, 10, 20, 2, 8
WORD = struct.Struct(">I")


def check(data: bytes) -> None:
    """However it is cut, it comes out as the model has it: the same, but for the changes that are to change nothing."""
    if len(data) < 3:
        return
    ignore_chown, chance, stream = bool(data[0] & 1), random.Random(data[1:3]), data[3:]
    expected, kept = model(stream, ignore_chown)
    places = sorted(chance.choices(range(len(stream) + 1), k=chance.choice([0, 1, 5, len(stream)])))
    frames, sent = Frames(ignore_chown=ignore_chown), b""
    for begin, end in zip([0, *places], [*places, len(stream)], strict=True):
        sent += frames.pass_on(stream[begin:end])
    assert sent == expected
    # The rest comes with what completes it, were it ever so long.
    if kept and len(kept) >= 4:
        missing = WORD.unpack_from(kept)[0] + 4 - len(kept)
        if 0 < missing < 1 << 16:
            rest = bytes(missing)
            assert sent + frames.pass_on(rest) == model(stream + rest, ignore_chown)[0]


def model(stream: bytes, ignore_chown: bool) -> tuple[bytes, bytes]:
    """What is to be sent for all of that, and what is kept until there is more; draft-ietf-secsh-filexfer-02."""
    sent, links, rest = b"", list[bytes](), stream
    while len(rest) >= 5:
        size, kind = WORD.unpack_from(rest)[0] + 4, rest[4]
        frame = rest[:size]
        if kind in (SETSTAT, FSETSTAT, SYMLINK) and size >= 13:
            if len(frame) < size:
                break
            name, attributes = string(frame, 9)
            if kind == SYMLINK:
                links.append(attributes[4:])
            else:
                flags = attributes[:4] if len(attributes) == 12 else b""
                is_link = kind == SETSTAT and flags == WORD.pack(TIMES) and name in links[-LINKS:]
                if is_link or (ignore_chown and flags == WORD.pack(OWNER)):
                    frame = nothing(frame, attributes)
        sent, rest = sent + frame, rest[size:]
    return sent, rest


def string(frame: bytes, place: int) -> tuple[bytes, bytes]:
    end = place + 4 + WORD.unpack_from(frame, place)[0]
    return frame[place + 4 : end], frame[end:]


def nothing(frame: bytes, attributes: bytes) -> bytes:
    body = frame[4 : len(frame) - len(attributes)] + WORD.pack(0)
    return WORD.pack(len(body)) + body


def _frame(kind: int, body: bytes) -> bytes:
    return WORD.pack(len(body) + 5) + bytes([kind]) + WORD.pack(7) + body


NAMES = st.sampled_from([b"", b"a", b"a/link", b"\xff" * 9, WORD.pack(OWNER) * 3])
STRINGS = NAMES.map(lambda name: WORD.pack(len(name)) + name)
ATTRIBUTES = st.builds(
    lambda flags, rest: WORD.pack(flags) + rest,
    st.sampled_from([0, OWNER, TIMES, OWNER | TIMES, 1, 4]),
    st.sampled_from([b"", bytes(4), bytes(8), bytes(12)]),
)
FRAMES = st.one_of(
    st.builds(
        lambda kind, name, rest: _frame(kind, name + rest), st.sampled_from([SETSTAT, FSETSTAT]), STRINGS, ATTRIBUTES
    ),
    st.builds(lambda to, name: _frame(SYMLINK, to + name), STRINGS, STRINGS),
    st.builds(_frame, st.integers(0, 255), st.binary(max_size=40)),
    st.builds(
        lambda size, kind, rest: WORD.pack(size) + bytes([kind]) + rest,
        st.integers(0, 40),
        st.integers(8, 20),
        st.binary(max_size=40),
    ),
)
TARGET = Target(
    "transport",
    check,
    words=[
        WORD.pack(17),
        WORD.pack(OWNER),
        WORD.pack(TIMES),
        WORD.pack(0),
        b"\xff" * 4,
        b"\0\0\0\x12\x09",
        b"\0\0\0\x12\x0a",
    ],
    made=st.builds(
        lambda head, frames: head + b"".join(frames), st.binary(min_size=3, max_size=3), st.lists(FRAMES, max_size=12)
    ),
    examples=400,
)
