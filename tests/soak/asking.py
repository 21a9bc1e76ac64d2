"""Runs inside the machine: asks the plugin for everything it knows, as Docker would, and prints that as JSON.

Its input is {"volume": options, …}: the options each volume was created with. A repeated Create is an error if the
plugin has others.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from legacyhost.client import call
from legacyhost.errors import Failed

SOCKET = Path("/run/docker/plugins/sshfs.sock")


def known(name: str, options: dict[str, str] | None) -> dict[str, object]:
    """What Get says, and what is wrong with a volume that is listed."""
    try:
        got = call(SOCKET, "VolumeDriver.Get", {"Name": name})["Volume"]
        if options is not None:
            call(SOCKET, "VolumeDriver.Create", {"Name": name, "Opts": options})
    except Failed as error:
        return {"error": error.message}
    return {"got": got}


def descriptors() -> dict[str, int]:
    """Process id to the number of open files, of every process of the service."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if b"/usr/bin/legacyhost\0serve\0sshfs\0" in (folder / "cmdline").read_bytes():
                found[folder.name] = sum(1 for _ in (folder / "fd").iterdir())
        except OSError:
            continue
    return found


def users() -> dict[str, str]:
    """Volume to a process that sees its mount in a mount namespace of its own, as a container does, and its command.

    A dockerd that was killed while it started a container may forget that, and leave it running.
    """
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            text, command = (folder / "mountinfo").read_text(), (folder / "cmdline").read_bytes()
        except OSError:
            continue
        for line in text.splitlines():
            source = line.split()[-2]
            # A sandboxed service sees it where everybody does, a container where it was told to.
            if source.startswith("legacyhost:sshfs:") and not line.split()[4].startswith("/run/legacyhost/"):
                found[source.split(":")[2]] = f"{folder.name} {command.decode(errors='replace')}"
    return found


def main() -> None:
    options = json.load(sys.stdin)
    listed = call(SOCKET, "VolumeDriver.List", {})["Volumes"]
    assert isinstance(listed, list)
    volumes = {entry["Name"]: known(entry["Name"], options.get(entry["Name"])) for entry in listed}
    print(json.dumps({"volumes": volumes, "descriptors": descriptors(), "users": users()}))


if __name__ == "__main__":
    main()
