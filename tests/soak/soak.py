"""One run: clients, faults and checks, put together."""

from __future__ import annotations

import time
from dataclasses import dataclass
from random import Random

from system.installed import Installed
from system.sshd import SshServer

from .faults import FAULTS
from .invariants import Problem, check, observe
from .model import PROBE, PROBE_TEXT, Model, Volume
from .operations import Client
from .world import Violation, World

SECRET = "s0ak,\"password'%"
CLIENTS = 4
#: Steps from one fault to the next: at least, at most.
GAP = 8, 24
#: Seconds until what is left is reported, where that is no failure: Docker and systemd finish what they are doing.
LOOK = 12.0
#: Seconds, at most, from that step to the fault: a step takes about one.
BREATH = 0.8


@dataclass(frozen=True)
class Plan:
    """What to do: with which seed, for how many steps of all clients or how many minutes, and how strictly."""

    seed: str
    steps: int | None
    minutes: float | None
    leaks_fail: bool = True


class Soak:
    """The clients and their volumes on a machine."""

    def __init__(self, installed: Installed, plan: Plan) -> None:
        self.plan = plan
        self.model = Model()
        machine = installed.machine
        guarded = machine.ssh_server(port=2223, user="paula", password=SECRET)
        machine.run(["legacyhost", "trust", "127.0.0.1:2223", "--fingerprint", guarded.fingerprint])
        self.world = World(installed, self.model, [installed.remote, guarded], SECRET)
        #: Open files of the service's processes when they were first seen.
        self.descriptors: dict[str, int] = {}
        #: Volumes of which something is known to be left, and has been waited for.
        self.left: set[str | None] = set()
        shared = [self._volume(f"shared-{n}", installed.remote, is_shared=True) for n in range(2)]
        share = None if plan.steps is None else -(-plan.steps // CLIENTS)
        self.clients = [self._client(f"c{n}", shared, share) for n in range(CLIENTS)]
        for directory in self.model.directories.values():
            place, owner = f"{directory.home}/{directory.name}", directory.home.rpartition("/")[2]
            machine.run(["mkdir", place])
            machine.write(f"{place}/{PROBE}", PROBE_TEXT)
            machine.run(["chown", "-R", f"{owner}:", place])

    def _volume(self, name: str, server: SshServer, directory: str | None = None, **more: str | bool) -> Volume:
        directory = directory or f"of-{name}"
        is_shared = bool(more.pop("is_shared", False))
        options = {"sshcmd": f"{server.user}@127.0.0.1:{directory}", "port": str(server.port)}
        secret = {"IdentityFile": server.key} if server.password is None else {"password": server.password}
        options |= secret | {key: str(value) for key, value in more.items()}
        return self.model.add(name, server.home, directory, options, is_shared=is_shared)

    def _client(self, name: str, shared: list[Volume], share: int | None) -> Client:
        """Its volumes: two on one remote directory, one with other options and on the other host, and the shared."""
        alice, paula = self.world.servers
        volumes = [
            self._volume(f"{name}-a", alice, f"of-{name}"),
            self._volume(f"{name}-b", alice, f"of-{name}", uid="1000"),
            self._volume(f"{name}-c", paula, f"of-{name}-c"),
        ]
        return Client(self.world, name, self.plan.seed, [*volumes, *shared], share)

    def run(self) -> None:
        """Until the plan is fulfilled. Raises Violation with everything that is known about it."""
        try:
            for client in self.clients:
                client.thread.start()
            self._break_things()
            self._check()
        except Violation as violation:
            raise self._explained(violation) from None
        except Exception as error:
            raise self._explained(Violation(repr(error))) from error
        finally:
            self.world.finish()
            for client in self.clients:
                if client.thread.ident is not None:
                    client.thread.join(5)

    def _break_things(self) -> None:
        random = Random(f"{self.plan.seed}-faults")
        end = None if self.plan.minutes is None else time.monotonic() + self.plan.minutes * 60
        number = 0

        def is_enough() -> bool:
            is_late = end is not None and time.monotonic() > end
            return is_late or not any(client.thread.is_alive() for client in self.clients)

        while True:
            number += random.randint(*GAP)
            (fault,) = random.choices([*FAULTS], [*FAULTS.values()])
            own = Random(random.random())
            if not self.world.wait_for_steps(number, is_enough):
                break
            time.sleep(own.uniform(0, BREATH))
            began = self.world.now()
            fault(self.world, own)
            self.world.note("FAULT", fault.__name__, began, "over")
            self._check()
        if self.world.violation is None and end is not None:
            self.world.shut()

    def _check(self) -> None:
        """Nobody moves; what must be true is true, at once or after the time it may take."""
        with self.world.quiet():
            if self.world.violation is not None:
                raise self.world.violation
            for client in self.clients:
                self.world.machine.wait_for(client.clear, 60, 0.5)
            began = self.world.now()
            while True:
                seen = observe(self.world)
                problems = check(self.model, seen, self.descriptors)
                waited = self.world.now() - began
                over = [p for p in problems if waited >= self._patience(p) and p.left not in self.left]
                if any(self.plan.leaks_fail or problem.left is None for problem in over):
                    raise Violation("\n".join(problem.text for problem in over))
                if over:
                    text = "\n".join(problem.text for problem in over)
                    print(f"left after step {self.world.steps}:\n{text}\n\n{self.world.report(text)}")
                    self.left |= {problem.left for problem in over}
                if all(problem.left in self.left for problem in problems):
                    break
                time.sleep(0.5 if waited < 5 else 3)
            for process, files in seen.descriptors.items():
                self.descriptors.setdefault(process, files)
            self.model.adopt(set(seen.volumes), seen.containers, seen.files)
            self.left &= {problem.left for problem in problems}
            self.world.note("CHECK", "all", began, f"well; left: {[*self.left]}" if self.left else "well")

    def _patience(self, problem: Problem) -> float:
        """Where leaks are only reported, nothing is expected to take them away."""
        return problem.patience if self.plan.leaks_fail or problem.left is None else LOOK

    def _explained(self, violation: Violation) -> Violation:
        done = f"--seed {self.plan.seed}, step {self.world.steps}, after {self.world.now():.0f} s"
        # Once more at the end: of a long text some show only that.
        return Violation(f"{done}:\n{violation}\n\n{self.world.report(str(violation))}\n\n{done}:\n{violation}")
