"""Ways a mount can fail, each arranged on a machine, and what `docker run` then says.

A case is a generator. It makes something that works and yields the options of a volume there, and what is particular
to the sentence; then it breaks that and yields once more; what comes behind mends what others would notice. So the same
fault meets a volume that was created when all was well, and one that is only being created.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from soak.wording import AROUND, blemishes

from .installed import Installed
from .odd_server import PASSWORD, OddServer, OddServers
from .sshd import SshServer

KNOWN_HOSTS = "/etc/legacyhost/known_hosts"
#: For the configuration of an sshd: every account may log in, with the keys in its own home directory.
ALL = "AllowUsers *\nAuthorizedKeysFile /home/%u/.ssh/authorized_keys"
#: Seconds; docker itself would give up after 120.
PATIENCE = 110


@dataclass(frozen=True)
class Volume:
    """The options of a case's volume, and what stands for the parts of the sentence that are the case's own."""

    options: Mapping[str, str]
    parts: Mapping[str, str] = field(default_factory=dict)


Arranged = Iterator[Volume | None]
Way = Callable[["World"], Arranged]


@dataclass(frozen=True)
class Case:
    """``at_create``, ``at_mount``: the sentence of ``docker run`` then; None where the fault does not matter.

    In a sentence, ``{part}`` stands for what the case says, ``{volume}`` for the volume's name, ``{*}`` for anything.
    """

    way: Way
    at_create: str | None
    at_mount: str | None
    is_alone: bool

    def __str__(self) -> str:
        return self.way.__name__


@dataclass(frozen=True)
class Said:
    """The whole output of one failed `docker run`, and what its sentence has to be, as a pattern."""

    pattern: str
    output: str

    @property
    def sentence(self) -> str:
        """What the plugin said; docker puts a full stop behind it."""
        _, _, said = self.output.partition("VolumeDriver.")
        lines = [line for line in said.partition(": ")[2].splitlines() if line.strip() and not line.startswith(AROUND)]
        return "\n".join(lines).removesuffix(".")

    def judge(self) -> None:
        """Raises AssertionError."""
        assert re.fullmatch(self.pattern, self.sentence), f"{self.output}\n--- wanted:\n{self.pattern}"
        assert not blemishes(self.output, PASSWORD), blemishes(self.output, PASSWORD)


class World:
    """The machine of the cases, and shorthands for what goes wrong in it."""

    def __init__(self, installed: Installed) -> None:
        self.installed = installed
        self.machine = installed.machine
        self.odd_servers = OddServers(self.machine)
        self.odd_servers.tell("dns on")
        self._lock = threading.RLock()
        self._port = 2300
        knows = self.machine.run("mkdir -p /run/sshd; /usr/sbin/sshd -T -o PerSourcePenalties=no", check=False)
        #: Newer sshds accept nothing more for a while from where logins have failed; here everything is on one address.
        self._lenient = "" if knows.returncode else "PerSourcePenalties no\n"
        self.crowd = self.server(f"{ALL}\nPasswordAuthentication yes")

    def close(self) -> None:
        self.odd_servers.close()

    def server(self, config: str = "", *, is_known: bool = True, host: str = "127.0.0.1", **more: Any) -> SshServer:
        """An sshd of the case's own, with the account alice; ``config`` comes first."""
        with self._lock:
            self._port += 1
            made = self.machine.ssh_server(self._port, config=self._lenient + config, host=host, **more)
        if is_known:
            self.add(KNOWN_HOSTS, made.known_hosts_line)
        return made

    def reconfigure(self, server: SshServer, config: str) -> None:
        """Put this before the server's settings, and start it anew."""
        path = f"/etc/test-sshd/{server.port}/sshd_config"
        self.machine.write(path, f"{config}\n{self.machine.read(path)}")
        self.machine.run(["systemctl", "restart", server.unit])

    def sftp_server(self, server: SshServer, program: str) -> None:
        """Have this program serve SFTP, or none."""
        line = f"Subsystem sftp {program}" if program else ""
        self.machine.run(f"sed -i 's:^Subsystem.*:{line}:' /etc/test-sshd/{server.port}/sshd_config")
        self.machine.run(["systemctl", "restart", server.unit])

    def odd(self) -> OddServer:
        made = self.odd_servers.new()
        self.add(KNOWN_HOSTS, made.known_hosts_line)
        return made

    def account(self, name: str, *, server: SshServer | None = None) -> Account:
        """An account of the case's own, with a key, on the server all share or on one that lets all in."""
        with self._lock:  # useradd does not wait
            self.machine.run(
                f"useradd --create-home --shell /bin/bash {name} && usermod --password '*' {name} &&"
                f" cd /home/{name} && mkdir -m 700 .ssh data && ssh-keygen -q -t ed25519 -N '' -f /root/{name}.key &&"
                f" cp /root/{name}.key.pub .ssh/authorized_keys && chown -R {name}: ."
            )
        return Account(self, name, server or self.crowd)

    def add(self, path: str, line: str) -> None:
        """Put a line at the end of a file many cases write to."""
        with self._lock:
            self.machine.write(path, f"{self.machine.read(path)}{line}\n")

    def drop(self, path: str, line: str) -> None:
        with self._lock:
            kept = [other for other in self.machine.read(path).splitlines() if other != line]
            self.machine.write(path, "".join(f"{other}\n" for other in kept))

    def run(self, case: Case) -> dict[str, Said]:
        """What `docker run` says, by situation ("create", "mount")."""
        name = str(case).replace("_", "-")
        arranged = case.way(self)
        volume = next(arranged)
        assert volume is not None
        words = [word for key, value in volume.options.items() for word in ("-o", f"{key}={value}")]
        if case.at_mount is not None:
            self.machine.docker("volume", "create", "-d", "sshfs", *words, name, timeout=PATIENCE)
        assert next(arranged) is None
        said = {}
        try:
            if case.at_mount is not None:
                arguments = ["-v", f"{name}:/data", "--volume-driver=sshfs"]
                said["mount"] = self._said(case.at_mount, name, volume, arguments)
            if case.at_create is not None:
                options = ",".join(f"volume-opt={key}={value}" for key, value in volume.options.items())
                mount = f"type=volume,src={name}-new,dst=/data,volume-driver=sshfs,{options}"
                said["create"] = self._said(case.at_create, f"{name}-new", volume, ["--mount", mount])
        finally:
            assert next(arranged, None) is None
        return said

    def _said(self, sentence: str, name: str, volume: Volume, arguments: list[str]) -> Said:
        words = ["run", "--rm", "--network", "none", *arguments, "busybox", "true"]
        ran = self.machine.docker(*words, check=False, timeout=PATIENCE)
        parts = {**volume.parts, "volume": name}
        pieces = re.split(r"\{(.+?)\}", sentence)
        pattern = "".join(
            ".+" if text == "*" and is_part else re.escape(parts[text] if is_part else text)
            for text, is_part in ((text, bool(index % 2)) for index, text in enumerate(pieces))
        )
        return Said(pattern, ran.stderr if ran.returncode else f"it works: {ran.stdout}{ran.stderr}")


class Account:
    """An account on a server, that may log in with its own key."""

    def __init__(self, world: World, name: str, server: SshServer) -> None:
        self.world, self.name, self.server = world, name, server
        self.key = f"/root/{name}.key"
        self.where = f"127.0.0.1:{server.port}"

    def volume(self, directory: str = "data", **more: str) -> Volume:
        """A volume on one of its directories; the sentence may say ``{where}``, ``{user}``, ``{key}``."""
        options = {
            "sshcmd": f"{self.name}@127.0.0.1:{directory}",
            "port": str(self.server.port),
            "IdentityFile": self.key,
            **more,
        }
        given = {name: value for name, value in options.items() if value}
        return Volume(given, {"where": self.where, "user": self.name, "key": self.key})

    def broken_by(self, command: str, directory: str = "data", *, mended_by: str = "", **more: str) -> Arranged:
        """A case: a volume there, before and after this command."""
        yield self.volume(directory, **more)
        self.run(command)
        yield None
        if mended_by:
            self.run(mended_by)

    def run(self, command: str) -> None:
        """As root, in its home directory; $KEY is its key."""
        self.world.machine.run(f"cd /home/{self.name} && KEY={self.key} && {command}")


def on(server: SshServer, **more: str) -> Volume:
    """A volume in the home directory of a server of the case's own."""
    options = {"sshcmd": f"{server.user}@{server.host}:", "port": str(server.port), "IdentityFile": server.key, **more}
    parts = {"where": f"{server.host}:{server.port}", "user": server.user, "key": server.key}
    return Volume(options, {**parts, "fingerprint": server.fingerprint, "port": str(server.port)})


def reconfigured(world: World, config: str, server: SshServer, **more: str) -> Arranged:
    """A case: a volume there, before and after the sshd is configured so."""
    yield on(server, **more)
    world.reconfigure(server, config)
    yield None


def odd(world: World, mode: str, **more: str) -> Arranged:
    """A case: a volume on a server that behaves, and then behaves so."""
    server = world.odd()
    yield Volume(server.options(**more), {"where": server.where})
    server.become(mode)
    yield None


CASES: list[Case] = []
SAME = "\0"


def fails(at_create: str | None, at_mount: str | None = SAME, *, is_alone: bool = False) -> Callable[[Way], Way]:
    """Put a way to fail into the table; ``is_alone``: the whole machine is broken, so nothing else runs meanwhile."""

    def add(way: Way) -> Way:
        CASES.append(Case(way, at_create, at_create if at_mount == SAME else at_mount, is_alone))
        return way

    return add


@contextmanager
def world_on(installed: Installed) -> Iterator[World]:
    made = World(installed)
    try:
        yield made
    finally:
        made.close()
