"""Random operations of several docker clients, with random faults, against a model of what must be true.

/usr/bin/python3 -m pytest tests/soak [--suite S] [--seed N] [--steps N | --minutes M] [--leaks report]
"""

from __future__ import annotations

import json
from collections import Counter

from system.installed import Installed

from .invariants import check, observe
from .soak import Plan, Soak


def test_what_must_be_true_is_true_whatever_happens(fresh: Installed, plan: Plan) -> None:
    """No acknowledged write is lost, no volume forgotten, nothing left behind; errors are clear, and only where due."""
    print(f"soak: --seed {plan.seed} --steps {plan.steps} --minutes {plan.minutes}")
    soak = Soak(fresh, plan)
    soak.run()
    done = Counter(entry.what.partition(" ")[0] for entry in soak.world.entries if entry.who != "CHECK")
    print(f"soak: {soak.world.steps} steps in {soak.world.now():.0f} s: {dict(done)}; left: {[*soak.left]}")
    print(f"excused by faults:\n{soak.world.excused()}")
    assert soak.world.steps >= (plan.steps or 1)


def test_what_is_wrong_on_a_real_machine_is_seen(fresh: Installed) -> None:
    """Planted on the machine: each is found, and by the check that is meant for it."""
    soak = Soak(fresh, Plan("0", 4, None))
    machine, client = fresh.machine, soak.clients[0]
    kept, lost = client.volumes[0], client.volumes[2]
    for volume in (kept, lost):
        client.create(volume)
        kept.directory.settle("mine", "text")
    machine.run(["runuser", "-u", "alice", "--", "sh", "-c", f"printf text >~/{kept.directory.name}/mine"])
    assert check(soak.model, observe(soak.world), {}) == []

    machine.run(["rm", f"{fresh.remote.home}/{kept.directory.name}/mine"])
    machine.run(["legacyhost", "call", "VolumeDriver.Remove", json.dumps({"Name": lost.name})])
    machine.run(["legacyhost", "call", "VolumeDriver.Mount", json.dumps({"Name": kept.name, "ID": "x"})])
    machine.run(["touch", f"/run/legacyhost/sshfs/bare/{kept.name}/local"])
    machine.run("echo 'Traceback (most recent call last):' | systemd-cat")
    machine.run("systemd-run --quiet --wait false", check=False)
    found = "\n".join(problem.text for problem in check(soak.model, observe(soak.world), {}))
    for text in (
        f"{kept.directory.name}/mine: no file instead of 'text'",
        f"volume {lost.name} is not listed",
        f"{kept.name} is mounted, and no container uses it",
        f"{kept.name} has a unit, and no container uses it",
        f"{kept.name} is held 1 times, and no container uses it",
        f"written to the local disk: /run/legacyhost/sshfs/bare/{kept.name}/local",
        "in the journal: ",
        "has failed",
    ):
        assert text in found, found
