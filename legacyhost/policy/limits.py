"""The tables of a restricting rule, [rule.container] and the others: their settings, and what each is without them.

A rule that has one of these tables restricts in all of them: a table that is not there is as if it was there and empty.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from legacyhost.policy.patterns import Patterns
from legacyhost.policy.request import Refusal
from legacyhost.wire import printable

ANY = ("*",)
HOST_NAMESPACES = ("pid", "ipc", "uts", "user", "cgroup")


@dataclass(frozen=True)
class Setting:
    """``default`` is True or False for a switch, a list of patterns otherwise. ``what`` is what the values are.

    ``choices``, where there are some, are the only values.
    """

    default: bool | Sequence[str]
    what: str
    choices: Sequence[str] = ()


TABLES: Mapping[str, Mapping[str, Setting]] = {
    "container": {
        "images": Setting(ANY, "images that may be run"),
        "privileged": Setting(False, "privileged containers"),
        "capabilities": Setting((), "capabilities that may be added"),
        "binds": Setting((), "directories and files of the host, with what is below"),
        "shared_mounts": Setting(False, "mounts made in the container appear on the host"),
        "devices": Setting((), "devices of the host, and rules of the device cgroup"),
        "device_requests": Setting((), "drivers of which devices (GPUs) may be requested"),
        "host_namespaces": Setting((), "namespaces of the host", HOST_NAMESPACES),
        "share_with": Setting((), "containers whose namespaces, volumes and links may be used"),
        "security_options": Setting(("no-new-privileges=true",), "security options"),
        "unmasked": Setting(False, "other masked and read-only paths than Docker's"),
        "sysctls": Setting((), "kernel parameters"),
        "runtimes": Setting((), "runtimes beside the default"),
        "cgroup_parents": Setting((), "parent cgroups"),
        "log_drivers": Setting(("json-file", "local", "journald", "none"), "log drivers"),
        "annotations": Setting((), "annotations, which are for the runtime"),
        "oom_protected": Setting(False, "processes that the kernel spares when memory is short"),
    },
    "exec": {
        "privileged": Setting(False, "commands with all privileges"),
        "containers": Setting(ANY, "containers, as the request names them"),
    },
    "image": {
        "pull": Setting(ANY, "images that may be pulled"),
        "make": Setting(ANY, "names that tag, commit, import and build may give"),
        "load": Setting(True, "images loaded from files"),
    },
    "build": {
        "networks": Setting(("default", "bridge", "none"), "networks while building"),
        "remote": Setting((), "addresses from which Docker fetches what it builds"),
        "sent_context": Setting(False, "what is built is sent as the body"),
        "buildkit": Setting(False, "builds with BuildKit, which nobody looks into"),
    },
    "volume": {
        "names": Setting(ANY, "volumes"),
        "drivers": Setting(("local",), "drivers of volumes"),
        "options": Setting((), "options of volumes, by name"),
    },
    "network": {
        "join": Setting(ANY, "networks of containers"),
        "drivers": Setting(("bridge",), "drivers of networks"),
        "options": Setting((), "options of networks, by name"),
    },
}


class Limits:
    """What the tables of one rule say, by table and setting."""

    def __init__(self, given: Mapping[str, Mapping[str, bool | Sequence[str]]]) -> None:
        self._given = given
        names_matter = "images" in given.get("container", {})
        self.flags: dict[tuple[str, str], bool] = {}
        self.lists: dict[tuple[str, str], Patterns] = {}
        for table, settings in TABLES.items():
            for name, setting in settings.items():
                default = setting.default
                if names_matter and (table, name) in (("image", "make"), ("image", "load")):
                    # Whoever may run only some images must not give their names to others.
                    default = False if name == "load" else ()
                value = given.get(table, {}).get(name, default)
                if isinstance(value, bool):
                    self.flags[table, name] = value
                else:
                    self.lists[table, name] = Patterns(value, flat=(table, name) in _FLAT)

    def flag(self, table: str, name: str) -> bool:
        return self.flags[table, name]

    def patterns(self, table: str, name: str) -> Patterns:
        return self.lists[table, name]

    def refusal(self, what: str, value: str, table: str, name: str) -> Refusal:
        """Of a value that is not in the list of that setting."""
        allowed = printable(str(self.patterns(table, name)), 160)
        return Refusal(f"does not allow {what} {printable(value)}; {name} in [rule.{table}] allows {allowed}")


#: Where a slash is a character as any other.
_FLAT = {("build", "remote"), ("container", "security_options"), ("container", "annotations")}
