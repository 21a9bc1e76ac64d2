"""Where Docker looks for plugins: our socket, what stands in its way, and what makes Docker wait.

Docker's rules: pkg/plugins/discovery.go and plugin/store.go of moby.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from legacyhost.deadline import Deadline
from legacyhost.doctor import Finding, error, ok, warning
from legacyhost.doctor.host import Host
from legacyhost.doctor.services import service_unit, socket_unit
from legacyhost.errors import Failed
from legacyhost.ssh.attempt import Attempt, Late

#: Beside the sockets: files that say where a plugin is.
SPECIFICATIONS = ("/etc/docker/plugins", "/usr/lib/docker/plugins")
#: Seconds for a connection to one of them.
CONNECT = 2.0


def there(host: Host, plugin: str) -> Iterator[Finding]:
    """Whether its name leads to a socket, as far as that is not a matter of the unit."""
    path = host.paths.sockets / f"{plugin}.sock"
    why = "Docker and Podman look for the plugin there"
    again = f"systemctl stop {service_unit(plugin)} && systemctl restart {socket_unit(plugin)}"
    if not os.path.lexists(path):
        if not host.has_systemd or host.unit(socket_unit(plugin), "ActiveState")["ActiveState"] == "active":
            yield error("socket file", f"{path} is gone", why, again)
    elif not stat.S_ISSOCK(path.lstat().st_mode):
        yield error("socket file", f"{path} is not a socket", why, f"rm -r {path} && {again}")


def mode(host: Host, plugin: str) -> Iterator[Finding]:
    """Whoever can talk to the socket, or replace it, is root on this host."""
    path = host.paths.sockets / f"{plugin}.sock"
    found = False
    if os.path.lexists(path):
        status = path.lstat()
        if status.st_uid != 0 or status.st_gid != 0 or status.st_mode & 0o077:
            found = True
            shown = f"mode {stat.S_IMODE(status.st_mode):04o}, owner {status.st_uid}:{status.st_gid}"
            why = "whoever may talk to it can mount over any file of this host, and so become root"
            commands = [*_own_mode(host, plugin), f"chown root:root {path}", f"chmod 600 {path}"]
            yield error("socket", f"{path} is open to others ({shown})", why, " && ".join(commands))
    for directory in (path.parent, path.parent.parent):
        status = directory.stat()
        if status.st_uid != 0 or status.st_mode & 0o022:
            found = True
            mend = f"chown root: {directory} && chmod go-w {directory}"
            yield error("socket", f"{directory} can be written by others", "they can take the plugin's place", mend)
    if not found:
        yield ok("socket", f"{path} is for root only")


def _own_mode(host: Host, plugin: str) -> list[str]:
    """What takes a mode out of the files of the unit that set another than the package does."""
    unit = socket_unit(plugin)
    shown = host.unit(unit, "SocketMode", "DropInPaths", "FragmentPath")
    if shown["SocketMode"] in ("0600", ""):
        return []
    files = " ".join(map(shlex.quote, shown["DropInPaths"].split()))
    if not files:
        return [f"systemctl revert {unit}"]
    return [f"sed -i '/^SocketMode=/d' {files}", "systemctl daemon-reload"]


def answer(host: Host, plugin: str) -> Iterator[Finding]:
    """The handshake, as Docker does it."""
    unit = service_unit(plugin)
    try:
        kinds = host.ask(plugin, "Plugin.Activate", {}).get("Implements")
    except Failed as problem:
        mend = f"systemctl restart {unit} || journalctl -n 20 -u {unit}"
        if not host.has_systemd:
            mend = f"legacyhost serve {plugin} --socket {host.paths.sockets / plugin}.sock"
        yield error("answer", problem.message, "no volume can be made, listed or mounted", mend)
    else:
        yield ok("answer", f"the plugin answers ({', '.join(map(str, kinds)) if isinstance(kinds, list) else kinds})")


def shadows(host: Host, plugin: str) -> Iterator[Finding]:
    """Other entries of the same name. With its socket there the plugin comes first, without it they do."""
    own = host.paths.sockets / f"{plugin}.sock"
    others = [
        path
        for path, name in _entries(host)
        if name == plugin and path != own and (path.suffix != ".sock" or path.parent.name == plugin)
    ]
    for path in others:
        why = f"whenever {own} is away Docker takes that for the plugin {plugin}, and looks for its volumes there"
        yield warning("shadow", f"{path} has the name of the plugin {plugin}", why, _away(path))
    if not others:
        yield ok("shadow", f"nothing else is called {plugin}")


def dead(host: Host) -> Iterator[Finding]:
    """Entries with nobody behind them: Docker tries each one for 15 seconds whenever it lists volumes (moby#22653)."""
    why = "each 'docker volume ls', and each start of a container with a new volume, waits 15 seconds for it"
    found = False
    for path, name in _entries(host):
        address = _address(path)
        refusal = _why_not_there(address) if address else ""
        if refusal:
            found = True
            yield error(
                "dead plugin", f"{path} leads to a plugin {name} that is not there: {refusal}", why, _away(path)
            )
    if not found:
        yield ok("dead plugin", "every plugin Docker can see takes connections")


def _away(path: Path) -> str:
    """Sockets are made anew by whoever serves them; what somebody wrote is kept, where Docker does not look."""
    return f"rm {shlex.quote(str(path))}" if path.suffix == ".sock" else _kept(path)


def _kept(path: Path) -> str:
    aside = f"/root/{path.name}.disabled"
    return f"mv {shlex.quote(str(path))} {shlex.quote(aside)}"


def _entries(host: Host) -> list[tuple[Path, str]]:
    """What Docker takes for a plugin, and the plugin's name."""
    found = []
    places = [(host.paths.sockets, (".sock",)), *((host.at(path), (".spec", ".json")) for path in SPECIFICATIONS)]
    for directory, endings in places:
        for ending in endings:
            at_top = sorted(directory.glob(f"*{ending}"))
            found += [(path, path.stem) for path in at_top]
            found += [
                (path, path.stem) for path in sorted(directory.glob(f"*/*{ending}")) if path.parent.name == path.stem
            ]
    return found


def _address(path: Path) -> str:
    """Where that entry says the plugin is; empty where it says nothing that Docker understands."""
    try:
        if path.suffix == ".sock":
            return f"unix://{path}" if stat.S_ISSOCK(path.stat().st_mode) else ""
        text = path.read_text("utf-8", "replace").strip()
        if path.suffix == ".spec":
            return text
        content = json.loads(text)
        return str(content.get("Addr", "")) if isinstance(content, dict) else ""
    except (OSError, ValueError, RecursionError):
        return ""


def _why_not_there(address: str) -> str:
    """Why nobody takes a connection; empty if somebody does. Connects and sends nothing."""
    try:
        parts = urlsplit(address)
        if parts.scheme == "unix":
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(CONNECT)
                connection.connect(parts.path)
            return ""
        if parts.hostname is None:
            return f"{address} is no address"
        port = parts.port or (443 if parts.scheme == "https" else 80)
        Attempt(Deadline.after(CONNECT)).run(lambda: socket.create_connection((parts.hostname, port), CONNECT).close())
    except Late:
        return "no answer"
    except (OSError, ValueError) as problem:
        return (getattr(problem, "strerror", None) or str(problem)).lower()
    return ""
