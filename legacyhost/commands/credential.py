"""``legacyhost credential``: what opens remote accounts, kept on this host under names."""

from __future__ import annotations

import argparse
import getpass
import json
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from legacyhost.commands import Commands
from legacyhost.commands.terminal import print_table
from legacyhost.config import Paths
from legacyhost.credentials import LARGEST, Credential, Store, of_volume
from legacyhost.errors import ConfigError, Failed, InvalidRequest, PluginError
from legacyhost.names import is_name
from legacyhost.ssh.target import Secret
from legacyhost.wire import printable

if TYPE_CHECKING:
    from legacyhost.ssh import keys

#: Characters; as many as the option password= may have.
LONGEST = 1000


def add(commands: Commands) -> None:
    group = commands.group(
        "credential",
        "keep keys and passwords of remote accounts, so that they stand in no option of a volume",
        "legacyhost credential add nas --new-key\n"
        "docker volume create -d sshfs -o sshcmd=web@nas:/srv/web -o credential=nas web",
    )
    one = group.add(
        "add",
        "keep a key or password under a name",
        "legacyhost credential add nas --new-key\n"
        "legacyhost credential add nas --key ~/.ssh/id_ed25519\n"
        "legacyhost credential add nas <password.txt",
        _add,
    )
    one.add_argument("name", metavar="NAME", help="what credential=NAME will say")
    kind = one.add_mutually_exclusive_group()
    kind.add_argument("--key", metavar="FILE", help="a private key; - for standard input; with FILE-cert.pub, if any")
    kind.add_argument("--new-key", action="store_true", help="make a new key and print its line for authorized_keys")
    one.add_argument(
        "--certificate", metavar="FILE", help="the certificate of the key (default: FILE-cert.pub, if any)"
    )
    one.add_argument("--passphrase-file", metavar="FILE", help="the passphrase of the key (default: it is asked for)")
    one.add_argument(
        "--password",
        action="store_true",
        help="a password, asked for or from standard input, beside the key (without a key it is meant anyway)",
    )
    one.add_argument("--replace", action="store_true", help="take the place of the one that has this name")
    group.add("ls", "list what is kept, without what is secret", "legacyhost credential ls", _ls, json=True)
    gone = group.add("rm", "delete what no volume uses", "legacyhost credential rm nas", _rm)
    gone.add_argument("credential", metavar="NAME", help="the name")


def _add(options: argparse.Namespace) -> int:
    from legacyhost.ssh import keys

    name, store = options.name, _store()
    _check_name(options)
    if (options.certificate or options.passphrase_file) and not options.key:
        raise InvalidRequest("--certificate and --passphrase-file belong to --key")
    if options.key == "-" and options.password and not sys.stdin.isatty():
        raise InvalidRequest("standard input cannot be both the key and the password")
    if store.exists(name) and not options.replace:
        raise Failed(f"there is a credential {name} already; to replace it: --replace")
    key = keys.generate() if options.new_key else _key(options) if options.key else None
    certificate = _certificate(options, key.text) if key is not None and options.key else ""
    password = _password(name) if options.password or key is None else None
    credential = Credential(password, key.text if key else None, certificate)
    why_not = store.write(name, credential, replace=options.replace)
    kept = why_not or "root only, encrypted with this host's key (systemd-creds)"
    print(f"Credential {name} is kept: {_describe(credential)}; {kept}.", file=sys.stderr)
    if options.new_key and key is not None:
        print("This line belongs into ~/.ssh/authorized_keys of the remote account:", file=sys.stderr)
        print(key.line(f"legacyhost-{name}@{socket.gethostname()}"))
    return 0


def _ls(options: argparse.Namespace) -> int:
    store, users = _store(), _Users()
    found = [_listed(store, name, users) for name in [*store.names(), *_unused(store)]]
    if options.json:
        print(json.dumps(found, indent=2, ensure_ascii=False))
        return 0
    rows = [
        (
            entry["name"],
            entry["kind"],
            "yes" if entry["encrypted"] else "no",
            ", ".join(users.of(str(entry["name"]))) or "-",
        )
        for entry in found
    ]
    print_table(("NAME", "KIND", "ENCRYPTED", "USED BY"), rows)
    if users.problem:
        print(f"legacyhost: {users.problem}", file=sys.stderr)
    return 0


def _rm(options: argparse.Namespace) -> int:
    store, name = _store(), options.credential
    if not store.exists(name):
        raise Failed(f"there is no credential {printable(name)}; to see them: legacyhost credential ls")
    users = _Users()
    if users.problem:
        raise Failed(f"who uses credential {name} is not known: {users.problem}")
    if found := users.of(name):
        raise Failed(f"credential {name} is used by {', '.join(found[:5])}{' and others' if len(found) > 5 else ''}")
    store.remove(name)
    print(f"Credential {name} is deleted.")
    return 0


def _check_name(options: argparse.Namespace) -> None:
    """Raises InvalidRequest unless it can be a credential's, or is that of a volume's password to be replaced."""
    name = options.name
    if is_name(name):
        return
    if name.startswith("@") and options.replace and not (options.key or options.new_key) and _Users().of(name):
        return
    raise InvalidRequest(
        f"{printable(name)!r} cannot be the name of a credential: letters, digits, '_', '.' and '-', beginning with"
        " a letter or digit"
    )


def _store() -> Store:
    return Store(Paths.from_environment().credentials())


def _unused(store: Store) -> list[str]:
    """Passwords kept for volumes that are no more, by the names under which they can be deleted."""
    users, found = _Users(), []
    for plugin in store.plugins():
        found += [name for volume in store.of_volumes(plugin) if not users.of(name := of_volume(plugin, volume))]
    return [] if users.problem else found


def _listed(store: Store, name: str, users: _Users) -> dict[str, object]:
    """Of one credential all that is not secret."""
    from legacyhost.ssh import keys

    entry: dict[str, object] = {"name": name, "encrypted": False, "used_by": users.of(name)}
    try:
        entry["encrypted"] = store.is_encrypted(name)
        credential = store.read(name)
        entry |= {"kind": _describe(credential), "created": credential.created}
        if credential.key is not None:
            entry["authorized_keys"] = keys.of_text(credential.key).line(f"legacyhost-{name}")
    except PluginError as error:
        entry["kind"] = error.message
    return entry


def _describe(credential: Credential) -> str:
    from legacyhost.ssh import keys

    parts = []
    if credential.key is not None:
        certified = " with certificate" if credential.certificate else ""
        parts.append(f"key {keys.of_text(credential.key).public}{certified}")
    if credential.password is not None:
        parts.append("password")
    return " and ".join(parts) or "nothing"


class _Users:
    """Who names which credential: volumes of all plugins, whether those run or not, and their configurations.

    ``problem`` says why that is not known of all of them; empty if it is.
    """

    def __init__(self) -> None:
        self.problem = ""
        self._found: dict[str, list[str]] = {}
        paths = Paths.from_environment()
        try:
            directories = sorted(path for path in paths.state.iterdir() if path.is_dir() and is_name(path.name))
        except FileNotFoundError:
            directories = []
        except OSError as error:
            directories, self.problem = [], f"{paths.state} cannot be read: {error.strerror}"
        for directory in directories:
            self._read_record(directory)
        for plugin in paths.plugins():
            self._read_configuration(paths.configuration(plugin))

    def of(self, name: str) -> list[str]:
        return self._found.get(name, [])

    def _read_record(self, directory: Path) -> None:
        from legacyhost import record, state
        from legacyhost.drivers.accounts import KEPT

        try:
            rows = state.load(directory).rows
        except record.Missing:
            return
        except record.Unusable as error:
            self.problem = f"{directory / state.FILE} {error}"
            return
        for row in rows:
            volume, options, _, facts = record.fields(row)
            if "credential" in options:
                self._add(options["credential"], f"volume {volume} of {directory.name}")
            if KEPT in facts:
                self._add(of_volume(directory.name, volume), f"volume {volume} of {directory.name}")

    def _read_configuration(self, path: Path) -> None:
        from legacyhost import config

        try:
            loaded = config.load(path)
        except ConfigError as error:
            self.problem = error.message
            return
        section, authz = loaded.volume or config.NO_VOLUMES, loaded.authz or config.AuthzConfig()
        for named in (section.defaults, *section.remote.values(), authz.account):
            if "credential" in named and str(path) not in self.of(named["credential"]):
                self._add(named["credential"], str(path))

    def _add(self, name: str, user: str) -> None:
        self._found.setdefault(name, []).append(user)


def _key(options: argparse.Namespace) -> keys.PrivateKey:
    from legacyhost.ssh import keys
    from legacyhost.ssh.keyfiles import is_encrypted

    shown = "the key" if options.key == "-" else options.key
    data = _content(options.key)
    passphrase = None
    if options.passphrase_file:
        passphrase = _secret(_content(options.passphrase_file), "the passphrase")
    elif is_encrypted(data):
        passphrase = _ask(f"Passphrase of {shown}: ", "the passphrase", "--passphrase-file")
    return keys.read(data, passphrase, printable(shown))


def _certificate(options: argparse.Namespace, key: Secret) -> str:
    """The line of the certificate; empty if there is none."""
    from legacyhost.ssh import keys

    path = options.certificate or f"{options.key}-cert.pub"
    if not options.certificate and (options.key == "-" or not Path(path).is_file()):
        return ""
    line = _content(path).decode("utf-8", "replace").strip()
    keys.certified(key, line, printable(path))
    return line


def _password(name: str) -> Secret:
    if sys.stdin is not None and sys.stdin.isatty():
        return _ask(f"Password for {name}: ", "the password", "standard input")
    password = _secret(_content("-"), "the password")
    if password.reveal().startswith("-----BEGIN"):
        raise InvalidRequest("this is a private key; give it with --key -")
    return password


def _ask(question: str, what: str, otherwise: str) -> Secret:
    """From the terminal, even where standard input is something else. Raises Failed."""
    try:
        with Path("/dev/tty").open("rb"):  # getpass would take standard input, and show what is typed
            return _secret(getpass.getpass(question).encode("utf-8", "surrogateescape"), what)
    except OSError as error:
        raise Failed(f"there is no terminal on which {what} could be asked for; give it with {otherwise}") from error
    except EOFError as error:
        raise Failed(f"{what} was not given; nothing is kept") from error


def _secret(data: bytes, what: str) -> Secret:
    """One line; its end is not part of it. Raises InvalidRequest."""
    try:
        text = data.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{what} is not UTF-8 text") from error
    if "-----BEGIN" not in text and any(character in text for character in "\n\r\0"):
        raise InvalidRequest(f"{what} has more than one line, or a NUL in it")
    if not text:
        raise InvalidRequest(f"{what} is empty; nothing is kept")
    if len(text) > LONGEST and "-----BEGIN" not in text:
        raise InvalidRequest(f"{what} has more than {LONGEST} characters")
    return Secret(text)


def _content(path: str) -> bytes:
    """Of a file, or of standard input for ``-``. Raises Failed."""
    try:
        if path == "-":
            return sys.stdin.buffer.read(LARGEST) if sys.stdin is not None else b""
        with Path(path).open("rb") as file:
            return file.read(LARGEST)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "that is no file name"
        raise Failed(f"{printable(path)} cannot be read: {why}") from error
