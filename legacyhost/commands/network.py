"""``legacyhost pki`` and ``spec``: what a plugin and an engine on another host need to find and to know each other."""

from __future__ import annotations

import argparse
import io
import ipaddress
import json
import os
import re
import sys
import tarfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from legacyhost import config as configuration
from legacyhost.commands import Commands
from legacyhost.config import ListenConfig, Paths
from legacyhost.errors import ConfigError, Failed, InvalidRequest
from legacyhost.names import is_name
from legacyhost.wire import printable

#: Where an engine looks, in a directory of the plugin's name (moby pkg/plugins/discovery.go).
DOCKER = "/etc/docker/plugins"
#: The client that has a certificate from the beginning.
CLIENT = "docker"


def add(commands: Commands) -> None:
    pki = commands.add(
        "pki",
        "make the certificates by which a plugin and an engine on another host know each other",
        "legacyhost pki sshfs --host nas.example.org --host 10.0.0.5\nlegacyhost pki sshfs --renew",
        _pki,
    )
    pki.add_argument("plugin", metavar="NAME", help="the plugin")
    pki.add_argument(
        "--host", action="append", default=[], help="a name or address by which engines call this host; may be repeated"
    )
    pki.add_argument(
        "--client",
        metavar="CLIENT",
        action="append",
        default=[],
        help=f"a client's name; may be repeated (default: {CLIENT})",
    )
    pki.add_argument("--renew", action="store_true", help="new certificates of the same authority, for the same keys")
    spec = commands.add(
        "spec",
        "write what an engine on another host needs to reach a plugin here",
        "legacyhost spec sshfs | ssh dockerhost 'tar -x -C /etc/docker/plugins'",
        _spec,
    )
    spec.add_argument("plugin", metavar="NAME", help="the plugin")
    spec.add_argument(
        "--address", metavar="HOST:PORT", help="where the engine calls (default: as certificate and configuration say)"
    )
    spec.add_argument("--client", metavar="CLIENT", default=CLIENT, help=f"the client's name (default: {CLIENT})")
    spec.add_argument(
        "--output", metavar="DIRECTORY", type=Path, help="make the files here, not a tar archive on standard output"
    )


def _pki(options: argparse.Namespace) -> int:
    from legacyhost import pki

    directory = _directory(options.plugin)
    hosts = list(dict.fromkeys(_host(host) for host in options.host))
    clients = list(dict.fromkeys(_client(client) for client in options.client))
    there = os.path.lexists(directory)
    if there and options.renew:
        _check_known(pki.clients(directory), clients)
        pki.renew(directory, hosts, clients or pki.clients(directory))
        print(f"The certificates in {directory} are new.")
        print(f"The plugin takes its own over with: systemctl try-reload-or-restart legacyhost@{options.plugin}")
    elif there and clients and not hosts:
        for client in clients:
            pki.add(directory, client)
        print(f"There are further clients in {directory}: {', '.join(clients)}")
    elif there:
        end = pki.shown(directory / pki.SERVER).end
        raise Failed(
            f"there is a {directory} already, and nothing in it is changed; its certificate is valid until"
            f" {end:%Y-%m-%d}; to renew it: legacyhost pki {options.plugin} --renew"
        )
    elif options.renew:
        raise Failed(f"there is no {directory} to renew; to make it: legacyhost pki {options.plugin} --host NAME")
    elif not hosts:
        raise InvalidRequest(f"say by which names engines call this host: legacyhost pki {options.plugin} --host NAME")
    else:
        pki.make(directory, options.plugin, hosts, clients or [CLIENT])
        print(f"An authority and its certificates are in {directory}.")
    end = pki.shown(directory / pki.SERVER).end
    names = ", ".join(pki.shown(directory / pki.SERVER).hosts)
    print(f"The plugin's is for {names}, until {end:%Y-%m-%d}. For the engine's host:")
    print(f"legacyhost spec {options.plugin} | ssh DOCKERHOST 'tar -x -C {DOCKER}'")
    return 0


def _check_known(known: Sequence[str], clients: Sequence[str]) -> None:
    for client in clients:
        if client not in known:
            raise InvalidRequest(f"there is no client {client}; there is: {', '.join(known) or 'none'}")


def _spec(options: argparse.Namespace) -> int:
    directory, client = _directory(options.plugin), _client(options.client)
    path = Paths.from_environment().configuration(options.plugin)
    listen = configuration.load(path).listen
    if listen is None:
        raise ConfigError(f"{path} has no section [listen], so the plugin is not reached from elsewhere")
    if options.output is None and sys.stdout.isatty():
        raise InvalidRequest(
            f"a private key is not for a terminal: legacyhost spec {options.plugin} | ssh DOCKERHOST"
            f" 'tar -x -C {DOCKER}', or --output DIRECTORY"
        )
    if listen.plain:
        host, port = _asked(options.address, "127.0.0.1", listen)
        if not configuration.is_loopback(host):
            raise InvalidRequest(f"the plugin listens without TLS, and so only on loopback; {host} is not")
        files: Mapping[str, bytes] = {f"{options.plugin}.spec": f"tcp://{configuration.joined(host, port)}\n".encode()}
    else:
        files = _with_certificates(options, directory, client, listen)
    if options.output is not None:
        _write(options.output / options.plugin, files)
    else:
        sys.stdout.buffer.write(_archive(options.plugin, files))
    return 0


def _with_certificates(
    options: argparse.Namespace, directory: Path, client: str, listen: ListenConfig
) -> Mapping[str, bytes]:
    """The files; what names the others comes last. Raises PluginError."""
    from legacyhost import pki

    name = options.plugin
    if (listen.ca, listen.certificate) != (directory / pki.CA, directory / pki.SERVER):
        raise Failed(
            f"the certificates of the plugin {name} are not of 'legacyhost pki', which could have made one for the"
            " engine; man legacyhost.toml shows the file to write"
        )
    server = pki.shown(listen.certificate)
    host, port = _asked(options.address, server.hosts[0] if server.hosts else "", listen)
    if host.lower() not in (known.lower() for known in server.hosts):
        again = " ".join(f"--host {known}" for known in (*server.hosts, host))
        raise InvalidRequest(
            f"the plugin's certificate is for {', '.join(server.hosts)}, and the engine would not accept it at {host}:"
            f" legacyhost pki {name} --renew {again}"
        )
    _check_known(pki.clients(directory), [client])
    if listen.clients and client not in listen.clients:
        raise InvalidRequest(f"listen.clients does not name the client {client}, so the plugin would refuse it")
    own = directory / pki.CLIENTS / client
    for path in (listen.ca, listen.certificate, own / pki.CERT):
        if pki.shown(path).end <= datetime.now(UTC):
            raise Failed(f"{path} has expired: legacyhost pki {name} --renew")
    there = f"{DOCKER}/{name}"
    says = {
        "Name": name,
        "Addr": f"https://{configuration.joined(host, port)}",
        "TLSConfig": {
            "InsecureSkipVerify": False,
            "CAFile": f"{there}/{pki.CA}",
            "CertFile": f"{there}/{pki.CERT}",
            "KeyFile": f"{there}/{pki.KEY}",
        },
    }
    sources = {pki.CA: listen.ca, pki.CERT: own / pki.CERT, pki.KEY: own / pki.KEY}
    try:
        files = {file: source.read_bytes() for file, source in sources.items()}
    except OSError as error:
        raise Failed(f"{error.filename} cannot be read: {error.strerror}") from error
    return {**files, f"{name}.json": json.dumps(says, indent=2).encode() + b"\n"}


def _asked(address: str | None, host: str, listen: ListenConfig) -> tuple[str, int]:
    """Where the engine is to call. Raises InvalidRequest."""
    port = configuration.host_and_port(listen.address)[1] if listen.address else 0
    if address is not None:
        found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([^:\[\]]+))(?::([0-9]{1,5}))?", address, re.ASCII)
        host = _host((found[1] or found[2]) if found else address)
        port = int(found[3]) if found and found[3] else port
        if found and found[3] and not 0 < port < 65536:
            raise InvalidRequest(f"{found[3]} is no port")
    if not 0 < port < 65536:
        raise InvalidRequest("listen.address is not set, so the port has to be said: --address HOST:PORT")
    return host, port


def _archive(name: str, files: Mapping[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        directory = tarfile.TarInfo(name)
        directory.type, directory.mode = tarfile.DIRTYPE, 0o700
        archive.addfile(directory)
        for file, content in files.items():
            entry = tarfile.TarInfo(f"{name}/{file}")
            entry.size, entry.mode, entry.mtime = len(content), 0o600, int(datetime.now(UTC).timestamp())
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def _write(place: Path, files: Mapping[str, bytes]) -> None:
    """Raises Failed. What is there already stays, and nothing is written."""
    written: list[Path] = []
    try:
        place.mkdir(mode=0o700)
        written.append(place)
        for file, content in files.items():
            descriptor = os.open(place / file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            written.append(place / file)
            with os.fdopen(descriptor, "wb") as opened:
                opened.write(content)
    except FileExistsError as error:
        raise Failed(f"there is a {place} already, and nothing in it is changed") from error
    except OSError as error:
        for path in reversed(written):
            path.rmdir() if path == place else path.unlink()
        raise Failed(f"{place} cannot be written: {error.strerror}") from error
    print(f"{place} has all that an engine needs to reach the plugin; it is to be {DOCKER}/{place.name} there.")


def _directory(plugin: str) -> Path:
    if not is_name(plugin):
        raise InvalidRequest(f"{printable(plugin)!r} cannot be the name of a plugin")
    return Paths.from_environment().pki(plugin)


def _client(name: str) -> str:
    if not is_name(name) or len(name) > 64:
        raise InvalidRequest(f"{printable(name)!r} cannot be the name of a client")
    return name


def _host(text: str) -> str:
    """A name or an address, as a certificate has it. Raises InvalidRequest."""
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        label = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
        if len(text) < 254 and re.fullmatch(rf"{label}(?:\.{label})*", text, re.ASCII) and not text.isdecimal():
            return text.lower()
    raise InvalidRequest(f"{printable(text)!r} is neither the name of a host nor an address")
