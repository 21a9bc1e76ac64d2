"""VolumeDriver: what Docker and Podman ask a volume plugin, and in which form they want the answer.

Source: moby volume/drivers/{adapter,proxy}.go, podman libpod/plugin/volume_api.go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Protocol

from legacyhost.errors import NotServing
from legacyhost.rpc import Reply, Surface
from legacyhost.wire import LOST_REQUEST, Fields, Kept


@dataclass(frozen=True)
class VolumeInfo:
    """A volume as an engine shows it; the reply is made once.

    ``mountpoint`` is empty while it is not mounted; ``created`` has a zone.
    """

    name: str
    mountpoint: str
    created: datetime
    status: Mapping[str, object] = field(default_factory=dict)

    @cached_property
    def reply(self) -> Reply:
        created = self.created.isoformat(timespec="seconds").replace("+00:00", "Z")
        fields = {"Name": self.name, "Mountpoint": self.mountpoint, "CreatedAt": created, "Status": dict(self.status)}
        return Kept({"Volume": fields})


@dataclass(frozen=True, eq=False)
class Listing:
    """Name and mountpoint of every volume; the reply is made once."""

    volumes: Sequence[tuple[str, str]]

    @cached_property
    def reply(self) -> Reply:
        return Kept({"Volumes": [{"Name": name, "Mountpoint": mountpoint} for name, mountpoint in self.volumes]})


class VolumeDriver(Protocol):
    """What stands behind the surface. Every method raises PluginError."""

    def create(self, name: str, options: Mapping[str, str]) -> None: ...
    def remove(self, name: str) -> None: ...
    def mount(self, name: str, mount_id: str) -> str: ...
    def unmount(self, name: str, mount_id: str) -> None: ...
    def path(self, name: str) -> str: ...
    def get(self, name: str) -> VolumeInfo: ...
    def list(self) -> Listing:
        """Every volume; the same object as long as nothing has changed."""
        ...

    def activated(self) -> None:
        """An engine has started."""
        ...

    @property
    def scope(self) -> str: ...


def activated(driver: VolumeDriver) -> None:
    driver.activated()


def create(driver: VolumeDriver, ask: Fields) -> Reply:
    driver.create(ask.text("Name"), ask.texts("Opts"))
    return {}


def remove(driver: VolumeDriver, ask: Fields) -> Reply:
    driver.remove(ask.text("Name"))
    return {}


def mount(driver: VolumeDriver, ask: Fields) -> Reply:
    return {"Mountpoint": driver.mount(ask.text("Name"), ask.optional_text("ID"))}


def unmount(driver: VolumeDriver, ask: Fields) -> Reply:
    driver.unmount(ask.text("Name"), ask.optional_text("ID"))
    return {}


def path(driver: VolumeDriver, ask: Fields) -> Reply:
    return {"Mountpoint": driver.path(ask.text("Name"))}


def get(driver: VolumeDriver, ask: Fields) -> Reply:
    if ask.is_empty:
        # Docker's repetition of a Get that was cut off. An answered error would make it forget the volume (see
        # errors.NotServing); without an answer it only tries again.
        raise NotServing(LOST_REQUEST)
    return driver.get(ask.text("Name")).reply


def list_volumes(driver: VolumeDriver, _ask: Fields) -> Reply:
    return driver.list().reply


def capabilities(driver: VolumeDriver, _ask: Fields) -> Reply:
    return {"Capabilities": {"Scope": driver.scope}}


SURFACE = Surface(
    implements="VolumeDriver",
    prefix="VolumeDriver",
    activated=activated,
    methods={
        "Create": create,
        "Remove": remove,
        "Mount": mount,
        "Unmount": unmount,
        "Path": path,
        "Get": get,
        "List": list_volumes,
        "Capabilities": capabilities,
    },
)
