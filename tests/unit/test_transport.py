"""Making the connection below an sshfs: how often it is tried, for how long, and what is recorded of it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import WAIT
from fakessh import ECHO, REFUSE, SILENT, WORDLESS, Start, hosts, until

from legacyhost.transport.carry import ATTEMPT, FRESH, FRESH_REFUSAL, REFUSALS

FRAME = b"\0\0\0\5\1\0\0\0\3"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    with hosts(tmp_path) as made:
        yield made


@pytest.mark.parametrize("chown", ["ignore", "strict"])
def test_a_connection_is_made_and_recorded(start: Start, chown: str) -> None:
    """ssh gets sshfs's arguments, its answers go to sshfs; the record says since when and how long it took."""
    ssh = start(f'printf "%s\\n" "$@" >"$here/arguments"; {ECHO}')
    before = time.time()
    line = ssh.line(chown=chown)
    line.exchange(FRAME)
    until(lambda: ssh.record().connections == 1, "with strict the answer may be here before the record")
    record = ssh.record()
    assert (record.connections, record.lost, record.lost_at, record.error) == (1, 0, 0, "")
    assert before <= record.connected_at <= time.time()
    assert 0 < record.took < WAIT
    assert ssh.said() == []
    arguments = (ssh.directory / "arguments").read_text().splitlines()
    assert arguments[0] == "-oPermitLocalCommand=yes", "the first value of an option counts"
    assert arguments[-4:] == ["-x", "nas", "-s", "sftp"]


@pytest.mark.parametrize(("plan", "error"), [(REFUSE, "nas: port 22: Connection refused"), ("exit 1", "")])
def test_the_first_attempt_of_a_mount_is_the_only_one(start: Start, plan: str, error: str) -> None:
    """Whoever mounts is there to read what is wrong: it is told at once, and recorded."""
    ssh = start(plan)
    assert ssh.line().status() == 255
    record = ssh.record()
    assert len(ssh.started()) == 1
    assert record.connections == 0
    assert record.lost == record.tried > 0
    assert record.error == (error or "the host did not answer in time")
    assert ssh.said() == [record.error]


@pytest.mark.parametrize("chown", ["ignore", "strict"])
def test_a_lost_connection_is_made_again_as_soon_as_it_can_be(start: Start, chown: str) -> None:
    """In the same call, so that whoever waits does not notice; what sshfs has sent meanwhile arrives."""
    ssh = start(f"[ $attempt -le 3 ] && {{ {REFUSE}; }}; {ECHO}")
    ssh.recorded(connections=1, took=0.1, lost=time.monotonic(), lost_at=time.time())
    line = ssh.line(chown=chown)
    line.exchange(FRAME)
    until(lambda: "the connection is there again" in ssh.said(), "with strict the answer may be here before the record")
    record = ssh.record()
    assert len(ssh.started()) == 4
    assert (record.connections, record.took, record.lost, record.lost_at) == (2, 0.1, 0, 0)
    assert record.error == "nas: port 22: Connection refused", "the last one there was"
    assert ssh.said() == [record.error, "the connection is there again"], "not the same again and again"


def test_a_host_that_is_away_is_waited_for_as_long_as_an_operation_may_wait(start: Start) -> None:
    """From the moment of the loss, not that of the call; then the status is that of a failed ssh."""
    ssh = start(REFUSE)
    lost = time.monotonic()
    ssh.recorded(connections=1, took=0.1, lost=lost, lost_at=time.time())
    line = ssh.line(fail_after=2)
    assert line.status() == 255
    record = ssh.record()
    assert len(ssh.started()) > 1
    assert (record.connections, record.lost) == (1, lost)
    assert time.monotonic() > lost + 2
    assert line.socket.recv(1) == b""


def test_whoever_has_waited_meanwhile_gets_the_same_answer_at_once(start: Start) -> None:
    """sshfs asks one after the other: the second waiter does not wait for fail_after again."""
    ssh = start(ECHO)
    now = time.monotonic()
    # As if it had just failed, however long the start of a process takes here.
    ssh.recorded(connections=1, lost=now - 100, tried=now + WAIT)
    assert ssh.line(fail_after=30).status() == 255
    assert ssh.started() == []
    assert ssh.record().tried == now + WAIT, "or else it would go on so for ever"


def test_a_failure_does_not_count_for_those_who_come_later(start: Start) -> None:
    """When the host has been away for long: one attempt for each, and a prompt error."""
    ssh = start(f"[ $attempt = 1 ] && {{ {REFUSE}; }}; {ECHO}")
    now = time.monotonic()
    ssh.recorded(connections=1, lost=now - 100, tried=now - FRESH)
    assert ssh.line(fail_after=30).status() == 255
    assert len(ssh.started()) == 1
    ssh.recorded(connections=1, lost=now - 100, tried=ssh.record().tried - FRESH)
    ssh.line(fail_after=30).exchange(FRAME)
    assert len(ssh.started()) == 2


def test_a_loss_that_nobody_has_noticed_is_a_new_one(start: Start) -> None:
    """The connection was lost at night: the first operation in the morning waits for a host that is just starting."""
    ssh = start(f"[ $attempt -le 2 ] && {{ {REFUSE}; }}; {ECHO}")
    ssh.recorded(connections=1, lost=time.monotonic() - 100)
    ssh.line(fail_after=60).exchange(FRAME)
    assert len(ssh.started()) == 3
    assert ssh.record().reconnects == 1


@pytest.mark.parametrize("refusal", REFUSALS)
def test_a_host_that_does_not_want_us_is_not_pressed(start: Start, refusal: str) -> None:
    """It might shut this machine out: one attempt, and for a while its answer counts for everybody."""
    ssh = start(f"echo 'anna@nas: {refusal}' >&2; exit 255")
    ssh.recorded(connections=1, lost=time.monotonic())
    assert ssh.line(fail_after=3600).status() == 255
    assert ssh.line(fail_after=3600).status() == 255
    assert len(ssh.started()) == 1
    record = ssh.record()
    record.tried -= FRESH_REFUSAL
    record.write(str(ssh.path))
    assert ssh.line(fail_after=3600).status() == 255
    assert len(ssh.started()) == 2


def test_a_failure_of_this_moment_counts_only_when_the_time_is_over(start: Start) -> None:
    """As long as an operation may wait, it is tried again."""
    ssh = start(ECHO)
    now = time.monotonic()
    ssh.recorded(connections=1, lost=now, tried=now + WAIT)
    ssh.line(fail_after=300).exchange(FRAME)
    assert ssh.record().connections == 2


def test_an_attempt_that_hangs_is_given_up_for_another(start: Start) -> None:
    """The host may be there again, without what was sent to it while it was not; the next attempt is more patient."""
    ssh = start(f"[ $attempt = 1 ] && {{ {WORDLESS}; }}; {ECHO}")
    ssh.recorded(connections=1, took=0.1, lost=time.monotonic())
    ssh.line(fail_after=300).exchange(FRAME)
    assert len(ssh.started()) == 2
    assert ssh.running() == ssh.started()[1:]
    assert ssh.said() == ["Connection timed out during banner exchange", "the connection is there again"]
    assert ssh.record().patience == 2 * ATTEMPT


def test_a_login_takes_the_time_it_takes(start: Start) -> None:
    """However quick the first one was: name service, PAM and load are others by now."""
    ssh = start(f"sleep {ATTEMPT + 1:g}; {ECHO}")
    ssh.recorded(connections=1, took=0.1, lost=time.monotonic())
    ssh.line(fail_after=300).exchange(FRAME)
    assert len(ssh.started()) == 1


def test_patience_with_a_host_that_is_there_ends_with_the_time(start: Start) -> None:
    """It has been found slow, and is dead now: who waits gets an error no later for that."""
    ssh = start(f"echo $limit >>$here/limits; {WORDLESS}")
    ssh.recorded(connections=1, took=60, patience=60, lost=time.monotonic())
    assert ssh.line(fail_after=4).status() == 255
    assert max(int(limit) for limit in (ssh.directory / "limits").read_text().split()) <= 4


def test_a_slow_host_gets_more_time(start: Start) -> None:
    """In proportion to what its first connection took, which itself may take as long as it likes."""
    ssh = start(f"sleep {ATTEMPT + 1:g}; {ECHO}")
    ssh.line().exchange(FRAME)
    assert ssh.record().took > ATTEMPT
    ssh.line(fail_after=300).exchange(FRAME)
    assert len(ssh.started()) == 2
    assert ssh.record().connections == 2


@pytest.mark.parametrize("chown", ["ignore", "strict"])
@pytest.mark.parametrize("connections", [0, 1])
def test_when_sshfs_ends_an_attempt_ends(start: Start, connections: int, chown: str) -> None:
    """No ssh is left, and it is nobody's failure."""
    ssh = start(SILENT)
    ssh.recorded(connections=connections, took=100)
    line = ssh.line(fail_after=300, chown=chown)
    until(lambda: len(ssh.started()) == 1, "an attempt is made")
    line.close()
    assert line.status() == 255
    assert ssh.running() == []
    assert (ssh.record().tried, ssh.record().error, ssh.said()) == (0, "", [])


def test_when_sshfs_ends_attempts_end(start: Start) -> None:
    """Also between two of them."""
    ssh = start(REFUSE)
    ssh.recorded(connections=1, took=0.1, lost=time.monotonic())
    line = ssh.line(fail_after=300)
    until(lambda: len(ssh.started()) > 2, "attempts are made")
    line.close()
    assert line.status() == 255
    assert ssh.running() == []


@pytest.mark.parametrize("text", ["Welcome\\nto the host\\n", "no line", "connected\\n", "connected 0\\n"])
def test_what_the_host_says_before_the_login_is_no_sign_of_anything(start: Start, text: str) -> None:
    """A banner is neither a login nor a failure, and is not what is wrong later."""
    ssh = start(f"printf '{text}' >&2; [ $attempt = 1 ] && exit 255; login; head -c {len(FRAME)}; exit 255")
    assert ssh.line().status() == 255
    assert ssh.record().connections == 0
    line = ssh.line()
    line.exchange(FRAME)
    assert line.status() == 0
    assert ssh.record().connections == 1
    assert ssh.record().error == "the connection was closed"


def test_a_failure_is_forgotten_when_the_connection_is_there(start: Start) -> None:
    """Another one beside it (max_conns) is made, however short a time ago an attempt failed."""
    ssh = start(f"[ $attempt = 1 ] && {{ {REFUSE}; }}; {ECHO}")
    ssh.recorded(connections=1, took=0.1, lost=time.monotonic())
    for _ in range(2):
        ssh.line().exchange(FRAME)
    assert len(ssh.started()) == 3
    assert len(ssh.running()) == 2


def test_a_login_is_seen_in_the_midst_of_a_flood(start: Start) -> None:
    """Wherever a read ends: a token in two parts, before and behind it more than is kept."""
    flood = 'token=$(login 2>&1); kill -STOP $PPID; printf "%0*d%s\\n%09999d" 4070 0 "$token" 0 >&2; kill -CONT $PPID'
    ssh = start(f"{flood}; exec cat")
    line = ssh.line()
    line.exchange(FRAME)
    assert ssh.record().connections == 1


def test_the_users_shell_has_no_say(start: Start) -> None:
    """LocalCommand is for a shell; whoever starts sshfs may have one that is none."""
    ssh = start(ECHO)
    ssh.line(SHELL="/bin/false").exchange(FRAME)
    assert ssh.record().connections == 1


def test_a_record_that_cannot_be_written_ends_no_connection(start: Start) -> None:
    """It is said, and the connection is made and used."""
    ssh = start(f"login; head -c {len(FRAME)}; exit 255")
    ssh.path = ssh.directory / "gone" / "record"
    line = ssh.line()
    line.exchange(FRAME)
    assert line.status() == 0
    assert f"{ssh.path} cannot be written: No such file or directory" in ssh.said()
    assert "Traceback" not in ssh.journal.read_text()
