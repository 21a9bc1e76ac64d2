"""The SSH connection below an sshfs mount: made again when it is lost, watched, and, if wanted, without chown.

sshfs runs this in place of ssh, each time it needs a connection. The first attempt of a mount is ssh's own. Later ones
are repeated as long as an operation may wait (``fail_after``), because sshfs itself fails everybody who waits at the
first refusal; once the host has been away for longer, everybody gets a prompt error. What ssh receives goes to sshfs
directly; only what sshfs sends passes through here.

Runs as a script of its own (``python3 -I -S``), with as little of the standard library as can be: a container waits.
The service reads what it records, and, in the time of the record's file, when it was last used.
"""

from __future__ import annotations

import os  # not pathlib and signal, which take as long to load as all the rest
import select
import struct
import sys
import time
from collections.abc import Mapping, Sequence

#: Seconds for the first word of the host when a connection is made again, twice as many after each time that was too
#: short; or so many times as long as the first connection took. And for what comes then, the login.
ATTEMPT, SLOWER, LOGIN = 3.0, 3.0, 30.0
#: Seconds between two attempts that were refused at once: the first, and the longest.
PAUSE, LONGEST_PAUSE = 0.25, 2.0
#: Seconds for which a failure counts for those who have waited meanwhile; and a refusal, which waiting does not help.
FRESH, FRESH_REFUSAL = 1.0, 10.0
REFUSALS = ("Permission denied", "Host key verification failed", "Too many authentication failures")
#: Seconds, to the accuracy of which it is noted when the mount was last used; that ssh gets to end when sshfs has.
USED, PATIENCE, FOREVER = 1.0, 2.0, 3600.0
#: sshfs's end, as standard input and output; signal(7); more than any number in a record, times among them.
SOCKET, SIGKILL, LARGEST = 0, 9, 1e10
#: Bytes; how many links are remembered, as many as may be made before the times of the first are set.
CHUNK, KEPT, LONGEST_ERROR, LINKS = 1 << 18, 4096, 200, 64
#: draft-ietf-secsh-filexfer-02, 3 and 5: requests; flags of attributes, each of two uint32; what has a name is so long.
SETSTAT, FSETSTAT, SYMLINK, OWNER, TIMES, NAMED = 9, 10, 20, 2, 8, 9
_HEADER = struct.Struct(">IB")
_NUMBER = struct.Struct(">I")


class Record:
    """What is known of a mount's connections; a file of ``key=value`` lines in /run, replaced whole.

    Times are seconds: ``*_at`` since the epoch, for people; the others on the monotonic clock.
    """

    def __init__(self) -> None:
        #: How often it was made, how often of these again; when last; how long the first took; how patient to be now.
        self.connections = self.reconnects = 0
        self.connected_at = self.took = self.patience = 0.0
        #: Since when there is none, and when an attempt last failed: 0 while there is one; when anything last did.
        self.lost = self.lost_at = self.tried = self.noticed = 0.0
        #: What ssh said last when it failed, and when.
        self.error = ""
        self.error_at = 0.0

    @classmethod
    def read(cls, path: str) -> Record:
        """What is recorded; a new record where there is none. Raises OSError, ValueError."""
        record = cls()
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                for line in file.read().splitlines():
                    key, _, value = line.partition("=")
                    if key in record.__dict__:  # another version may know others
                        setattr(record, key, type(record.__dict__[key])(value))
        if not all(0 <= value < LARGEST for value in record.__dict__.values() if value is not record.error):
            raise ValueError("a number in it is out of range")
        return record

    def write(self, path: str) -> None:
        """Raises OSError."""
        draft = f"{path}.{os.getpid()}"  # with max_conns= another process may be writing the same record
        with open(draft, "w", encoding="utf-8") as file:
            file.write("".join(f"{key}={value}\n" for key, value in self.__dict__.items()))
        os.replace(draft, path)


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
        while position + _HEADER.size <= len(data):
            length, kind = _HEADER.unpack_from(data, position)
            end = position + _NUMBER.size + length
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
        attributes = 13 + _NUMBER.unpack_from(frame, 9)[0]
        if kind == SYMLINK:  # OpenSSH's order, which sshfs keeps: what it leads to, then its own path
            self._links = [*self._links[1 - LINKS :], frame[attributes + 4 :]]
            return frame
        flags, name = frame[attributes:-8], frame[13:attributes]
        is_link = kind == SETSTAT and flags == _NUMBER.pack(TIMES) and name in self._links
        if not is_link and not (self._ignore_chown and flags == _NUMBER.pack(OWNER)):
            return frame
        body = frame[4:attributes] + _NUMBER.pack(0)
        return _NUMBER.pack(len(body)) + body


class Ssh:
    """One ssh process; what it receives goes straight into sshfs's socket, ``requests`` leads to its input."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self.is_connected = False
        self._token = f"connected {os.urandom(16).hex()}"
        self._said = b""
        self.errors, theirs = os.pipe()
        source, self.requests = os.pipe()
        actions = [(os.POSIX_SPAWN_DUP2, theirs, 2), (os.POSIX_SPAWN_DUP2, source, 0)]
        # Run when it has logged in, by the shell in $SHELL or else in the passwd file, which may be anything.
        tell = ["-oPermitLocalCommand=yes", f"-oLocalCommand=echo {self._token} >&2"]
        environment = {**os.environ, "SHELL": "/bin/sh"}
        try:
            self.pid = os.posix_spawnp("ssh", ["ssh", *tell, *arguments], environment, file_actions=actions)
        except FileNotFoundError:
            sys.exit("ssh is not installed on this host: apt install openssh-client")
        os.close(theirs)
        os.close(source)
        self.ended = os.pidfd_open(self.pid)

    def wait_until_connected(self, seconds: float) -> bool:
        """Whether it has logged in; False when it has ended, the time is over or sshfs has gone."""
        deadline = time.monotonic() + seconds
        watched = select.poll()
        watched.register(SOCKET, 0)  # only its end
        watched.register(self.ended, select.POLLIN)
        watched.register(self.errors, select.POLLIN)
        while (left := deadline - time.monotonic()) > 0:
            happened = dict(watched.poll(left * 1000))
            if happened.get(self.errors, 0) & select.POLLIN:
                self.listen()
                if self.is_connected:
                    return True
            elif happened:
                return False
        return False

    def listen(self) -> bool:
        """Keep the end of what it says; False when it cannot say any more."""
        data = os.read(self.errors, KEPT)
        self._said = (self._said + data)[-2 * KEPT :]  # the token may have come in two parts
        _, token, rest = self._said.partition(f"{self._token}\n".encode())
        if token:
            self.is_connected, self._said = True, rest
        return bool(data)

    def finish(self, patience: float) -> str:
        """End it, at the latest after ``patience`` seconds, and return the last line it said."""
        os.close(self.requests)
        if not select.select([self.ended], [], [], patience)[0]:
            os.kill(self.pid, SIGKILL)
        os.waitpid(self.pid, 0)
        while select.select([self.errors], [], [], 0)[0]:  # else something it started lives on, and says nothing
            if not self.listen():
                break
        os.close(self.errors)
        os.close(self.ended)
        lines = [line.strip() for line in self._said.decode("utf-8", "replace").split("\n") if line.strip()]
        return "".join(c if c.isprintable() else " " for c in lines[-1])[:LONGEST_ERROR] if lines else ""


class Transport:
    """What is done in ssh's place for one connection of one mount."""

    def __init__(self, path: str, fail_after: float, silence: float, arguments: Sequence[str], *, ignore_chown: bool):
        self._path, self._arguments, self._ignore_chown = path, arguments, ignore_chown
        self._fail_after, self._silence = fail_after, silence  # the second: when ssh gives a host up
        self._record = _recorded(path)

    def run(self) -> int:
        """Carry one connection from its beginning to its end; the exit status."""
        ssh = self._connect()
        if ssh is None:
            return 255
        is_wanted = self._carry(ssh)
        said = ssh.finish(0.0 if is_wanted else PATIENCE)
        if is_wanted:
            self._lost(said)
        return 0

    def _connect(self) -> Ssh | None:
        """A connection; None when there was none in the time there is, or sshfs is not there any more."""
        record, pause = self._record, PAUSE
        started = time.monotonic()
        if record.lost and started - record.noticed > self._fail_after:
            record.lost = started  # nobody has wanted it since then: who does now may wait
        is_refused = any(refusal in record.error for refusal in REFUSALS)
        is_over = is_refused or started > record.lost + self._fail_after
        if record.tried and is_over and started - record.tried < (FRESH_REFUSAL if is_refused else FRESH):
            return None
        while True:
            attempt = time.monotonic()
            left = record.lost + self._fail_after - attempt
            patience = max(ATTEMPT, SLOWER * record.took, record.patience)
            patience = min(patience, max(ATTEMPT, left if left > 0 else self._fail_after))
            again = [f"-oConnectTimeout={patience:.0f}"] if record.connections else []
            ssh = Ssh([*again, *self._arguments])
            if ssh.wait_until_connected(patience + LOGIN if record.connections else FOREVER):
                self._connected(time.monotonic() - attempt)
                return ssh
            said = ssh.finish(0.0)
            if _is_gone():
                return None
            if not said or "banner exchange" in said:  # it is there, and slow
                record.patience = 2 * patience
            self._failed(said)
            is_refused = any(refusal in said for refusal in REFUSALS)
            if is_refused or not record.connections or time.monotonic() > record.lost + self._fail_after:
                return None
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _carry(self, ssh: Ssh) -> bool:
        """Pass on what sshfs sends; whether the end was ssh's, not sshfs's."""
        frames, used = Frames(ignore_chown=self._ignore_chown), 0.0
        watched = select.poll()
        watched.register(SOCKET, select.POLLIN)
        watched.register(ssh.ended, select.POLLIN)
        watched.register(ssh.errors, select.POLLIN)
        while True:
            happened = dict(watched.poll())
            if SOCKET in happened:
                try:
                    data = os.read(SOCKET, CHUNK)
                    if not data:
                        return False
                    _write(ssh.requests, frames.pass_on(data))
                except ConnectionResetError:  # sshfs has gone and left answers unread
                    return False
                except BrokenPipeError:
                    return True
                if time.monotonic() - used > USED and os.path.exists(self._path):
                    used = time.monotonic()
                    os.utime(self._path)
            elif ssh.ended in happened:
                return True
            elif happened[ssh.errors] & select.POLLIN:
                ssh.listen()
            else:
                watched.unregister(ssh.errors)

    def _connected(self, took: float) -> None:
        record = self._record
        was_lost = record.lost > 0
        record.took = record.took or took
        record.connections += 1
        record.reconnects += was_lost
        record.connected_at = time.time()
        record.lost = record.lost_at = record.tried = 0.0
        self._keep()
        if was_lost:
            _log("the connection is there again")

    def _failed(self, said: str) -> None:
        record = self._record
        record.tried = time.monotonic()
        record.lost = record.lost or record.tried
        record.lost_at = record.lost_at or time.time()
        self._error(said or "the host did not answer in time")

    def _lost(self, said: str) -> None:
        # With max_conns= others have been made meanwhile.
        record = self._record = _recorded(self._path)
        # ssh gives up a silent host itself: the time an operation may wait is over then.
        silence = self._silence if said.startswith("Timeout, server") else 0.0
        record.lost = time.monotonic() - silence
        record.lost_at = time.time() - silence
        self._error(said or "the connection was closed")

    def _error(self, said: str) -> None:
        if said != self._record.error or not self._record.connections:
            _log(said)
        self._record.error = said
        self._record.error_at, self._record.noticed = time.time(), time.monotonic()
        self._keep()

    def _keep(self) -> None:
        """A connection does not end because /run is full, or the volume's folder there is gone."""
        try:
            self._record.write(self._path)
        except OSError as error:
            _log(f"{self._path} cannot be written: {error.strerror}")


def _recorded(path: str) -> Record:
    """What can be read of it: the connection matters more."""
    try:
        return Record.read(path)
    except (OSError, ValueError) as error:
        _log(f"{path} does not count: {error}")
        return Record()


def _is_gone() -> bool:  # sshfs, that is
    watched = select.poll()
    watched.register(SOCKET, 0)
    return bool(watched.poll(0))


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _log(text: str) -> None:
    os.write(2, f"{text}\n".encode())  # to the journal of the mount's unit


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """``arguments`` are ssh's; the rest comes in variables, because sshfs cannot quote."""
    names = ("RECORD", "FAIL_AFTER", "SILENCE", "CHOWN")
    record, fail_after, silence, chown = (environment[f"LEGACYHOST_{name}"] for name in names)
    return Transport(record, float(fail_after), float(silence), arguments, ignore_chown=chown == "ignore").run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], os.environ))
