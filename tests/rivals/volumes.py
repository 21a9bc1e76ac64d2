"""Faults of records, names, rights and numbers."""

from __future__ import annotations

import os
import time

from .cases import both, case
from .subject import PATIENCE, Subject

#: Seconds in which a file has to arrive at the remote host.
ARRIVAL = 60.0


def _mounts_at_once(subject: Subject, number: int) -> str:
    names = [f"volume-{n}" for n in range(number)]
    for name in names:
        subject.create(name)
        words = ["create", "--network", "none", "-v", f"{name}:/data", "--name", f"of-{name}"]
        made = subject.docker(*words, "busybox", "sleep", "10000")
        assert made.ok, made
    starts = [subject.machine.popen(["docker", "start", f"of-{name}"]) for name in names]
    began, limit = time.monotonic(), PATIENCE + number
    while any(start.poll() is None for start in starts) and time.monotonic() - began < limit:
        time.sleep(0.1)
    took = time.monotonic() - began
    good = sum(start.poll() == 0 for start in starts)
    waiting = sum(start.poll() is None for start in starts)
    result = f"{good} of {number} containers run after {took:.0f} s"
    if waiting:
        result += f", {waiting} starts still wait"
    if good < number:
        result += f"; then docker volume inspect: {subject.docker('volume', 'inspect', names[0])}"
    return result


@case(9)
def ten_at_once(subject: Subject) -> str:
    """10 containers started at once, each with a volume of its own"""
    return _mounts_at_once(subject, 10)


@case(21)
def fifty_at_once(subject: Subject) -> str:
    """50 containers started at once, each with a volume of its own"""
    return _mounts_at_once(subject, 50)


@case(12)
def torn_state(subject: Subject) -> str:
    """record of volumes cut off in the middle, then a start"""
    names = ["data", "second", "third"]
    for name in names:
        subject.create(name)
    subject.machine.run(["systemctl", "stop", subject.service])
    size = subject.machine.path(subject.state_file).stat().st_size
    subject.machine.run(["truncate", "-s", str(size // 2), subject.state_file])
    subject.attempt(["systemctl", "start", subject.service])

    def tell() -> str:
        return f"{subject.known(names)} of 3 volumes known, container with one: {subject.use('data')}"

    if subject.repair is None:
        return tell()
    before = tell()
    repaired = subject.attempt(subject.repair)
    subject.machine.wait_for(lambda: subject.docker("volume", "inspect", "data").ok, 60, interval=1)
    return f"{before}; after `{subject.repair}`: {tell() if repaired.ok else repaired}"


@case(13)
def disk_full(subject: Subject) -> str:
    """local disk full while volumes are created, then space again and a restart: are those that were created known"""
    machine, root = subject.machine, subject.state_root
    machine.run(["systemctl", "stop", subject.service])
    machine.run(f"mkdir -p {root} && cp -a {root} /root/kept")
    machine.run(f"mount -t tmpfs -o size=1m tmpfs {root} && cp -a /root/kept/. {root}/")
    machine.run(["systemctl", "start", subject.service])
    names = [f"volume-{number}" for number in range(45)]
    for name in names[:5]:
        subject.create(name)
    machine.run(["dd", "if=/dev/zero", f"of={root}/fill", "bs=4k"], check=False)
    created, said = names[:5], ""
    for name in names[5:]:
        made = subject.docker(*subject.create_words(name, subject.usual_options(subject.directory(name))))
        if not made.ok:
            said = f" (create: {made})"
            break
        created.append(name)
    machine.run(["rm", f"{root}/fill"])
    subject.attempt(["systemctl", "restart", subject.service])
    return f"{subject.known(created)} of {len(created)} created volumes known{said}"


@case(14)
def removed(subject: Subject) -> str:
    """`docker volume rm`, and `docker run --rm` with an anonymous volume: the files on the remote host"""
    subject.create("data")
    there = f"{subject.remote.home}/data"
    wrote = subject.use("data")
    assert wrote == "works", wrote
    before = set(subject.machine.run(["find", there]).stdout.split())
    gone = subject.docker("volume", "rm", "data")
    after = set(subject.machine.run(["find", there], check=False).stdout.split())
    first = "stay" if gone.ok and before <= after else f"{gone}, gone: {before - after}"
    options = subject.usual_options(subject.directory("anonymous"))
    given = ",".join(f"volume-opt={key}={value}" for key, value in options.items())
    mount = f"type=volume,dst=/data,volume-driver={subject.driver},{given}"
    ran = subject.docker("run", "--rm", "--network", "none", "--mount", mount, "busybox", "cat", "/data/known")
    there = f"{subject.remote.home}/anonymous/known"
    left = subject.machine.run(["test", "-s", there], check=False).returncode == 0
    second = "stay" if ran.ok and left else f"{ran}, {'there' if left else 'gone'}"
    return both(("rm", first), ("anonymous", second))


@case(22)
def written_and_ended(subject: Subject) -> str:
    """a container writes a file and ends: when it is on the remote host"""
    subject.create("data")
    there = f"{subject.remote.home}/data/written-1"
    wrote, began = subject.use("data"), time.monotonic()
    assert wrote == "works", wrote
    while time.monotonic() - began < ARRIVAL:
        if subject.machine.run(["test", "-s", there], check=False).returncode == 0:
            return f"after {time.monotonic() - began:.0f} s"
        time.sleep(0.2)
    return f"not after {ARRIVAL:.0f} s"


@case(15)
def name_outside(subject: Subject) -> str:
    """a volume named `../../x`"""
    options = subject.usual_options(subject.directory("data"))
    made = subject.docker(*subject.create_words("../../x", options))
    if not made.ok:
        return f"refused: {made.said}"
    outside = os.path.normpath(subject.mountpoint("../../x"))
    there = subject.machine.run(["test", "-d", outside], check=False).returncode == 0
    return f"created, {'with' if there else 'without'} a mountpoint {outside}"


@case(16)
def other_user(subject: Subject) -> str:
    """a container that runs as uid 1000, volume without options"""
    made = subject.docker(*subject.create_words("data", subject.options(subject.directory("data"))))
    assert made.ok, made
    return subject.use("data", "-u", "1000:1000")


@case(19)
def copy_up(subject: Subject) -> str:
    """an image with files at the path of a new, empty volume of an unprivileged account"""
    subject.machine.import_image("filled", {"data/from-image": "content\n"}, engines=("docker",))
    path = subject.directory("data")
    subject.machine.run(f"rm {path}/*")
    made = subject.docker(*subject.create_words("data", subject.usual_options(path)))
    assert made.ok, made
    words = ["run", "--rm", "--network", "none", "-v", "data:/data", "filled", "cat", "/data/from-image"]
    answer = subject.docker(*words)
    return "the files are in the volume" if answer.out == "content\n" else str(answer)
