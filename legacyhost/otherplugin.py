"""The state file of vieux/sshfs and of its fork ucphhpc/sshfs: how it is read, and what its volumes are in our terms.

From their code: a JSON object from the name of a volume to its fields. ``Sshcmd`` (``SSHCmd`` in the fork), ``Port``,
``Password``; ``Options``, what stood behind ``-o`` of sshfs; in the fork ``IdentityFile`` and ``OneTime`` too, and in
older versions of it ``IDRsa``, a private key itself. Paths are as the plugin saw them in its container.
"""

from __future__ import annotations

import errno
import json
import os
import posixpath
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from legacyhost.disk import reason
from legacyhost.drivers import sshfs_options as table
from legacyhost.errors import Failed, InvalidRequest, PluginError
from legacyhost.names import check_volume_name
from legacyhost.ssh.keyfiles import LARGEST as LARGEST_KEY
from legacyhost.ssh.target import Secret
from legacyhost.wire import printable

#: Where that plugin has it unless told otherwise (its setting state.source).
USUAL = "/var/lib/docker/plugins/sshfs-state.json"
#: Bytes; ten thousands of volumes.
LARGEST = 16 * 1024 * 1024
#: The keys ssh tried in the directory that the plugin was given (its setting sshkey.source), in its order.
DEFAULT_KEYS = ("id_rsa", "id_ecdsa", "id_ed25519")

_KNOWN = (
    *("name", "sshcmd", "port", "password", "options", "identityfile", "idrsa", "onetime"),
    *("mountpoint", "createdat", "refcount"),
)
#: Names that sshfs 2 had.
_RENAMED = {
    "cache": "dir_cache",
    "cache_max_size": "dcache_max_size",
    "cache_timeout": "dcache_timeout",
    "cache_stat_timeout": "dcache_stat_timeout",
    "cache_dir_timeout": "dcache_dir_timeout",
    "cache_link_timeout": "dcache_link_timeout",
}
_CHECKED = "the host's key is always checked here"
_NEEDLESS = "it means nothing here"
#: What is left out, with a note.
_LEFT_OUT = {
    **dict.fromkeys(
        ("stricthostkeychecking", "userknownhostsfile", "globalknownhostsfile", "checkhostip", "updatehostkeys"),
        _CHECKED,
    ),
    **dict.fromkeys(("batchmode", "identitiesonly", "loglevel", "debug", "sshfs_debug", "password_stdin"), _NEEDLESS),
}
#: Of the options that are not sshfs's or ssh's, those that both plugins have in the same sense.
_SHARED = ("IdentityFile", "port", "uid", "gid", "umask")
_OURS = {option.name.lower() for option in table.OWN if option.name not in _SHARED} - _RENAMED.keys()


@dataclass(frozen=True)
class Found:
    """One volume: what it would be here, or why it cannot be.

    ``options`` are in the normal form, without secrets. ``password`` and ``key``, a private key in OpenSSH's form
    without passphrase, are what it logs in with. ``notes`` say what means something else here, ``refusal`` why
    nothing can be made of it.
    """

    name: str
    options: Mapping[str, str] = field(default_factory=dict)
    password: Secret | None = None
    key: Secret | None = None
    notes: tuple[str, ...] = ()
    refusal: str = ""


def read(path: Path) -> tuple[Mapping[str, object], bool]:
    """The volumes by name, and whether users other than its owner can read the file. Raises Failed."""
    shown = printable(str(path), 300)
    data, is_open = _content(path, shown, LARGEST, f"; the other plugin has its state in {USUAL}")
    if not data.strip():
        raise Failed(f"{shown} is empty: there are no volumes in it")
    try:
        value = json.loads(data.decode("utf-8"), object_pairs_hook=lambda pairs: _object(pairs, shown))
    except (ValueError, RecursionError) as error:
        raise Failed(f"{shown} is not JSON, so it is not the state file of vieux/sshfs or its fork") from error
    if value is None:
        return {}, is_open
    if not isinstance(value, dict):
        raise Failed(f"{shown} is not the state file of vieux/sshfs or its fork: that is a JSON object, {{…}}")
    return value, is_open


def translate(name: str, fields: object, keys: Sequence[Path]) -> Found:
    """One volume of the file. ``keys`` are directories in which the keys are that the plugin saw elsewhere."""
    try:
        check_volume_name(name)
        return _translated(name, _Fields(fields), keys)
    except PluginError as error:
        return Found(name, refusal=error.message)


def _translated(name: str, fields: _Fields, keys: Sequence[Path]) -> Found:
    notes: list[str] = []
    options = {"sshcmd": fields.text("Sshcmd")}
    if not options["sshcmd"]:
        raise InvalidRequest("it has no Sshcmd, so there is no remote directory")
    if port := fields.text("Port"):
        options["port"] = port
    for option in fields.texts("Options"):
        for part in re.findall(r"(?:\\.|[^,])+", option, re.DOTALL):  # sshfs takes several, separated by commas
            _add(options, re.sub(r"\\(.)", r"\1", part), notes)
    identity = fields.text("IdentityFile") or options.pop("IdentityFile", "")
    password = fields.text("Password")
    key = None
    if inline := fields.text("IDRsa"):
        key = _key(inline.encode("utf-8", "replace"), "its private key")
    elif identity:
        key = _key_of_path(identity, keys)
        if key is None:
            options["IdentityFile"] = _on_this_host(identity)
    elif not password:
        key = _default_key(keys, notes)
    if fields.flag("OneTime"):
        notes.append("its key was to be deleted with it: here nothing is (legacyhost credential rm)")
    notes += [f"its field {printable(unknown)} is left out: nobody knows what it means" for unknown in fields.unknown()]
    options["create"] = "false"  # what is missing on the remote host is a mistake, and not to be covered up
    parsed = table.TABLE.parse({**options, **({"password": password} if password else {})})
    parsed.pop("password", None)
    return Found(name, parsed, Secret(password) if password else None, key, tuple(notes))


def _add(options: dict[str, str], part: str, notes: list[str]) -> None:
    """One option as sshfs was given it. Raises InvalidRequest where it cannot be had."""
    given, _, value = part.strip().partition("=")
    shown = printable(part.strip())
    lower = given.lower()
    if lower in _OURS:
        raise InvalidRequest(f"option {printable(given)} is none that the other plugin had")
    if lower in _LEFT_OUT and not (lower == "stricthostkeychecking" and value.lower() == "yes"):
        notes.append(f"{shown} is left out: {_LEFT_OUT[lower]}")
        return
    if lower == "noauto_cache":
        given, value = "auto_cache", "false"
    if lower in _RENAMED:
        given = _RENAMED[lower]
        notes.append(f"{shown} is called {given} now")
    name = next((name for name in table.TABLE.all if name.lower() == given.lower()), given)
    if options.setdefault(name, value) != value:
        raise InvalidRequest(f"option {printable(name)} is there twice, with different values")


class _Fields:
    """The fields of one volume; upper and lower case are the same, as they are to Go's encoding/json."""

    def __init__(self, value: object) -> None:
        if not isinstance(value, dict):
            raise InvalidRequest("what the file has for it is not an object")
        self._values: dict[str, object] = {}
        for name, item in value.items():
            if name.lower() in self._values:
                raise InvalidRequest(f"its field {printable(name)} is there twice")
            self._values[name.lower()] = item

    def text(self, name: str) -> str:
        value = self._values.get(name.lower())
        if value is not None and not isinstance(value, str):
            raise InvalidRequest(f"its field {name} is not a string")
        return value or ""

    def texts(self, name: str) -> list[str]:
        value = self._values.get(name.lower())
        if value is None:
            return []
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise InvalidRequest(f"its field {name} is not a list of strings")
        return list(value)

    def flag(self, name: str) -> bool:
        value = self._values.get(name.lower())
        if value is not None and not isinstance(value, bool):
            raise InvalidRequest(f"its field {name} is neither true nor false")
        return bool(value)

    def unknown(self) -> list[str]:
        return [name for name in self._values if name not in _KNOWN]


def _key_of_path(path: str, directories: Sequence[Path]) -> Secret | None:
    """The key of that name in the first of these directories that has one."""
    name = posixpath.basename(path)
    for directory in directories:
        file = directory / name
        if name not in ("", ".", "..") and os.path.isfile(file):  # noqa: PTH113 - a question that has no errors
            shown = f"the key {printable(str(file), 300)}"
            return _key(_content(file, shown, LARGEST_KEY)[0], shown)
    return None


def _default_key(directories: Sequence[Path], notes: list[str]) -> Secret | None:
    """Where nothing was named the other plugin's ssh tried the keys of the directory it was given."""
    for name in DEFAULT_KEYS:
        if key := _key_of_path(name, directories):
            notes.append(f"it names no key: {name} is taken")
            return key
    notes.append("it names neither key nor password: what the configuration has for its host, or root's own keys")
    return None


def _on_this_host(path: str) -> str:
    """A path that can stay as it is. Raises InvalidRequest where there is nothing."""
    path = f"/root/{path.removeprefix('~/')}" if path.startswith("~/") else path
    if not os.path.isfile(path):  # noqa: PTH113 - a question that has no errors
        inside = path.startswith("/mnt/")
        where = "/var/lib/docker/plugins/ID/propagated-mount" if inside else "its setting sshkey.source"
        raise InvalidRequest(
            f"its key {printable(path)} is not on this host: the plugin saw another directory there ({where});"
            " give that with --keys"
        )
    return path


def _key(data: bytes, shown: str) -> Secret:
    from legacyhost.ssh import keys

    try:
        return keys.read(data, None, shown).text
    except Failed as error:
        raise Failed(f"{error.message}; make a credential of it by hand: legacyhost credential add") from error


def _content(path: Path, shown: str, limit: int, hint: str = "") -> tuple[bytes, bool]:
    """What a file has in it, and whether others can read it. Raises Failed; ``hint`` is for one that is not there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_NOCTTY)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise Failed(f"{shown} is not a file")
            with open(descriptor, "rb", closefd=False) as file:
                data = file.read(limit + 1)
        finally:
            os.close(descriptor)
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:
        raise Failed(f"there is no {shown}{hint}") from error
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise Failed(f"{shown} is a symbolic link: give the file itself") from error
        raise Failed(f"{shown} cannot be read: {reason(error)}") from error
    if len(data) > limit:
        raise Failed(f"{shown} has more than {limit // 1024} KiB, so it is something else")
    return data, bool(status.st_mode & 0o044)


def _object(pairs: list[tuple[str, object]], shown: str) -> dict[str, object]:
    """An object of JSON in which each name is there once: of two, nobody knows which one counts."""
    made: dict[str, object] = {}
    for name, value in pairs:
        if name in made:
            raise Failed(f"{shown} has {printable(name)!r} twice in the same object; mend that first")
        made[name] = value
    return made
