"""A connection below an sshfs while there is one: what goes through, what its end is taken for, what is left behind."""

from __future__ import annotations

import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import WAIT
from fakessh import ECHO, SILENT, FakeSsh, Start, hosts, until

from legacyhost.transport.ssh import CHUNK, LONGEST_ERROR, PATIENCE

FRAME = b"\0\0\0\5\1\0\0\0\3"
NUMBER = b"\0\0\0\7"
FILE = b"\0\0\0\4file"
OWNER = struct.pack(">IB", 1 + 4 + 8 + 12, 9) + NUMBER + FILE + struct.pack(">III", 2, 1000, 100)
NOTHING = struct.pack(">IB", 1 + 4 + 8 + 4, 9) + NUMBER + FILE + struct.pack(">I", 0)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with hosts(tmp_path) as made:
        yield made


def ends(start: Start, words: str, fail_after: float = 30) -> FakeSsh:
    """The host, after a connection that has ended with these words of ssh."""
    ssh = start(f"login; head -c {len(FRAME)}; {words}")
    line = ssh.line(fail_after=fail_after)
    line.exchange(FRAME)
    assert line.receive(1) == b"", "sshfs sees the end"
    assert line.status() == 0
    assert ssh.running() == []
    return ssh


def page_faults(pid: int) -> int:
    """Of a process, those for which nothing was read; proc(5)."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[7])


@pytest.mark.parametrize(("chown", "answer"), [("ignore", NOTHING), ("strict", OWNER)])
def test_a_change_of_an_owner_goes_through_or_not(start: Start, chown: str, answer: bytes) -> None:
    """As it was ordered; what comes before and behind it goes through with both."""
    line = start(ECHO).line(chown=chown)
    line.exchange(FRAME + OWNER + FRAME, FRAME + answer + FRAME)


def test_what_nobody_waits_for_any_more_is_not_mounted(start: Start) -> None:
    """A unit may be started long after it was asked for; one that has been mounted has no such end."""
    ssh = start(ECHO)
    late = str(time.monotonic() - 1)
    assert ssh.line(LEGACYHOST_UNTIL=late).status() == 255
    assert ssh.started() == []
    assert ssh.said() == ["nobody waits for this mount any more"]
    ssh.line(LEGACYHOST_UNTIL=str(time.monotonic() + WAIT)).exchange(FRAME)
    ssh.line(LEGACYHOST_UNTIL=late).exchange(FRAME)
    assert len(ssh.started()) == 2


def test_answers_do_not_pass_through_here(start: Start) -> None:
    """ssh writes into sshfs's own socket: reading costs nothing."""
    ssh = start(f'ends=$(readlink /proc/$$/fd/0 /proc/$$/fd/1); echo "$ends" >$here/ends; {ECHO}')
    ssh.line().exchange(FRAME)
    source, answers = (ssh.directory / "ends").read_text().split()
    assert source.startswith("pipe:")
    assert answers.startswith("socket:")


def test_use_is_noted_in_the_time_of_the_record(start: Start) -> None:
    """Only use: a connection on which nothing is wanted gets older."""
    ssh = start(ECHO)
    line = ssh.line()
    line.exchange(FRAME)
    os.utime(ssh.path, (1, 1))
    line.exchange(FRAME)
    assert ssh.path.stat().st_mtime == 1, "not more often than is needed"
    again = ssh.line()
    os.utime(ssh.path, (1, 1))
    again.exchange(FRAME)
    until(lambda: ssh.path.stat().st_mtime > 1, "noted")


def test_a_request_takes_no_memory_from_the_kernel(start: Start) -> None:
    """As a read of much would each time, and that costs more than all else that is done for a small one."""
    line = start(ECHO).line()
    line.exchange(FRAME)
    before = page_faults(line.process.pid)
    for _ in range(300):
        line.exchange(FRAME)
    assert page_faults(line.process.pid) - before < 150


@pytest.mark.parametrize("chown", ["ignore", "strict"])
def test_much_goes_through_in_both_directions_at_once(start: Start, chown: str) -> None:
    """More than any buffer between has room for, byte for byte."""
    data = os.urandom(20 * CHUNK)
    whole = struct.pack(">IB", len(data) + 1, 6) + data
    line = start(ECHO).line(chown=chown)
    sender = threading.Thread(target=line.socket.sendall, args=(whole,))
    sender.start()
    assert line.receive(len(whole)) == whole
    sender.join(WAIT)
    line.exchange(OWNER, NOTHING if chown == "ignore" else OWNER)


def test_the_end_of_ssh_is_a_loss(start: Start) -> None:
    """Recorded with the moment and with what ssh said last, which is in the journal too."""
    before = time.monotonic(), time.time()
    ssh = ends(start, "echo 'client_loop: send disconnect: Broken pipe' >&2; exit 255")
    record = ssh.record()
    assert record.connections == 1
    assert before[0] <= record.lost <= time.monotonic()
    assert before[1] <= record.lost_at <= record.error_at <= time.time()
    assert record.error == "client_loop: send disconnect: Broken pipe"
    assert ssh.said() == [record.error]


@pytest.mark.parametrize("words", ["exit 0", "exit 255", "kill -KILL $$", "echo >&2", "printf '\\r\\n \\n' >&2"])
def test_an_end_without_a_word_is_a_loss_too(start: Start, words: str) -> None:
    """Whatever the status was: the connection is not there any more."""
    record = ends(start, words).record()
    assert record.error == "the connection was closed"
    assert record.lost > 0


@pytest.mark.parametrize(
    ("words", "error"),
    [
        ("first\\nsecond\\r\\n", "second"),
        ("a\\033[31mred\\033[0m\\tb\\a\\n", "a [31mred [0m b "),
        ("error=x=y\\n", "error=x=y"),
        ("\\377\\376 \\303\\251\\n", "\ufffd\ufffd é"),
        ("x%0500d\\n", "x" + "0" * (LONGEST_ERROR - 1)),
        ("\\342\\200\\250one\\342\\200\\251line\\302\\205\\n", "one line"),
    ],
)
def test_last_words_are_made_harmless(start: Start, words: str, error: str) -> None:
    """They are shown to people, one line each: the last line, of printable characters, not too long."""
    ssh = ends(start, f"printf '{words}' >&2")
    assert ssh.record().error == error
    assert ssh.said() == [error]


def test_last_words_are_found_behind_many_others(start: Start) -> None:
    """All at once, when there was no time to hear what came before."""
    words = (
        'kill -STOP $PPID; printf "%060000d\\nlast\\n" 0 >&2; (sleep 0.2; kill -CONT $PPID) >/dev/null 2>&1 & exit 1'
    )
    assert ends(start, words).record().error == "last"


def test_the_silence_before_a_loss_counts(start: Start) -> None:
    """ssh gives a silent host up when the time is over that an operation waits: the loss was before."""
    ssh = ends(start, "echo 'Timeout, server 192.0.2.1 not responding.' >&2; exit 255", fail_after=500)
    record = ssh.record()
    assert record.lost + 500 <= time.monotonic()
    assert record.lost_at + 500 <= time.time()
    assert record.error_at >= record.lost_at + 500
    (ssh.directory / "plan").write_text("exit 255")
    assert ssh.line(fail_after=500).status() == 255
    assert len(ssh.started()) == 2, "one attempt, and a prompt error"


@pytest.mark.parametrize("chown", ["ignore", "strict"])
def test_the_end_of_sshfs_is_no_loss(start: Start, chown: str) -> None:
    """ssh sees it by the end of its input, and gets the time to end by itself."""
    ssh = start(f"login; cat >$here/got; echo ended >$here/end; echo 'Connection closed' >&2; {SILENT}")
    line = ssh.line(chown=chown)
    until(lambda: ssh.record().connections == 1, "connected")
    line.socket.sendall(FRAME)
    line.close()
    assert line.status() == 0
    assert (ssh.directory / "got").read_bytes() == FRAME
    assert (ssh.directory / "end").exists()
    assert ssh.running() == [], f"not for more than {PATIENCE:g} s"
    record = ssh.record()
    assert (record.lost, record.error, ssh.said()) == (0, "", [])


def test_sshfs_may_end_without_reading_its_answers(start: Start) -> None:
    """When it is killed: no loss, no traceback, no ssh left."""
    ssh = start(f"login; head -c 100000 /dev/zero; echo >$here/answered; {SILENT}")
    line = ssh.line()
    until((ssh.directory / "answered").exists, "answers are there")
    line.close()
    assert line.status() == 0
    assert ssh.running() == []
    assert (ssh.record().lost, ssh.said()) == (0, [])


def test_what_the_host_says_meanwhile_keeps_nothing_waiting(start: Start) -> None:
    """More than any buffer takes, on standard error, before the login and afterwards."""
    flood = "head -c 1000000 /dev/zero | tr '\\0' x >&2; echo >&2"
    ssh = start(f"{flood}; login; {flood}; head -c {len(FRAME)}; echo gone >&2; exit 255")
    line = ssh.line()
    line.exchange(FRAME)
    assert line.status() == 0
    assert ssh.record().error == "gone"


@pytest.mark.parametrize("chown", ["ignore", "strict"])
def test_an_ssh_without_a_standard_error_goes_on(start: Start, chown: str) -> None:
    """Its end is the end of the process."""
    ssh = start(f"login; exec 2>&-; head -c {len(FRAME)}; head -c {len(FRAME)}; exit 255")
    line = ssh.line(chown=chown)
    line.exchange(FRAME)
    line.exchange(FRAME)
    assert line.status() == 0
    assert ssh.record().error == "the connection was closed"


def test_connections_side_by_side_are_lost_together(start: Start) -> None:
    """With max_conns= several write one record: none of them stumbles, and all are counted."""
    ssh = start(ECHO)
    lines = [ssh.line() for _ in range(8)]
    for line in lines:
        line.exchange(FRAME)
    late = ssh.line()
    late.exchange(FRAME)
    counted = ssh.record().connections
    for pid in ssh.running():
        os.kill(pid, signal.SIGKILL)
    assert [line.status() for line in [*lines, late]] == [0] * 9
    record = ssh.record()
    assert (record.connections, record.error) == (counted, "the connection was closed")
    assert record.lost > 0
    assert [found.name for found in ssh.directory.glob("record*")] == ["record"]
    assert set(ssh.said()) == {"the connection was closed"}


def test_what_is_sent_to_an_ssh_that_has_ended_is_a_loss(start: Start) -> None:
    """It is noticed by writing, too."""
    ssh = start(f"login; exec <&-; echo >$here/closed; {SILENT}")
    line = ssh.line()
    until((ssh.directory / "closed").exists, "its input is closed")
    line.socket.sendall(FRAME)
    assert line.status() == 0
    assert ssh.running() == []
    assert ssh.record().lost > 0


def test_both_ends_of_the_socket_end(start: Start) -> None:
    """sshfs sees the loss whatever the process that ssh has left behind does."""
    ssh = start("login; sleep 60 </dev/null >/dev/null 2>&1 & wait $!; exit 255")
    line = ssh.line()
    until(lambda: ssh.record().connections == 1, "connected")
    for pid in ssh.running():
        os.kill(pid, signal.SIGKILL)
    with pytest.raises((ConnectionError, BrokenPipeError)):
        while line.receive(1) == b"":
            line.socket.send(FRAME, socket.MSG_NOSIGNAL)
    assert line.status() == 0
