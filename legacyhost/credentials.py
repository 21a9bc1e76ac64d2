"""Secrets of remote accounts, kept by name on this host: root only, and encrypted by systemd where it can.

A file each in /etc/legacyhost/credentials; what volumes were given as ``password=`` is in a folder ``@PLUGIN`` there,
under the volume's name. A file is a JSON object, or that as systemd-creds(1) has encrypted it with the host's key.
Not with the TPM: a secret must not be lost because the firmware was updated.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import stat
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from legacyhost import disk
from legacyhost.errors import Failed, InvalidRequest
from legacyhost.names import is_name
from legacyhost.ssh.target import Secret
from legacyhost.wire import printable

#: Bytes of a file, and of a secret, that are plausible.
LARGEST = 256 * 1024
#: Seconds for systemd-creds, which takes ten milliseconds.
PATIENCE = 5.0
PROGRAM = "systemd-creds"
_NAME = "legacyhost"
#: How files begin that are not complete yet.
_DRAFT = ".new-"
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
_FIELDS = ("password", "key", "certificate", "created")


@dataclass(frozen=True)
class Credential:
    """What opens an account: a password, or a private key in OpenSSH's form without passphrase, or both.

    ``certificate`` is the key's, a line as in a ``-cert.pub`` file; ``created`` is ISO 8601 with zone.
    """

    password: Secret | None = None
    key: Secret | None = None
    certificate: str = ""
    created: str = field(default_factory=lambda: datetime.now(UTC).replace(microsecond=0).isoformat())


class Store:
    """The credentials in one directory. Safe to use from many threads and processes."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def names(self) -> list[str]:
        """Those that were added by name, sorted. Raises Failed."""
        return self._names(self._directory)

    def plugins(self) -> list[str]:
        """Those for whose volumes passwords are kept, or have been. Raises Failed."""
        try:
            return sorted(
                entry.name[1:]
                for entry in os.scandir(self._directory)
                if is_name(entry.name[1:]) and entry.name[0] == "@"
            )
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Failed(f"the credentials in {self._directory} cannot be listed: {_reason(error)}") from error

    def of_volumes(self, plugin: str) -> list[str]:
        """The volumes of a plugin for which a password is kept, sorted. Raises Failed."""
        return self._names(self._directory / f"@{plugin}")

    def _names(self, directory: Path) -> list[str]:
        try:
            found = [entry.name for entry in os.scandir(directory) if entry.is_file(follow_symlinks=False)]
        except FileNotFoundError:
            return []
        except OSError as error:
            raise Failed(f"the credentials in {directory} cannot be listed: {_reason(error)}") from error
        return sorted(name for name in found if is_name(name))

    def exists(self, name: str) -> bool:
        return os.path.lexists(self._path(name))

    def missing(self, name: str) -> Failed:
        """What is to be said where there is none."""
        return Failed(f"there is no {_shown(name)}; {_again(name, 'make it')}")

    def is_encrypted(self, name: str) -> bool:
        """Whether it stands encrypted on the disk. Raises Failed."""
        return not self._content(name).lstrip().startswith(b"{")

    def read(self, name: str) -> Credential:
        """Raises Failed with what to do, also where there is none."""
        data = self._content(name)
        if not data.lstrip().startswith(b"{"):
            data = _systemd_creds("decrypt", data, f"{_shown(name)} cannot be decrypted on this machine", _again(name))
        try:
            found = json.loads(data)
            if not isinstance(found, dict) or not all(isinstance(found.get(key, ""), str) for key in _FIELDS):
                raise ValueError
        except (ValueError, RecursionError) as error:
            raise Failed(f"{_shown(name)} in {self._path(name)} is damaged; {_again(name)}") from error
        password, key = (Secret(found[part]) if found.get(part) else None for part in ("password", "key"))
        return Credential(password, key, found.get("certificate", ""), found.get("created", ""))

    def write(self, name: str, credential: Credential, *, replace: bool = False) -> str:
        """Durable when it returns: why it is not encrypted, empty if it is. Raises Failed.

        With ``replace`` it takes the place of one that is there, which is an error otherwise.
        """
        path = self._path(name)
        values = {
            "password": credential.password.reveal() if credential.password else "",
            "key": credential.key.reveal() if credential.key else "",
            "certificate": credential.certificate,
            "created": credential.created,
        }
        plain = json.dumps({key: value for key, value in values.items() if value}).encode()
        data, why_not = _encrypted(plain)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with disk.lock(path.parent):
                self._write(path, data, replace=replace)
        except FileExistsError as error:
            raise Failed(
                f"there is a {_shown(name)} already; to replace it: legacyhost credential add --replace {name}"
            ) from error
        except OSError as error:
            restart = (
                "; if that directory is new: systemctl try-restart 'legacyhost@*.service'"
                if error.errno == errno.EROFS
                else ""
            )
            raise Failed(f"{_shown(name)} cannot be written in {path.parent}: {_reason(error)}{restart}") from error
        return why_not

    def _write(self, path: Path, data: bytes, *, replace: bool) -> None:
        """Raises OSError. Who calls has the directory's lock."""
        for left in path.parent.glob(f"{_DRAFT}*"):
            left.unlink()  # by somebody who was interrupted
        draft = path.with_name(f"{_DRAFT}{secrets.token_hex(8)}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                draft.replace(path)
            else:
                os.link(draft, path)  # fails where there is one by now
        finally:
            draft.unlink(missing_ok=True)
        disk.sync(path.parent)

    def remove(self, name: str) -> None:
        """Nothing happens where there is none. Raises Failed."""
        path = self._path(name)
        try:
            path.unlink(missing_ok=True)
            with suppress(FileNotFoundError):
                disk.sync(path.parent)
        except OSError as error:
            raise Failed(f"{_shown(name)} cannot be removed from {path.parent}: {_reason(error)}") from error

    def _path(self, name: str) -> Path:
        plugin, slash, volume = name.removeprefix("@").partition("/")
        parts = (plugin, volume) if name.startswith("@") and slash else (name,)
        if not all(is_name(part) for part in parts):
            raise InvalidRequest(f"{printable(name)!r} cannot be the name of a credential")
        return self._directory / name

    def _content(self, name: str) -> bytes:
        path = self._path(name)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "rb") as file:
                status = os.fstat(descriptor)
                if not stat.S_ISREG(status.st_mode):
                    raise Failed(f"{_shown(name)}, {path}, is not a file; {_again(name)}")
                if status.st_mode & 0o077:
                    raise Failed(f"{_shown(name)} is open to others: chmod 600 {path}")
                return file.read(LARGEST)
        except FileNotFoundError as error:
            raise self.missing(name) from error
        except OSError as error:
            raise Failed(f"{_shown(name)} cannot be read from {path}: {_reason(error)}") from error


def of_volume(plugin: str, volume: str) -> str:
    """The name under which the password is kept that the volume was created with."""
    return f"@{plugin}/{volume}"


def _reason(error: OSError) -> str:
    is_for_root = error.errno in (errno.EACCES, errno.EPERM) and os.geteuid() != 0
    return f"{disk.reason(error)}; try sudo" if is_for_root else disk.reason(error)


def _shown(name: str) -> str:
    return f"password kept for volume {name.partition('/')[2]}" if name.startswith("@") else f"credential {name}"


def _again(name: str, what: str = "give it again") -> str:
    replace = "--replace " if what == "give it again" or name.startswith("@") else ""
    return f"to {what}: legacyhost credential add {replace}{name}"


def _encrypted(plain: bytes) -> tuple[bytes, str]:
    """As systemd encrypts it; the same again where it cannot, and why."""
    try:
        return _systemd_creds("encrypt", plain, "it cannot be encrypted", "it is kept as it is, root only"), ""
    except Failed as error:
        return plain, error.message


def _systemd_creds(verb: str, data: bytes, failure: str, remedy: str) -> bytes:
    """What it makes of the data, by way of pipes: nothing secret in its arguments. Raises Failed."""
    key = ["--with-key=host"] if verb == "encrypt" else []
    why = ""
    try:
        ran = subprocess.run(
            [PROGRAM, verb, *key, f"--name={_NAME}", "-", "-"],
            input=data,
            capture_output=True,
            timeout=PATIENCE,
            env=_ENVIRONMENT,
            check=False,
        )
        if ran.returncode == 0 and ran.stdout:
            return ran.stdout
        said = ran.stderr.decode(errors="replace").strip().splitlines()
        why = printable(said[-1]) if said else f"status {ran.returncode}"
    except subprocess.TimeoutExpired:
        raise Failed(f"{failure} now: {PROGRAM} has not ended within {PATIENCE:.0f} s") from None
    except OSError as error:
        why = _reason(error)
    raise Failed(f"{failure} ({PROGRAM}: {why}); {remedy}")
