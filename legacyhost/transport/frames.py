"""What SFTP's clients send, cut into frames (draft-ietf-secsh-filexfer-02, 3 and 5)."""

from __future__ import annotations

import struct

#: Requests and answers; REFUSED is none of SFTP's (shared.py).
REFUSED, INIT, VERSION, EXTENDED = 0, 1, 2, 200
#: Those that change nothing and name a path: LSTAT, REALPATH, STAT, READLINK; and one of OpenSSH's.
QUESTIONS, STATVFS = (7, 16, 17, 19), b"statvfs@openssh.com"
#: How many links are remembered, as many as may be made before the times of the first are set.
LINKS = 64
#: Requests; flags of attributes, each of two uint32; what has a name is so long.
SETSTAT, FSETSTAT, SYMLINK, OWNER, TIMES, NAMED = 9, 10, 20, 2, 8, 9
HEADER = struct.Struct(">IB")
NUMBER = struct.Struct(">I")


def cut(data: bytes) -> tuple[list[bytes], bytes]:
    """The whole frames in it, each uint32 length, byte type and the rest, and what is left of one."""
    frames, position = [], 0
    while position + HEADER.size <= len(data):
        end = position + NUMBER.size + max(1, HEADER.unpack_from(data, position)[0])
        if end > len(data):
            break
        frames.append(data[position:end])
        position = end
    return frames, data[position:]


class Frames:
    """The requests of one client, cut into frames, of which some are made to change nothing.

    The server answers those with "done". They are changes of an owner, if wanted, and of the times of a symbolic link
    that was made just before: the server would follow it, to what need not be there, or is somebody else's.
    """

    def __init__(self, *, ignore_chown: bool) -> None:
        self._ignore_chown = ignore_chown
        self._links: list[bytes] = []  # the last ones made
        self._skip = 0  # bytes of a frame that goes on
        self._rest = b""  # a frame of which too little has come

    def pass_on(self, data: bytes) -> bytes:
        """What is to be sent for what was read, now; the rest is kept until more of it comes."""
        if self._skip >= len(data):
            self._skip -= len(data)
            return data
        if self._rest:
            data, self._rest = self._rest + data, b""
        position, done, parts = self._skip, 0, []
        self._skip = 0
        while position + HEADER.size <= len(data):
            length, kind = HEADER.unpack_from(data, position)
            end = position + NUMBER.size + length
            if kind in (SETSTAT, FSETSTAT, SYMLINK) and length >= NAMED:
                if end > len(data):
                    break
                parts += [data[done:position], self._changed(kind, data[position:end])]
                done = end
            position = end
        if position > len(data):
            self._skip = position - len(data)
        elif position < len(data):
            self._rest = data[position:]
            data = data[:position]
        return b"".join([*parts, data[done:]]) if parts else data

    def _changed(self, kind: int, frame: bytes) -> bytes:
        """uint32 length, byte type, uint32 id, string path or handle, then attributes: uint32 flags, and the values."""
        attributes = 13 + NUMBER.unpack_from(frame, 9)[0]
        if kind == SYMLINK:  # OpenSSH's order, which sshfs keeps: what it leads to, then its own path
            self._links = [*self._links[1 - LINKS :], frame[attributes + 4 :]]
            return frame
        flags, name = frame[attributes:-8], frame[13:attributes]
        is_link = kind == SETSTAT and flags == NUMBER.pack(TIMES) and name in self._links
        if not is_link and not (self._ignore_chown and flags == NUMBER.pack(OWNER)):
            return frame
        body = frame[4:attributes] + NUMBER.pack(0)
        return NUMBER.pack(len(body)) + body
