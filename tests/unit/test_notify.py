"""What systemd is told, from a process of the test's own: ready when a call comes through, alive while calls do."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import WAIT

from legacyhost.notify import Notifier, probe

REPOSITORY = Path(__file__).parents[2]
#: Watches the socket that is its argument; what it is to say stands in the file beside it.
WATCHER = """
import sys, threading, pathlib
from legacyhost.notify import Notifier, watch
status = pathlib.Path(sys.argv[1] + ".status")
notifier = Notifier()
print(sorted(key for key in __import__("os").environ if key in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")))
watch(notifier, sys.argv[1], status.read_text)
threading.Event().wait()
"""


class Plugin:
    """What is behind the plugin's socket: answers each health check with ``answer``; None is silence."""

    def __init__(self, home: Path) -> None:
        self.path = home / "plugin.sock"
        self.answer: bytes | None = None
        self.asked: list[bytes] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen()
        threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self.asked.append(connection.recv(4096))
                if self.answer is not None:
                    connection.sendall(self.answer)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


class Watched:
    """A process that watches a Plugin and tells this test, in place of systemd."""

    def __init__(self, home: Path, **environment: str) -> None:
        self._status = home / "plugin.sock.status"
        self.say("not serving: it is starting")
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notices.bind(str(home / "notify"))
        self._notices.settimeout(WAIT)
        self.plugin = Plugin(home)
        self.process = subprocess.Popen(
            [sys.executable, "-c", WATCHER, str(self.plugin.path)],
            cwd=REPOSITORY,
            env={**os.environ, "NOTIFY_SOCKET": str(home / "notify"), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def say(self, status: str) -> None:
        draft = self._status.with_name("draft")
        draft.write_text(status)
        draft.replace(self._status)

    def next(self) -> str:
        return self._notices.recv(65536).decode()

    def until(self, expected: str) -> list[str]:
        """The notices up to the one expected."""
        seen = [self.next()]
        while seen[-1] != expected:
            seen.append(self.next())
        return seen

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()
        self.plugin.close()
        self._notices.close()


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory with a short name: the path of a socket has 107 bytes at most (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="lh-", dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
def watched(home: Path) -> Iterator[Watched]:
    """A short watchdog time, so that signs of life come quickly."""
    watched = Watched(home, WATCHDOG_USEC="60000", WATCHDOG_PID="1")
    yield watched
    watched.close()


def test_ready_comes_once_and_only_after_a_call_came_through(watched: Watched) -> None:
    """Silence is no sign of life, 503 is one without being ready; the first 200 is READY, with the status then."""
    plugin = watched.plugin
    while len(plugin.asked) < 3:  # several checks without an answer
        threading.Event().wait(0.01)
    plugin.answer = b"HTTP/1.1 503 Service Unavailable\r\n\r\n"
    assert watched.next() == "STATUS=not serving: it is starting"
    assert watched.next() == "WATCHDOG=1"
    watched.say("serving volumes")
    plugin.answer = b"HTTP/1.1 200 OK\r\n\r\n{}"
    before = watched.until("READY=1\nSTATUS=serving volumes")
    assert set(before[:-1]) <= {"STATUS=not serving: it is starting", "STATUS=serving volumes", "WATCHDOG=1"}
    after = [watched.next() for _ in range(6)]
    assert set(after) == {"WATCHDOG=1", "STATUS=serving volumes"}
    assert plugin.asked[-1].startswith(b"GET /health HTTP/1.1\r\n")


def test_without_answers_there_are_no_signs_of_life(watched: Watched) -> None:
    """A server that hangs is restarted by systemd: nothing is said until it answers again."""
    plugin = watched.plugin
    plugin.answer = b"HTTP/1.1 200 OK\r\n\r\n"
    watched.until("WATCHDOG=1")
    plugin.answer = None
    asked = len(plugin.asked)
    while len(plugin.asked) < asked + 5:
        threading.Event().wait(0.01)
    plugin.answer = b"HTTP/1.1 200 OK\r\n\r\n"
    watched.say("again")
    told = watched.until("STATUS=again")
    # Between the first answer and the last, at most what was under way when the answers stopped.
    assert len(told) <= 5


def test_the_environment_is_for_this_process_only(watched: Watched) -> None:
    """Programs started later have no business with systemd."""
    assert watched.process.stdout is not None
    assert watched.process.stdout.readline() == "[]\n"


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", 200),
        (b"HTTP/1.1 503 x\r\n", 503),
        (b"", None),
        (b"garbage", None),
        (b"HTTP/1.1", None),
        (b"HTTP/1.1 abc\r\n", None),
    ],
)
def test_a_probe_gives_the_status_or_nothing(home: Path, answer: bytes, status: int | None) -> None:
    """Whatever is behind the socket, asking it is no error."""
    plugin = Plugin(home)
    plugin.answer = answer
    assert probe(str(plugin.path)) == status
    plugin.close()
    assert probe(str(plugin.path)) is None
    assert probe(str(home / "nothing")) is None


def test_without_systemd_nothing_is_said(home: Path) -> None:
    """No NOTIFY_SOCKET, no message and no error; a nonsensical watchdog time is none."""
    program = (
        "from legacyhost.notify import Notifier\nnotifier = Notifier()\n"
        "notifier.ready('x'), notifier.status('x'), notifier.alive(), notifier.stopping()\nprint(notifier.interval)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "NOTIFY_SOCKET"}
    for usec, interval in (("", "10.0\n"), ("garbage", "10.0\n"), ("30000000", "10.0\n"), ("3000000", "1.0\n")):
        ran = subprocess.run(
            [sys.executable, "-c", program],
            cwd=REPOSITORY,
            env={**environment, "WATCHDOG_USEC": usec},
            capture_output=True,
            text=True,
        )
        assert (ran.stdout, ran.stderr) == (interval, "")


def test_a_status_is_in_whatever_letters_it_is(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """sdnotify would send Latin-1, which systemd drops, or nothing: what was said before would stand there for good."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(str(home / "notify"))
        notices.settimeout(WAIT)
        monkeypatch.setenv("NOTIFY_SOCKET", str(home / "notify"))
        notifier = Notifier()
        for text in ('rule 1: ["…"]', "für", "\udc80"):
            notifier.status(text)
            assert notices.recv(65536) == f"STATUS={text}".encode("utf-8", "replace")
