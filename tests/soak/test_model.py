"""The model finds what is planted, and nothing else: no machine is needed for that."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from .faults import FAULTS, TOLERATED, is_tolerated
from .files import Files
from .invariants import Observation, check
from .model import PROBE, PROBE_TEXT, Container, Directory, Model, Sight
from .operations import KINDS, Intent
from .wording import blemishes

OPTIONS = {"sshcmd": "alice@host:dir", "port": "22"}


def settled() -> Model:
    """Two volumes on one directory with a file in it; a container runs on the first."""
    model = Model()
    for name in ("used", "idle"):
        volume = model.add(name, "/home/alice", "dir", OPTIONS)
        with model.changing(volume) as change:
            model.settle(volume, change, is_done=True)
    model.volumes["used"].directory.settle("file", "text")
    model.containers["runs"] = Container("runs", model.volumes["used"], is_always=True)
    return model


def got(holders: int) -> dict[str, Any]:
    return {"got": {"Status": {"remote": "alice@host:dir port 22", "holders": holders}}}


def fitting() -> Observation:
    """What is to be seen of that."""
    return Observation(
        volumes={"used": got(1), "idle": got(0)},
        listed={"used", "idle"},
        options={"used": OPTIONS, "idle": OPTIONS},
        containers={"runs": True},
        mounted={"used"},
        units={"used"},
        files={"dir": {PROBE: PROBE_TEXT, "file": "text"}},
        bare={"used"},
        descriptors={"7": 20},
    )


def texts(model: Model, seen: Observation) -> list[str]:
    return [problem.text for problem in check(model, seen, {"7": 20})]


def test_what_fits_is_no_violation() -> None:
    assert texts(settled(), fitting()) == []


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (lambda seen: seen.files["dir"].pop("file"), "dir/file: no file instead of 'text'"),
        (lambda seen: seen.files["dir"].update(file="tex"), "dir/file: 'tex' instead of 'text'"),
        (lambda seen: seen.files["dir"].update(other="x"), "dir/other: nobody has written it"),
        (lambda seen: (seen.volumes.pop("idle"), seen.listed.discard("idle")), "volume idle is not listed"),
        (lambda seen: seen.listed.discard("idle"), "docker lists ['used'], the plugin ['idle', 'used']"),
        (lambda seen: seen.volumes.update(third=got(0)), "volume third is listed, and nobody has made it"),
        (lambda seen: seen.volumes.update(idle={"error": "no"}), "volume idle, Get or a repeated Create: no"),
        (lambda seen: seen.options.update(idle={}), "docker shows volume idle with the options {}"),
        (lambda seen: seen.containers.update(runs=False), "container runs is not running"),
        (lambda seen: seen.containers.pop("runs"), "container runs is gone"),
        (lambda seen: seen.containers.update(more=False), "more is a container nobody knows"),
        (lambda seen: seen.unreadable.update(runs="gone"), "container runs cannot read its volume: gone"),
        (lambda seen: seen.mounted.add("idle"), "idle is mounted, and no container uses it"),
        (lambda seen: seen.mounted.discard("used"), "used is used by runs, and not mounted"),
        (lambda seen: seen.units.add("idle"), "idle has a unit, and no container uses it"),
        (lambda seen: seen.units.discard("used"), "used is used by runs, and has no unit"),
        (lambda seen: seen.volumes.update(idle=got(1)), "idle is held 1 times, and no container uses it"),
        (lambda seen: seen.bare.add("idle"), "idle has a directory in /run/legacyhost/sshfs/bare"),
        (lambda seen: seen.local.append("used/file"), "written to the local disk: "),
        (lambda seen: seen.failed.append("a.service"), "unit a.service has failed"),
        (lambda seen: seen.journal.append("Traceback"), "in the journal: Traceback"),
        (lambda seen: seen.descriptors.update({"7": 60}), "process 7 has 60 files open, 20 before"),
    ],
)
def test_what_is_planted_is_found(plant: Callable[[Observation], object], found: str) -> None:
    seen = fitting()
    plant(seen)
    assert any(found in text for text in texts(settled(), seen)), texts(settled(), seen)


def test_a_failed_write_leaves_a_doubt_until_somebody_has_looked() -> None:
    """Old, new, or the beginning of the new; afterwards only what was seen."""
    directory = Directory("/home/alice", "dir")
    directory.settle("file", "old")
    directory.doubt("file", "new text")
    for content in ("old", "", "new", "new text"):
        assert directory.differences({PROBE: PROBE_TEXT, "file": content}) == []
    assert directory.differences({PROBE: PROBE_TEXT, "file": "text"}) != []
    assert directory.differences({PROBE: PROBE_TEXT}) != []
    directory.adopt({PROBE: PROBE_TEXT, "file": "new"})
    assert directory.differences({PROBE: PROBE_TEXT, "file": "new"}) == []
    assert directory.differences({PROBE: PROBE_TEXT, "file": "old"}) != []


@pytest.mark.parametrize("kind", ["write", "big", "replace", "move", "delete", "read"])
def test_a_file_of_a_failed_task_is_not_used_again(kind: str) -> None:
    """What is done is certain; after a failure the next task is about another file."""
    volume = settled().volumes["used"]
    files = Files("c")
    files.settle(files.task("write", volume, 0, 1), is_done=True)
    task = files.task(kind, volume, 0, 2)
    files.settle(task, is_done=True)
    expected = [volume.directory.content(path) for path in task.after]
    assert expected == [*task.after.values()]
    failed = files.task("write", volume, 0, 3)
    files.settle(failed, is_done=False)
    assert not files.task("write", volume, 0, 4).after.keys() & failed.after.keys()


def test_a_removal_that_races_leaves_a_doubt() -> None:
    model = settled()
    idle = model.volumes["idle"]
    with model.changing(idle) as made, model.changing(idle, removes=True) as removed:
        model.settle(idle, removed, is_done=True)
        model.settle(idle, made, is_done=True)
    assert idle.exists is None
    seen = fitting()
    assert texts(model, seen) == []
    model.adopt(set(seen.volumes), seen.containers, seen.files)
    assert idle.exists is True


def test_a_daemon_that_begins_anew_restarts_what_is_always_restarted() -> None:
    model = settled()
    used = model.volumes["used"]
    model.containers["ends"] = Container("ends", used, is_always=False)
    model.lose_sight(used, Sight.DEAD)
    model.daemon_restarted()
    assert [(c.is_running, c.sight) for c in model.containers.values()] == [(True, Sight.SOUND), (False, Sight.SOUND)]


def test_nothing_may_fail_without_a_fault_and_only_so_with_one() -> None:
    assert not is_tolerated("run", "EOF", [])
    assert not is_tolerated("run", "EOF", ["plugin restarted"])
    assert is_tolerated("run", "unexpected EOF", ["plugin restarted", "plugin killed"])
    assert not is_tolerated("run", "no such volume", ["plugin killed"])
    assert not is_tolerated("rm", "Input/output error", ["remote stopped"])


def test_every_fault_has_its_tolerances() -> None:
    names = {fault.__name__.replace("_", " ") for fault in FAULTS} - {"nothing"}
    assert names | {"a race"} == set(TOLERATED)
    assert all(tolerance.kinds <= {*KINDS, "run", "exec", "again"} for row in TOLERATED.values() for tolerance in row)


@pytest.mark.parametrize(
    ("text", "is_fit"),
    [
        ("Error response from daemon: VolumeDriver.Mount: volume x: 127.0.0.1 refused the connection\n", True),
        ("docker: … VolumeDriver.Mount: no route to host.\nSee 'docker run --help'.\n", True),
        ("legacyhost: there is no volume x\n", True),
        ("Traceback (most recent call last):", False),
        ("VolumeDriver.Mount: ConnectionResetError: [Errno 104]", False),
        ("VolumeDriver.Mount: two\nlines", False),
        ("VolumeDriver.Create: hidden does not fit", False),
    ],
)
def test_messages_are_read(text: str, is_fit: bool) -> None:
    assert (not blemishes(text, "hidden")) == is_fit


def test_a_seed_gives_the_same_choices() -> None:
    one, two, other = ([Intent.draw(random) for _ in range(50)] for random in map(Random, ("7-c0", "7-c0", "8-c0")))
    assert one == two != other
