"""What the machine shows, and whether the model agrees. `observe` looks; `check` only compares."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .model import PROBE, PROBE_TEXT, Model, Sight
from .world import World

ASKING = Path(__file__).with_name("asking.py")
RUNTIME = "/run/legacyhost/sshfs"
#: Where the journal was read up to, inside the machine.
CURSOR = "/var/tmp/soak.cursor"
#: Open files a process of the service may have more than when it was first seen quiet.
SPARE = 8
#: Seconds: Docker restarting a container; the plugin finding out what nobody uses.
RESTART, CONVERGENCE = 20.0, 90.0


@dataclass
class Observation:
    """Everything there is to see while nobody does anything."""

    #: Of each volume the plugin lists: {"got": its Get} or {"error": …}.
    volumes: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: What docker lists, and the options it shows.
    listed: set[str] = field(default_factory=set)
    options: dict[str, dict[str, str]] = field(default_factory=dict)
    #: Container to whether it runs.
    containers: dict[str, bool] = field(default_factory=dict)
    #: What docker said of running containers that could not read the probe.
    unreadable: dict[str, str] = field(default_factory=dict)
    mounted: set[str] = field(default_factory=set)
    #: Volumes with a unit that is not gone yet.
    units: set[str] = field(default_factory=set)
    failed: list[str] = field(default_factory=list)
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    #: Directories below bare/, and anything that is in them.
    bare: set[str] = field(default_factory=set)
    local: list[str] = field(default_factory=list)
    #: Lines that must not be in the journal.
    journal: list[str] = field(default_factory=list)
    descriptors: dict[str, int] = field(default_factory=dict)
    #: Volume to a process in a container that has its mount, whether Docker knows of it or not.
    users: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Problem:
    """Something that is not as it has to be; `patience`: seconds it may be so, while the machine is quiet.

    `left` is the volume (or container) of which something unneeded is still there.
    """

    text: str
    patience: float = 0.0
    left: str | None = None


def observe(world: World) -> Observation:
    """Looks at everything; nobody else may do anything meanwhile."""
    machine, model, seen = world.machine, world.model, Observation()
    machine.put(ASKING, "/var/tmp/asking.py")
    known = {volume.name: dict(volume.options) for volume in model.volumes.values()}
    asked = json.loads(machine.run(["python3", "/var/tmp/asking.py"], input=json.dumps(known), timeout=120).stdout)
    seen.volumes, seen.descriptors, seen.users = asked["volumes"], asked["descriptors"], asked["users"]
    seen.listed = set(machine.docker("volume", "ls", "-q").stdout.split())
    if seen.listed:
        shown = json.loads(machine.docker("volume", "inspect", *sorted(seen.listed)).stdout)
        seen.options = {entry["Name"]: entry["Options"] or {} for entry in shown}
    for line in machine.docker("ps", "-a", "--format", "{{.Names}} {{.State}}").stdout.splitlines():
        name, _, state = line.partition(" ")
        seen.containers[name] = state == "running"
    for container in model.containers.values():
        if seen.containers.get(container.name) and container.sight is not Sight.DEAD:
            read = world.run(["docker", "exec", container.name, "cat", f"/data/{PROBE}"])
            if read.stdout != PROBE_TEXT:
                seen.unreadable[container.name] = read.stderr.strip() or repr(read.stdout)
    seen.mounted = world.installed.mounted()
    units = machine.run("systemctl list-units --all --plain --no-legend --no-pager 'legacyhost:*'").stdout
    seen.units = {line.split(":")[2] for line in units.splitlines()}
    failed = machine.run("systemctl list-units --failed --plain --no-legend --no-pager").stdout
    seen.failed = [line.split()[0] for line in failed.splitlines()]
    for directory in model.directories.values():
        top = machine.path(f"{directory.home}/{directory.name}")
        seen.files[directory.name] = {path.name: path.read_text("utf-8", "replace") for path in top.iterdir()}
    for line in machine.run(f"find {RUNTIME}/bare -mindepth 1 -printf '%P\\n'").stdout.splitlines():
        if "/" in line:
            seen.local.append(line)
        else:
            seen.bare.add(line)
    seen.journal = _journal(world)
    return seen


def _journal(world: World) -> list[str]:
    """Lines since the last look that speak of a defect, or a password."""
    text = world.machine.run(f"journalctl --sync; journalctl -q -o short-precise --cursor-file={CURSOR}").stdout
    words = re.compile(f"Traceback|a defect in legacyhost|{re.escape(world.secret)}")
    return [line for line in text.splitlines() if words.search(line)]


def check(model: Model, seen: Observation, before: Mapping[str, int]) -> list[Problem]:
    """What is wrong; `before`: the open files of each process when it was first seen."""
    found = _volumes(model, seen)
    for directory in model.directories.values():
        found += directory.differences(seen.files[directory.name])
    found += [f"unit {unit} has failed" for unit in seen.failed]
    found += [f"written to the local disk: {RUNTIME}/bare/{path}" for path in seen.local]
    found += [f"in the journal: {line}" for line in seen.journal]
    found += [
        f"process {process} has {number} files open, {before[process]} before"
        for process, number in seen.descriptors.items()
        if number > before.get(process, number) + SPARE
    ]
    return [
        *map(Problem, found),
        *(Problem(text, RESTART) for text in _containers(model, seen)),
        *(Problem(f"{name} {text}, and no container uses it", CONVERGENCE, name) for name, text in _left(model, seen)),
    ]


def _volumes(model: Model, seen: Observation) -> list[str]:
    """List, Get and the options are the model's."""
    found = [f"volume {name} is listed, and nobody has made it" for name in seen.volumes.keys() - model.volumes.keys()]
    if seen.volumes.keys() != seen.listed:
        found.append(f"docker lists {sorted(seen.listed)}, the plugin {sorted(seen.volumes)}")
    for volume in model.volumes.values():
        shown = seen.volumes.get(volume.name)
        if volume.exists is not None and volume.exists != (shown is not None):
            found.append(f"volume {volume.name} is {'not ' if volume.exists else ''}listed")
        if shown is None:
            continue
        if "error" in shown:
            found.append(f"volume {volume.name}, Get or a repeated Create: {shown['error']}")
        elif volume.options["sshcmd"] not in str(shown["got"]["Status"].get("remote")):
            found.append(f"volume {volume.name} is on {shown['got']['Status']}")
        options = seen.options.get(volume.name)
        if volume.exists and volume.is_recorded and options != dict(volume.options):
            found.append(f"docker shows volume {volume.name} with the options {options}, not {volume.options}")
    return found


def _containers(model: Model, seen: Observation) -> list[str]:
    """The containers are there, in their state, and see their volumes."""
    found = []
    for container in model.containers.values():
        is_running = seen.containers.get(container.name)
        if is_running is None:
            found.append(f"container {container.name} is gone")
        elif container.is_running is not None and container.is_running != is_running:
            found.append(f"container {container.name} is {'' if is_running else 'not '}running")
        if not is_running:
            continue
        if container.name in seen.unreadable:
            found.append(f"container {container.name} cannot read its volume: {seen.unreadable[container.name]}")
        if container.sight is Sight.SOUND:
            name = container.volume.name
            found += [f"{name} is used by {container.name}, and not mounted"] if name not in seen.mounted else []
            found += [f"{name} is used by {container.name}, and has no unit"] if name not in seen.units else []
    return found


def _left(model: Model, seen: Observation) -> Iterator[tuple[str, str]]:
    """Mounts, units, directories, holds and containers that nobody needs any more."""
    used = {container.volume.name for container in model.containers.values() if seen.containers.get(container.name)}
    used |= seen.users.keys()
    yield from ((name, "is mounted") for name in sorted(seen.mounted - used))
    yield from ((name, "has a unit") for name in sorted(seen.units - used))
    yield from ((name, f"has a directory in {RUNTIME}/bare") for name in sorted(seen.bare - used))
    for name, shown in seen.volumes.items():
        if name not in used and "got" in shown and (holders := shown["got"]["Status"]["holders"]):
            yield name, f"is held {holders} times"
    yield from (
        (name, "is a container nobody knows") for name in sorted(seen.containers.keys() - model.containers.keys())
    )
