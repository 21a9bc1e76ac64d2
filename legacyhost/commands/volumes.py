"""``legacyhost ls``, ``inspect`` and ``unstick``: the volumes of a plugin."""

from __future__ import annotations

import argparse
import json
import os

from legacyhost.commands import Commands, plugin_name, print_table, socket_of
from legacyhost.config import Paths
from legacyhost.errors import Failed
from legacyhost.names import check_volume_name
from legacyhost.wire import printable


def add(commands: Commands) -> None:
    commands.add("ls", "list the volumes", "legacyhost ls --json", _ls, plugin=True, json=True)

    inspect = commands.add("inspect", "show one volume", "legacyhost inspect data", _inspect, plugin=True, json=True)
    inspect.add_argument("volume", metavar="VOLUME")

    unstick = commands.add(
        "unstick",
        "free whoever waits for a mount that is dead for good",
        "legacyhost unstick data",
        _unstick,
        plugin=True,
    )
    unstick.add_argument("volume", metavar="VOLUME")
    unstick.add_argument("--force", action="store_true", help="also take a mount away that answers")


def _ls(options: argparse.Namespace) -> int:
    from legacyhost.client import call

    volumes = call(socket_of(options.plugin), "VolumeDriver.List", {}).get("Volumes") or []
    if not isinstance(volumes, list) or not all(isinstance(volume, dict) for volume in volumes):
        raise Failed("the plugin's answer to VolumeDriver.List is no list of volumes")
    if options.json:
        print(json.dumps(volumes, indent=2, ensure_ascii=False))
        return 0
    rows = []
    for volume in volumes:
        status = _status(options.plugin, str(volume.get("Name")))
        rows.append((str(volume.get("Name")), *(str(status.get(key, "-")) for key in ("state", "holders", "remote"))))
    print_table(("VOLUME", "STATE", "HOLDERS", "REMOTE"), rows)
    return 0


def _status(plugin: str | None, name: str) -> dict[str, object]:
    """What the plugin says of one of its volumes; empty when that has been removed meanwhile."""
    from legacyhost.client import call

    try:
        volume = call(socket_of(plugin), "VolumeDriver.Get", {"Name": name}).get("Volume")
    except Failed:
        return {}
    status = volume.get("Status") if isinstance(volume, dict) else None
    return status if isinstance(status, dict) else {}


def _inspect(options: argparse.Namespace) -> int:
    from legacyhost.client import call

    volume = call(socket_of(options.plugin), "VolumeDriver.Get", {"Name": options.volume}).get("Volume")
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


def _unstick(options: argparse.Namespace) -> int:
    from legacyhost.unstick import unstick

    check_volume_name(options.volume)
    if os.geteuid() != 0:
        raise Failed("mounts belong to root; try sudo")
    print(unstick(plugin_name(options.plugin), options.volume, Paths.from_environment(), force=options.force))
    return 0
