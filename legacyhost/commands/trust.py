"""``legacyhost trust``: the host key of an SSH server is made known."""

from __future__ import annotations

import argparse
import re
import socket
from typing import TYPE_CHECKING

from legacyhost.commands import Commands, plugin_name
from legacyhost.commands.terminal import is_confirmed, progress
from legacyhost.config import Paths
from legacyhost.deadline import Deadline
from legacyhost.errors import Failed, InvalidRequest
from legacyhost.wire import printable

if TYPE_CHECKING:
    from legacyhost.ssh.target import Target

#: Seconds for fetching a host key.
TRUST_TIMEOUT = 20.0


def add(commands: Commands) -> None:
    trust = commands.add(
        "trust",
        "make the host key of an SSH server known",
        "legacyhost trust nas.example.org:2222\nlegacyhost trust nas --jump web@gate.example.org --credential gate",
        _trust,
        plugin=True,
    )
    trust.add_argument("host", metavar="HOST[:PORT]", help="the server; an IPv6 address with a port: [ADDRESS]:PORT")
    trust.add_argument(
        "--fingerprint", metavar="SHA256:…", help="store the key if it has this fingerprint, without asking"
    )
    trust.add_argument("--jump", metavar="[USER@]HOST[:PORT]", help="go by way of this host, which has to be known")
    way_in = trust.add_mutually_exclusive_group()
    way_in.add_argument(
        "--credential", metavar="NAME", help="what opens the jump host (default: as the plugin's configuration says)"
    )
    way_in.add_argument("--key", metavar="FILE", help="the same by a private key on this host")


def _trust(options: argparse.Namespace) -> int:
    from legacyhost.ssh import hostkeys
    from legacyhost.ssh.remote import meet

    host, port = _host_and_port(options.host)
    files = Paths.from_environment().known_hosts()
    jump = _jump(options) if options.jump is not None else None
    with progress(f"asking {options.host} for its host key"):
        met = meet(host, port, files, Deadline.after(TRUST_TIMEOUT), options.fingerprint, jump)
    if met.known:
        print(f"{options.host} is known already: {met.known}")
        return 0
    said = f"The certificate of {options.host} {met.objection}.\n" if met.objection else ""
    question = f"{said}The host key of {options.host} is {met.key}.\nTrust it? [y/N] "
    if options.fingerprint is None and not is_confirmed(question):
        raise Failed("nothing is stored")
    hostkeys.remember(files[0], host, port, met.key)
    print(f"{options.host} is known now: {met.key} in {files[0]}")
    return 0


def _jump(options: argparse.Namespace) -> Target:
    """The jump host, with what opens it. Raises ConfigError, InvalidRequest, Failed."""
    from legacyhost import config
    from legacyhost.credentials import Store
    from legacyhost.drivers.accounts import Accounts

    paths = Paths.from_environment()
    store = Store(paths.credentials())
    if options.credential or options.key:
        return Accounts(store, "", {}).jump(options.jump, credential=options.credential, key=options.key)
    plugin = plugin_name(options.plugin)
    section = config.load(paths.configuration(plugin)).volume or config.NO_VOLUMES
    return Accounts(store, plugin, section.remote).jump(options.jump)


def _host_and_port(text: str) -> tuple[str, int]:
    """HOST, HOST:PORT, an IPv6 address alone or [ADDRESS]:PORT. Raises InvalidRequest."""
    name = r"([A-Za-z0-9][A-Za-z0-9._-]{0,252})(?::([0-9]{1,5}))?"
    found = re.fullmatch(rf"{name}|\[([0-9A-Fa-f:.]+)\](?::([0-9]{{1,5}}))?|([0-9A-Fa-f:.]+)", text)
    address = (found[3] or found[5] or "") if found else ""
    host = (found[1] or address) if found else ""
    port = int(found[2] or found[4] or 22) if found else 0
    if not host or (address and not _is_ipv6(address)) or not 0 < port < 65536:
        raise InvalidRequest(f"{printable(text)!r} is not HOST or HOST:PORT")
    return host, port


def _is_ipv6(text: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET6, text)
    except OSError:
        return False
    return True
