"""Docker and Podman: there, running, and finding the plugin."""

from __future__ import annotations

import json
import os
import shlex
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from legacyhost.doctor import Finding, counted, error, ok, warning
from legacyhost.doctor.host import Host

#: Seconds for Docker, which may wait 15 for a plugin that is not there; and after which it has waited for one.
DOCKER_LIMIT, DOCKER_SLOW = 40.0, 10.0
#: Where Podman's settings for root are, the later ones over the earlier (containers.conf(5)).
SETTINGS = ("/usr/share/containers/containers.conf", "/etc/containers/containers.conf")
SETTINGS_MORE = "/etc/containers/containers.conf.d"


def present(host: Host) -> Iterator[Finding]:
    if host.program("dockerd") is None and host.program("podman") is None:
        why = "they are what uses the plugins"
        yield error("engines", "neither Docker nor Podman is installed", why, "apt-get install -y docker.io")
    for program, name in (("dockerd", "Docker"), ("podman", "Podman")):
        if host.program(program) is None:
            yield ok(name.lower(), f"{name} is not installed, and not looked at")


def is_docker_used(host: Host) -> bool:
    """Whether Docker is what the plugins are for here: it runs, or is to run."""
    if host.program("dockerd") is None:
        return False
    if not host.has_systemd:
        return host.at("/run/docker.sock").exists()
    units = [host.unit(unit, "ActiveState", "UnitFileState") for unit in ("docker.service", "docker.socket")]
    return any(unit["ActiveState"] == "active" or unit["UnitFileState"] == "enabled" for unit in units)


def docker(host: Host) -> Iterator[Finding]:
    """Whether it runs, where it is to."""
    if host.program("dockerd") is None:
        return
    if not is_docker_used(host):
        yield ok("docker", "Docker is switched off, and not looked at")
        return
    if host.has_systemd:
        states = [host.unit(unit, "ActiveState")["ActiveState"] for unit in ("docker.service", "docker.socket")]
        if "active" not in states:
            mend = "systemctl reset-failed docker.service docker.socket; systemctl start docker"
            yield error("docker", "Docker is not running", "nothing can use a volume", mend)
            return
        if states[0] == "activating":
            why = "nothing can use a volume before it is; it asks each plugin for its volumes"
            yield warning("docker", "Docker is still starting", why, "journalctl -n 20 -u docker")
            return
    yield ok("docker", "Docker runs" if host.program("docker") else "Docker runs; there is no command to ask it with")


def listing(host: Host) -> Iterator[Finding]:
    """Whether Docker lists volumes, and does not have to wait for a plugin. Not where one is known to be missing."""
    if host.program("docker") is None or not is_docker_used(host):
        return
    began = time.monotonic()
    ran = host.run(["docker", "volume", "ls", "--format", "{{.Name}}"], DOCKER_LIMIT)
    took = time.monotonic() - began
    mend = "journalctl -n 20 -u docker"
    if ran.returncode != 0:
        said = " ".join(ran.stderr.split()) or f"status {ran.returncode}"
        yield error("docker volumes", f"Docker does not list volumes: {said}", "it knows of no volume then", mend)
    elif took > DOCKER_SLOW:
        why = "it waits for a plugin that does not answer, and so does everybody who starts a container"
        yield error("docker volumes", f"Docker took {took:.0f} s to list its volumes", why, mend)
    else:
        yield ok("docker volumes", f"Docker lists {counted(len(ran.stdout.split()), 'volume')}")


def managed(host: Host, plugin: str) -> Iterator[Finding]:
    """Whether what Docker calls by that name is this plugin: one it manages itself would come first."""
    if host.program("docker") is None or not is_docker_used(host):
        return
    ran = host.run(["docker", "plugin", "ls", "--format", "{{.Name}}"])
    if ran.returncode != 0:
        return  # it is not running, which has been said
    for name in ran.stdout.split():
        if name in (plugin, f"{plugin}:latest"):
            why = "Docker asks that instead of the service, also while it is disabled"
            # Not with --force: its volumes may be in use, and are then to be seen to first.
            mend = f"docker plugin disable {name}; docker plugin rm {name}"
            yield error("managed plugin", f"Docker has a managed plugin called {name}", why, mend)
            return
    yield ok("managed plugin", f"no managed plugin of Docker's is called {plugin}")


def volumes(host: Host, plugin: str, names: Sequence[str]) -> Iterator[Finding]:
    """Whether Docker shows those the plugin has."""
    if not names or host.program("docker") is None or not is_docker_used(host):
        return
    argv = ["docker", "volume", "ls", "--filter", f"driver={plugin}", "--format", "{{.Name}}"]
    ran = host.run(argv, DOCKER_LIMIT)
    if ran.returncode != 0:
        return
    if {*names} & {*ran.stdout.split()}:
        yield ok("docker volumes", f"Docker finds the volumes of the plugin {plugin}")
    else:
        why = f"the plugin has {counted(len(names), 'volume')}, and Docker does not find it"
        yield error("docker volumes", f"Docker shows no volume of the plugin {plugin}", why, "systemctl restart docker")


@dataclass
class Settings:
    """What matters of Podman's. ``unread``: files that it does not read; ``broken``: one that is not TOML."""

    plugins: dict[str, str] = field(default_factory=dict)
    broken: str = ""


def podman(host: Host, plugin: str) -> Iterator[Finding]:
    """Whether Podman is told of the plugin, as root's Podman reads its settings."""
    if host.program("podman") is None:
        return
    path = host.paths.sockets / f"{plugin}.sock"
    settings = _settings(host)
    known = _known_to_podman(host)
    entry = settings.plugins.get(plugin)
    mend = _tell_podman(plugin, path)
    if settings.broken:
        why = "Podman does not start with it"
        yield error("podman", settings.broken, why, f"${{EDITOR:-editor}} {settings.broken.split()[0]}")
    elif known is None:
        why = "it cannot be told which plugins it knows"
        yield error("podman", "Podman does not answer", why, "podman info")
    elif entry is not None and os.path.normpath(entry) != str(path):
        why = f"Podman looks for the plugin at {entry}, where it is not"
        yield error("podman", f"containers.conf has another place for the plugin {plugin}", why, mend)
    elif plugin in known:
        yield ok("podman", f"Podman knows the plugin {plugin}")
    elif entry is not None:
        why = "without that file Podman 4 reads none of the directory containers.conf.d"
        yield error("podman", f"Podman does not read its setting for the plugin {plugin}", why, f"touch {SETTINGS[1]}")
    elif is_docker_used(host):
        yield ok("podman", f"Podman is not told of the plugin {plugin}, which Docker uses; to tell it: {mend}")
    else:
        why = "Podman looks for no plugins, it has to be told of each"
        yield error("podman", f"containers.conf does not name the plugin {plugin}", why, mend)


def _known_to_podman(host: Host) -> list[str] | None:
    """The volume plugins Podman says it has; None if it says nothing."""
    ran = host.run(["podman", "info", "--format", "{{json .Plugins.Volume}}"], DOCKER_LIMIT)
    try:
        found = json.loads(ran.stdout)
    except ValueError:
        return None
    return found if ran.returncode == 0 and isinstance(found, list) else None


def _settings(host: Host) -> Settings:
    found = Settings()
    files = [host.at(path) for path in SETTINGS] + sorted(host.at(SETTINGS_MORE).glob("*.conf"))
    for path in files:
        try:
            content = tomllib.loads(path.read_text("utf-8"))
        except FileNotFoundError:
            continue
        except (ValueError, RecursionError) as problem:
            found.broken = f"{path} cannot be read: {problem}"
            continue
        engine = content.get("engine")
        plugins = engine.get("volume_plugins") if isinstance(engine, dict) else None
        if isinstance(plugins, dict):
            found.plugins |= {name: str(place) for name, place in plugins.items()}
    return found


def _tell_podman(plugin: str, path: Path) -> str:
    """A file of its own, read last."""
    file = f"{SETTINGS_MORE}/99-legacyhost-{plugin}.conf"
    entry = f'[engine.volume_plugins]\\n{plugin} = "{path}"\\n'
    quoted = shlex.quote(entry)
    return f"mkdir -p {SETTINGS_MORE} && printf {quoted} >{file} && touch {SETTINGS[1]}"
