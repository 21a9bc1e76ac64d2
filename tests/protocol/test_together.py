"""Calls at the same time. Engines have no limit: dockerd asks for every volume it knows at once when it starts."""

from __future__ import annotations

import threading
import time

from . import mountinfo
from .case import Case, good, mounted, refused

MANY = 200
SOME = 20
FEW = 5
#: Seconds within which a question has to be answered that needs no remote host (the engine's limit is 60, podman's 5).
SOON = 5.0
#: The same for one question alone.
AT_ONCE = 1.5


def test_two_hundred_gets_at_once(case: Case) -> None:
    """dockerd at its start: one Get per known volume, all at once, each on its own connection."""
    name = case.volume()
    begin = time.monotonic()
    for seen in case.together([("Get", {"Name": name})] * MANY):
        assert good(seen)["Volume"]["Name"] == name
    assert time.monotonic() - begin < SOON


def test_known_and_unknown_names_are_not_mixed_up(case: Case) -> None:
    """Each of many answers belongs to its question."""
    names = [case.volume() for _ in range(FEW)]
    unknown = [case.name() for _ in range(FEW)]
    asked = (names + unknown) * SOME
    for name, seen in zip(asked, case.together([("Get", {"Name": name}) for name in asked]), strict=True):
        if name in names:
            assert good(seen)["Volume"]["Name"] == name
        else:
            refused(seen)


def test_idle_connections_keep_nobody_out(case: Case) -> None:
    """Up to Docker 29.4 engines never drop an idle connection: a hundred of them, served and left open on this side
    (whatever the plugin does on its own), delay nobody."""
    request = case.docker.request("VolumeDriver.List", b"{}\n")
    idle = [case.connection() for _ in range(100)]
    for connection in idle:
        begin = time.monotonic()
        assert connection.exchange(request).status == 200
        assert time.monotonic() - begin < AT_ONCE, "kept waiting by a connection that had been served"
    begin = time.monotonic()
    good(case.engine().list())
    assert time.monotonic() - begin < AT_ONCE


def test_unfinished_requests_keep_nobody_out(case: Case) -> None:
    """Callers that connect and say nothing, or half of it, wait for themselves only."""
    request = case.docker.request("VolumeDriver.List", b"{}\n")
    for end in (0, 10, -2) * 10:
        case.connection().send(request[:end])
    begin = time.monotonic()
    good(case.engine().list())
    assert time.monotonic() - begin < SOON


def test_twenty_mounts_of_one_volume_at_once(case: Case) -> None:
    """All get the same mountpoint, which is mounted once; it stays until the last of as many Unmounts."""
    name = case.volume()
    holds = [{"Name": name, "ID": case.id(name)} for _ in range(SOME)]
    paths = {mounted(seen) for seen in case.together([("Mount", hold) for hold in holds])}
    assert len(paths) == 1
    path = paths.pop()
    last = holds.pop()
    for seen in case.together([("Unmount", hold) for hold in holds]):
        good(seen)
    assert mountinfo.count(path) == 1
    good(case.docker.ask("Unmount", last))
    assert mountinfo.count(path) == 0


def test_the_same_id_mounted_twice_at_once(case: Case) -> None:
    """Two Mounts with one ID are two holds, however close together they come."""
    name = case.volume()
    hold = {"Name": name, "ID": case.id(name)}
    path = {mounted(seen) for seen in case.together([("Mount", hold)] * 2)}.pop()
    good(case.docker.ask("Unmount", hold))
    assert mountinfo.count(path) == 1
    good(case.docker.ask("Unmount", hold))
    assert mountinfo.count(path) == 0


def test_all_unmounts_at_once(case: Case) -> None:
    """The daemon stops: every container's Unmount comes at the same time."""
    name = case.volume()
    holds = [{"Name": name, "ID": case.id(name)} for _ in range(SOME)]
    path = {mounted(case.docker.ask("Mount", hold)) for hold in holds}.pop()
    for seen in case.together([("Unmount", hold) for hold in holds]):
        good(seen)
    assert mountinfo.count(path) == 0


def test_several_volumes_mounted_at_once(case: Case) -> None:
    """A host boots: the volumes of all its containers are mounted together, and unmounted together."""
    names = [case.volume() for _ in range(FEW)]
    holds = [{"Name": name, "ID": case.id(name)} for name in names]
    paths = [mounted(seen) for seen in case.together([("Mount", hold) for hold in holds])]
    assert len(set(paths)) == FEW
    for seen in case.together([("Unmount", hold) for hold in holds]):
        good(seen)
    assert [mountinfo.count(path) for path in paths] == [0] * FEW


def test_mounts_and_unmounts_in_turn_from_many_sides(case: Case) -> None:
    """Containers come and go: whoever holds the volume has it mounted, and at the end nobody has."""
    name = case.volume()
    paths: list[str] = []
    failures: list[BaseException] = []

    def containers() -> None:
        engine = case.engine()
        try:
            for _ in range(FEW):
                mount_id = case.id(name)
                paths.append(mounted(engine.mount(name, mount_id)))
                assert mountinfo.count(paths[-1]) == 1
                good(engine.unmount(name, mount_id))
        except BaseException as error:  # noqa: BLE001 - raised again below, in the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=containers) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    assert len(set(paths)) == 1
    assert mountinfo.count(paths[0]) == 0


def test_one_name_created_many_times_at_once(case: Case) -> None:
    """The same Create from many sides succeeds everywhere, and makes one volume."""
    name = case.name()
    message = {"Name": name, "Opts": dict(case.plugin.opts)}
    for seen in case.together([("Create", message)] * SOME):
        good(seen)
    assert case.names_listed() == [name]


def test_many_names_created_and_removed_at_once(case: Case) -> None:
    """No volume is lost, and none is left over, when many are written down at the same time."""
    names = [case.name() for _ in range(SOME)]
    opts = dict(case.plugin.opts)
    for seen in case.together([("Create", {"Name": name, "Opts": opts}) for name in names]):
        good(seen)
    assert sorted(case.names_listed()) == sorted(names)
    for seen in case.together([("Remove", {"Name": name}) for name in names]):
        good(seen)
    assert case.names_listed() == []


def test_one_volume_removed_many_times_at_once(case: Case) -> None:
    """One of them removes it; for the others it may be gone already, which is an ordinary error."""
    name = case.volume()
    case.mount(name)
    assert any(seen.ok for seen in case.together([("Remove", {"Name": name})] * FEW))
    refused(case.docker.get(name))


def test_questions_are_answered_while_volumes_come_and_go(case: Case) -> None:
    """List and Get never fail because something else happens at the same time."""
    name = case.volume()
    calls: list[tuple[str, dict[str, object]]] = []
    for _ in range(FEW):
        calls.append(("Create", {"Name": case.name(), "Opts": dict(case.plugin.opts)}))
        calls += [("List", {}), ("Get", {"Name": name}), ("Path", {"Name": name}), ("Capabilities", {})]
    for (method, _), seen in zip(calls, case.together(calls), strict=True):
        value = good(seen)
        if method == "List":
            assert name in [volume["Name"] for volume in value["Volumes"]]
