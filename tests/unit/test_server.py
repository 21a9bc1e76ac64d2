"""The real server process, started as systemd starts it: the listening socket as descriptor 3, and somebody to tell."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from certificates import Client, make
from fakes import WAIT

REPOSITORY = Path(__file__).parents[2]
SERVING = "STATUS=serving volumes, driver sshfs, scope local"
Answer = tuple[int, dict[str, object]] | None


class Service:
    """``legacyhost serve foo`` with directories of its own. ``say`` before ``start`` is its configuration."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.socket = home / "foo.sock"
        self.record = home / "state" / "foo" / "volumes.db"
        (home / "etc").mkdir()
        self.say("[volume]")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.socket))
        self._listener.listen(64)
        self._notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notices.bind(str(home / "notify"))
        self._notices.settimeout(WAIT)

    def say(self, configuration: str) -> None:
        (self.home / "draft").write_text(configuration)
        (self.home / "draft").replace(self.home / "etc" / "foo.toml")

    def start(self, **environment: str) -> None:
        directories = {f"LEGACYHOST_{name.upper()}": str(self.home / name) for name in ("etc", "state", "run")}
        descriptor = self._listener.fileno()
        hand_over = f'exec 3<&{descriptor}; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@"'
        self.process = subprocess.Popen(
            ["bash", "-c", hand_over, "bash", sys.executable, "-m", "legacyhost", "serve", "foo"],
            cwd=REPOSITORY,
            env={**os.environ, **directories, "NOTIFY_SOCKET": str(self.home / "notify"), **environment},
            pass_fds=[descriptor],
            stderr=subprocess.PIPE,
            text=True,
        )

    def notices_until(self, is_last: Callable[[str], bool]) -> list[str]:
        """What systemd is told, up to the notice that is wanted."""
        seen: list[str] = []
        while not seen or not is_last(seen[-1]):
            try:
                seen.append(self._notices.recv(65536).decode())
            except TimeoutError:
                raise AssertionError(f"told only {seen}") from None
        return seen

    def wait_until_ready(self) -> list[str]:
        return self.notices_until(lambda notice: notice.startswith("READY=1"))

    def call(self, rpc: str, **fields: object) -> Answer:
        """The status and the body of the reply; None where the connection ends without one."""
        body = json.dumps(fields).encode()
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(WAIT)
            connection.connect(str(self.socket))
            connection.sendall(b"POST /%b HTTP/1.1\r\nHost: \r\nContent-Length: %d\r\n\r\n" % (rpc.encode(), len(body)))
            connection.sendall(body)
            try:
                reply = b"".join(iter(lambda: connection.recv(65536), b""))
            except ConnectionResetError:
                return None
        if not reply:
            return None
        head, _, content = reply.partition(b"\r\n\r\n")
        assert b"connection: close" in head.lower()
        return int(head.split()[1]), json.loads(content)

    def children(self) -> list[str]:
        tasks = Path(f"/proc/{self.process.pid}/task").iterdir()
        return [child for task in tasks for child in (task / "children").read_text().split()]

    def end(self) -> str:
        """SIGTERM; what was logged, after it has ended by itself with status 0."""
        self.process.terminate()
        _, logged = self.process.communicate(timeout=WAIT)
        assert self.process.returncode == 0, logged
        return logged

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        self._listener.close()
        self._notices.close()


@pytest.fixture
def service() -> Iterator[Service]:
    with tempfile.TemporaryDirectory(prefix="lh-", dir="/tmp", ignore_cleanup_errors=True) as home:
        service = Service(Path(home))
        yield service
        service.close()


@pytest.fixture
def silent() -> Iterator[socket.socket]:
    """An SSH host that accepts connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(WAIT)
        yield listener


def opts(host: socket.socket) -> dict[str, str]:
    return {"sshcmd": "anna@127.0.0.1:/srv", "port": str(host.getsockname()[1]), "timeout": "100", "password": "x"}


def test_the_life_of_a_service(service: Service) -> None:
    """Ready when it answers, with a status in words and signs of life; signals meant for others change nothing."""
    service.start(WATCHDOG_USEC="150000")
    assert f"READY=1\n{SERVING}" in service.wait_until_ready()
    assert service.call("Plugin.Activate") == (200, {"Implements": ["VolumeDriver"]})
    assert service.call("VolumeDriver.List") == (200, {"Volumes": []})
    answer = service.call("VolumeDriver.Get", Name="unknown")
    assert answer == (500, {"Err": "there is no volume unknown"})
    service.notices_until(lambda notice: notice == "WATCHDOG=1")
    maps = Path(f"/proc/{service.process.pid}/maps").read_text()
    assert "_sqlite3" in maps
    assert not re.search("cryptography|_bcrypt|nacl", maps), "paramiko is loaded before the network is used"
    if "/coverage/" not in maps:  # which loads it itself
        assert "libcrypto" not in maps, "OpenSSL is loaded before a key or a host is to be known"
    for number in (signal.SIGUSR2, signal.SIGTTIN, signal.SIGTTOU, signal.SIGWINCH):
        service.process.send_signal(number)
        assert service.call("VolumeDriver.List") == (200, {"Volumes": []})
    service.notices_until(lambda notice: notice == "WATCHDOG=1")
    assert not service.children(), "two at work on one record would each believe to be alone"
    logged = service.end()
    assert service.notices_until(lambda notice: "STOPPING=1" in notice)
    assert "plugin foo is serving" in logged
    assert "Traceback" not in logged
    assert service.record.with_name("volumes.checked").exists(), "the next start looks for what is in order"


def test_a_call_in_flight_is_finished(service: Service, silent: socket.socket) -> None:
    """SIGTERM while a Create waits for its host: systemd is told, the call gets its answer, then the process ends."""
    service.start()
    service.wait_until_ready()
    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(service.call, "VolumeDriver.Create", Name="data", Opts=opts(silent))
        waiting, _ = silent.accept()
        assert "cryptography" in Path(f"/proc/{service.process.pid}/maps").read_text()
        service.process.terminate()
        service.notices_until(lambda notice: notice == "STOPPING=1\nSTATUS=finishing the calls in flight")
        assert not calling.done()
        assert service.process.poll() is None
        waiting.close()
        answer = calling.result(WAIT)
    assert answer is not None
    assert answer[0] == 500
    assert "127.0.0.1" in str(answer[1]["Err"])
    service.end()


def test_calls_that_wait_delay_nobody(service: Service, silent: socket.socket) -> None:
    """Thirty Creates waiting for a silent host, and everything else goes on."""
    service.start()
    service.wait_until_ready()
    waiting: list[socket.socket] = []
    with ThreadPoolExecutor(30) as pool:
        calls = [pool.submit(service.call, "VolumeDriver.Create", Name=f"v{n}", Opts=opts(silent)) for n in range(30)]
        waiting += [silent.accept()[0] for _ in calls]
        for _ in range(5):
            assert service.call("VolumeDriver.List") == (200, {"Volumes": []})
        assert not any(call.done() for call in calls)
        for connection in waiting:
            connection.close()
        assert {answer[0] for call in calls if (answer := call.result(WAIT))} == {500}


def test_connections_that_say_nothing_delay_nobody(service: Service) -> None:
    """Whoever connects and is silent, or stops in the middle of a header: others are served, a stop does not wait."""
    service.start()
    service.wait_until_ready()
    silent = [socket.socket(socket.AF_UNIX) for _ in range(40)]
    for connection in silent:
        connection.connect(str(service.socket))
    for connection in silent[:20]:
        connection.sendall(b"POST /VolumeDriver.List HTTP/1.1\r\nHost: x\r\nContent-Le")
    for _ in range(5):
        assert service.call("VolumeDriver.List") == (200, {"Volumes": []})
    service.end()
    for connection in silent:
        connection.close()


def test_a_changed_configuration_is_taken_over_by_sighup(service: Service) -> None:
    """The same process goes on with the new one; a broken one is not taken over, and the status says why."""
    service.start(WATCHDOG_USEC="150000")
    service.wait_until_ready()
    service.say("[volume]\nscope = 'global'")
    service.process.send_signal(signal.SIGHUP)
    service.notices_until(lambda notice: notice.endswith("scope global"))
    assert service.call("VolumeDriver.Capabilities") == (200, {"Capabilities": {"Scope": "global"}})
    service.say("[volume]\nscpoe = 'local'")
    service.process.send_signal(signal.SIGHUP)
    last = service.notices_until(lambda notice: "with the old configuration" in notice)[-1]
    assert "did you mean volume.scope?" in last
    assert service.call("VolumeDriver.Capabilities") == (200, {"Capabilities": {"Scope": "global"}})
    service.end()


def test_an_unreadable_record_is_not_served_until_it_is_mended(service: Service) -> None:
    """Not ready; the handshake gives the reason, everything else ends without a reply. SIGHUP tries at once."""
    service.record.parent.mkdir(parents=True)
    service.record.write_text("garbage " * 100)
    service.start()
    told = service.notices_until(lambda notice: "not a database" in notice)
    assert not [notice for notice in told if "READY" in notice]
    answer = service.call("Plugin.Activate")
    assert answer is not None
    assert answer[0] == 500
    assert str(service.record) in str(answer[1]["Err"])
    for rpc in ("VolumeDriver.Get", "VolumeDriver.List", "VolumeDriver.Create"):
        assert service.call(rpc, Name="data") is None
    service.record.unlink()
    service.process.send_signal(signal.SIGHUP)
    assert service.wait_until_ready()[-1] == f"READY=1\n{SERVING}"
    assert service.call("VolumeDriver.List") == (200, {"Volumes": []})
    logged = service.end()
    assert "Traceback" not in logged
    assert logged.count("ERROR") == 1


def test_the_watchdog_ends_it_at_once(service: Service) -> None:
    """SIGABRT is for one that does not answer any more: nothing is waited for, and the next one serves."""
    service.start()
    service.wait_until_ready()
    service.process.send_signal(signal.SIGABRT)
    service.process.communicate(timeout=WAIT)
    assert service.process.returncode == -signal.SIGABRT
    service.start()
    service.wait_until_ready()
    assert service.call("Plugin.Activate") == (200, {"Implements": ["VolumeDriver"]})
    service.end()


def test_tcp_comes_and_goes_with_the_configuration(service: Service) -> None:
    """Without a section [listen] nothing of TLS is even loaded; with one, the status says where it is reached."""
    certificates = make(service.home / "etc" / "pki" / "foo")
    with socket.create_server(("127.0.0.1", 0)) as found:
        address = found.getsockname()
    service.start()
    service.wait_until_ready()
    maps = Path(f"/proc/{service.process.pid}/maps")
    assert "libssl" not in maps.read_text()
    service.say(f'[volume]\n[listen]\naddress = "127.0.0.1:{address[1]}"\n')
    service.process.send_signal(signal.SIGHUP)
    status = f"{SERVING}; on TCP 127.0.0.1:{address[1]} with TLS"
    service.notices_until(lambda notice: notice == status)
    client = Client(address, certificates / "ca.pem", certificates / "clients" / "docker")
    assert client.call("Plugin.Activate") == (200, {"Implements": ["VolumeDriver"]})
    assert service.call("Plugin.Activate") == (200, {"Implements": ["VolumeDriver"]})
    service.say("[volume]")
    service.process.send_signal(signal.SIGHUP)
    service.notices_until(lambda notice: notice == SERVING)
    with pytest.raises(ConnectionRefusedError):
        client.call("Plugin.Activate")
    logged = service.end()
    assert "Traceback" not in logged


def test_a_plugin_on_tcp_from_the_beginning(service: Service) -> None:
    """Nobody is answered before it serves."""
    certificates = make(service.home / "etc" / "pki" / "foo")
    with socket.create_server(("127.0.0.1", 0)) as found:
        address = found.getsockname()
    service.say(f'[volume]\n[listen]\naddress = "127.0.0.1:{address[1]}"\n')
    service.start()
    (*_, ready) = service.wait_until_ready()
    assert ready.endswith(f"; on TCP 127.0.0.1:{address[1]} with TLS")
    client = Client(address, certificates / "ca.pem", certificates / "clients" / "docker")
    assert client.call("VolumeDriver.List") == (200, {"Volumes": []})
    service.end()
