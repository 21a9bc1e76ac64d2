"""What a client does: one random operation after the other, each judged by what the model says must come out.

The choices are drawn before anything is looked at, a fixed number for each step, so that a seed gives the same sequence
whatever the timing. What a choice cannot mean at that moment becomes the nearest thing that it can.
"""

from __future__ import annotations

import csv
import io
import json
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from random import Random
from subprocess import CompletedProcess
from typing import NamedTuple

from .faults import is_tolerated
from .files import Files
from .model import PROBE, PROBE_TEXT, Container, Sight, Volume
from .wording import blemishes
from .world import Over, Violation, World

#: Kinds of operations with their weights; the first ones are about files.
FILES = {"write": 6, "big": 1, "replace": 3, "move": 2, "delete": 2, "read": 4}
KINDS = {
    **FILES,
    "create": 4,
    "other": 2,
    "rm": 4,
    "start": 6,
    "stop": 2,
    "kill": 1,
    "rmf": 3,
    "cp": 2,
    "ls": 2,
    "inspect": 2,
}
#: Long-running containers a client may have.
SLOTS = 2
IDLE = "trap 'exit 0' TERM; while :; do sleep 1 & wait $!; done"
#: Faults after which nobody knows what Docker has done, and those after which a container may have lost its mount.
DAEMON, MOUNT = {"docker restarted", "docker killed", "power loss"}, {"sshfs killed", "unmounted by hand"}
#: Seconds to wait after a failure: Docker may be down, and answers that at once.
PAUSE = 0.3


class Intent(NamedTuple):
    """What has been drawn for one step."""

    kind: str
    volume: float
    slot: int
    file: int
    is_chance: bool

    @classmethod
    def draw(cls, random: Random) -> Intent:
        (kind,) = random.choices([*KINDS], [*KINDS.values()])
        return cls(kind, random.random(), random.randrange(SLOTS), random.randrange(3), random.random() < 0.5)


class Client:
    """One docker client with volumes of its own, and some it shares."""

    def __init__(self, world: World, name: str, seed: str, volumes: Sequence[Volume], share: int | None) -> None:
        """`share`: how many steps it does; None for as many as there is time for."""
        self.name = name
        self.thread = threading.Thread(target=self.run, name=name, daemon=True)
        self.world, self.model, self.volumes = world, world.model, volumes
        self.random = Random(f"{seed}-{name}")
        self.share = share
        self.slots: dict[int, Container] = {}
        self.strays: list[str] = []
        self.files = Files(name)
        self.serial = 0

    def run(self) -> None:
        try:
            while self.share is None or self.serial < self.share:
                intent = Intent.draw(self.random)
                with self.world.step():
                    self.serial += 1
                    self.clear()
                    self.do(intent)
        except Over:
            return
        except Exception as error:  # noqa: BLE001 - it belongs to the main thread
            self.world.violation = Violation(f"{self.name}: {error!r}")
            self.world.finish()

    def do(self, intent: Intent) -> None:
        volume = self.volumes[int(intent.volume * len(self.volumes))]
        kind = intent.kind
        if self.strays and kind not in ("ls", "inspect"):
            kind = "ls"  # what a failed run has left is still there, and keeps its volume in use
        if kind in FILES:
            self.work(kind, volume, intent)
        elif kind in ("start", "stop", "kill", "rmf", "cp"):
            self.container(kind, volume, intent)
        elif kind == "other" and (volume.is_shared or not volume.exists):
            self.create(volume)
        elif kind == "other":
            self.other(volume, intent.is_chance)
        else:
            {"create": self.create, "rm": self.rm, "ls": self.ls, "inspect": self.inspect}[kind](volume)

    def docker(
        self, kind: str, volume: Volume, *words: str, refusal: str | None = None, can_race: bool = False
    ) -> tuple[CompletedProcess[str], list[str]]:
        """Do that; it has to end well, or be refused in these words, or be excused by a fault.

        Returns what it gave, and the faults in effect meanwhile.
        """
        began = self.world.now()
        done = self.world.run(words if words[0] == "legacyhost" else ["docker", *words])
        during = self.world.during(began, volume.name)
        excuses = [*during, "a race"] if can_race or any(change.is_raced for change in volume.in_flight) else during
        said = done.stderr.strip()
        self.world.note(
            self.name, f"{kind} {' '.join(words)[:160]}", began, f"{done.returncode} {said[-300:]}", excuses
        )
        if done.returncode:
            if wrong := blemishes(done.stderr, self.world.secret):
                raise Violation(f"{self.name}: {kind}: {'; '.join(wrong)}\n{done.stderr}")
            is_refused = refusal is not None and refusal in said
            if not is_refused and not is_tolerated(kind, said + done.stdout[-300:], excuses):
                raise Violation(f"{self.name}: {kind} {words} failed (meanwhile: {excuses or 'nothing'}):\n{said}")
            if not is_refused:
                time.sleep(PAUSE)
        elif refusal is not None and not excuses:
            raise Violation(f"{self.name}: {kind} {words} was done; it had to be refused: {refusal}")
        return done, during

    def create(self, volume: Volume) -> None:
        words = [word for key, value in volume.options.items() for word in ("-o", f"{key}={value}")]
        with self.model.changing(volume) as change:
            done, _ = self.docker("create", volume, "volume", "create", "-d", "sshfs", *words, volume.name)
            self.model.settle(volume, change, is_done=done.returncode == 0)

    def other(self, volume: Volume, is_direct: bool) -> None:
        """Other options for what is there: refused by the plugin; Docker does not even ask for a name it knows."""
        if is_direct:
            ask = json.dumps({"Name": volume.name, "Opts": {**volume.options, "uid": "4711"}})
            words = ["legacyhost", "call", "VolumeDriver.Create", ask]
            self.docker("other", volume, *words, refusal="exists already, with other options")
            return
        before = self.world.now()
        options = {**volume.options, "uid": "4711"}
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        done = self.world.run(["docker", "volume", "create", "-d", "sshfs", *words, volume.name])
        during = self.world.during(before, volume.name)
        self.world.note(self.name, f"other {volume.name}", before, f"{done.returncode} {done.stderr.strip()}", during)
        if wrong := blemishes(done.stderr, self.world.secret):
            raise Violation(f"{self.name}: other: {'; '.join(wrong)}\n{done.stderr}")
        if (
            done.returncode
            and "with other options" not in done.stderr
            and not is_tolerated("other", done.stderr, during)
        ):
            raise Violation(f"{self.name}: other options for {volume.name}:\n{done.stderr}")

    def rm(self, volume: Volume) -> None:
        # One that is being made may make the volume anew.
        before = {container.name for container in self.model.users(volume) if container.is_made}
        refusal = "in use" if before else None if volume.exists else "o such volume"
        is_open = volume.is_shared or volume.exists is None  # either may come out
        with self.model.changing(volume, removes=True) as change:
            done, _ = self.docker("rm", volume, "volume", "rm", volume.name, refusal=refusal, can_race=is_open)
            stayed = before & {container.name for container in self.model.users(volume)}
            if done.returncode == 0 and stayed:
                raise Violation(f"{self.name}: {volume.name} was removed, and {sorted(stayed)} use it")
            is_refused = "in use" in done.stderr
            if not is_refused:
                self.model.settle(volume, change, is_done=done.returncode == 0 or "o such volume" in done.stderr)

    def ls(self, volume: Volume) -> None:
        done, during = self.docker("ls", volume, "volume", "ls", "-q", "--filter", "driver=sshfs")
        if done.returncode or {*during} & {*DAEMON, "plugin killed"}:
            return  # Docker leaves out what a plugin does not answer
        listed = set(done.stdout.split())
        for own in self.volumes:
            if not own.is_shared and own.exists is not None and own.exists != (own.name in listed):
                raise Violation(f"{self.name}: {own.name} exists: {own.exists}; listed: {sorted(listed)}")

    def inspect(self, volume: Volume) -> None:
        refusal = "o such volume" if volume.exists is False and not volume.is_shared else None
        with self.model.changing(volume):
            race = volume.is_shared or volume.exists is None
            done, _ = self.docker("inspect", volume, "volume", "inspect", volume.name, refusal=refusal, can_race=race)
        if done.returncode == 0 and volume.is_recorded and not volume.is_shared:
            options = json.loads(done.stdout)[0]["Options"]
            if options != dict(volume.options):
                raise Violation(f"{self.name}: {volume.name} has the options {options}, not {volume.options}")

    def work(self, kind: str, volume: Volume, intent: Intent) -> None:
        """Something about a file, in a container of its own or in one that is running."""
        running = [c for c in self.slots.values() if c.volume is volume and c.is_running and c.sight is Sight.SOUND]
        task = self.files.task(kind, volume, intent.file, self.serial)
        with ExitStack() as stack:
            if running and intent.is_chance:
                done, during = self.docker("exec", volume, "exec", running[0].name, "sh", "-c", task.script)
            else:
                change = stack.enter_context(self.model.changing(volume))
                name = f"{self.name}-run-{self.serial}"
                words = ["run", "--rm", "--network", "none", "--name", name, *_on(volume), "busybox"]
                done, during = self.docker("run", volume, *words, "sh", "-c", task.script)
                if done.returncode:
                    self.strays.append(name)
                # The script ran, so there was a volume; whether one is made otherwise is open.
                self.model.settle(volume, change, is_done=done.returncode == 0)
        is_done = done.returncode == 0 and done.stdout.endswith("done\n")
        if done.returncode == 0 and not is_done and not {*during} & DAEMON:
            raise Violation(f"{self.name}: {kind} on {volume.name} ended well without having ended: {done.stdout!r}")
        if is_done and task.shows is not None and done.stdout != task.shows + "done\n":
            raise Violation(f"{self.name}: {task.script!r} on {volume.name} gave {done.stdout[:300]!r}")
        self.files.settle(task, is_done=is_done)

    def container(self, kind: str, volume: Volume, intent: Intent) -> None:
        held = self.slots.get(intent.slot)
        if held is None:
            self.start(volume, intent)
        elif kind == "rmf" or held.is_running is None:
            if not self.act("rmf", held, "rm", "-f", held.name):
                self.strays.append(held.name)  # begun: Docker lets nobody start it any more
            del self.slots[intent.slot], self.model.containers[held.name]
        elif kind == "cp" and held.sight is Sight.SOUND:
            done, during = self.docker("cp", held.volume, "cp", f"{held.name}:/data/{PROBE}", "-")
            # An error in the middle of the archive is none to Docker: it ends there.
            if done.returncode == 0 and PROBE_TEXT not in done.stdout and not during:
                raise Violation(f"{self.name}: docker cp out of {held.name} gave {done.stdout!r}")
        elif not held.is_running:
            held.is_running = None
            held.sight = Sight.SOUND
            self.act("again", held, "start", held.name)
        elif kind == "kill":
            self.act("kill", held, "kill", held.name)
        else:
            self.act("stop", held, "stop", "-t", "2", held.name)

    def start(self, volume: Volume, intent: Intent) -> None:
        container = Container(f"{self.name}-{self.serial}", volume, intent.is_chance, is_running=None, is_made=False)
        restart = ["--restart", "always"] if container.is_always else []
        words = ["run", "-d", "--network", "none", "--name", container.name, *restart, *_on(volume)]
        self.slots[intent.slot] = self.model.containers[container.name] = container
        with self.model.changing(volume) as change:
            done, during = self.docker("start", volume, *words, "busybox", "sh", "-c", IDLE)
            self.model.settle(volume, change, is_done=done.returncode == 0)
        if done.returncode:
            del self.slots[intent.slot], self.model.containers[container.name]
            self.strays.append(container.name)
        else:
            self.started(container, during)

    def started(self, container: Container, during: Sequence[str]) -> None:
        with self.model.lock:
            container.is_made = True
            container.is_running = None if {*during} & DAEMON else True
            if {*during} & MOUNT:
                container.sight = Sight.DEAD

    def act(self, kind: str, container: Container, *words: str) -> bool:
        """Something that ends or starts a container; a failure leaves open whether it runs."""
        container.is_running = None
        done, during = self.docker(kind, container.volume, *words)
        if done.returncode == 0 and kind == "again":
            self.started(container, during)
        elif done.returncode == 0 and not {*during} & DAEMON:
            container.is_running = False
        return done.returncode == 0

    def clear(self) -> bool:
        """Remove what failed runs may have left; whether all of it is gone."""
        for name in [*self.strays]:
            done = self.world.run(["docker", "rm", "-f", name])
            if done.returncode == 0 or "No such container" in done.stderr:
                self.strays.remove(name)
        return not self.strays


def _on(volume: Volume) -> list[str]:
    """The volume at /data: by its name where it surely exists, else made on the way."""
    if volume.exists and not volume.is_shared:
        return ["-v", f"{volume.name}:/data"]
    row = ["type=volume", f"src={volume.name}", "dst=/data", "volume-driver=sshfs"]
    line = io.StringIO()
    csv.writer(line).writerow([*row, *(f"volume-opt={key}={value}" for key, value in volume.options.items())])
    return ["--mount", line.getvalue().strip()]
