"""The SSH connection below an sshfs mount: made again when it is lost, watched, and, if wanted, without chown.

sshfs runs this in place of ssh, each time it needs a connection. The first attempt of a mount is ssh's own. Later ones
are repeated as long as an operation may wait (``fail_after``), because sshfs itself fails everybody who waits at the
first refusal; once the host has been away for longer, everybody gets a prompt error. What ssh receives goes to sshfs
directly; only what sshfs sends passes through here. A mount that begins over a connection shared with others (early.py)
gets its own behind that. There the host introduces itself a second time, which sshfs takes for an answer to nobody; if
it could take it for one to somebody, what ssh receives goes through here too, without the greeting, by splice(2).

The service reads what it records, and, in the time of the record's file, when it was last used.
"""

from __future__ import annotations

import _thread
import os
import select
import time
from _collections_abc import Mapping, Sequence

from legacyhost.transport import ready
from legacyhost.transport.early import ANSWERED, Early
from legacyhost.transport.frames import Frames, cut
from legacyhost.transport.record import Record
from legacyhost.transport.ssh import CHUNK, PATIENCE, SOCKET, Ssh, log, write

#: Seconds for the first word of the host when a connection is made again, twice as many after each time that was too
#: short; or so many times as long as the first connection took. And for what comes then, the login.
ATTEMPT, SLOWER, LOGIN = 3.0, 3.0, 30.0
#: Seconds between two attempts that were refused at once: the first, and the longest.
PAUSE, LONGEST_PAUSE = 0.25, 2.0
#: Seconds for which a failure counts for those who have waited meanwhile; and a refusal, which waiting does not help.
FRESH, FRESH_REFUSAL = 1.0, 10.0
REFUSALS = ("Permission denied", "Host key verification failed", "Too many authentication failures")
#: Seconds, to the accuracy of which it is noted when the mount was last used.
USED, FOREVER = 1.0, 3600.0
#: Seconds in which the shared connection has to answer first, longer than ssh tries; after which a mount gets its own,
#: wanted or not: by then others that are made at the same time are there. It waits longer for the first requests; so
#: long for an answer, and between two looks.
SHARED, OWN, LATEST, LOOK = 12.0, 2.0, 4.0, 0.25


class Transport:
    """What is done in ssh's place for one connection of one mount."""

    def __init__(self, path: str, fail_after: float, silence: float, arguments: Sequence[str], *, ignore_chown: bool):
        self._path, self._arguments = path, arguments
        self._fail_after, self._silence = fail_after, silence  # the second: when ssh gives a host up
        self._record = _recorded(path)
        self._frames = Frames(ignore_chown=ignore_chown)
        self._relaying = _thread.allocate_lock()

    @property
    def has_connected(self) -> bool:
        """Whether the mount has had a connection; otherwise it waits to be told whether it counts."""
        return self._record.connections > 0

    def run(self, shared: str) -> int:
        """Carry one connection from its beginning to its end, the first over what is shared in that folder, if it is.

        Returns the exit status.
        """
        early = Early.begin(shared) if shared and not self.has_connected else None
        if early is not None and not self._is_ready(early):
            return 255
        if early is not None and not early.is_answered:
            early.stop()  # now it is too late
        is_relayed = early is not None and early.is_answered and not early.is_greeting_nobodys()
        ssh = self._connect(is_relayed=is_relayed)
        if ssh is None:
            return 255
        is_wanted = not (early is None or self._change_over(early, ssh)) or self._carry(ssh)
        if is_wanted:
            self._relaying.acquire(timeout=PATIENCE)  # until all of it has been given to sshfs
        said = ssh.finish(0.0 if is_wanted else PATIENCE)
        if is_wanted:
            self._lost(said)
        return 0

    def _is_ready(self, early: Early) -> bool:
        """When it is time for the mount's own connection; False when none is to be made."""
        if early.wait(SHARED) == ANSWERED:
            self._connected(0.0)
            begin = time.monotonic()
            while not early.wait(LOOK) and not early.is_waiting():
                passed = time.monotonic() - begin
                if passed > LATEST or (passed > OWN and early.is_greeting_nobodys()):
                    break
        elif early.refusal:
            self._failed(early.refusal)
            return False
        return not _is_gone()

    def _change_over(self, early: Early, ssh: Ssh) -> bool:
        """From now on over the mount's own connection; False when that has ended before it was of use."""
        unanswered = early.stop()
        is_relayed = ssh.replies >= 0
        answers: list[bytes] = []
        rest = b""
        try:
            write(ssh.requests, early.first if early.is_answered else b"")
            write(ssh.requests, self._frames.pass_on(unanswered))
        except BrokenPipeError:
            return False
        if not is_relayed:
            return True
        while not answers:  # first the host introduces itself, which sshfs knows already
            is_ready = select.select([ssh.replies], [], [], LOGIN)[0]
            if not is_ready or not (data := os.read(ssh.replies, CHUNK)):
                return False
            answers, rest = cut(rest + data)
        self._relaying.acquire()
        _thread.start_new_thread(self._relay, (ssh.replies, b"".join([*answers[1:], rest])))
        return True

    def _relay(self, replies: int, begin: bytes) -> None:
        """Give sshfs what ssh receives, without looking at it."""
        try:
            write(SOCKET, begin)
            try:
                while os.splice(replies, SOCKET, CHUNK):
                    pass
            except OSError:  # not every kernel can; or sshfs has gone, which the other thread sees too
                while data := os.read(replies, CHUNK):
                    write(SOCKET, data)
        except OSError:
            pass
        finally:
            self._relaying.release()

    def _connect(self, *, is_relayed: bool = False) -> Ssh | None:
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
            ssh = Ssh([*again, *self._arguments], is_relayed=is_relayed)
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
        used = 0.0
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
                    write(ssh.requests, self._frames.pass_on(data))
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
            log("the connection is there again")

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
            log(said)
        self._record.error = said
        self._record.error_at, self._record.noticed = time.time(), time.monotonic()
        self._keep()

    def _keep(self) -> None:
        """A connection does not end because /run is full, or the volume's folder there is gone."""
        try:
            self._record.write(self._path)
        except OSError as error:
            log(f"{self._path} cannot be written: {error.strerror}")


def _recorded(path: str) -> Record:
    """What can be read of it: the connection matters more."""
    try:
        return Record.read(path)
    except (OSError, ValueError) as error:
        log(f"{path} does not count: {error}")
        return Record()


def _is_gone() -> bool:  # sshfs, that is
    watched = select.poll()
    watched.register(SOCKET, 0)
    return bool(watched.poll(0))


def main(arguments: Sequence[str], environment: Mapping[str, str]) -> int:
    """``arguments`` are ssh's; the rest comes in variables, because sshfs cannot quote."""
    names = ("RECORD", "FAIL_AFTER", "SILENCE", "CHOWN")
    record, fail_after, silence, chown = (environment[f"LEGACYHOST_{name}"] for name in names)
    transport = Transport(record, float(fail_after), float(silence), arguments, ignore_chown=chown == "ignore")
    if not transport.has_connected and time.monotonic() > float(environment.get("LEGACYHOST_UNTIL", "inf")):
        log("nobody waits for this mount any more")
        return 255
    if "NOTIFY_SOCKET" in environment and not transport.has_connected:
        where = (environment[name] for name in ("LEGACYHOST_MOUNTPOINT", "LEGACYHOST_SOURCE", "NOTIFY_SOCKET"))
        try:
            ready.begin(*where)
        except OSError as error:
            log(f"there is no process for the question whether the mount answers: {error.strerror}")
            return 255
    return transport.run(environment.get("LEGACYHOST_SHARED", ""))
