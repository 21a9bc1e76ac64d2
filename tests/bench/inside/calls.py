"""Calls of a plugin, by a client that does next to nothing itself: what it costs is the plugin's."""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

PATIENCE = 120.0


class Client:
    """One caller. ``keep`` asks for one connection for all its calls; a server may close it nevertheless."""

    def __init__(self, address: str, *, keep: bool = False) -> None:
        self._address, self._keep = address, keep
        self._socket: socket.socket | None = None

    def request(self, rpc: str, body: object) -> bytes:
        """What is sent for a call."""
        content = json.dumps(body).encode()
        head = f"POST /{rpc} HTTP/1.1\r\nHost: plugin\r\nContent-Type: application/json\r\n"
        head += f"Connection: {'keep-alive' if self._keep else 'close'}\r\nContent-Length: {len(content)}\r\n\r\n"
        return head.encode() + content

    def call(self, rpc: str, body: object) -> bytes:
        return self.send(self.request(rpc, body))

    def send(self, request: bytes) -> bytes:
        """The content of the answer. Raises AssertionError if it is an error, OSError."""
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX)
            self._socket.settimeout(PATIENCE)
            self._socket.connect(self._address)
        self._socket.sendall(request)
        data = b""
        while (end := data.find(b"\r\n\r\n")) < 0:
            data += self._more()
        head, parts, size = data[:end].lower(), [data[end + 4 :]], len(data) - end - 4
        if (at := head.find(b"content-length:")) >= 0:
            length = int(head[at + 15 :].split(b"\r\n", 1)[0])
            while size < length:
                parts.append(self._more())
                size += len(parts[-1])
        elif b"chunked" in head:
            while not (parts[-1] if len(parts[-1]) > 6 else b"".join(parts)).endswith(b"0\r\n\r\n"):
                parts.append(self._more())
        if b"connection: close" in head or not self._keep:
            self.close()
        content = b"".join(parts)
        assert head.startswith((b"http/1.1 200", b"http/1.0 200")), content
        return content

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _more(self) -> bytes:
        assert self._socket is not None
        data = self._socket.recv(1 << 20)
        assert data, "the plugin has closed the connection in the middle of an answer"
        return data


def _milliseconds(step: Callable[[], object]) -> float:
    begin = time.perf_counter()
    step()
    return 1000 * (time.perf_counter() - begin)


def mount(plugin: str, name: str, file: str = "") -> float:
    """Milliseconds of one call of Mount, and of reading that file of the volume."""

    def use() -> None:
        reply = Client(plugin).call("VolumeDriver.Mount", {"Name": name, "ID": "bench"})
        where = json.loads(reply)["Mountpoint"]
        if file:
            assert Path(where, file).read_bytes()

    return _milliseconds(use)


def unmount(plugin: str, name: str) -> float:
    """Milliseconds of one call of Unmount."""
    return _milliseconds(lambda: Client(plugin).call("VolumeDriver.Unmount", {"Name": name, "ID": "bench"}))


def create(plugin: str, name: str, options: str) -> float:
    """Milliseconds of one call of Create."""
    body = {"Name": name, "Opts": json.loads(options)}
    return _milliseconds(lambda: Client(plugin).call("VolumeDriver.Create", body))


def remove(plugin: str, name: str) -> float:
    """Milliseconds of one call of Remove."""
    return _milliseconds(lambda: Client(plugin).call("VolumeDriver.Remove", {"Name": name}))


def mount_all(plugin: str, prefix: str, count: str) -> float:
    """Milliseconds until all of so many volumes, asked for at once, are mounted."""
    return _at_once(mount, plugin, prefix, int(count))


def unmount_all(plugin: str, prefix: str, count: str) -> float:
    """And unmounted."""
    return _at_once(unmount, plugin, prefix, int(count))


def _at_once(step: Callable[[str, str], float], plugin: str, prefix: str, count: int) -> float:
    failures: list[str] = []

    def one(name: str) -> None:
        try:
            step(plugin, name)
        except (AssertionError, OSError) as error:
            failures.append(f"{name}: {error}")

    threads = [threading.Thread(target=one, args=(f"{prefix}{number}",)) for number in range(count)]
    elapsed = _milliseconds(lambda: _run(threads))
    assert not failures, f"{len(failures)} of {count} failed; {failures[0]}"
    return elapsed


def _run(threads: Iterable[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def rate(plugin: str, rpc: str, body: str, count: str, keep: str) -> float:
    """Calls a second, on one connection ("keep") or each on its own."""
    client = Client(plugin, keep=keep == "keep")
    request = client.request(rpc, json.loads(body))
    client.send(request)
    begin = time.perf_counter()
    for _ in range(int(count)):
        client.send(request)
    elapsed = time.perf_counter() - begin
    client.close()
    return int(count) / elapsed


def slowest(plugin: str, name: str, count: str) -> float:
    """Milliseconds that one Get in a hundred takes or more, each on a connection of its own."""
    client = Client(plugin)
    request = client.request("VolumeDriver.Get", {"Name": name})
    times = [_milliseconds(lambda: client.send(request)) for _ in range(int(count))]
    return statistics.quantiles(times, n=100)[98]


def slowest_beside(plugin: str, name: str, count: str, port: str, prefix: str, mounts: str) -> float:
    """The same while so many Mounts hang: their host accepts connections on that port and says nothing."""
    accepted: list[socket.socket] = []
    threads = [threading.Thread(target=_fail, args=(plugin, f"{prefix}{number}")) for number in range(int(mounts))]
    with socket.create_server(("127.0.0.1", int(port)), backlog=64) as silent:
        silent.settimeout(PATIENCE)
        for thread in threads:
            thread.start()
        while len(accepted) < len(threads):
            accepted.append(silent.accept()[0])
        found = slowest(plugin, name, count)
        assert all(thread.is_alive() for thread in threads), "a Mount did not hang"
    for connection in accepted:
        connection.close()
    for thread in threads:
        thread.join()
    return found


def _fail(plugin: str, name: str) -> None:
    try:
        mount(plugin, name)
    except AssertionError:
        return
    raise AssertionError(f"{name} was mounted from a host that says nothing")


def use(plugin: str, name: str, count: str) -> float:
    """So many calls, as an engine makes them; how many it were."""
    client, body = Client(plugin), {"Name": name}
    rpcs = ["VolumeDriver.Get", "VolumeDriver.Path", "VolumeDriver.Get", "VolumeDriver.Path", "VolumeDriver.List"]
    requests = [client.request(rpc, body) for rpc in (*rpcs, "VolumeDriver.Capabilities")]
    for number in range(int(count)):
        client.send(requests[number % len(requests)])
    return float(count)


def start(address: str, how: str, *argv: str) -> float:
    """Milliseconds from the start of a plugin until it has answered Activate; its socket is there before.

    Then it is ended as ``how`` says: terminate or kill.
    """
    Path(address).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        # In place of systemd: the socket is descriptor 3 of the very process that is started.
        shell = ["sh", "-c", 'exec 3<&0 </dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@"', "sh", *argv]
        nowhere = subprocess.DEVNULL
        begin = time.perf_counter()
        process = subprocess.Popen(shell, stdin=listener.fileno(), stdout=nowhere, stderr=nowhere)
        try:
            Client(address).call("Plugin.Activate", {})
            return 1000 * (time.perf_counter() - begin)
        finally:
            getattr(process, how)()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            os.unlink(address)  # noqa: PTH108 - as made
