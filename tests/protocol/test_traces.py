"""What an engine really sends for one command, in order. Seen on Docker 20.10.24; podman from its source.

Each word is one call: H handshake, P Path, C Create, c Create without options, G Get, g Get that has to fail,
L List, M Mount, U Unmount, R Remove; what follows the letter stands for a mount ID.
"""

from __future__ import annotations

import pytest

from . import mountinfo
from .case import Case, good, mounted, refused
from .dialect import DIALECTS, Engine

TRACES = {
    "volume create, ls, inspect, rm": ("docker-20.10", "H g C L G G G R g"),
    "volume create of a known volume": ("docker-20.10", "g C G G R"),
    "run, directory not in the image": ("docker-20.10", "g C G G M1 G U1 G G R"),
    "run, directory in the image (copy-up)": ("docker-20.10", "g C G G M1 G U1 G M2 G U2"),
    "run --mount volume-driver= volume-opt=": ("docker-20.10", "g C G M1 G U1"),
    "anonymous volume with --rm": ("docker-20.10", "g C G M1 G U1 G G R"),
    "one volume twice in one container": ("docker-20.10", "g C G G M1 G M2 G U1 G U2"),
    "cp while the container runs": ("docker-20.10", "g C G M1 G M1 G U1 G U1"),
    "several cp while the container runs": ("docker-20.10", "g C G M1 G M1 G U1 G M1 G M1 G U1 G U1 G U1"),
    "restart": ("docker-20.10", "g C G M1 G U1 G M2 G U2"),
    "two containers, the first is removed": ("docker-20.10", "g C G M1 G M2 G U1 G U2 G G R"),
    "daemon killed, same ID again, one Unmount": ("docker-20.10", "g C G M1 H G G G M1 G U1 G G R"),
    "daemon restarted with live-restore": ("docker-20.10", "g C G M1 H G G U1"),
    "unmount reported failed, ID used again": ("docker-20.10", "g C G M1 U1 G M1 G U1 G M1 G U1"),
    "cp on 17.05: the last Unmount never comes": ("docker-17.09", "g C M1 M1 U1 M2 U2 G R"),
    "1.12: one ID for the container's life": ("docker-1.12", "g C M1 U1 M1 U1 M1 U1 U1 R"),
    "1.12: Unmount after a Mount that failed": ("docker-1.12", "g C U1 M2 U2 R"),
    "1.10: counted without ID": ("docker-1.10", "g C M M U U R"),
    "1.9: run": ("docker-1.9", "H C P P c M P U R"),
    "1.9: daemon start": ("docker-1.9", "C M H c c P P U R"),
    "1.9: rm -v of a named volume": ("docker-1.9", "C P P M U R C P"),
    "podman create, run, rm": ("podman", "H g C H G M H U H G R"),
    "podman: two containers are one Mount": ("podman", "g C G M G G U G R"),
    "podman after a reboot, no Unmount": ("podman", "g C G M H G M G U G R"),
    "podman volume reload": ("podman", "H L"),
}  # fmt: skip


@pytest.mark.parametrize(("engine_name", "trace"), TRACES.values(), ids=TRACES)
def test_a_command_as_the_engine_sends_it(case: Case, engine_name: str, trace: str) -> None:
    """Each call of the conversation succeeds, and after each the volume is mounted exactly while it is held."""
    dialect = next(each for each in DIALECTS if each.name == engine_name)
    engine, name = case.engine(dialect), case.name()
    ids: dict[str, str] = {}
    held: list[str] = []
    path = None
    for word in trace.split():
        letter, mark = word[0], word[1:]
        mount_id = ids.setdefault(mark, case.id(name))
        if letter == "M":
            path = mounted(engine.mount(name, mount_id))
            held.append(mark)
        elif letter == "U":
            good(engine.unmount(name, mount_id))
            if mark in held:
                held.remove(mark)
        else:
            say(case, engine, letter, name)
        held = [] if letter == "R" else held
        assert path is None or mountinfo.count(path) == bool(held), f"after {word} of {trace}"


def say(case: Case, engine: Engine, letter: str, name: str) -> None:
    """One call that is neither Mount nor Unmount."""
    if letter == "H":
        good(engine.activate())
    elif letter == "C":
        good(engine.create(name, case.plugin.opts))
    elif letter == "c":
        good(engine.create(name))
    elif letter == "G":
        assert good(engine.get(name))["Volume"]["Name"] == name
    elif letter == "g":
        refused(engine.get(name))
    elif letter == "L":
        assert (name in [volume["Name"] for volume in good(engine.list())["Volumes"]]) is case.docker.get(name).ok
    elif letter == "P":
        good(engine.path(name))
    elif letter == "R":
        good(engine.remove(name))
