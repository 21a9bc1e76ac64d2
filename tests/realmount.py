"""A volume on a real sshd, mounted by a real sshfs as the driver and the mounter order it; see namespace.py."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from drivers import sshfs_driver
from fakes import WAIT
from sshd import Sshd

from legacyhost.deadline import Deadline
from legacyhost.mounts.mountpoints import HostMountpoints
from legacyhost.mounts.processes import ProcessMounter
from legacyhost.state import Volume
from legacyhost.transport.record import Record


@dataclass
class Remote:
    """The host: ``data`` is the directory of the volume, as it is there."""

    server: Sshd
    data: Path

    @classmethod
    def new(cls, directory: Path, user: str = "nobody") -> Self:
        data = directory / "data"
        data.mkdir()
        shutil.chown(data, user)
        more = ["ForceCommand internal-sftp"]
        return cls(Sshd(directory / "sshd", kinds=["ed25519"], more=more, user=user), data)

    def sessions(self, number: signal.Signals) -> None:
        """Send every session a signal; in the process namespace of the test there are no others."""
        assert os.getpid() == 1
        for name in Path("/proc").glob("[0-9]*/cmdline"):
            with suppress(FileNotFoundError, ProcessLookupError):
                if name.read_bytes().startswith(f"sshd: {self.server.user}".encode()):
                    os.kill(int(name.parent.name), number)


@dataclass
class Mounted:
    """The volume as a container sees it."""

    top: Path
    folder: Path

    def record(self) -> Record:
        (path,) = self.folder.glob("connection.????????")
        return Record.read(str(path))

    def journal(self) -> str:
        return (self.folder / "output").read_text()

    def write(self, name: str, text: str) -> None:
        (self.top / name).write_text(text)

    def until_lost(self) -> None:
        """Until sshfs itself has seen that no connection is left: before that, an operation is one in flight."""
        end = time.monotonic() + WAIT
        while self._sockets():
            assert time.monotonic() < end, "sshfs has not lost its connections"
            time.sleep(0.01)
        assert self.record().lost

    def until_connected(self, count: int) -> None:
        """Until the record has so many; with chown=strict an answer may be here before."""
        end = time.monotonic() + WAIT
        while self.record().connections != count:
            assert time.monotonic() < end, f"there have been {self.record().connections} connections"
            time.sleep(0.01)

    def _sockets(self) -> int:
        count = 0
        process = (self.folder / "process").read_text().split()[0]
        for path in Path(f"/proc/{process}/fd").iterdir():
            with suppress(FileNotFoundError):
                count += str(path.readlink()).startswith("socket:")
        return count


@contextmanager
def mounted(directory: Path, remote: Remote, **given: str) -> Iterator[Mounted]:
    """What the driver, the mounter and the programs make of a volume."""
    server, runtime = remote.server, directory / "run" / "sshfs"
    (directory / "known_hosts").write_text(f"{server.known_hosts_line()}\n")
    options = {
        "sshcmd": f"{server.user}@{server.host}:{remote.data}",
        "port": str(server.port),
        "IdentityFile": str(server.client_key),
        **given,
    }
    driver = sshfs_driver([directory / "known_hosts"])
    points, mounter = HostMountpoints(runtime), ProcessMounter(runtime)
    points.prepare("data")
    folder = runtime / "volumes" / "data"
    folder.mkdir(parents=True)
    volume = Volume("data", driver.parse("data", options), datetime.now(UTC), {})
    command = driver.command(volume, points.path("data"), folder)
    mounter.mount("data", points.path("data"), command, Deadline.after(WAIT))
    yield Mounted(points.path("data"), folder)
    mounter.unmount("data", points.path("data"), Deadline.after(WAIT))
