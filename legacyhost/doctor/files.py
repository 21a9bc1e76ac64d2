"""This software's files: the configuration is valid, what is root's is root's alone, there is room."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from legacyhost import config as configuration
from legacyhost.credentials import Store
from legacyhost.doctor import Finding, error, ok
from legacyhost.doctor.host import Host
from legacyhost.doctor.services import service_unit
from legacyhost.drivers import Driver
from legacyhost.errors import ConfigError
from legacyhost.mounts import mountinfo
from legacyhost.parts.volume import build_driver

#: Bytes and files: below it something fails soon.
SCARCE, FEW = 1024 * 1024, 16


def driver(host: Host, plugin: str) -> tuple[Driver, Mapping[str, str]] | None:
    """What the plugin mounts with, and the defaults of options; None where ``config`` has something to say."""
    try:
        section = configuration.load(host.paths.configuration(plugin)).volume or configuration.NO_VOLUMES
        return build_driver(plugin, section, host.paths), section.defaults
    except ConfigError:
        return None


def config(host: Host, plugin: str) -> Iterator[Finding]:
    path = host.paths.configuration(plugin)
    try:
        loaded = configuration.load(path)
        section = loaded.volume or configuration.NO_VOLUMES
        build_driver(plugin, section, host.paths)
    except ConfigError as problem:
        reload = f"systemctl try-reload-or-restart {service_unit(plugin)}"
        if path.exists():
            mend = f"${{EDITOR:-editor}} {path} && {reload}"
        elif (example := host.paths.configuration("sshfs")).exists():
            mend = f"cp {example} {path} && {reload}"
        else:
            mend = f"printf '[volume]\\n' >{path} && chmod 600 {path} && {reload}"
        what = problem.message if str(path) in problem.message else f"{path}: {problem.message}"
        yield error("configuration", what, "the plugin does not start with it", mend)
        return
    store, missing = Store(host.paths.credentials()), False
    account = loaded.authz.account if loaded.authz else {}
    for where, named in (("volume.defaults", section.defaults), *section.remote.items(), ("authz", account)):
        why = f"{path} names it for {where}"
        if "credential" in named and not store.exists(named["credential"]):
            missing = True
            name = named["credential"]
            yield error("configuration", f"there is no credential {name}", why, f"legacyhost credential add {name}")
        if "agent" in named and not Path(named["agent"]).is_socket():
            missing = True
            yield error("configuration", f"there is no agent behind {named['agent']}", why)
    if not missing:
        yield ok("configuration", f"{path} is valid")


def secrets(host: Host) -> Iterator[Finding]:
    """Credentials and configurations: passwords may stand in both."""
    etc = host.paths.etc
    found = False
    for path in (*_below(etc / "credentials"), *_below(etc / "pki")):
        if (problem := open_to_others(path, 0o077)) is not None:
            found = True
            mode = "700" if path.is_dir() else "600"
            yield error("credentials", problem, "keys and passwords are kept there", close(path, mode))
    policies = [path for path in (etc / "policies", *sorted((etc / "policies").glob("*"))) if path.exists()]
    for path in (etc, *sorted(etc.glob("*.toml")), *policies):
        has_password = path.is_file() and "password" in path.read_text("utf-8", "replace")
        if (problem := open_to_others(path, 0o077 if has_password else 0o022)) is not None:
            found = True
            why = "a password stands in it" if has_password else "whoever can change it decides what root does"
            yield error("configuration modes", problem, why, close(path, "600" if has_password else "go-w"))
    if not found:
        yield ok("credentials", f"what is secret in {etc} is for root only")


def known_hosts(host: Host) -> Iterator[Finding]:
    """Whether the plugin, which may not overrule modes, can read them, and nobody else can add to them."""
    found = False
    for path in host.paths.known_hosts():
        if not path.exists():
            continue
        if (problem := open_to_others(path, 0o022)) is not None or not os.access(path, os.R_OK):
            found = True
            shown = problem or f"{path} cannot be read"
            why = "the keys in it decide which hosts are trusted"
            yield error("known_hosts", shown, why, close(path, "644"))
    if not found:
        yield ok("known_hosts", f"{host.paths.known_hosts()[0]} is changed by root only")


def state_modes(host: Host, plugin: str) -> Iterator[Finding]:
    directory = host.paths.state / plugin
    found = False
    for path in _below(directory):
        if (problem := open_to_others(path, 0o077)) is not None:
            found = True
            mode = "700" if path.is_dir() else "600"
            yield error(
                "record modes", problem, "options of volumes stand there, passwords included", close(path, mode)
            )
    if not found:
        yield ok("record modes", f"{directory} is for root only")


def room(host: Host, check: str, directory: Path, clean: str) -> Iterator[Finding]:
    """Whether something can still be written below ``directory``; ``clean`` makes room."""
    while not directory.exists():
        directory = directory.parent
    found = os.statvfs(directory)
    if found.f_flag & os.ST_RDONLY:
        where = shlex.quote(_mountpoint(directory))
        why = "no volume can be made, removed or mounted"
        # The file system, or only this mount of it.
        mend = f"mount -o remount,rw {where} || mount -o remount,bind,rw {where}"
        yield error(check, f"{directory} is on a file system mounted read-only", why, mend)
    elif found.f_bavail * found.f_frsize < SCARCE or (found.f_files and found.f_favail < FEW):
        why = "volumes can be removed, but not made or mounted"
        yield error(check, f"no room is left in {directory}", why, clean)
    else:
        yield ok(check, f"{found.f_bavail * found.f_frsize / 2**30:.1f} GiB are free in {directory}")


def _mountpoint(directory: Path) -> str:
    """Where the file system it is on is mounted."""
    above = {str(path) for path in (directory, *directory.parents)}
    return max((mount.mountpoint for mount in mountinfo.read() if mount.mountpoint in above), key=len, default="/")


def _below(directory: Path) -> list[Path]:
    """The directory and what is in it, links left out: their modes mean nothing."""
    if not directory.exists():
        return []
    return [path for path in (directory, *sorted(directory.rglob("*"))) if not path.is_symlink()]


def open_to_others(path: Path, forbidden: int) -> str | None:
    """What is wrong with the owner or the mode; None if nothing is, or the file has gone meanwhile."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    if status.st_uid != 0:
        return f"{path} belongs to user {status.st_uid}, not to root"
    if status.st_mode & forbidden:
        return f"{path} is open to others (mode {stat.S_IMODE(status.st_mode):04o})"
    return None


def close(path: Path, mode: str) -> str:
    name = shlex.quote(str(path))
    return f"chown root: {name} && chmod {mode} {name}"
