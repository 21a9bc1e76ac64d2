"""A plugin that other hosts reach, and plugins elsewhere that this one's Docker reaches: addresses, keys, time."""

from __future__ import annotations

import json
import os
import shlex
import socket
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from legacyhost.config import ListenConfig, host_and_port, is_loopback
from legacyhost.doctor import Finding, error, ok, warning
from legacyhost.doctor.files import close, open_to_others
from legacyhost.doctor.host import Host
from legacyhost.doctor.services import RELOAD, service_unit, socket_unit
from legacyhost.doctor.sockets import SPECIFICATIONS
from legacyhost.errors import ConfigError, Failed

#: Before a certificate ends.
SOON = timedelta(days=30)
ENDS = "from then on neither side talks to the other"


def listening(host: Host, plugin: str) -> Iterator[Finding]:
    """Whether engines elsewhere find somebody at the address; nothing where they are not meant to."""
    listen, handed = _listen(host, plugin), _handed_over(host, plugin)
    path, unit = host.paths.configuration(plugin), socket_unit(plugin)
    edit = f"${{EDITOR:-editor}} {path} && systemctl try-reload-or-restart {service_unit(plugin)}"
    if listen is None:
        if handed:
            what = f"{unit} listens on {', '.join(handed)}, and {path} has no section [listen]"
            yield error("network", what, "who calls there is turned away", edit)
        return
    if listen.plain and (others := [each for each in handed if not is_loopback(_host(each))]):
        what = f"{unit} listens on {', '.join(others)}, and {path} says listen.plain, which is for loopback"
        yield error("network", what, "it is not served: whoever could reach it would be root on this host", edit)
        return
    status = host.unit(service_unit(plugin), "StatusText")["StatusText"]
    _, is_shut, problem = status.partition("not on TCP: ")
    _, is_old, old = status.partition(", as before: ")
    if is_shut:
        yield error("network", problem, "engines on other hosts do not reach the plugin", edit)
    elif is_old:
        yield warning("network", old, "a change of the configuration has not been taken over", edit)
    elif not handed:
        yield from _by_itself(host, plugin, listen, edit)
    elif listen.address and all(_port(each) != _port(listen.address) for each in handed):
        what = f"{unit} listens on {', '.join(handed)}, not on listen.address, {listen.address}"
        yield warning("network", what, "'legacyhost spec' tells engines the other one", edit)
    else:
        yield ok("network", f"engines reach the plugin {plugin} on {', '.join(handed)}")


def _by_itself(host: Host, plugin: str, listen: ListenConfig, edit: str) -> Iterator[Finding]:
    if not listen.address:
        yield error("network", "listen.address is not set", "nothing listens for engines on other hosts", edit)
        return
    if not host.unit(service_unit(plugin), "StatusText")["StatusText"] and (problem := _why_not_bound(listen.address)):
        what = f"{listen.address} cannot be listened on: {problem}"
        yield error("network", what, "engines on other hosts do not reach the plugin", edit)
        return
    place = f"/etc/systemd/system/{socket_unit(plugin)}.d"
    drop_in = f"mkdir -p {place} && printf '[Socket]\\nListenStream={listen.address}\\n' >{place}/listen.conf"
    mend = f"{drop_in} && {RELOAD} && systemctl stop {service_unit(plugin)} && systemctl restart {socket_unit(plugin)}"
    what = f"the service listens on {listen.address} itself, and so only while it runs"
    yield warning("network", what, "after a boot a call from another host does not start it", mend)


def _why_not_bound(address: str) -> str:
    host, port = host_and_port(address)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as problem:
        return os.strerror(problem.errno or 0).lower()
    return ""


def certificates(host: Host, plugin: str) -> Iterator[Finding]:
    """Whether they fit, are in their time, and root's alone."""
    from legacyhost import pki, tls

    listen = _listen(host, plugin)
    if listen is None or listen.plain:
        return
    own = host.paths.pki(plugin)
    try:
        tls.context(listen)
    except ConfigError as problem:
        mend = "" if own.exists() else f'legacyhost pki {plugin} --host "$(hostname -f)"'
        yield error("certificates", problem.message, "engines on other hosts do not reach the plugin", mend)
        return
    found = []
    if listen.key.parent != own and (said := open_to_others(listen.key, 0o077)) is not None:
        found.append(error("certificates", said, "who has the key can be the plugin", close(listen.key, "600")))
    is_ours = listen.certificate == own / pki.SERVER
    again = f"legacyhost pki {plugin} --renew && systemctl try-reload-or-restart {service_unit(plugin)}"
    found += _in_time("certificates", listen.certificate, again if is_ours else "")
    found += _in_time("certificates", listen.ca, "")
    for client in pki.clients(own):
        found += _in_time("certificates", own / pki.CLIENTS / client / pki.CERT, again)
    yield from found
    if not found:
        end = pki.shown(listen.certificate).end
        yield ok("certificates", f"{listen.certificate} is valid until {end:%Y-%m-%d}")


def _in_time(check: str, path: Path, mend: str) -> Iterator[Finding]:
    from legacyhost import pki

    try:
        shown = pki.shown(path)
    except Failed as problem:
        yield error(check, problem.message, "the plugin and the engine cannot know each other without it", mend)
        return
    now = datetime.now(UTC)
    if shown.end <= now:
        yield error(check, f"{path} has expired on {shown.end:%Y-%m-%d}", "neither side talks to the other", mend)
    elif shown.begin > now:
        what = f"{path} is valid from {shown.begin:%Y-%m-%d %H:%M} UTC on, which is later than this host's clock"
        yield error(check, what, "neither side talks to the other", mend)
    elif shown.end - now < SOON:
        yield warning(check, f"{path} expires on {shown.end:%Y-%m-%d}", ENDS, mend)


def elsewhere(host: Host) -> Iterator[Finding]:
    """What tells Docker of plugins on other hosts."""
    for directory in SPECIFICATIONS:
        for path in sorted([*host.at(directory).glob("*.json"), *host.at(directory).glob("*/*.json")]):
            yield from _specification(host, path)


def _specification(host: Host, path: Path) -> Iterator[Finding]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError):
        content = None
    if not isinstance(content, dict):
        yield error("specification", f"{path} is not a JSON object", "Docker does not know the plugin")
        return
    if not str(content.get("Addr", "")).startswith("https://"):
        return
    tls: Mapping[str, Any] = found if isinstance(found := content.get("TLSConfig"), dict) else {}
    problems = []
    if tls.get("InsecureSkipVerify") or ("TLSConfig" in content and not tls.get("CAFile")):
        why = "whoever takes that address is taken for the plugin"
        mend = f"${{EDITOR:-editor}} {shlex.quote(str(path))}"
        problems.append(error("specification", f"{path} has Docker not check who answers (no CAFile)", why, mend))
    again = f"legacyhost spec {path.stem} | tar -x -C /etc/docker/plugins"
    for key in ("CAFile", "CertFile", "KeyFile"):
        file = host.at(str(tls[key])) if tls.get(key) else None
        if file is None:
            continue
        if not file.exists():
            why = f"on the plugin's host: {again}"
            problems.append(error("specification", f"{path} names {file}, which is not there", why))
        elif key != "KeyFile":
            problems += _in_time("specification", file, "")
        elif (said := open_to_others(file, 0o077)) is not None:
            problems.append(error("specification", said, "who has the key can be this engine", close(file, "600")))
    yield from problems
    if not problems:
        yield ok("specification", f"{path} and its certificates are in order")


def _listen(host: Host, plugin: str) -> ListenConfig | None:
    found = host.configuration(plugin)
    return found.listen if found is not None else None


def _handed_over(host: Host, plugin: str) -> list[str]:
    """The TCP addresses of the socket's unit."""
    if not host.has_systemd:
        return []
    ran = host.run(["systemctl", "show", "--property=Listen", "--", socket_unit(plugin)])
    found = (line.removeprefix("Listen=").removesuffix(" (Stream)") for line in ran.stdout.splitlines())
    return [address for address in found if ":" in address and not address.startswith(("/", "@"))]


def _host(address: str) -> str:
    return address.rpartition(":")[0].strip("[]")


def _port(address: str) -> str:
    return address.rpartition(":")[2]
