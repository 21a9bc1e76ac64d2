"""``legacyhost serve`` and ``restore``: a plugin as a whole."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

from legacyhost.commands import Commands, plugin_name, socket_of
from legacyhost.commands.terminal import progress
from legacyhost.config import Paths
from legacyhost.errors import ConfigError, InvalidRequest, PluginError
from legacyhost.names import is_name
from legacyhost.wire import printable

#: Seconds in which a plugin that does not serve has tried again.
TAKEN_OVER = 15.0


def add(commands: Commands) -> None:
    serve = commands.add(
        "serve",
        "serve one plugin (what legacyhost@NAME.service runs)",
        "legacyhost serve sshfs --socket /tmp/sshfs.sock",
        _serve,
    )
    serve.add_argument("plugin", metavar="NAME", help="the plugin; its configuration is /etc/legacyhost/NAME.toml")
    serve.add_argument(
        "--socket", type=Path, metavar="PATH", help="listen here (development; otherwise systemd's socket)"
    )
    commands.add(
        "restore",
        "put the backup in place of a damaged record of volumes",
        "legacyhost restore --plugin sshfs",
        _restore,
        plugin=True,
    )


def _serve(options: argparse.Namespace) -> int:
    from legacyhost import log

    _postpone()
    from legacyhost.plugin import Host
    from legacyhost.server import serve

    if not is_name(options.plugin):
        raise InvalidRequest(f"{printable(options.plugin)!r} cannot be the name of a plugin")
    os.umask(0o077)  # whatever is made here is root's alone
    log.set_up()
    paths = Paths.from_environment()
    try:
        paths.run.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the directory {paths.run} cannot be made: {error.strerror}") from error
    serve(Host(options.plugin, paths), options.socket, paths.run)
    return 0


def _postpone() -> None:
    """What the libraries have for others than a plugin, and what has to do with a host or a key: memory, and time."""
    from legacyhost.postponed import postpone

    # What gunicorn 20 has for plugins of its own and for pages about errors, and falcon 3 for forms: a quarter of the
    # start. What falcon has for errors in XML. OpenSSL, 4 MiB, which each of the last three brings.
    for module in ("pkg_resources", "html"):
        postpone(module, is_package=True)
    for module in ("cgi", "xml.etree.ElementTree", "hashlib", "hmac", "secrets"):
        postpone(module)
    # For servers with TLS, with a configuration of their own for the log, with asynchronous applications.
    postpone("ssl", PROTOCOL_TLS=2, PROTOCOL_SSLv23=2, CERT_NONE=0, SSLError=type("SSLError", (OSError,), {}))
    postpone("logging.config", ("dictConfig", "fileConfig"))
    postpone("asyncio", ("get_running_loop", "create_task"), is_package=True, Runner=object)


def _restore(options: argparse.Namespace) -> int:
    from legacyhost.restore import restore

    plugin = plugin_name(options.plugin)
    restored = restore(Paths.from_environment().state / plugin)
    print(f"The record of volumes is again as the backup has it: {restored.content}.")
    if 0 < len(restored.content.names) <= 20:
        print(f"Volumes: {', '.join(restored.content.names)}")
    for path in restored.aside:
        print(f"Kept: {path}")
    with progress(f"waiting until the plugin {plugin} serves it"):
        is_served = _serves_soon(socket_of(plugin))
    if is_served:
        print(f"The plugin {plugin} serves it.")
    else:
        print(f"The plugin {plugin} will take it over when it runs: systemctl start legacyhost@{plugin}.socket")
    return 0


def _serves_soon(path: Path) -> bool:
    """Whether the plugin answers the handshake, at the latest after some seconds."""
    from legacyhost.client import call

    end = time.monotonic() + TAKEN_OVER
    while path.exists() and time.monotonic() < end:
        try:
            call(path, "Plugin.Activate", {})
        except PluginError:
            time.sleep(0.2)
        else:
            return True
    return False
