"""Servers that are trusted, and have been taken over: what they can send to the service, which looks at directories.

Those that are not trusted yet: tests/unit/test_ssh_network.py. Purge: tests/unit/test_ssh_purge_odd.py.
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import paramiko
import pytest
from drivers import sshfs_driver
from oddsshd import Files, Manners, OddServer
from sshd import keygen, time_limit

from legacyhost.deadline import Deadline
from legacyhost.errors import PluginError, Refused
from legacyhost.ssh.remote import Remote
from legacyhost.ssh.target import Secret, Target
from legacyhost.state import Volume

#: What a terminal, a log and a unit's name are no place for.
EVIL = "evil\x1b]0;owned\x07\x1b[2J\r\nNov 23 00:00:00 host legacyhost: all is well\u202e\0<b>${HOME}%n`id`"
MEGABYTE = 1 << 20
#: For what ends by itself, on the slowest machine; and for what only the deadline ends.
SECONDS, SHORT = 30.0, 5.0


@pytest.fixture(autouse=True)
def _in_time() -> Iterator[None]:
    with time_limit():
        yield


class Flood(paramiko.SFTPServer):  # type: ignore[misc]  # paramiko has no types
    """Answers stat with whatever ``send`` sends, for as long as somebody takes it; ``sent`` counts."""

    sent = 0
    send: Callable[[Any], bytes]

    def _process(self, request: int, number: int, message: Any) -> None:
        if request != 17:  # SSH_FXP_STAT
            super()._process(request, number, message)
            return
        type(self).sent = 0
        self.sock.sendall(type(self).send(number))
        with suppress(OSError):
            while True:
                self.sock.sendall(bytes(1 << 16))
                type(self).sent += 1 << 16


def ask(
    directory: Path,
    files: type[Any] = Files,
    manners: Manners | None = None,
    sftp_server: type[Any] = paramiko.SFTPServer,
    seconds: float = SECONDS,
    work: Callable[[Remote], Any] = lambda remote: remote.ensure_directory("/tmp", create=False),
) -> Any:
    """What a session comes to: what the work returns, or the sentence it fails with."""
    with OddServer(manners, files, sftp_server) as server:
        (directory / "known_hosts").write_text(server.known_hosts_line())
        target = Target(server.host, "anna", port=server.port, password=Secret("right"))
        began = time.monotonic()
        try:
            with Remote.connect(target, [directory / "known_hosts"], Deadline.after(seconds)) as remote:
                return work(remote)
        except PluginError as error:
            assert error.message.isprintable()
            assert len(error.message) < 800
            assert "right" not in error.message
            return error.message
        finally:
            assert time.monotonic() - began < seconds + 10


@pytest.mark.parametrize("length", [0x7FFFFFFF, 0xFFFFFFFF, 0x01000000], ids=hex)
def test_an_sftp_packet_of_gigabytes(tmp_path: Path, length: int) -> None:
    """The length announced is not believed: the session ends at once."""

    class Huge(Flood):
        @staticmethod
        def send(number: int) -> bytes:
            return struct.pack(">I", length)

    assert "unintelligible" in ask(tmp_path, sftp_server=Huge)
    assert Huge.sent < 8 * MEGABYTE


@pytest.mark.parametrize(
    "answer",
    [
        struct.pack(">IB", 5, 105), struct.pack(">IBI", 5, 105, 0xFFFFFFFF), struct.pack(">I", 0), struct.pack(">IB",
        1, 105),
        struct.pack(">IBII", 9, 104, 1, 0xFFFFFFFF), bytes(64), b"\xff" * 64,
    ],
    ids=bytes.hex,
)  # fmt: skip
def test_sftp_packets_that_are_none(tmp_path: Path, answer: bytes) -> None:
    """Too short, for nobody, with fields that lead beyond their end: an error within the time there is."""

    class Nonsense(Flood):
        @staticmethod
        def send(number: int) -> bytes:
            return answer

    assert isinstance(ask(tmp_path, sftp_server=Nonsense, seconds=SHORT), str)


def test_an_ssh_packet_of_gigabytes(tmp_path: Path) -> None:
    """The length in a packet's header is not believed: RFC 4253 knows 35000 bytes, OpenSSH takes 256 KiB."""

    class Huge(paramiko.SFTPServer):  # type: ignore[misc]  # paramiko has no types
        def _process(self, request: int, number: int, message: Any) -> None:
            transport = self.sock.get_transport()
            header = struct.pack(">IB", 0x0FFFFFFC, 4) + bytes(11)
            transport.packetizer._build_packet = lambda _: header
            hint = paramiko.Message()
            hint.add_byte(b"\x02")
            transport._send_message(hint)
            with suppress(OSError):
                while True:
                    transport.sock.sendall(bytes(1 << 16))

    said = ask(tmp_path, sftp_server=Huge)
    assert "did not answer within" not in said, "all that time the packet was being read"


@pytest.mark.parametrize("name", [EVIL, "x" * 100_000, "", "relative", "/a\0b", b"\xff\xfe\x1b"], ids=repr)
def test_a_realpath_that_lies(tmp_path: Path, name: str | bytes) -> None:
    """Whatever it says, it is kept where nothing but a comparison is made of it, or it is an error."""

    class Lying(Files):
        def canonicalize(self, path: str) -> Any:
            return name

    found = ask(tmp_path, Lying, seconds=SHORT, work=lambda remote: remote.real_path("/tmp"))
    assert isinstance(found, str)
    assert len(json.dumps(found)) < MEGABYTE


def test_a_realpath_that_is_relative_once(tmp_path: Path) -> None:
    """A volume with on_remove=purge is compared with all others: one that a server has lied about is no defect."""
    driver = sshfs_driver()
    options = {"sshcmd": "anna@nas:/srv/a", "on_remove": "purge"}
    facts = {"host_key": "SHA256:x", "path": "/srv/a"}
    one = Volume("one", driver.parse("one", options), datetime.now(UTC), facts)
    other = Volume("other", driver.parse("other", {"sshcmd": "anna@nas:/b"}), datetime.now(UTC), {**facts, "path": "b"})
    with pytest.raises(Refused, match="has its data in the same remote directory"):
        driver.removal(one, lambda: [other])


@pytest.mark.parametrize("value", [0, 1, 2**63, 2**64 - 1])
def test_a_statvfs_of_nonsense(tmp_path: Path, value: int) -> None:
    """Any eleven numbers are room for somebody, or none at all; a Create goes on."""

    class Vague(paramiko.SFTPServer):  # type: ignore[misc]  # paramiko has no types
        def _process(self, request: int, number: int, message: Any) -> None:
            if request != 200:  # SSH_FXP_EXTENDED
                super()._process(request, number, message)
                return
            self._send_packet(201, _message(number, struct.pack(">11Q", *[value] * 11)))

    found = ask(tmp_path, sftp_server=Vague, work=lambda remote: remote.free_space("/tmp"))
    assert found is None if value == 0 else found.total_bytes == value * value


def test_a_statvfs_that_breaks_off(tmp_path: Path) -> None:
    """An answer with too little in it is none."""

    class Short(paramiko.SFTPServer):  # type: ignore[misc]  # paramiko has no types
        def _process(self, request: int, number: int, message: Any) -> None:
            if request == 200:  # SSH_FXP_EXTENDED
                self._send_packet(201, _message(number, b"\0"))
            else:
                super()._process(request, number, message)

    assert ask(tmp_path, sftp_server=Short, work=lambda remote: remote.free_space("/tmp")) is None


def _message(number: int, content: bytes) -> Any:
    message = paramiko.Message()
    message.add_int(number)
    message.add_bytes(content)
    return message


@pytest.mark.parametrize("code", [paramiko.SFTP_FAILURE, paramiko.SFTP_PERMISSION_DENIED, 4242])
def test_an_error_text_with_control_characters(tmp_path: Path, code: int) -> None:
    """What a server says of an error is one printable line of bounded length in the message."""

    class Talking(paramiko.SFTPServer):  # type: ignore[misc]  # paramiko has no types
        def _process(self, request: int, number: int, message: Any) -> None:
            if request == 17:  # SSH_FXP_STAT
                self._send_status(number, code, EVIL * 500)
            else:
                super()._process(request, number, message)

    said = ask(tmp_path, sftp_server=Talking)
    assert "\x1b" not in said
    assert "/tmp" in said


def test_a_question_without_end(tmp_path: Path) -> None:
    """keyboard-interactive, again and again: the password is said once, and the deadline ends it."""

    class Asking(Manners):
        def check_auth_interactive_response(self, responses: list[str]) -> Any:
            self.answers_seen += responses
            return paramiko.InteractiveQuery(EVIL, EVIL, (EVIL, False))

    manners = Asking()
    manners.methods = "keyboard-interactive"
    said = ask(tmp_path, manners=manners, seconds=SHORT)
    assert "login" in said
    assert len(manners.answers_seen) > 2
    assert [answer for answer in manners.answers_seen if answer] == ["right"]


@pytest.mark.parametrize("count", [2, 1000])
def test_many_questions_at_once(tmp_path: Path, count: int) -> None:
    """None of several gets the password: which of them asks for it cannot be known."""
    manners = Manners()
    manners.methods = "keyboard-interactive"
    manners.questions = [(EVIL, False)] * count
    assert "refused the login" in ask(tmp_path, manners=manners)
    assert not any(manners.answers_seen)


def test_a_login_that_never_gets_anywhere(tmp_path: Path) -> None:
    """Each right password is only a part, and the same is wanted again: it is not said a second time."""

    class Greedy(Manners):
        def check_auth_password(self, username: str, password: str) -> int:
            self.passwords_seen.append(password)
            return int(paramiko.AUTH_PARTIALLY_SUCCESSFUL)

    manners = Greedy()
    assert "refused the login" in ask(tmp_path, manners=manners)
    assert manners.passwords_seen == ["right"]


def test_methods_with_control_characters(tmp_path: Path) -> None:
    """The list of what the server takes is shown, as far as it can be."""
    manners = Manners()
    manners.methods = ",".join([EVIL.replace(",", "")] * 100)
    assert "takes none of what was given" in ask(tmp_path, manners=manners)


def test_banners_without_end(tmp_path: Path) -> None:
    """Messages for people in the middle of a login: none is shown, and the deadline ends them."""
    count = [0]

    class Chatty(Manners):
        transport: Any = None

        def check_auth_none(self, username: str) -> int:
            while not self.ended.is_set():
                banner = paramiko.Message()
                banner.add_byte(bytes([53]))  # SSH_MSG_USERAUTH_BANNER
                banner.add_string(EVIL * 100)
                banner.add_string("")
                transport = next(t for t in threading.enumerate() if getattr(t, "server_object", None) is self)
                try:
                    transport._send_message(banner)  # type: ignore[attr-defined]
                except (OSError, EOFError):
                    break
                count[0] += 1
            return int(paramiko.AUTH_FAILED)

    said = ask(tmp_path, manners=Chatty(), seconds=SHORT)
    assert "the login" in said
    assert "evil" not in said
    assert count[0] > 10


@pytest.mark.parametrize("question", ["Enter passphrase for key '/root/.ssh/id_ed25519': ", "Password: "])
@pytest.mark.parametrize("method", ["keyboard-interactive", "password"])
def test_ssh_is_asked_for_the_passphrase_by_the_server(tmp_path: Path, method: str, question: str) -> None:
    """What opens a key is for this host alone: the mount's own ssh sends it to no server that asks for it nicely."""
    manners = Manners()
    manners.methods = method
    manners.questions = [(question, False)]
    key = keygen(tmp_path / "key", "ed25519", "the passphrase")
    with OddServer(manners) as server:
        (tmp_path / "known_hosts").write_text(server.known_hosts_line() + "\n")
        driver = sshfs_driver([tmp_path / "known_hosts"])
        given = {"sshcmd": f"anna@{server.host}:/", "port": str(server.port), "password": "the passphrase"}
        options = driver.parse("data", {**given, "IdentityFile": str(key)})
        volume = Volume("data", options, datetime.now(UTC), {"host_key": "SHA256:x", "encrypted_key": str(key)})
        command = driver.command(volume, tmp_path / "mountpoint", tmp_path)
        ran = subprocess.run(
            ["ssh", "-v", "-F", str(tmp_path / "ssh_config"), f"anna@{server.host}", "true"],
            env={**os.environ, **command.variables("x:y")},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=30,
        )
    assert ran.returncode == 255
    assert b"Permission denied" in ran.stderr, ran.stderr
    assert not any(manners.answers_seen + manners.passwords_seen)


def _fifo(path: Path) -> str:
    os.mkfifo(path, 0o600)
    return str(path)


def _sparse(path: Path) -> str:
    with path.open("wb") as file:
        file.truncate(1 << 40)
    path.chmod(0o600)
    return str(path)


@pytest.mark.parametrize(
    "make",
    [
        lambda _: "/dev/zero", lambda _: "/dev/stdin", lambda _: "/dev/fuse", lambda _: "/dev/tty",
        lambda _: "/proc/self/environ",
        lambda _: "/proc/self/mem", lambda _: "/proc/self/fd/0", lambda _: "/proc/kmsg", lambda _: "/proc/self/fd",
        lambda _: "/etc/shadow",
        lambda path: _fifo(path / "fifo"), lambda path: _sparse(path / "sparse"), lambda _: "/",
        lambda _: "/nonexistent/x",
        lambda _: "/sys/kernel/debug", lambda _: "/" + "x" * 900,
    ],
)  # fmt: skip
def test_a_key_file_that_is_none(tmp_path: Path, make: Callable[[Path], str]) -> None:
    """Devices, pipes, files of the kernel, a file without end, other secrets: refused soon, and never shown."""
    path = make(tmp_path)
    target = Target("127.0.0.1", "anna", port=9, identity_files=(path,), password=Secret("secret"))
    began = time.monotonic()
    with pytest.raises(PluginError) as caught:
        Remote.connect(target, [], Deadline.after(SECONDS))
    assert time.monotonic() - began < SECONDS + 5
    said = caught.value.message
    assert said.startswith(("identity file", "a key")), said
    assert "root:" not in said
    assert "PATH=" not in said
