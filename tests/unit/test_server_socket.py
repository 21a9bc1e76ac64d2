"""Which socket is served: the one systemd hands over, or the one named for development; anything else is a mistake."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import WAIT

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory with a short name: the path of a socket has 107 bytes at most (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="lh-", dir="/tmp") as directory:
        yield Path(directory)


#: Hands over one thing after the other as descriptor 3, and prints what is made of it.
HANDING_OVER = """
import os, socket, sys
from legacyhost.cli import main
from legacyhost.errors import ConfigError
from legacyhost.server import inherited_sockets

def show(what, *handed, fds=None, pid=str(os.getpid())):
    for number, one in enumerate(handed, 3):
        if one is None:
            os.close(number)
        else:
            os.dup2(one.fileno(), number)
    os.environ.update(LISTEN_FDS=fds or str(len(handed)), LISTEN_PID=pid)
    try:
        found = inherited_sockets()
        print(f"{what}: {found and (found.descriptor, found.path, [one.family.name for one in found.tcp])}")
    except ConfigError as error:
        print(f"{what}: {error.message}")

def bound(family, kind, address, backlog=None):
    one = socket.socket(family, kind)
    one.bind(address)
    if backlog is not None:
        one.listen(backlog)
    return one

here = sys.argv[1]
for number in (3, 4, 5):  # so that nothing opened below is one of these itself
    os.dup2(os.open(os.devnull, os.O_RDONLY), number)
good = bound(socket.AF_UNIX, socket.SOCK_STREAM, here + "/good", 1)
show("good", good)
show("for another process", good, pid="1")
show("none", good, fds="0")
show("two", good, good)
show("garbage", good, fds="x")
show("a file", open(here + "/file", "w"))
show("a pipe", os.fdopen(os.pipe()[0]))
show("datagram", bound(socket.AF_UNIX, socket.SOCK_DGRAM, here + "/datagram"))
tcp = bound(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0), 1)
tcp6 = bound(socket.AF_INET6, socket.SOCK_STREAM, ("::1", 0), 1)
show("only TCP", tcp)
show("TCP too", good, tcp)
show("TCP first", tcp, good, tcp6)
show("UDP", good, bound(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0)))
show("deaf TCP", good, bound(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0)))
show("not listening", bound(socket.AF_UNIX, socket.SOCK_STREAM, here + "/deaf"))
show("connected", socket.socketpair()[0])
show("abstract", bound(socket.AF_UNIX, socket.SOCK_STREAM, "\\0legacyhost-test-" + str(os.getpid()), 1))
show("closed", None)
os.dup2(good.fileno(), 3)
print(f"and a path: {main(['serve', 'foo', '--socket', here + '/other'])}")
"""


def test_one_listening_unix_socket_is_taken_and_what_listens_on_tcp(home: Path) -> None:
    """Whatever else systemd hands over is an error of the unit file, told in a sentence."""
    ran = subprocess.run(
        [sys.executable, "-c", HANDING_OVER, str(home)],
        cwd=REPOSITORY,
        env={**os.environ, "LEGACYHOST_RUN": str(home / "run")},
        capture_output=True,
        text=True,
        timeout=WAIT,
    )
    assert ran.stderr == "legacyhost: systemd has handed over a socket, so --socket cannot be given\n"
    told = dict(line.split(": ", 1) for line in ran.stdout.splitlines())
    assert told.pop("good") == f"(3, '{home}/good', [])"
    assert told.pop("TCP too") == f"(3, '{home}/good', ['AF_INET'])"
    assert told.pop("TCP first") == f"(4, '{home}/good', ['AF_INET', 'AF_INET6'])"
    assert told.pop("for another process") == told.pop("none") == "None"
    assert told.pop("two").startswith("systemd has handed over 2 unix sockets; a plugin has one")
    assert told.pop("only TCP").startswith("systemd has handed over 0 unix sockets; a plugin has one")
    assert told.pop("garbage").startswith("systemd has handed over 'x' sockets")
    assert told.pop("a file") == told.pop("a pipe") == "what systemd has handed over is not a socket"
    assert told.pop("closed") == "systemd has handed over a socket that is not there"
    assert "has no path" in told.pop("abstract")
    refused = {"datagram", "UDP", "deaf TCP", "not listening", "connected"}
    assert {told.pop(kind) for kind in refused} == {
        "a socket that systemd has handed over is not a listening stream socket, unix or TCP"
    }
    assert told == {"and a path": "1"}


#: Tries to serve on each of its arguments; "-" is without --socket. A served one would not come back.
SERVING = """
import sys
from legacyhost.cli import main
for path in sys.argv[1:]:
    assert main(["serve", "foo"] if path == "-" else ["serve", "foo", "--socket", path]) == 1
"""


def test_a_socket_that_cannot_be_served_is_told_at_once(home: Path) -> None:
    """Without one, where something else is, where somebody serves already, where none can be."""
    (home / "file").write_text("precious")
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(str(home / "taken"))
        taken.listen()
        paths = [home / "file", home, home / "taken", home / "no" / "x", home / ("x" * 107)]
        ran = subprocess.run(
            [sys.executable, "-c", SERVING, "-", *map(str, paths)],
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            timeout=WAIT,
        )
    assert (ran.returncode, ran.stdout) == (0, "")
    told = iter(line.removeprefix("legacyhost: ") for line in ran.stderr.splitlines())
    assert next(told).startswith("no socket: this is started by systemd through legacyhost@NAME.socket")
    assert next(told) == f"{home}/file exists and is not a socket"
    assert next(told) == f"{home} exists and is not a socket"
    assert next(told) == f"something is serving {home}/taken already"
    assert next(told) == f"there is no directory {home}/no for the socket"
    assert next(told).startswith("the path of a socket has at most 107 bytes")
    assert (home / "file").read_text() == "precious"


def test_a_named_socket_is_served_for_development(home: Path) -> None:
    """A socket file left by a crash is replaced; only its owner may connect; it goes with the server."""
    (home / "etc").mkdir()
    (home / "etc" / "foo.toml").write_text("[volume]")
    path = home / "foo.sock"
    with socket.socket(socket.AF_UNIX) as left_over:
        left_over.bind(str(path))
    directories = {f"LEGACYHOST_{name.upper()}": str(home / name) for name in ("etc", "state", "run")}
    with subprocess.Popen(
        [sys.executable, "-m", "legacyhost", "serve", "foo", "--socket", str(path)],
        cwd=REPOSITORY,
        env={**os.environ, **directories, "NOTIFY_SOCKET": str(home / "notify")},
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            assert "plugin foo is serving" in process.stderr.readline()
            assert path.stat().st_mode & 0o777 == 0o700
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(WAIT)
                connection.connect(str(path))
                connection.sendall(b"POST /Plugin.Activate HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
                assert connection.recv(64).startswith(b"HTTP/1.1 200 OK")
        finally:
            process.terminate()
            process.wait(WAIT)
    assert process.returncode == 0
    assert not path.exists()
