"""The command line, and what it talks to: a plugin on the socket where Docker has it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from fakes import FakePlugin

from legacyhost.cli import main

REPOSITORY = Path(__file__).parents[1]
SOCKETS = Path("/run/docker/plugins")
VOLUME = {
    "Name": "data",
    "Mountpoint": "/run/x/mounts/data",
    "CreatedAt": "2024-02-29T12:00:01Z",
    "Status": {"state": "mounted", "holders": 2, "remote": "anna@nas:/srv/é☃"},
}
LISTED = {
    "Volumes": [{"Name": "data", "Mountpoint": "/run/x/mounts/data"}, {"Name": "a-longer-name", "Mountpoint": ""}]
}
#: What a plugin with these volumes answers.
REPLIES = {"VolumeDriver.List": (200, LISTED), "VolumeDriver.Get": (200, {"Volume": VOLUME})}


def fake_plugin(replies: Mapping[str, bytes | tuple[int, object]], name: str = "foo") -> FakePlugin:
    """A plugin on its socket. For tests in a namespace of their own: the real /run is hidden."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    SOCKETS.mkdir(parents=True)
    return FakePlugin(SOCKETS / f"{name}.sock", replies)


def argv(*arguments: str) -> list[str]:
    """The command in a process of its own, as a shell would start it."""
    return [sys.executable, "-m", "legacyhost", *arguments]


def status_of(*arguments: str) -> int:
    try:
        return main(arguments)
    except SystemExit as ended:
        assert isinstance(ended.code, int)
        return ended.code
