"""``legacyhost ls``, ``inspect`` and ``unstick``: the volumes of a plugin."""

from __future__ import annotations

import argparse
import json
import os

from legacyhost.commands import Commands, ask, plugin_name
from legacyhost.commands.terminal import Colour, coloured, print_table, progress, shown, width
from legacyhost.config import Paths
from legacyhost.errors import Failed, PluginError
from legacyhost.names import check_volume_name
from legacyhost.wire import printable


def add(commands: Commands) -> None:
    commands.add(
        "ls", "list the volumes", "legacyhost ls\nlegacyhost ls --plugin sshfs --json", _ls, plugin=True, json=True
    )

    inspect = commands.add(
        "inspect", "show one volume: its state, who uses it, what went wrong", "legacyhost inspect data", _inspect,
        plugin=True, json=True,
    )  # fmt: skip
    inspect.add_argument("volume", metavar="VOLUME", help="its name, as ls shows it")

    unstick = commands.add(
        "unstick", "free whoever waits for a mount that is dead for good", "legacyhost unstick data", _unstick,
        plugin=True,
    )  # fmt: skip
    unstick.add_argument("volume", metavar="VOLUME", help="its name, as ls shows it")
    unstick.add_argument("--force", action="store_true", help="also take a mount away that answers")


def _ls(options: argparse.Namespace) -> int:
    plugin = plugin_name(options.plugin)
    volumes = ask(plugin, "VolumeDriver.List", {}).get("Volumes") or []
    if not isinstance(volumes, list) or not all(isinstance(volume, dict) for volume in volumes):
        raise Failed("the plugin's answer to VolumeDriver.List is no list of volumes")
    listed = [{**volume, "Status": _status(plugin, str(volume.get("Name")))} for volume in volumes]
    if options.json:
        print(json.dumps(listed, indent=2, ensure_ascii=False))
        return 0
    keys = ("state", "holders", "remote")
    rows = [(volume.get("Name"), *(volume["Status"].get(key, "-") for key in keys)) for volume in listed]
    print_table(("VOLUME", "STATE", "HOLDERS", "REMOTE"), rows, {"STATE": _colours()})
    return 0


def _status(plugin: str, name: str) -> dict[str, object]:
    """What the plugin says of one of its volumes; empty when that has been removed meanwhile."""
    try:
        volume = ask(plugin, "VolumeDriver.Get", {"Name": name}).get("Volume")
    except PluginError:
        return {}
    status = volume.get("Status") if isinstance(volume, dict) else None
    return status if isinstance(status, dict) else {}


def _inspect(options: argparse.Namespace) -> int:
    volume = ask(options.plugin, "VolumeDriver.Get", {"Name": options.volume}).get("Volume")
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
    column = max(width(shown(key)) for key in rows)
    for key, value in rows.items():
        colour = _colours().get(shown(value)) if key == "state" else None
        print(f"{shown(key)}{' ' * (column - width(shown(key)))}  {coloured(shown(value), colour)}")
    return 0


def _colours() -> dict[str, Colour]:
    """Of the states that are good, will pass, or want somebody to do something."""
    from legacyhost import status

    return {
        status.MOUNTED: Colour.GREEN,
        status.MOUNTING: Colour.YELLOW,
        status.RECONNECTING: Colour.YELLOW,
        status.SILENT: Colour.RED,
        status.LOST: Colour.RED,
        status.COVERED: Colour.RED,
    }


def _unstick(options: argparse.Namespace) -> int:
    from legacyhost.unstick import unstick

    check_volume_name(options.volume)
    if os.geteuid() != 0:
        raise Failed("mounts belong to root; try sudo")
    plugin = plugin_name(options.plugin)
    with progress(f"freeing volume {options.volume}"):
        done = unstick(plugin, options.volume, Paths.from_environment(), force=options.force)
    print(done)
    return 0
