"""What the fault tests share: calls straight to the plugin's socket, other SSH hosts, what may be left."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any

from system.installed import Installed
from system.machine import Machine
from system.sshd import SshServer

RUN = "/run/legacyhost/sshfs"
MOUNTS = f"{RUN}/mounts"
SERVICE = "legacyhost@sshfs.service"
#: Seconds: longer than the plugin takes, after its start, to give up holds and mounts that no process uses.
CONVERGED = 90.0


class NoAnswer(Exception):
    """The call ended without a reply: whether it was done is not known."""


class Refusal(Exception):
    """The plugin's answer is an error; its message."""


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("plugin.localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Plugin:
    """The plugin ``sshfs`` of a machine, called from the test process: nothing has to be started for a call."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def call(self, rpc: str, *, patience: float = 110.0, **arguments: object) -> dict[str, Any]:
        """The reply. Raises Refusal, NoAnswer; AssertionError after ``patience`` seconds."""
        connection = _Connection(str(self._machine.path("/run/docker/plugins/sshfs.sock")), patience)
        name = rpc if "." in rpc else f"VolumeDriver.{rpc}"
        try:
            connection.connect()
            connection.request("POST", f"/{name}", json.dumps(arguments))
            response = connection.getresponse()
            reply = json.loads(response.read())
        except TimeoutError:
            raise AssertionError(f"{name} {arguments}: not answered within {patience} s") from None
        except (ConnectionError, http.client.HTTPException) as error:
            raise NoAnswer(f"{name} {arguments}: {error!r}") from error
        finally:
            connection.close()
        if response.status != 200:
            raise Refusal(reply["Err"])
        assert isinstance(reply, dict)
        return reply

    def ready(self) -> None:
        """Return when the plugin answers. A process that was killed just now may still take a call with it."""
        for _ in range(5):
            with suppress(NoAnswer):
                self.call("Plugin.Activate")
                return
        self.call("Plugin.Activate")

    def names(self) -> set[str]:
        return {volume["Name"] for volume in self.call("List")["Volumes"]}

    def get(self, name: str) -> dict[str, Any]:
        volume = self.call("Get", Name=name)["Volume"]
        assert isinstance(volume, dict)
        return volume

    def exists(self, name: str) -> bool:
        try:
            self.get(name)
        except Refusal as refusal:
            assert "there is no volume" in str(refusal), refusal
            return False
        return True

    def mount(self, name: str, mount_id: str) -> str:
        """Where it is mounted."""
        return str(self.call("Mount", Name=name, ID=mount_id)["Mountpoint"])

    def unmount(self, name: str, mount_id: str) -> None:
        self.call("Unmount", Name=name, ID=mount_id)

    def remove(self, name: str) -> None:
        self.call("Remove", Name=name)


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """The results of all calls, made at the same time. Raises what the first of them raised."""
    with in_flight(calls) as futures:
        return [future.result() for future in futures]


@contextmanager
def in_flight(calls: Sequence[Callable[[], Any]]) -> Iterator[list[Future[Any]]]:
    """The calls are made at the same time, in the background; at the end all of them have ended."""
    with ThreadPoolExecutor(len(calls)) as pool:
        yield [pool.submit(call) for call in calls]


def another_host(installed: Installed, port: int) -> SshServer:
    """A second SSH host for the same account, trusted; it forgives connections that were broken off."""
    machine = installed.machine
    # Newer sshds make a host wait from which connections came that said nothing.
    knows = machine.run("mkdir -p /run/sshd; /usr/sbin/sshd -T -o PerSourcePenalties=no", check=False)
    server = machine.ssh_server(port=port, config="" if knows.returncode else "PerSourcePenalties no")
    machine.run(["legacyhost", "trust", f"127.0.0.1:{port}", "--fingerprint", server.fingerprint])
    return server


def on_host(server: SshServer, **more: str) -> dict[str, str]:
    """Options of a volume there, for Installed.create."""
    return {"port": str(server.port), "IdentityFile": server.key, **more}


def left(installed: Installed, names: Collection[str]) -> list[str]:
    """What of these volumes is still mounted, running, held or lying about; all of them must be known."""
    units = [unit for unit in installed.mount_units() if unit.split(":")[2] in names]
    mounts = [f"mounted: {name}" for name in installed.mounted() & set(names)]
    plugin = Plugin(installed.machine)
    known = plugin.names()
    holders = {name: plugin.get(name)["Status"]["holders"] for name in names if name in known}
    holds = [f"{count!r} holders: {name}" for name, count in holders.items() if count != 0]
    found = installed.machine.run(f"ls {RUN}/bare {RUN}/volumes 2>/dev/null", check=False).stdout.split()
    folders = [f"folder: {name}" for name in found if name in names]
    return [*units, *mounts, *holds, *folders]


def wait_until_clean(installed: Installed, names: Collection[str], timeout: float = 15.0) -> None:
    """Wait until nothing of these volumes is mounted or held. Raises AssertionError with what is left."""
    remains: list[str] = []

    def is_clean() -> bool:
        remains[:] = left(installed, names)
        return not remains

    try:
        installed.machine.wait_for(is_clean, timeout, 0.5 if timeout < CONVERGED else 3.0)
    except AssertionError:
        raise AssertionError(f"left after {timeout:g} s: {remains}\n{tail(installed)}") from None


@contextmanager
def container(installed: Installed, volume: str, script: str, log: str | None = None) -> Iterator[str]:
    """A container of that script on the volume, by its name, once ``log`` has something in it; removed at the end."""
    name = installed.name("container")
    installed.start(name, volume, script, "--stop-timeout", "1")
    try:
        if log is not None:
            installed.machine.wait_for(["test", "-s", f"{installed.remote.home}/{volume}/{log}"], 20)
        yield name
    finally:
        installed.machine.docker("rm", "-f", name)


def forget(installed: Installed, *names: str) -> None:
    """``docker volume rm``, so that the tests that follow do not list them."""
    installed.machine.docker("volume", "rm", *names)


def tail(installed: Installed) -> str:
    """The end of the plugin's journal without the calls that change nothing, for a failure's message."""
    query = ["journalctl", "-u", SERVICE, "-p", "info", "-o", "short-precise", "--no-pager", "-n", "20"]
    return installed.machine.run(query, check=False).stdout


def warnings(installed: Installed, mark: str, name: str) -> list[str]:
    """What the plugin has warned of about the volume since the mark; of a call that failed, its error."""
    installed.machine.run("journalctl --sync")
    shown = installed.machine.run(["journalctl", "-o", "json", f"--after-cursor={mark}"]).stdout
    entries = [json.loads(line) for line in shown.splitlines()]
    return [
        str(entry["MESSAGE"])
        for entry in entries
        if entry.get("SYSLOG_IDENTIFIER") == "legacyhost"
        and int(entry["PRIORITY"]) <= 4
        and entry.get("VOLUME") == name
    ]
