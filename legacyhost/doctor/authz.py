"""Authorization: the policy of a plugin can be read, and Docker asks the plugins that have one, and no others."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from itertools import pairwise

from legacyhost import config as configuration
from legacyhost import policysource
from legacyhost.doctor import Finding, error, ok, warning
from legacyhost.doctor.host import Host
from legacyhost.doctor.services import service_unit
from legacyhost.errors import ConfigError, PluginError
from legacyhost.policies import age

DAEMON, OPTION = "/etc/docker/daemon.json", "--authorization-plugin"
KEY = "authorization-plugins"


def has_volumes(host: Host, plugin: str) -> bool:
    """Whether it is to serve some, as far as its configuration can be read."""
    found = host.configuration(plugin)
    return found is None or found.volume is not None


def policy(host: Host, plugin: str) -> Iterator[Finding]:
    """Whether it can be read, from where it is; if not, whether there is a copy of it."""
    found = host.configuration(plugin)
    if found is None or found.authz is None:
        return
    path = host.paths.configuration(plugin)
    remotes = (found.volume or configuration.NO_VOLUMES).remote
    reload = f"systemctl try-reload-or-restart {service_unit(plugin)}"
    edited = host.paths.policy(found.authz.policy) if found.authz.policy and not found.authz.is_remote else path
    mend = f"${{EDITOR:-editor}} {shlex.quote(str(edited))} && {reload}"
    try:
        source = policysource.source(plugin, found.authz, remotes, host.paths)
    except ConfigError as problem:
        yield error("policy", f"{path}: {problem.message}", "every request to Docker is denied", mend)
        return
    try:
        source.read()
    except PluginError as problem:
        yield _unread(source, problem, mend, plugin)
    else:
        yield ok("policy", f"the policy {source.place} is valid")
    if found.authz.dry_run:
        why = "that is for trying a policy: whatever it says, every request is allowed"
        yield warning("policy", f"{path} says authz.dry_run", why, f"${{EDITOR:-editor}} {path} && {reload}")


def _unread(source: policysource.Source, problem: PluginError, mend: str, plugin: str) -> Finding:
    try:
        kept = source.kept()
    except PluginError:
        kept = None
    if kept is None:
        why = "every request to Docker is denied, unless the plugin still has the policy it read before"
        return error("policy", problem.message, why, mend)
    why = f"the plugin {plugin} goes by the copy that was read there {age(kept.read)} ago"
    return warning("policy", f"the policy {source.place} cannot be had: {problem.message}", why)


def asked(host: Host, plugin: str) -> Iterator[Finding]:
    """Whether Docker asks who has a policy, and nobody who has none."""
    found, is_asked = host.configuration(plugin), plugin in plugins(host)
    if found is None:
        return
    path = host.paths.configuration(plugin)
    if is_asked and found.authz is None:
        what = f"Docker asks the plugin {plugin} about every request, and {path} has no section [authz]"
        reload = f"systemctl try-reload-or-restart {service_unit(plugin)}"
        why = "every request is denied, and Docker does not start again"
        yield error("authorization", what, why, f"${{EDITOR:-editor}} {path} && {reload}")
    elif found.authz is not None and not is_asked and host.program("dockerd") is not None:
        daemon = host.at(DAEMON)
        entry = f'"{KEY}": ["{plugin}"]'
        write = f"${{EDITOR:-editor}} {daemon}" if daemon.exists() else f"printf '{{{entry}}}\\n' >{daemon}"
        why = f"its policy keeps nobody from anything until {DAEMON} has {entry}"
        yield warning(
            "authorization", f"Docker does not ask the plugin {plugin}", why, f"{write} && systemctl reload docker"
        )
    elif is_asked:
        yield ok("authorization", f"Docker asks the plugin {plugin} about every request")


def plugins(host: Host) -> set[str]:
    """Those that Docker asks, by its configuration and by how it was started."""
    try:
        content = json.loads(host.at(DAEMON).read_text("utf-8"))
        named = content.get(KEY) if isinstance(content, dict) else None
    except (OSError, ValueError, RecursionError):
        named = None  # Docker itself says what is wrong with it
    found = {name for name in named if isinstance(name, str)} if isinstance(named, list) else set[str]()
    words = _command(host)
    for word, following in pairwise([*words, ""]):
        name, equals, value = word.partition("=")
        if name.lstrip("-") == OPTION.lstrip("-"):
            found |= {*(value if equals else following).split(",")}
    return found - {""}


def _command(host: Host) -> list[str]:
    """Of the dockerd that runs; otherwise as its unit has it."""
    if not host.has_systemd:
        return []
    shown = host.unit("docker.service", "MainPID", "ExecStart")
    try:
        return host.at(f"/proc/{shown['MainPID']}/cmdline").read_text("utf-8", "replace").split("\0")
    except OSError:
        return shown["ExecStart"].split()
