"""Calling a plugin as Docker does: every way in which it can go wrong is a sentence."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fakes import FakePlugin
from namespace import in_own_namespace

from legacyhost.client import call
from legacyhost.errors import Failed, PluginError, UnknownMethod

Serve = Callable[[bytes | tuple[int, object]], FakePlugin]


@pytest.fixture
def home() -> Iterator[Path]:
    """A directory with a short name: the path of a socket has 107 bytes at most (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="lh-", dir="/tmp") as directory:
        yield Path(directory)


@pytest.fixture
def path(home: Path) -> Path:
    return home / "foo.sock"


@pytest.fixture
def serve(path: Path) -> Iterator[Serve]:
    """Makes a plugin that answers the RPC ``Do.It``."""
    made: list[FakePlugin] = []

    def make(reply: bytes | tuple[int, object]) -> FakePlugin:
        made.append(FakePlugin(path, {"Do.It": reply}))
        return made[0]

    yield make
    for plugin in made:
        plugin.close()


def failure(path: Path, rpc: str = "Do.It", kind: type[PluginError] = Failed) -> str:
    with pytest.raises(kind) as caught:
        call(path, rpc, {})
    assert caught.value.message.isprintable()
    return caught.value.message


def test_the_reply_is_what_the_plugin_answers(serve: Serve, path: Path) -> None:
    """The arguments go out as JSON, the reply comes back as it is."""
    plugin = serve((200, {"Answer": "é☃"}))
    assert call(path, "Do.It", {"Name": "é☃\ud800"}) == {"Answer": "é☃"}
    assert plugin.asked == [("Do.It", {"Name": "é☃\ud800"})]


def test_an_error_is_the_plugins_own_sentence(serve: Serve, path: Path) -> None:
    """What the plugin says is what the user reads, on one line."""
    serve((500, {"Err": "the host is down\n  try again"}))
    assert failure(path) == "the host is down try again"


@pytest.mark.parametrize("reply", [{}, {"Err": ""}, {"Err": None}])
def test_an_error_without_a_sentence_gets_one(serve: Serve, path: Path, reply: object) -> None:
    """Something always is said."""
    serve((503, reply))
    assert failure(path) == "the plugin answered with status 503"


@pytest.mark.parametrize("reply", [[], "x", 5, None, True])
def test_a_reply_that_is_no_object_is_told(serve: Serve, path: Path, reply: object) -> None:
    """Whatever is behind the socket, it is no plugin."""
    serve((200, reply))
    assert failure(path) == f"the plugin behind {path} answers with something that is no object"


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n<html>",
        b"HTTP/1.1 200 OK\r\n\r\n\xff\xfe",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"[" * 100_000,
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
        b"HTTP/1.1 abc\r\n\r\n{}",
    ],
    ids=lambda reply: repr(reply[:40]),
)
def test_no_answer_says_where_to_look(serve: Serve, path: Path, reply: bytes) -> None:
    """A connection that ends without a reply (a plugin that cannot serve) or with nonsense."""
    serve(reply)
    assert failure(path) == f"the plugin behind {path} gives no answer; see: systemctl status legacyhost@foo"


def test_a_dead_socket_says_where_to_look(path: Path) -> None:
    """A socket file nobody listens on, a file that is no socket."""
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        assert "gives no answer" in failure(path)
    path.unlink()
    path.touch()
    assert "gives no answer" in failure(path)


def test_a_missing_socket_says_how_to_get_it(path: Path) -> None:
    """The unit that makes it is named."""
    expected = f"there is no socket {path}; to make it: systemctl enable --now legacyhost@foo.socket"
    assert failure(path) == expected
    assert "gives no answer" in failure(path.with_name("x" * 120))


@in_own_namespace
def test_a_socket_for_root_only_says_so(path: Path) -> None:
    """The API is root on the host: everybody else is told to use sudo."""
    plugin = FakePlugin(path, {})
    path.chmod(0o600)
    path.parent.chmod(0o755)
    os.setresuid(65534, 65534, 65534)
    assert failure(path) == f"the socket {path} is for root only; try sudo"
    plugin.close()


@pytest.mark.parametrize("rpc", ["Do It", "Do\r\nHost: x", "Döner", "☃", "Do.It?x#y", "\ud800", "", "/", "%zz"])
def test_any_method_can_be_asked_for(serve: Serve, path: Path, rpc: str) -> None:
    """Whatever is typed goes to the plugin, and its answer comes back: it knows no such method."""
    serve((200, {}))
    assert failure(path, rpc, UnknownMethod).startswith("no method")
