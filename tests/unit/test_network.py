"""A plugin on TCP: who gets in, what they may ask, and that nobody who is slow or wrong is in anybody's way."""

from __future__ import annotations

import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from certificates import HOST, Client, expired, listen, make, request
from fakes import WAIT
from workers import Running

from legacyhost import gate as gates
from legacyhost import log, network, pki, remote
from legacyhost.config import ListenConfig
from legacyhost.errors import NotServing
from legacyhost.network import Network
from legacyhost.rpc import Reply, plain_error
from legacyhost.web import NotServingPlugin, create_app
from legacyhost.wire import BODY_LIMIT

LARGE = "x" * 3_000_000


class Plugin:
    """Says what it was asked, and how often an engine has started."""

    name = "foo"

    def __init__(self) -> None:
        self.started = 0

    def call(self, rpc: str, body: bytes) -> Reply:
        if rpc == "lost":
            raise NotServing("no answer")
        return {"Asked": rpc, "Body": LARGE if rpc == "large" else body.decode()}

    def activated(self, *, is_here: bool = True) -> None:
        self.started += is_here

    def error(self, rpc: str, message: str) -> Reply:
        return plain_error(message)

    def body_limit(self, rpc: str) -> int:
        return BODY_LIMIT

    def is_quiet(self, rpc: str) -> bool:
        return False


class World:
    """A worker on a socket of its own, and the network beside it."""

    def __init__(self, home: Path, own: Path, *inherited: socket.socket) -> None:
        self.home, self.own, self.plugin = home, own, Plugin()
        self.running = Running(home, create_app(lambda: self.plugin))
        self.network = Network("foo", lambda: self.plugin, self.running.worker.accept, inherited)

    def open(self, wanted: ListenConfig | None = None) -> Client:
        """As the configuration says; a client that fits."""
        self.network.configure(wanted or listen(self.own, free()))
        self.network.begin()
        return self.client(self.own, self.own / pki.CLIENTS / "docker")

    def client(self, authority: Path, own: Path | None) -> Client:
        return Client(self.address(), authority / pki.CA, own)

    def address(self) -> tuple[str, int]:
        found = re.search(r"on TCP 127\.0\.0\.1:(\d+) ", self.network.status)
        assert found, self.network.status
        return "127.0.0.1", int(found[1])


def free() -> str:
    """An address that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return f"127.0.0.1:{found.getsockname()[1]}"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("pki") / "foo", "docker", "other")


@pytest.fixture
def world(tmp_path: Path, own: Path) -> Iterator[World]:
    made = World(tmp_path, own)
    yield made
    made.running.close()


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is logged."""
    lines: list[str] = []
    monkeypatch.setattr(log, "event", lambda _level, message, _fields=None: lines.append(message))
    return lines


def eventually(found: Callable[[], Any]) -> Any:
    """What is there in a moment."""
    waiting = threading.Event()
    for _ in range(int(WAIT * 100)):
        if value := found():
            return value
        waiting.wait(0.01)
    raise AssertionError("it has not come")


def test_a_client_with_a_certificate_is_answered(world: World) -> None:
    """Whatever it sends is understood as on the plugin's own socket; a long reply is whole."""
    client = world.open()
    assert client.call("VolumeDriver.Get", b'{"Name":"a"}') == (
        200,
        {"Asked": "VolumeDriver.Get", "Body": '{"Name":"a"}'},
    )
    assert client.call("large")[1]["Body"] == LARGE
    assert client.call("x", b"y" * 100_000)[1]["Body"] == "y" * 100_000


def test_a_connection_is_kept_for_who_asks_for_it(world: World) -> None:
    """Whether the next request is there already, or comes later, plain or not."""
    asked = request("a", b"1", "Connection: keep-alive")
    other = asked.replace(b"User-Agent", b"X-Other")
    with world.open().connected() as connection, connection.makefile("rb") as reader:
        for sent in (asked, asked + asked, other, other + asked, asked):
            connection.sendall(sent)
            for _ in range(sent.count(b"POST")):
                head = b"".join(iter(reader.readline, b"\r\n"))
                assert b"Connection: keep-alive" in head
                assert b'"Asked":"a"' in reader.read(int(head.lower().split(b"content-length: ")[1].split()[0]))


@pytest.mark.parametrize("rpc", ["lost", "VolumeDriver.Get"])
def test_what_is_not_answered_ends_the_connection(world: World, rpc: str) -> None:
    """As it does on the plugin's own socket; the handshake of a plugin that does not serve has the reason."""
    client = world.open()
    if rpc != "lost":
        world.plugin = NotServingPlugin("foo", "it is broken")  # type: ignore[assignment]
        assert client.call("Plugin.Activate") == (500, {"Err": "plugin foo is not serving: it is broken"})
    with pytest.raises(ConnectionResetError, match="no reply"):
        client.call(rpc)


@pytest.mark.parametrize("method", ["Mount", "Unmount", "Path"])
def test_what_is_about_a_path_on_this_host_is_refused(world: World, method: str) -> None:
    """With a sentence for who started a container; a start of an engine that mounts nothing here means nothing."""
    client = world.open()
    status, reply = client.call(f"VolumeDriver.{method}")
    assert status == 500
    assert "the plugin foo is reached over the network" in str(reply["Err"])
    assert client.call("Plugin.Activate")[0] == 200
    assert world.plugin.started == 0


def test_an_engine_that_sees_the_mounts_is_like_any_other(world: World) -> None:
    client = world.open(listen(world.own, free(), mounts=True))
    assert client.call("VolumeDriver.Mount")[1]["Asked"] == "VolumeDriver.Mount"
    client.call("Plugin.Activate")
    assert world.plugin.started == 1


def test_loopback_may_be_in_clear(world: World) -> None:
    """Where that was asked for by name."""
    world.open(listen(world.own, free(), plain=True))
    assert world.network.status.endswith(" without TLS")
    with socket.create_connection(world.address(), WAIT) as connection:
        connection.sendall(request("a"))
        assert b"".join(iter(lambda: connection.recv(65536), b"")).endswith(b'{"Asked":"a","Body":"{}"}\n')


def refused(said: list[str]) -> str:
    found: str = eventually(lambda: next((line for line in said if "is refused: " in line), ""))
    assert found.startswith("the client at 127.0.0.1:")
    return found.partition("is refused: ")[2]


@pytest.mark.parametrize(
    ("kind", "theirs", "ours"),
    [
        ("none", "certificate required", "it has shown no certificate"),
        ("foreign", "unknown ca", "its certificate is not of the authority {own}/ca.pem"),
        ("expired", "certificate expired", "its certificate has expired"),
        ("server's", "(unsupported certificate|certificate unknown)", "its certificate is not one for clients"),
    ],
)
def test_who_has_no_right_certificate_learns_why(
    world: World, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, theirs: str, ours: str
) -> None:
    """Also where it has sent its request already, as TLS 1.3 lets it: the reason arrives, not a reset."""
    world.open()  # with certificates that are good
    shown: Path | None = None
    if kind == "foreign":
        shown = make(tmp_path / "foreign") / pki.CLIENTS / "docker"
    elif kind != "none":
        shown = tmp_path / "shown"
        shown.mkdir()
        names = (pki.SERVER, pki.SERVER_KEY)
        if kind == "expired":
            expired(world.own, monkeypatch)
            names = (f"{pki.CLIENTS}/docker/{pki.CERT}", f"{pki.CLIENTS}/docker/{pki.KEY}")
        for name, file in zip(names, (pki.CERT, pki.KEY), strict=True):
            (shown / file).write_bytes((world.own / name).read_bytes())
        pki.renew(world.own, [], pki.clients(world.own))
    with pytest.raises(ssl.SSLError, match=f"(?i){theirs}"):
        world.client(world.own, shown).call("Plugin.Activate", b"z" * 10_000)
    assert refused(said).startswith(ours.format(own=world.own))


@pytest.mark.parametrize(
    ("sent", "ours"),
    [
        (b"POST / HTTP/1.1\r\nHost: x\r\n\r\n", "it speaks HTTP without TLS"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "it does not speak TLS"),
        (b"", "it has ended the connection before the handshake was done"),
    ],
)
def test_what_is_not_tls_is_refused(world: World, said: list[str], sent: bytes, ours: str) -> None:
    world.open()
    with socket.create_connection(world.address(), WAIT) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        assert b"HTTP" not in connection.recv(100)
    assert refused(said).startswith(ours)


def test_who_has_gone_at_once_holds_up_nobody(world: World, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """However many do: what is reset before it was taken is no reason to pause."""
    monkeypatch.setattr(network, "BREATH", WAIT)
    client = world.open()
    for _ in range(30):
        with socket.create_connection(client.address, WAIT) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert client.call("a")[0] == 200


def test_an_old_tls_is_refused(world: World, said: list[str]) -> None:
    world.open()
    client = world.client(world.own, None)
    made = client.context()
    made.set_ciphers("DEFAULT:@SECLEVEL=0")
    made.minimum_version = made.maximum_version = ssl.TLSVersion.TLSv1_1
    with socket.create_connection(client.address, WAIT) as raw, pytest.raises((ssl.SSLError, ConnectionError)):
        made.wrap_socket(raw, server_hostname=HOST)
    assert refused(said) == "it speaks no version of TLS from 1.2 on"


def test_a_client_that_does_not_like_our_certificate(
    world: World, said: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may be wrong is said; that it has expired, where it has."""
    foreign = make(tmp_path / "foreign")
    world.open()
    with pytest.raises(ssl.SSLCertVerificationError):
        world.client(foreign, world.own / pki.CLIENTS / "docker").call("x")
    assert re.fullmatch(
        rf"it does not accept the certificate of this host \(unknown ca\): either {world.own}/ca\.pem is not its"
        rf" authority, or it calls this host by a name that is none of {HOST}, 127\.0\.0\.1",
        refused(said),
    )
    said.clear()
    expired(foreign, monkeypatch)
    client = world.open(listen(foreign, free()))
    with pytest.raises(ssl.SSLCertVerificationError):
        world.client(foreign, foreign / pki.CLIENTS / "docker").call("x")
    assert f"{foreign}/server.pem has expired on " in refused(said)
    assert client


def test_only_clients_that_are_named_get_in(world: World, said: list[str]) -> None:
    """Others have the reason in the handshake, and no answer to what Docker would take for an answer about a volume."""
    client = world.open(listen(world.own, free(), clients=frozenset({"docker"})))
    assert client.call("a")[0] == 200
    other = world.client(world.own, world.own / pki.CLIENTS / "other")
    reason = "its certificate is of other, who is not in listen.clients"
    assert other.call("Plugin.Activate") == (500, {"Err": f"plugin foo is not serving: {reason}"})
    assert refused(said) == reason
    with pytest.raises(ConnectionResetError, match="no reply"):
        other.call("VolumeDriver.Get")


@pytest.mark.parametrize("change", ["clients", "section", "mounts"])
def test_a_connection_that_is_kept_does_not_outlive_what_let_it_in(world: World, change: str) -> None:
    """Otherwise a client that is not to call any more would go on for as long as it likes."""
    client = world.open(listen(world.own, free(), mounts=True))
    asked = request("VolumeDriver.Mount", b"1", "Connection: keep-alive")
    with client.connected() as connection:
        connection.sendall(asked)
        assert connection.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        address = f"127.0.0.1:{client.address[1]}"
        more = {"clients": {"mounts": True, "clients": frozenset({"other"})}, "mounts": {}}.get(change)
        world.network.configure(None if more is None else listen(world.own, address, **more))
        with suppress(ConnectionError, ssl.SSLError):
            connection.sendall(asked)
            assert connection.recv(1 << 16) == b""


def test_who_comes_during_a_reload_comes_by_the_new_terms(world: World, said: list[str]) -> None:
    """However long there was no room before."""
    client = world.open()
    wait, address = world.network._gate.wait, f"127.0.0.1:{client.address[1]}"

    def wait_and_reload() -> None:
        wait()
        world.network.configure(listen(world.own, address, clients=frozenset({"other"})))

    world.network._gate.wait = wait_and_reload  # type: ignore[method-assign]
    assert client.call("Plugin.Activate")[0] == 500


def test_who_says_nothing_is_in_nobodys_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither of others on the network, however many there are, nor of the plugin's own socket, nor of a stop."""
    world.network._gate = gates.Gate(most=20, strangers=5, grace=0.0)
    client = world.open()
    silent = [socket.create_connection(client.address, WAIT) for _ in range(12)]
    try:
        assert client.call("a")[0] == 200
        assert world.running.call(b"/a").startswith(b"HTTP/1.1 200 ")
        gone = 0
        for each in silent[:7]:  # the oldest had to make room
            gone += each.recv(1) == b""
        assert gone == 7
        world.running.stop()
        assert world.running.has_ended()
    finally:
        for each in silent:
            each.close()


def test_a_client_that_is_known_is_not_sent_away(world: World) -> None:
    """However many strangers come; and who finds no room waits until there is some."""
    world.network._gate = gates.Gate(most=2, strangers=2, grace=0.0)
    client = world.open()
    with client.connected() as first, client.connected() as second:
        for each in (first, second):
            each.sendall(request("a", b"1", "Connection: keep-alive"))
            assert each.recv(9) == b"HTTP/1.1 "
        waiting = threading.Thread(target=client.call, args=("a",), daemon=True)
        waiting.start()
        second.sendall(request("a"))
        assert world.running.call(b"/a").startswith(b"HTTP/1.1 200 ")
    waiting.join(WAIT)
    assert not waiting.is_alive()


@pytest.mark.parametrize("where", ["handshake", "request", "next request"])
def test_nothing_is_waited_for_without_a_limit(
    world: World, said: list[str], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Nor does a byte now and then help."""
    monkeypatch.setattr(remote, "HANDSHAKE", 0.2 if where == "handshake" else WAIT)
    monkeypatch.setattr(remote, "REQUEST", 0.3)
    monkeypatch.setattr(remote, "IDLE", 0.2)
    client = world.open()
    if where == "handshake":
        with socket.create_connection(client.address, WAIT) as connection:
            assert connection.recv(1) == b""
        assert refused(said) == "it has not finished the handshake in time"
        return
    with client.connected() as connection:
        if where == "next request":
            connection.sendall(request("a", b"1", "Connection: keep-alive"))
            assert b"HTTP/1.1 200" in connection.recv(1 << 16)
        else:
            with suppress(OSError):
                for byte in request("a", b"z" * 1000):
                    connection.sendall(bytes([byte]))
                    threading.Event().wait(0.01)
        with suppress(ConnectionError):
            assert connection.recv(1 << 16) == b""
    assert client.call("a")[0] == 200


def test_a_reply_waits_for_its_reader_with_a_limit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "PATIENCE", 0.2)
    with world.open().connected() as connection:
        connection.sendall(request("large"))
        eventually(lambda: not world.running.worker._at_work and not world.running.worker._accepted)


def test_a_certificate_is_renewed_under_way(tmp_path: Path) -> None:
    """A reload takes it over on the same socket; one that cannot be read changes nothing, and is said."""
    own = make(tmp_path / "foo")
    world = World(tmp_path, own)
    try:
        client = world.open()
        with client.connected() as before:
            old = before.getpeercert(True)
        pki.renew(own, [], ["docker"])
        world.network.configure(listen(own, f"127.0.0.1:{client.address[1]}"))
        with client.connected() as after:
            assert after.getpeercert(True) != old
        (own / pki.SERVER_KEY).write_bytes((own / pki.CA_KEY).read_bytes())
        world.network.configure(listen(own, f"127.0.0.1:{client.address[1]}"))
        problem = f"listen.key: {own}/server-key.pem does not belong to the certificate {own}/server.pem"
        assert world.network.status == f"on TCP 127.0.0.1:{client.address[1]} with TLS, as before: {problem}"
        assert client.call("a")[0] == 200
    finally:
        world.running.close()


def test_another_address_is_taken_over(world: World) -> None:
    """And the old one is not listened on any more; nor any, where the section is gone."""
    old = world.open()
    new = world.open()
    assert new.address != old.address
    assert new.call("a")[0] == 200
    world.network.configure(None)
    assert world.network.status == ""
    for address in (old.address, new.address):
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address, WAIT)


def test_an_address_that_is_taken_is_tried_again(
    world: World, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "RETRY", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        world.network.configure(listen(world.own, address))
        world.network.begin()
        problem = f"{address} cannot be listened on: Address already in use"
        assert world.network.status == f"not on TCP: {problem}"
    eventually(lambda: world.network.status == f"on TCP {address} with TLS")
    assert said.count(f"plugin foo is not reached over TCP as it should be: {problem}") == 1


@pytest.mark.parametrize(
    ("broken", "content", "problem"),
    [
        (pki.CA, None, "listen.ca: {path} cannot be read: No such file or directory; 'legacyhost pki' makes one"),
        (pki.CA, "", "listen.ca: {path} is not a certificate in PEM form"),
        (pki.CA, pki.SERVER, "listen.ca: there is no certificate of an authority in {path}"),
        (pki.SERVER, "nonsense", "listen.key: {path} and {key} are not a certificate and its key, in PEM form"),
        (pki.SERVER_KEY, "nonsense", "listen.key: {certificate} and {path} are not a certificate and its key"),
        (pki.SERVER_KEY, pki.CA_KEY, "listen.key: {path} does not belong to the certificate {certificate}"),
    ],
)
def test_a_file_that_does_not_do_is_named(
    world: World, tmp_path: Path, broken: str, content: str | None, problem: str
) -> None:
    files = {name: (world.own / name).read_bytes() for name in (pki.CA, pki.SERVER, pki.SERVER_KEY)}
    place = tmp_path / "foo"
    place.mkdir()
    if content is None:
        del files[broken]
    else:
        files[broken] = (world.own / content).read_bytes() if content.endswith(".pem") else content.encode()
    for name, data in files.items():
        (place / name).write_bytes(data)
    world.network.configure(listen(place, free()))
    expected = problem.format(path=place / broken, key=place / pki.SERVER_KEY, certificate=place / pki.SERVER)
    assert world.network.status.startswith(f"not on TCP: {expected}")


def test_a_socket_of_systemds_is_served_with_certificates_only(tmp_path: Path, own: Path, said: list[str]) -> None:
    """Until the configuration has been read what comes waits; without a section [listen] it is turned away."""
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        world = World(tmp_path, own, inherited)
        name = f"127.0.0.1:{inherited.getsockname()[1]}"
        try:
            with socket.create_connection(inherited.getsockname(), WAIT) as early:
                world.network.configure(None)
                world.network.begin()
                assert early.recv(1) == b""
            assert refused(said) == f"systemd has handed over {name}, and foo.toml has no section [listen]"
            assert world.network.status == f"not on TCP: {refused(said)}"
            client = world.open(listen(own, ""))
            assert world.network.status == f"on TCP {name} with TLS"
            assert client.call("a")[0] == 200
            world.network.configure(None)
            with socket.create_connection(inherited.getsockname(), WAIT) as late:
                assert late.recv(1) == b""
        finally:
            world.running.close()


def test_who_waits_is_taken_by_what_is_configured_then(
    tmp_path: Path, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by what was when it was seen to wait."""
    has_come, go_on = threading.Event(), threading.Event()
    look = Network._ready

    def slow(network: Network, numbers: Sequence[int], seconds: float | None) -> list[int]:
        found = look(network, numbers, seconds)
        if found:
            has_come.set()
            assert go_on.wait(WAIT)
        return found

    monkeypatch.setattr(Network, "_ready", slow)
    with socket.create_server(("127.0.0.1", 0)) as inherited, ThreadPoolExecutor() as beside:
        world = World(tmp_path, own, inherited)
        try:
            world.network.configure(None)
            world.network.begin()
            client = Client(inherited.getsockname(), own / pki.CA, own / pki.CLIENTS / "docker")
            answer = beside.submit(client.call, "a")
            assert has_come.wait(WAIT)
            world.network.configure(listen(own, ""))
            go_on.set()
            assert answer.result(WAIT)[0] == 200
        finally:
            go_on.set()
            world.running.close()


def test_only_loopback_is_served_in_clear(tmp_path: Path, own: Path) -> None:
    """Whatever systemd hands over."""
    with socket.create_server(("0.0.0.0", 0)) as inherited:
        world = World(tmp_path, own, inherited)
        world.network.configure(listen(own, "", plain=True))
        assert "listen.plain is for loopback addresses, and systemd has handed over 0.0.0.0:" in world.network.status
        world.running.close()


def test_where_to_listen_has_to_be_said(world: World) -> None:
    world.network.configure(listen(world.own, ""))
    assert world.network.status == "not on TCP: there is no listen.address, and systemd has handed over no TCP socket"


def test_refusals_do_not_fill_the_journal(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Who sends many is told of now and then."""
    refusals = network.Refusals("foo")
    for _ in range(network.TOLD + 7):
        refusals.tell("127.0.0.1:1", "why")
    assert len(said) == network.TOLD
    monkeypatch.setattr(network, "WINDOW", -1.0)
    refusals.tell("127.0.0.1:1", "why")
    assert said[-2:] == ["7 further clients were refused", "the client at 127.0.0.1:1 is refused: why"]


def test_a_stop_finishes_what_is_under_way(world: World) -> None:
    """And takes what comes meanwhile."""
    client = world.open()
    begun, may_end = threading.Event(), threading.Event()

    def slow(rpc: str, body: bytes) -> Reply:
        if rpc == "slow":
            begun.set()
            assert may_end.wait(WAIT)
        return {"Asked": rpc}

    world.plugin.call = slow  # type: ignore[method-assign]
    replies: list[object] = []
    thread = threading.Thread(target=lambda: replies.append(client.call("slow")), daemon=True)
    thread.start()
    assert begun.wait(WAIT)
    world.running.stop()
    assert client.call("a") == (200, {"Asked": "a"})
    may_end.set()
    thread.join(WAIT)
    assert replies == [(200, {"Asked": "slow"})]
    assert world.running.has_ended()
