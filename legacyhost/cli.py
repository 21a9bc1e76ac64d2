"""The command ``legacyhost``: where everything is put together.

Exit status: 0 done, 1 not done (one sentence on standard error says why), 2 wrong usage.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import re
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from legacyhost import __version__
from legacyhost.client import call
from legacyhost.config import Paths
from legacyhost.deadline import Deadline
from legacyhost.errors import ConfigError, Failed, InvalidRequest, PluginError
from legacyhost.names import check_volume_name, is_name
from legacyhost.wire import printable

#: Seconds for fetching a host key.
TRUST_TIMEOUT = 20.0
#: Seconds in which a plugin that does not serve has tried again.
TAKEN_OVER = 15.0


def main(arguments: Sequence[str] | None = None) -> int:
    try:
        return _main(arguments)
    except BrokenPipeError:
        # Whoever was reading has gone; what is still buffered must not be tried again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return 130


def _main(arguments: Sequence[str] | None) -> int:
    for stream, errors in ((sys.stdin, "replace"), (sys.stdout, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)  # what a terminal cannot show or has sent is no reason to fail
    try:
        options = _parser().parse_args(arguments)
        status: int = options.run(options)
    except PluginError as error:
        print(f"legacyhost: {error.message}", file=sys.stderr)
        status = 2 if isinstance(error, InvalidRequest) else 1
    finally:
        if sys.stdout is not None:  # it is None where it was closed from the beginning
            sys.stdout.flush()
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="legacyhost",
        description="A host for Docker's legacy plugins: SSH directories as Docker and Podman volumes.",
        epilog="example: systemctl enable --now legacyhost@sshfs.socket, then docker volume create -d sshfs …",
    )
    parser.add_argument("--version", action="version", version=f"legacyhost {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    serve = _command(
        commands,
        "serve",
        "serve one plugin (what legacyhost@NAME.service runs)",
        "legacyhost serve sshfs --socket /tmp/sshfs.sock",
    )
    serve.add_argument("name", metavar="NAME", help="the plugin; its configuration is /etc/legacyhost/NAME.toml")
    serve.add_argument(
        "--socket", type=Path, metavar="PATH", help="listen here (development; otherwise systemd's socket)"
    )
    serve.set_defaults(run=_serve)

    ls = _command(commands, "ls", "list the volumes", "legacyhost ls --json")
    _common(ls)
    ls.set_defaults(run=_ls)

    inspect = _command(commands, "inspect", "show one volume", "legacyhost inspect data")
    inspect.add_argument("volume", metavar="VOLUME")
    _common(inspect)
    inspect.set_defaults(run=_inspect)

    rpc = _command(
        commands, "call", "call a plugin as Docker does", """legacyhost call VolumeDriver.Get '{"Name": "data"}'"""
    )
    rpc.add_argument("rpc", metavar="RPC")
    rpc.add_argument("json", metavar="JSON", nargs="?", default="{}")
    rpc.add_argument("--plugin", metavar="NAME", help="the plugin (default: the only one there is)")
    rpc.set_defaults(run=_call)

    unstick = _command(
        commands, "unstick", "free whoever waits for a mount that is dead for good", "legacyhost unstick data"
    )
    unstick.add_argument("volume", metavar="VOLUME")
    unstick.add_argument("--plugin", metavar="NAME", help="the plugin (default: the only one there is)")
    unstick.add_argument("--force", action="store_true", help="also take a mount away that answers")
    unstick.set_defaults(run=_unstick)

    trust = _command(
        commands, "trust", "make the host key of an SSH server known", "legacyhost trust nas.example.org:2222"
    )
    trust.add_argument("host", metavar="HOST[:PORT]")
    trust.add_argument(
        "--fingerprint", metavar="SHA256:…", help="store the key if it has this fingerprint, without asking"
    )
    trust.set_defaults(run=_trust)

    restore = _command(
        commands,
        "restore",
        "put the backup in place of a damaged record of volumes",
        "legacyhost restore --plugin sshfs",
    )
    restore.add_argument("--plugin", metavar="NAME", help="the plugin (default: the only one there is)")
    restore.set_defaults(run=_restore)
    return parser


def _command(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, text: str, example: str
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name, help=text, description=text[0].upper() + text[1:] + ".", epilog=f"example: {example}"
    )


def _common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--plugin", metavar="NAME", help="the plugin (default: the only one there is)")
    parser.add_argument("--json", action="store_true", help="print JSON")


def _serve(options: argparse.Namespace) -> int:
    from legacyhost import log
    from legacyhost.plugin import Host
    from legacyhost.server import serve

    if not is_name(options.name):
        raise InvalidRequest(f"{printable(options.name)!r} cannot be the name of a plugin")
    os.umask(0o077)  # whatever is made here is root's alone
    log.set_up()
    paths = Paths.from_environment()
    try:
        paths.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the directory {paths.run} cannot be made: {error.strerror}") from error
    serve(Host(options.name, paths), options.socket, paths.run)
    return 0


def _ls(options: argparse.Namespace) -> int:
    volumes = call(_socket(options.plugin), "VolumeDriver.List", {}).get("Volumes") or []
    if not isinstance(volumes, list) or not all(isinstance(volume, dict) for volume in volumes):
        raise Failed("the plugin's answer to VolumeDriver.List is no list of volumes")
    if options.json:
        print(json.dumps(volumes, indent=2, ensure_ascii=False))
        return 0
    rows = [("VOLUME", "STATE", "HOLDERS", "REMOTE")]
    for volume in volumes:
        status = _status(options.plugin, str(volume.get("Name")))
        state, holders, remote = (str(status.get(key, "-")) for key in ("state", "holders", "remote"))
        rows.append((str(volume.get("Name")), state, holders, remote))
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    for row in rows:
        print("  ".join([*(f"{cell:{width}}" for cell, width in zip(row, widths, strict=False)), row[3]]))
    return 0


def _status(plugin: str | None, name: str) -> dict[str, object]:
    """What the plugin says of one of its volumes; empty when that has been removed meanwhile."""
    try:
        volume = call(_socket(plugin), "VolumeDriver.Get", {"Name": name}).get("Volume")
    except Failed:
        return {}
    status = volume.get("Status") if isinstance(volume, dict) else None
    return status if isinstance(status, dict) else {}


def _inspect(options: argparse.Namespace) -> int:
    volume = call(_socket(options.plugin), "VolumeDriver.Get", {"Name": options.volume}).get("Volume")
    if not isinstance(volume, dict) or not volume:
        raise Failed(f"the plugin knows no volume {printable(options.volume)}")
    if options.json:
        print(json.dumps(volume, indent=2, ensure_ascii=False))
        return 0
    status = volume.get("Status")
    rows = {
        "name": volume.get("Name"),
        "created": volume.get("CreatedAt"),
        "mountpoint": volume.get("Mountpoint") or "-",
        **(status if isinstance(status, dict) else {}),
    }
    width = max(len(key) for key in rows)
    for key, value in rows.items():
        print(f"{key:{width}}  {value}")
    return 0


def _call(options: argparse.Namespace) -> int:
    try:
        arguments = json.loads(options.json)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"this is not JSON: {printable(options.json)}") from error
    if not isinstance(arguments, dict):
        raise InvalidRequest("the arguments of an RPC are a JSON object")
    print(json.dumps(call(_socket(options.plugin), options.rpc, arguments), indent=2, ensure_ascii=False))
    return 0


def _unstick(options: argparse.Namespace) -> int:
    from legacyhost.unstick import unstick

    check_volume_name(options.volume)
    if os.geteuid() != 0:
        raise Failed("mounts belong to root; try sudo")
    print(unstick(_plugin(options.plugin), options.volume, Paths.from_environment(), force=options.force))
    return 0


def _trust(options: argparse.Namespace) -> int:
    from legacyhost.ssh import hostkeys
    from legacyhost.ssh.remote import fetch_host_key

    host, port = _host_and_port(options.host)
    known_hosts = Paths.from_environment().known_hosts()[0]
    key = fetch_host_key(host, port, Deadline.after(TRUST_TIMEOUT))
    if options.fingerprint is not None:
        if key.fingerprint != options.fingerprint:
            raise Failed(
                f"the host key of {options.host} is {key.short_kind} {key.fingerprint}, not {options.fingerprint};"
                " nothing is stored"
            )
    elif not _is_confirmed(f"The host key of {options.host} is {key.short_kind} {key.fingerprint}.\nTrust it? [y/N] "):
        raise Failed("nothing is stored")
    try:
        hostkeys.remember(known_hosts, host, port, key)
    except OSError as error:
        raise Failed(f"{known_hosts} cannot be written: {error.strerror}") from error
    print(f"{options.host} is known now: {key.short_kind} {key.fingerprint} in {known_hosts}")
    return 0


def _restore(options: argparse.Namespace) -> int:
    from legacyhost.restore import restore

    plugin = _plugin(options.plugin)
    restored = restore(Paths.from_environment().state / plugin)
    print(f"The record of volumes is again as the backup has it: {restored.content}.")
    if 0 < len(restored.content.names) <= 20:
        print(f"Volumes: {', '.join(restored.content.names)}")
    for path in restored.aside:
        print(f"Kept: {path}")
    if _serves_soon(_socket(plugin)):
        print(f"The plugin {plugin} serves it.")
    else:
        print(f"The plugin {plugin} will take it over when it runs: systemctl start legacyhost@{plugin}.socket")
    return 0


def _serves_soon(path: Path) -> bool:
    """Whether the plugin answers the handshake, at the latest after some seconds."""
    end = time.monotonic() + TAKEN_OVER
    while path.exists() and time.monotonic() < end:
        try:
            call(path, "Plugin.Activate", {})
        except Failed:
            time.sleep(0.2)
        else:
            return True
    return False


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


def _is_confirmed(question: str) -> bool:
    print(question, end="", flush=True)
    answer = sys.stdin.readline() if sys.stdin is not None else ""
    if not answer.endswith("\n"):
        print()
    return answer.strip().lower() in ("y", "yes")


def _socket(plugin: str | None) -> Path:
    """The socket of the plugin named, or of the only one. Raises ConfigError, InvalidRequest."""
    return Paths.from_environment().sockets / f"{_plugin(plugin)}.sock"


def _plugin(plugin: str | None) -> str:
    """The plugin named, or the only one. Raises ConfigError, InvalidRequest."""
    paths = Paths.from_environment()
    if plugin is None:
        plugins = paths.plugins()
        if not plugins:
            raise ConfigError(f"there is no plugin: no *.toml in {paths.etc}")
        if len(plugins) > 1:
            raise InvalidRequest(f"there are several plugins, say which with --plugin: {', '.join(plugins)}")
        plugin = plugins[0]
    if not is_name(plugin):
        raise InvalidRequest(f"{printable(plugin)!r} cannot be the name of a plugin")
    return plugin
