"""What a restricting rule says of what a container gets to see of the host: Binds, Mounts, devices."""

from __future__ import annotations

from legacyhost.policy.limits import Limits
from legacyhost.policy.patterns import fits_image
from legacyhost.policy.places import DEVICES, Place, Unsettled, endangered, is_within, resolve
from legacyhost.policy.request import Check, Members, Refusal, items, look, text, texts
from legacyhost.policy.volumes import volume_driver, volume_name, volume_options
from legacyhost.wire import printable

READ_ONLY = ":ro"
NAME_IT = "binds in [rule.container] would have to name that itself"
SHARED = ("shared", "rshared")
#: With these dockerd changes the SELinux labels of the files on the host.
LABELS = ("z", "Z")
#: Directories, files and devices of the host for one container.
MOST_PLACES = 200
MODES = {"ro", "rw", *LABELS, "nocopy", "copy", "consistent", "cached", "delegated", "default", "private", "rprivate"}
MODES |= {"slave", "rslave", *SHARED}
PRIVATE = MODES - {*SHARED}


class Binds:
    """The checks of one rule."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._allowed = limits.patterns("container", "binds")
        self._places: dict[str, Place] = {}

    def binds(self, value: object) -> None:
        """HostConfig.Binds: SOURCE:TARGET[:MODES], where a source that is no absolute path is a volume."""
        for entry in texts(value, "Binds"):
            source, *rest = entry.split(":")
            modes = rest[1].split(",") if len(rest) == 2 else []
            if not source or len(rest) > 2 or not set(modes) <= {*MODES, ""}:
                raise Refusal(f"does not allow the bind {printable(entry)}, which it cannot read")
            if not rest:
                continue  # a path in the container, for a volume without a name
            if source.startswith("/"):
                self._directory(source, is_read_only="ro" in modes, is_labelled=bool({*modes} & {*LABELS}))
                self._shared(bool({*modes} & {*SHARED}))
            else:
                volume_name(self._limits, source)

    def mounts(self, value: object) -> None:
        """HostConfig.Mounts."""
        for entry in items(value, "Mounts"):
            self._mount(entry)

    def device(self, value: object) -> None:
        """A device or a directory of devices, by what it is without links."""
        path = text(value, "PathOnHost")
        allowed = self._limits.patterns("container", "devices")
        if allowed.fits_all:
            return
        place = self._resolve("the device", path)
        if place.mount not in ("", DEVICES) or not allowed.fit(place.path):
            shown = printable(str(allowed), 160)
            raise Refusal(
                f"does not allow the device {_shown(path, place)}; devices in [rule.container] allows {shown}"
            )

    def _mount(self, entry: object) -> None:
        found = _folded(entry)
        kind = text(found.get("type") or "", "Type of a mount")
        source = text(found.get("source") or "", "Source of a mount")
        checks: dict[str, Check] = dict.fromkeys(["type", "source", "target", "readonly", "consistency"])
        if kind == "bind":
            checks["bindoptions"] = lambda value: self._bind_options(value, found.get("readonly") is True)
            self._directory(source, is_read_only=found.get("readonly") is True)
        elif kind == "volume":
            checks["volumeoptions"] = lambda value: look(value, "VolumeOptions", self._volume_options())
            if source:
                volume_name(self._limits, source)
        elif kind == "tmpfs":
            checks["tmpfsoptions"] = None
        elif kind == "image":
            checks["imageoptions"] = None
            if not fits_image(self._limits.patterns("container", "images"), source):
                raise Refusal(f"does not allow the image {printable(source)}")
        else:
            raise Refusal(f"does not allow the kind of mount {printable(kind) or 'without a name'}")
        look(entry, "Mounts", checks)

    def _bind_options(self, value: object, is_read_only: bool) -> None:
        def propagation(mode: object) -> None:
            if mode not in ("", *PRIVATE):
                self._shared(True)

        def not_below(flag: object) -> None:
            if flag is not False and is_read_only and not self._allowed.fits_all:
                raise Refusal("does not allow ReadOnlyNonRecursive, with which what is mounted below can be written to")

        checks: dict[str, Check] = dict.fromkeys(["nonrecursive", "createmountpoint", "readonlyforcerecursive"])
        look(value, "BindOptions", checks | {"propagation": propagation, "readonlynonrecursive": not_below})

    def _volume_options(self) -> dict[str, Check]:
        driver: dict[str, Check] = {
            "name": lambda value: volume_driver(self._limits, text(value, "DriverConfig.Name")),
            "options": lambda value: volume_options(self._limits, value),
        }
        harmless: dict[str, Check] = dict.fromkeys(["nocopy", "labels", "subpath"])
        return harmless | {"driverconfig": lambda value: look(value, "DriverConfig", driver)}

    def _shared(self, is_shared: bool) -> None:
        if is_shared and not self._limits.flag("container", "shared_mounts"):
            raise Refusal("does not allow shared propagation of mounts (shared_mounts in [rule.container] would)")

    def _directory(self, source: str, *, is_read_only: bool, is_labelled: bool = False) -> None:
        """A directory or file of the host. Raises Refusal."""
        if self._allowed.fits_all:
            return
        place = self._resolve("the bind mount of", source)
        shown = f"does not allow the bind mount of {_shown(source, place)}"
        named = [entry.removesuffix(READ_ONLY).rstrip("/") or "/" for entry in self._allowed.texts]
        covering = [entry for entry in self._allowed.texts if _covers(entry, place.path)]
        if place.mount and place.mount not in named:
            if covering:
                raise Refusal(f"{shown}: where links below {printable(place.mount)} lead cannot be settled ({NAME_IT})")
            covering = []
        if not covering:
            raise Refusal(f"{shown}; binds in [rule.container] allows {printable(str(self._allowed), 160)}")
        for danger in endangered(place.path):
            if not any(is_within(entry, danger) and _covers_or_is_in(entry, place.path) for entry in named):
                raise Refusal(f"{shown}, because of {danger} ({NAME_IT})")
        if all(entry.endswith(READ_ONLY) for entry in covering) and (not is_read_only or is_labelled):
            how = "with z or Z, which change labels on the host" if is_read_only else "other than read-only"
            raise Refusal(f"{shown} {how}")

    def _resolve(self, what: str, path: str) -> Place:
        if (known := self._places.get(path)) is not None:
            return known
        if len(self._places) == MOST_PLACES:
            raise Refusal(f"does not allow more than {MOST_PLACES} directories and devices of the host")
        try:
            return self._places.setdefault(path, resolve(path))
        except Unsettled as error:
            raise Refusal(f"does not allow {what} {printable(path)}: {error}") from error


def _covers(entry: str, path: str) -> bool:
    return is_within(path, entry.removesuffix(READ_ONLY).rstrip("/") or "/")


def _covers_or_is_in(entry: str, path: str) -> bool:
    return is_within(path, entry) or is_within(entry, path)


def _shown(path: str, place: Place) -> str:
    """The path, and what it is without links, where that is another."""
    return (
        printable(path)
        if path in (place.path, f"{place.path}/")
        else f"{printable(path)} (that is {printable(place.path)})"
    )


def _folded(entry: object) -> dict[str, object]:
    """An object by its keys in lower case; ``look`` refuses one that is there twice."""
    return {key.casefold(): value for key, value in entry} if isinstance(entry, Members) else {}
