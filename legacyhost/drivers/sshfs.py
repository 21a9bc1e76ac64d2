"""A directory on an SSH host as a volume: the bytes go through sshfs over OpenSSH, paramiko does the rest.

paramiko is loaded when the network is first used, not before.
"""

from __future__ import annotations

import os
import posixpath
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from legacyhost import log, transport
from legacyhost.deadline import Deadline
from legacyhost.drivers import Connection, Facts, Sharing
from legacyhost.drivers import sshfs_options as table
from legacyhost.drivers.accounts import KEPT, Accounts, merged
from legacyhost.drivers.sharing import SharedConnections, remove
from legacyhost.drivers.ssh_files import objection, write, write_target
from legacyhost.errors import InvalidRequest, PluginError, Refused
from legacyhost.mounts import PROGRAM, SERIAL, SOURCE, Companion, MountCommand
from legacyhost.ssh import hostkeys
from legacyhost.ssh.keyfiles import is_encrypted_file
from legacyhost.ssh.target import HostKey, Target
from legacyhost.ssh.wording import clean
from legacyhost.state import Volume, now
from legacyhost.transport.record import Record
from legacyhost.unchanged import Files

TRANSPORT = Path(transport.__file__).parent
#: AES with hardware support first (twice as fast as the default), the secure rest as fall-backs.
CIPHERS = "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,aes256-ctr,aes128-ctr"
SSH_DEFAULTS = {
    "Ciphers": CIPHERS,
    "Compression": "no",
    "ConnectTimeout": "10",
    "ConnectionAttempts": "1",
}
FUSE_DEFAULTS = {"allow_other": "true", "reconnect": "true"}
PLACEHOLDER = "{volume}"
IN_DOCKERS_RECORD = (
    "what was given as password= stands in Docker's own record, where docker volume inspect shows it; better:"
    " legacyhost credential add {0}{1}, and the volume made anew with credential={0} in its place"
)
#: Options whose defaults count when a volume is created, and not afterwards.
SETTLED = ("on_remove", "host_key", "jump")


class SshfsDriver:
    """Volumes of the kind ``sshfs``.

    ``known_hosts`` are the files host keys are looked up in, in order. ``defaults`` are options for volumes that do
    not give them, in their normal form; of these, ``sshcmd`` may contain {volume}.
    """

    secret_option = "password"  # noqa: S105 - its name

    def __init__(self, known_hosts: Sequence[Path], defaults: Mapping[str, str], accounts: Accounts) -> None:
        self._known_hosts = tuple(known_hosts)
        self._defaults = dict(defaults)
        self._accounts = accounts
        self._shared = SharedConnections()
        self._connections = Files(_connection)

    def parse(self, name: str, given: Mapping[str, str]) -> Mapping[str, str]:
        options = table.TABLE.parse(given)
        if "sshcmd" not in options:
            if "sshcmd" not in self._defaults:
                raise InvalidRequest(f"volume {name} needs the option sshcmd=[user@]host:[path], the remote directory")
            options["sshcmd"] = self._defaults["sshcmd"].replace(PLACEHOLDER, name)
        # Settled now: a default that is changed later must neither delete the data of volumes that are there already,
        # nor delete it elsewhere, behind another jump host, nor pin a key that was never compared.
        for name_of_default in SETTLED:
            if name_of_default in self._defaults:
                options.setdefault(name_of_default, self._defaults[name_of_default])
        if options.get("on_remove") == "purge":
            options.setdefault("port", self._effective(options)["port"])
        if "credential" in options and (other := {"password", "IdentityFile"} & options.keys()):
            raise InvalidRequest(f"credential= says what to log in with, and so does {'= and '.join(sorted(other))}=")
        _, _, path = table.split_sshcmd(options["sshcmd"])
        first = posixpath.normpath(path or ".").lstrip("/").partition("/")[0]
        if options.get("on_remove") == "purge" and first in ("", ".", ".."):
            raise InvalidRequest(
                "on_remove=purge needs a directory of the volume's own in sshcmd, not the account's home, the root or"
                " what is above them"
            )
        return options

    def timeout(self, options: Mapping[str, str]) -> float:
        return float(self._effective(options)["timeout"])

    def prepare(self, volume: Volume, deadline: Deadline) -> Facts:
        return self._look(volume, deadline, create=self._effective(volume.options)["create"] == "true")

    def _look(self, volume: Volume, deadline: Deadline, *, create: bool) -> Facts:
        from legacyhost.ssh.remote import Remote

        options = self._effective(volume.options)
        given = {
            name: value for name, value in _of_ssh(options).items() if name in {**self._defaults, **volume.options}
        }
        if given and (what := objection(given, deadline)):
            raise InvalidRequest(f"the ssh of this host refuses an option of volume {volume.name}: {clean(what)}")
        target = self.target(volume)
        with Remote.connect(target, self._known_hosts, deadline) as remote:
            remote.ensure_directory(target.path, create=create)
            space = remote.free_space(target.path)
            facts = {
                "path": remote.real_path(target.path),
                "host_key_kind": remote.host_key.kind,
                "host_key_blob": remote.host_key.blob,
                "host_key": remote.host_key.fingerprint,
                "checked": now().isoformat(),
            }
        # The login has read the key files just now, and would have said so if that had taken its time.
        encrypted = [path for path in target.identity_files if target.password and is_encrypted_file(path)]
        if encrypted:
            facts["encrypted_key"] = encrypted[0]
        if space is not None:
            facts["free"] = f"{space.free_bytes / 2**30:.1f} of {space.total_bytes / 2**30:.1f} GiB"
        return facts

    def command(self, volume: Volume, mountpoint: Path, folder: Path) -> MountCommand:
        options = self._effective(volume.options)
        target = self.target(volume)
        configuration, environment = self._write(volume, target, options, folder)
        return MountCommand(
            argv=[
                "sshfs",
                "-f",
                "-F",
                str(configuration),
                "-o",
                ",".join(_fuse_options(options)),
                f"{target.user}@{target.host}:{target.path}",
                str(mountpoint),
            ],
            description=f"Volume {volume.name} ({target.user}@{target.host})",
            environment={**environment, **_transport(options, target.user, folder, mountpoint)},
            package=TRANSPORT,
        )

    def sharing(self, volume: Volume, root: Path) -> Sharing | None:
        options = self._effective(volume.options)
        if options["connection"] == "dedicated":
            return None
        target = self.target(volume)
        account = f"{target.user}@{target.host}"
        folder, made = self._shared.folder(root, account, lambda path: self._write(volume, target, options, path))
        variables = {"LEGACYHOST_SHARED": str(folder)}
        if made is None:
            return Sharing(variables, None)
        configuration, environment = made
        ssh = ["-x", "-a", "-F", str(configuration), account, "-s", "sftp"]
        argv = [sys.executable, "-I", "-S", PROGRAM, "--shared", str(folder), *ssh]
        what = f"Shared connection of {account}"
        return Sharing(variables, Companion(folder, argv, what, environment, TRANSPORT, lambda: remove(folder)))

    def connection(self, folder: Path, source: str) -> Connection | None:
        try:
            return self._connections.get(_record(folder, source.rpartition(":")[2]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is damaged"
            return Connection(
                is_up=False, since=now(), reconnects=0, used=now(), error=f"its record cannot be read: {why}"
            )

    def explain(self, volume: Volume, deadline: Deadline) -> PluginError | None:
        try:
            # Nothing is made: where a disk is missing on the remote host, an empty directory would hide it.
            self._look(volume, deadline, create=False)
        except PluginError as error:
            return error
        return None

    def removal(self, volume: Volume, others: Callable[[], Sequence[Volume]]) -> None:
        if volume.options.get("on_remove") != "purge":
            return
        for other in others():
            if self._shares_place(volume, other):
                raise Refused(
                    f"volume {volume.name} was created with on_remove=purge, and volume {other.name} has its data in"
                    f" the same remote directory; remove {other.name} first if its data may be deleted"
                )

    def remove(self, volume: Volume, deadline: Deadline) -> None:
        if volume.options.get("on_remove") != "purge":
            return
        from legacyhost.ssh.remote import Remote

        target = self.target(volume)
        with Remote.connect(target, self._known_hosts, deadline) as remote:
            remote.purge(target.path)

    def keep(self, volume: Volume) -> Volume:
        kept, why_not = self._accounts.keep(volume)
        if kept is not volume:
            log.event(log.WARNING, f"volume {volume.name}: {_in_dockers_record(volume)}", {"VOLUME": volume.name})
        if why_not:
            log.event(log.WARNING, f"the password of volume {volume.name}: {why_not}", {"VOLUME": volume.name})
        return kept

    def is_same(self, volume: Volume, options: Mapping[str, str]) -> bool:
        return self._accounts.is_same(volume, options)

    def forget(self, name: str) -> None:
        self._accounts.forget(name)

    def target(self, volume: Volume) -> Target:
        """The volume's directory with what opens it. Raises Failed where that cannot be had."""
        has_password = KEPT in volume.facts
        return self._accounts.target(volume, self._effective(volume.options, has_password=has_password))

    def describe(self, volume: Volume) -> Mapping[str, object]:
        described: dict[str, object] = {"remote": str(self._place(volume))}
        if "host_key" in volume.facts:
            described["host key"] = volume.facts["host_key"]
        if "free" in volume.facts:
            described["free at creation"] = volume.facts["free"]
        if KEPT in volume.facts:
            described["warning"] = _in_dockers_record(volume)
        return described

    def _write(
        self, volume: Volume, target: Target, options: Mapping[str, str], folder: Path
    ) -> tuple[Path, dict[str, str]]:
        """The files ssh needs, and its environment; as write_target()."""
        known_hosts = list(self._known_hosts)
        chosen = dict(options)
        if target.host_key is not None:
            pinned = HostKey(volume.facts["host_key_kind"], volume.facts["host_key_blob"])
            known_hosts = [folder / "known_hosts"]
            write(known_hosts[0], hostkeys.only(pinned, self._known_hosts, target.host, target.port))
            # ssh would rather see another key of the server's, if that has a certificate.
            chosen.setdefault("HostKeyAlgorithms", ",".join(hostkeys.ALGORITHMS[pinned.kind]))
        return write_target(
            folder,
            target,
            {"target": known_hosts, "jump": self._known_hosts},
            _of_ssh(chosen),
            is_passphrase="encrypted_key" in volume.facts,
        )

    def _effective(self, options: Mapping[str, str], *, has_password: bool = False) -> dict[str, str]:
        """The volume's own options over the configured defaults over those of the table."""
        declared = {option.name: option.default for option in table.OWN if option.default}
        later = {name: value for name, value in self._defaults.items() if name not in SETTLED}
        chosen = {**declared, **SSH_DEFAULTS, **FUSE_DEFAULTS, **merged(later, options, has_password=has_password)}
        return {**_keep_alive(int(chosen["fail_after"])), **table.CACHE[chosen["cache"]], **chosen}

    def _place(self, volume: Volume) -> Target:
        return self._accounts.place(self._effective(volume.options))

    def _shares_place(self, one: Volume, other: Volume) -> bool:
        """Whether one's directory is the other's, or contains it, whoever logs in, under whatever name of the host.

        They are on two hosts only if those have different keys of one kind: of one host, two may have been seen.
        """
        first, second = self._place(one), self._place(other)
        is_one_name = (first.host.lower(), first.port) == (second.host.lower(), second.port)
        has_other_keys = (
            one.facts.get("host_key_kind") == other.facts.get("host_key_kind")
            and one.facts["host_key"] != other.facts["host_key"]
        )
        is_one_host = is_one_name or not has_other_keys
        paths = one.facts["path"], other.facts["path"]
        if not all(path.startswith("/") for path in paths):
            return is_one_host  # a server has said nonsense once; nothing is deleted on its word
        return is_one_host and posixpath.commonpath(paths) in paths


def _in_dockers_record(volume: Volume) -> str:
    """The warning; a passphrase is no password of the account's, and no server is ever to see it."""
    key = volume.facts.get("encrypted_key", "")
    return IN_DOCKERS_RECORD.format(volume.name, f" --key {shlex.quote(key)}" if key else "")


def _of_ssh(options: Mapping[str, str]) -> dict[str, str]:
    """Those for ssh_config(5); that host keys are checked stands there anyway."""
    return {name: options[name] for name in table.SSH_VALUES if name in options and name != "StrictHostKeyChecking"}


def _fuse_options(options: Mapping[str, str]) -> list[str]:
    """What goes behind sshfs's -o. No value can have a comma in it: the table sees to that."""
    chosen = [f"fsname={SOURCE}", f"ssh_command={sys.executable} -I -S {PROGRAM}"]
    chosen += [*(name for name in table.FUSE_FLAGS if options.get(name) == "true")]
    chosen += [f"{name}={options[name]}" for name in (*table.FUSE_VALUES, "uid", "gid", "umask") if name in options]
    if "true" in (options.get("read_only"), options.get("ro")):
        chosen.append("ro")
    return chosen


def _transport(options: Mapping[str, str], user: str, folder: Path, mountpoint: Path) -> dict[str, str]:
    """What the transport is told, in its environment: sshfs cuts ``ssh_command=`` at spaces and knows no quotes."""
    return {
        "LEGACYHOST_RECORD": _record(folder, SERIAL),
        "LEGACYHOST_MOUNTPOINT": str(mountpoint),
        "LEGACYHOST_SOURCE": SOURCE,
        "LEGACYHOST_FAIL_AFTER": options["fail_after"],
        "LEGACYHOST_SILENCE": str(int(options["ServerAliveInterval"]) * (int(options["ServerAliveCountMax"]) + 1)),
        # Root's changes of owner are real ones.
        "LEGACYHOST_CHOWN": "strict" if user == "root" else options["chown"],
    }


def _record(folder: Path, serial: str) -> str:
    """One for each mount, so that one that is ending writes into no other's."""
    return f"{folder}/connection.{serial}"


def _connection(path: str, found: os.stat_result) -> Connection | None:
    record = Record.read(path)
    if not record.connections:
        return None
    return Connection(
        is_up=not record.lost,
        since=_moment(record.lost_at or record.connected_at),
        reconnects=record.reconnects,
        used=datetime.fromtimestamp(found.st_mtime, UTC),
        error=record.error,
        error_at=_moment(record.error_at) if record.error else None,
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=0)


def _keep_alive(fail_after: int) -> dict[str, str]:
    """ssh gives up at the end of the interval that follows the last of the unanswered ones."""
    return {"ServerAliveInterval": str(max(1, fail_after // 3)), "ServerAliveCountMax": "2"}
