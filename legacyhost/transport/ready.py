"""When a mount counts: when it has answered. systemd is told, or whoever else has started its program (sd_notify(3)).

sshfs mounts before it connects, so a line in mountinfo says nothing about the connection. Who asks hangs as long as the
mount does, and cannot even be killed meanwhile: so it is a process of its own, which has no part in the connection.
"""

from __future__ import annotations

import _socket  # socket itself takes as long to load as all the rest
import _thread
import os
import select
import struct
import time

from legacyhost.transport.ssh import SOCKET, log

#: Kilobytes the kernel reads ahead: FUSE's own 128 leave a line with a round trip of 10 ms mostly idle. More than this
#: gains nothing more, and costs those who read at random.
READ_AHEAD = 2048
#: Questions beside the first, so that early.py can let the mount's own connection speak to sshfs itself.
FURTHER = 3
#: Seconds between two looks; and for all of them, longer than any Mount.
PAUSE, PATIENCE = 0.1, 120.0
#: Process, user and group: struct ucred (unix(7)).
CREDENTIALS = struct.Struct("3i")


def begin(mountpoint: str, source: str, address: str) -> None:
    """Have it said at that address when the mount of that source has answered on its mountpoint; returns at once.

    In the process that is new: nobody waits for the old one, which sshfs has made by forking twice. Raises OSError.
    """
    if os.fork():
        sshfs = _maker(SOCKET)
        os.close(SOCKET)
        os.close(1)
        ask(mountpoint, source, address, sshfs)
        os._exit(0)


def ask(mountpoint: str, source: str, address: str, process: int) -> None:
    """The same, in this process, in the name of that one: returns when it has been said, or nobody waits any more."""
    deadline = time.monotonic() + PATIENCE
    with open("/proc/self/mountinfo", "rb", buffering=0) as mountinfo:
        changed = select.poll()
        changed.register(mountinfo, select.POLLPRI)
        while time.monotonic() < deadline:
            device = _device(mountinfo.read(), mountpoint, source)
            if device and _answers(mountpoint):
                mountinfo.seek(0)
                if _device(mountinfo.read(), mountpoint, source) == device:
                    break
            changed.poll(PAUSE * 1000)
            mountinfo.seek(0)
        else:
            return
    # When it has answered, the kernel has settled what it reads ahead, which may be changed then.
    _read_ahead(device)
    try:
        _tell(address, process)
    except OSError as error:
        log(f"nobody can be told that the mount answers: {error.strerror}")


def _tell(address: str, process: int) -> None:
    """systemd takes the word of a unit's main process, and looks that up when this one may have ended."""
    line = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)
    line.connect(f"\0{address[1:]}" if address.startswith("@") else address)
    whose = CREDENTIALS.pack(process, os.getuid(), os.getgid())
    line.sendmsg([b"READY=1"], [(_socket.SOL_SOCKET, _socket.SCM_CREDENTIALS, whose)])


def _maker(descriptor: int) -> int:
    """The process that has made a pair of sockets."""
    line = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, descriptor)
    try:
        found: int = CREDENTIALS.unpack(line.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, CREDENTIALS.size))[0]
        return found
    finally:
        line.detach()


def _device(mountinfo: bytes, mountpoint: str, source: str) -> str:
    """That of the mount on top there, if its source is that one; of two on one mountpoint the later is on top."""
    where = b"".join(b"\\%03o" % byte if byte in b" \t\n\\" else b"%c" % byte for byte in os.fsencode(mountpoint))
    device = ""
    for line in mountinfo.split(b"\n"):
        fields = line.split(b" ")
        if len(fields) > 4 and fields[4] == where:
            found = fields[fields.index(b"-") + 2] == os.fsencode(source)
            device = fields[2].decode() if found else ""
    return device


def _answers(mountpoint: str) -> bool:
    for _ in range(FURTHER):
        _thread.start_new_thread(_ask, (mountpoint,))
    try:
        os.stat(mountpoint)
    except OSError:
        time.sleep(PAUSE)
        return False
    return True


def _ask(mountpoint: str) -> None:
    """Whoever waits for the first answer hears of an error, too."""
    try:
        os.statvfs(mountpoint)
    except OSError:
        return


def _read_ahead(device: str) -> None:
    path = f"/sys/class/bdi/{device}/read_ahead_kb"
    try:
        with open(path, "w", encoding="ascii") as file:
            file.write(f"{READ_AHEAD}\n")
    except OSError:  # where /sys cannot be written, in a container for example, the mount is only slower
        log(f"the kernel reads no more than {_current(path)} KiB ahead: {path} cannot be written")


def _current(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.read().strip()
    except OSError:
        return "?"
