"""A volume as far as this machine knows it: what opens it is there, its host is known, its mount is alive."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from legacyhost import status
from legacyhost.doctor import Finding, counted, error, ok, warning
from legacyhost.doctor.host import Host
from legacyhost.drivers import Driver
from legacyhost.errors import Failed, PluginError
from legacyhost.ssh.hostkeys import Known
from legacyhost.ssh.target import Target, default_identity_files
from legacyhost.ssh.wording import place
from legacyhost.state import Volume

#: What begins a command at the end of a sentence.
_PROGRAMS = ("legacyhost ", "chmod ", "chown ", "ssh-keygen ", "systemctl ", "mount ")


@runtime_checkable
class OnSsh(Protocol):
    """A driver whose volumes are directories of SSH hosts."""

    def target(self, volume: Volume) -> Target:
        """Where the volume is, and what opens it. Raises Failed."""
        ...


def command_in(message: str) -> str:
    """The command at the end of a sentence made elsewhere; empty where there is none."""
    for mark in (": ", "; ", ", "):
        end = message.rpartition(mark)[2]
        if end.startswith(_PROGRAMS):
            return end
    return ""


def access(host: Host, driver: Driver, volume: Volume) -> Iterator[Finding]:
    """Without the network: what opens the account is there and can be read by the service, and the host is known."""
    check = f"volume {volume.name}"
    if not isinstance(driver, OnSsh):
        return
    try:
        target = driver.target(volume)
    except PluginError as problem:
        yield error(check, problem.message, "the volume cannot be mounted", command_in(problem.message))
        return
    found = False
    for each in (target.jump, target):
        if each is None:
            continue
        for file in each.identity_files or (() if each.names_a_login else default_identity_files()):
            if problem_and_mend := _why_unreadable(Path(file)):
                found = True
                what, mend = problem_and_mend
                yield error(check, what, "the service reads what belongs to root, and what all may read", mend)
        if each.host_key is None and not _is_known(host, each):
            found = True
            where = place(each.host, each.port)
            why = "no connection is made to a host whose key is not known"
            jump = f" --jump {each.jump.user}@{place(each.jump.host, each.jump.port)}" if each.jump else ""
            yield error(check, f"no host key of {where} is known", why, f"legacyhost trust {where}{jump}")
    if not found:
        yield ok(check, str(target))


def _is_known(host: Host, target: Target) -> bool:
    known = Known.read(host.paths.known_hosts(), target.host, target.port)
    asked = [known, known.without_port] if known.without_port is not None else [known]
    return any(each.keys or each.authorities for each in asked)


def _why_unreadable(file: Path) -> tuple[str, str] | None:
    """What keeps root without its privileges, as which the service runs, from reading a file; and the command."""
    if not file.exists():
        return f"identity file {file} does not exist", f"ssh-keygen -t ed25519 -f {shlex.quote(str(file))}"
    if not _may(file, 0o4):
        name = shlex.quote(str(file))
        return f"identity file {file} is not root's", f"chown root: {name} && chmod 600 {name}"
    for directory in file.parents:
        if not _may(directory, 0o1):
            what = f"identity file {file} is below {directory}, which is closed to the service"
            return what, f"chmod o+x {shlex.quote(str(directory))}"
    return None


def _may(path: Path, right: int) -> bool:
    found = path.stat()
    shift = 6 if found.st_uid == 0 else 3 if found.st_gid == 0 else 0
    return bool(found.st_mode >> shift & right)


def mount(host: Host, plugin: str, volume: Volume) -> Iterator[Finding]:
    """What the plugin says of it: state, holders, the last error; and whether the mount's program is there."""
    check, name = f"volume {volume.name}: mount", shlex.quote(volume.name)
    try:
        reply = host.ask(plugin, "VolumeDriver.Get", {"Name": volume.name})
    except Failed as problem:
        why = "it cannot be told whether the volume can be used"
        yield error(check, problem.message, why, f"legacyhost inspect --plugin {plugin} {name}")
        return
    found = reply.get("Volume")
    told = found.get("Status") if isinstance(found, dict) else None
    shown = told if isinstance(told, dict) else {}
    state = str(shown.get("state", "unknown"))
    last = f", last error: {shown['last error']} ({shown.get('last error at')})" if shown.get("last error") else ""
    holders = shown.get("holders", 0)
    what = f"{state}, {counted(holders if isinstance(holders, int) else 0, 'holder')}{last}"
    where = shlex.quote(f"{host.paths.run / plugin / 'mounts' / volume.name}")
    restart = f"docker ps -q --filter volume={name} | xargs -r docker restart"
    if state == status.RECONNECTING:
        why, mend = "whoever uses it waits, and gets an error when that lasts", f"legacyhost doctor {name}"
        yield warning(check, f"volume {volume.name}: {what}", why, mend)
    elif state == status.SILENT:
        why, mend = "whoever uses it hangs, and no other container gets it", f"legacyhost unstick {name}; {restart}"
        yield error(check, f"volume {volume.name}: {what}", why, mend)
    elif state == status.LOST:
        why = "the containers that have it see an error, or an empty directory"
        yield error(check, f"volume {volume.name}: {what}", why, restart)
    elif state == status.COVERED:
        why = "no container gets the volume while something else is mounted on top of it"
        yield error(check, f"volume {volume.name}: {what}", why, f"umount {where}")
    elif state == status.MOUNTED and host.has_systemd and not (units := _units(host, plugin, volume.name)):
        why = "nobody takes it away at shutdown"
        yield warning(check, f"volume {volume.name} is mounted, and no unit does it", why, f"umount {where}")
    else:
        by = f" by {', '.join(units)}" if state == status.MOUNTED and host.has_systemd else ""
        yield ok(check, f"{what}{by}")


def _units(host: Host, plugin: str, volume: str) -> Sequence[str]:
    """The active units of the volume's mount; long names are cut off (see mounts/units.py)."""
    begin = f"legacyhost:{plugin}:{volume}"[:200]
    argv = ["systemctl", "list-units", "--plain", "--no-legend", "--state=active", f"{begin}*:????????.service"]
    return [line.split()[0] for line in host.run(argv).stdout.splitlines() if line.strip()]
