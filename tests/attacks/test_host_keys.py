"""A host that is another one all of a sudden, and links that lead out: the way of the data, with real programs."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from drivers import sshfs_driver
from fakes import WAIT
from namespace import in_own_namespace
from realmount import Remote, mounted
from sshd import fingerprint

from legacyhost.deadline import Deadline
from legacyhost.mounts import MountFailed
from legacyhost.mounts.mountpoints import HostMountpoints
from legacyhost.mounts.processes import ProcessMounter
from legacyhost.state import Volume

REFUSED = "Host key verification failed."


@pytest.fixture
def readable() -> Iterator[Path]:
    """A directory on the way to which every account may go."""
    directory = Path(tempfile.mkdtemp())
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


def change_host_key(remote: Remote) -> None:
    """The same place, answered by somebody with another key; the second time by the first again."""
    server = remote.server
    server.__exit__(None, None, None)
    for name in ("host_ed25519", "host_ed25519.pub"):
        path, kept, other = (
            server.directory / name,
            server.directory / f"{name}.kept",
            server.directory / f"{name}.other",
        )
        if kept.exists():
            path.rename(other)
            kept.rename(path)
        else:
            path.rename(kept)
    server.__enter__()


@in_own_namespace
def test_a_host_key_that_changes_below_a_mount(readable: Path) -> None:
    """Between two connections of one mount: who has taken the host's place gets nothing, and the record says why."""
    remote = Remote.new(readable)
    with remote.server, mounted(readable, remote, fail_after="3") as here:
        here.write("before", "content")
        here.until_connected(1)
        change_host_key(remote)
        with pytest.raises(OSError, match=r"."):
            here.write("secret", "for the right host alone")
        record = here.record()
        assert record.lost
        assert REFUSED in record.error
        assert REFUSED in here.journal()
        assert [entry.name for entry in remote.data.iterdir()] == ["before"]
        change_host_key(remote)
        end = Deadline.after(WAIT)
        while not end.is_over():
            try:
                here.write("after", "it is the right one again")
                break
            except OSError:
                continue
        assert (remote.data / "after").read_text() == "it is the right one again"


@pytest.mark.parametrize("is_pinned", [False, True])
@in_own_namespace
def test_a_host_key_that_changes_before_the_first_mount(readable: Path, is_pinned: bool) -> None:
    """Known or given as host_key=: what was right when the volume was created is refused at the Mount, and said."""
    remote = Remote.new(readable)
    runtime, known = readable / "run" / "sshfs", readable / "known_hosts"
    with remote.server as server:
        known.write_text(f"{server.known_hosts_line()}\n")
        driver = sshfs_driver([known])
        given = {"sshcmd": f"{server.user}@{server.host}:{remote.data}", "port": str(server.port)}
        given["IdentityFile"] = str(server.client_key)
        if is_pinned:
            given["host_key"] = fingerprint(server.host_key())
        volume = Volume("data", driver.parse("data", given), datetime.now(UTC), {})
        volume = Volume("data", volume.options, volume.created, driver.prepare(volume, Deadline.after(WAIT)))
        change_host_key(remote)
        points, mounter = HostMountpoints(runtime), ProcessMounter(runtime)
        points.prepare("data")
        folder = runtime / "volumes" / "data"
        folder.mkdir(parents=True)
        command = driver.command(volume, points.path("data"), folder)
        with pytest.raises(MountFailed):
            mounter.mount("data", points.path("data"), command, Deadline.after(WAIT))
        assert not points.is_mounted("data")
        reason = driver.explain(volume, Deadline.after(WAIT))
        assert reason is not None
        assert ("is not the one of host_key=" if is_pinned else "has changed") in reason.message
        assert fingerprint(server.host_key()) in reason.message


@in_own_namespace
def test_a_link_on_the_server_to_a_file_of_root(readable: Path) -> None:
    """Followed on the server, with the account's rights, never here with root's; unless asked for it leads nowhere."""
    remote = Remote.new(readable)
    secret = readable / "of-root"
    secret.write_text("of this host alone")
    secret.chmod(0o600)
    (remote.data / "link").symlink_to(secret)
    (remote.data / "up").symlink_to("../../../../../../../../etc/shadow")
    with remote.server, mounted(readable, remote, follow_symlinks="") as here:
        for name in ("link", "up"):
            with pytest.raises(OSError, match=r".") as caught:
                (here.top / name).read_bytes()
            assert caught.value.errno in (errno.EACCES, errno.EPERM, errno.ENOENT)
    (readable / "second").mkdir()
    with remote.server, mounted(readable / "second", remote) as here:
        for name in ("link", "up"):  # CVE-2026-47187
            with pytest.raises(PermissionError):
                os.readlink(here.top / name)  # noqa: PTH115 its text, not a path of this host
            with pytest.raises(PermissionError):
                (here.top / name).read_bytes()
